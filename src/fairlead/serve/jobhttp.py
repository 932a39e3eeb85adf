"""Jobs over HTTP: the `job` route. `POST` asks for one, everything else is about one that was asked for.

    POST   <base>               202, Location, Retry-After; or the outcome itself within `Prefer: wait=N`
    GET    <base>/<id>          the job as it is; `Prefer: wait=N` waits for a change, with If-None-Match for one from there
    GET    <base>/<id>/result   what it made: 200; 500 when it failed, 410 when it was cancelled, 409 when it is not over
    DELETE <base>/<id>          wanted no more: 200 when it waited, 202 when its code is told to end, 409 when it is over
    GET    <base>/<id>/events   a topic of what happens, closed at the end, by every way a topic is read
    POST   <base>/<id>/redrive  once more, when it failed or was cancelled: 202; 409 otherwise

Rules
1. The body of a POST is JSON: an object gives arguments by name, an array by place, nothing gives none. Anything else is one
   argument, as text when its media type is text, else refused (415) with what would be right.
2. 202 has `Location` (the job) and `Retry-After` (RFC 9110 section 10.2.3). Waiting (RFC 7240 section 4.3) begins when the request
   was received, is bounded by `wait`, and is said in `Preference-Applied`.
3. A job belongs to the principal that asked for it, where there is one: to others it does not exist (404).
4. What went wrong is `application/problem+json` (RFC 9457).
5. `Fairlead-Unique: text`, `Fairlead-Delay: seconds` and `Fairlead-Webhook: URL` of a POST are the options of `submit`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from fairlead.core.aio import Async, Call
from fairlead.core.errors import AppError, FairleadError, Refused
from fairlead.core.exchange import Exchange
from fairlead.core.handler import Handler
from fairlead.serve.jobs import CANCELLED, FAILED, SUCCEEDED, Jobs, Row, topic_of
from fairlead.wire.prefer import preferences, wait_of

WAIT = 60.0  # longest wait of one request, seconds
BODY = 256 * 1024
AGAIN = 1  # seconds to the next look at a job, told in Retry-After
ID = 128  # characters of an id


class JobRoute(Handler):
    """One kind of job at `base`. `follow(exchange, topic)` answers with a topic; `webhook(row, url)` has the outcome posted."""

    def __init__(
        self,
        jobs: Jobs,
        kind: str,
        base: str,
        *,
        follow: Callable[[Exchange, str], None] | None = None,
        webhook: Callable[[Row, str], Any] | None = None,
        wait: float = WAIT,
        body: int = BODY,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.jobs, self.kind, self.base = jobs, kind, base.rstrip("/")
        self.follow, self.webhook = follow, webhook
        self.longest, self.most = wait, body
        self.calls = Async(self.answer, loop)

    def open(self, exchange: Exchange) -> None:
        """A Task for each request: it has to wait for the store anyway."""
        self.calls.open(exchange)

    async def answer(self, call: Call) -> None:
        """By method and what stands behind the base."""
        method = call.request.method
        rest = call.request.path[len(self.base) :].strip("/")  # type: ignore[attr-defined]
        name, _, what = rest.partition("/")
        try:
            if not name:
                await self.base_call(call, method)
            elif what == "events" and (method in ("GET", "HEAD") or call.request.protocol == b"websocket"):
                await self.events(call, name)
            elif what == "result" and method in ("GET", "HEAD"):
                await self.result(call, await self.owned(call, name))
            elif what == "redrive":
                await (self.redrive(call, name) if method == "POST" else self.not_so(call, b"POST"))
            elif what:
                raise Refused("a job has /redrive, /result and /events", status=404)
            elif method in ("GET", "HEAD"):
                await self.status(call, name)
            elif method == "DELETE":
                await self.cancel(call, name)
            else:
                await self.not_so(call, b"GET, HEAD, DELETE")
        except FairleadError as error:
            if call.gone is not None:
                raise
            await problem(call, error.status or 500, str(error), error.hint, error.after)

    async def base_call(self, call: Call, method: str) -> None:
        """The base itself takes POST only."""
        if method == "POST":
            await self.submit(call)
        else:
            await self.not_so(call, b"POST")

    async def not_so(self, call: Call, allow: bytes) -> None:
        """405."""
        await problem(call, 405, f"{call.request.method} is not for this", f"{allow.decode()} is", 0, [(b"allow", allow)])

    async def submit(self, call: Call) -> None:
        """Rule 1, then 202 or the outcome."""
        began = asyncio.get_running_loop().time()
        args, named = arguments(call.request, await call.body(self.most))
        given = {name: value.decode("latin-1") for name, value in call.request.headers}
        try:
            row = await self.jobs.submit(
                self.kind, args, named, unique=given_by(given, b"fairlead-unique"), delay=delay_of(given), owner=owner_of(call)
            )
        except AppError as error:
            raise Refused(str(error), status=413 if "more than" in str(error) else 400, hint=error.hint) from None
        if url := given_by(given, b"fairlead-webhook"):
            if self.webhook is None:
                raise Refused("webhooks are not allowed on this route", status=403)
            await self.webhook(row, url)
        await self.accepted(call, row, began)

    async def accepted(self, call: Call, row: Row, began: float) -> None:
        """Rule 2: 202, or the outcome when it comes within the wait, which began then."""
        wanted = preferences(call.request)
        seconds = wait_of(wanted)
        headers: list[tuple[bytes, bytes]] = [(b"vary", b"prefer")]
        if seconds is not None:
            seconds = min(seconds, self.longest)
            headers.append((b"preference-applied", b"wait=%d" % seconds))
            left = seconds - (asyncio.get_running_loop().time() - began)
            row = await self.until(call, row, left, lambda one: one.over)
        if "respond-async" in wanted and not row.over:
            headers.append((b"preference-applied", b"respond-async"))
        if row.over:
            await self.result(call, row, headers)
            return
        await self.told(call, 202, row, headers)

    async def until(self, call: Call, row: Row, seconds: float, enough: Callable[[Row], bool]) -> Row:
        """Wait for the job to change so, but no longer, and not for a client that has left or a server that drains."""
        found = await self.jobs.until(self.kind, row.id, seconds, lambda one: call.left or enough(one))
        call.check()
        return found or row

    def place(self, row: Row) -> bytes:
        """The job's own URL."""
        return f"{self.base}/{row.id}".encode()

    async def told(self, call: Call, status: int, row: Row, more: list[tuple[bytes, bytes]]) -> None:
        """The job as it is, as an answer."""
        headers = [(b"content-type", b"application/json"), (b"etag", tag(row)), (b"cache-control", b"no-store"), *more]
        if status == 202:
            headers.append((b"location", self.place(row)))
        if not row.over:
            headers.append((b"retry-after", b"%d" % AGAIN))
        shown = self.shown(row) | {"self": self.place(row).decode(), "events": f"{self.base}/{row.id}/events"}
        await call.respond(status, json.dumps(shown).encode() + b"\n", headers)

    def shown(self, row: Row) -> dict[str, Any]:
        """The job as its client sees it."""
        return row.shown()

    async def owned(self, call: Call, name: str) -> Row:
        """The job, if it is this principal's. Refused 404."""
        row = await self.jobs.get(self.kind, name) if len(name) <= ID else None
        if row is None or (row.owner and row.owner != owner_of(call)):
            raise Refused(f"there is no job {name[:ID]}", status=404, hint="a finished job is kept for a time only")
        return row

    async def status(self, call: Call, name: str) -> None:
        """As it is now, or when it changes."""
        row = await self.owned(call, name)
        known = next((value for key, value in call.request.headers if key == b"if-none-match"), b"")
        seconds = wait_of(preferences(call.request))
        headers: list[tuple[bytes, bytes]] = [(b"vary", b"prefer")]
        if seconds is not None:
            seconds = min(seconds, self.longest)
            headers.append((b"preference-applied", b"wait=%d" % seconds))
            before = known or tag(row)
            row = await self.until(call, row, seconds, lambda one: one.over or tag(one) != before)
        if known and tag(row) == known:
            await call.respond(304, b"", [(b"etag", tag(row)), *headers])
            return
        await self.told(call, 200, row, headers)

    async def result(self, call: Call, row: Row, more: list[tuple[bytes, bytes]] | None = None) -> None:
        """What it made."""
        headers = [(b"location", self.place(row)), *(more or ())]
        if row.state == SUCCEEDED:
            await self.succeeded(call, row, headers)
        elif row.state == FAILED:
            await problem(call, 500, "the job failed", row.error, 0, headers)
        elif row.state == CANCELLED:
            await problem(call, 410, "the job was cancelled", "", 0, headers)
        else:
            await problem(call, 409, f"the job is {row.state}", "ask again later", AGAIN, headers)

    async def succeeded(self, call: Call, row: Row, headers: list[tuple[bytes, bytes]]) -> None:
        """Its result."""
        where = (b"content-location", self.place(row) + b"/result")
        body = json.dumps(row.result).encode() + b"\n"
        await call.respond(200, body, [(b"content-type", b"application/json"), where, *headers])

    async def redrive(self, call: Call, name: str) -> None:
        """Once more, with attempts counted from none. 409 when it has not failed."""
        row = await self.owned(call, name)
        if not await self.jobs.redrive(self.kind, [name]):
            raise Refused(f"the job is {row.state}", status=409, hint="one that failed or was cancelled can be redriven")
        await self.told(call, 202, await self.owned(call, name), [])

    async def cancel(self, call: Call, name: str) -> None:
        """Wanted no more."""
        await self.owned(call, name)
        row = await self.jobs.cancel(self.kind, name)
        await self.told(call, 200 if row.over else 202, row, [])

    async def events(self, call: Call, name: str) -> None:
        """Hand the exchange to the job's topic."""
        await self.owned(call, name)
        if self.follow is None:
            raise Refused("topics are not served here", status=501)
        await self.jobs.followed(self.kind, name)
        self.follow(call.exchange, topic_of(self.kind, name))


def tag(row: Row) -> bytes:
    """An entity tag: of what is shown, so what only the store sees (that somebody follows) changes nothing."""
    return b'"%s"' % blake2b(json.dumps(row.shown()).encode(), digest_size=9).hexdigest().encode()


def owner_of(call: Call) -> str:
    """Who asks, as a filter found out."""
    return str(getattr(call.exchange, "principal", None) or "")


def given_by(headers: dict[bytes, str], name: bytes) -> str:
    """A field of ours."""
    value = headers.get(name, "").strip()
    if len(value) > 1024:
        raise Refused(f"{name.decode()} is longer than 1024", status=400)
    return value


def delay_of(headers: dict[bytes, str]) -> float:
    """Seconds of Fairlead-Delay."""
    value = headers.get(b"fairlead-delay", "").strip()
    if value and not (value.isascii() and value.isdigit() and len(value) < 9):
        raise Refused("fairlead-delay is a number of seconds", status=400)
    return float(value or 0)


def arguments(request: Any, body: bytes) -> tuple[list[Any], dict[str, Any]]:
    """Rule 1: (by place, by name). Refused 400 or 415."""
    if not body:
        return [], {}
    kind = next((value for key, value in request.headers if key == b"content-type"), b"application/json")
    media = kind.partition(b";")[0].strip().lower()
    if media.startswith(b"text/"):
        return [body.decode("utf-8", "replace")], {}
    if media != b"application/json" and not media.endswith(b"+json"):
        raise Refused(
            f"a job's arguments are JSON, not {media.decode('latin-1')[:64]}", status=415, hint="Content-Type: application/json"
        )
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(f"the body is not JSON: {error}", status=400) from None
    if isinstance(value, dict):
        return [], value
    return (value, {}) if isinstance(value, list) else ([value], {})


async def problem(
    call: Call, status: int, title: str, detail: str = "", after: float = 0, more: list[tuple[bytes, bytes]] | None = None
) -> None:
    """RFC 9457."""
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store"), *(more or ())]
    if after:
        headers.append((b"retry-after", b"%d" % after))
    said = {"status": status, "title": title} | ({"detail": detail} if detail else {})
    await call.respond(status, json.dumps(said).encode() + b"\n", headers)
