"""`shared`: one socket per address, and every worker accepts on it. Who accepts a connection owns it. The model of
NGINX without `reuseport`.

The kernel wakes whoever waits, and left alone that is always the same worker: with EPOLLEXCLUSIVE one of four got 400 of
400 connections. So fairness is ours:
1. Every worker is woken (level-triggered), and takes one connection per wake-up, not all that wait.
2. Who has clearly more than the mean stands back, so that the connection is a sibling's, and looks again every
   millisecond. After eight it takes what still waits: a connection never waits longer for workers that are stuck. Clearly
   is 1/(4n) with n workers, an eighth with two: so all the others together can take no more than a quarter of its share from
   the last one.

"More" means connections: those open, and those taken of late, which halve every `EPOCH`. Both are cells of the slab; each
worker writes its own and reads its siblings'. A worker whose heartbeat is old takes part in no mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic_ns
from typing import Any

from fairlead.run.patterns import Pattern, T

EPOCH = 8  # seconds in which a connection taken counts in full; half as much in the next
LOOK = 0.05  # seconds between two looks at who the siblings are
ALONE = 0.002  # and while there are none: they are just starting
ALIVE = 3.0  # seconds without a heartbeat after which a worker counts as stuck
SECOND = 1_000_000_000


class Shared(Pattern):
    """One socket, every worker accepting."""

    name = "shared"

    def sockets(self, workers: int) -> int:
        return 1

    def share(self, sockets: Sequence[T], index: int, workers: int) -> list[T]:
        return list(sockets)

    def gate(self, slab: Any, slot: int) -> Any:
        return Turns(slab, slot)


class Turns:
    """Whose turn it is, as one worker sees it. `clock` gives monotonic nanoseconds."""

    def __init__(self, slab: Any, slot: int, clock: Any = monotonic_ns) -> None:
        self.slab = slab
        self.clock = clock
        self.mine = slab.region(slot)
        self.siblings: list[Any] = [self.mine]
        self.looked = 0
        self.open_at = self.mine.slot("open")
        self.taken_at = self.mine.slot("taken")

    def may(self) -> bool:
        """Is it this worker's turn to accept?"""
        now = self.clock()
        if now - self.looked > (LOOK if len(self.siblings) > 1 else ALONE) * SECOND:
            self.looked = now
            self.siblings = self.look(now)
        epoch = now // (EPOCH * SECOND)
        whole = sum(self.load(region, epoch) for region in self.siblings)
        parts = 4 * len(self.siblings)
        return self.load(self.mine, epoch) * len(self.siblings) * parts <= whole * (parts + 1)

    def took(self) -> None:
        """One connection was accepted."""
        epoch = self.clock() // (EPOCH * SECOND)
        self.mine.words[self.taken_at] = (epoch << 24) + min(taken(self.mine.words[self.taken_at], epoch) + 1, 0xFFFFFF)

    def load(self, region: Any, epoch: int) -> int:
        """Connections of one worker: open, and taken of late."""
        words = region.words
        return int(words[self.open_at]) + taken(words[self.taken_at], epoch)

    def look(self, now: int) -> list[Any]:
        """The regions of the workers that accept: alive, and not on their way out."""
        others = [region for region in self.slab.regions() if region.index != self.mine.index]
        alive = [r for r in others if now - r.get("heartbeat") < ALIVE * SECOND and not r.get("draining")]
        return [self.mine, *alive]


def taken(word: int, epoch: int) -> int:
    """Connections taken of late, from a cell that holds (epoch, count)."""
    age = epoch - (word >> 24)
    return (word & 0xFFFFFF) >> age if 0 <= age < 24 else 0
