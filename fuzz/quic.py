"""QUIC over links that lose, delay, double and spoil packets, our adapters over both engines: exchanges, resets, stops.

    python fuzz/quic.py --seconds 60 --seed 1

1. Each exchange ends on both sides, with every byte or a reset, and no stream, byte or packet in flight is left.
2. No engine raises, and no connection ends: but qh3 2.1 with one of its own at the other end, whose handshake may never be over
   on such a link, and a core that forgot a stream of which a copy was still to be sent (`Qh3Engine.look_at_window`), or, as a
   client, did not forget one that both sides reset; these are counted, and told when they are more than one in twenty.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import quiclossy
from test_quic import made_certificate

KEPT = "known: (1, 0, 0, 1)"  # a stream, and nothing to say on it
KINDS = [("aioquic", "qh3"), ("aioquic", "aioquic"), ("qh3", "aioquic")]


def run(seconds: float, seed: int) -> list[str]:
    """Fuzz for a while; what went wrong."""
    logging.getLogger("fairlead.error").setLevel(logging.CRITICAL)
    rng, failed, known, count, exchanges = random.Random(seed), [], 0, 0, 0
    pair, end = made_certificate(Path(tempfile.mkdtemp())), time.monotonic() + seconds
    while time.monotonic() < end and len(failed) < 3:
        kind, state, worst = KINDS[count % 3], rng.getrandbits(32), rng.choice((0.02, 0.05, 0.1))
        count += 1
        try:
            exchanges += quiclossy.talk(*kind, pair, state, worst=worst).finished
        except AssertionError as error:
            if "qh3" in kind and ("(ValueError)" in str(error) or str(error).endswith(KEPT)):
                known += 1
            else:
                failed.append(f"[{state} {kind} {worst}] {error}")
    print(f"quic: {count} connections, {exchanges} exchanges, {known} lost to qh3, {len(failed)} wrong, seed {seed}")
    if known > 3 + count / 20:
        failed.append(f"{known} of {count} connections were lost to qh3")
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    wrong = run(options.seconds, options.seed)
    print("\n".join(wrong))
    sys.exit(bool(wrong))
