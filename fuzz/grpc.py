"""Fuzzing of gRPC's framing: messages, gRPC-Web-Text, compression, timeouts and metadata.

    python fuzz/grpc.py --seconds 60 --seed 1

What is checked of every input, made-up messages that were then bent a little:

1. Split: whole, byte by byte and at random places, the same messages are there and the same rule is broken.
2. Meaning: what we hear is what a few plain lines of Python make of the same bytes.
3. Memory: what is held is never more than one message of the limit.
4. Round trips: text, metadata, status messages, compression, timeouts.

An input that fails is printed and saved in fuzz/corpus/grpc/, which later runs (and the tests) check first.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import random
import sys
import time
from pathlib import Path

from fairlead.core.errors import WireError
from fairlead.wire import grpccoding, grpcwords
from fairlead.wire.grpc import Reader, message, say_timeout, timeout_of

CORPUS = Path(__file__).parent / "corpus" / "grpc"
MOST = 2000  # bytes of a message here


def hear(pieces: list[bytes], most: int) -> tuple[list, str]:
    """The messages of a body, and the rule that it breaks."""
    reader = Reader(most)
    found: list = []
    rule = ""
    try:
        for piece in pieces:
            reader.feed(piece)
            assert reader.held <= most, "more is held than a message may have"
        reader.end()
    except WireError as error:
        rule = error.rule
    while (one := reader.next()) is not None:
        found.append(one)
    return found, rule


def plainly(data: bytes, most: int) -> tuple[list, str]:
    """The same in the plainest way."""
    found: list = []
    while data:
        if len(data) < 5:
            return found, "grpc-cut"
        flag, size = data[0], int.from_bytes(data[1:5], "big")
        if flag > 1:
            return found, "grpc-flag"
        if size > most:
            return found, "grpc-too-long"
        if len(data) < 5 + size:
            return found, "grpc-cut"
        payload, data = data[5 : 5 + size], data[5 + size :]
        found.append((payload,) if flag else payload)
    return found, ""


def make(rng: random.Random) -> bytes:
    """Messages, then some damage."""
    parts = [message(rng.randbytes(rng.choice((0, 1, 2, 5, 100, MOST))), rng.random() < 0.2) for _ in range(rng.randint(0, 5))]
    data = bytearray(b"".join(parts))
    for _ in range(rng.choice((0, 0, 1, 2))):
        if data:
            at = rng.randrange(len(data))
            data[at : at + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
    return bytes(data)


def cut(rng: random.Random, data: bytes) -> list[bytes]:
    """Pieces at random places."""
    places = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(0, 8)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)]) if b > a]


def check(data: bytes, rng: random.Random) -> str:
    """What is wrong with how this input is read, or ""."""
    want = plainly(data, MOST)
    for name, pieces in (("nothing", [data]), ("bytes", [data[i : i + 1] for i in range(len(data))]), ("places", cut(rng, data))):
        if (got := hear(pieces, MOST)) != want:
            return f"split by {name}: {got} for {want}"
    text = b"".join(base64.b64encode(piece) for piece in cut(rng, data))
    reader = grpcwords.Text()
    again = b"".join(reader.feed(piece) for piece in cut(rng, text))
    return "" if again == data and not reader.rest else f"as text: {again!r}"


def round_trip(rng: random.Random) -> str:
    """What is said is heard."""
    raw = rng.randbytes(rng.randint(0, 60))
    words = raw.decode("utf-8", "replace")
    if grpcwords.hear_message(grpcwords.say_message(words)) != words:
        return f"the status message {words!r}"
    [(name, value)] = grpcwords.say_metadata([("x-bin", raw)])
    if grpcwords.hear_metadata([(name, value)]) != [("x-bin", raw)]:
        return f"the metadata {raw!r}"
    coding = rng.choice(grpccoding.NAMES[1:])
    packed = bytearray(grpccoding.deflate(coding, raw))
    if grpccoding.inflate(coding, bytes(packed), 60) != raw:
        return f"{raw!r} by {coding}"
    packed[rng.randrange(len(packed))] ^= 1 << rng.randrange(8)
    try:
        if len(grpccoding.inflate(coding, bytes(packed), 60)) > 60:
            return f"{bytes(packed)!r} by {coding} is too long"
    except WireError:
        pass
    ns = rng.randrange(1, 1 << rng.randint(1, 60))
    try:
        timeout_of(bytes(rng.choice(b"0123456789HMSmun x\xff") for _ in range(rng.randint(0, 10))))
    except WireError:
        pass
    return "" if ns - ns // 50 <= timeout_of(say_timeout(ns)) <= ns or ns < 50 else f"the timeout {ns}"


def save(data: bytes) -> None:
    """Keep an input that failed."""
    CORPUS.mkdir(parents=True, exist_ok=True)
    (CORPUS / f"{hashlib.sha256(data).hexdigest()[:12]}.bin").write_bytes(data)


def run(seconds: float, seed: int) -> list[str]:
    """Fuzz for a while; what went wrong, at most ten of them."""
    rng = random.Random(seed)
    failures = [f"{path.name}: {wrong}" for path in sorted(CORPUS.glob("*.bin")) if (wrong := check(path.read_bytes(), rng))]
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end and len(failures) < 10:
        count += 1
        data = make(rng)
        if wrong := check(data, rng):
            save(data)
            failures.append(f"{data.hex()}: {wrong}")
        if wrong := round_trip(rng):
            failures.append(wrong)
    print(f"grpc: {count} inputs, {len(failures)} failures")
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz wire.grpc.")
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
