"""The words of `pairs` in the embedded store, in as few statements as they take."""

from __future__ import annotations

from typing import Any

from .contract import Item
from .pairs import PairWords
from .sqlread import purpose_of

MAKE = """INSERT INTO entries (key, purpose, version, expires, due, value) VALUES (?, ?, ?, ?, ?, ?)
          ON CONFLICT (key) DO NOTHING"""
CHANGE = """UPDATE entries SET value = ?, version = ?, expires = ?, due = ?
            WHERE key = ? AND version = ? AND (expires IS NULL OR expires > ?)"""


class SqlPairs(PairWords):
    """The same as `PairWords`, whose looks before a change are for what is unusual."""

    def enqueue_one(
        self: Any, queue: str, item: str, body: bytes, at: float, priority: int, key: str, value: bytes, due: float | None
    ) -> Any:
        """See `PairWords`."""
        version: int = self.number()
        if self.db.execute(MAKE, (key, purpose_of(key), version, None, due, value)).rowcount != 1:
            return PairWords.enqueue_one(self, queue, item, body, at, priority, key, value, due)
        self.put(queue, (Item(item, body, at, priority),))
        return version

    def settle_one(
        self: Any, queue: str, item: str, fence: int, key: str, value: bytes, version: int, ttl: float | None, done: bool
    ) -> Any:
        """See `PairWords`."""
        if (number := self.held(queue, item, fence)) is None:
            return None
        made, now = self.number(), self.clock.now()
        expires = now + ttl if ttl is not None else None
        if self.db.execute(CHANGE, (value, made, expires, None, key, version, now)).rowcount != 1:
            old = self.get(key)
            return [] if old is None else [old]
        if done:
            self.db.execute("DELETE FROM items WHERE queue = ? AND id = ?", (number, item))
        return made
