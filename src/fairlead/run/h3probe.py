"""One check of an upstream over HTTP/3: a QUIC connection of its own and, with a path or for gRPC, one request on it.

Rules
1. The same engine and settings as the pool's own connections (`net.quicdial`), so what is tested is what a request would meet:
   UDP that is
   blocked, a certificate that is not believed and a server that is not there make a bad check.
2. Each address of a name is tried in turn; the next one when the kernel tells of an ICMP error, or the handshake fails.
3. No session ticket is kept, and what is over is closed with H3_NO_ERROR: a check leaves nothing behind.
4. The check's time-out is its caller's: cancelling gives up the socket.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from time import monotonic_ns
from types import SimpleNamespace
from typing import Any

from fairlead.core.codec import Sink
from fairlead.core.errors import WireError
from fairlead.core.limits import Limits
from fairlead.core.message import Common, Request
from fairlead.net import quicengine
from fairlead.net.quicdial import QuicClient
from fairlead.wire.h3 import H3

NO_ERROR = 0x100


class Status(Sink):
    """Hears the answer of a GET: its status is all that counts. `over` and `why` as of `grpcprobe.Check`."""

    def __init__(self, good: tuple[int, ...]) -> None:
        self.good = good
        self.over = False
        self.why = "no answer"
        self.codec: Any = None

    def head(self, stream: int, message: Any, end: bool) -> None:
        self.ends("" if message.status in self.good else f"status {message.status}")

    def reset(self, stream: int, why: Any, side: str) -> None:
        self.ends(f"reset: {why}")

    def goaway(self, last: int) -> None:
        if last == 0:
            self.ends("it takes no requests")

    def ends(self, why: str) -> None:
        """The first word counts."""
        if not self.over:
            self.over, self.why = True, why


class Talk(asyncio.DatagramProtocol):
    """One connection. `asking` is (sink, request, body), or None when a handshake is enough; `over` gets what was wrong."""

    def __init__(self, settings: Any, peer: Any, asking: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.over: asyncio.Future[str] = self.loop.create_future()
        self.peer = peer
        self.asking = asking
        self.engine = quicengine.client(settings, peer, monotonic_ns() / 1e9)
        self.codec: Any = None
        self.transport: Any = None
        self.timer: Any = None

    # ---- in

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.go_on()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.engine.receive([data], self.peer, monotonic_ns() / 1e9)
        self.go_on()

    def error_received(self, error: Exception) -> None:
        self.finish(getattr(error, "strerror", "") or str(error))

    def ring(self) -> None:
        """The engine's deadline."""
        self.timer = None
        self.engine.tick(max(monotonic_ns() / 1e9, self.engine.timer() or 0.0))
        self.go_on()

    # ---- and out

    def go_on(self) -> None:
        """Hear the engine, say what there is to say, send."""
        try:
            while self.engine.events():
                self.hear(self.engine.events().popleft(), monotonic_ns())
            if self.codec is not None:
                self.say()
        except WireError as error:
            self.finish(str(error))
        self.transmit()

    def hear(self, event: tuple[Any, ...], now: int) -> None:
        """One event."""
        kind, codec = event[0], self.codec
        if kind == "done":
            self.ask(now)
        elif kind == "closed":
            self.finish(event[2] or f"QUIC error {event[1]:#x}")
        elif codec is not None and kind == "data":
            codec.feed(event[2], now, event[1], event[3])
        elif codec is not None and kind == "reset":
            codec.stream_reset(event[1], event[2], now)
        elif codec is not None and kind == "stop":
            codec.stop_sending(event[1], event[2], now)

    def ask(self, now: int) -> None:
        """The handshake is done."""
        if self.asking is None:
            self.finish("")
            return
        sink, request, body = self.asking
        codec = self.codec = sink.codec = H3(sink, Limits(), client=True, common=Common())
        codec.now = now
        codec.opener = lambda unidirectional: self.engine.opener(bool(unidirectional))
        stream = codec.open_stream()
        codec.head(stream, request, not body)
        if body:
            codec.data(stream, body, True)

    def say(self) -> None:
        """What the codec has for the engine."""
        for stream, data, fin in self.codec.take() or ():
            self.engine.send(stream, data, fin)
        for order in self.codec.orders():
            if order[0] == "close":
                self.finish(f"{order[2]} (HTTP/3 error {order[1]:#x})")
            elif order[0] in ("reset", "stop"):
                getattr(self.engine, order[0])(order[1], order[2])
        self.codec.credit()
        if self.asking[0].over:
            self.finish(self.asking[0].why)

    def transmit(self) -> None:
        """What the engine has for the network."""
        if self.transport is None or self.transport.is_closing():
            return
        for data, _ in self.engine.take(monotonic_ns() / 1e9):
            self.transport.sendto(data)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        at = self.engine.timer()
        if at is not None and not self.over.done():
            self.timer = self.loop.call_later(max(at - monotonic_ns() / 1e9, 0.0), self.ring)

    # ---- the end

    def finish(self, why: str) -> None:
        """The first word counts."""
        if not self.over.done():
            self.over.set_result(why)

    def close(self) -> None:
        """Say goodbye."""
        self.finish("")
        self.engine.close(NO_ERROR, "")
        self.transmit()
        if self.timer is not None:
            self.timer.cancel()
        if self.transport is not None:
            self.transport.close()


def as_is(talk: Talk) -> Talk:
    """The protocol of an endpoint that has one already."""
    return talk


async def ask(address: tuple[str, int], tls: QuicClient, server_name: str, asking: Any) -> str:
    """One check; what was wrong, "" when nothing. `asking()` makes what is asked, anew for each address. OSError of the look-up."""
    loop = asyncio.get_running_loop()
    pool: Any = SimpleNamespace(service=SimpleNamespace(limits=Limits()))
    why = "it has no address"
    for family, _, _, _, peer in await loop.getaddrinfo(*address, type=socket.SOCK_DGRAM):
        settings = tls.made(pool, server_name)
        settings.ticket = None
        at: Any = peer[:2]
        talk = Talk(settings, at, asking())
        try:
            await loop.create_datagram_endpoint(partial(as_is, talk), remote_addr=at, family=family)
            why = await talk.over
        except OSError as error:
            why = error.strerror or str(error)
        finally:
            talk.close()
        if not why or (talk.codec is not None):
            break
    return why


def get(path: str, host: str, good: tuple[int, ...]) -> tuple[Status, Request, bytes]:
    """A GET to be asked."""
    fields = [(b"user-agent", b"fairlead-health")]
    return Status(good), Request("GET", "https", host.encode(), path.encode(), fields, "3", 0), b""
