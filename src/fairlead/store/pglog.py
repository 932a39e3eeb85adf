"""Topics in PostgreSQL: appends of many callers in one statement, reads of one moment. See `pgsql` for the tables."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import asyncpg

from .contract import (
    Appended,
    Batch,
    Event,
    Head,
    NewEvent,
    Offset,
    Producer,
    ProducerGap,
    StaleProducer,
    StoreError,
    TopicConfig,
)
from .groups import Group, each
from .pglines import FIRST, Lane, Lines, PgAsker
from .rules import DEDUPE_WINDOW, closed, moved, no_topic, other_config, stale_use, start
from .sqlfile import above
from .sqlread import config_text, head_of

HELD = 30.0  # seconds for which a group of appends is sent again and again
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


class Call:
    """One append as it waits for its group."""

    __slots__ = ("after", "close", "create", "dedupe", "events", "producer", "topic")

    def __init__(self, topic: str, events: Sequence[NewEvent], producer: Producer | None, dedupe: str, close: bool,
                 create: TopicConfig | None, after: Offset | None) -> None:  # fmt: skip
        self.topic, self.events, self.producer, self.dedupe = topic, events, producer, dedupe
        self.close, self.create, self.after = close, create, after


class PgLog(PgAsker):
    """The words of `Log`."""

    def __init__(self, lines: Lines, writer: Lines) -> None:
        super().__init__(lines)
        self.writer = writer
        self.number = 0
        self.appends = Group(self.append_group)

    def told(self, news: dict[str, tuple[Offset, list[Event]]]) -> None:
        """Something was appended here."""
        raise NotImplementedError


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
                    return await each(self.append_group, calls)
                if error.retry != "always" or error.status != 503 or loop.time() > deadline:
                    raise
                await asyncio.sleep(FIRST)
        answers: list[Any] = [None] * len(calls)
        news: dict[str, tuple[Offset, list[Event]]] = {}
        for n, call, found in zip(order, sorted_calls, json.loads(text)):
            answers[n] = _appended(call, found)
            if found[0] == "ok" and not found[4] and (call.events or call.close):
                _, events = news.setdefault(call.topic, (answers[n].last, []))
                events += [Event(found[6] + place, bytes(e.data), e.type, e.key, found[7], dict(e.headers))
                           for place, e in enumerate(call.events, 1)]  # fmt: skip
                news[call.topic] = (answers[n].last, events)
        if news:
            self.told(news)
        return answers

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
            made = await self.numbered(partial(self.make, topic, config, events, close))
            if made is not None:
                if events or close:
                    self.told({topic: (made.last, [])})
                return made, True

    async def make(self, topic: str, config: TopicConfig, events: Sequence[NewEvent], close: bool,
                   line: asyncpg.Connection, lane: Lane) -> Head | None:  # fmt: skip
        """The topic with its first events, in one transaction; None when somebody else made it."""
        async with line.transaction():
            if await line.fetchval("SELECT fl_before($1, $2)", lane.name, lane.number) is None:
                now = await line.fetchval("SELECT fl_now()")
                if await line.fetchval("SELECT (fl_topic($1, $2)).id", topic, now) is not None:
                    return None
                if await line.fetchval("SELECT (fl_make($1, $2, $3)).id", topic, config_text(config), now) is None:
                    return None
                if config.expires is not None and config.expires <= now:  # over already
                    await line.execute("SELECT fl_after($1, $2, '')", lane.name, lane.number)
                else:
                    args = (lane.name, lane.number, *_arrays([Call(topic, events, None, "", close, None, None)]), DEDUPE_WINDOW)
                    await line.fetchval(f"SELECT fl_append({', '.join(f'${n}' for n in range(1, len(args) + 1))})", *args)
            row = await line.fetchrow(f"SELECT {HEAD} FROM topics WHERE name = $1", topic)
            return head_of(tuple(row)) if row is not None else None

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

        return await self.lines.ask(work)

    async def delete(self, topic: str) -> bool:
        """See `Log.delete`."""
        sql = """SELECT fl_erase(t) IS NOT NULL AND (t.gone IS NULL OR t.gone > fl_now())
                 FROM (SELECT * FROM topics WHERE name = $1 FOR UPDATE) t"""
        return any(row[0] for row in await self.changed(sql, topic))

    async def touch(self, topic: str) -> None:
        """A read that somebody else did was a use of the topic."""
        await self.rows("UPDATE topics SET used = fl_now(), gone = least(expires, fl_now() + ttl) WHERE name = $1", topic)

    async def topics(self, prefix: str, after: str, limit: int) -> list[Head]:
        """See `Log.topics`."""
        sql = f"SELECT {HEAD} FROM topics WHERE {RANGE.format('name')} AND {ALIVE} ORDER BY name LIMIT $4"
        return [head_of(tuple(row)) for row in await self.rows(sql, after, prefix, above(prefix), limit)]


def _arrays(calls: Sequence[Call]) -> tuple[list[Any], ...]:
    """Appends as `fl_append` takes them."""
    one: list[list[Any]] = [
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
    events: list[list[Any]] = [
        [n for n, _, _ in flat],
        [place for _, place, _ in flat],
        [bytes(e.data) for _, _, e in flat],
        [e.type for _, _, e in flat],
        [e.key for _, _, e in flat],
        [json.dumps(dict(e.headers)) if e.headers else "" for _, _, e in flat],
    ]
    return (*one, *events)


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
