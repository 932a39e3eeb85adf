"""Open files whose bytes the kernel may send by itself (core.region): who owns the descriptor, and when that pays.

Rules
1. The descriptor closes with its last reference: an answer under way keeps it though the one who opened it is done.
2. Less than LEAST bytes are cheaper to copy: the head and they leave in one call.
3. What is not in memory is not sent this way: the kernel would wait for the disk on the loop's time. Whoever asked reads it in
   a thread, and says `data`.
"""

from __future__ import annotations

import os

from fairlead.core.region import NOT_POSSIBLE, Region

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

LEAST = 32 * 1024


class Opened:
    """An open file descriptor; it is closed by `close`, or with the last reference."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Close it now; twice is fine."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


def send_region(exchange, file, fd, at, size, end):
    """Have the kernel send `size` bytes of an open file, `file` being the owner of `fd`: what `exchange.region` answers."""
    if size < LEAST or not exchange.conn.carrier.regions or exchange.stage is not None or not _fast.resident(fd, at, size):
        return NOT_POSSIBLE
    return exchange.region(Region(file, fd, at, size), end)
