"""The embedded store's core: keys, numbers, the sweep, and transactions of many calls.

`run` does a whole group of calls in one transaction, which is one sync of the disk. A call that the contract refuses (a
conflict, no such topic) is an answer like another, and the group goes on. When SQLite itself fails, the transaction is rolled
back and what was cached forgotten; if the disk is at fault all of the group fail, else each is tried alone, so that one bad call
costs no other.

Calls from other processes are answered once, whatever crashes: see `journal`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from .clock import Clock
from .contract import Entry, StoreError
from .journal import Answer, Call, Journal
from .rules import changed
from .sqlfile import trouble
from .sqlleases import SqlLeases
from .sqlpairs import CHANGE, MAKE, SqlPairs
from .sqlread import purpose_of

LATE = 3600.0  # seconds for which the answers of a caller that is gone are kept
DISK = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_CANTOPEN")


class SqlCore(SqlLeases, SqlPairs):
    """All words of the contract over one connection, and their transactions. Belongs to one thread at a time."""

    def __init__(self, db: sqlite3.Connection, path: str, clock: Clock) -> None:
        super().__init__(db, clock)
        self.path = path
        # Above every number given before, also by an owner whose clock had run some moments beyond what it wrote down.
        self.counter = int((clock.now() + 2.0) * 1e6)
        self.changes = db.total_changes
        self.journal = Journal(db)

    def number(self) -> int:
        """A number above all that were given before: versions, fences, orders."""
        self.counter += 1
        return self.counter

    def put_if(self, key: str, value: bytes, version: int | None, ttl: float | None, due: float | None) -> Entry:
        """See `State.put_if`. What fits is one statement; what does not is looked at."""
        now = self.clock.now()
        expires = now + ttl if ttl is not None else None
        entry = Entry(bytes(value), self.number(), expires, due)
        if version == 0:
            if self.db.execute(MAKE, (key, purpose_of(key), entry.version, expires, due, entry.value)).rowcount == 1:
                return entry
        elif version is not None:
            if self.db.execute(CHANGE, (entry.value, entry.version, expires, due, key, version, now)).rowcount == 1:
                return entry
        if version is not None:
            old = self.get(key)
            if version != (old.version if old is not None else 0):
                raise changed(key, old)
        sql = "INSERT OR REPLACE INTO entries (key, purpose, version, expires, due, value) VALUES (?, ?, ?, ?, ?, ?)"
        self.db.execute(sql, (key, purpose_of(key), entry.version, expires, due, entry.value))
        return entry

    def delete_if(self, key: str, version: int | None) -> bool:
        """See `State.delete_if`."""
        old = self.get(key)
        if old is not None and version is not None and version != old.version:
            raise changed(key, old)
        self.db.execute("DELETE FROM entries WHERE key = ?", (key,))
        return old is not None

    def greet(self, caller: str) -> int:
        """Up to which number this caller's calls are done."""
        return self.journal.load(caller)

    def leave(self, caller: str) -> None:
        """The caller has gone for good."""
        self.journal.leave(caller)

    # ---- transactions

    def run(self, calls: Sequence[Call]) -> list[Answer]:
        """All of them in one transaction, which is one sync; their answers."""
        try:
            self.db.execute("BEGIN IMMEDIATE")
            answers = [self.one_call(call) for call in calls]
            self.flush()
            self.journal.write(calls, answers, self.clock.now())
            self.db.execute("COMMIT")
            return answers
        except Exception as error:
            self.undo()
            disk = isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorname", "").startswith(DISK)
            if len(calls) > 1 and not disk:
                return [self.run([call])[0] for call in calls]
            return [Answer(None, self.failure(error))] * len(calls)

    def failure(self, error: Exception) -> StoreError:
        """What went wrong, as an error of ours. A value that SQLite cannot take (a lone surrogate) is its sender's fault."""
        if isinstance(error, sqlite3.Error):
            return trouble(self.path, error)
        theirs = isinstance(error, (ValueError, TypeError, OverflowError))
        failed = StoreError(
            f"{type(error).__name__}: {error}", side="peer" if theirs else "us", status=400 if theirs else 500
        )
        failed.__cause__ = error
        return failed

    def one_call(self, call: Call) -> Answer:
        """One call inside the transaction, unless it was done before a crash."""
        word, args, origin = call
        if origin is not None:
            known = self.journal.known(origin)
            if known is not None:
                return known
        try:
            if word != "append":
                self.flush()
            return Answer(getattr(self, word)(*args))
        except StoreError as error:
            return Answer(None, error)

    def undo(self) -> None:
        """The transaction failed."""
        try:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            self.stirred.clear()
            self.journal.forget()
            self.forget()
            self.find_fed()
        except sqlite3.Error:
            self.cache.clear()

    def sweep(self) -> bool:
        """Forget what is over; True when there is more to do at once. Writes nothing when there was nothing."""
        now = self.clock.now()
        more = self.sweep_log()
        self.sweep_leases()
        self.db.execute("DELETE FROM entries WHERE expires <= ?", (now,))
        if self.db.total_changes != self.changes:
            self.db.execute("DELETE FROM callers WHERE at < ?", (now - LATE,))
            self.set_meta("clock", now)
            self.changes = self.db.total_changes
        return more
