"""gRPC as an answer: standard servicers behind a route, over whatever HTTP the listener speaks.

    server = fairlead.grpc.Server()
    add_TodoServicer_to_server(TodoServicer(), server)

Rules ("gRPC over HTTP2", PROTOCOL-HTTP2.md)
1. A request is POST, its path the method, its content-type application/grpc (with +proto or another suffix) and it says
   `te: trailers`. Another content-type is 415, which clients read as a gRPC error; another method 405; HTTP/1.1 is 505,
   for it has no trailers that clients would wait for. gRPC-Web and JSON need none of that (`serve.grpcforms`).
2. An unknown method is UNIMPLEMENTED, and so is an encoding that we do not have, with the list of those that we do.
3. The deadline counts from when the request's head was there, also if it waited in a front's queue. One that has passed is
   answered without a servicer. What servicers do with the time left is their own affair: `context.time_remaining()`.
4. At most `maximum_concurrent_rpcs` calls run: more are RESOURCE_EXHAUSTED. Blocking servicers run in the route's threads
   (`serve.grpcsync`); when its queue is full, the same.
5. Interceptors are asked in order, grpc.aio's in the call's Task and then grpcio's in a thread; the chain ends at the handlers.
"""

# mypy: disable-error-code="union-attr,attr-defined,has-type,assignment,var-annotated"

from __future__ import annotations

import asyncio

from fairlead.core.errors import Refused, WireError
from fairlead.net.poll import Poller
from fairlead.serve.grpccall import Call
from fairlead.serve.grpchome import Home, Timer
from fairlead.serve.grpcmethods import CallDetails, Method, is_async
from fairlead.wire.grpc import timeout_of
from fairlead.wire.grpccoding import ACCEPTED, NAMES

KEPT = 1024  # methods of generic handlers that are kept ready


class Grpc(Home):
    """The calls of one `server` (a serve.grpcserver.Server) on one loop. `lane`: threads for blocking servicers, or None.

    `others`, a serve.grpcforms.Forms or None, is asked about requests that are no gRPC of the plain kind.
    """

    def __init__(self, server, loop, *, name="grpc", lane=None, pool=None):
        super().__init__(loop, name)
        self.server = server
        self.lane = lane
        self.pool = pool
        self.others = None
        self.most = server.max_message
        self.most_sent = server.max_sent
        self.limit = server.limit
        self.usual = server.compression
        self.methods = {path: Method(path, handler) for path, handler in server.handlers.items()}
        self.generic = tuple(server.generic)
        self.made = {}
        self.interceptors = tuple([one for one in server.interceptors if is_async(one)])
        self.blocking = tuple([one for one in server.interceptors if not is_async(one)])
        self.chain = bool(server.interceptors)
        self.refused = 0

    @property
    def running(self):
        """Calls that are open."""
        return self.active

    def close(self):
        """The worker ends, or no route has this server any more."""
        if self.pool is not None and self.lane is not None:
            self.pool.remove(self.lane)

    # ---- a request

    def open(self, exchange):
        request = exchange.request
        kind = timeout = coding = accepted = None
        te = False
        for pair in request.listed():
            name, value = pair
            size = len(name)
            if size == 12:
                if name == b"content-type":
                    kind = value
                elif name == b"grpc-timeout":
                    timeout = value
            elif size == 2:
                if name == b"te":
                    te = True
            elif size == 13:
                if name == b"grpc-encoding":
                    coding = value
            elif size == 20:
                if name == b"grpc-accept-encoding":
                    accepted = value
        form = None
        if request.method != "POST" or kind is None or not is_grpc(kind, kind):
            form = self.other(exchange, kind)
            if form is None:
                return
        elif request.version != "2" and request.version != "3":
            raise Refused("gRPC needs HTTP/2", status=505, hint="gRPC-Web goes over HTTP/1.1")
        call = Call.__new__(Call)
        call.begin(self, exchange)
        call.form = form
        call.accepted = accepted
        call.wanted = self.usual
        exchange.working = True
        exchange.answer = call
        if not te and form is None:
            call.finish(13, "te: trailers is missing: something on the way may drop the status")
            return
        if timeout is not None and not self.timed(call, timeout):
            return
        if coding is not None and coding != b"identity" and not self.coded(call, coding):
            return
        self.route(call, request.raw_path if form is None or form.path is None else form.path)

    def route(self, call, path):
        """Find the method, and begin."""
        method = self.methods.get(path)
        if method is None:
            method = self.look_up(call, path)
        if method is None and not self.chain:
            call.finish(12, f"there is no method {path.decode('latin-1')}")
            return
        if self.limit and self.active > self.limit:
            self.refused += 1
            call.finish(8, "too many calls at once")
            return
        call.method = method
        if method is not None:
            method.started += 1
            method.last = call.journey.parsed
        if self.chain:
            call.exchange.conn.codec.patient(call.exchange.stream)
            call.chained = True
            call.start(False)
        elif method.client_stream:
            call.exchange.conn.codec.patient(call.exchange.stream)
            call.start(False)
        elif call.body_over:
            call.end(None)
        elif call.exchange.request.expect:
            call.exchange.credit(0)

    def other(self, exchange, kind):
        """A request that is no plain gRPC: how it is to be answered, or None when it is."""
        form = self.others.form(self, exchange, kind) if self.others is not None else None
        if form is not None or exchange.over or exchange.said_head:
            return form
        if exchange.request.method != "POST":
            raise Refused("gRPC is POST", status=405)
        raise Refused("this is a gRPC service", status=415, hint="content-type: application/grpc")

    def timed(self, call, value):
        """Set the deadline; False when the call is over already."""
        try:
            took = timeout_of(value)
        except WireError as error:
            call.refuse(error)
            return False
        now = self.clock_of(call)
        call.deadline = min((call.journey.parsed or now) + took, 1 << 62)
        if call.deadline <= now:
            call.finish(4, "the deadline of the call has passed")
            return False
        if isinstance(call.clock, Poller):
            call.timer = Timer(call, call.clock)
        return True

    def clock_of(self, call):
        """Now, as the connection counts."""
        return call.clock.now()

    def coded(self, call, coding):
        """Note how the client compresses; False when we cannot."""
        name = coding.decode("latin-1")
        if name in NAMES:
            call.coding = name
            return True
        call.initial = [(b"grpc-accept-encoding", ACCEPTED)]
        call.finish(12, f"this server does not have the encoding {name}")
        return False

    def look_up(self, call, path):
        """A method of the generic handlers, or None."""
        if not self.generic:
            return None
        try:
            details = CallDetails(path.decode("latin-1"), call.invocation_metadata())
        except WireError:
            return None
        for handler in self.generic:
            found = handler.service(details)
            if found is not None:
                return self.method_of(path, found)
        return None

    def method_of(self, path, handler):
        """The Method of a handler that somebody gave us for this call."""
        known = self.methods.get(path) or self.made.get(path)
        if known is not None and known.handler is handler:
            return known
        made = Method(path, handler)
        if len(self.made) >= KEPT:
            self.made.clear()
        self.made[path] = made
        return made

    # ---- threads and interceptors

    def in_thread(self, call):
        """Have a call's servicer run in a thread."""
        from fairlead.serve.grpcsync import ThreadCall

        call.threaded = True
        call.running = True
        if self.lane is None or not self.lane.put(ThreadCall(call, self.lane)):
            self.refused += 1
            call.threaded = False
            call.finish(8, "all threads of this server are busy, and so is their queue")
            call.over()

    def intercepted(self, call):
        return self.intercept(call)

    async def intercept(self, call):
        """The interceptors, then the servicer that they choose."""
        path = call.exchange.request.raw_path
        try:
            details = CallDetails(path.decode("latin-1"), call.invocation_metadata())
        except WireError as error:
            call.refuse(error)
            return
        handler = await self.next_of(0, details, call)
        if handler is None:
            call.finish(12, f"there is no method {path.decode('latin-1')}")
            return
        await call.chosen(self.method_of(path, handler))

    async def next_of(self, index, details, call):
        """What the interceptors from `index` on make of a call."""
        if index < len(self.interceptors):
            return await self.interceptors[index].intercept_service(Next(self, index + 1, call), details)
        if self.blocking:
            return await asyncio.to_thread(self.blocking_next, 0, details, call)
        return self.handler_of(details, call)

    def blocking_next(self, index, details, call):
        """The same for grpcio's own interceptors, in a thread."""
        if index < len(self.blocking):
            return self.blocking[index].intercept_service(BlockingNext(self, index + 1, call), details)
        return self.handler_of(details, call)

    def handler_of(self, details, call):
        """The end of the chain: the handler that was registered, or None."""
        name = details.method
        path = name.encode("latin-1", "replace") if isinstance(name, str) else bytes(name)
        method = self.methods.get(path) or self.look_up(call, path)
        return method.handler if method is not None else None


class Next:
    """The `continuation` of an interceptor."""

    def __init__(self, home, index, call):
        self.home = home
        self.index = index
        self.call = call

    def __call__(self, details):
        return self.home.next_of(self.index, details, self.call)


class BlockingNext(Next):
    """The `continuation` of one of grpcio's own."""

    def __call__(self, details):
        return self.home.blocking_next(self.index, details, self.call)


def is_grpc(kind, v):
    """application/grpc, alone or with a suffix or parameters; not application/grpc-web."""
    size = len(kind)
    if size < 16 or not kind.startswith(b"application/grpc"):
        return False
    return size == 16 or v[16] == 0x2B or v[16] == 0x3B
