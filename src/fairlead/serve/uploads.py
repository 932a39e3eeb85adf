"""Uploads: what is known of each, who may go on with it, and what happens when it is whole.

    open ──▶ finishing ──▶ done | rejected        open ──▶ (expired, cancelled) gone        joining ──▶ finishing

A row in the store's state says what an upload is (`upload/<scope>/<id>`); its bytes and the truth about its offset are the
storage's (`serve.uploadstorage`). Rules
1. The id is 128 random bits: who has the URL and is the principal that began the upload may go on with it; to others it does not
   exist.
2. `open`: bytes are appended by whoever claimed last. The row itself is written only when something of it changes.
3. `finishing` begins when all bytes are durable and their digest is right. It has a holder, which renews it; when the holder
   dies, any worker that sweeps takes over and begins finishing anew. So what an upload feeds hears of it at least once; a job
   and a topic, which know the upload's id, do so exactly once.
4. `done` keeps what was answered, for clients that did not hear it: as long as `kept`, then the record goes and the file stays.
   `rejected` is the same with the bytes removed.
5. An unfinished upload lives `keep` seconds after its last claim. Then its bytes go, and what it counted in quotas.
6. `joining` is a final upload of tus whose parts are not all complete. Every sweep looks at it, as does who asks for it; who finds
   them complete copies them, renewing as in 3. When a part is gone, it is gone.
7. What has crashed in a moment at which bytes exist and no row does leaves an orphan, which the sweep removes after `keep`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Any

from fairlead.core.errors import FairleadError, Refused
from fairlead.serve.uploadcounts import Counts
from fairlead.serve.uploadquota import Quota
from fairlead.serve.uploadstorage import Fenced, Storage, Writer, gone
from fairlead.store.contract import Conflict, Store, StoreError
from fairlead.wire import uploadwords as words

OPEN, JOINING, FINISHING, DONE, REJECTED = "open", "joining", "finishing", "done", "rejected"
ID = re.compile(r"[A-Za-z0-9_-]{22}")
TERM = 15.0  # seconds a finishing upload outlives its holder
SWEEP = 5.0  # seconds between two sweeps
ORPHANS = 600.0  # and between two looks for orphans
ANSWER = 64 * 1024  # bytes of an answer that are kept with the row
ROOT = "upload"
TRIES = 20
log = logging.getLogger("fairlead")


@dataclass(slots=True, frozen=True)
class UploadOptions:
    """What a route allows. Sizes in bytes, times in seconds; None is no limit."""

    max: int | None = None  # one upload
    keep: float = 86400.0  # an unfinished one, after its last request
    kept: float = 86400.0  # the record of a finished one
    quota: int | None = None  # of one principal
    total: int | None = None  # of all
    unfinished: int | None = None  # uploads of one principal


@dataclass(slots=True)
class Row:
    """What is known of one upload."""

    id: str
    owner: str = ""
    state: str = OPEN
    form: str = "ietf"  # or tus, plain
    length: int | None = None
    created: float = 0.0
    expires: float = 0.0
    method: str = "POST"
    target: str = ""
    headers: list[list[str]] = field(default_factory=list)  # of the request that began it
    meta: dict[str, str] = field(default_factory=dict)
    filename: str = ""
    concat: str = ""  # tus: "partial", or "final;..." as it was asked for
    digests: dict[str, str] = field(default_factory=dict)  # hexadecimal, that it must have, by algorithm
    want: str = ""  # the algorithm in which the client wants to hear its digest
    digest: str = ""  # that one, once it is known
    place: dict[str, Any] = field(default_factory=dict)  # the storage's own
    by: str = ""  # who finishes it
    answer: list[Any] = field(default_factory=list)  # [status, headers, body]
    version: int = 0  # of the key; not stored

    @property
    def finished(self) -> bool:
        """Its bytes are where finished ones are."""
        return self.state == DONE

    @property
    def whole(self) -> bool:
        """No more bytes are taken."""
        return self.state != OPEN

    @property
    def kind(self) -> str:
        """Its media type."""
        given = dict([(name, value) for name, value in self.headers])
        if self.form == "tus":
            return self.meta.get("filetype") or self.meta.get("type") or "application/octet-stream"
        return given.get("content-type", "application/octet-stream")

    def known(self) -> dict[str, Any]:
        """What others are told about it."""
        found: dict[str, Any] = {"id": self.id, "length": self.length, "type": self.kind, "created": round(self.created, 3)}
        for name in ("filename", "owner", "meta", "digests"):
            if value := getattr(self, name):
                found[name] = value
        return found

    def stored(self) -> bytes:
        """As the state holds it."""
        return json.dumps({name: value for name in FIELDS if (value := getattr(self, name)) not in ("", None, [], {})}).encode()


FIELDS = tuple(name for name in Row.__dataclass_fields__ if name != "version")


class Upload:
    """A finished or beginning upload, as Python code is given it.

    `id`, `length` (None while unknown), `filename` (a name, never a path; ""), `type`, `meta` (tus metadata; may be changed before
    it begins), `owner` (the principal), `headers`, and for a finished one `path`, or `bucket` and `key`.
    """

    def __init__(self, row: Row, where: dict[str, str]) -> None:
        self.id, self.length, self.filename, self.type = row.id, row.length, row.filename, row.kind
        self.meta, self.owner, self.headers = row.meta, row.owner, dict([(name, value) for name, value in row.headers])
        self.path, self.bucket, self.key = where.get("path", ""), where.get("bucket", ""), where.get("key", "")

    def __repr__(self) -> str:
        return f"<Upload {self.id} {self.length} bytes {self.filename!r}>"


class Uploads:
    """The uploads of one route. `feed(row, exchange)` makes the answer of one that is whole: (status, headers, body)."""

    def __init__(
        self, store: Store, storage: Storage, options: UploadOptions, scope: str = "",
        feed: Callable[[Row, Any], Awaitable[tuple[int, list[tuple[bytes, bytes]], bytes]]] | None = None,
        before: Callable[[Upload], Awaitable[None]] | None = None,
    ) -> None:  # fmt: skip
        self.store, self.state, self.storage, self.options = store, store.state, storage, options
        self.feed, self.before = feed, before
        self.root = f"{ROOT}/{hashlib.sha256(scope.encode()).hexdigest()[:12]}/"
        self.quota = Quota(store.state, self.root.replace(ROOT, "uploadquota", 1), options.quota, options.total, options.unfinished)
        self.counts = Counts()
        self.me = os.urandom(6).hex()
        self.active: dict[str, Callable[[], None]] = {}  # by id: how to cut who appends in this worker
        self.tasks: set[asyncio.Task[Any]] = set()
        self.sweeping: asyncio.Task[None] | None = None
        self.looked = 0.0
        self.starting = asyncio.Lock()

    async def start(self) -> None:
        """The storage is looked at, and the sweep begins. May be called again."""
        if self.sweeping is None:
            async with self.starting:
                if self.sweeping is None:
                    await self.storage.start()
                    self.sweeping = asyncio.get_running_loop().create_task(self.sweep_for_ever())

    async def close(self) -> None:
        """The route is gone."""
        if self.sweeping is not None:
            self.sweeping.cancel()
        if self.tasks:
            await asyncio.wait(set(self.tasks), timeout=TERM)
        await self.storage.close()

    # ---- rows

    async def write(self, row: Row) -> Row:
        """Store a row over the version it was read at. Conflict."""
        now = await self.store.now()
        times = {OPEN: row.expires, FINISHING: now + TERM, JOINING: now + TERM if row.by else now}
        due = times.get(row.state, now + self.options.kept)
        row.version = (await self.state.put_if(self.root + row.id, row.stored(), row.version, due=due)).version
        return row

    async def find(self, name: str, owner: str) -> Row:
        """An upload, if it is this principal's and has not expired. Refused 404, 410."""
        entry = await self.state.get(self.root + name) if ID.fullmatch(name) else None
        if entry is None:
            raise Refused("there is no such upload", status=404, hint="it may have been cancelled, or have expired")
        row = loaded(entry)
        if row.owner != owner:
            raise Refused("there is no such upload", status=404, hint="it may have been cancelled, or have expired")
        if row.state == OPEN and row.expires < await self.store.now():
            raise Refused("this upload has expired", status=410, hint="begin a new one")
        return row

    async def begin(self, row: Row) -> Row:
        """A new upload: asked about, counted, made. Refused."""
        row.id = token()
        row.created = await self.store.now()
        row.expires = row.created + self.options.keep
        self.bound(row.length)
        if self.before is not None:
            upload = Upload(row, {})
            await self.before(upload)
            row.meta, row.filename = dict(upload.meta), words.safe_name(upload.filename)
        await self.quota.reserve(row.owner, row.id, row.length or 0)
        try:
            await self.storage.begin(row)
            row = await self.write(row)
        except BaseException:
            await self.quota.release(row.owner, row.id)
            raise
        self.counts.started += 1
        return row

    def bound(self, length: int | None) -> None:
        """Refused 413 above `max`."""
        if self.options.max is not None and length is not None and length > self.options.max:
            raise Refused(f"an upload may have {self.options.max} bytes, not {length}", status=413)

    async def settle_length(self, row: Row, length: int | None) -> Row:
        """The client has said how long it will be. Refused 400 when it said another before."""
        if length is None or row.length == length:
            return row
        if row.length is not None:
            raise Refused(f"this upload is {row.length} bytes long, not {length}", status=400)
        self.bound(length)
        await self.quota.reserve(row.owner, row.id, length)
        row.length = length
        return await self.write(row)

    async def claim(self, row: Row) -> Writer:
        """Take the upload over: whoever appended before is cut. Its life begins anew when a tenth of it is over. Refused."""
        self.cut(row.id)
        for _ in range(TRIES):
            try:
                now = await self.store.now()
                if row.expires - now < self.options.keep * 0.9:
                    row.expires = now + self.options.keep
                    await self.write(row)
                return await self.storage.claim(row)
            except Fenced:  # an older request was on its way, and came in between
                continue
            except Conflict as conflict:  # somebody is at it still: what he has written counts
                if conflict.entry is None:
                    raise gone() from None
                now_so = loaded(conflict.entry)
                if now_so.whole:
                    raise Refused("this upload is being finished", status=409, after=1) from None
                for name in (*FIELDS, "version"):
                    setattr(row, name, getattr(now_so, name))
        raise Refused("too many requests for this upload at once", status=503, after=1)

    def cut(self, name: str) -> None:
        """End what this worker is doing with an upload; in others the fence does."""
        if (end := self.active.pop(name, None)) is not None:
            end()

    async def cancel(self, row: Row) -> None:
        """Its client wants it no more."""
        await self.remove(row)
        self.counts.cancelled += 1

    async def remove(self, row: Row) -> None:
        """Forget an upload with its bytes."""
        self.cut(row.id)
        await self.storage.remove(row)
        with suppress(Conflict):
            await self.state.delete_if(self.root + row.id)
        await self.quota.release(row.owner, row.id)

    # ---- the end

    async def complete(self, row: Row, writer: Writer, exchange: Any = None) -> Row:
        """All bytes are there: rule 3. The row, done or rejected. Refused when it is not what was said."""
        size = await writer.sync()
        if row.length is not None and size != row.length:
            raise Refused(f"{size} of {row.length} bytes are here", status=400)
        if row.length is None:
            row.length = size
            await self.quota.reserve(row.owner, row.id, size)  # some was counted in advance
        await self.verify(row)
        row.state, row.by = FINISHING, self.me
        await self.write(row)
        return await asyncio.shield(self.spawn(self.finish(row, exchange)))  # it goes on when the client leaves

    async def verify(self, row: Row) -> None:
        """Its digests, by reading it again. Refused 400 when one is another; then the upload is gone."""
        names = set(row.digests) | ({row.want} if row.want else set())
        if not names:
            return
        made = {name: hashlib.new(words.HASHES[name]) for name in names}
        async for part in self.storage.read(row):
            await asyncio.get_running_loop().run_in_executor(None, each, made.values(), part)
        if row.want:
            row.digest = made[row.want].hexdigest()
        for name, value in row.digests.items():
            if made[name].hexdigest() != value:
                await self.remove(row)
                self.counts.rejected += 1
                raise Refused(f"the {name} of what arrived is not the Repr-Digest", status=400, hint="begin a new upload")

    async def finish(self, row: Row, exchange: Any = None) -> Row:
        """From `finishing` to its end."""
        renewing = asyncio.get_running_loop().create_task(self.renew(row))
        try:
            await self.storage.finish(row)
            status, headers, body = await self.fed(row, exchange)
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing
        row.state = REJECTED if 400 <= status < 500 else DONE
        if row.state == REJECTED:
            await self.storage.remove(row)
            await self.quota.release(row.owner, row.id)
        else:
            await self.quota.finished(row.owner, row.id)
        kept = body if len(body) <= ANSWER else b""
        row.answer = [status, [[n.decode("latin-1"), v.decode("latin-1")] for n, v in headers], kept.decode("latin-1")]
        row = await self.settle(row)
        if row.by == self.me:
            row.answer[2] = body.decode("latin-1")
            self.counts.completed += row.state == DONE
            self.counts.rejected += row.state == REJECTED
        if row.concat == "partial":
            self.spawn(self.sweep())  # a final one may wait for it
        return row

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that outlives who asked for it."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.over)
        return task

    def over(self, task: asyncio.Task[Any]) -> None:
        """One is done; what it raised was said where it is waited for."""
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()

    async def settle(self, row: Row) -> Row:
        """Write the end over whatever our renewals left; or, if another has taken over, what it made of it."""
        while True:
            try:
                return await self.write(row)
            except Conflict as conflict:
                if conflict.entry is None:
                    raise Refused("this upload was cancelled", status=404) from None
                now = loaded(conflict.entry)
                if now.by != self.me or now.state != FINISHING:
                    return now
                row.version = now.version

    async def fed(self, row: Row, exchange: Any) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """What those it feeds make of it; what they raise is an answer, too."""
        if self.feed is None or row.concat == "partial":
            return 201, [], b""
        since = monotonic_ns()
        try:
            return await self.feed(row, exchange)
        except FairleadError as error:
            status = error.status or 500
            said = {"status": status, "title": str(error)}
        except Exception:
            log.exception("upload %s: what it feeds raised", row.id)
            status, said = 500, {"status": 500, "title": "the upload is kept, but what was to be done with it failed"}
        finally:
            if exchange is not None:
                exchange.journey.add("feed", since, monotonic_ns() - since)
        return status, [(b"content-type", b"application/problem+json")], json.dumps(said).encode() + b"\n"

    async def renew(self, row: Row) -> None:
        """Say that its holder lives."""
        while True:
            await asyncio.sleep(TERM / 3)
            with suppress(StoreError):
                await self.write(row)

    # ---- the sweep

    async def sweep_for_ever(self) -> None:
        """Every worker does it; a conflict says that another was first."""
        while True:
            await asyncio.sleep(SWEEP)
            try:
                await self.sweep()
            except Exception as error:
                log.warning("uploads could not be swept: %s", error)

    async def sweep(self) -> int:
        """What has expired goes; what was left in the middle is finished. How many."""
        count = 0
        for _, entry in await self.state.scan_due(self.root):
            row = loaded(entry)
            with suppress(Conflict, Refused):
                count += 1
                if row.state == FINISHING:
                    row.by = self.me
                    await self.write(row)
                    await self.finish(row)
                elif row.state == JOINING:
                    count -= 0 if await self.joined(row) else 1
                elif row.state == OPEN:
                    await self.state.delete_if(self.root + row.id, row.version)
                    await self.remove(row)
                    self.counts.expired += 1
                else:
                    await self.state.delete_if(self.root + row.id, row.version)
                    await self.quota.release(row.owner, row.id)
        now = await self.store.now()
        if now - self.looked > ORPHANS:
            self.looked = now
            for name in await self.storage.orphans(now - self.options.keep):
                if await self.state.get(self.root + name) is None:
                    await self.storage.discard(name)
        return count

    # ---- final uploads of tus, which are made of partial ones

    async def parts(self, row: Row) -> list[Row] | None:
        """The parts of a final upload, None while one is not complete. Refused 404, 410 when one is gone, 400 when it is none."""
        found, complete = [], True
        for name in words.concatenated(row.concat):
            part = await self.find(name, row.owner)
            if part.concat != "partial":
                raise Refused(f"{name} is not a partial upload", status=400)
            complete = complete and part.finished
            found.append(part)
        return found if complete else None

    async def joined(self, row: Row, exchange: Any = None) -> Row | None:
        """Make a final upload of its parts; None while they are not complete. Refused, and it is gone, when it cannot be made."""
        try:
            parts = await self.parts(row)
            if parts is None:
                return None
            row.length = sum([part.length or 0 for part in parts])
            self.bound(row.length)
            await self.quota.reserve(row.owner, row.id, row.length)
        except Refused:
            await self.remove(row)
            self.counts.expired += 1
            raise
        row.by = self.me
        writer = await self.storage.claim(await self.write(row))
        try:
            await self.copied(row, writer, parts)
            return await self.complete(row, writer, exchange)
        finally:
            await writer.close()

    async def copied(self, row: Row, writer: Writer, parts: list[Row]) -> None:
        """The bytes of other uploads, one after the other, behind what a holder before us has copied. We renew ourselves."""
        skip, renewed = writer.offset, monotonic_ns()
        for part in parts:
            async for piece in pieces(self.storage.read(part)):
                if skip >= len(piece):
                    skip -= len(piece)
                    continue
                await writer.write([piece[skip:]])
                skip = 0
                if monotonic_ns() - renewed > TERM * 1e9 / 3:
                    renewed = monotonic_ns()
                    await self.write(row)


async def pieces(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces of a source, which is closed in any case."""
    try:
        async for piece in source:
            yield piece
    finally:
        if (close := getattr(source, "aclose", None)) is not None:
            await close()


def each(hashes: Any, part: bytes) -> None:
    """A part, to each hash."""
    for one in hashes:
        one.update(part)


def token() -> str:
    """128 random bits as 22 characters."""
    import base64

    return base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode()


def loaded(entry: Any) -> Row:
    """A row out of its entry."""
    found = json.loads(entry.value)
    return Row(**{name: found[name] for name in FIELDS if name in found}, version=entry.version)


__all__ = ["DONE", "FINISHING", "OPEN", "REJECTED", "Row", "Upload", "UploadOptions", "Uploads", "gone"]
