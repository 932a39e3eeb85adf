"""The chunked transfer coding (RFC 9112 section 7), read byte by byte, and written.

`Chunks.read` takes bytes at any split and keeps no bytes of its own: a size line is understood as it comes, data is
given out in `pieces`. It stops behind the last chunk's size line, where the trailer section starts.

Rules
1. A size is 1 to 16 hexadecimal digits; then CRLF, or ";" and well-formed extensions without white space. Lines end in
   CRLF.
2. Data ends in CRLF. Extensions are dropped; what they may cost is limited per line and per body.
"""

from __future__ import annotations

from fairlead.wire.h1bytes import LOW, VALUE
from fairlead.wire.h1rules import broken

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

_LOW = LOW
_VALUE = VALUE
# the value of a hexadecimal digit, or 255
_HEX = bytes(int(chr(c), 16) if c in b"0123456789abcdefABCDEF" else 255 for c in range(256))

SIZE, EXTENSION, SIZE_LF, DATA, DATA_CR, DATA_LF, DONE = range(7)


class Chunks:
    """One chunked body being read. `over`: the last chunk's line was read; `pieces`: data since the last look."""

    def __init__(self, limits, client):
        self.client = client
        self.max_line = limits.chunk_line or 1 << 60
        self.max_extra = limits.chunk_ext or 1 << 60
        self.pieces = []
        self.start()

    def start(self):
        """A new body begins."""
        self.over = False
        self.state = 0
        self.digits = 0
        self.left = 0
        self.line = 0
        self.extra = 0
        self.before = 59
        self.quoted = 0
        self.valued = False

    def fail(self, rule):
        """Raise the error of a broken rule."""
        raise broken(rule, self.client)

    def read(self, data, v, at, end):
        """Read `data[at:end]`; the position behind what was used. Sets `over`."""
        digit = _HEX
        while at < end:
            if self.state == 3:
                take = end - at
                if take > self.left:
                    take = self.left
                self.pieces.append(_fast.piece(data, at, at + take))
                self.left -= take
                at += take
                if self.left == 0:
                    self.state = 4
                continue
            byte = v[at]
            at += 1
            if self.state == 0:
                value = digit[byte]
                if value < 16:
                    self.digits += 1
                    if self.digits > 16 or (self.digits == 16 and self.left >> 59):
                        self.fail("bad-chunk-size")
                    self.left = self.left * 16 + value
                else:
                    self.size_over(byte)
            elif self.state == 1:
                self.extend(byte)
            elif self.state == 2:
                if byte != 10:
                    self.fail("bare-cr")
                if self.left == 0:
                    self.over = True
                    return at
                self.state = 3
            elif self.state == 4:
                if byte != 13:
                    self.fail("chunk-end")
                self.state = 5
            else:
                if byte != 10:
                    self.fail("chunk-end")
                self.state = self.digits = self.line = 0
        return at

    def size_over(self, byte):
        """The byte after a size."""
        if self.digits == 0:
            self.fail("bad-chunk-size")
        if byte == 13:
            self.state = 2
        elif byte == 59:
            self.state = 1
            self.before = 59
            self.quoted = 0
            self.valued = False
        elif byte == 10:
            self.fail("bare-lf")
        else:
            self.fail("bad-chunk-size")

    def extend(self, byte):
        """A byte of the chunk extensions, or their end: *( ";" token [ "=" ( token | quoted-string ) ] )."""
        self.line += 1
        self.extra += 1
        if self.line > self.max_line:
            self.fail("chunk-line-too-long")
        if self.extra > self.max_extra:
            self.fail("chunk-ext-too-long")
        if self.quoted:
            self.quote(byte)
        elif byte == 13:
            if self.before == 59 or self.before == 61:
                self.fail("bad-chunk-ext")
            self.state = 2
        elif byte == 10:
            self.fail("bare-lf")
        elif byte == 59:
            if self.before == 59 or self.before == 61:
                self.fail("bad-chunk-ext")
            self.valued = False
        elif byte == 61:
            if self.valued or self.before == 59:
                self.fail("bad-chunk-ext")
            self.valued = True
        elif byte == 34 and self.before == 61:
            self.quoted = 1
        elif self.before == 34 or not _LOW[byte]:
            self.fail("bad-chunk-ext")
        self.before = byte

    def quote(self, byte):
        """A byte inside a quoted string (RFC 9110 section 5.6.4)."""
        if byte == 10:
            self.fail("bare-lf")
        if byte == 13 or not _VALUE[byte]:
            self.fail("bad-chunk-ext")
        if self.quoted == 2:
            self.quoted = 1
        elif byte == 92:
            self.quoted = 2
        elif byte == 34:
            self.quoted = 0
