"""Fuzzing of wire.ws, both roles, with and without permessage-deflate, against the frame parser of `websockets`.

    python fuzz/ws.py --seconds 60 --seed 1

What is checked of every input, made-up frames that were then bent a little:

1. Split: whole, byte by byte and at random places, the same words are heard, the same rule is broken, the same is said.
2. Meaning: what we hear is what `websockets` makes of the same bytes, up to where either of us fails. We may refuse what
   it takes (a length that is not in its shortest form, a ping's too, text that is not UTF-8, which it checks elsewhere), never the
   other way.
3. A reader that has enough after each message, and goes on later, hears the same.
4. Memory: nothing is kept beyond the message limit; after the end nothing at all.
5. Round trip: messages said by one role are heard by the other as they were meant.

An input that fails is printed and saved in fuzz/corpus/ws/, which later runs (and the tests) check first.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
from pathlib import Path

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

from fairlead.core.limits import WebSocketLimits
from fairlead.wire import _plain
from fairlead.wire.ws import RULES, Ear, WebSocket
from fairlead.wire.wsdeflate import Deflate, Settings

CORPUS = Path(__file__).parent / "corpus" / "ws"
MOST = 2000  # bytes of a message here
KEY = 0x9D3B01F7
SETTINGS = Settings(takeover=True, least=0, bits=15)
FIRST = [0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x88, 0x89, 0x8A, 0xC1, 0xC2, 0x41, 0xC0, 0x83, 0x8B, 0x09, 0xA1, 0x91]
PAYLOADS = [b"", b"Hello", "häß€\U0001f600".encode(), b"\xff", b"\xed\xa0\x80", b"\xc3", b"\xa9", b"\x03\xe8", b"\x03\xe8bye",
            b"\x03", b"\x00\x01", b"\x0f\xa0\xff", b"x" * 125, b"y" * 126, b"z" * 700, b"\xf2\x48\xcd\xc9\xc9\x07\x00",
            b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"]  # fmt: skip
STRICTER = {"long-form", "control-long", "utf-8", "message-too-big", "too-many-fragments", "deflate"}


class Listener(Ear):
    """Writes down what it hears; `patient` says after each message that it is enough."""

    def __init__(self, patient: bool) -> None:
        self.words: list[tuple] = []
        self.patient = patient

    def text(self, message: str) -> bool:
        self.words.append(("text", message))
        return not self.patient

    def binary(self, message: bytes) -> bool:
        self.words.append(("binary", message))
        return not self.patient

    def ping(self, payload: bytes) -> None:
        self.words.append(("ping", payload))

    def pong(self, payload: bytes) -> None:
        self.words.append(("pong", payload))

    def closed(self, code: int, reason: str) -> None:
        self.words.append(("closed", code, reason))


def hear(pieces: list[bytes], client: bool, deflate: bool, patient: bool = False) -> tuple[list[tuple], str, bytes]:
    """What is heard of these bytes, the rule they break, and what is said."""
    ear = Listener(patient)
    agreed = Deflate(SETTINGS, (True, 15), (True, 15)) if deflate else None
    limits = WebSocketLimits(message=MOST, fragments=50)
    ws = WebSocket(ear, limits, client, agreed, (lambda: KEY) if client else None, 1)
    said = b""
    for piece in pieces:
        ws.feed(piece, 2)
        for _ in range(10000):
            if not ws.more:
                break
            ws.feed(b"", 2)
        said += b"".join(ws.take() or [])
    ws.eof(3)
    said += b"".join(ws.take() or [])
    assert ws.finished
    assert ear.words[-1][0] == "closed" and [word[0] for word in ear.words].count("closed") == 1
    assert ws.failed == "" or ws.failed in RULES
    return ear.words, ws.failed, said


def theirs(data: bytes, client: bool, deflate: bool) -> tuple[list[tuple], bool | None]:
    """(words, did it fail) of `websockets`' frame parser with messages put together as RFC 6455 says; None: it waits for
    the rest of a frame, where we may have seen enough.
    """
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    extensions = [PerMessageDeflate(False, False, 15, 15)] if deflate else []
    words: list[tuple] = []
    kind, parts = None, []
    while True:
        before = len(reader.buffer)
        parser = Frame.parse(reader.read_exact, mask=not client, max_size=MOST, extensions=extensions)
        try:
            while True:
                next(parser)
        except StopIteration as done:
            frame = done.value
        except (ProtocolError, PayloadTooBig):
            return words, True
        except EOFError:
            return words, None if before else False
        body = bytes(frame.data)
        if frame.opcode is Opcode.CLOSE:
            try:
                Close.parse(body)
            except (ProtocolError, UnicodeDecodeError):
                return words, True
            return words, False
        if frame.opcode in (Opcode.PING, Opcode.PONG):
            words.append((frame.opcode.name.lower(), body))
            continue
        if (frame.opcode is Opcode.CONT) != (kind is not None):
            return words, True
        if deflate and extensions[0].decoder is not None and extensions[0].decoder.eof:
            return words, None  # a final block: `websockets` inflates nothing after it, we do
        kind = kind or frame.opcode
        parts.append(body)
        if frame.fin:
            whole = b"".join(parts)
            try:
                words.append(("text", whole.decode()) if kind is Opcode.TEXT else ("binary", whole))
            except UnicodeDecodeError:
                return words, True
            kind, parts = None, []


def make(rng: random.Random, client: bool) -> bytes:
    """Some frames, mostly good, then mostly bent."""
    out = b""
    for _ in range(rng.randint(1, 7)):
        first = rng.choice(FIRST[:7] if rng.random() < 0.6 else FIRST)
        payload = rng.choice(PAYLOADS) * rng.choice((1, 1, 1, 3))
        key = -1 if client != (rng.random() < 0.02) else rng.getrandbits(32)
        frame = _plain.frame(first, payload, key)
        if rng.random() < 0.03:
            frame = frame[:1] + bytes([frame[1] & 0x80 | rng.choice((126, 127, 5))]) + rng.randbytes(rng.choice((2, 8, 12)))
        out += frame
    for _ in range(rng.choice((0, 0, 1, 2))):
        at = rng.randrange(len(out))
        out = rng.choice((out[:at], out[:at] + out[at + 1 :], out[:at] + rng.randbytes(1) + out[at + 1 :]))
        out = out or b"\x81"
    return out


def cut(rng: random.Random, data: bytes) -> list[bytes]:
    """`data` at random places."""
    at = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randint(1, 6)))
    return [piece for piece in (data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)) if piece]


def check(data: bytes, client: bool, deflate: bool, rng: random.Random) -> str:
    """What is wrong with how `data` is understood, or ""."""
    words, rule, said = hear([data], client, deflate)
    for name, pieces in (("bytes", [data[i : i + 1] for i in range(len(data))]), ("pieces", cut(rng, data))):
        again = hear(pieces, client, deflate)
        if deflate and rule in STRICTER and again[1] in STRICTER and again[0][:-1] == words[:-1]:
            continue  # which of several things is wrong with what was inflated depends on what came first
        if again[0] != words or again[1] != rule:
            return f"split by {name}: {again[:2]} for {words}, {rule!r}"
        if again[2] != said:
            return f"split by {name} something else is said"
    patient = hear([data], client, deflate, True)
    if patient[:2] != (words, rule):
        return f"a patient reader hears {patient[:2]} for {words}, {rule!r}"
    want, failed = theirs(data, client, deflate)
    mine = words[:-1]
    if rule in STRICTER or failed is None:
        some = min(len(mine), len(want))
        if mine[:some] != want[:some] or (not rule and len(mine) < len(want)):
            return f"heard {mine}, websockets {want}"
    elif mine != want or bool(rule) != failed:
        return f"heard {mine} {rule!r}, websockets {want} {failed}"
    return ""


def round_trip(rng: random.Random) -> str:
    """Messages through both roles."""
    deflate = rng.random() < 0.5
    ends = []
    for client in (True, False):
        ear = Listener(False)
        agreed = Deflate(SETTINGS, (rng.random() < 0.5, 15), (True, 15)) if deflate else None
        ends.append((ear, WebSocket(ear, WebSocketLimits(), client, agreed, (lambda: KEY) if client else None, 1)))
    meant: list[tuple] = []
    speaker, hearer = rng.choice(((0, 1), (1, 0)))
    for _ in range(rng.randint(1, 5)):
        body = rng.choice((b"", rng.randbytes(rng.randint(0, 300)), b"ab" * rng.randint(0, 70000)))
        if rng.random() < 0.5:
            text = body.decode("latin-1")
            ends[speaker][1].text(text)
            meant.append(("text", text))
        else:
            ends[speaker][1].binary(body)
            meant.append(("binary", body))
    for piece in cut(rng, b"".join(ends[speaker][1].take() or [])):
        ends[hearer][1].feed(piece, 2)
    return "" if ends[hearer][0].words == meant else f"said {meant!r}, heard {ends[hearer][0].words!r}"[:500]


def save(data: bytes, client: bool, deflate: bool) -> None:
    """Keep an input that failed."""
    CORPUS.mkdir(parents=True, exist_ok=True)
    name = f"{'client' if client else 'server'}{'-deflate' if deflate else ''}-{hashlib.sha256(data).hexdigest()[:12]}.bin"
    (CORPUS / name).write_bytes(data)


def run(seconds: float, seed: int) -> list[str]:
    """Fuzz for a while; what went wrong, at most ten of them."""
    rng = random.Random(seed)
    failures: list[str] = []
    for path in sorted(CORPUS.glob("*.bin")):
        wrong = check(path.read_bytes(), path.name.startswith("client"), "deflate" in path.name, rng)
        if wrong:
            failures.append(f"{path.name}: {wrong}")
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end and len(failures) < 10:
        count += 1
        client, deflate = rng.random() < 0.5, rng.random() < 0.3
        data = make(rng, client)
        wrong = check(data, client, deflate, rng)
        if wrong:
            save(data, client, deflate)
            failures.append(f"{data.hex()} client={client} deflate={deflate}: {wrong}")
        if count % 10 == 0 and (wrong := round_trip(rng)):
            failures.append(wrong)
    print(f"ws: {count} inputs, {len(failures)} failures")
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz wire.ws.")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    given = parser.parse_args()
    print(f"seed {given.seed}")
    failures = run(given.seconds, given.seed)
    for failure in failures:
        print(failure[:2000])
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
