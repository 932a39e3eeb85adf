"""A gRPC health check (grpc.health.v1.Health/Check) over HTTP/2 or HTTP/3, for the active checks of an upstream.

One connection, one call, by our own HTTP/2 (or 3, see `h3probe`) in the client's role. Good is the status OK and SERVING within
the check's time. A server that has no such service is bad: who asks for this check means it.
"""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import Any

from fairlead.core.codec import Sink
from fairlead.core.errors import WireError
from fairlead.core.limits import Limits
from fairlead.core.message import Request, find
from fairlead.wire.grpc import Reader, message
from fairlead.wire.grpcwords import hear_message, status_name
from fairlead.wire.h2 import H2

PATH = b"/grpc.health.v1.Health/Check"
STATES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
MOST = 1024  # bytes of an answer


class Check(Sink):
    """Hears the answer of one check. `over`: it is whole; `why`: what was wrong, "" when nothing."""

    def __init__(self) -> None:
        self.over = False
        self.why = "no answer"
        self.reader = Reader(MOST)
        self.codec: Any = None

    def head(self, stream: int, message: Any, end: bool) -> None:
        if message.status != 200:
            self.ends(f"HTTP status {message.status}")
        elif end:
            self.judge(message.headers)

    def data(self, stream: int, chunk: bytes, end: bool) -> None:
        self.reader.feed(chunk)
        self.codec.consumed(stream, len(chunk))
        if end:
            self.ends("the answer has no status")

    def end(self, stream: int, trailers: Any) -> None:
        self.judge(trailers or [])

    def reset(self, stream: int, why: Any, side: str) -> None:
        self.ends(f"reset: {why}")

    def goaway(self, last: int) -> None:
        if not self.over and last == 0:
            self.ends("it takes no requests")

    def judge(self, fields: list[tuple[bytes, bytes]]) -> None:
        """The status, and the state in the message."""
        code = int(find(fields, b"grpc-status") or b"2")
        if code:
            text = hear_message(find(fields, b"grpc-message") or b"")
            self.ends(f"{status_name(code)}{': ' + text if text else ''}")
            return
        payload = self.reader.next() or b""
        state = payload[1] if len(payload) > 1 and payload[0] == 8 else 0  # HealthCheckResponse { status = 1 }
        self.ends("" if state == 1 else STATES.get(state, str(state)))

    def ends(self, why: str) -> None:
        """The first word counts."""
        if not self.over:
            self.over, self.why = True, why


def call(host: str, service: str, tls: bool, version: str) -> tuple[Check, Request, bytes]:
    """(who hears it, head, body) of one check."""
    name = service.encode()
    body = message(bytes((10, len(name))) + name if name else b"", False)
    fields = [(b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"user-agent", b"fairlead-health")]
    return Check(), Request("POST", "https" if tls else "http", host.encode(), PATH, fields, version, -1), body


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, service: str, tls: bool) -> str:
    """One check over an open connection; what was wrong, "" when nothing."""
    check, request, body = call(host, service, tls, "2")
    codec = H2(check, Limits(), client=True)
    check.codec = codec
    codec.now = monotonic_ns()
    stream = codec.open_stream()
    codec.head(stream, request, False)
    codec.data(stream, body, True)
    while True:
        for chunk in codec.take() or ():
            writer.write(chunk)
        await writer.drain()
        if check.over:
            return check.why
        data = await reader.read(4096)
        if not data:
            return "the connection closed before the answer"
        try:
            codec.feed(data, monotonic_ns())
        except (WireError, ValueError) as error:
            return str(error)
