"""Delivery: what is appended to a topic reaches everybody in this process who follows it, encoded once.

    log ── hint ──▶ Ring (one per topic and process: the newest events, and who is up to date)
                      ├─ Leg ─▶ Out   (a stream or a socket; an Out may have many legs)
                      └─ Poll         (a long poll: waits for one batch)

Rules
1. One reader per topic and process: the ring takes what a hint brings when it fits on to its end, else it reads the log, once for
   all (`catch_up`). A hint that was lost is made good by the next, or by a look every `LOOK` seconds. That a topic was deleted is a
   hint of its own (`topicgone`).
2. A leg is *live* while it is exactly at the ring's end: then it is told of each new batch on the spot, and costs nothing in
   between: no task, no timer of its own. Else it *follows*: a task reads for it, from the ring where that reaches, from the
   log where not, until it is at the end; comparing and joining are one step, so nothing falls between. Who wants the same of the
   log at the same time reads it once (`cold`).
3. A batch is encoded once per form, however many hear it.
4. Slow: an `Out` without room is given nothing more. What then becomes of its legs is the route's choice: `cursor` follows
   from where it was when there is room again (no memory at all); `latest` keeps the last event of each key meanwhile; `drop`
   leaves out what came meanwhile and says so; `close` ends it. The first time it happens to an Out it is named in the log
   (of more than `NAMED` in a second, how many); who is slow now is in `late`, and what became of it is counted.
5. Lost events are said in band (`gap`), with where it goes on.
6. Heartbeats are a wheel of one timer: each second those are looked at whose turn it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from fairlead.serve.legs import Form, Leg, Out, Piece, tell
from fairlead.serve.topicgone import Endings
from fairlead.store.contract import Batch, Event, Gap, NoTopic, Offset, Store, StoreError
from fairlead.store.hub import Hub
from fairlead.wire.wsdeflate import Shared

__all__ = ["Feed", "FeedLimits", "Form", "Leg", "Out", "Piece", "Ring"]

LOOK = 15.0  # seconds between looks at the log of a topic that somebody follows
SETTLE = 0.05  # seconds after a hint to a look at what it did not say
LINGER = 5.0  # seconds a ring outlives its last follower
NAMED = 10  # slow followers that are named in a second
POLL = "long-poll"
log = logging.getLogger("fairlead")


@dataclass(slots=True, frozen=True)
class FeedLimits:
    """Caps of delivery, per process."""

    ring_events: int = 1000  # kept per topic
    ring_bytes: int = 4 << 20
    rings: int = 100_000  # topics followed at once
    legs: int = 1_000_000  # followers at once
    batch: int = 1000  # events read at a time
    batch_bytes: int = 1 << 20
    keys: int = 1000  # of one `latest` follower that waits


class Ring:
    """One topic in this process."""

    def __init__(self, feed: Feed, topic: str) -> None:
        self.feed, self.topic = feed, topic
        self.events: deque[Event] = deque()
        self.size = 0
        self.floor = self.last = Offset(0, 0)  # events after `floor` up to `last` are here
        self.closed = False
        self.begun = self.early = False  # `early`: of hints that came before we knew where we are
        self.gone: StoreError | None = None
        self.live: set[Leg] = set()
        self.polls: set[Any] = set()
        self.followers = self.events_in = self.delivered = 0
        self.by_transport: dict[str, int] = {}
        self.reading: asyncio.Task[None] | None = None
        self.again = False
        self.settling: asyncio.TimerHandle | None = None
        self.stop: Callable[[], None] = lambda: None

    async def begin(self) -> None:
        """Listen, then look: what is appended from now on is heard of. NoTopic."""
        self.stop = self.feed.hub.topic(self.topic, self.hint)
        try:
            head = await self.feed.store.log.head(self.topic)
        except BaseException:
            self.stop()
            raise
        self.floor = self.last = head.last
        self.closed = head.closed
        self.begun = True
        if self.early:
            self.look()

    def hint(self, last: Offset | None, events: Sequence[Event]) -> None:
        """The log says that something was appended."""
        if not self.begun:
            self.early = True
            return
        if last is not None and events and last.epoch == self.last.epoch and not self.closed and self.reading is None:
            fresh = [event for event in events if event.seq > self.last.seq]
            if fresh and fresh[0].seq == self.last.seq + 1 and events[-1].seq == last.seq:
                self.add(Piece(fresh, last, True, False))
                if self.settling is None:  # a hint does not say that the topic was closed
                    self.settling = asyncio.get_running_loop().call_later(SETTLE, self.settle)
                return
            if not fresh and last.seq <= self.last.seq:
                self.look()  # perhaps it was closed
                return
        self.look()

    def settle(self) -> None:
        """See what the hints of late did not say."""
        self.settling = None
        self.look()

    def look(self) -> None:
        """Read the log's end, once at a time."""
        if self.reading is not None:
            self.again = True
            return
        self.reading = asyncio.get_running_loop().create_task(self.catch_up())

    async def catch_up(self) -> None:
        """Read until there is nothing newer."""
        limits = self.feed.limits
        try:
            while True:
                self.again = False
                try:
                    batch = await self.feed.store.log.read(self.topic, self.last, limits.batch, limits.batch_bytes)
                except Gap as gap:
                    self.lost(gap)
                    continue
                if batch.events or batch.closed != self.closed:
                    self.add(Piece(batch.events, batch.next, batch.up_to_date, batch.closed))
                if batch.up_to_date and not self.again:
                    return
        except NoTopic as error:
            self.end(error)
        except StoreError as error:
            log.warning("topic %s: the store cannot be reached: %s", self.topic, error)
        finally:
            self.reading = None

    def lost(self, gap: Gap) -> None:
        """What we were at the end of is no more: everybody finds out for itself."""
        self.events.clear()
        self.size = 0
        self.floor = self.last = gap.latest
        live, self.live = self.live, set()
        for leg in live:
            leg.follow_soon()
        self.wake_polls()

    def wake_polls(self) -> None:
        """Whoever waits looks now."""
        polls, self.polls = self.polls, set()
        for poll in polls:
            poll.wake()

    def add(self, piece: Piece) -> None:
        """New events: keep them, tell who is live."""
        limits = self.feed.limits
        self.last, self.closed = piece.next, piece.closed
        for event in piece.events:
            self.events.append(event)
            self.size += len(event.data)
        while len(self.events) > limits.ring_events or (self.size > limits.ring_bytes and self.events):
            old = self.events.popleft()
            self.size -= len(old.data)
            self.floor = Offset(self.last.epoch, old.seq)
        told = len(piece.events) * len(self.live)
        self.delivered += told
        self.events_in += len(piece.events)
        self.feed.delivered += told
        self.feed.events_in += len(piece.events)
        tell(tuple(self.live), piece)
        self.wake_polls()

    def end(self, error: StoreError) -> None:
        """The topic was deleted."""
        self.gone = error
        live, self.live = self.live, set()
        for leg in live:
            leg.ended(error)
        self.wake_polls()
        self.feed.drop(self)

    def slice(self, after: Offset, most: int, most_bytes: int) -> Piece | None:
        """What follows `after`, if the ring reaches back so far."""
        if after.epoch != self.last.epoch or after.seq < self.floor.seq or after.seq > self.last.seq:
            return None
        found: list[Event] = []
        size = 0
        for event in reversed(self.events):
            if event.seq <= after.seq:
                break
            found.append(event)
        found.reverse()
        for count, event in enumerate(found):
            size += len(event.data)
            if count and (count >= most or size > most_bytes):
                found = found[:count]
                return Piece(found, Offset(self.last.epoch, found[-1].seq), False, False)
        return Piece(found, self.last, True, self.closed)


class Feed:
    """All rings of this process."""

    def __init__(self, store: Store, hub: Hub | None = None, limits: FeedLimits | None = None, heartbeat: float = 15.0) -> None:
        self.store, self.hub = store, hub or Hub(store)
        self.limits = limits or FeedLimits()
        self.rings: dict[str, Ring] = {}
        self.opening: dict[str, asyncio.Task[Ring]] = {}
        self.heartbeat = heartbeat
        self.wheels: dict[int, list[set[Out]]] = {}  # by seconds between two beats: who has its turn in which of them
        self.turn = 0
        self.ticking: asyncio.TimerHandle | None = None
        self.made: Callable[[str], None] = lambda topic: None  # a topic was made by this process
        self.endings = Endings(self)
        self.deflaters = Shared()  # of frames that sockets hear
        self.outs = self.legs = self.delivered = self.events_in = self.gaps = 0
        self.slow: dict[str, int] = {}  # by policy: times that a follower had no room when events came
        self.conflated = self.left_out = 0  # events
        self.late: dict[Out, Ring] = {}  # who is slow now, and by which topic that was noticed
        self.by_transport: dict[str, int] = {}
        self.naming = 0
        self.named_in = 0.0
        self.colds: dict[Any, asyncio.Task[Piece]] = {}  # reads of the log that have not begun
        self.flying: dict[Any, asyncio.Task[Piece]] = {}  # and that have
        self.cold_reads = 0
        self.tasks: set[asyncio.Task[Any]] = set()
        self.looked = 0
        self.closed = False

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """A task that is held until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def ring(self, topic: str) -> Ring:
        """The ring of a topic, made by the first who asks, for all who ask meanwhile. NoTopic, StoreError when it is too many."""
        if self.legs >= self.limits.legs:
            raise StoreError(f"more than {self.limits.legs} followers at once", status=503)
        ring = self.rings.get(topic)
        if ring is not None:
            return ring
        task = self.opening.get(topic)
        if task is None:
            task = self.opening[topic] = self.spawn(self.opened(topic))
        return await asyncio.shield(task)

    async def opened(self, topic: str) -> Ring:
        """A new ring."""
        try:
            if len(self.rings) >= self.limits.rings:
                raise StoreError(f"more than {self.limits.rings} topics are followed at once", status=503)
            ring = Ring(self, topic)
            await ring.begin()
            self.rings[topic] = ring
            self.endings.listen(True)
            return ring
        finally:
            self.opening.pop(topic, None)

    def enter(self, ring: Ring, transport: str = POLL) -> None:
        """Somebody follows it."""
        ring.followers += 1
        self.legs += 1
        for table in (ring.by_transport, self.by_transport):
            table[transport] = table.get(transport, 0) + 1

    def leave(self, ring: Ring, transport: str = POLL) -> None:
        """And no longer does. A ring nobody follows is kept a moment: clients come back."""
        ring.followers -= 1
        self.legs -= 1
        for table in (ring.by_transport, self.by_transport):
            table[transport] -= 1
        if not ring.followers:
            asyncio.get_running_loop().call_later(LINGER, self.rest, ring)

    def rest(self, ring: Ring) -> None:
        """Let go of a ring that nobody follows."""
        if not ring.followers:
            self.drop(ring)

    def drop(self, ring: Ring) -> None:
        """No more hints for it."""
        if self.rings.get(ring.topic) is ring:
            del self.rings[ring.topic]
            self.endings.listen(bool(self.rings))
        ring.stop()

    async def piece(self, ring: Ring, after: Offset | None) -> Piece:
        """What follows `after`: from the ring, else from the log. Gap, NoTopic."""
        limits = self.limits
        if ring.gone is not None:
            raise ring.gone
        if after is not None:
            found = ring.slice(after, limits.batch, limits.batch_bytes)
            if found is not None:
                return found
        return await self.cold(ring.topic, after)

    async def cold(self, topic: str, after: Offset | None) -> Piece:
        """A read of the log, shared by all who want the same and come before it begins: a thousand that come back after a restart
        are two or three reads, and what they read is encoded once. Gap, NoTopic.
        """
        key = (topic, after)
        task = self.colds.get(key)
        if task is None:
            task = self.colds[key] = self.spawn(self.cold_read(key))
            task.add_done_callback(seen)
        return await asyncio.shield(task)

    async def cold_read(self, key: tuple[str, Offset | None]) -> Piece:
        """The one read. It waits for the one before it: so many gather that one is enough."""
        await asyncio.sleep(0)
        if (before := self.flying.get(key)) is not None:
            await asyncio.wait([before])
        mine = self.flying[key] = self.colds.pop(key)
        self.cold_reads += 1
        try:
            batch: Batch = await self.store.log.read(*key, self.limits.batch, self.limits.batch_bytes)
            return Piece(batch.events, batch.next, batch.up_to_date, batch.closed)
        finally:
            if self.flying.get(key) is mine:
                del self.flying[key]

    async def follow(self, leg: Leg) -> None:
        """Read for a leg until it is at the end, or there is no room."""
        out, ring = leg.out, leg.ring
        try:
            while leg.there and not out.blocked:
                if leg.after == ring.last and ring.gone is None:
                    if ring.closed:
                        leg.close("closed")
                    else:
                        ring.live.add(leg)
                    return
                try:
                    piece = await self.piece(ring, leg.after)
                except Gap as gap:
                    self.gaps += 1
                    leg.after = gap.earliest
                    if leg.there:
                        out.say(leg.form.gap(gap))
                    continue
                except NoTopic:
                    leg.close("gone")
                    return
                if not leg.there:
                    return
                if not piece.events and not piece.closed and piece.next == leg.after:
                    ring.look()  # the log is behind the ring, or the ring behind the log
                    await asyncio.sleep(0.01)
                    continue
                leg.pass_on(piece)
            leg.behind = leg.there
        except StoreError as error:
            log.warning("topic %s: the store cannot be reached: %s", ring.topic, error)
            if leg.there:
                asyncio.get_running_loop().call_later(1.0, leg.retry)
        finally:
            leg.task = None

    # ---- who is slow

    def is_late(self, out: Out, ring: Ring) -> None:
        """Something came for a follower that has no room: count it, and name it the first time."""
        self.slow[out.slow] = self.slow.get(out.slow, 0) + 1
        self.late[out] = ring
        if out.named:
            return
        out.named = True
        now = monotonic()
        if now - self.named_in >= 1.0:
            if self.naming > NAMED:
                log.info("topics: %d more followers were slow", self.naming - NAMED)
            self.named_in, self.naming = now, 0
        self.naming += 1
        if self.naming <= NAMED:
            log.info("topic %s: %s is slow (%s, %s)", ring.topic, out.title(), out.transport, out.slow)

    def on_time(self, out: Out) -> None:
        """It has room again, or is gone."""
        out.late = 0.0
        self.late.pop(out, None)

    # ---- heartbeats

    def attend(self, out: Out) -> None:
        """This one gets heartbeats."""
        self.outs += 1
        wheel = self.wheels.get(out.every)
        if wheel is None:
            wheel = self.wheels[out.every] = [set() for _ in range(out.every)]
        out.bucket = (self.turn - 1) % out.every  # its turn comes last
        wheel[out.bucket].add(out)
        if self.ticking is None:
            self.ticking = asyncio.get_running_loop().call_later(1.0, self.tick)

    def dismiss(self, out: Out) -> None:
        """And no more."""
        self.outs -= 1
        self.wheels[out.every][out.bucket].discard(out)

    def tick(self) -> None:
        """One second has passed."""
        self.ticking = None
        for every, wheel in tuple(self.wheels.items()):
            for out in tuple(wheel[self.turn % every]):
                if out.said:
                    out.said = False  # it had events meanwhile
                elif not out.blocked:
                    out.beat()
        self.turn += 1
        self.looked += 1
        if self.looked >= LOOK:
            self.looked = 0
            for ring in tuple(self.rings.values()):
                ring.look()
        if self.outs or self.rings:
            self.ticking = asyncio.get_running_loop().call_later(1.0, self.tick)

    async def close(self) -> None:
        """The end of the process."""
        self.closed = True
        if self.ticking is not None:
            self.ticking.cancel()
        for ring in tuple(self.rings.values()):
            self.drop(ring)
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def seen(task: asyncio.Task[Any]) -> None:
    """Whoever waited has its error; that nobody waits any more is none."""
    if not task.cancelled():
        task.exception()
