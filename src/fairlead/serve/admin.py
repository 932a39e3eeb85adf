"""Admin: the HTTP API of a running server and its page, served by the master: on a private socket, on TCP if asked to.

    GET  /                    the page              GET  /api/status            the process, its workers and listeners
    GET  /api/stream          the page's data, SSE  GET  /api/frame             the same once
    GET  /api/steps           percentiles by step   GET  /api/routes            and by route
    GET  /api/grpc            calls and messages by gRPC method     GET  /diagram.svg    the running configuration, drawn
    GET  /api/requests        ?latest | ?slowest | ?running, &n=50
    GET  /api/requests/ID     why that request took its time
    GET  /metrics             Prometheus            GET  /healthz, /readyz      liveness, readiness
    GET  /api/topics          followers, who is slow, groups, webhooks  POST /api/topics/redrive ?topic=&group= or &webhook=, &id=
    GET  /api/jobs            queues, what runs, dead letters, schedules     POST /api/jobs/redrive, /api/jobs/cancel  ?kind=&id=
    POST /api/reload          ?workers: new workers, ?binary: a new master       POST /api/drain

Rules
1. A unix socket is trusted: its file mode says who may. It checks nothing else.
2. On TCP (`hosts` is given) the Host must be one of ours, else 421: a page of another site that made its name point
   here (DNS rebinding) learns nothing. An Origin, if there is one, must be our own, and so must Sec-Fetch-Site.
3. On TCP whatever changes something is POST and needs the token printed at start, as `Authorization: Bearer` or
   `X-Fairlead-Token`. Without a token nothing can be changed there.
4. Nothing served here is counted: the admin's connections have an observer of their own, the page never sees itself.
5. The answer to a slow reader waits for room; at most `STREAMS` streams are open.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable
from hmac import compare_digest
from typing import Any
from urllib.parse import parse_qs, unquote

from fairlead.core.aio import Async, Call
from fairlead.core.errors import FairleadError, NetError, Refused
from fairlead.core.exchange import Exchange
from fairlead.core.handler import Handler
from fairlead.core.message import find

STREAMS = 32
EVERY = 1.0  # seconds between two frames of a stream
ROWS = 60
JSON = (b"content-type", b"application/json")
TEXT = (b"content-type", b"text/plain; charset=utf-8")
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
SAFE = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
POLICY = (
    b"content-security-policy",
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
)
DRAWN = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
METHODS = {"/api/reload": b"POST", "/api/drain": b"POST"}
Fields = list[tuple[bytes, bytes]]


class Admin(Handler):
    """See the module.

    `observation` is a run.observe.Observation; `exposition` makes /metrics of it. `control` has `status() -> dict`, and
    the coroutine methods `reload(force)` and `drain()` that return a dict. `page` is {path: (content type, bytes)}.
    `hosts` are the names that the TCP address may be called by (loopback's always may); None: a trusted unix socket.
    `more` is {path: coroutine function} of further JSON answers; `changes` is {path: coroutine function of (path, query)} of
    what else may be changed by POST. `measured` is a coroutine function: further lines of /metrics. `diagram` makes an SVG.
    """

    def __init__(
        self,
        observation: Any,
        *,
        control: Any,
        exposition: Any = None,
        page: dict[str, tuple[bytes, bytes]] | None = None,
        token: str | None = None,
        hosts: tuple[str, ...] | None = None,
        every: float = EVERY,
        more: dict[str, Callable[[], Awaitable[Any]]] | None = None,
        changes: dict[str, Callable[[str, dict[str, list[str]]], Awaitable[Any]]] | None = None,
        measured: Callable[[], Awaitable[bytes]] | None = None,
        diagram: Callable[[], bytes] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.measured, self.diagram = measured, diagram
        self.observation = observation
        self.exposition = exposition
        self.control = control
        self.page = page or {}
        self.token = token
        self.hosts = None if hosts is None else frozenset(name.lower() for name in (*hosts, *LOOPBACK))
        self.every = every
        self.more = more or {}
        self.changes = changes or {}
        self.methods = METHODS | dict.fromkeys(self.changes, b"POST")
        self.streams = 0
        self.calls = Async(self.answer, loop)

    def open(self, exchange: Exchange) -> None:
        self.calls.open(exchange)

    def close(self) -> None:
        """Cut what is open: streams above all."""
        for task in list(self.calls.tasks):
            task.cancel()

    async def answer(self, call: Call) -> None:
        """One request."""
        target, _, query = call.request.target.decode("latin-1").partition("?")
        path = unquote(target)
        self.check_origin(call)
        wanted = self.methods.get(path, b"GET")
        if call.request.method not in ("GET", "HEAD") if wanted == b"GET" else call.request.method != "POST":
            raise not_allowed(call.request.method, path, wanted.decode())
        if path in self.page:
            kind, body = self.page[path]
            await call.respond(200, body, [(b"content-type", kind), POLICY, *SAFE])
        elif path == "/api/stream" and call.request.method == "GET":
            await self.stream(call)
        elif path == "/metrics":
            more = await self.measured() if self.measured is not None else b""
            await call.respond(
                200, self.metrics() + more, [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8"), *SAFE]
            )
        elif path == "/diagram.svg" and self.diagram is not None:
            await call.respond(200, self.diagram(), [(b"content-type", b"image/svg+xml; charset=utf-8"), DRAWN, *SAFE])
        elif path in ("/healthz", "/readyz"):
            await self.health(call, path)
        else:
            status, value = await self.value(call, path, parse_qs(query, keep_blank_values=True))
            await call.respond(status, json.dumps(value, default=str).encode(), [JSON, *SAFE])

    async def value(self, call: Call, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        """The JSON answers: (status, what)."""
        seen = self.observation
        if path == "/api/status":
            return 200, {
                **await self.status(),
                "verdict": seen.verdict(),
                "check": seen.check(),
                "latency": seen.latency(),
                "skew": seen.skew(),
            }
        if path == "/api/frame":
            return 200, await self.frame()
        if path == "/api/steps":
            return 200, {"window": seen.groups(), "ever": seen.groups(None), "latency": seen.latency()}
        if path == "/api/routes":
            return 200, seen.routes()
        if path in self.more:
            return 200, await self.more[path]()
        if path == "/api/requests":
            which = next((name for name in ("slowest", "running", "latest") if name in query), "latest")
            return 200, getattr(seen, which)(number(query, "n", 50))
        if path.startswith("/api/requests/"):
            found = seen.find(path.removeprefix("/api/requests/"))
            return (200, found) if found is not None else (404, {"error": "this request is not remembered (any more)"})
        if path in self.methods:
            self.check_token(call)
            return await self.change(path, query)
        raise Refused(
            "the admin API has no such path", status=404, hint="GET / is the page, GET /api/status the overview"
        )

    async def change(self, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        """Reload or drain; 409 when it was not done."""
        if path in self.changes:
            return 200, await self.changes[path](path, query)
        if path == "/api/reload":
            work = self.control.upgrade() if "binary" in query else self.control.reload("workers" in query)
        else:
            work = self.control.drain()
        result = await work
        result = result if isinstance(result, dict) else {"did": path.rsplit("/", 1)[1]}
        return (409 if result.get("error") else 200), result

    async def stream(self, call: Call) -> None:
        """A frame every second, as server-sent events, until the client leaves."""
        if self.streams >= STREAMS:
            raise Refused("too many pages are open", status=503, after=5)
        self.streams += 1
        try:
            call.start(200, [(b"content-type", b"text/event-stream"), *SAFE])
            while True:
                body = json.dumps(await self.frame(), default=str, separators=(",", ":")).encode()
                await call.write(b"data: " + body + b"\n\n")
                await asyncio.sleep(self.every)
                if call.exchange.over:
                    return
        except NetError:
            return
        finally:
            self.streams -= 1

    async def frame(self) -> dict[str, Any]:
        """What the page shows."""
        return {**self.observation.frame(ROWS), "server": await self.status()}

    async def status(self) -> dict[str, Any]:
        """The process, as the master tells it."""
        found = self.control.status()
        return await found if inspect.isawaitable(found) else found

    def metrics(self) -> bytes:
        """The text of /metrics."""
        if self.exposition is None:
            raise Refused("there are no metrics here", status=404)
        return self.exposition(self.observation)

    async def health(self, call: Call, path: str) -> None:
        """Alive: we answer. Ready: the server says so."""
        state = "alive" if path == "/healthz" else str((await self.status()).get("state", "ready"))
        good = state in ("alive", "ready")
        await call.respond(200 if good else 503, state.encode() + b"\n", [TEXT, *SAFE])

    def check_origin(self, call: Call) -> None:
        """Host, Origin and Sec-Fetch-Site on TCP: see rule 2."""
        if self.hosts is None:
            return
        host = call.request.authority.decode("latin-1").lower()
        if bare(host) not in self.hosts:
            raise FairleadError(f"this page is not called {host or 'nothing'}", side="peer", status=421)
        origin = find(call.request.headers, b"origin")
        site = find(call.request.headers, b"sec-fetch-site")
        foreign = origin is not None and origin.decode("latin-1").lower().partition("://")[2] != host
        if foreign or site in (b"cross-site", b"same-site"):
            raise FairleadError("requests from other sites are refused", side="peer", status=403)

    def check_token(self, call: Call) -> None:
        """The token, on TCP: see rule 3."""
        if self.hosts is None:
            return
        told = find(call.request.headers, b"authorization") or b""
        kind, _, given = told.partition(b" ")
        if kind.lower() != b"bearer":
            given = find(call.request.headers, b"x-fairlead-token") or b""
        if not self.token or not compare_digest(given, self.token.encode()):
            raise FairleadError("this needs the token printed at start", side="peer", status=403)


def bare(host: str) -> str:
    """A Host without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def number(query: dict[str, list[str]], name: str, default: int) -> int:
    """A small number from the query."""
    text = query.get(name, [""])[0]
    return max(1, min(int(text), 1000)) if text.isascii() and text.isdigit() and len(text) < 6 else default


def not_allowed(method: str, path: str, wanted: str) -> Refused:
    """405."""
    return Refused(f"{path} takes {wanted}, not {method}", status=405)
