"""Log-linear histograms: 8 buckets per power of two, from 128 ns to a minute, added by plain integer addition.

Rules
1. Times are nanoseconds. Below 1.024 us buckets are 128 ns wide; from there each octave has 8, so a bucket's width is
   at most an eighth of its lower bound, and a percentile read at the bucket's middle is off by at most 6.25 %.
2. What is longer than the last bucket's lower bound (about a minute) counts in the last one. Nothing is lost.
3. Counts are cumulative and never reset; a window is the difference of two readings, a total the sum over all workers.
"""

from __future__ import annotations

BUCKETS = 216
COMPILED = not __file__.endswith(".py")


def bucket(ns):
    """The bucket of a duration in nanoseconds: 0 ... BUCKETS - 1."""
    rest = ns >> 7
    if rest < 8:
        return rest if rest > 0 else 0
    if COMPILED:
        octave = width(rest) - 3  # type: ignore[name-defined]  # noqa: F821 (in the .pxd)
    else:
        octave = rest.bit_length() - 3
    found = octave * 8 + (rest >> (octave - 1)) - 8
    return found if found < 216 else 215


def bound(index):
    """The lower bound of a bucket, in nanoseconds; `bound(index + 1)` is its upper one."""
    if index < 8:
        return index << 7
    octave, sub = divmod(index - 8, 8)
    return (8 + sub) << (7 + octave)


MIDDLES = tuple((bound(i) + bound(i + 1)) // 2 for i in range(BUCKETS))


def percentile(counts, share):
    """Nanoseconds below which `share` (0 ... 1) of the counted durations lie; 0 when nothing was counted."""
    total = sum(counts)
    if not total:
        return 0
    left = max(1, -int(-share * total // 1))
    for index, count in enumerate(counts):
        left -= count
        if left <= 0:
            return MIDDLES[index]
    return MIDDLES[-1]


def percentiles(counts, shares):
    """`percentile` for several ascending shares in one walk."""
    total = sum(counts)
    if not total:
        return [0] * len(shares)
    found, seen, index = [], 0, -1
    for share in shares:
        wanted = max(1, -int(-share * total // 1))
        while seen < wanted and index < len(counts) - 1:
            index += 1
            seen += counts[index]
        found.append(MIDDLES[index])
    return found


def add(left, right):
    """The sum of two histograms, as a new list."""
    return [a + b for a, b in zip(left, right)]


def difference(newer, older):
    """What was counted between two readings. A reading that went back (a new slab) counts from nothing."""
    return [a - b if a >= b else a for a, b in zip(newer, older)]


def mean(counts):
    """The mean in nanoseconds, from the buckets' middles; 0 when nothing was counted."""
    total = sum(counts)
    return sum(c * m for c, m in zip(counts, MIDDLES)) // total if total else 0
