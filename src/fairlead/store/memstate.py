"""Keys in memory: a dictionary, looked through whole. See `contract.State`."""

from __future__ import annotations

from abc import abstractmethod

from .clock import Clock
from .contract import Entry
from .rules import changed


class MemoryState:
    """The words of `State`, done at once."""

    clock: Clock

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    @abstractmethod
    def number(self) -> int:
        """The next number."""

    def get(self, key: str) -> Entry | None:
        """See `State.get`."""
        entry = self.entries.get(key)
        return entry if entry is not None and _alive(entry, self.clock.now()) else None

    def put_if(self, key: str, value: bytes, version: int | None, ttl: float | None, due: float | None) -> Entry:
        """See `State.put_if`."""
        old = self.get(key)
        if version is not None and version != (old.version if old is not None else 0):
            raise changed(key, old)
        expires = self.clock.now() + ttl if ttl is not None else None
        entry = self.entries[key] = Entry(bytes(value), self.number(), expires, due)
        return entry

    def delete_if(self, key: str, version: int | None) -> bool:
        """See `State.delete_if`."""
        old = self.get(key)
        if old is None:
            return False
        if version is not None and version != old.version:
            raise changed(key, old)
        del self.entries[key]
        return True

    def scan(self, prefix: str, after: str, limit: int) -> list[tuple[str, Entry]]:
        """See `State.scan`."""
        now = self.clock.now()
        names = sorted(key for key in self.entries if key.startswith(prefix) and key > after)
        return [(key, self.entries[key]) for key in names if _alive(self.entries[key], now)][:limit]

    def scan_due(self, prefix: str, limit: int) -> list[tuple[str, Entry]]:
        """See `State.scan_due`."""
        now = self.clock.now()
        found = [
            (entry.due, key, entry)
            for key, entry in self.entries.items()
            if entry.due is not None and entry.due <= now and key.startswith(prefix) and _alive(entry, now)
        ]
        found.sort(key=lambda one: one[:2])
        return [(key, entry) for _, key, entry in found[:limit]]

    def sweep_state(self) -> None:
        """Drop what has expired."""
        now = self.clock.now()
        for key in [key for key, entry in self.entries.items() if not _alive(entry, now)]:
            del self.entries[key]


def _alive(entry: Entry, now: float) -> bool:
    """Whether its time is not over."""
    return entry.expires is None or entry.expires > now
