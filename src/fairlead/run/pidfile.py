"""The file that names the master's process: written whole when the server is ready, removed when it ends.

A new master (a binary upgrade) writes its own number over the old one's; who ends removes the file only while it still
names itself. A file that names a living server of another kind is not ours to judge: the sockets decide who runs.
"""

from __future__ import annotations

import os
from contextlib import suppress

from fairlead.core.errors import ConfigError


def write(path: str) -> None:
    """Name this process in the file; raises `ConfigError` when that cannot be done. An empty path does nothing."""
    if not path:
        return
    fresh = f"{path}.{os.getpid()}"
    try:
        with open(fresh, "x", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        os.replace(fresh, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(fresh)
        raise ConfigError(
            f"server.pid_file: cannot write {path}: {error.strerror}", hint="name a writable place"
        ) from None


def remove(path: str) -> None:
    """Remove the file if it still names this process."""
    if not path:
        return
    with suppress(OSError, ValueError):
        with open(path, encoding="ascii") as file:
            named = int(file.read(32))
        if named == os.getpid():
            os.unlink(path)
