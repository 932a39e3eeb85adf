"""How many of each name there are now, in all workers together: each counts in its own part of the slab, and adds what others have.

    worker 1: region 1, (name's hash, owner and count) ... ◀── reads ── worker 2 counts "ann" in region 2, and adds region 1's

Rules
1. A worker writes its own region only (`core.slab`, rule 1), so nobody's count is lost, and what a killed worker had counted goes
   with it: the total `following` of its region says whether it counts, and whoever sees it end sets that to nought.
2. A count carries the region's `epoch` beside it: what an earlier owner of the region wrote says nothing.
3. A name has `PROBES` places. One that finds none free is counted by its own worker only.
4. Who looks and adds in the same moment as another worker does may be one too many.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

PROBES = 8  # places looked at for a name
BITS = 24  # of a count; the owner's epoch stands above them


class Tally:
    """Counts by name. `slab` and `index`: whose regions there are and which is ours; without, this process is all there is."""

    def __init__(self, slab: Any = None, index: int = 0) -> None:
        self.counts: dict[str, int] = {}
        self.all = 0
        self.own: Any = None
        self.others: list[Any] = []
        if slab is not None:
            self.own = slab.region(index)
            self.others = [slab.region(i) for i in range(slab.slots) if i != index]
            self.start, self.places = self.own.offsets["tally"], self.own.layout["tally"]
            self.salt = slab.created.to_bytes(8, "little")  # places are nobody's guess

    def count(self, name: str) -> int:
        """How many there are now."""
        found = self.counts.get(name, 0)
        digest = 0
        for region in self.others:
            if region.get("following"):
                digest = digest or self.digest(name)
                if (at := self.find(region, digest)) is not None:
                    found += region.words[at + 1] & (1 << BITS) - 1
        return found

    def add(self, name: str, step: int) -> None:
        """One more, or (-1) one less, by this worker."""
        count = self.counts.get(name, 0) + step
        if count:
            self.counts[name] = count
        else:
            self.counts.pop(name, None)
        self.all += step
        if self.own is not None:
            self.own.set("following", self.all)
            self.write(self.digest(name), count)

    def digest(self, name: str) -> int:
        """What stands for a name: 63 bits, never 0."""
        raw = blake2b(name.encode("utf-8", "backslashreplace"), digest_size=8, key=self.salt).digest()
        return int.from_bytes(raw, "big") >> 1 or 1

    def find(self, region: Any, digest: int) -> int | None:
        """The word where a region has a name of its present owner."""
        words, epoch = region.words, region.get("epoch")
        for step in range(PROBES):
            at = int(self.start) + 2 * ((digest + step) % self.places)
            if words[at] == digest and words[at + 1] >> BITS == epoch:
                return at
        return None

    def write(self, digest: int, count: int) -> None:
        """Say it in our region, where there is a place."""
        words, epoch = self.own.words, self.own.get("epoch")
        at = self.find(self.own, digest)
        for step in range(PROBES):
            if at is not None:
                break
            free = int(self.start) + 2 * ((digest + step) % self.places)
            old = words[free + 1]
            if old >> BITS != epoch or not old & (1 << BITS) - 1:
                at = free
        if at is not None:
            words[at + 1] = epoch << BITS
            words[at] = digest
            words[at + 1] = epoch << BITS | count
