"""Source files that changed since the last look: for `--reload` in development.

Rules
1. What changed is told by the files' times. When to look: as soon as the kernel tells, where the `watchfiles` package is installed;
   else twice a second, with no dependency. A look now and then stays: what changes while the watcher begins is not told.
2. Hidden directories and those of SKIPPED are nobody's source; the watcher wakes for no file in them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress

SKIPPED = frozenset(("node_modules", "__pycache__", "site-packages", "build", "dist"))
SOURCES = (".py", ".pyi", ".env")
PAUSE = 0.5  # seconds between two looks
DEBOUNCE = 200  # ms: an editor that writes several files is done
STEP = 20  # ms
ANYWAY = 1500  # ms: looked at even so, for what changed before the kernel was watching, or where it does not tell (network mounts)
MOST = 20_000  # files looked at; more is not a project but somebody's home
log = logging.getLogger("fairlead")


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
                    if name.endswith(SOURCES):
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
        async for _ in self.occasions():
            name = self.changed()
            if name:
                yield name

    async def occasions(self) -> AsyncIterator[None]:
        """When to look. A watcher that fails (no watches left, a directory that is gone) is replaced by looking now and then."""
        with suppress(ImportError):
            from watchfiles import awatch

            try:
                async for _ in awatch(
                    *self.roots,
                    watch_filter=self.minded,
                    debounce=DEBOUNCE,
                    step=STEP,
                    rust_timeout=ANYWAY,
                    yield_on_timeout=True,
                ):
                    yield
            except (OSError, RuntimeError) as error:
                log.warning("source files are looked at twice a second, since they cannot be watched: %s", error)
        while True:
            await asyncio.sleep(PAUSE)
            yield

    def minded(self, change: object, path: str) -> bool:
        """Is this one of our files?"""
        if not path.endswith(SOURCES):
            return False
        root = next((root for root in self.roots if path.startswith(os.path.join(root, ""))), "")
        folders = os.path.relpath(path, root or os.sep).split(os.sep)[:-1]
        return not any(name.startswith(".") or name in SKIPPED for name in folders)


def code_times() -> dict[str, int]:
    """When each imported source file outside the installation was written."""
    installed = tuple({sys.prefix, sys.base_prefix, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))})
    found = {}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path and not path.startswith(installed):
            found[path] = time_of(path)
    return found


def time_of(path: str) -> int:
    """A file's modification time in ns, 0 when it is gone."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
