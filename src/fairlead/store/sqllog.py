"""Topics in the embedded store: what the writer does inside its transaction.

Appends of one transaction are gathered: `append` decides, gives seqs, and leaves records with the topic; `flush` writes them as
chunks, one row for each topic, before the commit or before anybody in the same transaction reads. Topics are cached, which only
the one writer may do; whenever a transaction fails, all that was cached is forgotten (`forget`).

Trimming: `first` moves with the append when there is a good deal too much, and in the sweep to the last event; chunks that are
wholly trimmed are deleted, and a deleted topic's chunks in pieces, so that no transaction grows with what it forgets.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from . import chunk
from .clock import Clock
from .contract import Appended, Head, NewEvent, NoTopic, Offset, Producer, TopicConfig, new_epoch
from .rules import DEDUPE_WINDOW, again, closed, ends, fresh, moved, no_topic, other_config, start
from .sqlread import HEAD, Reader, config_of, config_text

CACHED_TOPICS = 20_000
CHUNK = 64 * 1024  # bytes of a chunk: small enough to be cut into events for the sake of one
SLACK = 8  # an eighth too much is trimmed at the append, the rest in the sweep
PIECE = 500  # rows deleted in one transaction of the sweep

ADD = "INSERT INTO chunks (topic, last, data) VALUES (?, ?, ?)"
SAVE = "UPDATE topics SET first = ?, last = ?, closed = ?, bytes = ?, used = ?, gone = ?, trim = ? WHERE id = ?"
PRODUCED = "INSERT OR REPLACE INTO producers (topic, id, epoch, seq, last, at) VALUES (?, ?, ?, ?, ?, ?)"
DEDUPED = "INSERT OR REPLACE INTO dedupes (topic, key, last, at) VALUES (?, ?, ?, ?)"


class Topic:
    """A topic as the writer knows it. `pending` are records not yet written, `trim` when something may be too old."""

    __slots__ = (
        "closed", "config", "created", "dirty", "epoch", "first", "gone", "id", "last", "name", "pending", "producers", "size",
        "trim", "used",
    )  # fmt: skip

    def __init__(self, row: tuple[Any, ...]) -> None:
        self.name, self.epoch, self.first, self.last, self.closed, config, self.size, self.created = row[:8]
        self.id, self.used, self.gone, self.trim = row[8:12]
        self.config = config_of(config)
        self.pending: list[tuple[int, bytes]] = []
        self.producers: dict[str, tuple[int, int, int] | None] = {}
        self.dirty = False

    def head(self) -> Head:
        """What is told of it."""
        first, last = Offset(self.epoch, self.first), Offset(self.epoch, self.last)
        return Head(self.name, first, last, bool(self.closed), self.config, self.size, self.created)


class SqlLog(Reader):
    """The words of `Log` that change something, and the flushing."""

    def __init__(self, db: sqlite3.Connection, clock: Clock) -> None:
        super().__init__(db, clock)
        self.cache: dict[str, Topic] = {}
        self.changed: dict[int, Topic] = {}
        self.deduped: dict[tuple[int, str], tuple[int, float]] = {}
        self.raw: list[tuple[str, int, int, bytes]] = []  # what was appended: (topic, epoch, last, chunk)
        self.floor = self.meta("floor", 0)
        self.produced: dict[tuple[int, str], tuple[int, int, int, float]] = {}

    def meta(self, key: str, default: Any) -> Any:
        """A value of the store as a whole."""
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row is not None else default

    def set_meta(self, key: str, value: Any) -> None:
        """Set one."""
        self.db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    def stir_fed(self, topic: str) -> None:
        """See `SqlLeases`."""
        raise NotImplementedError

    # ---- the cache

    def topic(self, name: str) -> Topic:
        """The topic, if it is there and its time is not over. NoTopic."""
        topic = self.cache.get(name)
        if topic is None:
            row = self.db.execute(f"SELECT {HEAD}, trim FROM topics WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise no_topic(name)
            topic = self.cache[name] = Topic(row)
        if topic.gone is not None and topic.gone <= self.clock.now():
            self.erase(topic)
            raise no_topic(name)
        return topic

    def made(self, name: str, config: TopicConfig) -> Topic:
        """A new topic."""
        now = self.clock.now()
        self.floor = new_epoch(now, self.floor)
        self.set_meta("floor", self.floor)
        row = (name, self.floor, 0, 0, 0, 0, now, now, ends(config, now), None, config_text(config))
        sql = """INSERT INTO topics (name, epoch, first, last, closed, bytes, created, used, gone, trim, config)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
        self.db.execute(sql, row)
        return self.topic(name)

    def change(self, topic: Topic) -> None:
        """The topic's row has to be written; until then the cache must have this very object."""
        self.changed[topic.id] = self.cache[topic.name] = topic

    def forget(self) -> None:
        """A transaction failed: what is cached may be wrong."""
        self.cache.clear()
        self.changed.clear()
        self.deduped.clear()
        self.produced.clear()
        self.raw.clear()
        self.floor = self.meta("floor", 0)

    def flush(self) -> None:
        """Write what was gathered."""
        if not self.changed:
            return
        rows: list[tuple[int, int, bytes]] = []
        for topic in self.changed.values():
            if topic.pending:
                self.chunked(topic, rows)
        if rows:
            self.db.executemany(ADD, rows)
        self.over()
        changed, self.changed = self.changed.values(), {}
        self.db.executemany(SAVE, [(t.first, t.last, t.closed, t.size, t.used, t.gone, t.trim, t.id) for t in changed])
        if self.produced:
            self.db.executemany(PRODUCED, [(*key, *known) for key, known in self.produced.items()])
            self.produced.clear()
        if self.deduped:
            self.db.executemany(DEDUPED, [(*key, *seen) for key, seen in self.deduped.items()])
            self.deduped.clear()
        if len(self.cache) > CACHED_TOPICS:
            self.cache.clear()

    def chunked(self, topic: Topic, rows: list[tuple[int, int, bytes]]) -> None:
        """The topic's pending records as rows, and as news."""
        pending, topic.pending = topic.pending, []
        parts: list[bytes] = []
        size, had = 0, len(rows)
        for seq, record in pending:
            parts.append(record)
            size += len(record)
            if size >= CHUNK or topic.config.compact:
                rows.append((topic.id, seq, b"".join(parts)))
                parts, size = [], 0
        if parts:
            rows.append((topic.id, pending[-1][0], b"".join(parts)))
        self.raw.append((topic.name, topic.epoch, topic.last, b"".join(row[2] for row in rows[had:])))

    def over(self) -> None:
        """Trim the changed topics that have a good deal too much."""
        for topic in self.changed.values():
            most, size = topic.config.max_events, topic.config.max_bytes
            if topic.config.compact or (most is None and size is None):
                continue
            many = most is not None and topic.last - topic.first > most + most // SLACK + SLACK
            if many or (size is not None and topic.size > size + size // SLACK):
                self.cut(topic)
            elif (most is not None and topic.last - topic.first > most) or (size is not None and topic.size > size):
                topic.trim = 0.0  # the sweep does the rest

    # ---- the words

    def create(self, name: str, config: TopicConfig, events: Sequence[NewEvent], close: bool) -> tuple[Head, bool]:
        """See `Log.create`."""
        try:
            topic = self.topic(name)
        except NoTopic:
            pass
        else:
            if topic.config != config:
                raise other_config(name)
            return topic.head(), False
        topic = self.made(name, config)
        self.add(topic, events, close)
        return topic.head(), True

    def add(self, topic: Topic, events: Sequence[NewEvent], close: bool) -> None:
        """Give the events their seqs, and gather their records."""
        topic.used = now = max(self.clock.now(), topic.used)
        records = [chunk.record(topic.last + n, now, event) for n, event in enumerate(events, 1)]
        if topic.config.compact:
            self.supersede(topic, events)
        for record, event in zip(records, events):
            topic.last += 1
            topic.size += len(event.data)
            topic.pending.append((topic.last, record))
        if topic.config.ttl is not None:
            topic.gone = ends(topic.config, now)
        if topic.config.keep is not None and topic.trim is None and records and not topic.config.compact:
            topic.trim = now + topic.config.keep
        topic.closed = int(close)
        self.change(topic)
        if records or close:
            self.stir_fed(topic.name)
            if not records:
                self.raw.append((topic.name, topic.epoch, topic.last, b""))

    def append(
        self,
        name: str,
        events: Sequence[NewEvent],
        producer: Producer | None,
        dedupe: str,
        close: bool,
        create: TopicConfig | None,
        after: Offset | None,
    ) -> Appended:
        """See `Log.append`."""
        topic: Topic | None
        try:
            topic = self.topic(name)
        except NoTopic:
            if create is None:
                raise
            topic = None
        known = None
        if topic is not None:
            known = self.known(topic, producer.id) if producer is not None else None
            old = self.done_before(topic, producer, known, dedupe, close and not events)
            if old is not None:
                return Appended(Offset(topic.epoch, old), 0, True, bool(topic.closed))
            if topic.closed:
                raise closed(name, Offset(topic.epoch, topic.last))
        if producer is not None:
            fresh(known[:2] if known is not None else None, producer)
        if after is not None and (topic is None or after != (topic.epoch, topic.last)):
            raise moved(name, Offset(topic.epoch, topic.last) if topic is not None else Offset(0, 0))
        if topic is None:
            topic = self.made(name, create or TopicConfig())
        self.add(topic, events, close)
        if producer is not None:
            topic.producers[producer.id] = (producer.epoch, producer.seq, topic.last)
            self.produced[topic.id, producer.id] = (producer.epoch, producer.seq, topic.last, topic.used)
        if dedupe:
            self.deduped[topic.id, dedupe] = (topic.last, topic.used)
        return Appended(Offset(topic.epoch, topic.last), len(events), False, bool(topic.closed))

    def known(self, topic: Topic, producer: str) -> tuple[int, int, int] | None:
        """The producer's newest (epoch, seq, last)."""
        if producer not in topic.producers:
            sql = "SELECT epoch, seq, last FROM producers WHERE topic = ? AND id = ?"
            if len(topic.producers) > 1000:
                topic.producers.clear()
            pending = self.produced.get((topic.id, producer))
            found = pending[:3] if pending is not None else self.db.execute(sql, (topic.id, producer)).fetchone()
            topic.producers[producer] = found
        return topic.producers[producer]

    def done_before(
        self, topic: Topic, producer: Producer | None, known: tuple[int, int, int] | None, dedupe: str, closing: bool
    ) -> int | None:
        """The seq to answer with, if this append was done already."""
        if producer is not None and known is not None and again(known[:2], producer):
            return known[2]
        if dedupe:
            seen = self.deduped.get((topic.id, dedupe))
            if seen is None:
                sql = "SELECT last, at FROM dedupes WHERE topic = ? AND key = ?"
                seen = self.db.execute(sql, (topic.id, dedupe)).fetchone()
            if seen is not None and seen[1] >= self.clock.now() - DEDUPE_WINDOW:
                return seen[0]
        return topic.last if closing and topic.closed else None

    def supersede(self, topic: Topic, events: Sequence[NewEvent]) -> None:
        """Of a compacted topic: forget the events whose keys come again. Each event has its own chunk."""
        self.flush()
        for seq, event in enumerate(events, topic.last + 1):
            sql = "SELECT seq FROM latest WHERE topic = ? AND key = ?"
            old = self.db.execute(sql, (topic.id, event.key)).fetchone()
            if old is not None and old[0] <= topic.last:
                found = self.one(topic.id, old[0])
                topic.size -= len(found.data) if found is not None else 0
                self.db.execute("DELETE FROM chunks WHERE topic = ? AND last = ?", (topic.id, old[0]))
            self.db.execute(
                "INSERT OR REPLACE INTO latest (topic, key, seq) VALUES (?, ?, ?)", (topic.id, event.key, seq)
            )

    def touch(self, name: str) -> None:
        """A read that somebody else did was a use of the topic."""
        topic = self.topic(name)
        topic.used = self.clock.now()
        topic.gone = ends(topic.config, topic.used)
        self.change(topic)

    def trim(self, name: str, before: Offset) -> Head:
        """See `Log.trim`."""
        topic = self.topic(name)
        head = topic.head()
        wanted = max(before, head.first) if before.epoch == topic.epoch else before
        seq = start(name, wanted, head.first, head.last)
        self.flush()
        self.drop_to(topic, seq)
        if topic.config.compact:
            self.db.execute("DELETE FROM latest WHERE topic = ? AND seq <= ?", (topic.id, seq))
        return topic.head()

    def delete(self, name: str) -> bool:
        """See `Log.delete`."""
        try:
            self.erase(self.topic(name))
        except NoTopic:
            return False
        return True

    def erase(self, topic: Topic) -> None:
        """Forget a topic; its events go in the sweep."""
        self.flush()
        self.cache.pop(topic.name, None)
        self.db.execute("DELETE FROM topics WHERE id = ?", (topic.id,))
        self.db.execute("INSERT INTO garbage (topic) VALUES (?)", (topic.id,))
        if topic.epoch > self.floor:
            self.floor = topic.epoch
            self.set_meta("floor", self.floor)

    # ---- trimming

    def drop_to(self, topic: Topic, seq: int) -> None:
        """Forget the events up to and including `seq`."""
        if seq <= topic.first:
            return
        sql = "SELECT last, data FROM chunks WHERE topic = ? AND last > ? ORDER BY last"
        for last, data in self.db.execute(sql, (topic.id, topic.first)).fetchall():
            for at, _, size in chunk.sizes(data):
                if topic.first < at <= seq:
                    topic.size -= size
            if last >= seq:
                break
        topic.first = seq
        self.db.execute("DELETE FROM chunks WHERE topic = ? AND last <= ?", (topic.id, seq))
        self.change(topic)

    def cut(self, topic: Topic) -> None:
        """Forget what is too much or too old, to the event; at most some chunks at once. Sets when to look again."""
        config, size, seq = topic.config, topic.size, topic.first
        least = topic.last - config.max_events if config.max_events is not None else 0
        oldest = self.clock.now() - config.keep if config.keep is not None else 0.0
        sql = "SELECT data FROM chunks WHERE topic = ? AND last > ? ORDER BY last LIMIT 64"
        topic.trim = None
        for (data,) in self.db.execute(sql, (topic.id, topic.first)).fetchall():
            for at, when, length in chunk.sizes(data):
                if at <= topic.first:
                    continue
                big = config.max_bytes is not None and size > config.max_bytes and at < topic.last
                if not (at <= least or when < oldest or big):
                    if config.keep is not None:
                        topic.trim = when + config.keep
                    self.moved_to(topic, seq, size)
                    return
                seq, size = at, size - length
        if seq < topic.last:
            topic.trim = 0.0  # there is more: in the next sweep
        self.moved_to(topic, seq, size)

    def moved_to(self, topic: Topic, seq: int, size: int) -> None:
        """Everything up to `seq` is trimmed; `size` bytes are left."""
        if seq > topic.first:
            topic.first, topic.size = seq, size
            self.db.execute("DELETE FROM chunks WHERE topic = ? AND last <= ?", (topic.id, seq))
        self.change(topic)

    def sweep_log(self) -> bool:
        """Forget what is too old or too much; True when there is more to do at once."""
        now = self.clock.now()
        for (name,) in self.db.execute("SELECT name FROM topics WHERE gone <= ? LIMIT ?", (now, PIECE)).fetchall():
            self.delete(name)
        due = [
            row[0] for row in self.db.execute("SELECT name FROM topics WHERE trim < ? LIMIT ?", (now, PIECE)).fetchall()
        ]
        for name in due:
            topic = self.cache.get(name) or self.topic(name)
            self.cut(topic)
        for table in ("producers", "dedupes"):
            sql = (
                f"DELETE FROM {table} WHERE at < ? AND topic IN (SELECT topic FROM {table} WHERE at < ? LIMIT {PIECE})"
            )
            self.db.execute(sql, (now - DEDUPE_WINDOW, now - DEDUPE_WINDOW))
        self.flush()
        return self.sweep_garbage() or len(due) == PIECE

    def sweep_garbage(self) -> bool:
        """A piece of a deleted topic; True when there is more."""
        row = self.db.execute("SELECT topic FROM garbage LIMIT 1").fetchone()
        if row is None:
            return False
        for table, key in (("chunks", "last"), ("latest", "key"), ("producers", "id"), ("dedupes", "key")):
            sql = f"DELETE FROM {table} WHERE topic = ? AND {key} IN (SELECT {key} FROM {table} WHERE topic = ? LIMIT {PIECE})"
            if self.db.execute(sql, (row[0], row[0])).rowcount == PIECE:
                return True
        self.db.execute("DELETE FROM garbage WHERE topic = ?", row)
        return True
