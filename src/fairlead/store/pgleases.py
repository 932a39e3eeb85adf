"""Queues in PostgreSQL: claims pass over what another node is claiming (SKIP LOCKED). See `pgsql` for the tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from .contract import Conflict, Dead, Depth, Event, Gap, Item, Lease, Offset, StoreError
from .groups import Group, each
from .pglines import Lines
from .pglog import RANGE, PgLog
from .rules import fenced, no_topic, start
from .sqlfile import above

LEASED = """unnest($1::text[], $2::text[], $3::bigint[]) AS u(name, id, fence) JOIN queues q ON q.name = u.name
WHERE i.queue = q.id AND i.id = u.id AND i.fence = u.fence AND u.fence <> 0 AND i.state < 3"""
EXTEND = f"UPDATE items i SET state = 2, at = fl_now() + $4 FROM {LEASED} RETURNING u.name, u.id, u.fence"
NACK = """
UPDATE items i SET state = CASE WHEN $4 > 0 THEN 1 ELSE 0 END, at = n.now + $4, since = n.now + $4, fence = 0, body =
  coalesce($5, body)
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


class PgLeases(PgLog):
    """The words of `Leases`."""

    def __init__(self, lines: Lines, writer: Lines) -> None:
        super().__init__(lines, writer)
        self.puts, self.acks = Group(self.put_group), Group(self.ack_group)

    def stir(self, *queues: str) -> None:
        """These queues have something."""
        raise NotImplementedError

    def newly_fed(self) -> None:
        """Some queue is fed by some topic now."""
        raise NotImplementedError


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
        self.newly_fed()

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
            added = _places(await self.once("SELECT fl_put($1, $2, $3, $4, $5, $6, $7)", *args))
        except StoreError as error:
            if error.side == "peer" and len(calls) > 1:
                return await each(self.put_group, calls)
            raise
        self.stir(*{flat[place - 1][0] for place in added})
        return _shared(calls, [len(items) for _, items in calls], added)

    async def claim(self, queue: str, n: int, ttl: float, owner: str) -> list[Lease]:
        """See `Leases.claim`."""
        if n < 1:
            return []
        rows = await self.once("SELECT * FROM fl_claim($1, $2, $3, $4, $5)", queue, n, ttl)
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
        found = _places(await self.once("SELECT fl_ack($1, $2, $3, $4, $5)", *_columns(flat)))
        return _shared(calls, [len(leases) for leases in calls], found)

    async def nack(self, queue: str, item: str, fence: int, delay: float, reason: str, body: bytes | None) -> None:
        """See `Leases.nack`."""
        if not await self.changed(NACK, queue, item, fence, float(delay), body):
            raise fenced(queue, item)
        self.stir(queue)

    async def term(self, queue: str, item: str, fence: int, reason: str, event: Event | None = None) -> None:
        """See `Leases.term`. `event` is kept when the log has it no more."""
        reason = reason.replace("\0", "\N{REPLACEMENT CHARACTER}")
        kept: tuple[Any, ...] = (None,) * 5
        if event is not None:
            headers = json.dumps(dict(event.headers)) if event.headers else ""
            kept = (event.at, bytes(event.data), event.type, event.key, headers)
        sql = "SELECT fl_term($1, $2, $3, $4, $5, $6, $7, $8, $9)"
        if not (await self.changed(sql, queue, item, fence, reason, *kept))[0][0]:
            raise fenced(queue, item)

    async def dead(self, queue: str, after: str, limit: int) -> list[Dead]:
        """See `Leases.dead`."""
        sql = """SELECT i.id, coalesce(i.body, ''), i.attempt, i.reason, i.at, i.epoch, i.seq FROM items i JOIN queues q ON
          q.id = i.queue
                 WHERE q.name = $1 AND i.state = 3 AND ($2 = '' OR i.ord > (
                   SELECT o.ord FROM items o WHERE o.queue = q.id AND o.id = $2 AND o.state = 3)) ORDER BY i.ord LIMIT $3"""
        rows = await self.rows(sql, queue, after, limit)
        letters: list[Any] = [tuple(row) for row in rows]
        return [Dead(one[0], one[1], one[2], one[3], one[4], Offset(*one[5:]) if one[6] is not None else None) for one in letters]

    async def redrive(self, queue: str, ids: Sequence[str] | None) -> int:
        """See `Leases.redrive`."""
        done = len(await self.changed(REDRIVE, queue, None if ids is None else list(ids)))
        if done:
            self.stir(queue)
        return done

    async def remove(self, queue: str, ids: Sequence[str]) -> list[bool]:
        """See `Leases.remove`."""
        sql = "DELETE FROM items i USING queues q WHERE q.name = $1 AND i.queue = q.id AND i.id = ANY ($2) RETURNING i.id"
        gone = {row[0] for row in await self.changed(sql, queue, list(ids))}
        return [one in gone for one in ids]

    async def drop(self, queue: str) -> bool:
        """See `Leases.drop`."""
        sql = """WITH gone AS (DELETE FROM queues WHERE name = $1 RETURNING id),
                 rest AS (DELETE FROM items WHERE queue IN (SELECT id FROM gone)) SELECT count(*) FROM gone"""
        return (await self.changed(sql, queue))[0][0] > 0

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


def _places(rows: Sequence[Any]) -> set[int]:
    """What `fl_put` and `fl_ack` answer: places in the group, from 1."""
    return set(rows[0][0] or ())


def _shared(calls: Sequence[Any], sizes: Sequence[int], found: set[int]) -> list[list[bool]]:
    """The same for each call, of which each has so many places."""
    answers, place = [], 0
    for size in sizes:
        answers.append([at in found for at in range(place + 1, place + size + 1)])
        place += size
    return answers


def _columns(leases: Iterable[tuple[str, str, int]]) -> tuple[list[str], list[str], list[int]]:
    """Leases as arrays."""
    some = list(leases)
    return [one[0] for one in some], [one[1] for one in some], [one[2] for one in some]


def _lease(queue: str, row: Any) -> Lease:
    """A row of `fl_claim`."""
    offset = Offset(row["epoch"], row["seq"]) if row["seq"] is not None else None
    event = None
    if offset is not None and row["event_data"] is not None:
        headers = json.loads(row["event_headers"]) if row["event_headers"] else {}
        event = Event(row["seq"], row["event_data"], row["event_type"], row["event_key"], row["event_at"], headers)
    body = row["body"] if row["body"] is not None else event.data if event is not None else b""
    return Lease(queue, row["id"], row["fence"], row["attempt"], body, row["until"], event, offset)
