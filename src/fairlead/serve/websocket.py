"""ASGI `websocket` scopes (ASGI 3.0, WebSocket spec 2.5): one WebSocket, one scope, one Socket, one asyncio Task.

    CONNECTING  the application decides: websocket.accept -> OPEN, websocket.close -> 403, websocket.http.response.* -> DENIED
    OPEN        websocket.send and websocket.receive, until a Close on either side -> CLOSED
    DENIED      an ordinary answer in place of the handshake

Rules
1. `send()` gives an awaitable that is ready at once while the peer takes what it is sent; `receive()` waits on a Waiter, so
   an application that waits for a message runs in the very callback that read it.
2. Back-pressure is credit withheld: while messages of `limits.queue` bytes wait for `receive()`, and while the peer does not
   take our pongs. Back from `send()` means: said, and there was room.
3. `websocket.disconnect` carries what RFC 6455 calls the close code: the peer's, 1005 when it gave none, 1006 when there
   was no Close (a lost connection, a broken rule, no pong); the reason then says which. After it `send()` raises an OSError.
4. What the application gets wrong is named in the log: 500 before the handshake, Close 1011 after it. An application that
   returns without a word before the handshake is a 500, after it a Close 1000.
5. A drain says Close 1012 (service restart, IANA) once its grace is over: clients come again.
6. `origins`, if given, are the pages that may open a WebSocket here (RFC 6455 section 10.2); others get 403 before the
   application is asked. Browsers send cookies from any page, and the same-origin policy does not hold for WebSockets.
7. One exchange from the handshake to the tunnel's end: one journey, one line in the log.
"""
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from collections import deque

from fairlead.core.errors import AppError, NetError, Refused, WireError
from fairlead.core.handler import Handler, error_response
from fairlead.core.limits import WebSocketLimits
from fairlead.core.message import Response
from fairlead.net.poll import Poller, Watcher
from fairlead.serve.app import tls_of, wake
from fairlead.serve.done import DONE, Disconnected, is_disconnect
from fairlead.serve.waiter import Waiter
from fairlead.wire import wsdeflate
from fairlead.wire.ws import RULES, Ear, WebSocket
from fairlead.wire.wshand import answer, check, field, good_origin, is_websocket, subprotocols, wrong_version

SPEC = {"version": "3.0", "spec_version": "2.5"}
CONNECTING, OPEN, DENIED, CLOSED = 0, 1, 2, 3
OVERHEAD = 64  # bytes that a waiting message is counted for beside its own


class WebSockets(Handler):
    """The WebSockets of one `serve.app.App`. `origins` None: anybody may ask; `deflate` None: no compression."""

    def __init__(self, app, limits=None, *, deflate=None, origins=None):
        self.app = app
        self.limits = limits if limits is not None else WebSocketLimits()
        self.deflate = deflate
        self.shared = wsdeflate.Shared()
        self.origins = origins
        self.base = {
            "type": "websocket", "asgi": SPEC, "http_version": "1.1", "scheme": "ws", "path": "", "raw_path": b"",
            "query_string": b"", "root_path": app.root_path, "headers": None, "client": None, "server": None,
            "subprotocols": None, "state": None, "extensions": None,
        }  # fmt: skip

    def wants(self, exchange):
        """Take the exchange if it asks for a WebSocket; False: it is a plain request."""
        if not is_websocket(exchange.request):
            return False
        self.open(exchange)
        return True

    def open(self, exchange):
        try:
            check(exchange.request)
        except Refused as error:
            if error.status != 426:
                raise
            response, body = error_response(error)
            exchange.error = error
            exchange.whole(wrong_version(response), body)
            return
        if self.origins is not None and not good_origin(exchange.request, self.origins):
            raise Refused("this page may not open a WebSocket here", status=403, hint="its Origin is not on the list")
        socket = Socket.__new__(Socket)
        socket.begin(self, exchange)
        exchange.answer = socket
        app = self.app
        app.cycles.add(socket)
        socket.task = app.loop.create_task(socket.run(self.scope(exchange)))

    def scope(self, exchange):
        """The ASGI connection scope."""
        app = self.app
        request = exchange.request
        conn = exchange.conn
        scope = self.base.copy()
        scope["http_version"] = request.version
        scope["scheme"] = "wss" if request.scheme == "https" else "ws"
        scope["path"] = request.path
        scope["raw_path"] = request.raw_path
        scope["query_string"] = request.query
        if app.strip and (request.path == app.strip or request.path.startswith(app.strip + "/")):
            scope["root_path"] = app.root_path + app.strip
        scope["headers"] = request.headers
        client = exchange.client if exchange.client is not None else conn.peer
        scope["client"] = client if type(client) is tuple else None
        local = conn.local
        scope["server"] = local if type(local) is tuple else (local, None) if local else None
        scope["subprotocols"] = subprotocols(request)
        scope["state"] = app.state.copy()
        scope["extensions"] = {"websocket.http.response": {}, "fairlead.journey": exchange.journey}
        if app.holding is not None:
            scope["extensions"]["fairlead.hold"] = {}
        if conn.tls is not None:
            scope["extensions"]["tls"] = tls_of(conn.tls)
        return scope


class Timer(Watcher):
    """One Socket's place on the wheel."""

    def __init__(self, socket, wheel):
        self.blocked = False
        self.slot = 0
        self.socket = socket
        self.wheel = wheel

    def due(self, now):
        socket = self.socket
        if socket is not None:
            socket.tick(now)

    def stop(self):
        """Forget the Socket."""
        self.wheel.remove(self)
        self.socket = None


class Socket(Ear):
    """One WebSocket: hears its exchange and its codec, and is the `receive` and `send` of its application."""

    def begin(self, home, exchange):
        """In place of a constructor."""
        self.home = home
        self.app = home.app
        self.exchange = exchange
        self.clock = exchange.conn.clock
        self.task = None
        self.ws = None
        self.timer = None
        self.denial = None
        self.early = None
        self.event = None
        self.events = None
        self.disconnect = None
        self.waiters = []
        self.senders = None
        self.state = 0
        self.queued = 0
        self.most = home.limits.queue
        self.connected = self.full = self.choked = self.ended = self.begun = self.gone = False

    async def run(self, scope):
        """The task: the application between STARTED and its end."""
        self.exchange.journey.started = self.clock.now()
        try:
            await self.app.target(scope, self.receive, self.send)
        except Exception as error:
            self.failed(error)
        except BaseException:
            self.broken(None, "the server stopped")
            raise
        else:
            self.returned()
        finally:
            self.app.cycles.discard(self)
            self.task = None
            self.let_go()

    # ---- the exchange speaks

    def data(self, chunk, end):
        """Bytes of the tunnel; False: credited later."""
        ws = self.ws
        if ws is None:
            if self.early is None:
                self.early = []
            self.early.append(chunk)
            return False
        ws.feed(chunk, self.clock.now())
        self.say()
        if end:
            self.end(None)
        return not (ws.more or self.choked)

    def end(self, trailers):
        """The peer ended its side of the tunnel: with or without a Close before."""
        if self.ws is None:
            self.closed(1006, "the client left before the handshake")
            return
        self.ws.eof(self.clock.now())
        self.say()

    def reset(self, why, side):
        self.gone = True
        if self.ws is not None:
            self.ws.eof(self.clock.now())
        self.closed(1006, str(why))
        if not self.ended:
            self.over()
        if self.senders is not None:
            wake(self.senders)

    def room(self):
        self.full = self.choked = False
        if self.senders is not None:
            wake(self.senders)
        if self.ws is not None and not self.ws.more:
            self.exchange.room()

    def farewell(self):
        """A drain's grace is over."""
        if self.state == 1:
            self.ws.close(1012, "the server restarts")
            self.say()
            self.arm()

    def tick(self, now):
        """The codec's deadline may have come."""
        self.ws.tick(now)
        self.say()
        self.arm()

    # ---- the codec speaks

    def text(self, message):
        return self.received({"type": "websocket.receive", "text": message}, len(message))

    def binary(self, message):
        return self.received({"type": "websocket.receive", "bytes": message}, len(message))

    def received(self, event, size):
        """A message for the application; False when that is enough for now."""
        self.queued += size + 64
        if self.event is None:
            self.event = event
        else:
            if self.events is None:
                self.events = deque()
            self.events.append(event)
        if self.waiters:
            self.waiters.pop(0).wake()
        return self.queued < self.most

    def closed(self, code, reason):
        """No message will come any more."""
        if self.disconnect is not None:
            return
        self.disconnect = {"type": "websocket.disconnect", "code": code, "reason": reason}
        self.state = 3
        waiters = self.waiters
        self.waiters = []
        for waiter in waiters:
            waiter.wake()
        if self.senders is not None:
            wake(self.senders)

    def say(self):
        """Give the exchange what the codec has to say."""
        ws = self.ws
        chunks = ws.take()
        exchange = self.exchange
        if chunks is not None and not exchange.over:
            if len(chunks) > 1:
                chunks = [b"".join(chunks)]
            if not exchange.data(chunks[0], False):
                self.full = self.choked = True
        if ws.finished and not self.ended:
            if ws.failed:
                exchange.error = WireError(RULES[ws.failed][1], status=0, rule=f"ws-{ws.failed}")
            self.over()
            if not exchange.over:
                exchange.end(None)

    def over(self):
        """The tunnel is over, or will be with what was said."""
        self.ended = True
        self.stop_timer()
        ws = self.ws
        if ws is not None:
            journey = self.exchange.journey
            journey.messages_in = ws.messages_in
            journey.messages_out = ws.messages_out
        self.let_go()

    def let_go(self):
        """When both the tunnel and the task are over: nothing may keep us in a circle."""
        if self.ended and self.task is None and self.ws is not None:
            self.ws.ear = None

    # ---- the application listens

    async def receive(self):
        """ASGI receive: websocket.connect, then messages, then websocket.disconnect. Cancelling it loses nothing."""
        event = self.next_event()
        while event is None:
            waiter = self.waiter()
            try:
                await waiter
            finally:
                if waiter in self.waiters:
                    self.waiters.remove(waiter)
            event = self.next_event()
        return event

    def waiter(self):
        """A new Waiter at the end of the queue."""
        waiter = Waiter.__new__(Waiter)
        waiter.begin(self.app.loop)
        self.waiters.append(waiter)
        return waiter

    def next_event(self):
        if not self.connected:
            self.connected = True
            return {"type": "websocket.connect"}
        event = self.event
        if event is None:
            return self.disconnect
        self.event = self.events.popleft() if self.events else None
        self.queued -= size_of(event) + 64
        ws = self.ws
        if ws.more and self.queued * 2 <= self.most:
            self.go_on()
        return event

    def go_on(self):
        """The queue has room again."""
        ws = self.ws
        ws.feed(b"", self.clock.now())
        self.say()
        self.arm()
        if not ws.more and not self.choked and not self.exchange.over:
            self.exchange.room()

    # ---- the application speaks

    def send(self, message):
        """ASGI send."""
        said = message if type(message) is dict else dict(message)
        kind = said.get("type")
        if self.state == 1 and kind == "websocket.send":
            return self.message(said) if not self.full else self.message_later(said)
        if self.gone or (self.disconnect is not None and self.state != 2):
            raise Disconnected("the WebSocket is closed")
        if kind == "websocket.close" and self.state < 2:
            self.close(said)
        elif kind == "websocket.accept" and self.state == 0:
            self.accept(said)
        elif kind == "websocket.http.response.start" and self.state == 0 and self.denial is None:
            self.deny(said)
        elif kind == "websocket.http.response.body" and self.denial is not None:
            return self.denial_body(said)
        elif kind == "fairlead.hold" and self.state == 0 and self.denial is None and self.app.holding is not None:
            self.hold(said)
        else:
            raise self.misplaced(kind)
        return DONE

    def message(self, said):
        """websocket.send."""
        ws = self.ws
        ws.now = self.clock.now()
        text = said.get("text")
        if text is not None:
            if type(text) is not str:
                raise AppError(f"the app sent text of type {type(text).__name__}", hint='"text" is a str, "bytes" bytes')
            ws.text(text)
        else:
            data = said.get("bytes")
            if data is None:
                raise AppError("the app sent websocket.send with neither text nor bytes", hint="give one of them")
            ws.binary(data if type(data) is bytes else bytes(data))
        room = True
        for chunk in ws.take() or ():
            room = self.exchange.data(chunk, False)
        if room:
            return DONE
        self.full = True
        return self.wait_room()

    async def message_later(self, said):
        """websocket.send while there is no room: say it once there is."""
        await self.wait_room()
        await self.send(said)

    async def wait_room(self):
        """Until the peer took enough, or left."""
        while self.full and not self.gone and self.state == 1:
            future = self.app.loop.create_future()
            if self.senders is None:
                self.senders = []
            self.senders.append(future)
            try:
                await future
            finally:
                if future in self.senders:
                    self.senders.remove(future)
        if self.disconnect is not None:
            raise Disconnected("the WebSocket is closed")

    def accept(self, said):
        """websocket.accept: the handshake."""
        exchange = self.exchange
        request = exchange.request
        home = self.home
        deflate, extension = None, b""
        if home.deflate is not None:
            deflate, extension = wsdeflate.accept(field(request, b"sec-websocket-extensions"), home.deflate, home.shared)
        headers = header_list(said.get("headers", ()))
        response = answer(request, headers, said.get("subprotocol"), extension)
        now = self.clock.now()
        exchange.deadline = 0
        exchange.heard_end = False
        self.ws = WebSocket(self, home.limits, False, deflate, None, now)
        self.state = 1
        exchange.head(response, False)
        exchange.tunnel = True
        exchange.conn.flush()
        if exchange.over:
            return
        if isinstance(self.clock, Poller):
            self.timer = Timer(self, self.clock.wheel)
            self.arm()
        early = self.early
        self.early = None
        if early is not None:
            self.ws.feed(b"".join(early), now)
            self.say()
            if not self.ws.more and not self.choked:
                exchange.room()

    def close(self, said):
        """websocket.close: a Close, or before the handshake a 403."""
        if self.state == 0:
            if self.denial is not None:
                raise self.misplaced("websocket.close")
            self.state = 3
            self.disconnect = {"type": "websocket.disconnect", "code": 1006, "reason": "refused"}
            self.exchange.whole(Response(403, [(b"content-length", b"0")], 0), b"")
            return
        code = said.get("code", 1000)
        if type(code) is not int or not (1000 <= code <= 4999):
            raise AppError(f"the app closed with code {code!r}"[:100], hint="1000 to 1003, 1007 to 1014, or 3000 to 4999")
        self.finish(code, said.get("reason") or "")

    def finish(self, code, reason):
        """Begin the closing handshake."""
        ws = self.ws
        ws.now = self.clock.now()
        ws.close(code, reason)
        self.state = 3
        self.say()
        self.arm()

    def hold(self, said):
        """fairlead.hold: the handshake and the socket are a topic's; for the application it is closed."""
        hold = self.app.holding.message(said)
        self.state = 3
        self.disconnect = {"type": "websocket.disconnect", "code": 1000, "reason": "handed over"}
        self.ended = True
        self.app.holding.hold(self.exchange, hold)

    def deny(self, said):
        """websocket.http.response.start: an ordinary answer in place of the handshake."""
        status = int(said.get("status", 403))
        if not 200 <= status <= 999:
            raise AppError(f"the app sent status {status}", hint="a final status is 200 to 599")
        self.denial = Response(status, header_list(said.get("headers", ())))

    def denial_body(self, said):
        """websocket.http.response.body."""
        exchange = self.exchange
        body = bytes(said.get("body", b""))
        more = said.get("more_body", False)
        if self.state == 3:
            raise self.misplaced("websocket.http.response.body")
        self.state = 2
        if not self.begun:
            self.begun = True
            if not more:
                self.denial.length = len(body)
                exchange.whole(self.denial, body)
                self.state = 3
                return DONE
            exchange.head(self.denial, False)
        if not more:
            self.state = 3
            exchange.data(body, True)
        elif body and not exchange.data(body, False):
            self.full = True
            return self.wait_room()
        return DONE

    def misplaced(self, kind):
        """The error of a message that does not fit here."""
        hint = ("first websocket.accept or websocket.close", "websocket.send or .close", "the body's rest", "nothing more")
        return AppError(f"the app sent {kind!r} out of place", hint=f"now: {hint[self.state]}")

    # ---- time and ends

    def arm(self):
        """See that the wheel looks at us in time."""
        timer = self.timer
        if timer is not None:
            due = self.ws.deadline()
            if due:
                timer.wheel.add(due, timer)

    def stop_timer(self):
        if self.timer is not None:
            self.timer.stop()
            self.timer = None

    def failed(self, error):
        """The application raised."""
        if self.disconnect is not None and is_disconnect(error):
            return
        self.broken(error, str(error) if isinstance(error, AppError) else f"{type(error).__name__} was raised by the application")

    def returned(self):
        """The application returned."""
        if self.state == 1:
            self.finish(1000, "")
        elif self.state != 3 and not self.gone:
            why = AppError("the app returned without websocket.accept or websocket.close", hint="send one of them first")
            self.broken(why, str(why))

    def broken(self, error, words):
        """End the WebSocket because of the application."""
        exchange = self.exchange
        if error is not None:
            exchange.conn.service.observer.broke(exchange, error)
        if exchange.over:
            return
        if self.state == 1:
            exchange.error = AppError(words)
            self.finish(1011 if error is not None else 1012, "")
        elif self.state != 3:
            self.state = 3
            exchange.fail(AppError(words) if error is not None else NetError(words, status=503, side="us"))


def size_of(event):
    """The length of a message's text or bytes."""
    body = event.get("text")
    return len(body) if body is not None else len(event["bytes"])


def header_list(headers):
    """The application's header fields as a list of our own, names in lower case."""
    found = []
    for name, value in headers:
        if type(name) is not bytes or type(value) is not bytes:
            raise AppError(f"the app sent a header that is not a pair of bytes: {name!r}"[:200], hint="names and values are bytes")
        found.append((name.lower(), value))
    return found
