"""What a whole upload feeds: Python functions, a job, a topic, an application; and the answer that comes of it.

Rules
1. In this order: `done` (a function, async or blocking, called with an `Upload`), the topic, the job, the application. A
   function that raises Refused rejects the upload: its bytes go, and the client gets that status (4xx). Nothing after it is done
   then.
2. The topic's event and the job carry the upload's id and are made once, however often finishing begins anew; functions and
   applications may be called again after a crash. Where the bytes lie (a path, a bucket and a key) is told to functions and
   jobs, never to clients or to who follows the topic.
3. The application is asked as if the request that began the upload had brought all of the bytes at once: its method, target and
   fields, the whole length, the bytes from the storage as fast as it takes them; credentials are those of the request that
   brought the last byte. `Upload-Id` names the upload. Its answer, at most LONGEST bytes, is the upload's.
4. Without an application: what `done` returned, as JSON, with 201; else 202 and the job, where there is one; else 201 and what
   is known.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable
from typing import Any

from fairlead.core.errors import AppError, FairleadError
from fairlead.core.handler import Handler
from fairlead.core.message import Request, Response
from fairlead.serve.inner import Hear, Inner
from fairlead.serve.jobs import Jobs
from fairlead.serve.uploads import Row, Upload
from fairlead.serve.uploadstorage import Storage
from fairlead.store.contract import Log, NewEvent, TopicConfig

LONGEST = 1 << 20  # bytes of an application's answer
CREDENTIALS = (b"authorization", b"cookie")
HOPS = (b"connection", b"date", b"server", b"transfer-encoding", b"keep-alive", b"content-length", b"server-timing")

Answered = tuple[int, list[tuple[bytes, bytes]], bytes]


class Feeds:
    """Those that one route's uploads feed. Called with a row and the exchange that waits, or None."""

    def __init__(
        self, storage: Storage, *, done: Callable[[Upload], Any] | None = None, topic: str = "", log: Log | None = None,
        jobs: Jobs | None = None, kind: str = "", base: str = "", app: Handler | None = None,
    ) -> None:  # fmt: skip
        self.storage, self.done, self.topic, self.log, self.jobs, self.kind = storage, done, topic, log, jobs, kind
        self.base, self.app = base, app

    async def __call__(self, row: Row, exchange: Any = None) -> Answered:
        """Rule 1, then rule 4."""
        where = self.storage.where(row)
        told = row.known()  # to everybody; where the bytes lie is for our own code, and for jobs, alone
        said = await called(self.done, Upload(row, where)) if self.done is not None else None
        if self.topic and self.log is not None:
            event = NewEvent(json.dumps(told).encode(), type="uploaded", key=row.id)
            await self.log.append(self.topic, [event], dedupe=f"upload-{row.id}", create=TopicConfig("application/json", 86400.0))
        headers: list[tuple[bytes, bytes]] = []
        if self.jobs is not None:
            job = await self.jobs.submit(self.kind, [told | where], name=f"upload-{row.id}", owner=row.owner)
            told["job"] = job.id
            if self.base:
                headers.append((b"content-location", f"{self.base}/{job.id}".encode()))
        if self.app is not None:
            return await asked(self.app, row, self.storage, exchange)
        if said is not None or self.jobs is not None:
            body = json.dumps(said if said is not None else told).encode() + b"\n"
            return (202 if said is None else 201), [*headers, (b"content-type", b"application/json")], body
        return 201, [], b""


async def called(function: Callable[..., Any], upload: Upload) -> Any:
    """A user's function, awaited or in a thread."""
    if inspect.iscoroutinefunction(function):
        return await function(upload)
    found = await asyncio.get_running_loop().run_in_executor(None, function, upload)
    return await found if inspect.isawaitable(found) else found


def before_of(function: Callable[..., Any]) -> Callable[[Upload], Awaitable[None]]:
    """A function that is asked before an upload begins."""

    async def before(upload: Upload) -> None:
        await called(function, upload)

    return before


async def asked(app: Handler, row: Row, storage: Storage, exchange: Any) -> Answered:
    """Rule 3."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in row.headers]
    headers = [pair for pair in headers if row.form != "tus" or pair[0] != b"content-type"]
    if row.form == "tus":
        headers.append((b"content-type", row.kind.encode("latin-1", "replace").replace(b"\r", b"").replace(b"\n", b"")))
    headers += [(b"content-length", b"%d" % (row.length or 0)), (b"upload-id", row.id.encode())]
    authority = b""
    if exchange is not None:
        authority = exchange.request.authority
        headers += [pair for pair in exchange.request.headers if pair[0] in CREDENTIALS]
    headers.append((b"host", authority or b"localhost"))
    target = row.target.encode("latin-1")
    request = Request(row.method, "http", authority, target, headers, "1.1", row.length or 0)
    path, _, query = target.partition(b"?")
    request.raw_path, request.query = path, query
    same = exchange is not None and exchange.request.target == target
    request.path = exchange.request.path if same else decoded(path)
    hear = Answering()
    inner = Inner(exchange.conn.service if exchange is not None else None)
    like = exchange if exchange is not None and not exchange.over else None
    one = inner.ask(app, request, hear, like=like, body=bool(row.length))
    if row.length:
        await fill(one, hear, storage, row)
    await hear.finished.wait()
    if hear.failure is not None:
        raise hear.failure
    assert hear.response is not None
    fields = [pair for pair in hear.response.headers if pair[0] not in HOPS]
    return hear.response.status, fields, b"".join(hear.parts)


async def fill(one: Any, hear: Answering, storage: Storage, row: Row) -> None:
    """The bytes of the upload, as fast as the application takes them."""
    left = row.length or 0
    source = storage.read(row)
    try:
        async for piece in source:
            left -= len(piece)
            hear.owed += len(piece)
            one.data(piece, left == 0)
            while hear.owed > 0 and left and not one.over and not hear.finished.is_set():
                hear.taken.clear()
                await hear.taken.wait()
            if one.over:
                return
    finally:
        await source.aclose()  # type: ignore[attr-defined]


def decoded(path: bytes) -> str:
    """A path as a handler sees it."""
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(path).decode("utf-8", "surrogateescape")


class Answering(Hear):
    """Hears an application's answer."""

    def __init__(self) -> None:
        self.response: Response | None = None
        self.parts: list[bytes] = []
        self.size = self.owed = 0
        self.finished, self.taken = asyncio.Event(), asyncio.Event()
        self.failure: FairleadError | None = None

    def head(self, response: Response) -> None:
        self.response = response

    def data(self, chunk: bytes, end: bool) -> bool:
        self.size += len(chunk)
        if self.size > LONGEST:
            self.failed(AppError(f"the application's answer to an upload is longer than {LONGEST} bytes"))
            return True
        self.parts.append(chunk)
        if end:
            self.end(None)
        return True

    def end(self, trailers: Any) -> None:
        self.finished.set()
        self.taken.set()

    def failed(self, why: FairleadError) -> None:
        if not self.finished.is_set():
            self.failure = why
        self.end(None)

    def credited(self, count: int) -> None:
        self.owed -= count
        self.taken.set()
