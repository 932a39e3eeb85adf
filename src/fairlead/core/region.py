"""Region: bytes of an open file that the kernel is to send, so that they need not pass through us.

Rules
1. Said by `exchange.region(region, end)`. It is possible only where the body's bytes go to the socket as they are (HTTP/1.1 with a
   declared length, no TLS, no body stage); elsewhere the answer is 0, and whoever asked reads the file and says `data`.
2. A codec has one region at a time, behind all that was said before it; nothing more is said until the `room` that follows it.
3. `file` is whatever owns the descriptor. It stays referenced as long as the region is, so the number can not become
   another file's while bytes of it are still to be sent.
"""

from __future__ import annotations

NOT_POSSIBLE, ROOM, WAIT = 0, 1, 2  # what `exchange.region` answers


class Region:
    """`left` bytes of the file that `fd` is open for, from offset `at`; the carrier counts them as it sends."""

    def __init__(self, file, fd, at, left):
        self.file = file
        self.fd = fd
        self.at = at
        self.left = left
