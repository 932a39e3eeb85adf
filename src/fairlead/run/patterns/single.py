"""`single`: one worker accepts, reads and runs the app, on one socket per address. The model of Node.js and uvicorn."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.run.patterns import Pattern, T


class Single(Pattern):
    """One socket, one worker."""

    name = "single"

    def sockets(self, workers: int) -> int:
        return 1

    def share(self, sockets: Sequence[T], index: int, workers: int) -> list[T]:
        return list(sockets)
