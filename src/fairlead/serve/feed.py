"""Delivery: what is appended to a topic reaches everybody in this process who follows it, encoded once.

    log ── hint ──▶ Ring (one per topic and process: the newest events, and who is up to date)
                      ├─ Leg ─▶ Out   (a stream or a socket; an Out may have many legs)
                      └─ Poll         (a long poll: waits for one batch)

Rules
1. One reader per topic and process: the ring takes what a hint brings when it fits on to its end, else it reads the log, once for
   all (`catch_up`). A hint that was lost is made good by the next, or by a look every `LOOK` seconds.
2. A leg is *live* while it is exactly at the ring's end: then it is told of each new batch on the spot, and costs nothing in
   between: no task, no timer of its own. Else it *follows*: a task reads for it, from the ring where that reaches, from the
   log where not, until it is at the end; comparing and joining are one step, so nothing falls between.
3. A batch is encoded once per form, however many hear it.
4. Slow: an `Out` without room is given nothing more. What then becomes of its legs is the route's choice: `cursor` follows
   from where it was when there is room again (no memory at all); `latest` keeps the last event of each key meanwhile; `drop`
   leaves out what came meanwhile and says so; `close` ends it. The first time it happens to an Out it is named in the log.
5. Lost events are said in band (`gap`), with where it goes on.
6. Heartbeats are a wheel of one timer: each second those are looked at whose turn it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fairlead.store.contract import Batch, Event, Gap, NoTopic, Offset, Store, StoreError
from fairlead.store.hub import Hub

LOOK = 15.0  # seconds between looks at the log of a topic that somebody follows
SETTLE = 0.05  # seconds after a hint to a look at what it did not say
LINGER = 5.0  # seconds a ring outlives its last follower
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


class Piece:
    """Some events in a row, and their encodings. `next` is where one is after them."""

    __slots__ = ("closed", "encoded", "events", "next", "up_to_date")

    def __init__(self, events: Sequence[Event], next_: Offset, up_to_date: bool, closed: bool) -> None:
        self.events, self.next, self.up_to_date, self.closed = events, next_, up_to_date, closed
        self.encoded: dict[Any, bytes] = {}

    def form(self, form: Form) -> bytes:
        """As a form has it."""
        made = self.encoded.get(form.key)
        if made is None:
            made = self.encoded[form.key] = form.encode(self)
        return made


class Form:
    """How events are written. Forms with the same `key` write the same bytes."""

    key: Any = ""

    def encode(self, piece: Piece) -> bytes:
        """The bytes of a piece."""
        raise NotImplementedError

    def gap(self, gap: Gap) -> bytes:
        """That events are missing."""
        return b""

    def dropped(self, count: int, after: Offset) -> bytes:
        """That events were left out because the follower was slow."""
        return b""


class Ring:
    """One topic in this process."""

    def __init__(self, feed: Feed, topic: str) -> None:
        self.feed, self.topic = feed, topic
        self.events: deque[Event] = deque()
        self.size = 0
        self.floor = self.last = Offset(0, 0)  # events after `floor` up to `last` are here
        self.closed = False
        self.gone: StoreError | None = None
        self.live: set[Leg] = set()
        self.polls: set[Any] = set()
        self.followers = 0
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

    def hint(self, last: Offset | None, events: Sequence[Event]) -> None:
        """The log says that something was appended."""
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
        self.feed.delivered += len(piece.events) * len(self.live)
        for leg in tuple(self.live):
            leg.give(piece)
        polls, self.polls = self.polls, set()
        for poll in polls:
            poll.wake()

    def end(self, error: StoreError) -> None:
        """The topic was deleted."""
        self.gone = error
        live, self.live = self.live, set()
        for leg in live:
            leg.ended(error)
        polls, self.polls = self.polls, set()
        for poll in polls:
            poll.wake()
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
        self.outs = self.legs = self.delivered = self.slow = self.gaps = 0
        self.tasks: set[asyncio.Task[Any]] = set()
        self.looked = 0

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
            return ring
        finally:
            self.opening.pop(topic, None)

    def enter(self, ring: Ring) -> None:
        """Somebody follows it."""
        ring.followers += 1
        self.legs += 1

    def leave(self, ring: Ring) -> None:
        """And no longer does. A ring nobody follows is kept a moment: clients come back."""
        ring.followers -= 1
        self.legs -= 1
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
        batch: Batch = await self.store.log.read(ring.topic, after, limits.batch, limits.batch_bytes)
        return Piece(batch.events, batch.next, batch.up_to_date, batch.closed)

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
        if self.ticking is not None:
            self.ticking.cancel()
        for ring in tuple(self.rings.values()):
            self.drop(ring)
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Out:
    """A stream or socket that events leave by. Subclasses write."""

    def __init__(self, feed: Feed, form: Form, slow: str = "cursor", heartbeat: float | None = None) -> None:
        self.feed, self.form, self.slow = feed, form, slow
        self.every = max(1, round(feed.heartbeat if heartbeat is None else heartbeat))
        self.legs: list[Leg] = []
        self.blocked = self.over = self.said = self.named = False
        self.bucket = 0
        feed.attend(self)

    def write(self, data: bytes) -> bool:
        """Say it; False when there is no room for more."""
        raise NotImplementedError

    def beat(self) -> None:
        """Something that says "still here"."""

    def finish(self, leg: Leg, why: str) -> None:
        """A leg has come to an end: `closed`, `gone` or `slow`."""

    def title(self) -> str:
        """Who it is, for the log."""
        return "a follower"

    def say(self, data: bytes) -> None:
        """Write, and see whether there is room."""
        self.said = True
        if data and not self.write(data):
            self.blocked = True

    def ready(self) -> None:
        """There is room again."""
        self.blocked = False
        for leg in self.legs:
            leg.resume()
            if self.blocked:
                break

    def is_slow(self, leg: Leg) -> None:
        """Something came and there is no room: say it once."""
        self.feed.slow += 1
        if not self.named:
            self.named = True
            log.info("topic %s: %s is slow (%s)", leg.ring.topic, self.title(), self.slow)

    def shut(self) -> None:
        """The end: every leg leaves."""
        if self.over:
            return
        self.over = True
        self.feed.dismiss(self)
        for leg in self.legs:
            leg.leave()
        self.legs = []


class Leg:
    """One topic on one Out: where it is, and whether it is live."""

    __slots__ = ("after", "behind", "dropped", "form", "kept", "out", "ring", "task", "there", "told")

    def __init__(self, out: Out, ring: Ring, after: Offset | None, form: Form | None = None) -> None:
        self.out, self.ring, self.after = out, ring, after
        self.form = form or out.form
        self.behind = False
        self.dropped = 0
        self.kept: dict[str, Event] | None = None
        self.task: asyncio.Task[Any] | None = None
        self.there = True
        self.told = False  # of the end of its topic, in a piece
        out.feed.enter(ring)
        out.legs.append(self)
        self.follow_soon()

    def follow_soon(self) -> None:
        """Go on from where it is, in a task, unless it is at the end already."""
        if self.after == self.ring.last and not self.ring.closed and self.ring.gone is None:
            self.ring.live.add(self)
        elif self.task is None:
            self.task = self.out.feed.spawn(self.follow())

    async def follow(self) -> None:
        """Read until the end is reached, or there is no room."""
        out, ring = self.out, self.ring
        try:
            while self.there and not out.blocked:
                if self.after == ring.last and ring.gone is None:
                    if ring.closed:
                        self.close("closed")
                    else:
                        ring.live.add(self)
                    return
                try:
                    piece = await out.feed.piece(ring, self.after)
                except Gap as gap:
                    out.feed.gaps += 1
                    self.after = gap.earliest
                    if self.there:
                        out.say(self.form.gap(gap))
                    continue
                except NoTopic:
                    self.close("gone")
                    return
                if not self.there:
                    return
                if not piece.events and not piece.closed and piece.next == self.after:
                    ring.look()  # the log is behind the ring, or the ring behind the log
                    await asyncio.sleep(0.01)
                    continue
                self.pass_on(piece)
            self.behind = self.there
        except StoreError as error:
            log.warning("topic %s: the store cannot be reached: %s", ring.topic, error)
            if self.there:
                asyncio.get_running_loop().call_later(1.0, self.retry)
        finally:
            self.task = None

    def retry(self) -> None:
        """The store was away: try again."""
        if self.there and self.task is None:
            self.task = self.out.feed.spawn(self.follow())

    def pass_on(self, piece: Piece) -> None:
        """Write it."""
        self.after = piece.next
        self.out.say(piece.form(self.form))
        if piece.closed and piece.up_to_date and self.there:
            self.told = True
            self.close("closed")

    def give(self, piece: Piece) -> None:
        """The ring, to one that is live."""
        out = self.out
        if not out.blocked:
            self.pass_on(piece)
            return
        out.is_slow(self)
        if out.slow == "close":
            self.close("slow")
        elif out.slow == "drop":
            self.dropped += len(piece.events)
            self.after = piece.next
        elif out.slow == "latest" and self.keep(piece):
            self.after = piece.next
        else:
            self.ring.live.discard(self)
            self.behind = True

    def keep(self, piece: Piece) -> bool:
        """`latest`: one event of each key. False when there are too many keys."""
        kept = self.kept = self.kept or {}
        for event in piece.events:
            kept.pop(event.key, None)
            kept[event.key] = event
        if len(kept) <= self.out.feed.limits.keys and not piece.closed:
            return True
        self.kept = None
        return False

    def resume(self) -> None:
        """There is room again."""
        out = self.out
        if self.kept:
            kept, self.kept = list(self.kept.values()), None
            out.say(Piece(kept, self.after or self.ring.last, True, False).form(self.form))
        if self.dropped:
            count, self.dropped = self.dropped, 0
            out.say(self.form.dropped(count, self.after or self.ring.last))
        if self.behind and not out.blocked:
            self.behind = False
            self.follow_soon()
        elif self.ring.closed and self.task is None and self.after == self.ring.last:
            self.close("closed")

    def ended(self, error: StoreError) -> None:
        """The topic is gone."""
        self.close("gone")

    def close(self, why: str) -> None:
        """This leg has nothing more to say."""
        if self.there:
            self.leave()
            with suppress(ValueError):
                self.out.legs.remove(self)
            self.out.finish(self, why)

    def leave(self) -> None:
        """The follower is gone."""
        if self.there:
            self.there = False
            self.ring.live.discard(self)
            self.out.feed.leave(self.ring)
