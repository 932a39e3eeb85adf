"""The root Handler of a listener: who is asking, which route answers, its filters, then the route's handler.

Rules
1. Only what a trusted peer says about the client is believed (serve.forwarded): the effective client goes to
   `exchange.client`, scheme and authority to the request, before the table is asked. Others' fields are not looked at.
2. Every request has an id, `exchange.tag`: the one a trusted peer sent in `x-request-id`, else a random prefix of this
   process and a counter. It goes to logs and upstreams, never back into a decision.
3. No route: 404. A path that has routes but none for the method: 405 with Allow (RFC 9110 section 15.5.6). `OPTIONS *`
   asks about the server (section 9.3.7) and is answered here. CONNECT is not for an origin server: 501 (section 9.3.6).
4. Filters run in order before the handler. The first whose `before` gives an answer ends it. Those that were reached
   see the answer in `after`, innermost first, whoever made it.
"""

from __future__ import annotations

import os
import re

from fairlead.core.errors import AppError, Refused
from fairlead.core.handler import Handler, error_response
from fairlead.core.message import Response
from fairlead.serve.forwarded import effective

TAG = re.compile(rb"[A-Za-z0-9_.:/+=@,-]{1,128}\Z")
DIGITS = [b"%02x" % n for n in range(256)]
ANY_METHOD = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


class Route:
    """One route of a running plan: conditions (as in `serve.table`), filters (outermost first) and a handler."""

    def __init__(self, handler, *, path="", host=(), methods=(), headers=None, listeners=(), filters=(), name=""):
        self.handler = handler
        self.path = path
        self.host = tuple(host)
        self.methods = tuple(methods)
        self.headers = headers if headers is not None else {}
        self.listeners = tuple(listeners)
        self.filters = tuple(filters)
        self.name = name

    def __repr__(self):
        return f"<Route {self.name or self.path or '/*'}>"


class Router(Handler):
    """See the module. `table` is a `serve.table.Table` of `Route` objects; a listener is its service's name."""

    def __init__(self, table):
        self.table = table
        self.prefix = self.stem = os.urandom(4).hex().encode()
        self.count = 1

    def open(self, exchange):
        request = exchange.request
        conn = exchange.conn
        service = conn.service
        if service.forwarded is not None:
            self.believe(exchange, conn, service.forwarded)
        if not exchange.tag:
            low = self.count & 255
            if low == 0 or self.count == 1:
                self.stem = self.prefix + b"%08x" % (self.count >> 8)
            self.count += 1
            exchange.tag = self.stem + DIGITS[low]
        if request.target == b"*" or request.method == "CONNECT":
            self.special(exchange)
            return
        match = self.table.resolve(service.name, request)
        if match is None:
            raise Refused("no route answers this path", status=404)
        if match.allow is not None:
            refuse_method(exchange, match.allow)
            return
        route = match.route
        exchange.route = route
        exchange.params = match.params
        if route.filters and self.filtered(exchange, route.filters):
            return
        route.handler.open(exchange)

    def believe(self, exchange, conn, forwarded):
        """Take over what a trusted peer says about the client and the request's id."""
        hop = forwarded.hop(conn.peer)
        if not hop.trusted:
            return
        request = exchange.request
        told = False
        for name, value in request.headers:
            kind = header_kind(name, name)
            if kind == 1:
                told = True
            elif kind == 2 and TAG.match(value):
                exchange.tag = value
        if told:
            client, scheme, host = effective(request.headers, conn.peer, forwarded)
            if client and client != hop.address.decode("latin-1"):
                exchange.client = (client, 0)
            if scheme is not None:
                request.scheme = scheme
            if host is not None:
                request.authority = host

    def special(self, exchange):
        """Requests that are about the server, not about a path."""
        request = exchange.request
        if request.method == "OPTIONS":
            exchange.whole(Response(204, [(b"allow", ANY_METHOD)], 0), b"")
        elif request.method == "CONNECT":
            raise Refused("this is not a forward proxy", status=501)
        else:
            raise Refused("only OPTIONS has the target *", status=400)

    def filtered(self, exchange, filters):
        """Run the filters; True when one of them answered."""
        for step in filters:
            if hasattr(step, "after"):
                exchange.hooks = (step,) if exchange.hooks is None else (step, *exchange.hooks)
            answer = step.before(exchange) if hasattr(step, "before") else None
            if answer is None and not exchange.said_head and not exchange.over:
                continue
            if isinstance(answer, Response):
                exchange.whole(answer, b"")
            elif isinstance(answer, tuple):
                exchange.whole(answer[0], answer[1])
            elif answer is not None:
                hint = "None, a Response, or (Response, body)"
                raise AppError(f"the filter {type(step).__name__} gave {answer!r}", hint=hint)
            return True
        return False


def refuse_method(exchange, allow):
    """405 with the methods that would be answered."""
    error = Refused(f"{exchange.request.method} is not allowed here", status=405, hint="allowed: " + ", ".join(allow))
    response, body = error_response(error)
    response.headers.append((b"allow", ", ".join(allow).encode("latin-1")))
    exchange.error = error
    exchange.whole(response, body)


def header_kind(name, v):
    """1 for Forwarded and X-Forwarded-*, 2 for X-Request-Id, else 0."""
    if not name:
        return 0
    c = v[0]
    if c == 0x66:
        return 1 if name == b"forwarded" else 0
    if c != 0x78:
        return 0
    if name == b"x-request-id":
        return 2
    return 1 if name.startswith(b"x-forwarded-") else 0
