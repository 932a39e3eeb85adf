"""Keys in PostgreSQL. See `pgsql` for the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from .contract import Entry, StoreError
from .groups import Group, each
from .pgleases import PgLeases
from .pglines import Lines
from .pglog import RANGE
from .rules import changed
from .sqlfile import above
from .sqlread import purpose_of


class PgState(PgLeases):
    """The words of `State`."""

    def __init__(self, lines: Lines, writer: Lines) -> None:
        super().__init__(lines, writer)
        self.keys = Group(self.key_group)


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
            rows = await self.once("SELECT * FROM fl_put_if($1, $2, $3, $4, $5, $6, $7, $8)", *args)
        except StoreError as error:
            if error.side == "peer" and len(calls) > 1:
                return await each(self.key_group, calls)
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

        async def work(line: asyncpg.Connection) -> bool:
            row = await line.fetchrow(sql, key, version)
            if row is not None and row[4] is None:
                raise changed(key, Entry(*row[:4]))
            return row is not None

        return await self.piece(work)

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
