"""Where access-log lines go: a file, or standard output, written in large pieces, and never in the way of the loop.

Rules
1. A worker's lines are collected (core.lines) and written when `log.buffer` bytes are reached or `log.flush` has
   passed. Each write ends at the end of a line, and files are opened with O_APPEND, so workers that share one do not
   cut each other's lines.
2. A pipe, terminal or socket that takes no more is not waited for: at most `PENDING_MOST` bytes wait in memory, then
   whole lines are dropped and counted (`lost`). A full disk likewise: said once, counted, tried again with the next
   lines and once a second, going on in the middle of the line where it stopped; when there is room again that is said too.
3. `reopen` (SIGUSR1, after logrotate moved the file) opens the path again; if that fails the old file goes on being
   used.
4. A pipe shared with others must not become non-blocking for them: it is opened anew through /proc where that works,
   else written in pieces of PIPE_BUF after asking whether it takes them.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import stat
from typing import Any

from fairlead.core.errors import NetError
from fairlead.core.lines import Lines
from fairlead.run.shortlog import Short

PENDING_MOST = 1 << 20
PIECE = select.PIPE_BUF  # what a pipe takes whole, and whole or not at all (POSIX)
FULL = (errno.EAGAIN, errno.EWOULDBLOCK)
log = logging.getLogger("fairlead")


class Sink:
    """A file, pipe or terminal that takes lines. `lost` counts the lines that could not be written."""

    def __init__(self, path: str, fd: int = -1) -> None:
        self.path = path
        self.fd = fd
        self.lost = 0
        self.pending = b""
        self.failing = False
        self.error: OSError | None = None
        self.special = False
        self.own = False
        self.open()

    def open(self) -> None:
        """Open the path, or take over the given descriptor. Raises NetError with what to do."""
        if self.path != "-":
            try:
                fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)
            except OSError as error:
                hint = "--access-log, or access of [log], names another file, - or off"
                raise NetError(f"cannot write the access log {self.path}: {error.strerror}", side="us", hint=hint) from None
            self.fd, self.own = fd, True
        elif self.fd < 0:
            self.fd, self.own = reopened(1)
        self.special = not stat.S_ISREG(os.fstat(self.fd).st_mode)

    def reopen(self) -> None:
        """Open the path again, as after a rotation."""
        if self.path == "-":
            return
        old = self.fd
        try:
            self.open()
        except NetError as error:
            log.error("%s; going on with the old file", error)
            return
        os.close(old)

    def write(self, data: Any) -> None:
        """Write whole lines, as much as is taken now."""
        waiting: Any = self.pending + bytes(data) if self.pending else data
        self.error = None
        rest = self.push(memoryview(waiting))
        self.pending = self.keep(bytes(rest))
        if self.error is not None:
            self.fail(self.error)
        elif self.failing and not self.pending:
            self.failing = False
            log.info("the access log %s is written again (lines dropped since the start: %d)", self.path, self.lost)

    def push(self, data: memoryview) -> memoryview:
        """Write until all is gone, no more is taken or an `error` comes; what is left."""
        while data:
            piece: Any = data
            if self.special and not self.own:
                if not select.select((), (self.fd,), (), 0)[1]:
                    return data
                piece = data[:PIECE]
            try:
                data = data[os.write(self.fd, piece) :]
            except OSError as error:
                if error.errno not in FULL:
                    self.error = error
                return data
        return data

    def keep(self, rest: bytes) -> bytes:
        """What may wait: whole lines up to the limit; the oldest are dropped and counted."""
        if len(rest) <= PENDING_MOST:
            return rest
        begun = rest.find(b"\n") + 1  # the end of a line whose beginning may be written already
        cut = max(begun, rest.find(b"\n", len(rest) - PENDING_MOST + begun) + 1)
        self.lost += rest.count(b"\n", begun, cut)
        return rest[:begun] + rest[cut:]

    def fail(self, error: OSError) -> None:
        """Say once that writing fails."""
        if not self.failing:
            self.failing = True
            log.error(
                "cannot write the access log %s: %s; lines wait, then are dropped and counted",
                self.path,
                error.strerror,
            )

    def close(self) -> None:
        """Close what we opened."""
        if self.pending:
            self.write(b"")
        if self.own and self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


class AccessLog(Lines):
    """Lines that go to a Sink. The recorder adds to it, SIGUSR1 calls `reopen`."""

    def __init__(self, sink: Sink, form: str = "text", hold: int = 65536, query: bool = True, write: Any = None) -> None:
        super().__init__(write if write is not None else sink.write, form, hold, query)
        self.sink = sink

    def reopen(self) -> None:
        """Write what is held to the old file, then open the path again."""
        self.flush()
        self.sink.reopen()

    def retry(self) -> None:
        """Write what a full pipe or disk left waiting; the recorder calls this once a second."""
        if self.sink.pending:
            self.sink.write(b"")

    @property
    def lost(self) -> int:
        """Lines that could not be written."""
        return self.sink.lost

    def close(self) -> None:
        """Write what is held and close."""
        self.flush()
        self.sink.close()


def access_log(settings: Any) -> AccessLog | None:
    """The access log of a `[log]` table (access, format, buffer, query), or None when it is off."""
    if settings.access in ("off", ""):
        return None
    sink, form = Sink(settings.access), settings.format
    if form == "auto":
        form = "short" if sink.path == "-" and os.isatty(sink.fd) else "text"
    if form == "short":
        return AccessLog(sink, "json", settings.buffer, settings.query, Short(sink.write, os.isatty(sink.fd)))
    return AccessLog(sink, form, settings.buffer, settings.query)


def reopened(fd: int) -> tuple[int, bool]:
    """An open file description of our own for a descriptor, not blocking, and True; else the descriptor and False."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        try:
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_APPEND), True
        except OSError:
            return fd, False
    return fd, False
