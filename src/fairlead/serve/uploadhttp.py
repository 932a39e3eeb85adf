"""Uploads over HTTP: the `upload` route. Three ways on one URL, told apart by what the client says.

    POST | PUT <base>                        plain: the whole body at once; or with Upload-Complete: it may be resumed
    POST <base>        Tus-Resumable: 1.0.0  tus (`serve.uploadtus`), told by this field in every request
    HEAD <base>/<id>                         where to go on
    GET <base>/<id>                          how it is, as JSON, and what was answered at the end
    PATCH <base>/<id>                        application/partial-upload, Upload-Offset, Upload-Complete
    DELETE <base>/<id>                       wanted no more        OPTIONS <base>       what is taken

After draft-ietf-httpbis-resumable-upload-11 (interop version 8). Rules
1. The final answer of an upload is that of what it feeds, with `Upload-Complete: ?1`; whoever missed it finds it at GET.
2. An offset that is told is durable, and what is told by HEAD can be used: asking ends whoever still appends, as the draft
   recommends (section "Concurrency"). GET only looks.
3. 104 with Location goes at once to clients that say `Upload-Draft-Interop-Version: 8`, and to no others.
4. A length that contradicts an earlier one, and bytes beyond it that were announced, are refused before anything is written
   (400, the draft's problem type); bytes that come unannounced beyond it end the upload, as the draft wants.
5. `Content-Digest` (RFC 9530): what does not fit is not appended; nothing of such a request counts before its end.
   `Repr-Digest`: an upload that does not fit it at its end is gone. `Want-Repr-Digest` is answered at the end.
6. `PUT <base>/<name>` and Content-Disposition give the file a name, for those it is given to; it is never a path.
7. A plain POST of multipart/form-data, from a page's form, is taken apart (`serve.uploadforms`), unless the route asks an
   application: that gets it as it is.
8. What goes wrong is `application/problem+json` (RFC 9457); 413 has Upload-Limit.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

from fairlead.core.errors import FairleadError, Refused, WireError
from fairlead.core.handler import Handler
from fairlead.serve.uploadbody import Bodies, Body, Grow, TooLong, pour
from fairlead.serve.uploadforms import answered as form_answered
from fairlead.serve.uploadforms import is_form
from fairlead.serve.uploads import DONE, ID, JOINING, OPEN, Row, Uploads
from fairlead.serve.uploadstorage import Fenced, Writer
from fairlead.wire import uploadwords as words

TRIES = 8  # to hold an upload that others are at, for as long as it takes to look
Pairs = list[tuple[bytes, bytes]]
KEPT = 16 * 1024  # bytes of the fields of the request that are kept
UNKEPT = frozenset((
    b"connection", b"keep-alive", b"transfer-encoding", b"te", b"trailer", b"upgrade", b"expect", b"content-length",
    b"authorization",
    b"cookie", b"proxy-authorization", b"upload-complete", b"upload-offset", b"upload-length", b"upload-draft-interop-version",
    b"upload-metadata", b"upload-checksum", b"upload-concat", b"upload-defer-length", b"tus-resumable", b"content-digest", b"host",
    b"prefer", b"idempotency-key", b"repr-digest", b"want-repr-digest",
))  # fmt: skip
Later = Callable[[], dict[str, bytes]]
STEP = 64 << 20  # bytes by which an upload of unknown length is counted in advance


class UploadRoute(Handler):
    """The uploads of one route. `depth`: segments of the route's own path."""

    def __init__(self, uploads: Uploads, depth: int, loop: asyncio.AbstractEventLoop | None = None) -> None:
        from fairlead.serve.uploadtus import Tus

        self.uploads, self.depth = uploads, depth
        self.forms = True  # rule 7
        self.bodies = Bodies(self.answer, loop)  # type: ignore[arg-type]
        self.tus = Tus(self)

    def open(self, exchange: Any) -> None:
        """A Task for each request: it waits for the store and the storage anyway."""
        self.bodies.open(exchange)

    async def close(self) -> None:
        """The route is gone."""
        await self.uploads.close()

    # ---- who is asked what

    async def answer(self, call: Body) -> None:
        """By method, what stands behind the base, and the form."""
        parts = [part for part in call.request.path.split("/") if part]
        base, rest = "/" + "/".join(parts[: self.depth]), parts[self.depth :]
        method = call.request.method
        tus = call.header(b"tus-resumable") is not None
        try:
            await self.uploads.start()
            if tus and method == "POST":
                method = (call.header(b"x-http-method-override") or b"POST").decode("latin-1").upper()
            if method == "OPTIONS":
                await self.options(call)
            elif len(rest) > 1:
                raise Refused("an upload has one name behind the route's path", status=404)
            elif tus:
                await self.tus.answer(call, method, base, rest)
            elif method in ("POST", "PUT") and not (rest and method == "POST"):
                await self.create(call, base, unquote(rest[0]) if rest else "")
            elif not rest:
                raise Refused(f"{method} is not for this", status=405, hint="POST begins an upload")
            elif method in ("HEAD", "GET"):
                await self.state(call, base, rest[0], method == "HEAD")
            elif method == "PATCH":
                await self.append(call, base, rest[0])
            elif method == "DELETE":
                await self.uploads.cancel(await self.found(call, rest[0]))
                await call.respond(204)
            else:
                raise Refused(f"{method} is not for an upload", status=405, hint="HEAD, GET, PATCH and DELETE are")
        except FairleadError as error:
            if call.gone is not None and not call.exchange.heard_end:
                raise
            await self.problem(call, error, tus)

    async def found(self, call: Body, name: str) -> Row:
        """The upload of that name, if it is this principal's."""
        return await self.uploads.find(name, owner_of(call))

    # ---- the draft

    async def create(self, call: Body, base: str, name: str) -> None:
        """A new upload with all of its bytes, or some, or none."""
        complete = words.boolean(call.header(b"upload-complete"))
        if complete is None and self.forms and call.request.method == "POST" and is_form(call):
            await form_answered(self, call, base)
            return
        if words.boolean(call.header(b"upload-complete")) is None and words.integer(call.header(b"upload-offset")) is not None:
            raise Refused("Upload-Offset belongs to an upload that was begun", status=400, hint="PATCH its own URL")
        row = self.new(call, "plain" if complete is None else "ietf", name)
        row.length = announced(call, 0, complete is not False)
        row = await self.uploads.begin(row)
        place = [(b"location", f"{base}/{row.id}".encode()), (b"upload-limit", await self.limits(row))]
        try:
            writer = await self.uploads.claim(row)
            if complete is not None:
                call.interim(place)
            row = await self.appended(call, row, writer, complete is not False)
        except FairleadError:
            if complete is None:  # nobody can resume it
                await self.uploads.remove(row)
            raise
        if row.state == OPEN:
            await call.respond(201, b"", [*self.told(row, writer.offset), *place])
        else:
            await self.final(call, base, row, place)

    async def append(self, call: Body, base: str, name: str) -> None:
        """More of an upload."""
        kind = (call.header(b"content-type") or b"").partition(b";")[0].strip().lower()
        if kind != words.PARTIAL:
            raise Refused("what is appended is application/partial-upload", status=415, hint="or tus, with Tus-Resumable: 1.0.0")
        offset = words.integer(call.header(b"upload-offset"))
        complete = words.boolean(call.header(b"upload-complete"))
        if offset is None or complete is None:
            raise Refused("PATCH needs Upload-Offset and Upload-Complete", status=400, hint="Upload-Offset: 0, Upload-Complete: ?1")
        row = await self.found(call, name)
        if row.whole:
            await self.over(call, row, offset)
            return
        writer = await self.uploads.claim(row)
        try:
            if offset != writer.offset:
                raise Mismatch(writer.offset, offset)
            row = await self.uploads.settle_length(row, announced(call, offset, complete))
        except BaseException:
            await writer.close()
            raise
        row = await self.appended(call, row, writer, complete)
        if row.state == OPEN:
            await call.respond(204, b"", self.told(row, writer.offset))
        else:
            await self.final(call, base, row, [])

    async def over(self, call: Body, row: Row, offset: int) -> None:
        """Nothing can be appended to a complete upload. Refused."""
        if row.state != DONE or (call.request.length == 0 and offset == row.length):
            raise Completed()
        raise Inconsistent(f"this upload is complete with {row.length} bytes")

    async def appended(self, call: Body, row: Row, writer: Writer, complete: bool) -> Row:
        """The request's body, behind what is there; then the end, if it is. The writer is closed."""
        async with self.appending(call, row, writer):
            await self.within(call, row, writer)
            await self.poured(call, row, writer)
            call.raise_cut()
            if complete:
                at = call.spend("", 0)
                row = await self.uploads.complete(row, writer, call.exchange)
                call.spend("finish", at)
        return row

    @asynccontextmanager
    async def appending(self, call: Body, row: Row, writer: Writer) -> AsyncIterator[None]:
        """While it is, a newer request may cut it; it is counted, its journey is told, and the writer is closed."""
        active, counts = self.uploads.active, self.uploads.counts
        active[row.id] = end = call.cut
        counts.active += 1
        counts.resumed += writer.offset > 0
        try:
            yield
        except FairleadError:
            counts.aborted += not call.exchange.heard_end or call.why is not None
            raise
        finally:
            counts.active -= 1
            if active.get(row.id) is end:
                del active[row.id]
            await writer.close()
            call.mark()

    async def within(self, call: Body, row: Row, writer: Writer) -> None:
        """Rule 4: what was announced fits. Refused."""
        length = max(0, call.request.length)
        if row.length is not None and writer.offset + length > row.length:
            raise Inconsistent(f"{writer.offset} and {length} bytes are more than its {row.length}")
        self.uploads.bound(writer.offset + length)
        if row.length is None and length:
            await self.uploads.quota.reserve(row.owner, row.id, writer.offset + length)

    async def poured(self, call: Body, row: Row, writer: Writer) -> None:
        """The bytes, and their Content-Digest."""
        given = call.header(b"content-digest")
        wanted = words.digests(given, "Content-Digest") if given is not None else {}
        await self.checked(call, row, writer, {words.HASHES[name]: value for name, value in wanted.items()})

    async def checked(
        self, call: Body, row: Row, writer: Writer, wanted: dict[str, bytes], status: int = 400, later: Later | None = None
    ) -> None:
        """Pour, and keep it if its digests are these. Refused `status` if they are not; nothing of it counts then.

        `later` says them at the end of the body; then `wanted` only has the algorithms that they may be of.
        """
        most = row.length if row.length is not None else self.uploads.options.max
        hashes = {name: hashlib.new(name) for name in wanted}
        start = writer.offset
        try:
            if not wanted:
                await self.filled(call, row, writer, -1 if most is None else most, None)
                return
            await writer.hold()

            def hear(chunk: bytes) -> None:
                for one in hashes.values():
                    one.update(chunk)

            await self.filled(call, row, writer, -1 if most is None else most, hear)
            if later is not None and call.whole:
                wanted = later()
            good = call.whole and all([hashes[name].digest() == value for name, value in wanted.items()])
            await writer.settle(good)
            if not good and call.whole:
                raise Refused("what arrived does not have the digest that was given", status=status, hint="send it again")
        except TooLong:
            if row.length is not None and self.uploads.options.max != row.length:
                await self.uploads.remove(row)
                raise Inconsistent(f"more than its {row.length} bytes came; the upload has ended") from None
            raise Refused(f"an upload may have {most} bytes", status=413) from None
        except Refused:
            if wanted and writer.offset > start:
                try:
                    await writer.settle(False)
                except FairleadError:
                    pass  # whoever has it now has cut it already
            raise

    async def filled(self, call: Body, row: Row, writer: Writer, most: int, hear: Any) -> None:
        """Pour until the end; what came is made durable even when the client left or the disk is full."""
        try:
            grow = self.growing(row) if row.length is None and call.request.length < 0 and self.uploads.quota.limited else None
            await pour(call, writer, most, self.uploads.counts, hear, told=hear is None and row.form == "ietf", grow=grow)
        finally:
            if hear is None:
                at = call.spend("", 0)
                await writer.sync()
                call.spend("sync", at)

    def growing(self, row: Row) -> Grow:
        """Counts bytes that nobody has announced: some in advance, or just those when there is room for no more."""
        reserve = self.uploads.quota.reserve

        async def grow(offset: int) -> int:
            try:
                await reserve(row.owner, row.id, offset + STEP)
                return offset + STEP
            except Refused:
                await reserve(row.owner, row.id, offset)
                return offset

        return grow

    async def state(self, call: Body, base: str, name: str, claim: bool) -> None:
        """Rule 2."""
        row = await self.found(call, name)
        if not claim:
            await self.shown(call, row)
            return
        offset = row.length if row.whole else await self.offset(row)
        fields = [*self.told(row, offset or 0), (b"upload-limit", await self.limits(row)), (b"cache-control", b"no-store")]
        if row.length is not None:
            fields.append((b"upload-length", b"%d" % row.length))
        await call.respond(204, b"", fields)

    async def offset(self, row: Row) -> int:
        """How much is here, for certain and usable."""
        for left in reversed(range(TRIES)):
            writer = await self.uploads.claim(row)
            try:
                return await writer.sync()
            except Fenced:
                if not left:
                    raise
                self.uploads.cut(row.id)  # whoever asks for the offset has given up what was under way
            finally:
                await writer.close()
        raise AssertionError("the last try returns or raises")

    async def shown(self, call: Body, row: Row) -> None:
        """An upload as JSON."""
        size = row.length if row.whole else await self.uploads.storage.size(row)
        found = row.known() | {"state": row.state, "offset": size, "expires": round(row.expires, 3)}
        if row.answer:
            found["answer"] = {"status": row.answer[0], "headers": row.answer[1], "body": row.answer[2]}
        body = json.dumps(found).encode() + b"\n"
        await call.respond(200, body, [(b"content-type", b"application/json"), (b"cache-control", b"no-store")])

    async def options(self, call: Body) -> None:
        """What is taken here: the draft's fields, and tus'."""
        limit = words.dictionary([("max-size", self.uploads.options.max)])
        fields = [(b"allow", b"OPTIONS, POST, PUT, HEAD, GET, PATCH, DELETE"), (b"accept-patch", words.PARTIAL)]
        if limit:
            fields.append((b"upload-limit", limit))
        await call.respond(204, b"", fields + self.tus.about())

    async def final(self, call: Body, base: str, row: Row, more: Pairs) -> None:
        """Rule 1."""
        status, headers, body = answer_of(row)
        names = {name for name, _ in headers}
        fields = headers + [pair for pair in more if pair[0] not in names]
        if row.form == "ietf":
            fields += [(b"upload-complete", b"?1"), (b"upload-draft-interop-version", words.VERSION)]
        if row.form == "plain":
            fields = [pair for pair in fields if pair[0] != b"upload-limit"]
        if row.digest:
            fields.append((b"repr-digest", words.digest(row.want, bytes.fromhex(row.digest))))
        if not body and not names and status == 201:
            body = json.dumps(row.known() | {"state": row.state}).encode() + b"\n"
            fields.append((b"content-type", b"application/json"))
        await call.respond(status, body, fields)

    # ---- words

    def new(self, call: Body, form: str, name: str = "") -> Row:
        """A row of what the request says."""
        request = call.request
        left = KEPT
        headers = []
        for key, value in request.headers:
            left -= len(key) + len(value)
            if key not in UNKEPT and left >= 0:
                headers.append([key.decode("latin-1"), value.decode("latin-1")])
        row = Row("", owner_of(call), form=form, method=request.method, target=request.target.decode("latin-1"), headers=headers)
        row.filename = words.disposition(call.header(b"content-disposition")) or words.safe_name(name)
        if (given := call.header(b"repr-digest")) is not None:
            row.digests = {key: value.hex() for key, value in words.digests(given, "Repr-Digest").items()}
        row.want = words.wanted(call.header(b"want-repr-digest"))
        return row

    def told(self, row: Row, offset: int) -> Pairs:
        """Where an upload is."""
        whole = row.whole and row.state != JOINING
        return [
            (b"upload-complete", words.flag(whole)), (b"upload-offset", b"%d" % offset),
            (b"upload-draft-interop-version", words.VERSION),
        ]  # fmt: skip

    async def limits(self, row: Row) -> bytes:
        """Upload-Limit of one upload."""
        left = max(0, math.floor(row.expires - await self.uploads.store.now())) if row.state == OPEN else None
        return words.dictionary([("max-size", self.uploads.options.max), ("max-age", left)]) or b"max-age=0"

    async def problem(self, call: Body, error: FairleadError, tus: bool) -> None:
        """Rule 8."""
        status = error.status if error.status >= 400 else 500
        said: dict[str, Any] = {"type": "about:blank", "title": str(error), "status": status}
        if error.hint:
            said["detail"] = error.hint
        fields: Pairs = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
        if isinstance(error, Special):
            said |= error.said()
            fields += error.fields()
        if status == 413 and (limit := words.dictionary([("max-size", self.uploads.options.max)])):
            fields.append((b"upload-limit", limit))
        if status == 405:
            fields.append((b"allow", b"OPTIONS, POST, PUT, HEAD, GET, PATCH, DELETE"))
        if status == 415:
            fields.append((b"accept-patch", words.PARTIAL))
        if error.after:
            fields.append((b"retry-after", b"%d" % error.after))
        if tus:
            fields += self.tus.always(status)
        await call.respond(status, json.dumps(said).encode() + b"\n", fields)


class Special(Refused):
    """A refusal with a problem type of the draft."""

    type = ""

    def said(self) -> dict[str, Any]:
        """Members of the problem."""
        return {"type": words.PROBLEMS + self.type}

    def fields(self) -> Pairs:
        """Fields of the answer."""
        return []


class Mismatch(Special):
    """Another offset."""

    type = "mismatching-upload-offset"

    def __init__(self, expected: int, provided: int) -> None:
        super().__init__("offset from request does not match offset of resource", status=409)
        self.expected, self.provided = expected, provided

    def said(self) -> dict[str, Any]:
        return super().said() | {"expected-offset": self.expected, "provided-offset": self.provided}

    def fields(self) -> Pairs:
        return [(b"upload-offset", b"%d" % self.expected), (b"upload-complete", b"?0")]


class Inconsistent(Special):
    """Lengths that contradict each other."""

    type = "inconsistent-upload-length"

    def __init__(self, detail: str) -> None:
        super().__init__("inconsistent length values for upload", status=400, hint=detail)


class Completed(Special):
    """It is complete."""

    type = "completed-upload"

    def __init__(self) -> None:
        super().__init__("upload is already completed", status=400)


def owner_of(call: Body) -> str:
    """Who asks, as a filter found out."""
    return str(call.exchange.principal or "")


def announced(call: Body, offset: int, complete: bool) -> int | None:
    """The length that a request gives an upload (section "Length"). Inconsistent when it gives two."""
    said = words.integer(call.header(b"upload-length"))
    made = offset + call.request.length if complete and call.request.length >= 0 else None
    if said is not None and made is not None and said != made:
        raise Inconsistent(f"Upload-Length is {said}, but offset and Content-Length come to {made}")
    return said if said is not None else made


def answer_of(row: Row) -> tuple[int, Pairs, bytes]:
    """What those it feeds have answered."""
    status, headers, body = row.answer
    return status, [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers], body.encode("latin-1")


__all__ = ["ID", "UploadRoute", "WireError"]
