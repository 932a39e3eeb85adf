"""Fuzzing HTTP/2, both roles: bent frames at any cut, handlers that answer, reset and stall; and a talk of ours with ours.

    python fuzz/h2.py --seconds 60 --seed 1

1. Split: whole, byte by byte and at random places, the same words are heard, the same is sent, the same rule is broken.
2. Whatever comes, nothing but a WireError is raised, every exchange ends at most once and hears nothing afterwards, and
   what is held and queued stays within the limits.
3. A peer that keeps the rules and moves windows up and down gets every body whole and ended once.
4. Two of ours, client and server, with random windows and settings: every request and answer arrives whole.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from fairlead.core.codec import Sink
from fairlead.core.errors import NetError, WireError
from fairlead.core.limits import Limits
from fairlead.core.message import Common, Request, Response
from fairlead.wire.h2 import H2
from fairlead.wire.hpack import Encoder

SECOND = 1_000_000_000
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
COMMON = Common()
COMMON.set(b"now")
GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")]
HEADS = [
    GET,
    [(b":method", b"POST"), *GET[1:]],
    [(b":method", b"POST"), *GET[1:], (b"content-length", b"5")],
    [*GET, (b"cookie", b"a"), (b"cookie", b"b"), (b"priority", b"u=1, i")],
    [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]],
    [(b":status", b"200")],
    [(b":status", b"103")],
    [(b":status", b"200"), (b"content-length", b"3")],
    [(b"x-trailer", b"1")],
    [*GET, (b"connection", b"close")],
]


class Heard(Sink):
    """Writes down what is heard, and answers by the stream's number, so that every run of one input does the same."""

    def __init__(self) -> None:
        self.words: list[tuple] = []
        self.codec: H2
        self.over: set[int] = set()
        self.bad = ""

    def note(self, stream: int, word: tuple) -> None:
        if stream in self.over:
            self.bad = f"{word} after the end of {stream}"
        self.words.append(word)

    def head(self, stream, message, end):
        self.note(stream, ("head", stream, getattr(message, "status", 0) or message.method))
        if self.codec.client:
            return
        way = stream % 5
        if way == 0 or way == 1:
            self.codec.head(stream, Response(200, [(b"x", b"y")], -1), False)
            self.codec.data(stream, b"z" * (90_000 if stream % 10 == 1 else min(stream * 700, 200_000)), way == 0)
            if way == 1:
                self.codec.end(stream, [(b"t", b"1")])
        elif way == 2:
            self.codec.reset(stream, NetError("no"), "both")
        elif way == 3:
            self.codec.head(stream, Response(204, [], 0), True)

    def inform(self, stream, status, headers):
        self.note(stream, ("inform", stream, status))

    def data(self, stream, chunk, end):
        last = self.words[-1] if self.words else ()
        if last[:2] == ("body", stream):
            self.words[-1] = ("body", stream, last[2] + chunk, end)
        else:
            self.note(stream, ("body", stream, chunk, end))
        if stream % 3:
            self.codec.consumed(stream, len(chunk))

    def end(self, stream, trailers):
        self.note(stream, ("end", stream, trailers))

    def reset(self, stream, why, side):
        self.note(stream, ("reset", stream, side))
        if side == "both":
            self.over.add(stream)

    def refused(self, stream, why):
        self.words.append(("refused", stream, why.rule))


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def block(rng: random.Random) -> bytes:
    return block_of(rng.choice(HEADS))


def block_of(fields: list[tuple[bytes, bytes]]) -> bytes:
    out = bytearray()
    encoder = Encoder()
    encoder.begin(out)
    for field in fields:
        encoder.add(out, field)
    return bytes(out)


def some_frame(rng: random.Random) -> bytes:
    stream = rng.choice([0, 1, 1, 3, 3, 5, 7, 9, 2, 11])
    kind = rng.choice([0, 0, 0, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 16, 99])
    flags = rng.choice([0, 1, 4, 5, 5, 5, 8, 9, 13, 32, 37])
    number = rng.choice([0, 1, 100, 65535, 0x7FFFFFFF, 0xFFFFFFFF])
    if kind == 0:
        payload = rng.randbytes(rng.choice([0, 1, 3, 5, 100, 5000]))
    elif kind in (1, 9):
        payload = block(rng)
        if kind == 1 and flags & 8:
            payload = b"\2" + payload + b"\0\0"
        if kind == 1 and flags & 32 and not flags & 8:
            payload = b"\0\0\0\3\x10" + payload
        stream = stream or 1
    elif kind == 4:
        stream = 0
        payload = b"".join(
            rng.choice([1, 2, 3, 4, 4, 4, 5, 8, 99]).to_bytes(2, "big")
            + rng.choice([0, 0, 1, 100, 16384, 65536]).to_bytes(4, "big")
            for _ in range(rng.randrange(3))
        )
        flags &= 1 if not payload else 0
    elif kind == 6:
        payload, stream = rng.choice([b"12345678", b"fairband", b"fairdrop"]), 0
    elif kind == 7:
        payload, stream = number.to_bytes(4, "big") + b"\0\0\0\0", 0
    elif kind == 16:
        payload, stream = b"\0\0\0\5u=2", 0
    else:
        payload = number.to_bytes(4, "big") + (b"\1" if kind == 2 else b"")
    if rng.random() < 0.03:
        payload = payload[:-1]
    return frame(kind, flags, stream, payload)


def some_input(rng: random.Random, client: bool) -> bytes:
    out = b"" if client else PREFACE
    out += frame(4, 0, 0, b"")
    stream = 1
    for _ in range(rng.randrange(1, 25)):
        if rng.random() < 0.3 and not client:
            out += frame(1, rng.choice([4, 5]), stream, block(rng))
            stream += 2
        else:
            out += some_frame(rng)
    if rng.random() < 0.2:
        at = rng.randrange(len(out))
        out = out[:at] + bytes([out[at] ^ 1 << rng.randrange(8)]) + out[at + 1 :]
    return out


def cut(rng: random.Random | None, data: bytes, size: int) -> list[bytes]:
    if size == 0:
        return [data]
    found = []
    while data:
        step = size if rng is None else rng.randrange(1, size + 1)
        found.append(data[:step])
        data = data[step:]
    return found


def hear(pieces: list[bytes], client: bool) -> tuple:
    """Feed a codec: (words, bytes sent, rule, what was wrong)."""
    sink = Heard()
    codec = sink.codec = H2(sink, Limits(streams=6), client=client, common=COMMON)
    if client:
        for _ in range(4):
            stream = codec.open_stream()
            codec.head(stream, Request("POST", "http", b"a", b"/", [], "1.1", -1), stream > 3)
            if stream == 1:
                codec.data(stream, b"y" * 80_000, False)
            if stream <= 3:
                codec.end(stream, [(b"t", b"1")])
    sent, rule, now = b"", "", SECOND
    for piece in pieces:
        try:
            codec.feed(piece, now)
        except WireError as error:
            rule = error.rule
            break
        if codec.finished:
            break
    for _ in range(50):
        chunks = codec.take()
        if chunks is None:
            break
        sent += b"".join(chunks)
        if not rule and codec.more:
            codec.feed(b"", now)
    bad = sink.bad
    if len(codec.streams) > 104 or len(sent) > 4_000_000:
        bad = f"{len(codec.streams)} streams, {len(sent)} bytes"
    if not rule:
        while 0 < codec.deadline() < now + 4000 * SECOND:
            now = codec.deadline()
            try:
                codec.tick(now)
            except WireError:
                break
    return sink.words, sent, rule, bad


def split_matters(rng: random.Random) -> str:
    client = rng.random() < 0.4
    data = some_input(rng, client)
    whole = hear([data], client)
    if whole[3]:
        return f"{whole[3]}: client={client} {data.hex()}"
    other = hear(cut(None, data, 1) if rng.random() < 0.3 else cut(rng, data, 200), client)
    for name, a, b in zip(("words", "sent", "rule"), whole, other):
        if a != b and name != "sent":
            return f"{name} differ by the cut: client={client} {data.hex()}\n  {a}\n  {b}"
    return other[3]


def windows_move(rng: random.Random) -> str:
    """A peer that breaks no rule, but opens, shrinks and closes windows while bodies and trailers wait: all must come whole."""
    client = rng.random() < 0.4
    sink = Heard()
    codec = sink.codec = H2(sink, Limits(streams=50, outgoing=1 << 30, updates=0, settings=0), client=client, common=COMMON)
    sent, asked, connection = bytearray(), 0, 65535
    said = [b"" if client else PREFACE, frame(4, 0, 0, b"")]
    for _ in range(rng.randrange(5, 60)):
        way = rng.randrange(6)
        stream = 2 * rng.randrange(asked) + 1 if asked else 0
        count = rng.choice([1, 9, 100, 5000, 70_000])
        if way == 0 and asked < 12:
            asked += 1
            if client:
                stream = codec.open_stream()
                codec.head(stream, Request("POST", "http", b"a", b"/", [], "1.1", -1), False)
                codec.data(stream, b"y" * count, False)
                codec.end(stream, rng.choice([None, [(b"t", b"1")]]))
            else:
                said.append(frame(1, rng.choice([4, 5]), 2 * asked - 1, block_of(rng.choice(HEADS[:2]))))
        elif way == 1:
            said.append(frame(4, 0, 0, b"\0\4" + rng.choice([0, 1, 100, 16384, 65535, 90_000]).to_bytes(4, "big")))
        elif way == 2:
            connection += count
            said.append(frame(8, 0, 0, count.to_bytes(4, "big")))
        elif stream and way < 5:
            said.append(frame(8, 0, stream, count.to_bytes(4, "big")))
        if rng.random() < 0.7:
            codec.feed(b"".join(said), SECOND)
            said = []
            sent += b"".join(codec.take() or [])
    said += [frame(4, 0, 0, b"\0\4" + (1 << 20).to_bytes(4, "big")), frame(8, 0, 0, (1 << 24).to_bytes(4, "big"))]
    codec.feed(b"".join(said), SECOND)
    for _ in range(1000):
        chunks = codec.take()
        if chunks is None:
            break
        sent += b"".join(chunks)
    waiting = [stream.id for stream in codec.streams.values() if stream.queue]
    if waiting or sink.bad:
        return sink.bad or f"{waiting} still wait"
    ends = [0] * 100
    at = 24 if client else 0
    while at < len(sent):
        if sent[at + 3] < 2 and sent[at + 4] & 1:
            ends[int.from_bytes(sent[at + 5 : at + 9], "big")] += 1
        at += 9 + int.from_bytes(sent[at : at + 3], "big")
    return "" if max(ends) <= 1 else "an end was said twice"


class Party(Heard):
    """One side of a talk between two of ours."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.rng = rng
        self.bodies: dict[int, bytes] = {}
        self.ended: list[int] = []

    def head(self, stream, message, end):
        self.bodies[stream] = b""
        if end:
            self.end(stream, None)

    def data(self, stream, chunk, end):
        self.bodies[stream] += chunk
        self.codec.consumed(stream, len(chunk))
        if end:
            self.end(stream, None)

    def end(self, stream, trailers):
        self.ended.append(stream)
        if not self.codec.client:
            body = self.bodies[stream]
            self.codec.head(stream, Response(200, [(b"x-size", b"%d" % len(body))], -1), False)
            self.codec.data(stream, body[::-1], self.rng.random() < 0.5)
            self.codec.end(stream, None)

    def reset(self, stream, why, side):
        self.bad = f"reset {stream}: {why}"


def talk(rng: random.Random) -> str:
    """A client and a server of ours; "" when every body came back reversed."""
    limits = [
        Limits(
            window=rng.choice([1000, 65536]),
            streams=20,
            outgoing=1 << 30,
            connection_window=rng.choice([70000, 1 << 20]),
        )
        for _ in "12"
    ]
    client, server = Party(rng), Party(rng)
    client.codec, server.codec = H2(client, limits[0], client=True), H2(server, limits[1], common=COMMON)
    asked, now, said = {}, SECOND, 0
    for _ in range(3000):
        if said < 8 and rng.random() < 0.5:
            stream = client.codec.open_stream()
            if stream:
                said += 1
                body = rng.randbytes(rng.choice([0, 10, 3000, 90000]))
                asked[stream] = body
                client.codec.head(
                    stream,
                    Request("POST", "http", b"a", b"/", [(b"priority", b"u=%d" % rng.randrange(8))], "1.1", len(body)),
                    False,
                )
                client.codec.data(stream, body, True)
        idle = True
        for one, other in ((client, server), (server, client)):
            sent = b"".join(one.codec.take() or [])
            for piece in cut(rng, sent, rng.choice([0, 3000, 20000])):
                if piece:
                    idle = False
                    now += 1_000_000
                    other.codec.feed(piece, now)
            if one.codec.more:
                idle = False
                one.codec.feed(b"", now)
        if idle and said == 8:
            break
    if client.bad or server.bad:
        return client.bad or server.bad
    got = {stream: client.bodies.get(stream) for stream in asked}
    if got != {stream: body[::-1] for stream, body in asked.items()} or sorted(client.ended) != sorted(asked):
        return f"lost: {[(s, len(asked[s]), len(got[s] or b'')) for s in asked]}"
    return "" if not client.codec.streams and not server.codec.streams else "streams stay"


def run(seconds: float, seed: int) -> list[str]:
    """Fuzz for a while; what went wrong."""
    rng = random.Random(seed)
    failed, count, end = [], 0, time.monotonic() + seconds
    while time.monotonic() < end and len(failed) < 3:
        count += 1
        state = rng.getrandbits(48)
        way = talk if count % 40 == 0 else windows_move if count % 4 == 0 else split_matters
        try:
            wrong = way(random.Random(state))
        except Exception as error:
            wrong = f"{way.__name__} raised {error!r}"
        if wrong:
            failed.append(f"[{state}] {wrong}")
    print(f"h2: {count} inputs, {len(failed)} wrong, seed {seed}")
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    wrong = run(options.seconds, options.seed)
    print("\n".join(wrong))
    sys.exit(bool(wrong))
