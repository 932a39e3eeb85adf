"""Source files that changed since the last look: for `--reload` in development. Looks at times, twice a second; no
dependency.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress

SKIPPED = frozenset(("node_modules", "__pycache__", "site-packages", "build", "dist"))
PAUSE = 0.5  # seconds between two looks
MOST = 20_000  # files looked at; more is not a project but somebody's home


class Files:
    """The Python files below some directories and when each was written."""

    def __init__(self, roots: Iterable[str]) -> None:
        self.roots = sorted({os.path.abspath(root or ".") for root in roots})
        self.times = dict(self.look())

    def look(self) -> Iterator[tuple[str, int]]:
        """(path, modification time in ns) of each file."""
        count = 0
        for root in self.roots:
            for folder, inside, names in os.walk(root):
                inside[:] = [name for name in inside if not name.startswith(".") and name not in SKIPPED]
                for name in names:
                    if name.endswith((".py", ".pyi", ".env")):
                        count += 1
                        with suppress(OSError):
                            path = os.path.join(folder, name)
                            yield path, os.stat(path).st_mtime_ns
                if count > MOST:
                    return

    def changed(self) -> str:
        """The name of a file that is new, gone or written since the last call; "" when there is none."""
        before, self.times = self.times, dict(self.look())
        for path in self.times.keys() | before.keys():
            if self.times.get(path) != before.get(path):
                return os.path.relpath(path)
        return ""

    async def changes(self) -> AsyncIterator[str]:
        """The name of each file that changes, for ever."""
        while True:
            await asyncio.sleep(PAUSE)
            name = self.changed()
            if name:
                yield name
