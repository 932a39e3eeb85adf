"""HTTP datagrams for applications (RFC 9297): small messages beside the stream of a request, which may be lost and may overtake
each other.

    datagrams = scope["extensions"]["fairlead.datagram"]        an extended CONNECT over HTTP/3 whose client takes datagrams
    datagrams.protocol            its :protocol, such as "connect-udp"
    data = await datagrams.receive()
    datagrams.send(data)          False: it cannot be sent any more; True: it left, which is no promise that it comes

Rules
1. Only a request whose protocol defines them has datagrams (section 2): an extended CONNECT (RFC 9220) that is not a WebSocket.
2. They come over QUIC's DATAGRAM frames, so over HTTP/3 alone, and where the connection itself is the worker's: not behind
   `dispatch`.
3. What nobody has received waits, at most `MOST` of them and `BYTES` in all; beyond that the oldest is dropped, as a network would.
4. They begin with the request and end with its stream: `http.disconnect` is told by the scope's own `receive`, so an application
   waits for both. Its answer, a 2xx without an end, is what keeps the stream open.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any
from weakref import WeakValueDictionary

from fairlead.core.errors import AppError

MOST = 256
BYTES = 262_144


class Datagrams:
    """Those of one request. See the module."""

    def __init__(self, exchange: Any) -> None:
        self.conn = exchange.conn
        self.codec = exchange.conn.codec
        self.stream = exchange.stream
        self.protocol = exchange.request.protocol.decode("ascii")
        self.waiting: deque[bytes] = deque()
        self.size = 0
        self.dropped = 0
        self.receivers: deque[asyncio.Future[None]] = deque()
        if self.codec.on_datagram is None:
            self.codec.on_datagram = Table()
        self.codec.on_datagram.streams[self.stream] = self

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
        sent: bool = self.codec.say_datagram(self.stream, bytes(data))
        if sent:
            self.conn.carrier.touch()
        return sent


class Table:
    """Which request of a connection a datagram is for. A request that is over is forgotten with its scope."""

    def __init__(self) -> None:
        self.streams: WeakValueDictionary[int, Datagrams] = WeakValueDictionary()

    def __call__(self, stream: int, data: bytes) -> None:
        found = self.streams.get(stream)
        if found is not None:
            found.heard(data)


def attach(exchange: Any, extensions: dict[str, Any]) -> None:
    """Put the datagrams of an exchange among its extensions, if it has any (rules 1 and 2)."""
    if exchange.request.protocol and getattr(exchange.conn.codec, "datagrams", False):
        extensions["fairlead.datagram"] = Datagrams(exchange)
