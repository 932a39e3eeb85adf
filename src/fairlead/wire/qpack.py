"""QPACK (RFC 9204): header lists to and from field sections, for streams that may overtake one another.

    reading   sections may name entries that the peer put into our table by its encoder stream: then they are acknowledged,
              and wait when the entries have not arrived ("blocked")
    writing   the static table and literals only, each field made once and kept ready

Rules
1. As `hpack`, whose strings, integers and checks these are: a section is read to its end, no more than `most` bytes and `fields`
   fields are kept of it, and each literal is checked once, when it is read. So a section that repeats one large entry costs
   its own length.
2. What is no QPACK raises WireError with `code`: 0x200 in a section, 0x201 on the encoder stream, 0x202 on the decoder stream
   (section 6).
3. An instruction is used when it is whole; until then it is kept, and it is never longer than the table that we allow.
4. Why no dynamic table for writing: an entry pays when heads repeat what the static table lacks, and each section that names
   one is answered by the peer on a stream of its own, which both sides pay for in a frame and a packet. The few fields of
   an answer do not make up for that. So we insert nothing, and an acknowledgement of anything is an error.
"""

from __future__ import annotations

from fairlead.core.errors import WireError
from fairlead.wire.hpack import HOW, checked, integer, string
from fairlead.wire.hpack import Decoder as Hpack
from fairlead.wire.huffman import decoded, encode, size_of

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

# RFC 9204 appendix A: fields in order, "~" between name and value
_TABLE = """:authority :path~/ age~0 content-disposition content-length~0 cookie date etag if-modified-since if-none-match
last-modified link location referer set-cookie :method~CONNECT :method~DELETE :method~GET :method~HEAD :method~OPTIONS
:method~POST :method~PUT :scheme~http :scheme~https :status~103 :status~200 :status~304 :status~404 :status~503 accept~*/*
accept~application/dns-message accept-encoding~gzip,_deflate,_br accept-ranges~bytes
access-control-allow-headers~cache-control access-control-allow-headers~content-type access-control-allow-origin~*
cache-control~max-age=0 cache-control~max-age=2592000 cache-control~max-age=604800 cache-control~no-cache
cache-control~no-store cache-control~public,_max-age=31536000 content-encoding~br content-encoding~gzip
content-type~application/dns-message content-type~application/javascript content-type~application/json
content-type~application/x-www-form-urlencoded content-type~image/gif content-type~image/jpeg content-type~image/png
content-type~text/css content-type~text/html;_charset=utf-8 content-type~text/plain content-type~text/plain;charset=utf-8
range~bytes=0- strict-transport-security~max-age=31536000 strict-transport-security~max-age=31536000;_includesubdomains
strict-transport-security~max-age=31536000;_includesubdomains;_preload vary~accept-encoding vary~origin
x-content-type-options~nosniff x-xss-protection~1;_mode=block :status~100 :status~204 :status~206 :status~302 :status~400
:status~403 :status~421 :status~425 :status~500 accept-language access-control-allow-credentials~FALSE
access-control-allow-credentials~TRUE access-control-allow-headers~* access-control-allow-methods~get
access-control-allow-methods~get,_post,_options access-control-allow-methods~options
access-control-expose-headers~content-length access-control-request-headers~content-type
access-control-request-method~get access-control-request-method~post alt-svc~clear authorization
content-security-policy~script-src_'none';_object-src_'none';_base-uri_'none' early-data~1 expect-ct forwarded if-range
origin purpose~prefetch server timing-allow-origin~* upgrade-insecure-requests~1 user-agent x-forwarded-for
x-frame-options~deny x-frame-options~sameorigin"""
STATIC = []
for _text in _TABLE.split():
    _name, _, _value = _text.partition("~")
    STATIC.append((_name.encode(), _value.replace("_", " ").encode()))
_STATIC = STATIC
_HOW = HOW
_FIELDS = {field: i for i, field in reversed(list(enumerate(STATIC)))}
_NAMES = {field[0]: i for i, field in reversed(list(enumerate(STATIC)))}
_MADE: dict = {}  # fields as they are written
_KEPT = 512  # of them
_LONG = 200  # bytes of a field that is not kept
DECOMPRESSION, ENCODER_STREAM, DECODER_STREAM = 0x200, 0x201, 0x202
_ENTRY = 32


class Decoder(Hpack):
    """The reading side. `allowed` is our SETTINGS_QPACK_MAX_TABLE_CAPACITY, `inserted` counts all entries ever.

    After `section`: `over`, `bad` and `total` as in hpack; `wanted`: the inserts that it needs (0: none).
    """

    def __init__(self, most=65536, fields=128, allowed=4096):
        super().__init__(most, fields, allowed)
        self.capacity = 0
        self.inserted = self.known = self.wanted = self.until = 0
        self.halted = False
        self.code = DECOMPRESSION
        self.rest = b""
        self.out = bytearray()

    # ---- field sections (section 4.5)

    def section(self, data, at, end):
        """The header list of the section `data[at:end]`, or None when it needs inserts that have not come (`wanted`)."""
        self.code = DECOMPRESSION
        return self.lines(data, data, at, end)

    def lines(self, data, v, at, end):
        found: list[tuple] = []
        total = 0
        self.over = False
        self.bad = ""
        base = self.prefix(v, at, end)
        wanted = self.wanted
        if wanted > self.inserted:
            return None
        at = self.at
        while at < end:
            byte = v[at]
            at += 1
            if byte & 128:
                index = byte & 63
                if index == 63:
                    index = self.integer(v, at, end, 63)
                    at = self.at
                field = self.static(index) if byte & 64 else self.dynamic(base - index - 1, wanted)
            elif byte & 0xF0 == 0x10:
                index = byte & 15
                if index == 15:
                    index = self.integer(v, at, end, 15)
                    at = self.at
                field = self.dynamic(base + index, wanted)
            else:
                field = self.line(data, v, at, end, byte, base)
                at = self.at
            if len(field) != 2:
                self.bad = field[2]
            total += len(field[0]) + len(field[1]) + _ENTRY
            if total > self.most or len(found) >= self.fields:
                self.over = True
                found = []  # nobody may use it; and it may not grow again
                total = self.most
            else:
                found.append(field)
        self.total = total
        return found

    def prefix(self, v, at, end):
        """The section's prefix (section 4.5.1): the base; the required insert count is in `wanted`."""
        self.wanted = 0
        if end - at < 2:
            self.fail("a section has no prefix")
        count = v[at]
        at += 1
        if count == 255:
            count = self.integer(v, at, end, 255)
            at = self.at
        if at >= end:
            self.fail("a section has no prefix")
        if count:
            count = self.required(count)
        byte = v[at]
        at += 1
        delta = byte & 127
        if delta == 127:
            delta = self.integer(v, at, end, 127)
            at = self.at
        self.at = at
        self.wanted = count
        if not byte & 128:
            return count + delta
        if delta >= count:
            self.fail("the base is negative")
        return count - delta - 1

    def required(self, count):
        """The required insert count that was sent as `count` (section 4.5.1.1)."""
        entries = self.allowed // _ENTRY
        full = 2 * entries
        if count > full:
            self.fail("the required insert count is too large")
        most = self.inserted + entries
        found = most // full * full + count - 1
        if found > most:
            if found <= full:
                self.fail("the required insert count is too large")
            found -= full
        if found == 0:
            self.fail("the required insert count is 0 in disguise")
        return found

    def line(self, data, v, at, end, byte, base):
        """A literal field line, whose first byte was `byte`; its end is in `at`."""
        if byte & 0x40 or not byte & 0x20:  # the name is an entry's
            mask = 15 if byte & 0x40 else 7
            index = byte & mask
            if index == mask:
                index = self.integer(v, at, end, mask)
            else:
                self.at = at
            if not byte & 0x40:
                name = self.dynamic(base + index, self.wanted)[0]
            elif byte & 0x10:
                name = self.static(index)[0]
            else:
                name = self.dynamic(base - index - 1, self.wanted)[0]
        else:
            name = self.named(data, v, at, end, byte, 7)
        return checked(name, self.string(data, v, end))

    def named(self, data, v, at, end, byte, mask):
        """A literal name, whose length is in the bits of `mask` and whose Huffman bit is the one above."""
        size = byte & mask
        if size == mask:
            size = self.integer(v, at, end, mask)
            at = self.at
        if size > end - at:
            self.fail("a name is cut short")
        self.at = at + size
        if not byte & (mask + 1):
            return _fast.piece(data, at, at + size)
        text = decoded(data, at, at + size, self.scratch)
        if text is None:
            self.fail("a name is no Huffman code")
        return text

    def static(self, index):
        """An entry of the static table."""
        if index > 98:
            self.fail("an index is beyond the static table")
        return _STATIC[index]

    def dynamic(self, number, wanted):
        """The entry with an absolute index, which a section that requires `wanted` inserts may name."""
        at = number - (self.inserted - len(self.table))
        if at < 0 or number >= wanted:
            self.fail("an index is beyond the table")
        return self.table[at]

    # ---- the peer's encoder stream (section 4.3)

    def instructions(self, data):
        """Bytes of the encoder stream. With `until` it halts (`halted`) when so many inserts are there, for who waits for them:
        else what they name could be gone already, or not, by how the bytes were cut.
        """
        self.code = ENCODER_STREAM
        self.halted = False
        if self.rest:
            data = self.rest + data
            self.rest = b""
        at = self.obey(data, data, len(data))
        if at < len(data):
            self.rest = _fast.piece(data, at, len(data))

    def obey(self, data, v, end):
        """Every whole instruction; where the first begins that is not whole."""
        at = 0
        while at < end:
            if self.until and self.inserted >= self.until:
                self.halted = True
                break
            behind = self.whole(v, at, end)
            if behind < 0:
                break
            byte = v[at]
            at += 1
            if byte & 0x80:
                index = byte & 63
                if index == 63:
                    index = self.integer(v, at, behind, 63)
                else:
                    self.at = at
                name = self.static(index)[0] if byte & 0x40 else self.newest(index)[0]
                self.admit(checked(name, self.string(data, v, behind)))
            elif byte & 0x40:
                name = self.named(data, v, at, behind, byte, 31)
                self.admit(checked(name, self.string(data, v, behind)))
            else:
                index = byte & 31
                if index == 31:
                    index = self.integer(v, at, behind, 31)
                if byte & 0x20:
                    if index > self.allowed:
                        self.fail("the table is larger than we allow")
                    self.capacity = index
                    self.evict()
                else:
                    self.admit(self.newest(index))
            at = behind
        return at

    def whole(self, v, at, end):
        """Where an instruction ends, or -1 when that has not come."""
        byte = v[at]
        if byte & 0x80:
            at = self.past(v, at, end, 63)
            return -1 if at < 0 else self.behind(v, at, end, 127)
        if byte & 0x40:
            at = self.behind(v, at, end, 31)
            return -1 if at < 0 else self.behind(v, at, end, 127)
        return self.past(v, at, end, 31)

    def past(self, v, at, end, mask):
        """Behind an integer, or -1."""
        if v[at] & mask != mask:
            return at + 1
        first = at
        at += 1
        while at < end:
            if at - first > 5:
                self.fail("an integer is too long")
            if v[at] < 128:
                return at + 1
            at += 1
        return -1

    def behind(self, v, at, end, mask):
        """Behind a string, or -1."""
        if at >= end:
            return -1
        size = v[at] & mask
        after = self.past(v, at, end, mask)
        if after < 0:
            return -1
        if size == mask:
            size = self.integer(v, at + 1, after, mask)
        if size > self.capacity:
            self.fail("an entry is larger than the table")
        return after + size if size <= end - after else -1

    def newest(self, index):
        """The entry at a relative index of the encoder stream."""
        at = len(self.table) - 1 - index
        if at < 0:
            self.fail("an index is beyond the table")
        return self.table[at]

    def admit(self, field):
        """A new entry."""
        size = len(field[0]) + len(field[1]) + _ENTRY
        if size > self.capacity:
            self.fail("an entry is larger than the table")
        self.inserted += 1
        self.insert(field)

    # ---- our decoder stream (section 4.4)

    def acknowledge(self, stream, wanted):
        """A section that needed inserts was used."""
        integer(self.out, 0x80, 127, stream)
        if wanted > self.known:
            self.known = wanted

    def cancel(self, stream):
        """A stream's sections will not be used any more."""
        if self.inserted:
            integer(self.out, 0x40, 63, stream)

    def said(self):
        """What our decoder stream has to say, b"" for nothing."""
        if self.known < self.inserted:
            integer(self.out, 0, 63, self.inserted - self.known)
            self.known = self.inserted
        if not self.out:
            return b""
        out = bytes(self.out)
        self.out = bytearray()
        return out

    def fail(self, what):
        """The tables differ from here on."""
        error = WireError(f"bad-qpack: {what} [RFC 9204]", status=0, rule="bad-qpack")
        error.code = self.code  # type: ignore[attr-defined]
        raise error


class Encoder:
    """The writing side. Fields are pairs of bytes that are known to be sound."""

    def __init__(self):
        self.rest = b""

    def add(self, out, field):
        """Put one field into the bytearray `out`, which begins with the prefix of two zero bytes."""
        made = _MADE.get(field)
        if made is None:
            made = self.made(field)
        out += made

    def made(self, field):
        """A field as it is written."""
        out = bytearray()
        number = _FIELDS.get(field, -1)
        if number >= 0:
            integer(out, 0xC0, 63, number)
        else:
            name, value = field
            never = _HOW.get(name, 0) == 2
            index = _NAMES.get(name, -1)
            if index >= 0:
                integer(out, 0x70 if never else 0x50, 15, index)
            else:
                short = size_of(name)
                if short < len(name):
                    integer(out, 0x38 if never else 0x28, 7, short)
                    encode(out, name)
                else:
                    integer(out, 0x30 if never else 0x20, 7, len(name))
                    out += name
            string(out, value)
            if _HOW.get(name, 0) and name != b"content-length":
                return bytes(out)
        made = bytes(out)
        if len(made) <= _LONG:
            if len(_MADE) >= _KEPT:
                _MADE.clear()
            _MADE[field] = made
        return made

    def heard(self, data):
        """Bytes of the peer's decoder stream: it may cancel streams, and we inserted nothing that it could acknowledge."""
        if self.rest:
            data = self.rest + data
            self.rest = b""
        at = self.obey(data, len(data))
        if at < len(data):
            self.rest = _fast.piece(data, at, len(data))

    def obey(self, v, end):
        """Every whole instruction; where the first begins that is not whole."""
        at = 0
        while at < end:
            byte = v[at]
            if byte & 0xC0 != 0x40:
                self.fail("an entry is acknowledged that was never inserted")
            first = at
            at += 1
            if byte & 63 == 63:
                while at < end and v[at] >= 128:
                    at += 1
                if at - first > 10:
                    self.fail("an integer is too long")
                if at >= end:
                    return first
                at += 1
        return at

    def fail(self, what):
        """The peer's decoder knows what we never said."""
        error = WireError(f"bad-qpack: {what} [RFC 9204]", status=0, rule="bad-qpack")
        error.code = DECODER_STREAM  # type: ignore[attr-defined]
        raise error
