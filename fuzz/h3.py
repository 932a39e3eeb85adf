"""Fuzzing HTTP/3, both roles: bent frames on every kind of stream at any cut, and a talk of ours with ours over bad streams.

    python fuzz/h3.py --seconds 60 --seed 1

1. Split: whole, byte by byte and at random places, the same words are heard and the same rule is broken.
2. Whatever comes, nothing but a WireError is raised, every exchange ends at most once and hears nothing afterwards, no byte is
   credited twice, all are when nobody is left to read them, and what is held and queued stays within the limits.
3. Two of ours, client and server, over streams that overtake one another, a transport that blocks them now and then, and
   QPACK inserts by ls-qpack where it is installed: every request and answer arrives whole.
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
from fairlead.wire.h3 import H3
from fairlead.wire.h3frames import varint
from fairlead.wire.qpack import Encoder

SECOND = 1_000_000_000
COMMON = Common()
COMMON.set(b"now")
GET = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"a")]
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
INSERTS = [b"\x3f\xe1\x1f", b"\x41a\1b", b"\xc0\1a", b"\0", b"\x80\1c", b"\x20", b"\x43x-y\x85\xf2\xb2\x4a\x84\xff"]
NAMED = [
    b"\2\0\xd1\xd7\xc1\x50\1a\x80",
    b"\3\0\xd1\xd7\xc1\x50\1a\x81\x80",
    b"\3\x80\xd1\xd7\xc1\x50\1a\x10",
    b"\5\0\x80",
]


class Heard(Sink):
    """Writes down what is heard, and answers by the stream's number, so that every run of one input does the same."""

    def __init__(self) -> None:
        self.words: dict[int, list[tuple]] = {}
        self.codec: H3
        self.over: set[int] = set()
        self.bad = ""
        self.pending: dict[int, int] = {}

    def note(self, stream: int, word: tuple) -> None:
        if stream in self.over:
            self.bad = f"{word} after the end of {stream}"
        self.words.setdefault(stream, []).append(word)

    def head(self, stream, message, end):
        self.note(stream, ("head", getattr(message, "status", 0) or message.method))
        if end:
            self.note(stream, ("end", None))
        if self.codec.client:
            return
        way = stream // 4 % 5
        if way == 0 or way == 1:
            self.codec.head(stream, Response(200, [(b"x", b"y")], -1), False)
            self.codec.data(stream, b"z" * (90_000 if way == 1 else min(stream * 700, 200_000)), way == 0)
            if way == 1:
                self.codec.end(stream, [(b"t", b"1")])
        elif way == 2:
            self.codec.reset(stream, NetError("no"), "both")
        elif way == 3:
            self.codec.head(stream, Response(204, [], 0), True)

    def inform(self, stream, status, headers):
        self.note(stream, ("inform", status))

    def data(self, stream, chunk, end):
        words = self.words.get(stream) or [()]
        if words[-1][:1] == ("body",):
            words[-1] = ("body", words[-1][1] + chunk)
        else:
            self.note(stream, ("body", chunk))
        if stream % 3:
            self.codec.consumed(stream, len(chunk))
        if end:
            self.note(stream, ("end", None))

    def end(self, stream, trailers):
        self.note(stream, ("end", trailers))

    def reset(self, stream, why, side):
        self.note(stream, ("reset", side, why.rule if isinstance(why, WireError) else ""))
        if side == "both":
            self.over.add(stream)

    def refused(self, stream, why):
        self.words.setdefault(stream, []).append(("refused", why.rule))


def section(fields: list[tuple[bytes, bytes]]) -> bytes:
    out = bytearray(b"\0\0")
    encoder = Encoder()
    for field in fields:
        encoder.add(out, field)
    return bytes(out)


def some_frame(rng: random.Random) -> bytes:
    kind = rng.choice([0, 0, 0, 0, 1, 1, 1, 1, 0x21, 0x21, 0x40, 3, 4, 5, 7, 13, 2, 6, 0xF0700])
    if kind == 0:
        payload = rng.randbytes(rng.choice([0, 1, 3, 5, 100, 5000]))
    elif kind == 1:
        payload = rng.choice(NAMED) if rng.random() < 0.2 else section(rng.choice(HEADS))
    elif kind in (0x21, 0x40):
        payload = rng.randbytes(rng.choice([0, 1, 70]))
    else:
        payload = varint(rng.choice([0, 1, 4, 100, 1 << 40]))
    size = len(payload) + (rng.choice([-1, 1, 1 << 20]) if rng.random() < 0.03 else 0)
    return varint(kind) + varint(max(size, 0)) + payload


def some_control(rng: random.Random) -> bytes:
    out = b"\0" + varint(4)
    pairs = b"".join(
        varint(rng.choice([1, 6, 7, 8, 0x33, 0x40, 0x21])) + varint(rng.choice([0, 1, 1, 100])) for _ in range(2)
    )
    out += varint(len(pairs)) + pairs if rng.random() < 0.3 else b"\0"
    for _ in range(rng.randrange(4)):
        kind = rng.choice([7, 7, 13, 13, 0xF0700, 0xF0700, 0x21, 0x21, 3, 4, 0, 2])
        payload = varint(rng.choice([0, 4, 4, 8, 100])) + (b"u=%d, i" % rng.randrange(9) if kind == 0xF0700 else b"")
        out += varint(kind) + varint(len(payload)) + payload
    return out


def some_input(rng: random.Random, client: bool) -> list[tuple[int, bytes, str]]:
    """What a peer does: (stream, bytes, "" | "fin" | "reset" | "stop")."""
    own = 3 if client else 2
    found = [(own, some_control(rng), "")]
    if rng.random() < 0.6:
        found.append((own + 4, b"\2" + b"".join(rng.choice(INSERTS) for _ in range(rng.randrange(1, 6))), ""))
    if rng.random() < 0.2:
        found.append(
            (
                own + 8,
                rng.choice([b"\3", b"\3\x40", b"\3\x41\x42", b"\x21junk", b"\3\1", b"\1"]),
                rng.choice(["", "fin", "reset"]),
            )
        )
    rng.shuffle(found)
    for i in range(rng.randrange(1, 9)):
        stream = 4 * i if rng.random() < 0.95 else 1
        raw = b""
        if rng.random() < 0.85:
            fields = HEADS[rng.choice([5, 5, 6, 7])] if client else HEADS[rng.choice([0, 0, 1, 1, 2, 3, 4, 9])]
            named = rng.random() < 0.15 and not client
            block = rng.choice(NAMED) if named else section(fields)
            raw = varint(1) + varint(len(block)) + block
        for _ in range(rng.randrange(4)):
            raw += some_frame(rng)
        if raw and rng.random() < 0.1:
            at = rng.randrange(len(raw))
            raw = raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :]
        found.insert(
            rng.randrange(len(found) + 1), (stream, raw, rng.choice(["fin", "fin", "fin", "", "", "reset", "stop"]))
        )
    return found


def cut(rng: random.Random | None, data: bytes, size: int) -> list[bytes]:
    if size == 0 or not data:
        return [data]
    found = []
    while data:
        step = size if rng is None else rng.randrange(1, size + 1)
        found.append(data[:step])
        data = data[step:]
    return found


def hear(acts: list, client: bool, cutter) -> tuple:
    """Let a codec hear a peer: (words, rule, what was wrong)."""
    sink = Heard()
    codec = sink.codec = H3(sink, Limits(streams=6, qpack_blocked=3), client=client, common=COMMON)
    opened = {False: 0, True: 2 if client else 3}

    def opener(unidirectional):
        opened[unidirectional] += 4
        return opened[unidirectional] - 4

    codec.opener = opener
    if client:
        for i in range(4):
            stream = codec.open_stream()
            codec.head(stream, Request("POST", "https", b"a", b"/", [], "1.1", -1), i > 1)
            if i == 0:
                codec.data(stream, b"y" * 80_000, False)
            if i <= 1:
                codec.end(stream, [(b"t", b"1")])
    rule, now, ends, bad = "", SECOND, set(), ""
    fed: dict[int, int] = {}
    credited: dict[int, int] = {}

    def collect():
        nonlocal bad
        size = 0
        for _ in range(50):
            chunks = codec.take()
            for stream, raw, fin in chunks or ():
                size += len(raw)
                if stream in ends:
                    bad = f"bytes behind the end of {stream}"
                if fin:
                    ends.add(stream)
            if chunks is None or not codec.more:
                break
        for stream, count in codec.credit():
            credited[stream] = credited.get(stream, 0) + count
            if credited[stream] > fed.get(stream, 0):
                bad = f"stream {stream} was credited {credited[stream]} of {fed.get(stream, 0)}"
        codec.orders()
        if size > 4_000_000 or len(codec.streams) > 104:
            bad = f"{size} bytes, {len(codec.streams)} streams"

    collect()
    gone = set()
    for stream, raw, act in acts:
        if stream in gone:
            continue
        pieces = cutter(raw)
        try:
            for i, piece in enumerate(pieces):
                fed[stream] = fed.get(stream, 0) + len(piece)
                codec.feed(piece, now, stream, act == "fin" and i == len(pieces) - 1)
                if codec.finished:
                    break
            if codec.finished:
                break
            if act == "reset":
                codec.stream_reset(stream, 0x10C, now)
            elif act == "stop" and stream & 3 == 0:
                codec.stop_sending(stream, 0x10C, now)
            if act in ("fin", "reset"):
                gone.add(stream)
        except WireError as error:
            rule = error.rule
            break
        collect()
    collect()
    if not rule:
        while 0 < codec.deadline() < now + 4000 * SECOND:
            now = codec.deadline()
            try:
                codec.tick(now)
            except WireError:
                break
        parted = codec.finished
        codec.eof(now)
        collect()
        if not rule and codec.streams:
            bad = "streams stay behind the end"
        missing = {one: (credited.get(one, 0), fed[one]) for one in fed if credited.get(one, 0) != fed[one]}
        if missing and not codec.dead and not parted:
            bad = bad or f"not all was credited: {missing}"
    return sink.words, rule, bad or sink.bad


def settled(words: dict[int, list[tuple]]) -> dict[int, list[tuple]]:
    """What was heard, without the bodies of streams that were reset: how much of one was passed on is a matter of the cut."""
    return {
        stream: [one for one in heard if one[0] != "body" or heard[-1][0] != "reset"] for stream, heard in words.items()
    }


def split_matters(rng: random.Random) -> str:
    client = rng.random() < 0.4
    acts = some_input(rng, client)
    whole = hear(acts, client, lambda raw: [raw])
    if whole[2]:
        return f"{whole[2]}: client={client} {acts}"
    one_by_one = rng.random() < 0.3
    other = hear(acts, client, lambda raw: cut(None if one_by_one else rng, raw, 1 if one_by_one else 200))
    if other[2]:
        return f"{other[2]}: cut, client={client} {acts}"
    for name, a, b in (("words", settled(whole[0]), settled(other[0])), ("rule", whole[1], other[1])):
        if a != b and not (name == "words" and whole[1]):  # what breaks the connection may be heard before or after a body's bytes
            return f"{name} differ by the cut: client={client} {acts}\n  {a}\n  {b}"
    return ""


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
    limits = [Limits(streams=20, outgoing=1 << 30, qpack_table=rng.choice([0, 4096])) for _ in "12"]
    client, server = Party(rng), Party(rng)
    client.codec, server.codec = H3(client, limits[0], client=True), H3(server, limits[1], common=COMMON)
    next_of = {(True, False): 0, (True, True): 2, (False, True): 3}

    def opener(of):
        def opening(unidirectional):
            if rng.random() < 0.2:
                return -1
            next_of[of, unidirectional] += 4
            return next_of[of, unidirectional] - 4

        return opening

    client.codec.opener, server.codec.opener = opener(True), opener(False)
    asked, now, said = {}, SECOND, 0
    flying: dict[tuple[bool, int], list[tuple[bytes, bool]]] = {}
    blocked: set[tuple[bool, int]] = set()
    for turn in range(5000):
        for one in (client, server):
            one.codec.opened()
        if said < 8 and rng.random() < 0.5:
            stream = client.codec.open_stream()
            if stream:
                said += 1
                body = rng.randbytes(rng.choice([0, 10, 3000, 90000]))
                asked[stream] = body
                fields = [(b"priority", b"u=%d" % rng.randrange(8)), (b"cookie", b"a=b")]
                client.codec.head(stream, Request("POST", "https", b"a", b"/", fields, "1.1", len(body)), False)
                client.codec.data(stream, body, True)
        idle = True
        for one in (client, server):
            for stream, raw, fin in one.codec.take() or []:
                flying.setdefault((one is client, stream), []).append((raw, fin))
                idle = False
            if one.codec.orders() and turn < 4999:
                return "an order in a talk of two that keep the rules"
            for stream in list(one.codec.streams):
                if rng.random() < 0.2:
                    one.codec.blocked(stream)
                    blocked.add((one is client, stream))
            if one.codec.more:
                idle = False
                one.codec.feed(b"", now)
        for of, stream in list(blocked):
            if rng.random() < 0.5:
                blocked.discard((of, stream))
                (client if of else server).codec.unblocked(stream)
        keys = [key for key in flying if flying[key]]
        rng.shuffle(keys)
        for key in keys[: rng.randrange(1, 5)]:
            raw, fin = flying[key].pop(0)
            other = server if key[0] else client
            pieces = cut(rng, raw, rng.choice([0, 3000, 20000]))
            for i, piece in enumerate(pieces):
                now += 1_000_000
                other.codec.feed(piece, now, key[1], fin and i == len(pieces) - 1)
            idle = False
        if idle and said == 8 and not blocked and len(client.ended) == 8:
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
        way = talk if count % 40 == 0 else split_matters
        try:
            wrong = way(random.Random(state))
        except Exception as error:
            wrong = f"{way.__name__} raised {error!r}"
        if wrong:
            failed.append(f"[{state}] {wrong}")
    print(f"h3: {count} inputs, {len(failed)} wrong, seed {seed}")
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    wrong = run(options.seconds, options.seed)
    print("\n".join(wrong))
    sys.exit(bool(wrong))
