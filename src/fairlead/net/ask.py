"""One HTTP/1.1 request to somewhere else, and its answer: for what Fairlead itself has to ask or tell, such as webhooks,
and for its client library.

Rules
1. One connection for each request, closed after it; proxying has its own pools.
2. The answer's body is read up to `most` bytes and no further; what is left is not waited for.
3. No redirect is followed: 3xx is an answer like any other. A `guard` says which addresses may be dialed, see `net.guard`.
4. One time-out covers the look-up, connecting, TLS, sending and the answer (of `asking`: its head; then each wait for more
   has its own). Everything that fails is a NetError that says at which step; a refused address is Refused.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from fairlead.core.codec import Sink
from fairlead.core.errors import ConfigError, FairleadError, NetError
from fairlead.core.limits import Limits
from fairlead.core.message import Request
from fairlead.net.guard import Guard
from fairlead.wire.h1 import H1

PIECE = 64 * 1024
LIMITS = Limits()
Headers = Sequence[tuple[bytes, bytes]]
PORTS = {"http": 80, "https": 443}


class Where(NamedTuple):
    """A URL taken apart: what is dialed, and what the request says."""

    scheme: str
    host: str
    port: int
    authority: bytes
    target: bytes


class Answer(NamedTuple):
    """What came back. `headers` in lower case; `body` at most what was asked for; `took` seconds; `peer` the address dialed."""

    status: int
    headers: dict[str, str]
    body: bytes
    took: float
    peer: str


def where(url: str) -> Where:
    """The parts of an absolute http(s) URL. ConfigError says what is wrong with it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"not a URL: {error}", hint="write https://host/path") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise ConfigError(f"not an absolute http or https URL: {url[:100]!r}", hint="write https://host/path")
    if parts.username is not None or parts.fragment or not url.isascii() or any(c <= " " or c == "\x7f" for c in url):
        raise ConfigError("a URL without a user, fragment, spaces or letters beyond ASCII is needed", hint="percent-encode it")
    host = parts.hostname
    shown = f"[{host}]" if ":" in host else host
    authority = shown if port in (None, PORTS[parts.scheme]) else f"{shown}:{port}"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Where(parts.scheme, host, port or PORTS[parts.scheme], authority.encode(), target.encode())


class Heard(Sink):
    """Collects what an answer's codec says, until it is taken."""

    def __init__(self) -> None:
        self.message: Any = None
        self.parts: list[bytes] = []
        self.over = False
        self.why: FairleadError | None = None

    def head(self, stream, message, end):
        self.message = message
        self.over = end

    def data(self, stream, chunk, end):
        self.parts.append(chunk)
        self.over = end

    def end(self, stream, trailers):
        self.over = True

    def reset(self, stream, why, side):
        self.why = why
        self.over = True

    def lost(self, why):
        self.reset(0, why, "both")


def hear(codec: Any, heard: Heard, data: bytes) -> None:
    """Bytes of an answer, or none at the end of the connection. NetError when it breaks off, or is no answer."""
    now = time.monotonic_ns()
    try:
        codec.feed(data, now) if data else codec.eof(now)
        while codec.more and not heard.over:
            codec.feed(b"", now)
    except FairleadError as error:
        heard.why = error
    if heard.why is None and not data and not heard.over:
        heard.why = NetError("the connection ended before the answer did")
    if heard.why is not None:
        raise NetError(f"{heard.why}", step="receive", side="upstream") from heard.why


class Asked:
    """An answer under way: `status`, `headers` (lower case, the first of each), `peer`; iterate for the pieces of its body."""

    def __init__(self, place: Where, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> None:
        self.place = place
        self.reader, self.writer = reader, writer
        self.peer = peer
        self.heard = Heard()
        self.codec: Any = H1(self.heard, LIMITS, client=True)
        self.status = 0
        self.headers: dict[str, str] = {}

    async def send(self, method: str, headers: Headers, body: bytes) -> None:
        """The request, whole."""
        place, codec = self.place, self.codec
        fields = [(b"host", place.authority), *headers]
        if body or method in ("POST", "PUT", "PATCH"):
            fields.append((b"content-length", str(len(body)).encode()))
        fields.append((b"connection", b"close"))
        stream = codec.open_stream()
        codec.head(stream, Request(method, place.scheme, place.authority, place.target, fields, length=len(body)), not body)
        if body:
            codec.data(stream, body, True)
        for piece in codec.take() or ():
            self.writer.write(piece)
        await self.writer.drain()

    async def more(self) -> None:
        """Read once. NetError when the answer breaks off."""
        hear(self.codec, self.heard, await self.reader.read(PIECE))

    async def answered(self) -> None:
        """Wait for the head."""
        while self.heard.message is None:
            await self.more()
        self.status = self.heard.message.status
        for name, value in self.heard.message.headers:
            self.headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        heard = self.heard
        while True:
            parts, heard.parts = heard.parts, []
            for part in parts:
                yield part
                self.codec.consumed(self.codec.stream, len(part))
            if heard.over and not heard.parts:
                return
            if not heard.parts:
                await self.more()


@asynccontextmanager
async def asking(
    method: str,
    url: str,
    headers: Headers = (),
    body: bytes = b"",
    *,
    timeout: float = 20.0,
    guard: Guard | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Asked]:
    """Ask; inside, the head is there and the body may be read. NetError (`step`: resolve, dial, tls, send, receive), Refused,
    ConfigError for the URL."""
    place = where(url)
    step = ["resolve"]
    writer: asyncio.StreamWriter | None = None
    try:
        try:
            async with asyncio.timeout(timeout):
                reader, writer, peer = await connected(place, await addresses(place, guard), tls, step)
                asked = Asked(place, reader, writer, peer)
                step[0] = "send"
                await asked.send(method, headers, body)
                step[0] = "receive"
                await asked.answered()
        except TimeoutError:
            raise NetError(f"no answer within {timeout:g} s", step=step[0], side="upstream", status=504) from None
        except OSError as error:
            raise NetError(said(error), step=step[0], side="upstream", status=502) from error
        yield asked
    finally:
        if writer is not None:
            writer.transport.abort() if place.scheme == "https" else writer.close()


async def ask(
    method: str,
    url: str,
    headers: Headers = (),
    body: bytes = b"",
    *,
    timeout: float = 20.0,
    most: int = PIECE,
    guard: Guard | None = None,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Ask once and read the answer, at most `most` bytes of its body. The errors of `asking`."""
    began = time.monotonic()
    parts: list[bytes] = []
    async with asking(method, url, headers, body, timeout=timeout, guard=guard, tls=tls) as asked:
        try:
            async with asyncio.timeout(began + timeout - time.monotonic()):
                async for part in asked:
                    parts.append(part)
                    if sum(map(len, parts)) >= most:
                        break
        except TimeoutError:
            raise NetError(f"no whole answer within {timeout:g} s", step="receive", side="upstream", status=504) from None
        except OSError as error:
            raise NetError(said(error), step="receive", side="upstream", status=502) from error
        return Answer(asked.status, asked.headers, b"".join(parts)[:most], time.monotonic() - began, asked.peer)


def said(error: BaseException) -> str:
    """What a system's error is, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, OSError) and (error.errno or 0) > 0:
        return os.strerror(error.errno or 0)  # asyncio says "Connect call failed" whatever it was
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


async def addresses(place: Where, guard: Guard | None) -> list[str]:
    """Those of a place that may be dialed. OSError, Refused."""
    infos = await asyncio.get_running_loop().getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    found = [str(one[4][0]) for one in infos]
    return guard.pick(place.host, found) if guard else list(dict.fromkeys(found))


async def connected(
    place: Where, found: list[str], tls: ssl.SSLContext | None, step: list[str]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    """(reader, writer, address) of the first that takes the connection; `step[0]` says how far it came. OSError."""
    failed: OSError = OSError("no address")
    for address in found:
        step[0] = "dial"
        try:
            reader, writer = await asyncio.open_connection(address, place.port, limit=PIECE)
        except OSError as error:
            failed = error
            continue
        if place.scheme == "https":
            step[0] = "tls"
            try:
                await writer.start_tls(tls or ssl.create_default_context(), server_hostname=place.host)
            except BaseException:
                writer.transport.abort()
                raise
        return reader, writer, address
    raise failed
