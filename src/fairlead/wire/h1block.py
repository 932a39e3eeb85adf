"""Heads as one block: the field lines of a received head as positions in the bytes they came in (RFC 9112 section 5).

The parser (`h1head`) notes five positions for each field: where its line starts, where its colon is, where its value starts and
ends, and the slot of a known name (`h1bytes.NAMES`) or 65535. Nothing is copied and no object made until somebody looks.

Rules
1. What is here has passed the parser: names are tokens, values hold no control byte but HTAB and no outer white space.
2. `said` writes a whole head in one go: its first line in three pieces, then fields as `name: value`, names in lower case,
   one space behind the colon, CRLF at the end, however they came. So this way and the list give the same bytes.
3. A block has room for 44 fields (so it stays within the 512 bytes that the allocator is quick with); a longer head is a
   list from then on. It keeps the bytes of its read alive, so reads above `LARGEST` are made into lists at once.
4. Once parsed it does not change, so the next head with the same field lines has the same block (`h1head`, rule 5). One that
   came again (`again`) keeps what `said` made of its fields, for as long as the same is left out and put before them.
"""

from __future__ import annotations

from fairlead.core.message import Fields
from fairlead.wire.h1bytes import NAMES, SLOT_NUMBERS

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

LARGEST = 16384
COMPILED = not __file__.endswith(".py")
_NAMES = NAMES
_NUMBERS = SLOT_NUMBERS


class Block(Fields):
    """Positions of `count` fields in `data`; `marks` holds five numbers each."""

    def begin(self):
        """Empty; compiled, `Block.__new__` does that."""
        self.known = self.count = self.kept_drop = 0
        self.kept = self.kept_before = None
        self.again = False
        self.marks = [0] * 220

    def listed(self, drop):
        data = self.data
        marks = self.marks
        numbers = _NUMBERS
        found = []
        for i in range(self.count):
            at = i * 5
            slot = marks[at + 4]
            if slot == 65535:
                name = _fast.lower(data, marks[at], marks[at + 1])
            elif drop >> numbers[slot] & 1:
                continue
            else:
                name = _NAMES[slot]
            found.append((name, _fast.piece(data, marks[at + 2], marks[at + 3])))
        return found

    def edited(self, drop, before, after, tail):
        ending = after + tail + b"\r\n" if tail else after
        return lines(before) + self.listed(drop) + lines(ending)

    def get(self, name):
        data = self.data
        marks = self.marks
        size = len(name)
        for i in range(self.count):
            at = i * 5
            if marks[at + 1] - marks[at] == size and _fast.lower(data, marks[at], marks[at + 1]) == name:
                return _fast.piece(data, marks[at + 2], marks[at + 3])
        return None

    def said(self, a, b, c, before, drop, after, tail, length, more, body):
        """A whole head as bytes, its empty line and `body` included: the first line (a, b, c), the lines `before`, the fields that
        are not in `drop`, `after` + `tail`, Content-Length unless `length` is negative, the lines `more`. None when `tail` is no
        field value.
        """
        count = self.count
        if self.again:
            if self.kept is None or self.kept_drop != drop or self.kept_before is not before:
                self.keep(before, drop)
            before = self.kept
            count = 0
        return _fast.head_joined(
            self.data, self.marks, count, _NUMBERS, drop, a, b, c, before, after, tail, length, more, body
        )

    def keep(self, before, drop):
        """Write `before` and the fields that are not in `drop` once for all."""
        made = _fast.head_joined(
            self.data, self.marks, self.count, _NUMBERS, drop, b"", b"", b"", before, b"", b"", -1, b"", b""
        )
        self.kept = _fast.piece(made, 0, len(made) - 2)  # without the empty line
        self.kept_before = before
        self.kept_drop = drop


def lines(text):
    """Field lines we wrote ourselves, as a list."""
    found = []
    for line in text.split(b"\r\n"):
        if line:
            name, _, value = line.partition(b": ")
            found.append((name, value))
    return found
