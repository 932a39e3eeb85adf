"""The control channel between the master and one of its roles: whole messages, in order, with file descriptors beside
them.

Rules
1. A message is a word and a dict, pickled, behind its length (4 bytes, big-endian). Both ends are our own code, run
   by one user over a private socket pair that is never bound to a name, so pickle crosses no border of trust.
2. Descriptors travel by SCM_RIGHTS with the first byte of their message (unix(7)): at most `MOST` in one message. What
   is more goes before it, in messages without a word.
3. The channel's end is news too: a role whose master is gone sees the end of file and leaves.
"""

from __future__ import annotations

import pickle
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

HEADER = struct.Struct("!I")
MOST = 250  # SCM_MAX_FD is 253
READ = 256 * 1024


class Channel:
    """One end. Blocking until `watch`; then messages come to a callback, and a word that does not fit is kept for
    later.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.loop: Any = None
        self.heard: Callable[[str, dict[str, Any], list[int]], None] | None = None
        self.ended: Callable[[], None] | None = None
        self.buffer = bytearray()
        self.fds: list[int] = []
        self.more: list[int] = []
        self.waiting: list[tuple[bytes, list[int]]] = []

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """(our end, the raw socket for the other process)."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(ours), theirs

    def say(self, word: str, fds: Sequence[int] = (), **values: Any) -> None:
        """Send a message. Nothing is raised when the other end is gone: that is heard as the end."""
        while len(fds) > MOST:
            self.queue("", fds[:MOST], {})
            fds = fds[MOST:]
        self.queue(word, fds, values)
        self.flush()

    def queue(self, word: str, fds: Sequence[int], values: dict[str, Any]) -> None:
        """Put a message behind those that wait."""
        body = pickle.dumps((word, values, len(fds)), protocol=pickle.HIGHEST_PROTOCOL)
        self.waiting.append((HEADER.pack(len(body)) + body, list(fds)))

    def flush(self) -> None:
        """Send what is waiting, as far as the socket takes it."""
        while self.waiting:
            data, fds = self.waiting[0]
            try:
                sent = socket.send_fds(self.sock, [data], fds) if fds else self.sock.send(data)
            except BlockingIOError:
                self.loop.add_writer(self.sock.fileno(), self.flush)
                return
            except OSError:
                self.waiting.clear()
                break
            if sent < len(data):
                self.waiting[0] = (data[sent:], [])
            else:
                self.waiting.pop(0)
        if self.loop is not None and self.sock.fileno() >= 0:
            self.loop.remove_writer(self.sock.fileno())

    def read(self) -> tuple[str, dict[str, Any], list[int]]:
        """The next message, waiting for it; raises EOFError when the other end is gone."""
        while True:
            message = self.next()
            if message is not None:
                return message
            if not self.fill():
                raise EOFError("the control channel was closed")

    def fill(self) -> bool:
        """Read what is there; False at the end of file."""
        try:
            data, fds, _, _ = socket.recv_fds(self.sock, READ, MOST)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        self.fds += fds
        self.buffer += data
        return bool(data)

    def next(self) -> tuple[str, dict[str, Any], list[int]] | None:
        """The next whole message that has been read, or None."""
        if len(self.buffer) < HEADER.size:
            return None
        (length,) = HEADER.unpack_from(self.buffer)
        if len(self.buffer) < HEADER.size + length:
            return None
        word, values, count = pickle.loads(bytes(self.buffer[HEADER.size : HEADER.size + length]))
        del self.buffer[: HEADER.size + length]
        fds, self.fds = self.more + self.fds[:count], self.fds[count:]
        self.more = [] if word else fds
        return (word, values, fds) if word else self.next()

    def watch(
        self, loop: Any, heard: Callable[[str, dict[str, Any], list[int]], None], ended: Callable[[], None]
    ) -> None:
        """From now on messages come to `heard`, and the end to `ended`, on this loop."""
        self.loop, self.heard, self.ended = loop, heard, ended
        self.sock.setblocking(False)
        loop.add_reader(self.sock.fileno(), self.readable)
        self.tell()

    def readable(self) -> None:
        """The loop's call: something came."""
        alive = self.fill()
        self.tell()
        if not alive and self.loop is not None:
            ended = self.ended
            self.close()
            if ended is not None:
                ended()

    def tell(self) -> None:
        """Hand over every whole message."""
        while self.heard is not None:
            message = self.next()
            if message is None:
                return
            self.heard(*message)

    def close(self) -> None:
        """Close this end."""
        if self.loop is not None and self.sock.fileno() >= 0:
            self.loop.remove_reader(self.sock.fileno())
            self.loop.remove_writer(self.sock.fileno())
        self.loop = self.heard = self.ended = None
        self.sock.close()
