"""HTTP/3 by hand, for transcripts: frames and field sections written and read byte by byte, and a transport of lists."""

from __future__ import annotations

from collections.abc import Callable

import kit
from fairlead.core.errors import WireError
from fairlead.core.limits import Limits
from fairlead.core.message import Common, Request, Response
from fairlead.wire.h3 import H3
from fairlead.wire.qpack import Decoder
from fairlead.wire.quicint import varint

DATA, HEADERS, CANCEL_PUSH, SETTINGS, PUSH, GOAWAY, MAX_PUSH = 0, 1, 3, 4, 5, 7, 13
UPDATE, UPDATE_PUSH = 0xF0700, 0xF0701
CONTROL, PUSHES, ENCODER, DECODER = 0, 1, 2, 3
NO_ERROR, PROTOCOL, INTERNAL, CREATION, CRITICAL, UNEXPECTED, FRAME, LOAD, ID, SETTING, MISSING = range(0x100, 0x10B)
REJECTED, CANCELLED, INCOMPLETE, MESSAGE = range(0x10B, 0x10F)
DECOMPRESSION, ENCODER_ERROR, DECODER_ERROR = 0x200, 0x201, 0x202
GET = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"a.example")]
POST = [(b":method", b"POST"), *GET[1:]]


def frame(kind: int, payload: bytes = b"") -> bytes:
    return varint(kind) + varint(len(payload)) + payload


def prefixed(size: int, flags: int, most: int) -> bytes:
    """An integer with a prefix of so many ones."""
    if size < most:
        return bytes((flags | size,))
    out = bytes((flags | most,))
    size -= most
    while size >= 128:
        out += bytes((size & 127 | 128,))
        size >>= 7
    return out + bytes((size,))


def section(fields: list[tuple[bytes, bytes]]) -> bytes:
    """A field section of plain literals: no table, no Huffman."""
    out = b"\0\0"
    for name, value in fields:
        out += prefixed(len(name), 0x20, 7) + name + prefixed(len(value), 0, 127) + value
    return out


def head(fields: list[tuple[bytes, bytes]] | None = None) -> bytes:
    return frame(HEADERS, section(GET if fields is None else fields))


def data(payload: bytes) -> bytes:
    return frame(DATA, payload)


def settings(*pairs: tuple[int, int]) -> bytes:
    """The beginning of a control stream."""
    return varint(CONTROL) + frame(SETTINGS, b"".join(varint(name) + varint(value) for name, value in pairs))


def number(raw: bytes, at: int) -> tuple[int, int]:
    """A QUIC integer and where it ends."""
    size = 1 << (raw[at] >> 6)
    return int.from_bytes(raw[at : at + size], "big") & ((1 << (8 * size - 2)) - 1), at + size


def frames(raw: bytes) -> list[tuple[int, bytes]]:
    """(kind, payload) of each frame."""
    found = []
    at = 0
    while at < len(raw):
        kind, at = number(raw, at)
        size, at = number(raw, at)
        assert at + size <= len(raw)
        found.append((kind, raw[at : at + size]))
        at += size
    return found


class Talk(kit.Transcript):
    """A server whose peer sent SETTINGS, or with `client` a client. `answer`: every whole request gets 200 and "ok".

    `sent`, `ended`: bytes and ends of each stream that went out. The transport opens every stream that is asked for.
    """

    def __init__(self, split: str = "whole", client: bool = False, greet: bool = True, answer: bool = False,
                 credit: bool = True, on_head: Callable | None = None, **limits: int) -> None:  # fmt: skip
        common = Common()
        common.set(b"now")
        given = Limits(**limits)
        super().__init__(lambda sink: H3(sink, given, client=client, common=common), split, credit)
        self.client = client
        self.codec.opener = self.open
        self.next = [0, 2 if client else 3]
        self.room = [1000, 1000]
        self.out: dict[int, bytes] = {}
        self.ends: list[int] = []
        self.orders: list[tuple] = []
        self.credited: dict[int, int] = {}
        self.sink.on_head = on_head or (self.ok if answer else None)
        self.own = 3 if client else 2
        if greet:
            self.on(self.own, settings())

    def open(self, unidirectional: bool) -> int:
        if self.room[unidirectional] == 0:
            return -1
        self.room[unidirectional] -= 1
        stream = self.next[unidirectional]
        self.next[unidirectional] += 4
        return stream

    @staticmethod
    def ok(codec: H3, stream: int, message: object) -> None:
        codec.head(stream, Response(200, [(b"content-length", b"2")], 2), False)
        codec.data(stream, b"ok", True)

    def on(self, stream: int, raw: bytes, fin: bool = False) -> Talk:
        """The peer sends bytes on a stream."""
        cut = list(kit.pieces(raw, self.split)) or [b""]
        for i, piece in enumerate(cut):
            self.do(self.codec.feed, piece, self.now, stream, fin and i == len(cut) - 1)
        return self

    def do(self, verb: Callable, *args: object) -> None:
        """A verb of the transport; an error is kept, and nothing follows it."""
        if self.error is not None or self.codec.finished:
            return
        try:
            verb(*args)
        except WireError as error:
            self.error = error
        self.collect()

    def collect(self) -> None:
        """Take what goes out."""
        while True:
            for stream, raw, fin in self.codec.take() or []:
                assert stream not in self.ends, "bytes behind the end of a stream"
                self.out[stream] = self.out.get(stream, b"") + raw
                if fin:
                    self.ends.append(stream)
            if not self.codec.more or self.error is not None:
                break
            self.codec.feed(b"", self.now)
            if not self.codec.more:
                break
        self.orders += self.codec.orders()
        for stream, count in self.codec.credit():
            self.credited[stream] = self.credited.get(stream, 0) + count

    def ask(self, request: Request | None = None, end: bool = True) -> int:
        """Client role: say a request; the exchange's number."""
        number = self.codec.open_stream()
        assert number
        self.codec.head(number, request or Request("GET", "https", b"a.example", b"/", []), end)
        self.collect()
        return number

    def said(self, stream: int) -> list[tuple]:
        """What went out on a request's stream since the last look: ("HEADERS", fields), ("DATA", bytes), ..., ("end",)."""
        found: list[tuple] = []
        decoder = Decoder()
        for kind, payload in frames(self.out.pop(stream, b"")):
            if kind == HEADERS:
                found.append(("HEADERS", decoder.section(payload, 0, len(payload))))
            else:
                found.append(("DATA" if kind == DATA else kind, payload))
        if stream in self.ends:
            found.append(("end",))
        return found

    def outcome(self) -> tuple:
        """How all of it was taken: ("close", code), ("reset" or "stop", stream, code) or ("fine",)."""
        for order in self.orders:
            if order[0] == "close":
                assert (self.error is None) == (order[1] == NO_ERROR)
                assert self.error is None or self.error.code == order[1]
                return order[:2]
        assert self.error is None, self.error
        return self.orders[0] if self.orders else ("fine",)
