"""What can be asked of the embedded store's file, on any connection to it: by the writer inside its transaction, and by readers,
in this process or another, in short transactions of their own.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from . import chunk
from .clock import Clock
from .contract import Batch, Dead, Depth, Entry, Event, Head, Offset, TopicConfig
from .rules import no_topic, stale_use, start
from .sqlfile import above

HEAD = "name, epoch, first, last, closed, config, bytes, created, id, used, gone"
RANGE = "{0} > ? AND ({0} >= ? AND ({0} < ? OR ? = ''))"


def config_text(config: TopicConfig) -> str:
    """A topic's configuration as it is kept: what differs from the default."""
    plain = TopicConfig()
    return json.dumps({name: value for name, value in asdict(config).items() if value != getattr(plain, name)})


def config_of(text: str) -> TopicConfig:
    """The inverse."""
    return TopicConfig(**json.loads(text))


def head_of(row: tuple[Any, ...]) -> Head:
    """A row of `HEAD` as it is told."""
    name, epoch, first, last, closed, config, size, created = row[:8]
    return Head(name, Offset(epoch, first), Offset(epoch, last), bool(closed), config_of(config), size, created)


class Reader:
    """The words that change nothing. `touched` gathers topics whose use by a read should be written down."""

    def __init__(self, db: sqlite3.Connection, clock: Clock) -> None:
        self.db = db
        self.clock = clock
        self.touched: list[str] = []

    def look(self, word: str, args: tuple[Any, ...]) -> tuple[Any, list[str]]:
        """One word in one transaction; its answer, and what it touched."""
        self.touched = []
        method: Callable[..., Any] = getattr(self, word)
        self.db.execute("BEGIN")
        try:
            return method(*args), self.touched
        finally:
            self.db.execute("COMMIT")

    # ---- topics

    def row(self, name: str) -> tuple[Any, ...]:
        """The topic's row. NoTopic."""
        row = self.db.execute(f"SELECT {HEAD} FROM topics WHERE name = ?", (name,)).fetchone()
        if row is None or (row[10] is not None and row[10] <= self.clock.now()):
            raise no_topic(name)
        return row

    def head(self, name: str) -> Head:
        """See `Log.head`."""
        return head_of(self.row(name))

    def read(self, name: str, after: Offset | None, max_events: int, max_bytes: int) -> Batch:
        """See `Log.read`."""
        row = self.row(name)
        head = head_of(row)
        if stale_use(head.config, row[9], self.clock.now()):
            self.touched.append(name)
        return self.batch(row[8], head, start(name, after, head.first, head.last), max_events, max_bytes)

    def batch(self, topic: int, head: Head, seq: int, max_events: int, max_bytes: int) -> Batch:
        """The events after `seq`."""
        taken: list[Event] = []
        room = max_bytes
        complete = True
        for (data,) in self.db.execute(
            "SELECT data FROM chunks WHERE topic = ? AND last > ? ORDER BY last", (topic, seq)
        ):
            for event in chunk.events(data, seq):
                room -= len(event.data)
                if taken and (room < 0 or len(taken) >= max_events):
                    complete = False
                    break
                taken.append(event)
            if not complete:
                break
        complete = complete or taken[-1].seq == head.last.seq
        reached = head.last if complete else Offset(head.last.epoch, taken[-1].seq)
        return Batch(taken, reached, complete, complete and head.closed)

    def one(self, topic: int, seq: int) -> Event | None:
        """One event, if it is still there."""
        row = self.db.execute(
            "SELECT data FROM chunks WHERE topic = ? AND last >= ? ORDER BY last LIMIT 1", (topic, seq)
        ).fetchone()
        found = chunk.events(row[0], seq - 1) if row is not None else []
        return found[0] if found and found[0].seq == seq else None

    def topics(self, prefix: str, after: str, limit: int) -> list[Head]:
        """See `Log.topics`."""
        where = RANGE.format("name")
        sql = f"SELECT {HEAD} FROM topics WHERE {where} AND (gone IS NULL OR gone > ?) ORDER BY name LIMIT ?"
        upper = above(prefix)
        return [head_of(row) for row in self.db.execute(sql, (after, prefix, upper, upper, self.clock.now(), limit))]

    # ---- queues

    def queue_row(self, name: str) -> tuple[int, str, int, int] | None:
        """(id, topic, epoch, cursor)."""
        return self.db.execute("SELECT id, topic, epoch, cursor FROM queues WHERE name = ?", (name,)).fetchone()

    def dead(self, name: str, after: str, limit: int) -> list[Dead]:
        """See `Leases.dead`."""
        row = self.queue_row(name)
        if row is None:
            return []
        place = -1
        if after:
            found = self.db.execute("SELECT ord FROM dead WHERE queue = ? AND id = ?", (row[0], after)).fetchone()
            if found is None:
                return []
            place = found[0]
        sql = "SELECT id, body, attempts, reason, at, epoch, seq FROM dead WHERE queue = ? AND ord > ? ORDER BY ord LIMIT ?"
        letters: list[Any] = self.db.execute(sql, (row[0], place, limit)).fetchall()
        return [
            Dead(one, body, attempts, reason, at, Offset(epoch, seq) if seq is not None else None)
            for one, body, attempts, reason, at, epoch, seq in letters
        ]

    def depth(self, name: str) -> Depth:
        """See `Leases.depth`."""
        row = self.queue_row(name)
        if row is None:
            return Depth(name)
        queue, now = row[0], self.clock.now()
        sql = """SELECT count(*) FILTER (WHERE state = 0 OR at <= ?1), count(*) FILTER (WHERE state = 1 AND at > ?1),
                 count(*) FILTER (WHERE state = 2 AND at > ?1), min(since) FILTER (WHERE state = 0 OR at <= ?1), count(seq)
                 FROM items WHERE queue = ?2"""
        ready, delayed, leased, oldest, fed = self.db.execute(sql, (now, queue)).fetchone()
        dead = self.db.execute("SELECT count(*) FROM dead WHERE queue = ?", (queue,)).fetchone()[0]
        unread, since = self.unread(row)
        waiting = [one for one in (oldest, since) if one is not None]
        return Depth(name, ready + unread, delayed, leased, dead, min(waiting, default=None), fed + unread)

    def unread(self, queue: tuple[int, str, int, int]) -> tuple[int, float | None]:
        """How many events of its topic are not items yet, and since when the first of them is there."""
        _, topic, epoch, cursor = queue
        row = self.db.execute(f"SELECT {HEAD} FROM topics WHERE name = ?", (topic,)).fetchone() if topic else None
        if row is None or (row[1] == epoch and cursor >= row[3]):
            return 0, None
        head = head_of(row)
        seq = max(cursor, head.first.seq) if epoch == head.last.epoch else head.first.seq
        batch = self.batch(row[8], head, seq, 1, 1)
        return (head.last.seq - seq, batch.events[0].at) if batch.events else (0, None)

    def queues(self, prefix: str) -> list[str]:
        """See `Leases.queues`."""
        sql = f"SELECT name FROM queues WHERE {RANGE.format('name')} ORDER BY name"
        upper = above(prefix)
        return [row[0] for row in self.db.execute(sql, ("", prefix, upper, upper))]

    def next_due(self, name: str) -> float | None:
        """See `Leases.next_due`."""
        row = self.queue_row(name)
        if row is None:
            return None
        times = [self.unread(row)[1]]
        for state in (0, 1, 2):
            sql = "SELECT min(at) FROM items WHERE queue = ? AND state = ?"
            times.append(self.db.execute(sql, (row[0], state)).fetchone()[0])
        return min((one for one in times if one is not None), default=None)

    # ---- keys

    def get(self, key: str) -> Entry | None:
        """See `State.get`."""
        sql = "SELECT value, version, expires, due FROM entries WHERE key = ? AND (expires IS NULL OR expires > ?)"
        row = self.db.execute(sql, (key, self.clock.now())).fetchone()
        return Entry(*row) if row is not None else None

    def scan(self, prefix: str, after: str, limit: int) -> list[tuple[str, Entry]]:
        """See `State.scan`."""
        sql = f"""SELECT key, value, version, expires, due FROM entries WHERE {RANGE.format("key")}
                  AND (expires IS NULL OR expires > ?) ORDER BY key LIMIT ?"""
        upper = above(prefix)
        rows = self.db.execute(sql, (after, prefix, upper, upper, self.clock.now(), limit))
        return [(row[0], Entry(*row[1:])) for row in rows]

    def scan_due(self, prefix: str, limit: int) -> list[tuple[str, Entry]]:
        """See `State.scan_due`."""
        purpose, slash, _ = prefix.partition("/")
        which, named = ("purpose = ?", purpose + slash) if slash else ("purpose >= ?", "")
        sql = f"""SELECT key, value, version, expires, due FROM entries WHERE {which} AND due <= ?
                  AND {RANGE.format("key")} AND (expires IS NULL OR expires > ?) ORDER BY due, key LIMIT ?"""
        now, upper = self.clock.now(), above(prefix)
        rows = self.db.execute(sql, (named, now, "", prefix, upper, upper, now, limit))
        return [(row[0], Entry(*row[1:])) for row in rows]


def purpose_of(key: str) -> str:
    """What keys of one purpose share: the text up to and including the first slash."""
    head, slash, _ = key.partition("/")
    return head + slash
