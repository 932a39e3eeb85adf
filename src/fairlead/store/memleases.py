"""Queues in memory: see `contract.Leases`.

An item is *ready* from `ready` on: its due time while nobody holds it, the end of its lease while somebody does. So a claim
takes what is ready, by priority and then in the order it was put, and a lease that ran out needs nobody to notice. A lease is
known by its fence, which is the number of the claim.

A queue that is fed by a topic has a cursor, the last event that became an item; events become items when they are claimed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .clock import Clock
from .contract import Batch, Conflict, Dead, Depth, Event, Gap, Head, Item, Lease, NoTopic, Offset
from .rules import fenced, start


@dataclass(slots=True)
class _Item:
    """An item that is not done. `held` while somebody's lease has not been given back."""

    id: str
    body: bytes
    ready: float
    priority: int
    order: int
    fence: int = 0
    attempt: int = 0
    held: bool = False
    since: float = 0.0
    event: Event | None = None
    offset: Offset | None = None
    own: bool = True  # its event is in the log no more, or never was


class _Queue:
    """A queue; `topic` and `cursor` if it is fed."""

    def __init__(self) -> None:
        self.items: dict[str, _Item] = {}
        self.dead: dict[str, tuple[Dead, _Item]] = {}
        self.topic = ""
        self.cursor = Offset(0, 0)


class MemoryLeases:
    """The words of `Leases`, done at once."""

    clock: Clock

    def __init__(self) -> None:
        self.by_name: dict[str, _Queue] = {}
        self.stirred: set[str] = set()
        self.swept = self.clock.now()

    @abstractmethod
    def number(self) -> int:
        """The next number."""

    @abstractmethod
    def head(self, name: str) -> Head:
        """The topic's ends."""

    @abstractmethod
    def read(self, name: str, after: Offset | None, max_events: int, max_bytes: int) -> Batch:
        """The topic's events."""

    def queue(self, name: str) -> _Queue:
        """The queue, made if there is none."""
        return self.by_name.setdefault(name, _Queue())

    def feed(self, name: str, topic: str, after: Offset | None) -> None:
        """See `Leases.feed`."""
        head = self.head(topic)
        old = self.by_name.get(name)
        if old is not None and old.topic:
            if old.topic != topic:
                raise Conflict(f"queue {name!r} is fed by topic {old.topic!r}")
            return
        cursor = head.last if after is None else Offset(head.last.epoch, start(topic, after, head.first, head.last))
        queue = self.queue(name)
        queue.topic, queue.cursor = topic, cursor
        self.stirred.add(name)

    def seek(self, name: str, after: Offset) -> None:
        """See `Leases.seek`."""
        queue = self.queue(name)
        head = self.head(queue.topic)
        queue.cursor = Offset(head.last.epoch, start(queue.topic, after, head.first, head.last))
        queue.items.clear()
        self.stirred.add(name)

    def stir_fed(self, topic: str) -> None:
        """The topic has something new: so have the queues that it feeds."""
        self.stirred.update(name for name, queue in self.by_name.items() if queue.topic == topic)

    def put(self, name: str, items: Sequence[Item]) -> list[bool]:
        """See `Leases.put`."""
        queue, now = self.queue(name), self.clock.now()
        added = []
        for item in items:
            new = item.id not in queue.items and item.id not in queue.dead
            if new:
                ready = max(item.due, now)
                queue.items[item.id] = _Item(
                    item.id, bytes(item.body), ready, item.priority, self.number(), since=ready
                )
            added.append(new)
        if any(added):
            self.stirred.add(name)
        return added

    def claim(self, name: str, n: int, ttl: float, owner: str) -> list[Lease]:
        """See `Leases.claim`."""
        queue, now = self.by_name.get(name), self.clock.now()
        if queue is None or n < 1:
            return []
        there = not queue.topic or self.follow(name, queue)
        ready = [item for item in queue.items.values() if item.ready <= now and (there or item.own)]
        ready = sorted(ready, key=lambda item: (-item.priority, item.order))[:n]
        if queue.topic and len(ready) < n:
            ready += self.taken(queue, n - len(ready), now)
        leases = []
        for item in ready:
            item.fence, item.attempt, item.held, item.ready = self.number(), item.attempt + 1, True, now + ttl
            leases.append(
                Lease(name, item.id, item.fence, item.attempt, item.body, item.ready, item.event, item.offset)
            )
        return leases

    def follow(self, name: str, queue: _Queue) -> bool:
        """Bring a fed queue to what its topic still has; False when there is none. Gap, once, when that skips something."""
        try:
            head = self.head(queue.topic)
        except NoTopic:
            return False
        old, now = queue.cursor, self.clock.now()
        here = old.epoch == head.last.epoch
        kept = {}
        for key, item in queue.items.items():
            at = item.offset
            if item.own or at is None or (here and (at > head.first or (item.held and item.ready > now))):
                kept[key] = item
        lost, queue.items = len(queue.items) - len(kept), kept
        if here and old.seq >= head.first.seq and not lost:
            return True
        queue.cursor = max(old, head.first) if here else head.first
        raise Gap(
            f"queue {name!r}: the events after {old} are gone; it goes on after {head.first}", head.first, head.last
        )

    def taken(self, queue: _Queue, n: int, now: float) -> list[_Item]:
        """The next events of the topic, made items."""
        try:
            batch = self.read(queue.topic, queue.cursor, n, 1 << 30)
        except NoTopic:
            return []
        items = []
        for event in batch.events[:n]:
            offset = Offset(batch.next.epoch, event.seq)
            item = _Item(
                str(offset), event.data, now, 0, self.number(), since=event.at, event=event, offset=offset, own=False
            )
            queue.items[item.id] = item
            items.append(item)
        queue.cursor = batch.next
        return items

    def held(self, name: str, item_id: str, fence: int) -> _Item | None:
        """The item, if this fence is its holder's."""
        queue = self.by_name.get(name)
        item = queue.items.get(item_id) if queue is not None else None
        return item if item is not None and item.held and item.fence == fence else None

    def leased(self, name: str, item_id: str) -> bool:
        """Somebody holds the item, and may for some time yet."""
        queue = self.by_name.get(name)
        item = queue.items.get(item_id) if queue is not None else None
        return item is not None and item.held and item.ready > self.clock.now()

    def extend(self, leases: Sequence[tuple[str, str, int]], ttl: float) -> list[bool]:
        """See `Leases.extend`."""
        items = [self.held(*lease) for lease in leases]
        for item in items:
            if item is not None:
                item.ready = self.clock.now() + ttl
        return [item is not None for item in items]

    def ack(self, leases: Sequence[tuple[str, str, int]]) -> list[bool]:
        """See `Leases.ack`."""
        done = []
        for name, item_id, fence in leases:
            found = self.held(name, item_id, fence)
            if found is not None:
                del self.by_name[name].items[item_id]
            done.append(found is not None)
        return done

    def nack(self, name: str, item_id: str, fence: int, delay: float, reason: str, body: bytes | None) -> None:
        """See `Leases.nack`."""
        item = self.held(name, item_id, fence)
        if item is None:
            raise fenced(name, item_id)
        item.held, item.ready = False, self.clock.now() + delay
        item.since = item.ready
        if body is not None:
            item.body = bytes(body)
        self.stirred.add(name)

    def term(self, name: str, item_id: str, fence: int, reason: str, event: Event | None = None) -> None:
        """See `Leases.term`."""
        item = self.held(name, item_id, fence)
        if item is None:
            raise fenced(name, item_id)
        queue = self.by_name[name]
        del queue.items[item_id]
        letter = Dead(item.id, item.body, item.attempt, reason, self.clock.now(), item.offset)
        queue.dead[item.id] = (letter, item)

    def dead(self, name: str, after: str, limit: int) -> list[Dead]:
        """See `Leases.dead`."""
        queue = self.by_name.get(name)
        letters = [letter for letter, _ in queue.dead.values()] if queue is not None else []
        if after:
            ids = [letter.id for letter in letters]
            letters = letters[ids.index(after) + 1 :] if after in ids else []
        return letters[:limit]

    def redrive(self, name: str, ids: Sequence[str] | None) -> int:
        """See `Leases.redrive`."""
        queue = self.by_name.get(name)
        chosen = [] if queue is None else list(queue.dead) if ids is None else [one for one in ids if one in queue.dead]
        for one in chosen:
            assert queue is not None
            _, item = queue.dead.pop(one)
            item.ready = item.since = self.clock.now()
            item.attempt, item.held, item.order, item.own = 0, False, self.number(), True
            queue.items[one] = item
        if chosen:
            self.stirred.add(name)
        return len(chosen)

    def remove(self, name: str, ids: Sequence[str]) -> list[bool]:
        """See `Leases.remove`."""
        queue = self.by_name.get(name)
        if queue is None:
            return [False for _ in ids]
        return [(queue.items.pop(one, None) or queue.dead.pop(one, None)) is not None for one in ids]

    def drop(self, name: str) -> bool:
        """See `Leases.drop`."""
        return self.by_name.pop(name, None) is not None

    def depth(self, name: str) -> Depth:
        """See `Leases.depth`."""
        queue, now = self.by_name.get(name), self.clock.now()
        if queue is None:
            return Depth(name)
        items = list(queue.items.values())
        ready = [item for item in items if item.ready <= now]
        leased = sum(item.held for item in items if item.ready > now)
        unread, oldest = self.unread(queue)
        waiting = [item.since for item in ready] + ([oldest] if oldest is not None else [])
        fed = sum(item.offset is not None for item in items)
        delayed = len(items) - len(ready) - leased
        return Depth(
            name, len(ready) + unread, delayed, leased, len(queue.dead), min(waiting, default=None), fed + unread
        )

    def unread(self, queue: _Queue) -> tuple[int, float | None]:
        """How many events of its topic are not items yet, and since when the first of them is there."""
        if not queue.topic:
            return 0, None
        try:
            head = self.head(queue.topic)
            batch = self.read(queue.topic, max(queue.cursor, head.first), 1, 1)
        except (NoTopic, Gap):
            return 0, None
        missing = head.last.seq - max(queue.cursor, head.first).seq
        return (missing, batch.events[0].at) if batch.events else (0, None)

    def queues(self, prefix: str) -> list[str]:
        """See `Leases.queues`."""
        return sorted(name for name in self.by_name if name.startswith(prefix))

    def next_due(self, name: str) -> float | None:
        """See `Leases.next_due`."""
        queue = self.by_name.get(name)
        if queue is None:
            return None
        unread, oldest = self.unread(queue)
        times: list[Any] = [item.ready for item in queue.items.values()] + ([oldest] if unread else [])
        return min(times, default=None)

    def sweep_leases(self) -> None:
        """Stir the queues in which something has become ready since the last sweep."""
        before, self.swept = self.swept, self.clock.now()
        for name, queue in self.by_name.items():
            if any(before < item.ready <= self.swept for item in queue.items.values()):
                self.stirred.add(name)
