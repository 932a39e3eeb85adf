"""What the workers of one server share for QUIC, in words of shared memory: a key, where ids belong, and session tickets.

Rules
1. The keys are written by who makes the segment, before anybody else sees it, and never change: ours; that of the server that this
   one took over from, whose workers may still have connections; and one that a successor goes on with.
2. Ids that an engine made up itself do not say whose they are (see `net.steer`). Their owner writes them here, and who gets a
   packet with one looks it up. A cell is two words: the id, and the owner's region. An id is in one of `WAYS` cells; when all
   are taken, one is overwritten: that costs a migrating client its connection at worst.
3. The number of a token that was used is written into its one cell. When another that shares the cell is used, it is forgotten:
   whoever wants to use a copy of it has to use some `SPENT` others first, each of which costs it a connection.
4. A ticket is used once, whichever worker is asked (RFC 8446 section 8.1): who takes it swaps the cell's word for 0, and of two
   that try, one succeeds. A cell is the word, then the ticket. Tickets that nobody came for are overwritten by later ones.
"""

from __future__ import annotations

import hashlib
from typing import Any

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

KEY = 32  # bytes
KEYS = 3 * KEY
IDS = 32768  # cells of two words
WAYS = 8
SPENT = 16384  # words
TICKETS = 4096  # cells
CELL = 512  # bytes of a ticket's cell, its word and its length included
BUSY = 1
WORDS = KEYS // 8 + 2 * IDS + TICKETS * CELL // 8 + SPENT


class Share:
    """`Share(memory, lock)` on `WORDS` words of memory that all workers have; `lock` as of `_fast.Words`."""

    def __init__(self, memory: Any, lock: int) -> None:
        self.memory = memory
        self.words = _fast.Words(memory, lock)
        self.ids = KEYS // 8
        self.tickets = self.ids + 2 * IDS
        self.spent = self.tickets + TICKETS * CELL // 8

    @property
    def key(self) -> bytes:
        return bytes(self.memory[:KEY])

    @property
    def previous(self) -> bytes:
        """Zeros where there is none."""
        return bytes(self.memory[KEY : 2 * KEY])

    @property
    def lasting(self) -> bytes:
        return bytes(self.memory[2 * KEY : KEYS])

    def succeed(self, keys: bytes) -> None:
        """Go on after the server that had these `KEYS` bytes; before anybody else sees the segment."""
        self.memory[KEY:KEYS] = keys[:KEY] + keys[2 * KEY :]

    # ---- ids

    def own(self, cid: bytes, region: int) -> None:
        """The worker with this region of the slab has this id."""
        word, places = self.places(cid)
        for at in places:
            if self.words.load(at) in (0, word) and self.words.swap(at, self.words.load(at), word):
                self.words.store(at + 1, region + 1)
                return
        at = places[word % WAYS]
        self.words.store(at, word)
        self.words.store(at + 1, region + 1)

    def disown(self, cid: bytes) -> None:
        """Nobody has this id any more."""
        word, places = self.places(cid)
        for at in places:
            self.words.swap(at, word, 0)

    def owner(self, cid: bytes) -> int:
        """The region of the worker that has this id, or -1."""
        word, places = self.places(cid)
        for at in places:
            if self.words.load(at) == word:
                return self.words.load(at + 1) - 1
        return -1

    def places(self, cid: bytes) -> tuple[int, list[int]]:
        """An id's word and the cells it may be in."""
        word = int.from_bytes(cid[:8], "little", signed=True) or 1
        first = (word * 0x9E3779B97F4A7C15 >> 32) % (IDS // WAYS) * WAYS
        return word, [self.ids + 2 * (first + i) for i in range(WAYS)]

    # ---- tokens

    def spend(self, number: bytes) -> bool:
        """Use the token with this number (8 random bytes); False when it was used before. Rule 3."""
        word = int.from_bytes(number, "little", signed=True) or 1
        at = self.spent + (word * 0x9E3779B97F4A7C15 >> 32) % SPENT
        old = self.words.load(at)
        return bool(old != word and self.words.swap(at, old, word))

    # ---- tickets

    def keep(self, name: bytes, body: bytes) -> bool:
        """Keep a ticket under its name; False when it is too large or another is just being written there."""
        if len(name) + len(body) + 12 > CELL:
            return False
        at, tag = self.cell(name)
        old = self.words.load(at)
        if old == BUSY or not self.words.swap(at, old, BUSY):
            return False
        start = at * 8 + 8
        data = len(name).to_bytes(2, "big") + len(body).to_bytes(2, "big") + name + body
        self.memory[start : start + len(data)] = data
        self.words.store(at, tag)
        return True

    def take(self, name: bytes) -> bytes | None:
        """The ticket of this name, once."""
        at, tag = self.cell(name)
        if self.words.load(at) != tag or not self.words.swap(at, tag, BUSY):
            return None
        start = at * 8 + 8
        data = bytes(self.memory[start : start + CELL - 8])
        self.words.store(at, 0)
        end = 4 + int.from_bytes(data[:2], "big")
        if data[4:end] != name:
            return None
        return data[end : end + int.from_bytes(data[2:4], "big")]

    def cell(self, name: bytes) -> tuple[int, int]:
        """Where a ticket is kept, and the word that says it is there."""
        digest = hashlib.blake2b(name, digest_size=16).digest()
        place = int.from_bytes(digest[:8], "big") % TICKETS
        return self.tickets + place * CELL // 8, int.from_bytes(digest[8:], "big") >> 1 | 2
