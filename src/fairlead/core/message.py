"""What is said over HTTP, whatever the version: a Request, a Response, and the two fields every answer gets.

Header lists are `list[tuple[bytes, bytes]]` in the order received, names in lower case (header names are
case-insensitive, RFC 9110 section 5.1; HTTP/2 and 3 only have lower case), values without outer white space.
`length` is the body's declared length in bytes: 0 no body, -1 unknown (chunked, until close, or a stream).

A head that was received need not be a list: `block` may hold its fields in the form in which they came, as a `Fields`. The
first look at `headers` makes the list; from then on the list is the truth and the block is forgotten. Who only passes a
head on changes the block instead: the fields of `drop` (bits, see NUMBERS) are left out, the lines `before` and `after`
put around the rest, and `tail` completes the last line of `after`. Both ways give the same list and the same bytes.
"""

from __future__ import annotations

from http import HTTPStatus
from time import gmtime, time

SCHEMES = ("http", "https")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
REASONS |= {  # RFC 9110's names, which Python has from 3.13 on
    413: b"Content Too Large",
    414: b"URI Too Long",
    416: b"Range Not Satisfiable",
    422: b"Unprocessable Content",
}
# names that somebody decides by: bit `1 << number` of `Fields.known` says that a head has such a field. 0 is all others.
NUMBERS = {
    b"host": 1, b"content-length": 2, b"transfer-encoding": 3, b"connection": 4, b"expect": 5, b"upgrade": 6, b"date": 7,
    b"server": 8, b"keep-alive": 9, b"proxy-connection": 10, b"te": 11, b"via": 12, b"max-forwards": 13, b"forwarded": 14,
    b"x-forwarded-for": 15, b"x-forwarded-proto": 16, b"x-forwarded-host": 17, b"x-request-id": 18, b"http2-settings": 19,
    b"trailer": 20,
}  # fmt: skip
ODD = 1 << 40  # Connection has other options than one "close" or "keep-alive"


def bits_of(*names):
    """The bits of some names out of NUMBERS."""
    return sum([1 << NUMBERS[name] for name in names])


class Fields:
    """The fields of a head in another form than the list. `known`: bits of the names in it, and ODD. The rest is its own."""

    def __init__(self):
        self.known = self.count = self.kept_drop = 0
        self.data = b""
        self.kept = self.kept_before = None
        self.again = False

    def listed(self, drop):
        """The list, made anew, without the names of `drop`."""
        return []

    def edited(self, drop, before, after, tail):
        """The same between the fields of the lines `before` and `after` + `tail`."""
        return []

    def get(self, name):
        """The first value of a header (lower-case bytes name), or None."""
        return None


class Request:
    """One request head.

    method      "GET" as sent (methods are case-sensitive)
    scheme      "http" or "https", as the connection or the absolute-form target says
    authority   bytes of Host or :authority, b"" if there is none (HTTP/1.0)
    target      the raw request-target in origin-form: path and query as sent ("*" for OPTIONS *, authority-form for CONNECT)
    path        normalised, percent-decoded path (str); set when the request is routed, "" before
    raw_path    normalised path, still percent-encoded (bytes); set when routed
    query       bytes after the first "?", without it
    version     "1.0", "1.1", "2" or "3"
    length      see the module; expect: the peer waits for 100 Continue; upgrade: value of Upgrade, lower case, or b""
    protocol    the :protocol of an extended CONNECT (RFC 8441), b"" otherwise
    trailers    list of fields after the body, None before they came
    """

    def __init__(self, method, scheme, authority, target, headers, version="1.1", length=0):
        self.begin(method, scheme, authority, target, headers, version, length)

    def begin(self, method, scheme, authority, target, headers, version, length):
        """In place of a constructor on the hot path: `Request.__new__(Request)`, then this."""
        self.method = method
        self.scheme = scheme
        self.authority = authority
        self.target = target
        self.kept = headers
        self.block: Fields = None  # type: ignore[assignment]  # unless `kept` is None
        self.drop = 0
        self.before = self.after = self.tail = b""
        self.version = version
        self.length = length
        self.decoded = ""
        self.raw_path = b""
        self.query = b""
        self.expect = False
        self.upgrade = b""
        self.protocol = b""
        self.trailers = None

    @property
    def headers(self):
        """The header list."""
        return self.listed() if self.kept is None else self.kept

    @headers.setter
    def headers(self, headers):
        self.kept = headers
        self.block = None  # type: ignore[assignment]

    def listed(self):
        """`headers`, without the cost of a property."""
        if self.kept is None:
            block = self.block
            if self.drop:
                self.kept = block.edited(self.drop, self.before, self.after, self.tail)
            else:
                self.kept = block.listed(0)
            self.block = None  # type: ignore[assignment]
        return self.kept

    def get(self, name):
        """The first value of a header (lower-case bytes name), or None."""
        if self.kept is None and not self.drop:
            return self.block.get(name)
        return find(self.listed(), name)

    @property
    def path(self):
        """The normalised path, decoded; made of `raw_path` when nobody set it."""
        if not self.decoded and self.raw_path:
            self.decoded = self.raw_path.decode("ascii")
        return self.decoded

    @path.setter
    def path(self, path):
        self.decoded = path

    def __repr__(self):
        return f"<Request {self.method} {self.authority!r} {self.target!r} HTTP/{self.version} length={self.length}>"


class Response:
    """One response head. `headers` is ours to extend: give a list nobody else keeps. `reason` may be b""."""

    def __init__(self, status, headers, length=-1, reason=b"", version="1.1"):
        self.begin(status, headers, length, reason, version)

    def begin(self, status, headers, length, reason, version):
        """In place of a constructor on the hot path: `Response.__new__(Response)`, then this."""
        self.status = status
        self.kept = headers
        self.block: Fields = None  # type: ignore[assignment]  # unless `kept` is None
        self.drop = 0
        self.before = self.after = self.tail = b""
        self.length = length
        self.reason = reason
        self.version = version
        self.upgrade = b""
        self.trailers = None

    @property
    def headers(self):
        """The header list."""
        return self.listed() if self.kept is None else self.kept

    @headers.setter
    def headers(self, headers):
        self.kept = headers
        self.block = None  # type: ignore[assignment]

    def listed(self):
        """`headers`, without the cost of a property."""
        if self.kept is None:
            block = self.block
            if self.drop:
                self.kept = block.edited(self.drop, self.before, self.after, self.tail)
            else:
                self.kept = block.listed(0)
            self.block = None  # type: ignore[assignment]
        return self.kept

    def get(self, name):
        """The first value of a header (lower-case bytes name), or None."""
        if self.kept is None and not self.drop:
            return self.block.get(name)
        return find(self.listed(), name)

    def __repr__(self):
        return f"<Response {self.status} length={self.length} {self.headers!r}>"


class Common:
    """The fields every answer of a listener gets unless it has its own: `date` (refreshed once a second) and `server`.

    `lines` is both as HTTP/1 writes them, `date_line` and `server_line` each alone.
    """

    def __init__(self, server=b"fairlead"):
        self.server = server
        self.date = b""
        self.lines = self.date_line = self.server_line = b""
        self.refresh()

    def refresh(self):
        """Set `date` to now, as an IMF-fixdate (RFC 9110 section 5.6.7)."""
        self.set(http_date(int(time())))

    def set(self, date):
        """Set `date`, and `lines` with it."""
        self.date = date
        self.date_line = b"date: %b\r\n" % date
        self.server_line = b"server: %b\r\n" % self.server if self.server else b""
        self.lines = self.date_line + self.server_line


def http_date(seconds):
    """An IMF-fixdate (RFC 9110 section 5.6.7) of seconds since 1970, as bytes."""
    year, month, day, hour, minute, second, weekday, _, _ = gmtime(seconds)
    text = f"{DAYS[weekday]}, {day:02} {MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"
    return text.encode()


def find(headers, name):
    """The first value of the lower-case bytes `name` in a header list, or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def reason(status):
    """The standard reason phrase of a status, as bytes; b"" when it has none."""
    return REASONS.get(status, b"")


def is_event_stream(response):
    """Is this an answer of server-sent events, whose end means "connect again" (HTML, section 9.2)?"""
    if response is None or response.length >= 0:
        return False
    kind = response.get(b"content-type")
    return kind is not None and kind.lower().startswith(b"text/event-stream")
