"""Queues in the embedded store: what the writer does inside its transaction.

An item's `state` is 0 (ready), 1 (delayed: ready at `at`) or 2 (leased: ready at `at` unless extended). A claim first makes ready
what has become so, by an index over `at`, and then takes by an index over priority and order, so its cost does not grow with what
waits or is leased. `fence` is the number of the last claim, 0 once it was given back: an old holder's number fits nothing.

Items of a fed queue have no body of their own while their event is in the log; a dead one takes its event with it, because dead
letters outlive what the log keeps.
"""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from . import chunk
from .clock import Clock
from .contract import Conflict, Event, Gap, Item, Lease, NewEvent, NoTopic, Offset
from .rules import fenced, no_topic, start
from .sqllog import SqlLog

READY, DELAYED, LEASED = 0, 1, 2
PUT = """INSERT OR IGNORE INTO items (queue, id, state, at, priority, ord, fence, attempt, since, epoch, seq, record, body)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, 0, 0, ?4, NULL, NULL, NULL, ?7
         WHERE NOT EXISTS (SELECT 1 FROM dead WHERE queue = ?1 AND id = ?2)"""
FED = """INSERT OR IGNORE INTO items (queue, id, state, at, priority, ord, fence, attempt, since, epoch, seq, record, body)
         VALUES (?, ?, 0, ?, 0, ?, 0, 0, ?, ?, ?, NULL, NULL)"""
NEXT = """SELECT id, attempt, epoch, seq, record, body FROM items WHERE queue = ? AND state = 0
          AND (? OR seq IS NULL OR record IS NOT NULL) ORDER BY priority DESC, ord LIMIT ?"""


class SqlLeases(SqlLog):
    """The words of `Leases` that change something."""

    def __init__(self, db: sqlite3.Connection, clock: Clock) -> None:
        super().__init__(db, clock)
        self.stirred: set[str] = set()
        self.swept = clock.now()
        self.fed: dict[str, list[str]] = {}
        self.find_fed()

    @abstractmethod
    def number(self) -> int:
        """The next number."""

    def find_fed(self) -> None:
        """Which queues each topic feeds."""
        self.fed = {}
        for topic, name in self.db.execute("SELECT topic, name FROM queues WHERE topic != ''"):
            self.fed.setdefault(topic, []).append(name)

    def stir_fed(self, topic: str) -> None:
        """The topic has something new: so have the queues that it feeds."""
        if topic in self.fed:
            self.stirred.update(self.fed[topic])

    def queue(self, name: str) -> tuple[int, str, int, int]:
        """(id, topic, epoch, cursor) of the queue, made if there is none."""
        row = self.queue_row(name)
        if row is None:
            self.db.execute("INSERT INTO queues (name, topic, epoch, cursor) VALUES (?, '', 0, 0)", (name,))
            row = self.queue_row(name)
            assert row is not None
        return row

    def point(self, queue: int, offset: Offset, topic: str) -> None:
        """Set what feeds the queue, and how far it was taken."""
        self.db.execute("UPDATE queues SET topic = ?, epoch = ?, cursor = ? WHERE id = ?", (topic, *offset, queue))

    def feed(self, name: str, topic: str, after: Offset | None) -> None:
        """See `Leases.feed`."""
        head = self.topic(topic).head()
        old = self.queue_row(name)
        if old is not None and old[1]:
            if old[1] != topic:
                raise Conflict(f"queue {name!r} is fed by topic {old[1]!r}")
            return
        seq = head.last.seq if after is None else start(topic, after, head.first, head.last)
        self.point(self.queue(name)[0], Offset(head.last.epoch, seq), topic)
        self.find_fed()
        self.stirred.add(name)

    def seek(self, name: str, after: Offset) -> None:
        """See `Leases.seek`."""
        row = self.queue_row(name)
        if row is None or not row[1]:
            raise no_topic(f"that feeds {name}")
        head = self.topic(row[1]).head()
        seq = start(row[1], after, head.first, head.last)
        self.point(row[0], Offset(head.last.epoch, seq), row[1])
        self.db.execute("DELETE FROM items WHERE queue = ?", (row[0],))
        self.stirred.add(name)

    def put(self, name: str, items: Sequence[Item]) -> list[bool]:
        """See `Leases.put`."""
        queue, now = self.queue(name)[0], self.clock.now()
        added = []
        for item in items:
            state, at = (DELAYED, item.due) if item.due > now else (READY, now)
            values = (queue, item.id, state, at, item.priority, self.number(), item.body)
            added.append(self.db.execute(PUT, values).rowcount == 1)
        if any(added):
            self.stirred.add(name)
        return added

    def claim(self, name: str, n: int, ttl: float, owner: str) -> list[Lease]:
        """See `Leases.claim`."""
        row = self.queue_row(name)
        if row is None or n < 1:
            return []
        queue, now = row[0], self.clock.now()
        self.db.execute("UPDATE items SET state = 0 WHERE queue = ? AND state IN (1, 2) AND at <= ?", (queue, now))
        there = not row[1] or self.take(name, row, n, now)
        leases, changes = [], []
        for item, attempt, epoch, seq, record, body in self.db.execute(NEXT, (queue, there, n)).fetchall():
            fence, offset = self.number(), Offset(epoch, seq) if seq is not None else None
            event = self.event(row[1], offset, record) if offset is not None else None
            if body is None and event is not None:
                body = event.data
            leases.append(Lease(name, item, fence, attempt + 1, body or b"", now + ttl, event, offset))
            changes.append((now + ttl, fence, queue, item))
        sql = "UPDATE items SET state = 2, at = ?, fence = ?, attempt = attempt + 1 WHERE queue = ? AND id = ?"
        self.db.executemany(sql, changes)
        return leases

    def take(self, name: str, row: tuple[int, str, int, int], n: int, now: float) -> bool:
        """Bring a fed queue to what its topic has, and make its next events items; False when there is no topic. Gap, once,
        when that skips something.
        """
        queue, name_of, epoch, cursor = row
        try:
            topic = self.topic(name_of)
        except NoTopic:
            return False
        self.flush()
        head = topic.head()
        here = epoch == topic.epoch
        lost = "seq IS NOT NULL AND record IS NULL AND state != 2 AND (epoch != ? OR seq <= ?)"
        gone = self.db.execute(
            f"DELETE FROM items WHERE queue = ? AND {lost}", (queue, topic.epoch, topic.first)
        ).rowcount
        if not here:
            self.db.execute("DELETE FROM items WHERE queue = ? AND epoch != ? AND record IS NULL", (queue, topic.epoch))
        if not here or cursor < topic.first or gone:
            cursor = max(cursor, topic.first) if here else topic.first
            self.point(queue, Offset(topic.epoch, cursor), name_of)
            text = f"queue {name!r}: events up to {head.first} are gone; it goes on after them"
            raise Gap(text, head.first, head.last)
        ready = self.db.execute(
            "SELECT count(*) FROM (SELECT 1 FROM items WHERE queue = ? AND state = 0 LIMIT ?)", (queue, n)
        ).fetchone()[0]
        if ready >= n or cursor >= topic.last:
            return True
        batch = self.batch(topic.id, head, cursor, n - ready, 1 << 30)
        fed = []
        for event in batch.events:
            offset = Offset(topic.epoch, event.seq)
            fed.append((queue, str(offset), now, self.number(), event.at, *offset))
        self.db.executemany(FED, fed)
        self.point(queue, batch.next, name_of)
        return True

    def event(self, topic: str, offset: Offset, record: bytes | None) -> Event | None:
        """An item's event: its own copy, or what the log has."""
        if record is not None:
            return chunk.events(record)[0]
        try:
            there = self.topic(topic)
        except NoTopic:
            return None
        return self.one(there.id, offset.seq) if there.epoch == offset.epoch else None

    def held(self, name: str, item: str, fence: int) -> int | None:
        """The queue's number, if this fence is the item's holder's."""
        sql = "SELECT queue FROM items WHERE queue = (SELECT id FROM queues WHERE name = ?) AND id = ? AND fence = ?"
        row = self.db.execute(sql, (name, item, fence)).fetchone() if fence else None
        return row[0] if row is not None else None

    def leased(self, name: str, item: str) -> bool:
        """Somebody holds the item, and may for some time yet."""
        sql = """SELECT 1 FROM items WHERE queue = (SELECT id FROM queues WHERE name = ?) AND id = ?
                 AND state = 2 AND at > ?"""
        return self.db.execute(sql, (name, item, self.clock.now())).fetchone() is not None

    def extend(self, leases: Sequence[tuple[str, str, int]], ttl: float) -> list[bool]:
        """See `Leases.extend`."""
        until = self.clock.now() + ttl
        sql = """UPDATE items SET state = 2, at = ? WHERE queue = (SELECT id FROM queues WHERE name = ?) AND id = ?
                 AND fence = ? AND fence != 0"""
        return [self.db.execute(sql, (until, *lease)).rowcount == 1 for lease in leases]

    def ack(self, leases: Sequence[tuple[str, str, int]]) -> list[bool]:
        """See `Leases.ack`."""
        sql = """DELETE FROM items WHERE queue = (SELECT id FROM queues WHERE name = ?) AND id = ?
                 AND fence = ? AND fence != 0"""
        return [self.db.execute(sql, lease).rowcount == 1 for lease in leases]

    def nack(self, name: str, item: str, fence: int, delay: float, reason: str, body: bytes | None) -> None:
        """See `Leases.nack`."""
        queue = self.held(name, item, fence)
        if queue is None:
            raise fenced(name, item)
        at = self.clock.now() + delay
        sql = """UPDATE items SET state = ?, at = ?, since = ?, fence = 0, body = coalesce(?, body)
                 WHERE queue = ? AND id = ?"""
        self.db.execute(sql, (DELAYED if delay > 0 else READY, at, at, body, queue, item))
        self.stirred.add(name)

    def term(self, name: str, item: str, fence: int, reason: str, event: Event | None = None) -> None:
        """See `Leases.term`."""
        queue = self.held(name, item, fence)
        if queue is None:
            raise fenced(name, item)
        sql = "SELECT priority, attempt, epoch, seq, record, body FROM items WHERE queue = ? AND id = ?"
        priority, attempt, epoch, seq, record, body = self.db.execute(sql, (queue, item)).fetchone()
        if seq is not None and record is None:
            row = self.queue_row(name)
            kept = self.event(row[1], Offset(epoch, seq), None) if row is not None else None
            event = kept or event or Event(seq, b"")
            body = event.data if body is None else body
            record = chunk.record(event.seq, event.at, NewEvent(event.data, event.type, event.key, event.headers))
        self.db.execute("DELETE FROM items WHERE queue = ? AND id = ?", (queue, item))
        sql = """INSERT INTO dead (queue, id, ord, priority, attempts, reason, at, epoch, seq, record, body)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
        values: tuple[Any, ...] = (queue, item, self.number(), priority, attempt, reason, self.clock.now())
        self.db.execute(sql, (*values, epoch, seq, record, body))

    def redrive(self, name: str, ids: Sequence[str] | None) -> int:
        """See `Leases.redrive`."""
        row = self.queue_row(name)
        if row is None:
            return 0
        if ids is None:
            ids = [
                one
                for (one,) in self.db.execute("SELECT id FROM dead WHERE queue = ? ORDER BY ord", (row[0],)).fetchall()
            ]
        now = self.clock.now()
        sql = """INSERT INTO items (queue, id, state, at, priority, ord, fence, attempt, since, epoch, seq, record, body)
                 SELECT queue, id, 0, ?1, priority, ?2, 0, 0, ?1, epoch, seq, record, body FROM dead
                 WHERE queue = ?3 AND id = ?4"""
        done = sum(self.db.execute(sql, (now, self.number(), row[0], one)).rowcount for one in ids)
        self.db.executemany("DELETE FROM dead WHERE queue = ? AND id = ?", [(row[0], one) for one in ids])
        if done:
            self.stirred.add(name)
        return done

    def remove(self, name: str, ids: Sequence[str]) -> list[bool]:
        """See `Leases.remove`."""
        row = self.queue_row(name)
        if row is None:
            return [False for _ in ids]
        gone = []
        for one in ids:
            counts = [
                self.db.execute(f"DELETE FROM {table} WHERE queue = ? AND id = ?", (row[0], one)).rowcount
                for table in ("items", "dead")
            ]
            gone.append(any(counts))
        return gone

    def drop(self, name: str) -> bool:
        """See `Leases.drop`."""
        row = self.queue_row(name)
        if row is None:
            return False
        for table in ("items", "dead"):
            self.db.execute(f"DELETE FROM {table} WHERE queue = ?", (row[0],))
        self.db.execute("DELETE FROM queues WHERE id = ?", (row[0],))
        self.find_fed()
        return True

    def sweep_leases(self) -> None:
        """Stir the queues in which something has become ready since the last sweep."""
        before, self.swept = self.swept, self.clock.now()
        sql = """SELECT DISTINCT name FROM items JOIN queues ON queues.id = items.queue
                 WHERE state > 0 AND at > ? AND at <= ?"""
        self.stirred.update(name for (name,) in self.db.execute(sql, (before, self.swept)))
