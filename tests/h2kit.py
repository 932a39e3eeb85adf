"""HTTP/2 by hand, for transcripts: frames written and read byte by byte, header blocks without any table."""

from __future__ import annotations

from collections.abc import Callable

import kit
from fairlead.core.limits import Limits
from fairlead.core.message import Common, Request, Response
from fairlead.wire.h2 import H2
from fairlead.wire.hpack import Decoder

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, UPDATE, CONTINUATION = range(10)
PRIORITY_UPDATE = 16
ES, ACK, EH, PADDED, PRIO = 1, 1, 4, 8, 32
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
NAMES = (
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
)
NO_ERROR, PROTOCOL, INTERNAL, FLOW, _, CLOSED, SIZE, REFUSED, CANCEL, COMPRESSION, _, CALM = range(12)
GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a.example")]
POST = [(b":method", b"POST"), *GET[1:]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def block(fields: list[tuple[bytes, bytes]]) -> bytes:
    """A header block of plain literals: no table, no Huffman."""
    out = b""
    for name, value in fields:
        assert len(name) < 127
        out += b"\x00" + bytes((len(name),)) + name + number(len(value)) + value
    return out


def number(size: int) -> bytes:
    """A length with a seven-bit prefix."""
    if size < 127:
        return bytes((size,))
    size -= 127
    out = b"\x7f"
    while size >= 128:
        out += bytes((size & 127 | 128,))
        size >>= 7
    return out + bytes((size,))


def head(stream: int, fields: list[tuple[bytes, bytes]] | None = None, flags: int = EH | ES) -> bytes:
    return frame(HEADERS, flags, stream, block(GET if fields is None else fields))


def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    return frame(DATA, flags, stream, payload)


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in pairs))


def word(value: int) -> bytes:
    return value.to_bytes(4, "big")


def frames(sent: bytes) -> list[tuple[int, int, int, bytes]]:
    """(kind, flags, stream, payload) of each frame."""
    found = []
    while sent:
        size = int.from_bytes(sent[:3], "big")
        assert len(sent) >= 9 + size
        found.append((sent[3], sent[4], int.from_bytes(sent[5:9], "big"), sent[9 : 9 + size]))
        sent = sent[9 + size :]
    return found


class Talk(kit.Transcript):
    """A server that has been greeted, or with `client` a client. `answer`: every whole request gets 200 and "ok"."""

    def __init__(self, split: str = "whole", client: bool = False, greet: bool = True, answer: bool = False,
                 credit: bool = True, on_head: Callable | None = None, **limits: int) -> None:  # fmt: skip
        common = Common()
        common.set(b"now")
        given = Limits(**limits)
        super().__init__(lambda sink: H2(sink, given, client=client, common=common), split, credit)
        self.decoder = Decoder()
        self.sink.on_head = on_head or (self.ok if answer else None)
        if greet:
            self.peer((b"" if client else PREFACE) + settings())
            self.sent()

    @staticmethod
    def ok(codec: H2, stream: int, message: object) -> None:
        codec.head(stream, Response(200, [(b"content-length", b"2")], 2), False)
        codec.data(stream, b"ok", True)

    def ask(self, request: Request | None = None, end: bool = True) -> int:
        """Client role: say a request."""
        stream = self.codec.open_stream()
        assert stream
        self.codec.head(stream, request or Request("GET", "http", b"a.example", b"/", []), end)
        return stream

    def say(self) -> list[tuple]:
        """What was sent, frame by frame, in words: ("HEADERS", stream, fields, end), ("DATA", stream, bytes, end), ..."""
        said: list[tuple] = []
        block_so_far = b""
        sent = self.sent()
        if sent.startswith(PREFACE):
            sent = sent[24:]
        for kind, flags, stream, payload in frames(sent):
            name = NAMES[kind]
            if kind in (HEADERS, CONTINUATION):
                block_so_far += payload
                if kind == HEADERS:
                    ends = bool(flags & ES)
                if flags & EH:
                    said.append((name, stream, self.decoder.decode(block_so_far, 0, len(block_so_far)), ends))
                    block_so_far = b""
            elif kind == DATA:
                said.append((name, stream, payload, bool(flags & ES)))
            elif kind in (RST, UPDATE):
                said.append((name, stream, int.from_bytes(payload, "big")))
            elif kind == GOAWAY:
                said.append((name, int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big")))
            elif kind in (SETTINGS, PING):
                said.append((name, "ack" if flags & ACK else payload))
            else:
                said.append((name, stream, payload))
        return said

    def outcome(self) -> tuple:
        """How the last bytes were taken: ("goaway", code), ("reset", stream, code) or ("fine",)."""
        said = self.say()
        for one in said:
            if one[0] == "GOAWAY":
                assert self.error is not None
                return ("goaway", one[2])
        assert self.error is None, self.error
        for one in said:
            if one[0] == "RST_STREAM":
                return ("reset", one[1], one[2])
        return ("fine",)
