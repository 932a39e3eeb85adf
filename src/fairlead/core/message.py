"""What is said over HTTP, whatever the version: a Request, a Response, and the two fields every answer gets.

Header lists are `list[tuple[bytes, bytes]]` in the order received, names in lower case (header names are
case-insensitive, RFC 9110 section 5.1; HTTP/2 and 3 only have lower case), values without outer white space.
`length` is the body's declared length in bytes: 0 no body, -1 unknown (chunked, until close, or a stream).
"""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus
from time import time

SCHEMES = ("http", "https")
REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
REASONS |= {  # RFC 9110's names, which Python has from 3.13 on
    413: b"Content Too Large",
    414: b"URI Too Long",
    416: b"Range Not Satisfiable",
    422: b"Unprocessable Content",
}


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
        self.headers = headers
        self.version = version
        self.length = length
        self.path = ""
        self.raw_path = b""
        self.query = b""
        self.expect = False
        self.upgrade = b""
        self.protocol = b""
        self.trailers = None

    def get(self, name):
        """The first value of a header (lower-case bytes name), or None."""
        return find(self.headers, name)

    def __repr__(self):
        return f"<Request {self.method} {self.authority!r} {self.target!r} HTTP/{self.version} length={self.length}>"


class Response:
    """One response head. `headers` is ours to extend: give a list nobody else keeps. `reason` may be b""."""

    def __init__(self, status, headers, length=-1, reason=b"", version="1.1"):
        self.begin(status, headers, length, reason, version)

    def begin(self, status, headers, length, reason, version):
        """In place of a constructor on the hot path: `Response.__new__(Response)`, then this."""
        self.status = status
        self.headers = headers
        self.length = length
        self.reason = reason
        self.version = version
        self.upgrade = b""
        self.trailers = None

    def get(self, name):
        """The first value of a header (lower-case bytes name), or None."""
        return find(self.headers, name)

    def __repr__(self):
        return f"<Response {self.status} length={self.length} {self.headers!r}>"


class Common:
    """The fields every answer of a listener gets unless it has its own: `date` (refreshed once a second) and `server`.

    `lines` is both as HTTP/1 writes them.
    """

    def __init__(self, server=b"fairlead"):
        self.server = server
        self.date = b""
        self.lines = b""
        self.refresh()

    def refresh(self):
        """Set `date` to now, as an IMF-fixdate (RFC 9110 section 5.6.7)."""
        self.set(formatdate(time(), usegmt=True).encode())

    def set(self, date):
        """Set `date`, and `lines` with it."""
        self.date = date
        server = b"server: %b\r\n" % self.server if self.server else b""
        self.lines = b"date: %b\r\n%b" % (date, server)


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
