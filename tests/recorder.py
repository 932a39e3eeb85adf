"""A codec that records what it is told and says what a test wants: for tests of handlers, without sockets and bytes."""

from __future__ import annotations

from fairlead.core.carrier import Carrier
from fairlead.core.codec import Codec
from fairlead.core.connection import Connection
from fairlead.core.errors import NetError
from fairlead.core.handler import Handler, Observer, Service
from fairlead.core.limits import Limits
from fairlead.core.message import Request


class Recorder(Codec):
    """`said` holds (word, ...) tuples; `full` makes `data` answer that there is no room."""

    def __init__(self, conn):
        super().__init__(conn, Limits(), False)
        self.said = []
        self.full = False
        self.credited = 0

    def head(self, stream, message, end):
        self.said.append(("head", message.status, end))
        self.response = message
        self.headers = dict(message.headers)

    def inform(self, stream, status, headers):
        self.said.append(("inform", status, headers))

    def data(self, stream, chunk, end):
        self.said.append(("data", chunk, end))
        return not self.full

    def end(self, stream, trailers):
        self.said.append(("end", trailers))

    def consumed(self, stream, count):
        self.credited += count
        self.said.append(("consumed", count)) if count == 0 else None

    def reset(self, stream, why, side):
        self.said.append(("reset", str(why), side))


class Desk(Carrier):
    """Takes everything at once, as a fast client does, unless `hold`."""

    def __init__(self):
        super().__init__()
        self.hold = False

    def touch(self):
        conn = self.conn
        if not self.hold:
            now = conn.clock.now()
            conn.flushed(now, 0, now)


class Watcher(Observer):
    """Remembers what was done and what broke."""

    def __init__(self):
        self.finished = []
        self.broken = []

    def done(self, exchange):
        self.finished.append(exchange)

    def broke(self, exchange, error):
        self.broken.append(error)


class Peer:
    """A client of one connection: `get()`, `post()` ... speak; `codec.said` is what it was answered."""

    def __init__(self, handler, service=None, peer=("192.0.2.7", 4711), local=("192.0.2.1", 80), **options):
        self.watcher = Watcher()
        self.service = service or Service(handler, observer=self.watcher, **options)
        self.carrier = Desk()
        self.conn = Connection(self.service, self.carrier, peer, local)
        self.carrier.conn = self.conn
        self.codec = Recorder(self.conn)
        self.conn.codec = self.codec
        self.stream = 0

    def ask(self, method, target, headers=(), length=0, version="1.1", authority=b"shop.example", expect=False):
        """A head arrives. `length` 0: no body."""
        self.stream += 1
        request = Request(method, "http", authority, target, list(headers), version, length)
        request.expect = expect
        path, _, query = target.partition(b"?")
        request.path, request.raw_path, request.query = path.decode(), path, query
        self.conn.in_feed = True
        self.conn.head(self.stream, request, length == 0)
        self.conn.in_feed = False
        return request

    def get(self, target=b"/", headers=(), **more):
        return self.ask("GET", target, headers, **more)

    def post(self, target=b"/", headers=(), length=-1, **more):
        return self.ask("POST", target, headers, length, **more)

    def body(self, chunk, end=False):
        self.conn.data(self.stream, chunk, end)

    def leave(self):
        """The client closes its connection."""
        self.conn.gone(NetError("the peer closed the connection", step="receive", status=499))

    def take(self):
        """What was said since the last call."""
        said, self.codec.said = self.codec.said, []
        return said

    @property
    def status(self):
        return next((word[1] for word in self.codec.said if word[0] == "head"), None)

    @property
    def answer(self):
        return b"".join(word[1] for word in self.codec.said if word[0] == "data")


class Named(Handler):
    """Who asks, as a filter before would have found out."""

    def __init__(self, inner, principal):
        self.inner, self.principal = inner, principal

    def open(self, exchange):
        exchange.principal = self.principal
        self.inner.open(exchange)
