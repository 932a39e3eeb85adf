"""The bytes of HTTP/1.x heads: which byte may stand where, and the field names we know (RFC 9110, 9112, 3986).

Known names are found without making an object: their length, first, middle and last byte give a slot in a table. A hit
gives the name as one shared object, and its kind: whether it decides something. Other names cost a new object.
"""

from __future__ import annotations

from fairlead.core.message import NUMBERS

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
HOST_BYTES = b"!$&'()*+;=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# one byte per byte: a token byte in lower case, or 0; 1 where a value, a target, a host may have that byte
LOW = bytes(ord(chr(c).lower()) if c in TOKEN else 0 for c in range(256))
VALUE = bytes(1 if c == 9 or (c >= 32 and c != 127) else 0 for c in range(256))
TARGET = bytes(1 if 32 < c < 127 and c != 35 else 0 for c in range(256))
HOST = bytes(1 if c in HOST_BYTES else 0 for c in range(256))

# what a field is for us, its kind; 0 is "nothing special". 1 to 6: framing, routing, course. 7, 8: an answer has them
# once. 9: hop by hop, dropped when we speak. 10: never in a trailer.
KIND_OF = {
    b"host": 1, b"content-length": 2, b"transfer-encoding": 3, b"connection": 4, b"expect": 5, b"upgrade": 6,
    b"date": 7, b"server": 8, b"keep-alive": 9, b"proxy-connection": 9,
    b"authorization": 10, b"cache-control": 10, b"content-encoding": 10, b"content-range": 10, b"content-type": 10,
    b"cookie": 10, b"if-match": 10, b"if-modified-since": 10, b"if-none-match": 10, b"if-range": 10,
    b"max-forwards": 10, b"proxy-authorization": 10, b"range": 10, b"set-cookie": 10, b"te": 10, b"trailer": 10,
}  # fmt: skip
COMMON = (
    b"accept accept-encoding accept-language accept-charset access-control-allow-origin access-control-request-headers "
    b"access-control-request-method age allow alt-svc content-disposition content-language content-location dnt "
    b"etag expires forwarded from last-modified link location origin pragma priority referer retry-after "
    b"sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user "
    b"sec-websocket-key sec-websocket-version sec-websocket-extensions sec-websocket-protocol sec-websocket-accept "
    b"strict-transport-security traceparent tracestate upgrade-insecure-requests user-agent vary via www-authenticate "
    b"x-content-type-options x-forwarded-for x-forwarded-host x-forwarded-proto x-frame-options x-real-ip x-request-id "
    b"x-powered-by x-requested-with server-timing content-security-policy http2-settings"
).split()
METHODS = {
    m.encode(): m
    for m in ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY", "PROPFIND"]
}


def _slot(name: bytes) -> int:
    """Where a name lives in the table of known names; the same sum as in `kind_of` and `Head.fields`."""
    size = len(name)
    return (size + name[0] + name[size - 1] * 21 + name[size >> 1] * 23) & 1023


def _known() -> tuple[list[bytes | None], bytes, bytes]:
    """Known names by slot, the kind and the number of each. Names that decide something come first and may not collide."""
    names: list[bytes | None] = [None] * 1024
    kinds = bytearray(1024)
    numbers = bytearray(1024)
    for name in [*KIND_OF, *NUMBERS, *COMMON]:
        slot = _slot(name)
        assert len(name) <= 32, name
        if names[slot] is None:
            names[slot] = name
            kinds[slot] = KIND_OF.get(name, 0)
            numbers[slot] = NUMBERS.get(name, 0)
        elif names[slot] != name and (name in KIND_OF or name in NUMBERS):
            raise AssertionError(f"{name!r} collides with {names[slot]!r}")
    return names, bytes(kinds), bytes(numbers)


NAMES, KINDS, SLOT_NUMBERS = _known()
# the same for pointers: the length of each slot's name (0: none), and the names, 32 bytes for each slot
LENGTHS = bytes([len(name) if name is not None else 0 for name in NAMES])
SPELLED = b"".join([(name or b"").ljust(32, b"\0") for name in NAMES])

# the same, where compiled code reads them as C
_LOW = LOW
_VALUE = VALUE
_HOST = HOST
_NAMES = NAMES
_KINDS = KINDS


def same(name, data, start, size):
    """Whether the lower-case `name` is what stands at `data[start:start + size]`, in any case."""
    return len(name) == size and _equal(name, data, start, size)


def _equal(n, v, start, size):
    low = _LOW
    i = 0
    while i < size:
        if low[v[start + i]] != n[i]:
            return False
        i += 1
    return True


def kind_of(name):
    """The kind of a field name in any case (0: nothing special), or -1 when it is not a token."""
    return _kind(name, name, len(name))


def _kind(name, v, size):
    low = _LOW
    kinds = _KINDS
    if size == 0:
        return -1
    i = 0
    while i < size:
        if not low[v[i]]:
            return -1
        i += 1
    slot = (size + low[v[0]] + low[v[size - 1]] * 21 + low[v[size >> 1]] * 23) & 1023
    known = _NAMES[slot]
    if known is None or not kinds[slot] or not same(known, name, 0, size):
        return 0
    return kinds[slot]


def special(name):
    """The kind of a field name in any case, like `kind_of`, for a name that somebody else checks to be a token."""
    return _special(name, name, len(name))


def _special(name, v, size):
    low = _LOW
    kinds = _KINDS
    if size == 0:
        return 0
    slot = (size + low[v[0]] + low[v[size - 1]] * 21 + low[v[size >> 1]] * 23) & 1023
    if not kinds[slot] or not same(_NAMES[slot], name, 0, size):
        return 0
    return kinds[slot]


def clean(value):
    """Whether bytes may stand as a field value: no control byte but HTAB."""
    return _clean(value, len(value))


def _clean(v, size):
    allowed = _VALUE
    i = 0
    while i < size:
        if not allowed[v[i]]:
            return False
        i += 1
    return True


def number(value):
    """The number that 1 to 18 decimal digits say, or -1 for anything else (18 digits cannot overflow)."""
    return _number(value, 0, len(value))


def number_at(data, first, last):
    """The same for `data[first:last]`."""
    return _number(data, first, last)


def _number(v, first, last):
    if first >= last or last - first > 18:
        return -1
    total = 0
    while first < last:
        if v[first] < 48 or v[first] > 57:
            return -1
        total = total * 10 + (v[first] - 48)
        first += 1
    return total


def clean_target(value):
    """Whether bytes may be a request-target."""
    return value != b"" and _fast.only(value, TARGET)


def token(value):
    """Whether bytes are a token (a method, a field name)."""
    return kind_of(value) >= 0


def good_host(host):
    """Whether bytes are: host [ ":" port ], without user information (RFC 9110 section 7.2, RFC 3986 3.2)."""
    return _good_host(host, host, len(host))


def _good_host(host, v, end):
    allowed = _HOST
    i = 0
    while i < end and allowed[v[i]]:
        i += 1
    if i == end:
        return end > 0
    if i == 0 and v[0] == 91:
        i = _literal(host)
        if i < 0:
            return False
        if i == end:
            return True
    if i == 0 or v[i] != 58 or end - i > 6:
        return False
    port = host[i + 1 :]
    return not port or (port.isdigit() and int(port) < 65536)


def _literal(host):
    """Behind the closing bracket of an IPv6 literal, or -1."""
    close = host.find(b"]")
    inside = host[1:close]
    if close < 3 or inside.count(b":") < 2 or inside.strip(b"0123456789abcdefABCDEF:."):
        return -1
    return close + 1
