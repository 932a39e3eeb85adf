"""Clients that work on a store while something breaks, and the history of what they saw (see `history`).

Writers append unique events. Half of them use dedupe keys, and try again while the outcome is unknown; the other half leave it
unknown, so that a duplicate that a connection makes by itself is seen. Readers follow from the start. Putters and takers work a
queue. Every client has a connection of its own, as every worker has, and makes a new one when the old one fails. When the time is
up the faults are over, everybody finishes, and what is there is read once more.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import suppress
from dataclasses import dataclass, field

from ..contract import (
    Engine,
    Gap,
    Item,
    Lease,
    NewEvent,
    NoTopic,
    Offset,
    StoreError,
    TopicConfig,
)
from .history import Acked, Claimed, Entry, Final, Left, Poll, Put, Told, Write
from .kit import Opener

PAUSE = 0.05  # seconds before a failed call is tried again
TTL = 2.0  # seconds of a lease
PATIENCE = 60.0  # seconds that one call may take; then its outcome is unknown


@dataclass
class Load:
    """One run. `entries` is the history; `retried` counts the calls that failed in between."""

    opener: Opener
    topic: str
    queue: str
    writers: int = 4
    readers: int = 3
    takers: int = 3
    ttl: float = TTL
    entries: list[Entry] = field(default_factory=list)
    retried: int = 0
    acknowledged: int = 0
    stopping: bool = False
    failed: list[str] = field(default_factory=list)

    async def run(self, seconds: float, faults: asyncio.Task[None] | None = None) -> None:
        """Work for so long and until the faults are over; then finish and read what is there."""
        engine, _ = await self.opener()
        log, leases = engine.log, engine.leases
        if log is not None:
            await log.create(self.topic, TopicConfig())
        tasks = [asyncio.ensure_future(work) for work in self.clients(log is not None, leases is not None)]
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end or (faults is not None and not faults.done()):
            await asyncio.sleep(0.1)
        self.stopping = True
        if faults is not None and faults.done() and faults.exception() is not None:  # its process may be gone for good
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await faults
        await asyncio.gather(*tasks)
        if faults is not None:
            await faults
        await self.finish(engine)
        await engine.close()

    def clients(self, log: bool, leases: bool) -> list:
        """All who work."""
        work: list = []
        if log:
            work += [self.write(n) for n in range(self.writers)]
            work += [self.read(n) for n in range(self.readers)]
        if leases:
            work += [self.put(), *[self.take(n) for n in range(self.takers)]]
        return work

    async def finish(self, engine: Engine) -> None:
        """What is there at the end."""
        if engine.log is not None:
            await self.final(engine)
        if engine.leases is not None:
            left, unknown = await self.drain(engine)
            self.entries.append(Left(self.queue, left, unknown))

    # ---- topics

    async def write(self, n: int) -> None:
        """Append, and try again until it is known."""
        client = Client(self.opener)
        for number in itertools.count():
            if self.stopping:
                break
            value = f"{n}.{number}"
            outcome, offset = await self.written(client, value, dedupe=n % 2 == 0)
            self.entries.append(Write(self.topic, value, outcome, offset))
            self.acknowledged += outcome == "ok"
        await client.close()

    async def written(self, client: Client, value: str, dedupe: bool) -> tuple[str, Offset | None]:
        """How one append ended."""
        sent = False
        event = [NewEvent(value.encode())]
        for _ in range(2000):
            try:
                engine = await client.engine()
                assert engine.log is not None
                sent = True
                appending = engine.log.append(self.topic, event, dedupe=value if dedupe else "")
                return "ok", (await asyncio.wait_for(appending, PATIENCE)).last
            except NoTopic:
                await self.made_again(client)
            except (StoreError, OSError, TimeoutError) as error:
                await self.trouble(client, error)
                if sent and not dedupe:
                    break
        return ("unknown" if sent else "fail"), None

    async def made_again(self, client: Client) -> None:
        """An engine that forgets has forgotten the topic."""
        with suppress(StoreError, OSError, TimeoutError):
            engine = await client.engine()
            assert engine.log is not None
            await engine.log.create(self.topic, TopicConfig())

    async def read(self, n: int) -> None:
        """Follow from the start, in steps of different sizes."""
        client, name = Client(self.opener), f"reader {n}"
        after: Offset | None = None
        caught_up = 0
        while caught_up < 3:
            try:
                engine = await client.engine()
                assert engine.log is not None
                batch = await asyncio.wait_for(engine.log.read(self.topic, after, 1 + 37 * n), PATIENCE)
            except Gap as gap:
                self.entries.append(Told(name, self.topic, gap.earliest))
                after = gap.earliest
                continue
            except NoTopic:
                await asyncio.sleep(PAUSE)
                caught_up += self.stopping
                continue
            except (StoreError, OSError, TimeoutError) as error:
                await self.trouble(client, error)
                continue
            epoch = batch.next.epoch
            seen = tuple((Offset(epoch, event.seq), event.data.decode()) for event in batch.events)
            if seen:
                self.entries.append(Poll(name, self.topic, seen))
            after = batch.next
            if batch.up_to_date:
                caught_up += self.stopping
                await asyncio.sleep(0.005 * n)
        await client.close()

    async def final(self, engine: Engine) -> None:
        """The whole topic."""
        assert engine.log is not None
        try:
            head = await engine.log.head(self.topic)
        except NoTopic:
            self.entries.append(Final(self.topic, Offset(10**12, 0), ()))
            return
        events: list[tuple[Offset, str]] = []
        after = head.first
        while True:
            batch = await engine.log.read(self.topic, after)
            events += [(Offset(batch.next.epoch, event.seq), event.data.decode()) for event in batch.events]
            after = batch.next
            if batch.up_to_date:
                break
        self.entries.append(Final(self.topic, head.first, tuple(events)))

    # ---- queues

    async def put(self) -> None:
        """Put items, a few at a time."""
        client = Client(self.opener)
        for number in itertools.count():
            if self.stopping:
                break
            name = f"item {number}"
            for _ in range(2000):
                try:
                    engine = await client.engine()
                    assert engine.leases is not None
                    await asyncio.wait_for(engine.leases.put(self.queue, [Item(name, name.encode())]), PATIENCE)
                    self.entries.append(Put(self.queue, name))
                    break
                except (StoreError, OSError, TimeoutError) as error:
                    await self.trouble(client, error)
            await asyncio.sleep(0.01)
        await client.close()

    async def take(self, n: int) -> None:
        """Claim and acknowledge; now and then be slow, give back, or forget."""
        client, turn = Client(self.opener), 0
        while not self.stopping:
            begun = time.monotonic()
            try:
                engine = await client.engine()
                assert engine.leases is not None
                found = await asyncio.wait_for(engine.leases.claim(self.queue, 2, self.ttl), PATIENCE)
            except (StoreError, OSError, TimeoutError) as error:
                await self.trouble(client, error)
                continue
            ended = time.monotonic()
            self.entries += [Claimed(self.queue, one.id, one.fence, begun, ended) for one in found]
            for lease in found:
                turn += 1
                if turn % 7 == n:
                    continue  # forgotten: the lease runs out
                await self.acked(client, lease)
            if not found:
                await asyncio.sleep(0.01)
        await client.close()

    async def acked(self, client: Client, lease: Lease) -> None:
        """Acknowledge one; what fails is left to run out, and may have been done."""
        begun = time.monotonic()
        try:
            engine = await client.engine()
            assert engine.leases is not None
            (done,) = await asyncio.wait_for(engine.leases.ack([lease]), PATIENCE)
        except (StoreError, OSError, TimeoutError) as error:
            self.unknown.add(lease.id)
            await self.trouble(client, error)
            return
        if done:
            self.entries.append(Acked(self.queue, lease.id, lease.fence, begun, time.monotonic()))

    def __post_init__(self) -> None:
        self.unknown: set[str] = set()

    async def drain(self, engine: Engine) -> tuple[frozenset[str], frozenset[str]]:
        """The ids of all that is left, once every lease has run out."""
        assert engine.leases is not None
        left: set[str] = set()
        await asyncio.sleep(self.ttl + 0.5)
        while found := await engine.leases.claim(self.queue, 500, 600.0):
            left.update(lease.id for lease in found)
        return frozenset(left), frozenset(self.unknown)

    async def trouble(self, client: Client, error: BaseException) -> None:
        """A call failed: later, and on another connection if it was not the engine's own word."""
        self.retried += 1
        if not self.failed or self.failed[-1] != str(error):
            self.failed.append(str(error))
        await client.renew()
        await asyncio.sleep(PAUSE)


class Client:
    """A connection that is made when it is needed, and anew after trouble."""

    def __init__(self, opener: Opener) -> None:
        self.opener = opener
        self.opened: Engine | None = None

    async def engine(self) -> Engine:
        """The connection. StoreError, OSError, TimeoutError."""
        if self.opened is None:
            opened = await asyncio.wait_for(self.opener(), PATIENCE)
            self.opened = opened[0]
            return opened[0]
        return self.opened

    async def renew(self) -> None:
        """The next call gets a new one."""
        await self.close()

    async def close(self) -> None:
        """Let go."""
        engine, self.opened = self.opened, None
        if engine is not None:
            with suppress(StoreError, OSError, TimeoutError):
                await asyncio.wait_for(engine.close(), 10.0)
