"""HTTP datagrams for applications (RFC 9297): small messages beside the stream of a request, which may be lost and may overtake
each other.

    datagrams = scope["extensions"]["fairlead.datagram"]        an extended CONNECT, or an Upgrade
    datagrams.protocol            its :protocol or Upgrade, such as "connect-udp"
    data = await datagrams.receive()
    datagrams.send(data)          False: it cannot be sent any more; True: it left, which is no promise that it comes

Rules
1. Only a request whose protocol defines them has datagrams (section 2): an extended CONNECT (RFC 8441, 9220), or with HTTP/1.1 an
   Upgrade, that is no WebSocket.
2. Over HTTP/3 they are QUIC's DATAGRAM frames, where the client takes those. Everywhere else they are DATAGRAM capsules in the
   bytes of the tunnel (section 3), for the protocols that speak capsules: those in `CAPSULED`, or whose request says
   `Capsule-Protocol: ?1` (section 3.4). Other capsules are the application's: they are what its `receive` gives.
3. What nobody has received waits, at most `MOST` of them and `BYTES` in all; beyond that the oldest is dropped, as a network would.
   What is said as capsules while the client does not take what was said before, or before the answer, is dropped too; over QUIC
   what the congestion window has no room for waits, within the bounds of `wire.h3`.
4. They begin with the request and end with its stream: `http.disconnect` is told by the scope's own `receive`, so an application
   waits for both. Its answer, a 2xx without an end, is what keeps the stream open; to an Upgrade it becomes a 101.
5. A tunnel that ends inside a capsule is malformed (section 3.3): its stream is reset.
6. Who carries a tunnel on, a front to its workers or a proxy to an upstream, carries capsules. `Bridge` makes capsules of the
   datagrams of an HTTP/3 stream, and datagrams of the capsules that are said on it; they may be dropped, and are when there is no
   room.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any
from weakref import WeakValueDictionary

from fairlead.core.errors import AppError, WireError
from fairlead.core.exchange import Intake, Stage
from fairlead.wire.capsules import DATAGRAM, Split, capsule

CAPSULED = frozenset((b"connect-udp", b"connect-ip"))  # RFC 9298, RFC 9484
MOST = 256
BYTES = 262_144


class Datagrams:
    """Those of one request. See the module."""

    def __init__(self, exchange: Any, protocol: bytes, quic: bool) -> None:
        self.exchange = exchange
        self.conn = exchange.conn
        self.codec = exchange.conn.codec
        self.stream = exchange.stream
        self.protocol = protocol.decode("latin-1")
        self.quic = quic
        self.waiting: deque[bytes] = deque()
        self.size = 0
        self.dropped = 0
        self.receivers: deque[asyncio.Future[None]] = deque()
        if quic:
            listen(exchange, self)

    def heard(self, data: bytes) -> None:
        """One came (rule 3)."""
        self.waiting.append(data)
        self.size += len(data)
        while len(self.waiting) > MOST or self.size > BYTES:
            self.size -= len(self.waiting.popleft())
            self.dropped += 1
        self.wake()

    def wake(self) -> None:
        """One of those who wait looks again."""
        for receiver in self.receivers:
            if not receiver.done():
                receiver.set_result(None)
                break

    async def receive(self) -> bytes:
        """The next one. Cancelling it loses nothing."""
        while not self.waiting:
            receiver = asyncio.get_running_loop().create_future()
            self.receivers.append(receiver)
            try:
                await receiver
            except asyncio.CancelledError:
                self.receivers.remove(receiver)
                if self.waiting:
                    self.wake()  # what it was woken for is for the next
                raise
            self.receivers.remove(receiver)
        data = self.waiting.popleft()
        self.size -= len(data)
        return data

    def send(self, data: bytes) -> bool:
        """Say one; larger than a packet of the path is lost. AppError for what is not bytes."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise AppError(f"the app sent a datagram of type {type(data).__name__}", hint="a datagram is bytes")
        if self.quic:
            sent: bool = self.codec.say_datagram(self.stream, bytes(data))
            if sent:
                self.conn.carrier.touch()
            return sent
        exchange = self.exchange
        if exchange.over or exchange.said_end:
            return False
        if exchange.said_head and not exchange.answer.full:
            exchange.answer.full = not exchange.data(capsule(DATAGRAM, bytes(data)), False)
        return True


class Capsuled(Intake):
    """Takes the datagrams out of the tunnel of an application's exchange."""

    def __init__(self, exchange: Any, datagrams: Datagrams) -> None:
        self.exchange = exchange
        self.datagrams = datagrams
        self.split = Split()
        self.owed = 0  # bytes that the answer has not credited

    def data(self, chunk: bytes, end: bool) -> bool:
        exchange, count = self.exchange, len(chunk)
        found, passed = self.split.feed(chunk)
        for one in found:
            self.datagrams.heard(one)
        if end and not self.split.whole:
            return cut(exchange)
        if not passed and not end:
            return True
        if exchange.answer.data(passed, end):
            return True
        kept = min(len(passed), count)
        self.owed += kept
        if kept < count:
            exchange.settle(count - kept)
        return False

    def end(self, trailers: Any) -> None:
        if not self.split.whole:
            cut(self.exchange)
        else:
            self.exchange.answer.end(trailers)

    def credit(self, count: int) -> None:
        count = min(count, self.owed)
        self.owed -= count
        self.exchange.settle(count)

    def credit_all(self) -> None:
        self.credit(self.owed)


class Bridge(Intake):
    """Rule 6, for an exchange over HTTP/3 whose peer takes datagrams; of either role."""

    def __init__(self, exchange: Any) -> None:
        self.exchange = exchange
        self.split = Split()
        exchange.intake = self
        exchange.stage = Drawn()
        listen(exchange, self)

    def heard(self, data: bytes) -> None:
        """A datagram: a capsule for who answers, between two others, and when there is room."""
        exchange = self.exchange
        answer = exchange.answer
        if answer is None or exchange.over or exchange.withheld or not self.split.whole:
            return
        made = capsule(DATAGRAM, data)
        if not answer.data(made, False):
            exchange.withheld += len(made)  # so that it is credited, which is how we hear of room

    def data(self, chunk: bytes, end: bool) -> bool:
        self.split.feed(chunk)
        if end and not self.split.whole:
            return cut(self.exchange)
        took: bool = self.exchange.answer.data(chunk, end)
        return took

    def end(self, trailers: Any) -> None:
        if not self.split.whole:
            cut(self.exchange)
        else:
            self.exchange.answer.end(trailers)

    def credit(self, count: int) -> None:
        self.exchange.settle(min(count, self.exchange.withheld))

    def credit_all(self) -> None:
        self.exchange.settle(self.exchange.withheld)


class Drawn(Stage):
    """What is said on an exchange with a Bridge: its DATAGRAM capsules leave as datagrams."""

    def __init__(self) -> None:
        self.split = Split()

    def data(self, exchange: Any, chunk: bytes, end: bool) -> bool:
        if exchange.role == 0 and not (exchange.response is not None and 200 <= exchange.response.status < 300):
            room: bool = exchange.data(chunk, end)  # no tunnel, so no capsules
            return room
        found, passed = self.split.feed(chunk)
        for one in found:
            exchange.conn.codec.say_datagram(exchange.stream, one)
        if passed or end:
            room = exchange.data(passed, end)
            return room
        exchange.conn.carrier.touch()
        return True


def cut(exchange: Any) -> bool:
    """Rule 5."""
    why = WireError("the tunnel ended inside a capsule [RFC 9297 3.3]", status=400, rule="capsule-cut", side="peer")
    answer = exchange.answer
    exchange.intake = None
    if answer is not None:
        answer.reset(why, "both")
    exchange.reset(why, "both")
    return True


class Table:
    """Which request of a connection a datagram is for. A request that is over is forgotten with its scope."""

    def __init__(self) -> None:
        self.streams: WeakValueDictionary[int, Datagrams] = WeakValueDictionary()

    def __call__(self, stream: int, data: bytes) -> None:
        found = self.streams.get(stream)
        if found is not None:
            found.heard(data)


def listen(exchange: Any, hearer: Any) -> None:
    """`hearer.heard(data)` is told of the QUIC datagrams of a request, as long as somebody holds it."""
    codec = exchange.conn.codec
    if codec.on_datagram is None:
        codec.on_datagram = Table()
    codec.on_datagram.streams[exchange.stream] = hearer


def takes(exchange: Any) -> bool:
    """The other end of an exchange takes QUIC datagrams."""
    return bool(getattr(exchange.conn.codec, "datagrams", False))


def wanted(request: Any) -> bytes:
    """The protocol that a request wants and that is no WebSocket; b"" for none."""
    if request.protocol:
        return b"" if request.protocol == b"websocket" else request.protocol
    if not request.upgrade or request.method != "GET" or request.length:
        return b""
    first: bytes = request.upgrade.partition(b",")[0].strip()
    return b"" if first == b"websocket" or first.startswith(b"h2c") else first


def capsuled(request: Any) -> bytes:
    """The protocol that a request wants, if it speaks capsules (rule 2); b"" for none."""
    protocol = wanted(request)
    if not protocol or protocol in CAPSULED:
        return protocol
    said = [value for name, value in request.listed() if name == b"capsule-protocol"]
    return protocol if len(said) == 1 and said[0].partition(b";")[0].strip() == b"?1" else b""


def bridge(exchange: Any) -> None:
    """Rule 6, where it is needed."""
    if takes(exchange):
        Bridge(exchange)


def attach(exchange: Any, extensions: dict[str, Any]) -> None:
    """Put the datagrams of an exchange among its extensions, if it has any (rules 1 and 2)."""
    request = exchange.request
    protocol = wanted(request)
    if not protocol:
        return
    capsules, quic = capsuled(request), takes(exchange)
    if not capsules and (not quic or request.upgrade):
        return
    made = extensions["fairlead.datagram"] = Datagrams(exchange, protocol, quic)
    if capsules:
        exchange.intake = Capsuled(exchange, made)
        if request.upgrade:
            exchange.heard_end = False  # the bytes of the tunnel come, once it is one


def answered(exchange: Any, response: Any) -> None:
    """An application answers a request with an intake: a 2xx opens the tunnel (rule 4)."""
    agreed = 200 <= response.status < 300
    upgrade = exchange.request.upgrade
    if agreed:
        exchange.deadline = 0
        exchange.tunnel = True
    if upgrade and agreed:
        response.status = 101
        response.length = -1
        response.kept.append((b"upgrade", wanted(exchange.request)))
    elif upgrade:
        exchange.heard_end = True
