"""The root Handler of a listener: who is asking, which route answers, its filters, then the route's handler.

Rules
1. Only what a trusted peer says about the client is believed (serve.forwarded): the effective client goes to
   `exchange.client`, scheme and authority to the request, before the table is asked. Others' fields are not looked at.
2. Every request has an id, `exchange.tag`: the one a trusted peer sent in `x-request-id`, else a random prefix of this
   process and a counter. It goes to logs and upstreams, never back into a decision.
3. No route: 404. A path that has routes but none for the method: 405 with Allow (RFC 9110 section 15.5.6). `OPTIONS *`
   asks about the server (section 9.3.7) and is answered here. CONNECT is not for an origin server: 501 (section 9.3.6).
4. Filters run in order before the handler (`serve/filters`). The first whose `before` gives an answer ends it. Those
   that were reached see the answer in `after`, innermost first, whoever made it. A `before` that has to wait gives an
   awaitable: `Waiting` then holds the request, its body unread but for one window, and goes on when it is done.
"""

from __future__ import annotations

import asyncio
import os
import re

from fairlead.core.errors import AppError, Refused
from fairlead.core.exchange import Answer
from fairlead.core.handler import Handler, error_response
from fairlead.core.message import Response, bits_of
from fairlead.serve.forwarded import effective

TAG = re.compile(rb"[A-Za-z0-9_.:/+=@,-]{1,128}\Z")
DIGITS = [b"%02x" % n for n in range(256)]
_TOLD = bits_of(b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-request-id")
ANY_METHOD = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


class Route:
    """One route of a running plan: conditions (as in `serve.table`), filters (outermost first) and a handler.

    `shown`: its path for people, where it is written otherwise than it is matched.
    """

    def __init__(self, handler, *, path="", host=(), methods=(), headers=None, listeners=(), filters=(), name="", shown=""):
        self.handler = handler
        self.path = path
        self.host = tuple(host)
        self.methods = tuple(methods)
        self.headers = headers if headers is not None else {}
        self.listeners = tuple(listeners)
        self.filters = tuple(filters)
        self.name = name
        self.shown = shown

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
        method = request.method
        if request.target == b"*" or (len(method) == 7 and method == "CONNECT" and not request.protocol):
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
        if route.filters and self.filtered(exchange, route, 0):
            return
        route.handler.open(exchange)

    def believe(self, exchange, conn, forwarded):
        """Take over what a trusted peer says about the client and the request's id."""
        request = exchange.request
        block = request.block
        if block is not None and not block.known & _TOLD:
            return
        hop = forwarded.hop(conn.peer)
        if not hop.trusted:
            return
        told = False
        for name, value in request.listed():
            kind = header_kind(name, name)
            if kind == 1:
                told = True
            elif kind == 2 and TAG.match(value):
                exchange.tag = value
        if told:
            client, scheme, host = effective(request.listed(), conn.peer, forwarded)
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

    def filtered(self, exchange, route, place):
        """Run the filters from `place` on; True when one of them answered, or has to wait."""
        filters = route.filters
        while place < len(filters):
            step = filters[place]
            place += 1
            if hasattr(step, "after"):
                exchange.hooks = (step,) if exchange.hooks is None else (step, *exchange.hooks)
            answer = step.before(exchange) if hasattr(step, "before") else None
            if answer is None and not exchange.said_head and not exchange.over:
                continue
            if isinstance(answer, Response):
                exchange.whole(answer, b"")
            elif isinstance(answer, tuple):
                exchange.whole(answer[0], answer[1])
            elif hasattr(answer, "__await__"):
                Waiting(self, exchange, route, place).start(answer)
            elif answer is not None:
                hint = "None, a Response, (Response, body), or an awaitable of these"
                raise AppError(f"the filter {type(step).__name__} gave {answer!r}", hint=hint)
            return True
        return False


class Waiting(Answer):
    """A request whose filter has to wait. Its body is held, and never more than one window of it: nothing is credited."""

    def __init__(self, router, exchange, route, place):
        self.router = router
        self.exchange = exchange
        self.route = route
        self.place = place
        self.task = None
        self.held = []
        self.held_end = exchange.heard_end
        self.trailers = None

    def start(self, awaitable):
        """Wait for the filter's word in a task of its own."""
        self.exchange.answer = self
        self.task = asyncio.get_running_loop().create_task(self.wait(awaitable))

    async def wait(self, awaitable):
        """The filter's answer, or the next step."""
        exchange = self.exchange
        try:
            answer = await awaitable
            if exchange.over:
                return
            if isinstance(answer, Response):
                exchange.whole(answer, b"")
            elif isinstance(answer, tuple):
                exchange.whole(answer[0], answer[1])
            elif not self.router.filtered(exchange, self.route, self.place):
                self.go_on()
                return
            exchange.answer = None  # what is still to come of the body is of no use
            exchange.settle(exchange.withheld)
        except Exception as error:
            exchange.conn.raised(exchange, error)

    def go_on(self):
        """The handler's turn: it opens the exchange as it was, then hears the body that came meanwhile."""
        exchange = self.exchange
        exchange.heard_end = self.held_end and not self.held and self.trailers is None
        exchange.answer = None
        self.route.handler.open(exchange)
        exchange.heard_end = self.held_end
        answer = exchange.answer if exchange.intake is None else exchange.intake
        for chunk, end in self.held:
            if answer is None or answer.data(chunk, end):
                exchange.settle(len(chunk))
        if self.trailers is not None and answer is not None:
            answer.end(self.trailers)

    def data(self, chunk, end):
        self.held.append((chunk, end))
        self.held_end = end
        return False

    def end(self, trailers):
        self.held_end = True
        self.trailers = trailers if trailers is not None else []

    def reset(self, why, side):
        if side == "both" and self.task is not None:
            self.task.cancel()


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
