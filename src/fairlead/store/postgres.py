"""PostgreSQL as the store: for several machines, with what an operator already runs and backs up.

- *Group commit.* Appends of many callers go to the server as one statement (`fl_append` in `pgsql`) while the previous one commits;
  so do puts, acknowledgements and keys, each kind on its own. A sync of the disk is shared by all of a group.
- *Nothing twice.* A group of appends has a number that is committed with it. When the connection breaks, the same group is sent again
  and the server knows: appends survive a restart of the server without an error and without a duplicate.
- *Hints* are NOTIFYs on one connection for each node, sent after the commit and batched: a NOTIFY inside a transaction would make all
  commits of the database wait for each other. They may be lost, so every `POLL` seconds the truth is looked up.
- *What an ack means* is read from the server: `fsync`, `synchronous_commit`, `synchronous_standby_names`. We ask for durable commits
  ourselves (a session may), unless less was asked for.
- *Lost data* gets a new epoch: after a crash where commits were not durable, after a fail-over to a standby, after a restore (`checked`).
- *Time* is the server's, corrected by nodes that see it jump against what really passed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from .clock import passed
from .contract import (
    Ack,
    Appended,
    Batch,
    Conflict,
    Dead,
    Declaration,
    Depth,
    Entry,
    Event,
    Gap,
    Head,
    Item,
    Lease,
    NewEvent,
    Offset,
    Producer,
    ProducerGap,
    StaleProducer,
    StoreError,
    TopicConfig,
)
from .facade import Front
from .groups import Group, ended
from .pglines import AWAY, FIRST, LONGEST, Lines
from .pgsql import FUNCTIONS, MIGRATIONS, VERSION
from .rules import DEDUPE_WINDOW, changed, closed, fenced, moved, no_topic, other_config, stale_use, start
from .sqlfile import above
from .sqlread import config_of, config_text, head_of, purpose_of

log = logging.getLogger("fairlead")
POOL = 4  # connections for everything but appends and hints, which have one each
SWEEP = 0.5  # seconds between looks for what is too old or has become due
POLL = 5.0  # seconds between looks for what a lost hint would have said
JUMP = 1.0  # seconds by which the server's clock may differ from what passed before it is corrected
HELD = 30.0  # seconds for which a group of appends is sent again and again
PAYLOAD = 7800  # bytes of a NOTIFY: the server's limit is 8000
HEAD = "name, epoch, first, last, closed, config, bytes, created, id, used, gone"
ALIVE = "(gone IS NULL OR gone > fl_now())"
RANGE = "{0} > $1 AND ({0} >= $2 AND ({0} < $3 OR $3 = ''))"
READ = f"""
WITH t AS (SELECT {HEAD} FROM topics WHERE name = $1 AND {ALIVE})
SELECT t.*, fl_now(), e.seq, e.data, e.type, e.key, e.at, e.headers, e.seen
FROM t LEFT JOIN LATERAL (
  SELECT * FROM (
    SELECT x.*, row_number() OVER w AS place, sum(octet_length(x.data)) OVER w AS size, count(*) OVER () AS seen
    FROM (SELECT * FROM events WHERE topic = t.id AND seq > coalesce($2, t.first) ORDER BY seq LIMIT $3 + 1) x
    WINDOW w AS (ORDER BY x.seq)) y
  WHERE place = 1 OR (place <= $3 AND size <= $4)) e ON true
ORDER BY e.seq"""
PUT = """
WITH named AS (
  INSERT INTO queues (name) SELECT DISTINCT n FROM unnest($1::text[]) n WHERE NOT EXISTS (SELECT 1 FROM queues WHERE name = n)
  ORDER BY n ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id, name),
known AS (SELECT id, name FROM named UNION SELECT id, name FROM queues WHERE name = ANY ($1)),
sorted AS (
  SELECT k.id AS queue, u.id, u.body, u.due, u.priority FROM unnest($1::text[], $2::text[], $3::bytea[], $4::float8[], $5::int[])
    WITH ORDINALITY AS u(name, id, body, due, priority, place) JOIN known k ON k.name = u.name ORDER BY u.place)
INSERT INTO items (queue, id, state, at, priority, ord, since, body)
SELECT queue, id, CASE WHEN due > n.now THEN 1 ELSE 0 END, greatest(due, n.now), priority, nextval('numbers'), greatest(due, n.now), body
FROM sorted, (SELECT fl_now() AS now) n
ON CONFLICT DO NOTHING RETURNING (SELECT name FROM known WHERE known.id = queue LIMIT 1), items.id"""
LEASED = """unnest($1::text[], $2::text[], $3::bigint[]) AS u(name, id, fence) JOIN queues q ON q.name = u.name
WHERE i.queue = q.id AND i.id = u.id AND i.fence = u.fence AND u.fence <> 0 AND i.state < 3"""
EXTEND = f"UPDATE items i SET state = 2, at = fl_now() + $4 FROM {LEASED} RETURNING u.name, u.id, u.fence"
ACK = f"DELETE FROM items i USING {LEASED} RETURNING u.name, u.id, u.fence"
NACK = """
UPDATE items i SET state = CASE WHEN $4 > 0 THEN 1 ELSE 0 END, at = n.now + $4, since = n.now + $4, fence = 0, body = coalesce($5, body)
FROM queues q, (SELECT fl_now() AS now) n
WHERE q.name = $1 AND i.queue = q.id AND i.id = $2 AND i.fence = $3 AND i.fence <> 0 AND i.state < 3 RETURNING 1"""
REDRIVE = """
WITH back AS (
  SELECT i.queue, i.id, i.ord FROM items i JOIN queues q ON q.id = i.queue
  WHERE q.name = $1 AND i.state = 3 AND ($2::text[] IS NULL OR i.id = ANY ($2)) ORDER BY i.ord FOR UPDATE OF i)
UPDATE items i SET state = 0, at = fl_now(), since = fl_now(), attempt = 0, fence = 0, ord = b.new, reason = NULL
FROM (SELECT queue, id, nextval('numbers') AS new FROM (SELECT * FROM back ORDER BY ord) x) b
WHERE i.queue = b.queue AND i.id = b.id RETURNING 1"""
DEPTH = """
SELECT count(*) FILTER (WHERE i.state = 0 OR (i.state < 3 AND i.at <= n.now)), count(*) FILTER (WHERE i.state = 1 AND i.at > n.now),
  count(*) FILTER (WHERE i.state = 2 AND i.at > n.now), count(*) FILTER (WHERE i.state = 3),
  min(i.since) FILTER (WHERE i.state = 0 OR (i.state < 3 AND i.at <= n.now)), count(i.seq) FILTER (WHERE i.state < 3)
FROM items i JOIN queues q ON q.id = i.queue, (SELECT fl_now() AS now) n WHERE q.name = $1"""
UNREAD = """
SELECT t.last - s.seq, e.at FROM queues q JOIN topics t ON t.name = q.topic,
  LATERAL (SELECT CASE WHEN q.epoch = t.epoch THEN greatest(q.cursor, t.first) ELSE t.first END AS seq) s,
  LATERAL (SELECT at FROM events WHERE topic = t.id AND events.seq > s.seq ORDER BY events.seq LIMIT 1) e WHERE q.name = $1"""
BECAME = """
SELECT name FROM queues q WHERE name = ANY ($1) AND (
  EXISTS (SELECT 1 FROM items i WHERE i.queue = q.id AND i.state IN (1, 2) AND i.at > $2 AND i.at <= $3) OR
  ($4 AND EXISTS (SELECT 1 FROM items i WHERE i.queue = q.id AND (i.state = 0 OR (i.state IN (1, 2) AND i.at <= $3)))) OR
  ($4 AND EXISTS (SELECT 1 FROM topics t WHERE t.name = q.topic AND (t.epoch <> q.epoch OR t.last > q.cursor))))"""


class Call:
    """One append as it waits for its group."""

    __slots__ = ("after", "close", "create", "dedupe", "events", "producer", "topic")

    def __init__(self, topic: str, events: Sequence[NewEvent], producer: Producer | None, dedupe: str, close: bool,
                 create: TopicConfig | None, after: Offset | None) -> None:  # fmt: skip
        self.topic, self.events, self.producer, self.dedupe = topic, events, producer, dedupe
        self.close, self.create, self.after = close, create, after


class Postgres(Front):
    """The engine."""

    def __init__(self, dsn: str, ack: Ack | None = None, schema: str = "fairlead", pool: int = POOL) -> None:
        super().__init__()
        self.dsn, self.asked, self.schema = dsn, ack, schema
        settings = {
            "search_path": schema,
            "synchronous_commit": "off" if ack is Ack.MEMORY else "on",
            "lock_timeout": "10s",
            "idle_in_transaction_session_timeout": "30s",
            "jit": "off",
        }
        self.lines = Lines(dsn, settings, pool, self.checked)
        self.writer = Lines(dsn, settings, 1, self.checked)
        self.bell_lines = Lines(dsn, {**settings, "synchronous_commit": "off"}, 1, self.listening)
        self.caller, self.number = uuid.uuid4().hex, 0
        self.appends, self.puts = Group(self.append_group), Group(self.put_group)
        self.acks, self.keys = Group(self.ack_group), Group(self.key_group)
        self.bells = Group(self.ring)
        self.tasks: list[asyncio.Task[None]] = []
        self.known: dict[str, Offset] = {}  # the newest offsets that were told, of topics of interest
        self.pid = 0
        self.ready = False
        self.durable = True  # commits survive a crash of the server
        self.poll_now = asyncio.Event()

    # ---- opening and closing

    async def open(self) -> Declaration:
        """See `Engine`."""
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", self.schema):
            raise StoreError(f"schema {self.schema!r}: write small letters, digits and _ only")
        try:
            declared = await self.lines.ask(self.prepare, True)
            self.ready = True
            self.tasks = [asyncio.create_task(self.listen()), asyncio.create_task(self.tend())]
            return declared
        except BaseException:
            await self.close()
            raise

    async def prepare(self, line: asyncpg.Connection) -> Declaration:
        """The tables, and what the server promises."""
        if await line.fetchval("SELECT pg_is_in_recovery()"):
            raise StoreError("this PostgreSQL is a standby: it only reads", hint="name the primary in store.url")
        await self.migrate(line)
        declared = await self.declare(line)
        await self.checked(line, True)
        return declared

    async def migrate(self, line: asyncpg.Connection) -> None:
        """Makes the tables, or brings them to this version. One node at a time."""
        async with line.transaction():
            await line.execute("SELECT pg_advisory_xact_lock(hashtext('fairlead migration'))")
            await line.execute("SET LOCAL client_min_messages = warning; SET LOCAL check_function_bodies = off")
            if await line.fetchval("SELECT to_regnamespace($1) IS NULL", self.schema):
                await line.execute(f"CREATE SCHEMA {self.schema}")
            if await line.fetchval("SELECT to_regclass($1) IS NULL", f"{self.schema}.meta"):
                await line.execute("CREATE TABLE meta (version integer NOT NULL, functions text NOT NULL)")
                await line.execute("INSERT INTO meta VALUES (0, '')")
            version, functions = await line.fetchrow("SELECT version, functions FROM meta FOR UPDATE")
            if version > VERSION:
                hint = "run the newer Fairlead, or name another schema: ?schema="
                raise StoreError(f"schema {self.schema} is of a newer Fairlead (version {version})", hint=hint)
            for step in MIGRATIONS[version:]:
                await line.execute(step)
            if version < VERSION or functions != FUNCTIONS:
                await line.execute(FUNCTIONS)
                await line.execute("UPDATE meta SET version = $1, functions = $2", VERSION, FUNCTIONS)

    async def declare(self, line: asyncpg.Connection) -> Declaration:
        """What the server, as it is set up now, promises."""
        names = ("server_version", "fsync", "full_page_writes", "synchronous_standby_names")
        found = {name: await line.fetchval("SELECT current_setting($1)", name) for name in names}
        syncs, standbys = found["fsync"] == "on", bool(found["synchronous_standby_names"].strip())
        notes = []
        if not syncs:
            notes.append("fsync = off: a crash of the machine loses and damages data")
        if syncs and found["full_page_writes"] != "on":
            notes.append("full_page_writes = off: a crash of the machine may damage data")
        if self.asked is Ack.MEMORY:
            ack = Ack.MEMORY
            notes.append('store.ack = "memory": commits are not waited for')
        elif standbys:
            ack = Ack.QUORUM_FSYNC if syncs else Ack.QUORUM
        else:
            ack = Ack.NODE_FSYNC if syncs else Ack.NODE
        if not standbys:
            notes.append("synchronous_standby_names is empty: a fail-over may lose what was acknowledged last")
        self.durable = syncs and ack is not Ack.MEMORY
        name = f"postgresql {found['server_version'].split()[0]}"
        return Declaration(name, ack, DEDUPE_WINDOW, outbox=True, shared=True, notes=tuple(notes))

    async def checked(self, line: asyncpg.Connection, first: bool = False) -> None:
        """Whether this is the database that we knew, with all that was acknowledged; else every topic gets a new epoch.

        `alive` is empty after a crash: then what was not durable is lost. Another timeline without synchronous standbys is a
        fail-over or a restore to a point in time, another system a restore into another server: all may have lost the newest.
        """
        if not (self.ready or first):
            return
        sql = """SELECT (SELECT count(*) FROM alive), (SELECT system_identifier::text FROM pg_control_system()),
                 left(pg_walfile_name(pg_current_wal_lsn()), 8), current_setting('synchronous_standby_names') <> ''"""
        alive, system, timeline, quorum = await line.fetchrow(sql)
        if alive and await line.fetchval("SELECT system = $1 AND timeline = $2 FROM facts", system, timeline):
            if not self.durable:
                await line.execute("UPDATE facts SET weak = true WHERE NOT weak")
            return
        async with line.transaction():
            await line.execute("LOCK TABLE facts")
            old = await line.fetchrow("SELECT system, timeline, weak FROM facts")
            lost = old is not None and (
                old[0] != system or (old[1] != timeline and not quorum) or (old[2] and not await line.fetchval("SELECT count(*) FROM alive"))
            )  # fmt: skip
            if old is None:
                await line.execute("INSERT INTO facts (floor, system, timeline, weak) VALUES (0, $1, $2, $3)",
                                   system, timeline, not self.durable)  # fmt: skip
            if lost:
                log.warning("PostgreSQL may have lost what was acknowledged last: every topic has a new epoch")
                sql = """UPDATE topics SET epoch = greatest(epoch, (SELECT floor FROM facts), floor(fl_now() * 1000)::bigint) + 1"""
                await line.execute(sql)
                await line.execute("DELETE FROM journal")
            await line.execute(
                "UPDATE facts SET system = $1, timeline = $2, weak = $3", system, timeline, not self.durable
            )
            await line.execute("INSERT INTO alive DEFAULT VALUES ON CONFLICT DO NOTHING")

    async def close(self) -> None:
        """See `Engine`."""
        for group in (self.appends, self.puts, self.acks, self.keys, self.bells):
            await group.finish()
        await ended(self.tasks)
        if self.ready and self.number and not self.writer.closed and self.writer.idle:
            line = self.writer.idle[-1]
            try:
                await line.execute("DELETE FROM journal WHERE caller = $1", self.caller)
            except Exception:
                pass
        for lines in (self.lines, self.writer, self.bell_lines):
            await lines.close()
        self.ready = False

    async def now(self) -> float:
        """See `Engine`."""
        return await self.value("SELECT fl_now()")

    # ---- asking

    def call(self, word: str, *args: Any) -> Awaitable[Any]:
        """See `Caller`."""
        return getattr(self, word)(*args)

    def mind(self, kind: str, name: str, wanted: bool) -> None:
        """See `Caller`."""
        super().mind(kind, name, wanted)
        if kind == "topic" and not wanted:
            self.known.pop(name, None)

    async def rows(self, sql: str, *args: Any, safe: bool = True) -> list[Any]:
        """Some rows."""
        return await self.lines.ask(lambda line: line.fetch(sql, *args), safe)

    async def row(self, sql: str, *args: Any, safe: bool = True) -> Any:
        """One row or None."""
        return await self.lines.ask(lambda line: line.fetchrow(sql, *args), safe)

    async def value(self, sql: str, *args: Any, safe: bool = True) -> Any:
        """One value."""
        return await self.lines.ask(lambda line: line.fetchval(sql, *args), safe)

    # ---- topics

    async def append(self, topic: str, events: Sequence[NewEvent], producer: Producer | None, dedupe: str, close: bool,
                     create: TopicConfig | None, after: Offset | None) -> Appended:  # fmt: skip
        """See `Log.append`."""
        texts = [topic, dedupe, producer.id if producer else "", *(x for e in events for x in (e.type, e.key))]
        if any("\0" in text for text in texts):
            raise StoreError("PostgreSQL keeps no NUL in names, keys and types", side="peer", status=400)
        call = Call(topic, events, producer, dedupe, close, create, after)
        return await self.appends.add(call, sum(len(event.data) + 64 for event in events))

    async def append_group(self, calls: Sequence[Call]) -> list[Any]:
        """Appends of many in one transaction; sent again under the same number when the connection breaks."""
        order = sorted(range(len(calls)), key=lambda n: calls[n].topic.encode())
        sorted_calls = [calls[n] for n in order]
        self.number += 1
        args = (self.caller, self.number, *_arrays(sorted_calls), DEDUPE_WINDOW)
        marks = ", ".join(f"${n}" for n in range(1, len(args) + 1))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HELD
        while True:
            try:
                text = await self.writer.ask(lambda line: line.fetchval(f"SELECT fl_append({marks})", *args), True)
                break
            except StoreError as error:
                if error.side == "peer" and len(calls) > 1:
                    return await _each(self.append_group, calls)
                if error.retry != "always" or error.status != 503 or loop.time() > deadline:
                    raise
                await asyncio.sleep(FIRST)
        answers: list[Any] = [None] * len(calls)
        news: dict[str, tuple[Offset, list[Event]]] = {}
        for n, call, found in zip(order, sorted_calls, json.loads(text)):
            answers[n] = _appended(call, found)
            if found[0] == "ok" and not found[4] and (call.events or call.close):
                offset, events = news.setdefault(call.topic, (answers[n].last, []))
                events += [Event(found[6] + place, bytes(e.data), e.type, e.key, found[7], dict(e.headers))
                           for place, e in enumerate(call.events, 1)]  # fmt: skip
                news[call.topic] = (answers[n].last, events)
        if news:
            self.told(news)
        return answers

    def told(self, news: dict[str, tuple[Offset, list[Event]]]) -> None:
        """Something was appended here: tell those who listen here, and the other nodes."""
        for topic, (last, _) in news.items():
            if topic in self.minded["topic"]:
                self.known[topic] = last
        self.tell([(topic, last, lambda events=events: events) for topic, (last, events) in news.items()], ())
        for topic, (last, _) in news.items():
            self.bells.add(("t", topic, last))

    def stir(self, *queues: str) -> None:
        """These queues have something."""
        self.tell((), queues)
        for queue in queues:
            self.bells.add(("q", queue, None))

    async def create(self, topic: str, config: TopicConfig, events: Sequence[NewEvent], close: bool) -> tuple[Head, bool]:
        """See `Log.create`: an append that must find no topic."""
        while True:
            try:
                head = await self.head(topic)
                if head.config != config:
                    raise other_config(topic)
                return head, False
            except StoreError as error:
                if error.status != 404:
                    raise
            key = f"\x01made {uuid.uuid4().hex}"
            made = await self.lines.ask(partial(self.make, topic, config, events, close, key), True)
            if made is not None:
                if events or close:
                    self.told({topic: (made.last, [])})
                return made, True

    async def make(self, topic: str, config: TopicConfig, events: Sequence[NewEvent], close: bool, key: str,
                   line: asyncpg.Connection) -> Head | None:  # fmt: skip
        """The topic with its first events, in one transaction; None when somebody else made it."""
        async with line.transaction():
            now = await line.fetchval("SELECT fl_now()")
            if await line.fetchval("SELECT (fl_topic($1, $2)).id", topic, now) is not None:
                return None
            if await line.fetchval("SELECT (fl_make($1, $2, $3)).id", topic, config_text(config), now) is None:
                return None
            args = (key, 1, *_arrays([Call(topic, events, None, "", close, None, None)]), DEDUPE_WINDOW)
            await line.fetchval(f"SELECT fl_append({', '.join(f'${n}' for n in range(1, len(args) + 1))})", *args)
            await line.execute("DELETE FROM journal WHERE caller = $1", key)
            return head_of(await line.fetchrow(f"SELECT {HEAD} FROM topics WHERE name = $1", topic))

    async def head(self, topic: str) -> Head:
        """See `Log.head`."""
        row = await self.row(f"SELECT {HEAD} FROM topics WHERE name = $1 AND {ALIVE}", topic)
        if row is None:
            raise no_topic(topic)
        return head_of(tuple(row))

    async def read(self, topic: str, after: Offset | None, max_events: int, max_bytes: int) -> Batch:
        """See `Log.read`: one statement, so one moment."""
        many = min(max(max_events, 1), 100_000)
        rows = await self.rows(READ, topic, after.seq if after is not None else None, many, max_bytes)
        if not rows:
            raise no_topic(topic)
        first = rows[0]
        head = head_of(tuple(first[:11]))
        start(topic, after, head.first, head.last)
        if stale_use(head.config, first[9], first[11]):
            sql = """UPDATE topics SET used = greatest(used, fl_now()), gone = least(expires, fl_now() + ttl) WHERE id = $1"""
            await self.rows(sql, first[8])
        events = [Event(row[12], row[13], row[14], row[15], row[16], json.loads(row[17]) if row[17] else {})
                  for row in rows if row[12] is not None]  # fmt: skip
        complete = not events or len(events) == rows[-1][18]
        reached = head.last if complete else Offset(head.last.epoch, events[-1].seq)
        return Batch(events, reached, complete, complete and head.closed)

    async def trim(self, topic: str, before: Offset) -> Head:
        """See `Log.trim`."""

        async def work(line: asyncpg.Connection) -> Head:
            async with line.transaction():
                sql = f"SELECT {HEAD} FROM topics WHERE name = $1 AND {ALIVE} FOR UPDATE"
                row = await line.fetchrow(sql, topic)
                if row is None:
                    raise no_topic(topic)
                head = head_of(tuple(row))
                wanted = max(before, head.first) if before.epoch == head.last.epoch else before
                seq = start(topic, wanted, head.first, head.last)
                sql = """WITH gone AS (DELETE FROM events WHERE topic = $1 AND seq <= $2 RETURNING octet_length(data) AS size)
                         UPDATE topics SET first = $2, bytes = bytes - (SELECT coalesce(sum(size), 0) FROM gone) WHERE id = $1"""
                await line.execute(sql, row[8], seq)
                return head_of(tuple(await line.fetchrow(f"SELECT {HEAD} FROM topics WHERE id = $1", row[8])))

        return await self.lines.ask(work, True)

    async def delete(self, topic: str) -> bool:
        """See `Log.delete`."""
        sql = """SELECT fl_erase(t) IS NOT NULL AND (t.gone IS NULL OR t.gone > fl_now())
                 FROM (SELECT * FROM topics WHERE name = $1 FOR UPDATE) t"""
        return bool(await self.value(sql, topic))

    async def touch(self, topic: str) -> None:
        """A read that somebody else did was a use of the topic."""
        await self.rows("UPDATE topics SET used = fl_now(), gone = least(expires, fl_now() + ttl) WHERE name = $1", topic)

    async def topics(self, prefix: str, after: str, limit: int) -> list[Head]:
        """See `Log.topics`."""
        sql = f"SELECT {HEAD} FROM topics WHERE {RANGE.format('name')} AND {ALIVE} ORDER BY name LIMIT $4"
        return [head_of(tuple(row)) for row in await self.rows(sql, after, prefix, above(prefix), limit)]

    # ---- queues

    async def feed(self, queue: str, topic: str, after: Offset | None) -> None:
        """See `Leases.feed`."""
        head = await self.head(topic)
        old = await self.value("SELECT topic FROM queues WHERE name = $1", queue)
        if not old:
            seq = head.last.seq if after is None else start(topic, after, head.first, head.last)
            sql = """INSERT INTO queues (name, topic, epoch, cursor) VALUES ($1, $2, $3, $4) ON CONFLICT (name)
                     DO UPDATE SET topic = excluded.topic, epoch = excluded.epoch, cursor = excluded.cursor
                     WHERE queues.topic IS NULL"""
            await self.rows(sql, queue, topic, head.last.epoch, seq)
            old = await self.value("SELECT topic FROM queues WHERE name = $1", queue)
        if old is not None and old != topic:
            raise Conflict(f"queue {queue!r} is fed by topic {old!r}")
        self.stir(queue)

    async def seek(self, queue: str, after: Offset) -> None:
        """See `Leases.seek`."""
        topic = await self.value("SELECT topic FROM queues WHERE name = $1", queue)
        if not topic:
            raise no_topic(f"that feeds {queue}")
        head = await self.head(topic)
        seq = start(topic, after, head.first, head.last)
        sql = """WITH q AS (UPDATE queues SET epoch = $2, cursor = $3 WHERE name = $1 RETURNING id)
                 DELETE FROM items WHERE queue = (SELECT id FROM q) AND state < 3"""
        await self.rows(sql, queue, head.last.epoch, seq)
        self.stir(queue)

    async def put(self, queue: str, items: Sequence[Item]) -> list[bool]:
        """See `Leases.put`."""
        if not items:
            return []
        return await self.puts.add((queue, items), sum(len(item.body) + 64 for item in items))

    async def put_group(self, calls: Sequence[tuple[str, Sequence[Item]]]) -> list[Any]:
        """Items of many callers."""
        flat = [(queue, item) for queue, items in calls for item in items]
        args = ([queue for queue, _ in flat], [item.id for _, item in flat], [bytes(item.body) for _, item in flat],
                [float(item.due) for _, item in flat], [item.priority for _, item in flat])  # fmt: skip
        try:
            added = {tuple(row) for row in await self.rows(PUT, *args, safe=False)}
        except StoreError as error:
            if error.side == "peer" and len(calls) > 1:
                return await _each(self.put_group, calls)
            raise
        answers, stirred = [], set()
        for queue, items in calls:
            answer = []
            for item in items:
                new = (queue, item.id) in added
                added.discard((queue, item.id))
                answer.append(new)
                if new:
                    stirred.add(queue)
            answers.append(answer)
        self.stir(*stirred)
        return answers

    async def claim(self, queue: str, n: int, ttl: float, owner: str) -> list[Lease]:
        """See `Leases.claim`."""
        if n < 1:
            return []
        rows = await self.rows("SELECT * FROM fl_claim($1, $2, $3)", queue, n, ttl, safe=False)
        if rows and rows[0]["gap"]:
            epoch, first, last = rows[0]["epoch"], rows[0]["fence"], rows[0]["seq"]
            text = f"queue {queue!r}: events up to {Offset(epoch, first)} are gone; it goes on after them"
            raise Gap(text, Offset(epoch, first), Offset(epoch, last))
        return [_lease(queue, row) for row in sorted(rows, key=lambda row: (-row["priority"], row["ord"]))]

    async def extend(self, leases: Sequence[tuple[str, str, int]], ttl: float) -> list[bool]:
        """See `Leases.extend`."""
        found = {tuple(row) for row in await self.rows(EXTEND, *_columns(leases), ttl)} if leases else set()
        return [lease in found for lease in leases]

    async def ack(self, leases: Sequence[tuple[str, str, int]]) -> list[bool]:
        """See `Leases.ack`."""
        return await self.acks.add(leases) if leases else []

    async def ack_group(self, calls: Sequence[Sequence[tuple[str, str, int]]]) -> list[list[bool]]:
        """Acknowledgements of many."""
        flat = [lease for leases in calls for lease in leases]
        found = {tuple(row) for row in await self.rows(ACK, *_columns(flat), safe=False)}
        answers = []
        for leases in calls:
            answers.append([lease in found for lease in leases])
            found.difference_update(leases)
        return answers

    async def nack(self, queue: str, item: str, fence: int, delay: float, reason: str, body: bytes | None) -> None:
        """See `Leases.nack`."""
        if await self.value(NACK, queue, item, fence, float(delay), body, safe=False) is None:
            raise fenced(queue, item)
        self.stir(queue)

    async def term(self, queue: str, item: str, fence: int, reason: str) -> None:
        """See `Leases.term`."""
        reason = reason.replace("\0", "\N{REPLACEMENT CHARACTER}")
        if not await self.value("SELECT fl_term($1, $2, $3, $4)", queue, item, fence, reason, safe=False):
            raise fenced(queue, item)

    async def dead(self, queue: str, after: str, limit: int) -> list[Dead]:
        """See `Leases.dead`."""
        sql = """SELECT i.id, coalesce(i.body, ''), i.attempt, i.reason, i.at, i.epoch, i.seq FROM items i JOIN queues q ON q.id = i.queue
                 WHERE q.name = $1 AND i.state = 3 AND ($2 = '' OR i.ord > (
                   SELECT o.ord FROM items o WHERE o.queue = q.id AND o.id = $2 AND o.state = 3)) ORDER BY i.ord LIMIT $3"""
        rows = await self.rows(sql, queue, after, limit)
        return [Dead(*row[:5], Offset(row[5], row[6]) if row[6] is not None else None) for row in map(tuple, rows)]

    async def redrive(self, queue: str, ids: Sequence[str] | None) -> int:
        """See `Leases.redrive`."""
        done = len(await self.rows(REDRIVE, queue, None if ids is None else list(ids), safe=False))
        if done:
            self.stir(queue)
        return done

    async def remove(self, queue: str, ids: Sequence[str]) -> list[bool]:
        """See `Leases.remove`."""
        sql = "DELETE FROM items i USING queues q WHERE q.name = $1 AND i.queue = q.id AND i.id = ANY ($2) RETURNING i.id"
        gone = {row[0] for row in await self.rows(sql, queue, list(ids), safe=False)}
        return [one in gone for one in ids]

    async def drop(self, queue: str) -> bool:
        """See `Leases.drop`."""
        sql = """WITH gone AS (DELETE FROM queues WHERE name = $1 RETURNING id),
                 rest AS (DELETE FROM items WHERE queue IN (SELECT id FROM gone)) SELECT count(*) FROM gone"""
        return bool(await self.value(sql, queue, safe=False))

    async def depth(self, queue: str) -> Depth:
        """See `Leases.depth`."""
        ready, delayed, leased, dead, oldest, fed = await self.row(DEPTH, queue)
        row = await self.row(UNREAD, queue)
        unread, since = tuple(row) if row is not None else (0, None)
        waiting = [one for one in (oldest, since) if one is not None]
        return Depth(queue, ready + unread, delayed, leased, dead, min(waiting, default=None), fed + unread)

    async def queues(self, prefix: str) -> list[str]:
        """See `Leases.queues`."""
        sql = f"SELECT name FROM queues WHERE {RANGE.format('name')} ORDER BY name"
        return [row[0] for row in await self.rows(sql, "", prefix, above(prefix))]

    async def next_due(self, queue: str) -> float | None:
        """See `Leases.next_due`."""
        sql = "SELECT min(i.at) FROM items i JOIN queues q ON q.id = i.queue WHERE q.name = $1 AND i.state < 3"
        due, row = await self.value(sql, queue), await self.row(UNREAD, queue)
        return min((one for one in (due, row[1] if row is not None else None) if one is not None), default=None)

    # ---- keys

    async def get(self, key: str) -> Entry | None:
        """See `State.get`."""
        sql = """SELECT value, version, expires, due FROM entries WHERE key = $1 AND (expires IS NULL OR expires > fl_now())"""
        row = await self.row(sql, key)
        return Entry(*row) if row is not None else None

    async def put_if(self, key: str, value: bytes, version: int | None, ttl: float | None, due: float | None) -> Entry:
        """See `State.put_if`."""
        if "\0" in key:
            raise StoreError("PostgreSQL keeps no NUL in keys", side="peer", status=400)
        return await self.keys.add((key, bytes(value), version, ttl, due), len(value) + 64)

    async def key_group(self, calls: Sequence[Any]) -> list[Any]:
        """Keys of many, in the order of their names."""
        order = sorted(range(len(calls)), key=lambda n: calls[n][0].encode())
        chosen = [calls[n] for n in order]
        args = ([c[0] for c in chosen], [purpose_of(c[0]) for c in chosen], [c[1] for c in chosen], [c[2] for c in chosen],
                [c[3] for c in chosen], [c[4] for c in chosen])  # fmt: skip
        try:
            rows = await self.rows("SELECT * FROM fl_put_if($1, $2, $3, $4, $5, $6)", *args, safe=False)
        except StoreError as error:
            if error.side == "peer" and len(calls) > 1:
                return await _each(self.key_group, calls)
            raise
        answers: list[Any] = [None] * len(calls)
        for n, call, row in zip(order, chosen, rows):
            entry = Entry(*row[2:]) if row[3] is not None else None
            answers[n] = entry if row[1] else changed(call[0], entry)
        return answers

    async def delete_if(self, key: str, version: int | None) -> bool:
        """See `State.delete_if`."""
        sql = """WITH old AS (SELECT value, version, expires, due FROM entries WHERE key = $1
                   AND (expires IS NULL OR expires > fl_now()) FOR UPDATE),
                 gone AS (DELETE FROM entries WHERE key = $1 AND ($2::bigint IS NULL OR version = $2) RETURNING version)
                 SELECT old.*, gone.version FROM old LEFT JOIN gone ON true"""
        row = await self.row(sql, key, version, safe=False)
        if row is None:
            return False
        if row[4] is None:
            raise changed(key, Entry(*row[:4]))
        return True

    async def scan(self, prefix: str, after: str, limit: int) -> list[tuple[str, Entry]]:
        """See `State.scan`."""
        sql = f"""SELECT key, value, version, expires, due FROM entries WHERE {RANGE.format("key")}
                  AND (expires IS NULL OR expires > fl_now()) ORDER BY key LIMIT $4"""
        rows = await self.rows(sql, after, prefix, above(prefix), limit)
        return [(row[0], Entry(*row[1:])) for row in map(tuple, rows)]

    async def scan_due(self, prefix: str, limit: int) -> list[tuple[str, Entry]]:
        """See `State.scan_due`."""
        purpose, slash, _ = prefix.partition("/")
        which = "purpose = $5" if slash else "purpose >= $5"
        sql = f"""SELECT key, value, version, expires, due FROM entries WHERE {which} AND due <= fl_now()
                  AND {RANGE.format("key")} AND (expires IS NULL OR expires > fl_now()) ORDER BY due, key LIMIT $4"""
        rows = await self.rows(sql, "", prefix, above(prefix), limit, purpose + slash if slash else "")
        return [(row[0], Entry(*row[1:])) for row in map(tuple, rows)]

    # ---- hints

    async def listening(self, line: asyncpg.Connection) -> None:
        """A connection that hears the other nodes."""
        await line.add_listener(self.schema, self.heard)
        self.pid = line.get_server_pid()
        self.poll_now.set()  # what came while nobody listened

    async def listen(self) -> None:
        """Keeps one connection that listens, whatever happens to it."""
        pause = FIRST
        while True:
            try:
                line = await self.bell_lines.ask(_itself, True)
                pause = FIRST
                gone = asyncio.Event()
                line.add_termination_listener(lambda _, gone=gone: gone.set())
                if not line.is_closed():
                    await gone.wait()
            except StoreError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST)

    async def ring(self, bells: Sequence[Any]) -> list[None]:
        """Tell the other nodes what happened here, in as few NOTIFYs as it fits in. Who rings need not be told that it failed."""
        topics = {name: list(last) for kind, name, last in bells if kind == "t"}
        queues = {name for kind, name, _ in bells if kind == "q"}
        payloads, room, said = [], PAYLOAD, []
        for one in [("t", name, *last) for name, last in topics.items()] + [("q", name) for name in queues]:
            size = len(json.dumps(one)) + 2
            if size > room and said:
                payloads.append(json.dumps(said))
                room, said = PAYLOAD, []
            room -= size
            said.append(one if size < PAYLOAD else ("*",))
        payloads.append(json.dumps(said))
        sql = "SELECT pg_notify($1, p) FROM unnest($2::text[]) p"
        try:
            await self.bell_lines.ask(lambda line: line.fetch(sql, self.schema, payloads), True)
        except StoreError:
            log.debug("hints could not be sent; the other nodes poll")
        return [None] * len(bells)

    def heard(self, _: Any, pid: int, channel: str, payload: str) -> None:
        """Another node says."""
        if pid == self.pid:
            return
        try:
            for kind, *what in json.loads(payload):
                if kind == "t":
                    self.ahead(what[0], Offset(what[1], what[2]))
                elif kind == "q":
                    self.tell((), [what[0]])
                else:
                    self.poll_now.set()
        except (ValueError, TypeError, IndexError):
            self.poll_now.set()

    def ahead(self, topic: str, last: Offset) -> None:
        """A topic's newest offset as somebody else says it."""
        if topic in self.minded["topic"] and self.known.get(topic, Offset(0, 0)) < last:
            self.known[topic] = last
            self.tell([(topic, last, list)], ())
        if self.minded["queue"]:
            self.poll_now.set()  # it may feed one of them

    # ---- what goes on by itself

    async def tend(self) -> None:
        """Sweeps, polls, and watches the server's clock."""
        before, polled, swept = await self.try_now(), 0.0, 0.0
        sample: tuple[float, float, float] | None = None
        while True:
            try:
                await asyncio.wait_for(self.poll_now.wait(), SWEEP)
            except TimeoutError:
                pass
            asked, whole = self.poll_now.is_set(), passed() - polled >= POLL
            self.poll_now.clear()
            try:
                sample = await self.watch_clock(sample)
                now = await self.now()
                if asked or whole:
                    polled = passed()
                    await self.poll_topics()
                if self.minded["queue"]:
                    names = list(self.minded["queue"])
                    self.tell((), [row[0] for row in await self.rows(BECAME, names, before, now, asked or whole)])
                before = now
                if passed() - swept >= SWEEP:
                    swept = passed()
                    while await self.value("SELECT fl_sweep($1)", DEDUPE_WINDOW):
                        await asyncio.sleep(0)
            except StoreError as error:
                log.debug("the store's sweep failed: %s", error)
                await asyncio.sleep(SWEEP)

    async def try_now(self) -> float:
        """The time, 0 when the server is away."""
        try:
            return await self.now()
        except StoreError:
            return 0.0

    async def poll_topics(self) -> None:
        """What a lost hint would have said."""
        if self.minded["topic"]:
            sql = "SELECT name, epoch, last FROM topics WHERE name = ANY ($1)"
            for name, epoch, last in await self.rows(sql, list(self.minded["topic"])):
                if name in self.minded["topic"] and self.known.get(name, Offset(0, 0)) < (epoch, last):
                    self.known[name] = Offset(epoch, last)
                    self.tell([(name, Offset(epoch, last), list)], ())

    async def watch_clock(self, before: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        """Sees the server's clock jump against what passed here, and corrects it for all nodes; the first who sees it does."""
        begun = passed()
        row = await self.row("SELECT extract(epoch FROM clock_timestamp())::float8, shift FROM clock")
        ended = passed()
        if row is None or ended - begun > JUMP / 4:
            return before
        raw, shift = row
        if before is not None and before[2] == shift:
            jump = (raw - before[0]) - (begun - before[1])
            if abs(jump) > JUMP:
                log.warning("the server's clock jumped by %.1f s; leases and expiry do not follow", jump)
                await self.rows("UPDATE clock SET shift = shift - $1 WHERE shift = $2", jump, shift)
                return None
        return raw, begun, shift


async def _each(work: Callable[[Sequence[Any]], Awaitable[Sequence[Any]]], calls: Sequence[Any]) -> list[Any]:
    """One of a group cannot be kept: each alone, so that it costs the others nothing."""
    answers: list[Any] = []
    for call in calls:
        try:
            answers += await work([call])
        except StoreError as error:
            answers.append(error)
    return answers


async def _itself(line: asyncpg.Connection) -> asyncpg.Connection:
    """The connection."""
    return line


def _columns(leases: Iterable[tuple[str, str, int]]) -> tuple[list[str], list[str], list[int]]:
    """Leases as arrays."""
    some = list(leases)
    return [one[0] for one in some], [one[1] for one in some], [one[2] for one in some]


def _arrays(calls: Sequence[Call]) -> tuple[list[Any], ...]:
    """Appends as `fl_append` takes them."""
    each = [
        [c.topic for c in calls],
        [c.producer.id if c.producer else None for c in calls],
        [c.producer.epoch if c.producer else None for c in calls],
        [c.producer.seq if c.producer else None for c in calls],
        [c.dedupe or None for c in calls],
        [c.close for c in calls],
        [config_text(c.create) if c.create is not None else None for c in calls],
        [c.after.epoch if c.after is not None else None for c in calls],
        [c.after.seq if c.after is not None else None for c in calls],
        [len(c.events) for c in calls],
        [sum(len(e.data) for e in c.events) for c in calls],
    ]
    flat = [(n, place, e) for n, c in enumerate(calls, 1) for place, e in enumerate(c.events, 1)]
    events = [
        [n for n, _, _ in flat],
        [place for _, place, _ in flat],
        [bytes(e.data) for _, _, e in flat],
        [e.type for _, _, e in flat],
        [e.key for _, _, e in flat],
        [json.dumps(dict(e.headers)) if e.headers else "" for _, _, e in flat],
    ]
    return (*each, *events)


def _appended(call: Call, found: list[Any]) -> Any:
    """What the database said of one append, as an answer or an error."""
    word = found[0]
    if word == "ok":
        return Appended(Offset(found[1], found[2]), found[3], found[4], found[5])
    if word == "none":
        return no_topic(call.topic)
    if word == "closed":
        return closed(call.topic, Offset(found[1], found[2]))
    if word == "moved":
        return moved(call.topic, Offset(found[1], found[2]))
    producer = call.producer
    assert producer is not None
    if word == "stale":
        text = f"producer {producer.id!r} has a newer epoch, {found[1]}; {producer.epoch} may append no more"
        return StaleProducer(text, found[1])
    text = f"producer {producer.id!r} epoch {producer.epoch}: seq {found[1]} is next, not {producer.seq}"
    return ProducerGap(text, found[1], producer.seq, found[2])


def _lease(queue: str, row: Any) -> Lease:
    """A row of `fl_claim`."""
    offset = Offset(row["epoch"], row["seq"]) if row["seq"] is not None else None
    event = None
    if offset is not None and row["event_data"] is not None:
        headers = json.loads(row["event_headers"]) if row["event_headers"] else {}
        event = Event(row["seq"], row["event_data"], row["event_type"], row["event_key"], row["event_at"], headers)
    body = row["body"] if row["body"] is not None else event.data if event is not None else b""
    return Lease(queue, row["id"], row["fence"], row["attempt"], body, row["until"], event, offset)


def make(url: str, ack: Ack | None = None) -> Postgres:
    """See `store.open`. `?schema=` and `?pool=` are ours, the other options the driver's."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    schema, pool = options.pop("schema", "fairlead"), options.pop("pool", str(POOL))
    if not pool.isdigit() or not int(pool):
        raise StoreError(f"?pool={pool}: write a number of connections, such as {POOL}")
    dsn = urlunsplit(parts._replace(query=urlencode(options)))
    return Postgres(dsn, ack, schema, int(pool))
