"""Items and keys at once in PostgreSQL: each word of `pairs` is one statement for all who call it meanwhile, and one commit."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Sequence
from typing import Any

from .contract import Entry, Lease, StoreError
from .groups import Group, each
from .pglines import Lines
from .pgstate import PgState
from .sqlread import purpose_of

TRIES = 5  # for a key that somebody else makes or forgets meanwhile


class PgPairs(PgState):
    """The words of `pairs`."""

    def __init__(self, lines: Lines, writer: Lines) -> None:
        super().__init__(lines, writer)
        self.enqueues, self.settles = Group(self.enqueue_group), Group(self.settle_group)

    def enqueue(self, calls: Sequence[Any]) -> Awaitable[list[Any]]:
        """See `pairs`."""
        return self.enqueues.add(calls, sum(len(call[6]) + 128 for call in calls))

    async def enqueue_group(self, groups: Sequence[Sequence[Any]]) -> list[Any]:
        """Those of many callers."""
        flat = [call for calls in groups for call in calls]
        try:
            answers = iter(await self.enqueue_all(flat))
        except StoreError as error:
            if error.side == "peer" and len(groups) > 1:
                return await each(self.enqueue_group, groups)
            raise
        return [[next(answers) for _ in calls] for calls in groups]

    async def enqueue_all(self, calls: Sequence[Any]) -> list[Any]:
        """The new versions, or what is there."""
        answers: list[Any] = [None] * len(calls)
        left = sorted(range(len(calls)), key=lambda n: calls[n][5].encode())
        for _ in range(TRIES):
            some = [calls[n] for n in left]
            columns: list[list[Any]] = [list(column) for column in zip(*some)]
            keys = columns[5]
            columns.insert(6, [purpose_of(key) for key in keys])
            told = await self.once("SELECT fl_enqueue($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)", *columns)
            made = dict(json.loads(told[0][0]))
            self.stir(*{call[0] for call in some if call[5] in made})
            later = []
            for n in left:
                answers[n] = made.pop(calls[n][5], None)
                if answers[n] is None:
                    later.append(n)
            if not later:
                break
            there = await self.entries([calls[n][5] for n in later])
            answers = [[there[calls[n][5]]] if n in later and calls[n][5] in there else answer for n, answer in enumerate(answers)]
            left = [n for n in later if answers[n] is None]  # it has expired
            if not left:
                break
            gone = "DELETE FROM entries WHERE key = ANY ($1) AND expires <= fl_now()"
            await self.rows(gone, [calls[n][5] for n in left])
        return [[] if answer is None else answer for answer in answers]

    async def entries(self, keys: Sequence[str]) -> dict[str, Entry]:
        """What these keys hold."""
        sql = """SELECT key, value, version, expires, due FROM entries WHERE key = ANY ($1)
                 AND (expires IS NULL OR expires > fl_now())"""
        return {row[0]: Entry(*row[1:]) for row in map(tuple, await self.rows(sql, keys))}

    async def draw(self, queue: str, n: int, ttl: float, owner: str, prefix: str) -> list[Any]:
        """See `pairs`."""
        if n < 1:
            return []
        rows = await self.once("SELECT * FROM fl_draw($1, $2, $3, $4, $5, $6)", queue, n, ttl, prefix)
        if rows and rows[0]["fed"]:
            leases = await self.claim(queue, n, ttl, owner)
            found = await self.entries([prefix + one.id for one in leases]) if leases else {}
            return [[one, found.get(prefix + one.id)] for one in leases]
        drawn = []
        for _, item, fence, attempt, body, until, value, version, expires, due in map(tuple, rows):
            entry = Entry(value, version, expires, due) if version is not None else None
            drawn.append([Lease(queue, item, fence, attempt, body or b"", until), entry])
        return drawn

    def settle(self, calls: Sequence[Any]) -> Awaitable[list[Any]]:
        """See `pairs`."""
        return self.settles.add(calls, sum(len(call[4]) + 128 for call in calls))

    async def settle_group(self, groups: Sequence[Sequence[Any]]) -> list[Any]:
        """Those of many callers."""
        flat = [call for calls in groups for call in calls]
        columns = [list(column) for column in zip(*flat)]
        try:
            found = await self.once("SELECT fl_settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", *columns)
        except StoreError as error:
            if error.side == "peer" and len(groups) > 1:
                return await each(self.settle_group, groups)
            raise
        answers = await self.outcomes(flat, json.loads(found[0][0]), 3)
        told = iter(answers)
        return [[next(told) for _ in calls] for calls in groups]

    async def outcomes(self, calls: Sequence[Any], rows: Sequence[Any], key: int) -> list[Any]:
        """From (place, whether it is ours, new version) to answers."""
        answers: list[Any] = [None] * len(calls)
        other = []
        for place, ours, version in map(tuple, rows):
            if version is not None:
                answers[place - 1] = version
            elif ours:
                other.append(place - 1)
        found = await self.entries([calls[n][key] for n in other]) if other else {}
        for n in other:
            answers[n] = [found[calls[n][key]]] if calls[n][key] in found else []
        return answers

    async def withdraw(self, calls: Sequence[Any]) -> list[Any]:
        """See `pairs`: rare, so each alone."""
        answers = []
        for queue, item, key, value, version, ttl in calls:
            sql = "SELECT * FROM fl_withdraw($1, $2, $3, $4, $5, $6)"
            rows = await self.changed(sql, queue, item, key, value, version, ttl)
            answers += await self.outcomes([(key,)], rows, 0)
        return answers
