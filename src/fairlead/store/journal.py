"""Calls from other processes, each done once although the process that does them may be killed at any moment.

A caller (a worker, with a random id) numbers its calls 1, 2, 3 … and sends them in that order; with each it says `seen`: it has the
answers to all calls up to that one. The answers it may still lack are written in the same transaction as what the calls did: one
row for each caller and commit, not one for each call. After a crash the caller sends again what was not answered. What is numbered
up to `done` was done, and is answered from the row; the rest is new. So a retry is no duplicate, for an append, a claim and a
compare-and-set alike, and the answer is the first one's.
"""

from __future__ import annotations

import marshal
import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from .words import pack_answer, unpack_answer


class Answer(NamedTuple):
    """What a call gave: a value, or an error to raise; and how it travels, if that is made already."""

    value: Any = None
    error: BaseException | None = None
    packed: Any = None


class Origin(NamedTuple):
    """Which call of whom this is, and up to which call its answers have arrived."""

    caller: str
    number: int
    seen: int


class Call(NamedTuple):
    """A word, what it is called with, and where it came from (None: from this process)."""

    word: str
    args: tuple[Any, ...]
    origin: Origin | None = None


class Journal:
    """The answers that callers may still lack. `done` and `answers` by caller are what the table holds."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self.done: dict[str, int] = {}
        self.answers: dict[str, dict[int, Any]] = {}

    def load(self, caller: str) -> int:
        """Up to which number this caller's calls are done."""
        if caller not in self.done:
            row = self.db.execute("SELECT done, answers FROM callers WHERE id = ?", (caller,)).fetchone()
            self.done[caller] = row[0] if row is not None else 0
            try:
                self.answers[caller] = marshal.loads(row[1]) if row is not None else {}
            except (ValueError, EOFError, TypeError):  # another Python wrote it: its callers are gone too
                self.answers[caller] = {}
        return self.done[caller]

    def known(self, origin: Origin) -> Answer | None:
        """The answer of a call that was done before."""
        if origin.number > self.load(origin.caller):
            return None
        kept = self.answers[origin.caller].get(origin.number)
        return Answer(*unpack_answer(kept)) if kept is not None else Answer(None, LookupError("answered before"))

    def write(self, calls: Sequence[Call], answers: list[Answer], now: float) -> None:
        """Write down the answers of this transaction, packed in their places, and forget those that have arrived."""
        touched = {}
        for place, (_, _, origin) in enumerate(calls):
            if origin is not None:
                caller, number, touched[caller] = origin
                if number > self.load(caller):
                    value, error, _ = answers[place]
                    packed = pack_answer(value, error)
                    answers[place] = Answer(value, error, packed)
                    self.done[caller] = number
                    self.answers[caller][number] = packed
        for caller, seen in touched.items():
            kept = self.answers[caller] = {n: one for n, one in self.answers[caller].items() if n > seen}
            row = (caller, self.done[caller], marshal.dumps(kept), now)
            self.db.execute("INSERT OR REPLACE INTO callers (id, done, answers, at) VALUES (?, ?, ?, ?)", row)

    def forget(self) -> None:
        """A transaction failed: what is cached may be wrong."""
        self.done.clear()
        self.answers.clear()

    def leave(self, caller: str) -> None:
        """The caller has gone for good."""
        self.done.pop(caller, None)
        self.answers.pop(caller, None)
        self.db.execute("DELETE FROM callers WHERE id = ?", (caller,))
