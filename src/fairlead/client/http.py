"""Requests to one server, on connections that are kept.

Rules
1. A connection carries one request at a time. It is kept for the next when its answer was read to the end, for at most IDLE
   seconds; at most KEPT wait.
2. A kept connection that breaks before the first byte of an answer was closed by the server in between: the request goes out
   once more, on a new connection, when it may be said twice (`twice`). Any other failure is the caller's to judge.
3. `timeout` covers the way to the answer's head; then each wait for more of the body has its own.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from fairlead.client.words import refusal
from fairlead.core.errors import NetError
from fairlead.core.message import Request
from fairlead.net.ask import LIMITS, PIECE, Heard, Where, addresses, connected, hear, said, where
from fairlead.wire.h1 import H1

IDLE = 50.0  # seconds; servers close after 60 to 75
KEPT = 8
MOST = 64 << 20  # bytes of an answer that is read whole
Headers = Sequence[tuple[bytes, bytes]]


class Line:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.heard = Heard()
        self.codec: Any = H1(self.heard, LIMITS, client=True)
        self.idle_since = 0.0
        self.quiet = True  # nothing of the present answer has come

    def say(self, method: str, place: Where, target: bytes, headers: Headers, body: bytes) -> None:
        """A request, whole, into the transport."""
        self.heard.__init__()  # type: ignore[misc]
        self.quiet = True
        stream = self.codec.open_stream()
        fields = [(b"host", place.authority), *headers]
        request = Request(method, place.scheme, place.authority, target, fields, length=len(body))
        self.codec.head(stream, request, not body)
        if body:
            self.codec.data(stream, body, True)
        self.push()

    def push(self) -> None:
        """What the codec has, into the transport."""
        if said := self.codec.take():
            self.writer.write(b"".join(said))  # in one piece: a head and a body apart are two wake-ups at the server

    async def more(self, timeout: float) -> None:
        """Read once. NetError."""
        try:
            async with asyncio.timeout(timeout):
                data = await self.reader.read(PIECE)
        except TimeoutError:
            raise NetError(f"nothing was heard for {timeout:g} s", step="receive", side="upstream", status=504) from None
        except OSError as error:
            raise NetError(said(error), step="receive", side="upstream") from error
        self.quiet = self.quiet and not data
        hear(self.codec, self.heard, data)

    @property
    def usable(self) -> bool:
        """Whether another request may be said here."""
        fresh = self.codec.reusable and not self.codec.finished and not self.writer.is_closing() and not self.reader.at_eof()
        return fresh and time.monotonic() - self.idle_since < IDLE

    def close(self) -> None:
        """At once."""
        with suppress(Exception):
            self.writer.transport.abort()


class Answer:
    """An answer whose head is here: `status`, `headers` (lower case, the first of each); `pieces` of its body, or `body`."""

    def __init__(self, line: Line) -> None:
        self.line = line
        message = line.heard.message
        self.status: int = message.status
        self.headers: dict[str, str] = {}
        for name, value in message.headers:
            self.headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))

    async def pieces(self, timeout: float) -> AsyncIterator[bytes]:
        """The body as it comes; `timeout` for each wait. NetError."""
        line, heard = self.line, self.line.heard
        while True:
            parts, heard.parts = heard.parts, []
            for part in parts:
                yield part
                line.codec.consumed(line.codec.stream, len(part))
            if heard.over and not heard.parts:
                return
            if not heard.parts:
                await line.more(timeout)

    async def body(self, timeout: float) -> bytes:
        """All of it."""
        parts: list[bytes] = []
        size = 0
        async for part in self.pieces(timeout):
            parts.append(part)
            size += len(part)
            if size > MOST:
                raise NetError(f"the answer is larger than {MOST} bytes", step="receive", side="upstream")
        return b"".join(parts)


class Server:
    """One server: its connections, and what every request says."""

    def __init__(self, url: str, headers: Headers = (), tls: ssl.SSLContext | None = None, timeout: float = 20.0) -> None:
        self.place = where(url)
        self.headers, self.tls, self.timeout = tuple(headers), tls, timeout
        self.lines: list[Line] = []
        self.closed = False

    async def connect(self) -> Line:
        """A new connection. NetError."""
        step = ["resolve"]
        try:
            found = await addresses(self.place, None)
            reader, writer, _ = await connected(self.place, found, self.tls, step)
        except OSError as error:
            wrong = isinstance(error, ssl.SSLCertVerificationError)
            raise NetError(
                f"{self.place.host}:{self.place.port}: {said(error)}", step=step[0], side="upstream",
                retry="never" if wrong else "fresh",
                hint="trust its authority: --ca FILE, Client(tls=…)" if wrong else "is it running?",
            ) from error  # fmt: skip
        return Line(reader, writer)

    def kept(self) -> Line | None:
        """A connection that waits."""
        while self.lines:
            line = self.lines.pop()
            if line.usable:
                return line
            line.close()
        return None

    def keep(self, line: Line) -> None:
        """For the next request, if it may be."""
        line.idle_since = time.monotonic()
        if line.heard.over and line.usable and len(self.lines) < KEPT and not self.closed:
            self.lines.append(line)
        else:
            line.close()

    @asynccontextmanager
    async def asking(
        self,
        method: str,
        target: bytes,
        headers: Headers = (),
        body: bytes = b"",
        *,
        timeout: float | None = None,
        twice: bool = True,
    ) -> AsyncIterator[Answer]:
        """Ask; inside, the head is there. NetError."""
        line: Line | None = None
        most = self.timeout if timeout is None else timeout
        try:
            try:
                async with asyncio.timeout(most):
                    line = self.kept()
                    fresh = line is None
                    line = line or await self.connect()
                    try:
                        await self.headed(line, method, target, headers, body)
                    except NetError:
                        if fresh or not twice or not line.quiet:
                            raise
                        line.close()
                        line = await self.connect()
                        await self.headed(line, method, target, headers, body)
            except TimeoutError:
                raise NetError(f"no answer within {most:g} s", step="receive", side="upstream", status=504) from None
            yield Answer(line)
        finally:
            if line is not None:
                self.keep(line)

    async def headed(self, line: Line, method: str, target: bytes, headers: Headers, body: bytes) -> None:
        """Say a request and hear the answer's head."""
        line.say(method, self.place, target, [*self.headers, *headers], body)
        with suppress(OSError):  # a server that refuses early has answered
            await line.writer.drain()
        while line.heard.message is None:
            await line.more(3600.0)

    async def ask(
        self,
        method: str,
        target: bytes,
        headers: Headers = (),
        body: bytes = b"",
        *,
        timeout: float | None = None,
        twice: bool = True,
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body); what is not 2xx or 3xx is raised. NetError, ServerError, Gap."""
        most = self.timeout if timeout is None else timeout
        async with self.asking(method, target, headers, body, timeout=most, twice=twice) as answer:
            got = await answer.body(most)
            if answer.status >= 400:
                raise refusal(answer.status, answer.headers, got)
            return answer.status, answer.headers, got

    def close(self) -> None:
        """No more of it."""
        self.closed = True
        for line in self.lines:
            line.close()
        self.lines = []
