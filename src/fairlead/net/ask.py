"""One HTTP/1.1 request to somewhere else, and its answer: for what Fairlead itself has to ask or tell, such as webhooks.

Rules
1. One connection for each request, closed after it; proxying has its own pools.
2. The answer's body is read up to `most` bytes and no further; what is left is not waited for.
3. No redirect is followed: 3xx is an answer like any other. A `guard` says which addresses may be dialed, see `net.guard`.
4. One time-out covers the look-up, connecting, TLS, sending and the answer. Everything that fails is a NetError that says
   at which step; a refused address is Refused.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from fairlead.core.codec import Sink
from fairlead.core.errors import ConfigError, FairleadError, NetError
from fairlead.core.limits import Limits
from fairlead.core.message import Request
from fairlead.net.guard import Guard
from fairlead.wire.h1 import H1

PIECE = 64 * 1024
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
    """Collects one answer."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.message: Any = None
        self.parts: list[bytes] = []
        self.size = 0
        self.over = False
        self.codec: Any = None
        self.why: FairleadError | None = None

    def head(self, stream, message, end):
        self.message = message
        self.over = end

    def data(self, stream, chunk, end):
        self.parts.append(chunk)
        self.size += len(chunk)
        self.codec.consumed(stream, len(chunk))
        self.over = end or self.size >= self.most

    def end(self, stream, trailers):
        self.over = True

    def reset(self, stream, why, side):
        self.why = why
        self.over = True

    def lost(self, why):
        self.reset(0, why, "both")


async def ask(
    method: str,
    url: str,
    headers: list[tuple[bytes, bytes]] | None = None,
    body: bytes = b"",
    *,
    timeout: float = 20.0,
    most: int = PIECE,
    guard: Guard | None = None,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Ask once. NetError (`step`: resolve, dial, tls, send, receive), Refused by the guard, ConfigError for the URL."""
    place = where(url)
    began = time.monotonic()
    step = ["resolve"]
    try:
        async with asyncio.timeout(timeout):
            answer, peer = await _ask(method, place, headers or [], body, most, guard, tls, step)
    except TimeoutError:
        raise NetError(f"no answer within {timeout:g} s", step=step[0], side="upstream", status=504) from None
    except (OSError, asyncio.IncompleteReadError) as error:
        raise NetError(_said(error), step=step[0], side="upstream", status=502) from error
    fields: dict[str, str] = {}
    for name, value in answer.message.headers:
        fields.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    return Answer(answer.message.status, fields, b"".join(answer.parts)[:most], time.monotonic() - began, peer)


def _said(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


async def _addresses(place: Where, guard: Guard | None) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    addresses = [str(one[4][0]) for one in found]
    return guard.pick(place.host, addresses) if guard else list(dict.fromkeys(addresses))


async def _connected(place: Where, addresses: list[str], tls: ssl.SSLContext | None, step: list[str]):
    failed: OSError = OSError("no address")
    for address in addresses:
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


async def _ask(method, place: Where, headers, body: bytes, most: int, guard, tls, step: list[str]):
    reader, writer, address = await _connected(place, await _addresses(place, guard), tls, step)
    try:
        heard = Heard(most)
        heard.codec = codec = H1(heard, Limits(), client=True)
        fields = [(b"host", place.authority), *headers]
        if body or method in ("POST", "PUT", "PATCH"):
            fields.append((b"content-length", str(len(body)).encode()))
        fields.append((b"connection", b"close"))
        stream = codec.open_stream()
        request = Request(method, place.scheme, place.authority, place.target, fields, length=len(body))
        step[0] = "send"
        codec.head(stream, request, not body)
        if body:
            codec.data(stream, body, True)
        for piece in codec.take() or ():
            writer.write(piece)
        await writer.drain()
        step[0] = "receive"
        await _hear(reader, codec, heard)
        return heard, address
    finally:
        writer.transport.abort() if place.scheme == "https" else writer.close()


async def _hear(reader: asyncio.StreamReader, codec: Any, heard: Heard) -> None:
    try:
        while not heard.over:
            data = await reader.read(PIECE)
            now = time.monotonic_ns()
            codec.feed(data, now) if data else codec.eof(now)
            while codec.more and not heard.over:
                codec.feed(b"", now)
            if not data and not heard.over:
                raise NetError("the connection ended before the answer did", step="receive", side="upstream", status=502)
    except FairleadError as error:
        heard.why = error
    if heard.why is not None or heard.message is None:
        said = heard.why or "the connection ended before the answer did"
        raise NetError(f"{said}", step="receive", side="upstream", status=502) from heard.why
