"""`Prefer: respond-async` before a route (RFC 7240 section 4.1): the request becomes a job, and its answer the job's result.

    POST /report  Prefer: respond-async[, wait=5]   ->  202, Location: <at>/<id>, Preference-Applied   (or the answer itself)
    GET    <at>/<id>            how it is           GET <at>/<id>/events   what happens, by every way a topic is read
    GET    <at>/<id>/result     the answer as the handler gave it: status, fields, body; with what a job's result says before
    DELETE <at>/<id>            wanted no more: the handler hears that its client is gone

Rules
1. Only a request that asks for it; any other goes to the handler as ever. One that would switch protocols is never a job.
2. The whole request is kept: method, target, fields, body (at most `body` bytes, else 413), scheme, authority, and who asked: the
   principal that a filter found, and the client's address. The handler is asked from inside (`serve.inner`) with all of these, so
   it sees what it would have seen; only `Prefer` and what belongs to the connection are gone.
3. It runs where the route's application runs. One who dies in the middle leaves the outcome unknown, so only a request whose method
   is idempotent (RFC 9110 section 9.2.2) is tried again, or any where the route says that it is `safe`; else the job has failed.
4. An answer is an answer, a 500 too: the job has succeeded. One that breaks off, or is longer than `answer`, is a failure.
5. Interim answers and trailers are not kept.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from fairlead.core.aio import Async, Call
from fairlead.core.errors import FairleadError
from fairlead.core.exchange import Exchange
from fairlead.core.handler import Handler, Service
from fairlead.core.message import Request
from fairlead.serve.inner import Gather, Inner, Who
from fairlead.serve.jobhttp import JobRoute, owner_of
from fairlead.serve.jobs import SUCCEEDED, Row
from fairlead.wire.prefer import preferences

BODY = 1 << 20  # bytes of a request that are kept
ANSWER = 1 << 20  # and of its answer
IDEMPOTENT = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")
HOPS = (b"connection", b"keep-alive", b"transfer-encoding", b"te", b"trailer", b"upgrade", b"expect", b"prefer", b"content-length")
UNKEPT = (b"connection", b"date", b"server", b"transfer-encoding", b"keep-alive", b"content-length", b"server-timing")


class Later(Handler):
    """Stands before a route's handler; `route` is where the jobs that it makes are looked at."""

    def __init__(
        self, handler: Handler, route: RequestJobs, *, retries: int = 0, safe: bool = False, body: int = BODY,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:  # fmt: skip
        self.handler, self.route = handler, route
        self.retries, self.safe, self.most = retries, safe, body
        self.calls = Async(self.answer, loop)

    def open(self, exchange: Exchange) -> None:
        request: Any = exchange.request
        asked = request.get(b"prefer") is not None and "respond-async" in preferences(request)
        if asked and request.get(b"upgrade") is None and request.method != "CONNECT":
            self.calls.open(exchange)
        else:
            self.handler.open(exchange)

    async def answer(self, call: Call) -> None:
        """Rule 2, then 202 or the answer."""
        began = asyncio.get_running_loop().time()
        exchange: Any = call.exchange
        try:
            kept = kept_request(exchange, await call.body(self.most))
            again = self.retries if self.safe or call.request.method in IDEMPOTENT else 0
            row = await self.route.jobs.submit(
                self.route.kind, [kept], owner=owner_of(call), retries=again, most=2 * self.most + 65536
            )
        except FairleadError as error:
            if call.gone is None:
                exchange.fail(error)
            return
        await self.route.accepted(call, row, began)


class RequestJobs(JobRoute):
    """The URLs of requests that became jobs: those of a `job` route, but that nothing is posted there."""

    async def base_call(self, call: Call, method: str) -> None:
        """Nothing is here."""
        await self.not_so(call, b"")

    def shown(self, row: Row) -> dict[str, Any]:
        """As a client sees it: the answer is at its own URL."""
        found = super().shown(row)
        if row.state == SUCCEEDED:
            found["result"] = f"{self.base}/{row.id}/result"
        return found

    async def succeeded(self, call: Call, row: Row, headers: list[tuple[bytes, bytes]]) -> None:
        """The handler's own answer."""
        told = row.result
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in told["headers"]]
        own = {name for name, _ in fields}
        fields += [pair for pair in headers if pair[0] not in own or pair[0] in (b"vary", b"preference-applied")]
        await call.respond(told["status"], base64.b64decode(told["body"]), fields)


class Rerun:
    """Asks the handler what was asked: the function of the job's kind."""

    def __init__(self, handler: Handler, service: Service | None = None, answer: int = ANSWER) -> None:
        self.handler, self.most = handler, answer
        self.inner = Inner(service)
        self.route: Any = None

    async def __call__(self, kept: dict[str, Any]) -> dict[str, Any]:
        """The answer, as JSON. FairleadError when it breaks off."""
        hear = Gather(self.most)
        body = base64.b64decode(kept["body"])
        request = request_of(kept, len(body))
        asked = self.inner.ask(self.handler, request, hear, who=who_of(kept, self.route), body=bool(body))
        hear.asked = asked
        try:
            if body:
                asked.data(body, True)
            await hear.over.wait()
        except asyncio.CancelledError:
            asked.cancel()
            raise
        if hear.why is not None:
            raise RuntimeError(f"the answer broke off: {hear.why}") from None
        response: Any = hear.response
        fields = [[n.decode("latin-1"), v.decode("latin-1")] for n, v in response.headers if n not in UNKEPT]
        return {"status": response.status, "headers": fields, "body": base64.b64encode(b"".join(hear.parts)).decode()}


def kept_request(exchange: Any, body: bytes) -> dict[str, Any]:
    """A request as JSON holds it."""
    request = exchange.request
    fields = [[n.decode("latin-1"), v.decode("latin-1")] for n, v in list(request.headers) if n not in HOPS]
    authority = request.authority
    return {
        "method": request.method,
        "scheme": request.scheme,
        "authority": authority.decode("latin-1") if isinstance(authority, bytes) else authority,
        "target": request.target.decode("latin-1"),
        "path": [request.path, request.raw_path.decode("latin-1"), request.query.decode("latin-1")],
        "version": request.version,
        "headers": fields,
        "body": base64.b64encode(body).decode(),
        "principal": exchange.principal,
        "client": pair(exchange.client),
        "peer": pair(exchange.conn.peer),
        "local": pair(exchange.conn.local),
        "params": exchange.params,
        "tag": exchange.tag.decode("latin-1"),
    }


def request_of(kept: dict[str, Any], length: int) -> Request:
    """The request again."""
    fields = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in kept["headers"]]
    if length:
        fields.append((b"content-length", b"%d" % length))
    authority = kept["authority"].encode("latin-1")
    made = Request(kept["method"], kept["scheme"], authority, kept["target"].encode("latin-1"), fields, kept["version"], length)
    path, raw, query = kept["path"]
    made.path, made.raw_path, made.query = path, raw.encode("latin-1"), query.encode("latin-1")
    return made


def who_of(kept: dict[str, Any], route: Any) -> Who:
    """Who asked."""
    found = (kept[name] for name in ("client", "peer", "local"))
    client, peer, local = (tuple(one) if isinstance(one, list) else one for one in found)
    return Who(peer, local, client, kept["principal"], kept["tag"].encode("latin-1"), route, kept["params"])


def pair(address: Any) -> Any:
    """An address, or None."""
    return list(address) if isinstance(address, tuple) else address

