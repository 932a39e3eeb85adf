"""HPACK (RFC 7541): header lists to and from blocks, with a dynamic table on each side of a connection.

A table holds ready (name, value) tuples, so an index that hits costs no copy and no allocation.

Rules
1. What is no HPACK raises WireError "bad-hpack": the two tables would differ from then on, so the connection must end
   (RFC 9113 section 4.3). Integers end after four more bytes: nothing here needs 28 bits, and nothing wraps.
2. A block is always read to its end, to keep the tables equal, but no more than `most` bytes (counted as section 4.1
   counts, 32 for each field) and `fields` fields are kept of it: then `over` is true and the list is not to be used. So a
   small block that means a huge list costs its own length, and no memory.
3. Each literal is checked once, when it is read, for what RFC 9113 section 8.2.1 forbids (upper case, control bytes, white
   space around a value). A field that breaks it is kept in the table with the rule's name, for the tables must stay
   equal; whenever it is used, `bad` is that name.
4. Writing: what repeats is indexed; paths, lengths, validators and ids are not; credentials and cookies are literals
   "never indexed" (section 7.1.3), so that neither the peer nor a proxy behind it puts them into a table that others can
   probe. Huffman where it is shorter.
"""

from __future__ import annotations

from fairlead.core.errors import WireError
from fairlead.wire.h1bytes import LOW, VALUE
from fairlead.wire.huffman import decoded, encode, size_of

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

# RFC 7541 appendix A: names in order, and the values of those that have some
_NAMES_WITH_VALUES = (
    ":authority :method=GET :method=POST :path=/ :path=/index.html :scheme=http :scheme=https :status=200 :status=204 "
    ":status=206 :status=304 :status=400 :status=404 :status=500 accept-charset accept-encoding=gzip,_deflate "
    "accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control "
    "content-disposition content-encoding content-language content-length content-location content-range content-type "
    "cookie date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since "
    "last-modified link location max-forwards proxy-authenticate proxy-authorization range referer refresh retry-after "
    "server set-cookie strict-transport-security transfer-encoding user-agent vary via www-authenticate"
)
STATIC = [(b"", b"")]
for _text in _NAMES_WITH_VALUES.split():
    _name, _, _value = _text.partition("=")
    STATIC.append((_name.encode(), _value.replace("_", " ").encode()))
_STATIC = STATIC
_FIELDS = {field: i for i, field in reversed(list(enumerate(STATIC))) if i and field[1]}
_NAMES = {field[0]: i for i, field in reversed(list(enumerate(STATIC))) if i}

DEFAULT = 4096  # bytes of a table, until somebody says otherwise
ENTRY = 32  # what an entry counts more than its bytes (section 4.1)
# a byte of a field name: lower-case tokens only (RFC 9113 section 8.2.1)
NAME = bytes(1 if LOW[c] == c and c else 0 for c in range(256))
_NAME = NAME
_VALUE = VALUE
# how a field is written when it is in no table: 1 as a literal without indexing, 2 never indexed
_PLAIN = (
    b":path age content-length content-range etag if-match if-modified-since if-none-match if-range "
    b"if-unmodified-since last-modified location range server-timing traceparent x-request-id x-forwarded-for forwarded"
).split()
HOW = dict.fromkeys(_PLAIN, 1) | dict.fromkeys((b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"), 2)
_HOW = HOW


class Decoder:
    """The reading side of one connection. After `decode`: `over`, `bad` (a rule's name or ""), `total` (bytes as counted).

    `allowed` is the table size that our SETTINGS permit; `capacity` what the peer uses of it.
    """

    def __init__(self, most=65536, fields=128, allowed=DEFAULT):
        self.most = most
        self.fields = fields
        self.allowed = allowed
        self.capacity = DEFAULT
        self.table = []
        self.size = 0
        self.at = 0
        self.total = 0
        self.over = False
        self.bad = ""
        self.scratch = bytearray(256)

    def decode(self, data, at, end):
        """The header list of the block `data[at:end]`."""
        return self.read(data, data, at, end)

    def read(self, data, v, at, end):
        found: list[tuple] = []
        total = 0
        first = True
        self.over = False
        self.bad = ""
        while at < end:
            byte = v[at]
            at += 1
            if byte & 128:
                index = byte & 127
                if index == 127:
                    index = self.integer(v, at, end, 127)
                    at = self.at
                field = self.entry(index)
            elif byte & 0x60 == 0x20:
                if not first:
                    self.fail("a size update stands behind a field")
                index = byte & 31
                if index == 31:
                    index = self.integer(v, at, end, 31)
                    at = self.at
                if index > self.allowed:
                    self.fail("a size update is larger than we allow")
                self.capacity = index
                self.evict()
                continue
            else:
                field = self.literal(data, v, at, end, byte)
                at = self.at
            first = False
            if len(field) != 2:
                self.bad = field[2]
            total += len(field[0]) + len(field[1]) + 32
            if total > self.most or len(found) >= self.fields:
                self.over = True
                found = []  # nobody may use it; and it may not grow again
                total = self.most
            else:
                found.append(field)
        self.total = total
        return found

    def literal(self, data, v, at, end, byte):
        """A literal field (section 6.2), whose first byte was `byte`; its end is in `at`."""
        mask = 63 if byte & 64 else 15
        index = byte & mask
        if index == mask:
            index = self.integer(v, at, end, mask)
        else:
            self.at = at
        if index:
            name = self.entry(index)[0]
        else:
            name = self.string(data, v, end)
        field = checked(name, self.string(data, v, end))
        if byte & 64:
            self.insert(field)
        return field

    def entry(self, index):
        """The field at an index: the static table's, then ours, newest first."""
        if index <= 61:
            if index == 0:
                self.fail("index 0")
            return _STATIC[index]
        table = self.table
        at = len(table) - (index - 61)
        if at < 0:
            self.fail("an index is beyond the table")
        return table[at]

    def integer(self, v, at, end, value):
        """The rest of an integer whose prefix was all ones (section 5.1). Its end is in `at`."""
        shift = 0
        while True:
            if at >= end:
                self.fail("an integer is cut short")
            if shift > 21:
                self.fail("an integer is too long")
            byte = v[at]
            at += 1
            value += (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        self.at = at
        return value

    def string(self, data, v, end):
        """A string literal (section 5.2) at `at`."""
        at = self.at
        if at >= end:
            self.fail("a string is cut short")
        byte = v[at]
        at += 1
        size = byte & 127
        if size == 127:
            size = self.integer(v, at, end, 127)
            at = self.at
        if size > end - at:
            self.fail("a string is cut short")
        self.at = at + size
        if not byte & 128:
            return _fast.piece(data, at, at + size)
        text = decoded(data, at, at + size, self.scratch)
        if text is None:
            self.fail("a string is no Huffman code")
        return text

    def insert(self, field):
        """A new entry; old ones leave (section 4.4)."""
        self.table.append(field)
        self.size += len(field[0]) + len(field[1]) + 32
        if self.size > self.capacity:
            self.evict()

    def evict(self):
        """Let the oldest go until the table fits."""
        table = self.table
        gone = 0
        while self.size > self.capacity:
            field = table[gone]
            self.size -= len(field[0]) + len(field[1]) + 32
            gone += 1
        if gone:
            del table[:gone]

    def fail(self, what):
        """The block cannot be read, and so nothing after it."""
        raise WireError(f"bad-hpack: {what} [RFC 7541]", status=0, rule="bad-hpack")


def checked(name, value):
    """A field as the table keeps it: a pair, or with the rule that it breaks as a third."""
    rule = fault(name, len(name), value, len(value))
    if rule is None:
        return (name, value)
    return (name, value, rule)


def fault(n, size, v, count):
    """The rule that a field breaks (RFC 9113 section 8.2.1), or None."""
    good = _NAME
    allowed = _VALUE
    i = 1 if size > 1 and n[0] == 58 else 0
    if size == 0:
        return "bad-field-name"
    while i < size:
        if not good[n[i]]:
            return "upper-case" if 65 <= n[i] <= 90 else "bad-field-name"
        i += 1
    i = 0
    while i < count:
        if not allowed[v[i]]:
            return "bad-field-value"
        i += 1
    if count and (v[0] == 32 or v[0] == 9 or v[count - 1] == 32 or v[count - 1] == 9):
        return "space-around-value"
    return None


class Encoder:
    """The writing side of one connection. Fields are pairs of bytes that are known to be sound."""

    def __init__(self):
        self.known = {}
        self.names = {}
        self.order = []
        self.inserted = 0
        self.size = 0
        self.capacity = DEFAULT
        self.least = -1

    def resize(self, allowed):
        """The peer allows a table of so many bytes (we use at most DEFAULT); said at the next block's start."""
        capacity = min(allowed, DEFAULT)
        if capacity == self.capacity and self.least < 0:
            return
        self.least = capacity if self.least < 0 else min(self.least, capacity)
        self.capacity = capacity
        self.evict()

    def begin(self, out):
        """To be called before the first field of each block."""
        if self.least >= 0:
            if self.least < self.capacity:
                integer(out, 0x20, 31, self.least)
            integer(out, 0x20, 31, self.capacity)
            self.least = -1

    def add(self, out, field):
        """Put one field into the bytearray `out`."""
        number = self.known.get(field)
        if number is not None:
            integer(out, 128, 127, 61 + self.inserted - number)
            return
        number = _FIELDS.get(field)
        if number is not None:
            out.append(128 | number)
            return
        name, value = field
        size = len(name) + len(value) + 32
        how = _HOW.get(name, 0)
        if how == 0 and size * 2 > self.capacity:
            how = 1
        index = _NAMES.get(name, 0)
        if index == 0:
            number = self.names.get(name)
            if number is not None:
                index = 61 + self.inserted - number
        if how == 0:
            integer(out, 0x40, 63, index)
        elif how == 1:
            integer(out, 0, 15, index)
        else:
            integer(out, 0x10, 15, index)
        if index == 0:
            string(out, name)
        string(out, value)
        if how == 0:
            self.known[field] = self.names[name] = self.inserted
            self.inserted += 1
            self.order.append(field)
            self.size += size
            if self.size > self.capacity:
                self.evict()

    def evict(self):
        """Let the oldest go until the table fits."""
        order = self.order
        first = self.inserted - len(order)
        gone = 0
        while self.size > self.capacity:
            field = order[gone]
            self.size -= len(field[0]) + len(field[1]) + 32
            if self.known.get(field) == first + gone:
                del self.known[field]
            if self.names.get(field[0]) == first + gone:
                del self.names[field[0]]
            gone += 1
        if gone:
            del order[:gone]


def integer(out, flags, most, value):
    """An integer with its prefix (section 5.1)."""
    if value < most:
        out.append(flags | value)
        return
    out.append(flags | most)
    value -= most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def string(out, text):
    """A string literal (section 5.2)."""
    size = len(text)
    short = size_of(text)
    if short < size:
        integer(out, 128, 127, short)
        encode(out, text)
    else:
        integer(out, 0, 127, size)
        out += text
