"""A request that no client's connection carries: any handler can be asked from inside, and its answer heard.

    inner = Inner(service)                   once per listener: what its handlers expect of a connection
    asked = inner.ask(handler, request, hear, like=exchange)
    asked.data(chunk, end)                   the request's body, when there is one
    hear.head(response) hear.data(chunk, end) -> room hear.end(trailers) hear.failed(why) hear.credited(count)

Idempotent requests and requests that became jobs run like this, so that they outlive the client that asked.

Rules
1. The inner exchange has a connection of its own, of which peer, local address and TLS are those of the exchange it is `like`, if
   any, and the same journey: what the handler marks is in the client's journey. Without one, `who` says who asks.
2. Nothing of it is counted or logged: the exchange it is like is.
3. `room` given by `hear.data` is what the handler sees; `asked.room()` says that there is room again.
4. 1xx are dropped. A handler that asks to switch protocols gets told that it may not.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from fairlead.core.carrier import Carrier
from fairlead.core.codec import Codec
from fairlead.core.connection import Connection
from fairlead.core.errors import AppError, FairleadError, NetError
from fairlead.core.exchange import Exchange
from fairlead.core.handler import Handler, Observer, Service
from fairlead.core.journey import Journey
from fairlead.core.message import Request, Response


class Hear:
    """Who hears an inner answer."""

    def head(self, response: Response) -> None:
        """Its head."""

    def data(self, chunk: bytes, end: bool) -> bool:
        """A part of its body; False when there is no room for more."""
        return True

    def end(self, trailers: Any) -> None:
        """Its end, when `data` did not say it."""

    def failed(self, why: FairleadError) -> None:
        """It broke off."""

    def credited(self, count: int) -> None:
        """The handler took so many bytes of the request's body."""


class Gather(Hear):
    """A whole answer of at most so many bytes: when `over` is set it is there, or `why` says why it is not."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.response: Response | None = None
        self.parts: list[bytes] = []
        self.size = 0
        self.why: FairleadError | str | None = None
        self.over = asyncio.Event()
        self.asked: Any = None

    def head(self, response: Response) -> None:
        self.response = response

    def data(self, chunk: bytes, end: bool) -> bool:
        self.parts.append(chunk)
        self.size += len(chunk)
        if self.size > self.most and self.why is None:
            self.why = f"it is longer than the {self.most} bytes that are kept"
            self.parts.clear()
            self.over.set()
            asyncio.get_running_loop().call_soon(self.leave)
        if end:
            self.over.set()
        return True

    def leave(self) -> None:
        """Nobody wants the rest."""
        if self.asked is not None:
            self.asked.cancel()

    def end(self, trailers: Any) -> None:
        self.over.set()

    def failed(self, why: FairleadError) -> None:
        self.why = self.why or why
        self.over.set()


class Words(Codec):
    """Turns what is said on the inner connection into calls of `hear`."""

    def __init__(self, conn: Connection, limits: Any, hear: Hear) -> None:
        super().__init__(conn, limits, False)
        self.hear = hear
        self.full = False

    def head(self, stream: int, message: Any, end: bool) -> None:
        if message.status < 200:
            raise AppError("a request from inside cannot switch protocols")
        self.hear.head(message)
        if end:
            self.hear.end(None)

    def data(self, stream: int, chunk: bytes, end: bool) -> bool:
        room = self.hear.data(chunk, end)
        self.full = not room and not end
        return not self.full

    def end(self, stream: int, trailers: Any) -> None:
        self.hear.end(trailers)

    def reset(self, stream: int, why: Any, side: str) -> None:
        if side != "read":
            self.hear.failed(why)

    def consumed(self, stream: int, count: int) -> None:
        self.hear.credited(count)

    def drained(self, now: int) -> None:
        if not self.full:
            self.sink.room(1)


class Desk(Carrier):
    """Takes what was said at once, unless the listener has no room."""

    def __init__(self) -> None:
        super().__init__()
        self.conn: Any = None

    def touch(self) -> None:
        conn = self.conn
        if conn is None:
            return
        now = conn.clock.now()
        conn.unsent = 0
        conn.flushed(now, 0, now)
        if conn.waiting and not conn.codec.full and not conn.in_feed:
            conn.drained(now)

    def close(self, why: Any) -> None:
        """There is nothing to close."""

    abort = close


class Asked:
    """One inner request under way."""

    def __init__(self, conn: Connection, codec: Words, exchange: Exchange) -> None:
        self.conn, self.codec, self.exchange = conn, codec, exchange

    @property
    def over(self) -> bool:
        """Nothing more will be heard."""
        return self.exchange.over

    def data(self, chunk: bytes, end: bool) -> None:
        """A part of the request's body."""
        self.conn.data(1, chunk, end)

    def end(self, trailers: Any = None) -> None:
        """Its end, when `data` did not say it."""
        self.conn.end(1, trailers)

    def room(self) -> None:
        """The listener has room again."""
        self.codec.full = False
        self.conn.carrier.touch()

    def cancel(self, why: FairleadError | None = None) -> None:
        """Nobody wants the answer any more: the handler hears that its client is gone."""
        if not self.exchange.over:
            self.conn.gone(why or NetError("nobody wants the answer any more", step="receive", status=499))


class Who(NamedTuple):
    """Who asks, when the exchange that asked is long gone."""

    peer: Any = None
    local: Any = None
    client: Any = None
    principal: Any = None
    tag: bytes = b""
    route: Any = None
    params: Any = None


class Inner:
    """Asks handlers as the listener of `service` would."""

    def __init__(self, service: Service | None = None) -> None:
        clock = service.clock if service is not None else None
        limits = service.limits if service is not None else None
        common = service.common if service is not None else None
        name = service.name if service is not None else "inner"
        self.service = Service(Handler(), name=name, clock=clock, limits=limits, common=common)
        if service is not None:
            self.service.scheme, self.service.debug = service.scheme, service.debug
            self.service.observer = Quiet(service.observer)

    def ask(
        self, handler: Handler, request: Request, hear: Hear, like: Exchange | None = None, body: bool = False,
        who: Who | None = None,
    ) -> Asked:  # fmt: skip
        """Have `handler` answer. `body`: parts of it will follow."""
        desk = Desk()
        outer: Any = like.conn if like is not None else who
        conn = Connection(
            self.service, desk, outer.peer if outer is not None else None, outer.local if outer is not None else None
        )
        desk.conn = conn
        if like is not None:
            conn.tls = like.conn.tls
        conn.codec = codec = Words(conn, self.service.limits, hear)
        journey = like.journey if like is not None else Journey()
        exchange = Exchange(conn, 1, 0, request, journey)
        exchange.heard_end = not body
        if like is not None:
            exchange.route, exchange.params, exchange.client = like.route, like.params, like.client
            exchange.principal, exchange.tag = like.principal, like.tag
        elif who is not None:
            exchange.route, exchange.params, exchange.client = who.route, who.params, who.client
            exchange.principal, exchange.tag = who.principal, who.tag
        conn.current = exchange
        conn.requests = 1
        asked = Asked(conn, codec, exchange)
        try:
            handler.open(exchange)
        except Exception as error:
            conn.raised(exchange, error)
        return asked


class Quiet(Observer):
    """An observer that counts nothing, but hands on what broke."""

    def __init__(self, observer: Any) -> None:
        self.observer = observer

    def done(self, exchange: Any) -> None:
        """The exchange it is like is counted."""

    def opened(self, conn: Any) -> None:
        """No connection."""

    def closed(self, conn: Any, why: Any) -> None:
        """No connection."""

    def broke(self, exchange: Any, error: Any) -> None:
        """A handler raised: that is for the log."""
        self.observer.broke(exchange, error)
