"""Fuzzing HPACK: our decoder against the `hpack` library on bent blocks, and our encoder read back by both.

    python fuzz/hpack.py --seconds 60 --seed 1

1. A block made by an encoder (ours or the library's) and then bent is read by both decoders: where both take it, they
   read the same fields; where we do not, it is an error and nothing else. We may refuse what the library takes.
2. What we encode, the library reads as it was meant, with tables that change their size between blocks.
3. Whatever comes, the table, the list and what it counts stay within their bounds.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from typing import Any

import hpack

from fairlead.core.errors import WireError
from fairlead.wire.hpack import Decoder, Encoder

NAMES = [
    b":method",
    b":path",
    b":status",
    b"cookie",
    b"date",
    b"x-a",
    b"x-b",
    b"content-type",
    b"accept",
    b"authorization",
]
VALUES = [
    b"",
    b"GET",
    b"/",
    b"200",
    b"a=b; c=d",
    b"text/html",
    b"x" * 200,
    b"\xff\xfe",
    b"Wed, 25 Nov 2026 20:00:00 GMT",
]


def some_fields(rng: random.Random) -> list[tuple[bytes, bytes]]:
    return [(rng.choice(NAMES), rng.choice([*VALUES, b"%d" % rng.randrange(50)])) for _ in range(rng.randrange(12))]


def bent(rng: random.Random, block: bytes) -> bytes:
    """A block with a few bytes changed, cut, doubled or put in."""
    out = bytearray(block)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at:at] = bytes(
                rng.choice([[0xFF], [0x80], [0x00], [0x3F, 0xE1, 0x1F], [0x7F, 0x80], [rng.randrange(256)]])
            )
        elif kind == 2:
            del out[at : at + rng.randrange(1, 4)]
        elif kind == 3:
            out += out[at : at + 8]
    return bytes(out)


def theirs(decoder: hpack.Decoder, block: bytes) -> list[tuple[bytes, bytes]] | None:
    try:
        return [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
    except (hpack.HPACKError, UnicodeDecodeError):
        return None


def one(rng: random.Random) -> str:
    """One pair of connections; what went wrong, or ""."""
    ours, library, encoder = Decoder(1 << 20, 1000), hpack.Decoder(), hpack.Encoder()
    library.max_header_list_size = 1 << 24
    mine = Encoder()
    for _ in range(rng.randrange(1, 6)):
        fields = some_fields(rng)
        if rng.random() < 0.5:
            out = bytearray()
            if rng.random() < 0.3:
                mine.resize(rng.choice([0, 50, 100, 4096]))
            mine.begin(out)
            for field in fields:
                mine.add(out, field)
            block = bytes(out)
            back = theirs(hpack.Decoder(), block) if mine.inserted == 0 else fields
            if back != fields:
                return f"we said {fields}, the library read {back}: {block.hex()}"
        else:
            block = encoder.encode(fields, huffman=rng.random() < 0.7)
        block = bent(rng, block)
        read: Any
        try:
            read = [field[:2] for field in ours.decode(block, 0, len(block))]
        except WireError as error:
            if error.rule != "bad-hpack":
                return f"another error: {error}"
            return ""
        there = theirs(library, block)
        if there is not None and read != there and not ours.over:
            return f"read {read}, the library {there}: {block.hex()}"
        if there is None:
            return ""
        if ours.size > max(ours.capacity, 0) or ours.capacity > 4096 or ours.total > 1 << 20:
            return f"bounds: {ours.size} {ours.capacity} {ours.total}"
    return ""


def run(seconds: float, seed: int) -> list[str]:
    """Fuzz for a while; what went wrong."""
    rng = random.Random(seed)
    failed, count, end = [], 0, time.monotonic() + seconds
    while time.monotonic() < end and len(failed) < 5:
        count += 1
        wrong = one(rng)
        if wrong:
            failed.append(wrong)
    print(f"hpack: {count} talks, {len(failed)} wrong, seed {seed}")
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    wrong = run(options.seconds, options.seed)
    print("\n".join(wrong))
    sys.exit(bool(wrong))
