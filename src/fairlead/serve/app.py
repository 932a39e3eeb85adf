"""An ASGI application (ASGI 3.0, HTTP spec 2.5) as a Handler: one request, one scope, one Cycle, one asyncio Task.

Rules
1. `receive()` and `send()` give an awaitable that is ready at once when nothing has to be waited for, so that a plain
   request is one step of its Task. Only a missing body, a slow client, or waiting for `http.disconnect` suspends.
2. The Task is a Runner's (serve.runner), our own coroutine around the application's: its first step marks STARTED exactly
   (before the application's first line), its last one learns how it ended. When the whole request is there the
   application's first part runs at once, on the codec's stack: an answer that needs to wait for nothing is said there.
3. `http.response.start` is held until the first body message: then the framing can be chosen (a whole answer gets its
   `content-length`), small answers leave in one write, and an application that fails in between still gets a clean 500.
4. Body bytes are credited when `receive()` gives them to the application; its first call releases a 100 Continue.
5. `http.disconnect` comes when the answer is complete or the client is gone. After that `send()` raises an OSError
   (spec 2.4) if the client left, and does nothing if the answer was complete. The task is not cancelled.
6. What an application gets wrong is an AppError that names it and what would be right: a 500 while the head is not out,
   otherwise the connection is reset, because an answer cut short must not look finished.
7. A Task is referenced by its Runner, that by its Cycle, a Cycle by `App.cycles` as long as it waits; then every
   reference between exchange, cycle and Runner is dropped, so that finished requests need no garbage collector.
"""

from __future__ import annotations

from typing import Any

from fairlead.core.errors import AppError, NetError
from fairlead.core.handler import Handler
from fairlead.core.message import Response, is_event_stream
from fairlead.core.region import WAIT
from fairlead.serve.datagrams import answered
from fairlead.serve.done import DONE, Disconnected, is_disconnect
from fairlead.serve.errorpage import debug_page
from fairlead.serve.extensions import as_bytes, attach, send_path, send_zero_copy, tls_extension, whole_number
from fairlead.serve.opened import send_region
from fairlead.serve.runner import Runners, Work

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"))  # the others are looked at
START, BODY, HOLD = "http.response.start", "http.response.body", "fairlead.hold"
SPEC = {"version": "3.0", "spec_version": "2.5"}


class App(Handler):
    """One ASGI application on one event loop. `state` is what its lifespan left; each request gets a shallow copy.

    `strip` is a path prefix that becomes `root_path` (the application still sees the full path, as ASGI says). `debug`,
    None unless a test sets it, is called with (exchange, info) of each `http.response.debug`. `sockets`, a
    `serve.websocket.WebSockets` or None, is asked first about requests that want another protocol. `holding`: see `holds`.
    """

    def __init__(self, target, loop, *, name="app", state=None, root_path="", strip=""):
        self.target = target
        self.loop = loop
        self.name = name
        self.state = state if state is not None else {}
        self.root_path = root_path
        self.strip = strip.rstrip("/")
        self.cycles = set()
        self.runners = Runners(loop, name)
        self.version = "1.1"  # words that are found by identity, once the objects that others use for them are known
        self.said_start, self.said_body = START, BODY
        self.debug: Any = None
        self.sockets: Any = None
        self.holding: Any = None
        self.extensions: Any = {
            "http.response.trailers": {}, "http.response.early_hint": {}, "http.response.pathsend": {},
            "http.response.zerocopysend": {}, "fairlead.journey": None,
        }  # fmt: skip
        self.base = {
            "type": "http", "asgi": SPEC, "http_version": "1.1", "method": "GET", "scheme": "http", "path": "",
            "raw_path": b"", "query_string": b"", "root_path": root_path, "headers": None, "client": None,
            "server": None, "state": None, "extensions": None,
        }  # fmt: skip

    @property
    def running(self):
        """How many requests the application is working on."""
        return len(self.cycles)

    def holds(self, holding):
        """Connections may be handed to topics: `holding` (a `serve.hold.Holding`) takes them."""
        self.holding = holding
        self.extensions["fairlead.hold"] = {}

    def open(self, exchange):
        request = exchange.request
        conn = exchange.conn
        if (request.upgrade or request.protocol) and self.sockets is not None and self.sockets.wants(exchange):
            return
        extensions = self.extensions.copy()
        extensions["fairlead.journey"] = exchange.journey
        if conn.scene_of is not self:
            self.set_scene(conn)
        scope = conn.scene.copy()
        method = request.method
        usual = not request.upgrade
        if method != "GET":
            scope["method"] = method
            usual = method in METHODS
        if request.version is not self.version:
            if request.version == "1.1":
                self.version = request.version
            else:
                scope["http_version"] = request.version
        if request.scheme != "http":
            scope["scheme"] = request.scheme
        if request.query:
            scope["query_string"] = request.query
        path = request.decoded
        if not path:
            path = request.decoded = request.raw_path.decode("ascii")  # as `request.path`
        scope["path"] = path
        scope["raw_path"] = request.raw_path
        scope["headers"] = request.listed()
        scope["state"] = self.state.copy()
        scope["extensions"] = extensions
        if conn.tls is not None:
            extensions["tls"] = tls_of(conn.tls)
        if self.debug is not None:
            extensions["http.response.debug"] = {}
        if self.strip or exchange.client is not None or exchange.principal is not None or type(conn.local) is not tuple:
            usual = False
        if not usual:
            self.unusual(exchange, scope)
        cycle = Cycle.__new__(Cycle)
        cycle.begin(self, exchange)
        cycle.scope = scope
        exchange.working = True
        exchange.answer = cycle
        self.runners.start(cycle, exchange.heard_end)  # with a body to come its first part would only wait for it
        if not cycle.ended:
            self.cycles.add(cycle)

    def set_scene(self, conn):
        """What the scopes of a connection have in common."""
        scene = self.base.copy()
        scene["client"] = conn.peer
        scene["server"] = conn.local
        conn.scene = scene
        conn.scene_of = self

    def unusual(self, exchange, scope):
        """The scope of what is not a plain request on a TCP connection."""
        conn, request = exchange.conn, exchange.request
        if self.strip and (request.path == self.strip or request.path.startswith(self.strip + "/")):
            scope["root_path"] = self.root_path + self.strip
        if exchange.principal is not None:
            scope["extensions"]["fairlead.principal"] = exchange.principal
        attach(exchange, scope["extensions"])
        scope["method"] = request.method.upper()
        client = exchange.client if exchange.client is not None else conn.peer
        scope["client"] = client if type(client) is tuple else None
        local = conn.local
        if type(local) is not tuple:
            scope["server"] = (local, None) if local else None


class Cycle(Work):
    """One request of an App: the Answer of its exchange, and the `receive` and `send` of its application."""

    def begin(self, app, exchange):
        """In place of a constructor, whose argument tuple costs as much as everything below."""
        self.app = app
        self.exchange = exchange
        self.journey = exchange.journey
        conn = exchange.conn
        self.clock = conn.clock
        self.runner = None
        self.scope: Any = None
        self.ended = False
        self.response: Any = None
        self.receivers = self.senders = self.chunks = None
        self.chunk = None
        self.held = 0
        self.left = -1
        self.body_over = exchange.heard_end
        self.held_by: Any = None
        self.delivered = self.gone = self.half = self.full = False
        self.bodiless = self.trailers = self.sent = self.complete = False

    def call(self):
        """The application, between STARTED and its end."""
        self.journey.started = self.clock.now()
        scope = self.scope
        self.scope = None
        if not self.exchange.conn.begin(self.exchange):
            return None
        return self.app.target(scope, self.receive, self.send)

    # ---- the exchange speaks

    def data(self, chunk, end):
        """Keep body bytes until the application asks; they are credited then."""
        if end:
            self.body_over = True
        if chunk:
            self.held += len(chunk)
            if self.chunk is None:
                self.chunk = chunk
            elif self.chunks is None:
                self.chunks = [self.chunk, chunk]
            else:
                self.chunks.append(chunk)
        if self.receivers is not None:
            wake(self.receivers)
        return not chunk

    def end(self, trailers):
        self.body_over = True
        if self.receivers is not None:
            wake(self.receivers)

    def reset(self, why, side):
        if side == "read":
            self.half = True
        else:
            self.gone = True
        if self.receivers is not None:
            wake(self.receivers)
        if self.senders is not None:
            wake(self.senders)

    def room(self):
        self.full = False
        if self.senders is not None:
            wake(self.senders)

    def farewell(self):
        """An event stream ends cleanly: its client comes again by itself, as EventSource does. Others are cut."""
        if self.sent and not self.complete and not self.bodiless and is_event_stream(self.response):
            self.exchange.end(None)
            self.finished()

    # ---- the application listens

    async def receive(self):
        """ASGI receive: the next `http.request`, or `http.disconnect`. Cancelling it loses nothing."""
        message = self.message()
        while message is None:
            future = self.app.loop.create_future()
            if self.receivers is None:
                self.receivers = []
            self.receivers.append(future)
            try:
                await future
            finally:
                if future in self.receivers:
                    self.receivers.remove(future)
            message = self.message()
        return message

    def message(self):
        if not self.delivered and (self.body_over or (self.chunk is not None and not self.gone)):
            if self.complete:
                return {"type": "http.disconnect"}
            body = b""
            if self.chunk is not None:
                body = self.chunk if self.chunks is None else b"".join(self.chunks)
                self.chunk = None
                self.chunks = None
            count = self.held
            self.held = 0
            self.delivered = self.body_over
            message = {"type": "http.request", "body": body, "more_body": not self.body_over}
            if count:
                self.exchange.credit(count)  # may bring the next chunk at once
            return message
        if self.complete or self.gone or self.half:
            return {"type": "http.disconnect"}
        if self.exchange.request.expect and not self.delivered:
            self.exchange.credit(0)
        return None

    # ---- the application speaks

    def send(self, message):
        """ASGI send."""
        if self.complete:
            return DONE
        if self.gone:
            raise Disconnected()
        said = message if type(message) is dict else dict(message)
        kind = said.get("type")
        app = self.app
        if kind is app.said_start:
            self.start(said)
            return DONE
        if kind is app.said_body:
            return self.body(said)
        if kind == START:
            app.said_start = START if type(kind) is not str else kind
            self.start(said)
            return DONE
        if kind == BODY:
            app.said_body = BODY if type(kind) is not str else kind
            return self.body(said)
        return self.other(kind, said)

    def start(self, message):
        if self.response is not None:
            raise AppError("the app sent http.response.start twice", hint="send it once, then http.response.body")
        given = message.get("status")
        status = given if type(given) is int else whole_number(given)
        if not 200 <= status <= 999:
            raise AppError(f"the app sent status {status}", hint="a final status is 200 to 599; 1xx are not final")
        method = self.exchange.request.method
        self.bodiless = status == 204 or status == 304 or (len(method) == 4 and method == "HEAD")
        headers = message.get("headers")
        fields = self.fields(headers if headers is not None else ())
        response = Response.__new__(Response)
        response.status = status
        response.kept = fields
        response.length = self.left
        response.version = "1.1"
        response.reason = response.upgrade = b""
        response.trailers = None
        self.response = response
        if self.exchange.intake is not None and self.exchange.request.upgrade + self.exchange.request.protocol:
            answered(self.exchange, response)
        if (headers is None or len(message) > 3) and message.get("trailers", False):  # else there is no place for it
            self.trailers = True

    def fields(self, headers):
        """The answer's header list: one of our own, names in lower case. `left` becomes the declared length, or -1."""
        found = []
        for pair in headers:
            name, value = pair
            if type(name) is not bytes or type(value) is not bytes:
                raise AppError(
                    f"the app sent a header that is not a pair of bytes: {pair!r}"[:200],
                    hint='names and values are bytes, as in (b"content-type", b"text/plain")',
                )
            kind = name_kind(name, name)
            if kind & 1:
                name = name.lower()
                kind = name_kind(name, name)
                pair = (name, value)
            if kind == 2:
                self.left = digits(value, value)
                if self.left < 0:
                    raise AppError(f"the app sent content-length {value!r}"[:100], hint="it is a number of bytes")
            elif kind == 4:
                continue  # framing is the connection's: chunked only where the version has it
            elif kind == 8 and self.app.holding is not None:
                self.held_by = value
                continue
            found.append(pair if type(pair) is tuple else (name, value))
        return found

    def body(self, message):
        response = self.response
        if response is None:
            raise AppError("the app sent http.response.body first", hint="send http.response.start before it")
        if self.held_by is not None and response.status < 300:
            self.hold(self.app.holding.field(self.held_by, response.headers))
            return DONE
        given = message.get("body")
        body = given if type(given) is bytes else as_bytes(given)
        more = (given is None or len(message) > 2) and message.get("more_body", False)
        if not self.sent and not more and not self.trailers and response.status != 101:
            self.all_at_once(body)
            return DONE
        if not self.sent:
            self.sent = True
            self.exchange.head(response, self.bodiless)
        if self.bodiless:
            if not more:
                self.finished()
            return DONE
        count = len(body)
        if self.left >= 0:
            self.left -= count
            if self.left < 0:
                raise AppError(
                    f"the app sent more than its content-length of {response.length} bytes",
                    hint="send as many as it says, or no content-length",
                )
            if not more and self.left:
                raise AppError(
                    f"the app sent {response.length - self.left} bytes of its content-length of {response.length}",
                    hint="send as many as it says, or no content-length",
                )
        if not more and not self.trailers:
            self.exchange.data(body, True)
            self.finished()
            return DONE
        if not count:
            self.exchange.conn.flush()
            return DONE
        room = self.exchange.data(body, False)
        if room:
            return DONE
        self.full = True
        return self.wait_room()

    def all_at_once(self, body):
        """A whole answer in one message."""
        response = self.response
        count = len(body)
        if not self.bodiless:
            if response.length < 0:
                response.length = count
            elif response.length != count:
                raise AppError(
                    f"the app sent {count} bytes with a content-length of {response.length}",
                    hint="send as many as it says, or no content-length",
                )
        else:
            body = b""
        self.sent = True
        self.exchange.whole(response, body)
        self.complete = True  # as `finished`
        if self.receivers is not None:
            wake(self.receivers)

    async def wait_room(self):
        """Until the client took enough, or left."""
        while self.full and not self.gone:
            future = self.app.loop.create_future()
            if self.senders is None:
                self.senders = []
            self.senders.append(future)
            try:
                await future
            finally:
                if future in self.senders:
                    self.senders.remove(future)
        if self.gone and not self.complete:
            raise Disconnected()

    def last(self, message):
        """http.response.trailers: the end of an answer that announced them."""
        if not self.sent or not self.trailers:
            raise AppError(
                "the app sent http.response.trailers without announcing them",
                hint='say "trailers": True in http.response.start and send the body first',
            )
        if message.get("more_trailers", False):
            self.response.trailers = (self.response.trailers or []) + self.fields(message.get("headers", ()))
            return
        trailers = (self.response.trailers or []) + self.fields(message.get("headers", ()))
        if not self.bodiless:
            self.exchange.end(trailers or None)
        self.finished()

    def other(self, kind, message):
        """Every message that is not part of a plain answer; an awaitable."""
        if kind == "http.response.trailers":
            self.last(message)
        elif kind == "http.response.early_hint":
            if not self.sent and self.exchange.request.version != "1.0":
                self.exchange.inform(103, [(b"link", bytes(link)) for link in message.get("links", ())])
        elif kind == "http.response.pathsend":
            self.unsent("http.response.pathsend is the whole body")
            return send_path(self, message.get("path"))
        elif kind == "http.response.zerocopysend":
            return send_zero_copy(self, message)
        elif kind == HOLD and self.app.holding is not None:
            if self.response is not None:
                raise AppError("the app sent fairlead.hold behind http.response.start", hint="it stands in the place of an answer")
            self.hold(self.app.holding.message(message))
        elif kind == "http.response.debug" and self.app.debug is not None:
            self.unsent("http.response.debug comes before the body")
            self.app.debug(self.exchange, message.get("info"))
        else:
            raise AppError(
                f"the app sent a message of type {kind!r}",
                hint="in an http scope: http.response.start, then http.response.body",
            )
        return DONE

    def hold(self, hold):
        """The connection is a topic's now; for the application the answer is complete."""
        self.complete = True
        self.app.holding.hold(self.exchange, hold)
        if self.receivers is not None:
            wake(self.receivers)

    def unsent(self, rule):
        """Nothing of the body is out yet, or the application broke `rule`."""
        if self.sent:
            raise AppError("the app sent body bytes already", hint=rule)

    def promise(self, size):
        """The body will have `size` bytes; said in content-length unless the application said another number itself."""
        if self.response is not None and self.response.length < 0:
            self.response.length = self.left = size

    async def file(self, file, fd, offset, count, more):
        """Have the kernel send a part of a file as body bytes: True when it does, and there is room for more."""
        exchange = self.exchange
        if self.response is None or self.bodiless or self.trailers or not exchange.conn.carrier.regions or self.left < count:
            return False
        if not more and self.left != count:
            return False  # `body` says what is wrong
        if not self.sent:
            self.sent = True
            exchange.head(self.response, False)
        said = send_region(exchange, file, fd, offset, count, not more)
        if not said:
            return False
        self.left -= count
        if not more:
            self.finished()
        elif said == WAIT:
            self.full = True
            await self.wait_room()
        return True

    def wants_no_body(self):
        """Is this an answer whose body is not sent (HEAD, 204, 304)?"""
        return self.bodiless

    # ---- how it ends

    def finished(self):
        """The answer is complete."""
        self.complete = True
        if self.receivers is not None:
            wake(self.receivers)

    def failed(self, error):
        """The application raised."""
        if self.gone and is_disconnect(error):
            return
        if isinstance(error, AppError):
            self.broken(error, AppError(str(error), hint=error.hint))
        else:
            self.broken(error, AppError(f"{type(error).__name__} was raised by the application"))

    def returned(self):
        """The application returned."""
        if self.complete or self.gone:
            return
        if self.half and not self.exchange.said_head:
            self.complete = True  # it was told that nobody listens any more, and believed it
            self.exchange.fail(NetError("the client closed its side before the answer", step="receive", status=499))
            return
        if self.response is None:
            text = "the app returned without a response"
            hint = "send http.response.start and http.response.body before returning"
        else:
            text = "the app returned before its response was complete"
            hint = "the last http.response.body has more_body False"
        why = AppError(text, hint=hint)
        self.broken(why, why)

    def broken(self, error, why):
        """End the exchange because of the application. What is kept has no traceback: it would hold us in a circle."""
        exchange = self.exchange
        conn = exchange.conn
        if error is not None:
            conn.service.observer.broke(exchange, error)
        if self.complete:
            return
        self.complete = True
        if not exchange.over:
            if error is not None and conn.service.debug and not exchange.said_head:
                response, body = debug_page(exchange, error)
                exchange.error = why
                exchange.whole(response, body)
            else:
                exchange.fail(why)
        if self.receivers is not None:
            wake(self.receivers)

    def stopped(self):
        self.broken(None, AppError("the server stopped while the application was answering", status=503))

    def over(self):
        """The work ends: nothing may keep it, or be kept by it."""
        self.ended = True
        self.app.cycles.discard(self)
        exchange = self.exchange
        exchange.working = False
        if exchange.abandoned:
            exchange.worked()
        self.chunk = None
        self.chunks = None
        self.response = None


def name_kind(name, v):
    """What a name needs: 1 it has upper case, 2 it is content-length, 4 transfer-encoding, 8 fairlead-hold, 0 nothing."""
    n = len(name)
    for i in range(n):
        c = v[i]
        if 0x41 <= c <= 0x5A:
            return 1
    if n == 14 and v[0] == 0x63 and name == b"content-length":
        return 2
    if n == 17 and v[0] == 0x74 and name == b"transfer-encoding":
        return 4
    if n == 13 and v[0] == 0x66 and name == b"fairlead-hold":
        return 8
    return 0


def digits(value, v):
    """A content-length, or -1. At most 18 digits, so that it fits."""
    n = len(value)
    if n == 0 or n > 18:
        return -1
    number = 0
    for i in range(n):
        if v[i] < 0x30 or v[i] > 0x39:
            return -1
        number = number * 10 + (v[i] - 0x30)
    return number


def wake(waiters):
    """Let everybody go on who waits."""
    for future in waiters:
        if not future.done():
            future.set_result(None)
    waiters.clear()


def tls_of(engine):
    """The `tls` extension of a connection."""
    engine.scope = engine.scope or tls_extension(engine)
    return engine.scope
