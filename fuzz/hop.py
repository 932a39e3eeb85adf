"""Feeds broken frames to both ends of a link: each must end in a WireError or in silence, never in another exception.

    python fuzz/hop.py --seconds 10 [--seed N]
"""

import argparse
import random
import time

from fairlead.core.codec import Sink
from fairlead.core.errors import WireError
from fairlead.core.limits import Limits
from fairlead.wire import _plain
from fairlead.wire.hop import Hop


def frames(draw: random.Random) -> bytes:
    """Some frames that are nearly right, then damaged."""
    out = bytearray()
    for _ in range(draw.randint(1, 5)):
        parts = [draw.randbytes(draw.choice((0, 1, 24, 32, 64))) for _ in range(draw.choice((0, 4, 5, 11)))]
        fields = [(b"a", b"b")] * draw.randint(0, 2)
        body = draw.randbytes(draw.choice((0, 0, 3, 70000)))
        given = (draw.randint(0, 12), draw.choice((0, 1, 2, 3)), draw.choice((0, 1, 100, 200, 999)))
        out += _plain.hop_frame(*given, draw.choice((0, 1, 70000)), draw.randint(0, 5), parts, fields, body)
    for _ in range(draw.choice((0, 0, 1, 4))):
        out[draw.randrange(len(out))] = draw.randrange(256)
    return bytes(out)


def once(draw: random.Random) -> None:
    """One link's end, one stream of bytes, cut anywhere."""
    codec = Hop(Sink(), Limits(), draw.random() < 0.5)
    data = frames(draw)
    try:
        while data:
            cut = draw.randint(1, len(data))
            codec.feed(data[:cut], 1)
            data = data[cut:]
        codec.take()
        codec.eof(2)
    except WireError:
        pass


def main() -> None:
    """Until the time is over."""
    parser = argparse.ArgumentParser(description="damaged frames on a link between a front and a worker")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    options = parser.parse_args()
    end, count = time.monotonic() + options.seconds, 0
    while time.monotonic() < end:
        once(random.Random(options.seed + count))
        count += 1
    print(f"hop: {count} streams, no surprise, seed {options.seed}\n")


if __name__ == "__main__":
    main()
