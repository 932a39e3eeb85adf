"""A talk with one WebSocket codec: the peer's frames in, at any split, what was heard and said out."""

from __future__ import annotations

from fairlead.core.limits import WebSocketLimits
from fairlead.wire import _plain
from fairlead.wire.ws import Ear, WebSocket
from kit import SECOND, pieces

KEY = 0x37FA213D  # RFC 6455 section 5.7


class Listener(Ear):
    """Writes down what it hears. `enough`: how many messages it takes before it says so."""

    def __init__(self, enough: int = 0) -> None:
        self.words: list[tuple] = []
        self.enough = enough
        self.on_message = None

    def text(self, message: str) -> bool:
        return self.message("text", message)

    def binary(self, message: bytes) -> bool:
        return self.message("binary", message)

    def message(self, kind: str, message: str | bytes) -> bool:
        self.words.append((kind, message))
        if self.on_message is not None:
            self.on_message(message)
        return not self.enough or len(self.words) < self.enough

    def ping(self, payload: bytes) -> None:
        self.words.append(("ping", payload))

    def pong(self, payload: bytes) -> None:
        self.words.append(("pong", payload))

    def closed(self, code: int, reason: str) -> None:
        self.words.append(("closed", code, reason))


class Talk:
    """`client`: the codec's own role. `peer` sends bytes to it, `frame` one frame, masked as the peer's role must."""

    def __init__(self, split: str = "whole", *, client: bool = False, deflate: object = None, enough: int = 0, **limits: int):
        self.ear = Listener(enough)
        self.limits = WebSocketLimits(**limits)
        self.now = SECOND
        self.ws = WebSocket(self.ear, self.limits, client, deflate, (lambda: KEY) if client else None, self.now)
        self.client = client
        self.split = split

    def peer(self, data: bytes) -> Talk:
        for piece in pieces(data, self.split):
            self.ws.feed(piece, self.now)
        return self

    def frame(self, first: int, payload: bytes = b"") -> Talk:
        return self.peer(_plain.frame(first, payload, -1 if self.client else KEY))

    def eof(self) -> Talk:
        self.ws.eof(self.now)
        return self

    def pass_(self, seconds: float) -> Talk:
        """Time goes on, and the codec is told when it asked for it."""
        end = self.now + int(seconds * SECOND)
        while 0 < self.ws.deadline() <= end:
            self.now = max(self.now, self.ws.deadline())
            before = self.ws.deadline()
            self.ws.tick(self.now)
            assert self.ws.deadline() != before, "a tick at the deadline changes the deadline"
        self.now = end
        return self

    def heard(self) -> list[tuple]:
        words, self.ear.words = self.ear.words, []
        return words

    def sent(self) -> bytes:
        return b"".join(self.ws.take() or [])

    def frames(self) -> list[tuple[int, bytes]]:
        """What was sent, as (first byte, payload), unmasked."""
        return list(frames_of(self.sent()))


def frames_of(data: bytes):
    """(first byte, payload) of each whole frame."""
    at = 0
    while at < len(data):
        first, second = data[at], data[at + 1]
        size, at = second & 127, at + 2
        if size > 125:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        key = 0
        if second & 128:
            key, at = int.from_bytes(data[at : at + 4], "big"), at + 4
        assert at + size <= len(data), "a frame is cut"
        yield first, _plain.masked(data, at, at + size, key, 0)
        at += size


def close(code: int, reason: str = "") -> bytes:
    """A Close's payload."""
    return code.to_bytes(2, "big") + reason.encode()
