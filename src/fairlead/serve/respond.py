"""Answers that need no application: a fixed response and a redirect. No Task, no allocation worth naming.

A request body nobody asked for is credited as it comes (the exchange has no answer object); the codec drains or closes.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from fairlead.core.handler import Handler
from fairlead.core.message import Response

FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
NO_BODY = (204, 304)


class Respond(Handler):
    """The same answer to every request. `headers`: pairs of bytes, names in lower case; content-length is added."""

    def __init__(self, status=200, headers=(), body=b""):
        self.status = status
        self.body = b"" if status in NO_BODY else body
        self.headers = [pair for pair in headers if pair[0] != b"content-length"]
        if status not in NO_BODY:
            self.headers.append((b"content-length", b"%d" % len(self.body)))

    def open(self, exchange):
        response = Response.__new__(Response)
        response.begin(self.status, self.headers.copy(), len(self.body), b"", "1.1")
        exchange.whole(response, b"" if exchange.request.method == "HEAD" else self.body)


class Redirect(Handler):
    """Sends the client elsewhere. `to` may hold `{scheme}`, `{host}`, `{path}`, `{query}` and the route's `{names}`.

    `query`: append the request's query, unless `to` places it itself.
    """

    def __init__(self, to, status=308, query=True):
        self.parts = FIELD.split(to)
        self.status = status
        self.add_query = query and "query" not in self.parts[1::2]

    def open(self, exchange):
        location = "".join([fill(exchange, p) if i % 2 else p for i, p in enumerate(self.parts)])
        query = exchange.request.query.decode("latin-1")
        if self.add_query and query:
            location += ("&" if "?" in location else "?") + query
        headers = [(b"location", location.encode("latin-1", "replace")), (b"content-length", b"0")]
        exchange.whole(Response(self.status, headers, 0), b"")


def fill(exchange, name):
    """What stands for `{name}`. Path parameters are escaped again, so that none can leave its segment."""
    request = exchange.request
    if name == "scheme":
        return request.scheme
    if name == "host":
        return request.authority.decode("latin-1")
    if name == "path":
        return request.raw_path.decode("latin-1")
    if name == "query":
        return request.query.decode("latin-1")
    return quote((exchange.params or {}).get(name, ""), safe="")
