"""Who is there: the members of a topic, over all workers and nodes.

    follower with a name ──▶ Presence (one per process) ──▶ state: here/<topic>/<process>   who is here, by this process; renewed
                                                        └─▶ log:   $here/<topic>            joins and leaves, a topic like any other

Rules
1. A member is a name: what a handler said that handed the connection over, else the principal's `sub`, else what the client says
   (`?member=`). It is there while a connection of it follows, and `LINGER` seconds longer: clients come back.
2. A process writes one key for each topic with members, renewed every `LEASE / 3`; changes within `GATHER` are one write. So what
   presence costs grows with topics and processes, not with members.
3. A key that is not renewed in time counts no more at once. Whoever sees it first removes it (compared by its version, so it is
   one), and says that its members left: so the members of a killed worker are gone after `LEASE` and a look.
4. The list is the truth. It is written before a join is told, and after a leave it is told no more; two workers that a member joins
   in the same moment may both tell it.
5. At most `MOST` members of a topic are listed for each process; who comes beyond is counted (`more`) and not told of.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote

from fairlead.serve.feed import Feed
from fairlead.serve.jsontext import clean, compact
from fairlead.store.contract import Conflict, NewEvent, NoTopic, Offset, StoreError, TopicConfig

LEASE = 15.0  # seconds that a key counts without being renewed
LINGER = 5.0  # seconds a member outlives its last connection
GATHER = 0.05  # seconds in which changes become one write
LOOK = 5.0  # seconds between looks for keys that nobody renews
STAYS = 600.0  # seconds a key that nobody renews can be found, so that its members' leaving can be told
MOST = 1000  # members of one topic in one process
NAME = 256  # characters of a member's name
INFO = 512  # bytes of what is known of a member, as JSON
ROOT = "here/"
EVENTS = "$here/"
CONFIG = TopicConfig("application/json", keep=3600.0, max_events=1000)
log = logging.getLogger("fairlead")


class Table:
    """One topic's members in this process."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}  # connections of each
        self.known: dict[str, list[Any]] = {}  # [since, info] of those that are listed
        self.told: set[str] = set()  # those that others know of
        self.more = 0  # connections of members beyond MOST
        self.task: asyncio.Task[None] | None = None
        self.again = False


class Presence:
    """This process's members, and everybody's. `start()` once a loop runs."""

    def __init__(self, feed: Feed, lease: float = LEASE, linger: float = LINGER) -> None:
        self.feed, self.store = feed, feed.store
        self.lease, self.linger = lease, linger
        self.me = os.urandom(8).hex()
        self.tables: dict[str, Table] = {}
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Renew, and look for what nobody renews."""
        if self.task is None:
            self.task = self.feed.spawn(self.run())

    def key(self, topic: str, process: str = "") -> str:
        """Where this process writes a topic's members."""
        return f"{ROOT}{quote(topic, safe='')}/{process or self.me}"

    # ---- coming and going

    def enter(self, topic: str, member: str, info: Any = None) -> Callable[[], None]:
        """A connection of a member follows; what it returns says that it no longer does."""
        self.start()
        table = self.tables.get(topic)
        if table is None:
            table = self.tables[topic] = Table()
        member = clean(member, NAME)
        if member not in table.counts and len(table.counts) >= MOST:
            table.more += 1
            return self.leaving(topic, table, None)
        table.counts[member] = table.counts.get(member, 0) + 1
        if member not in table.known:
            table.known[member] = [0.0, info]
            self.changed(topic, table)
        return self.leaving(topic, table, member)

    def leaving(self, topic: str, table: Table, member: str | None) -> Callable[[], None]:
        """Says once that a connection is gone."""
        over = False

        def leave() -> None:
            nonlocal over
            if over:
                return
            over = True
            if member is None:
                table.more -= 1
                return
            table.counts[member] -= 1
            if not table.counts[member]:
                asyncio.get_running_loop().call_later(self.linger, self.settle, topic, table, member)

        return leave

    def settle(self, topic: str, table: Table, member: str) -> None:
        """It may have come back meanwhile."""
        if table.counts.get(member) == 0:
            del table.counts[member]
            table.known.pop(member, None)
            self.changed(topic, table)

    def changed(self, topic: str, table: Table) -> None:
        """Write it soon, once for all that changes meanwhile."""
        if table.task is not None:
            table.again = True
            return
        table.task = self.feed.spawn(self.write(topic, table))

    async def write(self, topic: str, table: Table) -> None:
        """What changed, to the state, then to who follows."""
        try:
            while True:
                await asyncio.sleep(GATHER)
                table.again = False
                await self.put(topic, table)
                await self.tell(topic, table)
                if not table.again:
                    return
        except StoreError as error:
            log.warning("presence of %s: the store cannot be reached: %s", topic, error)  # the next renewal makes it good
        finally:
            table.task = None
            if not table.counts and not table.told and not table.more and self.tables.get(topic) is table:
                del self.tables[topic]

    async def put(self, topic: str, table: Table) -> None:
        """This process's key, as it is now."""
        if not table.known:
            await self.store.state.delete_if(self.key(topic))
            return
        now = await self.store.now()
        for one in table.known.values():
            one[0] = one[0] or round(now, 3)
        value = json.dumps({"members": table.known, "more": table.more}).encode()
        await self.store.state.put_if(self.key(topic), value, None, ttl=STAYS, due=now + self.lease)

    async def tell(self, topic: str, table: Table) -> None:
        """Joins and leaves that are news to others."""
        here = dict(table.known)
        joined, left = [m for m in here if m not in table.told], [m for m in table.told if m not in here]
        if not joined and not left:
            return
        elsewhere = set((await self.listed(topic, self.me))[0])
        events = [said("join", member, here[member][1]) for member in joined if member not in elsewhere]
        events += [said("leave", member) for member in left if member not in elsewhere]
        if events:
            await self.store.log.append(EVENTS + topic, events, create=CONFIG)
        table.told = set(here)

    # ---- everybody's

    async def listed(self, topic: str, but: str = "") -> tuple[dict[str, list[Any]], int]:
        """({member: [since, info]}, how many more) of all processes, `but` one."""
        now = await self.store.now()
        found: dict[str, list[Any]] = {}
        more, after, prefix = 0, "", self.key(topic, "-")[:-1]
        while page := await self.store.state.scan(prefix, after):
            for key, entry in page:
                if key.endswith("/" + but) or (entry.due is not None and entry.due <= now):
                    continue
                value = json.loads(entry.value)
                more += value["more"]
                for member, known in value["members"].items():
                    if member not in found or known[0] < found[member][0]:
                        found[member] = known
            after = page[-1][0]
        return found, more

    async def shown(self, topic: str) -> dict[str, Any]:
        """A topic's members, and the offset after which joins and leaves go on."""
        try:
            after: Offset = (await self.store.log.head(EVENTS + topic)).last
        except NoTopic:
            after = (await self.store.log.create(EVENTS + topic, CONFIG))[0].last
        members, more = await self.listed(topic)
        shown = []
        for member, (since, info) in members.items():
            shown.append({"member": member, "since": since, **({"info": info} if info is not None else {})})
        found = {"topic": topic, "count": len(shown) + more, "members": shown, "next": str(after)}
        return found | ({"more": more} if more else {})

    # ---- time

    async def run(self) -> None:
        """Renew our keys; find those that nobody renews."""
        renewed = looked = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(self.lease / 3, LOOK) / 2)
            try:
                if loop.time() - renewed >= self.lease / 3:
                    renewed = loop.time()
                    await asyncio.gather(*(self.renew(topic, table) for topic, table in tuple(self.tables.items())))
                if loop.time() - looked >= min(LOOK, self.lease):
                    looked = loop.time()
                    await self.sweep()
            except StoreError as error:
                log.warning("presence: the store cannot be reached: %s", error)

    async def renew(self, topic: str, table: Table) -> None:
        """It is still so; and what could not be written is written now."""
        if table.task is None:
            await self.put(topic, table)
            if table.told != set(table.known):
                self.changed(topic, table)

    async def sweep(self) -> None:
        """Keys of processes that are gone: their members left, unless they are elsewhere."""
        for key, entry in await self.store.state.scan_due(ROOT):
            topic = unquote(key.removeprefix(ROOT).rpartition("/")[0])
            if key.endswith("/" + self.me):
                continue
            try:
                if not await self.store.state.delete_if(key, entry.version):
                    continue
            except Conflict:
                continue  # it is renewed, or another was first
            there = (await self.listed(topic))[0]
            gone = [said("leave", member) for member in json.loads(entry.value)["members"] if member not in there]
            if gone:
                await self.store.log.append(EVENTS + topic, gone, create=CONFIG)

    async def close(self) -> None:
        """The process ends: its members stay until another process has them, or their lease is over."""
        if self.task is not None:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task


def said(kind: str, member: str, info: Any = None) -> NewEvent:
    """A join or leave as an event."""
    value = {"member": member, **({"info": info} if info is not None else {})}
    return NewEvent(compact(value), kind, member)


def good_info(info: Any) -> Any:
    """What is known of a member, if it is small enough; else None."""
    if info is None:
        return None
    try:
        text = json.dumps(info, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
    return info if len(text) <= INFO else None
