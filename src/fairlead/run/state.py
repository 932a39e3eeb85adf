"""What outlives a plan inside one worker: apps, upstreams with their pools and health, TLS contexts. Keyed by what
they are.

Rules
1. A new plan is built whole before the old one is let go: `begin`, then `take(key, make)` for everything it needs, then
   `commit` (what nobody took is given back, to be closed by the caller) or `abort` (what was newly made is).
2. The key says everything that the thing is made of. A changed key is another thing; an equal one is the same, warm.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any


class State:
    """Things by key, in two generations while a plan is being built."""

    def __init__(self) -> None:
        self.kept: dict[Hashable, Any] = {}
        self.next: dict[Hashable, Any] | None = None

    def begin(self) -> None:
        """Start a generation."""
        self.next = {}

    def take(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The thing of this key: from this generation, from the last one, or made now."""
        assert self.next is not None, "take outside of begin and commit"
        if key not in self.next:
            self.next[key] = self.kept[key] if key in self.kept else make()
        return self.next[key]

    def commit(self) -> list[Any]:
        """The new generation holds; what is in the old one only is returned."""
        assert self.next is not None
        gone = [thing for key, thing in self.kept.items() if key not in self.next]
        self.kept, self.next = self.next, None
        return gone

    def abort(self) -> list[Any]:
        """The old generation stays; what was made for the new one is returned."""
        made = [thing for key, thing in (self.next or {}).items() if key not in self.kept]
        self.next = None
        return made
