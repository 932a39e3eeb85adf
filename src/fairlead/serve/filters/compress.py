"""`compress`: answers leave compressed where that helps and does no harm (RFC 9110 sections 8.4, 12.5.3).

Rules
1. Left alone: what is encoded already, small or of no listed type; `cache-control: no-transform`; partial answers (206);
   bodiless ones. Media that are compressed by nature are in no default list.
2. An answer that may hold a secret beside something the request chose lets an attacker guess the secret from its size
   (BREACH). So when a request over TLS brings credentials (a cookie, Authorization) and also something to reflect (a query or a
   body), its answer is left alone, unless `credentials` is set; and so is one that sets a cookie.
3. A complete answer is compressed at once and keeps a length, and stays as it is when that would make it longer. A stream is
   compressed piece by piece, each piece flushed: a stream of events does not stall.
4. A strong validator becomes a weak one, because the bytes differ (RFC 9110 section 8.8.1); `Vary` is always said.
"""

from __future__ import annotations

from fairlead.core.exchange import Stage
from fairlead.serve.filters import listed, set_field, vary
from fairlead.serve.filters.coding import accepted, available, encoder


class Compress:
    """`algorithms`: names, best first; `types`: media types, "text/*" for a whole family; `least`: smaller answers stay."""

    def __init__(self, algorithms=("zstd", "br", "gzip"), least=1024, types=("text/*",), level=0, credentials=False):
        self.algorithms = available(algorithms)
        self.least = least
        self.level = level
        self.credentials = credentials
        lowered = [one.lower().encode() for one in types]
        self.exact = frozenset([one for one in lowered if not one.endswith(b"/*")])
        self.families = tuple([one[:-1] for one in lowered if one.endswith(b"/*")])

    def after(self, exchange, response):
        body = exchange.entire
        if not self.fits(response, response.length if body is None else len(body)):
            return
        vary(response, b"accept-encoding")
        request = exchange.request
        if request.method == "HEAD" or (request.version == "1.0" and body is None):
            return
        name = accepted(b",".join([v for k, v in request.headers if k == b"accept-encoding"]), self.algorithms)
        if not name or (not self.credentials and secret(exchange, response)):
            return
        coder = encoder(name, self.level)
        if body is None:
            exchange.stage = Compressing(coder)
            length = -1
        else:
            packed = coder.feed(body, True)
            if len(packed) >= len(body):
                return
            exchange.entire = packed
            length = len(packed)
        self.mark(response, name, length)

    def fits(self, response, length):
        """Rule 1."""
        if response.status < 200 or response.status in (204, 206, 304) or 0 <= length < self.least:
            return False
        kind = b""
        for name, value in response.headers:
            if name == b"content-encoding" or name == b"content-range":
                return False
            if name == b"content-type":
                kind = value.partition(b";")[0].strip().lower()
        if kind not in self.exact and not kind.startswith(self.families):
            return False
        return b"no-transform" not in listed(response.headers, b"cache-control")

    def mark(self, response, name, length):
        """Say in the head what the body is now."""
        headers = [
            field for field in response.headers if field[0] != b"content-length" and field[0] != b"accept-ranges"
        ]
        headers.append((b"content-encoding", name.encode()))
        if length >= 0:
            headers.append((b"content-length", b"%d" % length))
        etag = response.get(b"etag")
        if etag is not None and etag[:2] != b"W/":
            set_field(headers, b"etag", b"W/" + etag)
        response.headers = headers
        response.length = length


class Compressing(Stage):
    """The body stage of a stream."""

    def __init__(self, coder):
        self.coder = coder

    def data(self, exchange, chunk, end):
        packed = self.coder.feed(chunk, end)
        if packed or end:
            return exchange.data(packed, end)
        return True

    def end(self, exchange, trailers):
        packed = self.coder.feed(b"", True)
        if packed:
            exchange.data(packed, False)
        exchange.end(trailers)


def secret(exchange, response):
    """Rule 2: could the size of this answer tell a secret?"""
    if any([name == b"set-cookie" for name, _ in response.headers]):
        return True
    request = exchange.request
    if request.scheme != "https" or (not request.query and not request.length):
        return False
    return any([name == b"cookie" or name == b"authorization" for name, _ in request.headers])
