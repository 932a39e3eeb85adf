"""Opening files by a client's words, and never one outside of their directory.

Rules
1. A name is split at "/" before anything is decoded, so an encoded slash cannot make a path. A segment that is empty,
   "." or "..", or holds a "/" or NUL once decoded, names nothing.
2. On Linux the kernel itself keeps us inside (openat2 with RESOLVE_BENEATH, Linux 5.6): no symbolic link and no race leads
   out. Elsewhere the real path is compared; then a link that is exchanged between the look and the opening could win.
3. Names that begin with a dot are nobody's business, except `/.well-known/` (RFC 8615), unless `hidden`.
4. Only regular files and directories are opened, without blocking on a pipe that somebody put there.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from typing import Any
from urllib.parse import unquote_to_bytes

OPENAT2 = 437  # the same on every architecture
BENEATH, NO_MAGIC = 0x08, 0x02
FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
LONGEST = 4096  # bytes of a name, as PATH_MAX
MOST_LISTED = 5000  # names of one directory: each costs a look, on the loop's time


class How(ctypes.Structure):
    """struct open_how of openat2(2)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def segments(raw, hidden=False):
    """The decoded segments of a percent-encoded path, or None when it names nothing; a closing slash is ignored."""
    found = []
    raw = raw.removeprefix(b"/").removesuffix(b"/")
    parts = raw.split(b"/") if raw else []
    for place, part in enumerate(parts):
        plain = unquote_to_bytes(part)
        if not plain or plain in (b".", b"..") or b"/" in plain or b"\0" in plain:
            return None
        if plain[:1] == b"." and not hidden and not (place == 0 and plain == b".well-known"):
            return None
        found.append(plain)
    return found if sum(map(len, found)) + len(found) < LONGEST else None


class Directory:
    """A directory that names are opened below. `links`: symbolic links may lead out of it."""

    def __init__(self, path, links=False):
        self.path = os.fsencode(os.path.realpath(path))
        self.links = links
        self.fd = -1
        self.syscall: Any = None
        if sys.platform == "linux" and not links:
            try:
                self.syscall = ctypes.CDLL(None, use_errno=True).syscall
            except (OSError, AttributeError):
                self.syscall = None

    def open(self, parts):
        """(descriptor, os.stat_result) of a regular file or directory; raises OSError."""
        name = b"/".join(parts) or b"."
        fd = self.beneath(name) if self.syscall is not None else -1
        if fd < 0:
            fd = self.compared(name)
        try:
            found = os.fstat(fd)
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
                raise OSError(errno.ENOENT, "is no file")
        except OSError:
            os.close(fd)
            raise
        return fd, found

    def beneath(self, name):
        """Rule 2 by the kernel; -1 when it does not know how."""
        if self.fd < 0:
            self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        how = How(FLAGS, 0, BENEATH | NO_MAGIC)
        fd = self.syscall(OPENAT2, self.fd, name, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code in (errno.ENOSYS, errno.EPERM):  # an old kernel, or a sandbox that refuses the call
            self.syscall = None
            return -1
        raise OSError(errno.ENOENT if code == errno.EXDEV else code, os.strerror(code))

    def compared(self, name):
        """Rule 2 by comparing real paths."""
        path = os.path.join(self.path, name)
        if not self.links:
            real = os.path.realpath(path)
            if real != self.path and not real.startswith(self.path.rstrip(b"/") + b"/"):
                raise OSError(errno.ENOENT, "leads out of the directory")
        return os.open(path, FLAGS)

    def names(self, fd, hidden=False):
        """[(name, os.stat_result)] of a directory, directories first; what cannot be looked at is left out, and what is more than
        MOST_LISTED."""
        found: list[Any] = []
        for entry in os.scandir(fd):
            if entry.name[:1] == "." and not hidden:
                continue
            if len(found) == MOST_LISTED:
                break
            try:
                found.append((entry.name, entry.stat()))
            except OSError:
                continue
        return sorted(found, key=lambda one: (not stat.S_ISDIR(one[1].st_mode), one[0]))

    def close(self):
        """No more names."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
