"""tus 1.0: core, and all of its extensions (EXTENSIONS).

After tus.io/protocols/resumable-upload, version 1.0.0. Rules
1. Every request says `Tus-Resumable: 1.0.0`, or gets 412 with `Tus-Version`; every answer says it, too.
2. An upload is complete when its offset is its length; there is no word for it. So a HEAD that finds it so finishes it, in case
   the request that brought the last byte died before.
3. `Upload-Checksum` is checked before anything of the request counts: 460, and the offset is as before. Where `Trailer` announces
   it, it comes behind the body: until then nobody knows which algorithm it is of, so all are reckoned.
4. Partial uploads feed nothing. The final one is made of them, in the order given, when all are complete; until then it is
   `joining` and has no offset. All have the same principal.
5. `Upload-Offset` of another offset is 409, a PATCH to a final upload 403, a media type other than ours 415.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fairlead.core.errors import Refused
from fairlead.serve.conditions import http_date
from fairlead.serve.uploadbody import Body
from fairlead.serve.uploads import JOINING, OPEN, Row
from fairlead.store.contract import Conflict
from fairlead.wire import uploadwords as words

if TYPE_CHECKING:
    from fairlead.serve.uploadhttp import UploadRoute

EXTENSIONS = (
    b"creation,creation-with-upload,creation-defer-length,termination,checksum,checksum-trailer,concatenation,"
    b"concatenation-unfinished,expiration"
)
PARTS = 1000  # of one final upload
MISMATCH = 460


class Tus:
    """The tus side of a route."""

    def __init__(self, route: UploadRoute) -> None:
        self.route, self.uploads = route, route.uploads

    async def answer(self, call: Body, method: str, base: str, rest: list[str]) -> None:
        """By method. Refused."""
        if call.header(b"tus-resumable") != words.TUS:
            raise Refused("this version of tus is not spoken here", status=412, hint="Tus-Resumable: 1.0.0")
        if method == "POST" and not rest:
            await self.create(call, base)
        elif not rest:
            raise Refused(f"{method} is not for this", status=405, hint="POST begins an upload")
        elif method == "HEAD":
            await self.state(call, await self.route.found(call, rest[0]))
        elif method == "PATCH":
            await self.append(call, await self.route.found(call, rest[0]))
        elif method == "DELETE":
            await self.uploads.cancel(await self.route.found(call, rest[0]))
            await call.respond(204, b"", self.always(204))
        else:
            raise Refused(f"{method} is not for an upload", status=405, hint="HEAD, PATCH and DELETE are")

    def always(self, status: int) -> list[tuple[bytes, bytes]]:
        """Fields of every answer."""
        version = [(b"tus-version", words.TUS)] if status == 412 else []
        return [(b"tus-resumable", words.TUS), *version]

    def about(self) -> list[tuple[bytes, bytes]]:
        """Fields of the answer to OPTIONS."""
        fields = [
            (b"tus-resumable", words.TUS), (b"tus-version", words.TUS), (b"tus-extension", EXTENSIONS),
            (b"tus-checksum-algorithm", ",".join(words.TUS_HASHES).encode()),
        ]  # fmt: skip
        most = self.uploads.options.max
        return fields if most is None else [*fields, (b"tus-max-size", b"%d" % most)]

    def told(self, row: Row, offset: int | None) -> list[tuple[bytes, bytes]]:
        """Where an upload is."""
        fields = self.always(200)
        if offset is not None:
            fields.append((b"upload-offset", b"%d" % offset))
        if row.state == OPEN:
            fields.append((b"upload-expires", http_date(int(row.expires))))
        return fields

    # ---- creation

    async def create(self, call: Body, base: str) -> None:
        """POST. With a body of our media type it brings the first bytes along."""
        length = words.number(call.header(b"upload-length"), "Upload-Length")
        deferred = call.header(b"upload-defer-length")
        concat = (call.header(b"upload-concat") or b"").strip().decode("latin-1")
        row = self.route.new(call, "tus")
        row.meta = words.metadata(call.header(b"upload-metadata"))
        row.filename = words.safe_name(row.meta.get("filename") or row.meta.get("name") or "")
        if concat.startswith("final;"):
            await self.join(call, base, row, concat, length)
            return
        if concat not in ("", "partial"):
            raise Refused('Upload-Concat is "partial", or "final;" and URLs', status=400)
        if deferred is not None and (deferred.strip() != b"1" or length is not None):
            raise Refused("Upload-Defer-Length is 1, and then there is no Upload-Length", status=400)
        if deferred is None and length is None:
            raise Refused("an upload needs Upload-Length", status=400, hint="or Upload-Defer-Length: 1")
        carries = call.request.length != 0
        if carries and media(call) != words.STREAM:
            raise Refused("a body is application/offset+octet-stream", status=415, hint="or send none, and PATCH the Location")
        row.length, row.concat = length, concat
        row = await self.uploads.begin(row)
        offset = None
        if carries or length == 0:
            row, offset = await self.more(call, row, await self.uploads.claim(row))
        await self.said(call, 201, row, offset, [(b"location", f"{base}/{row.id}".encode())])

    async def join(self, call: Body, base: str, row: Row, concat: str, length: int | None) -> None:
        """A final upload out of partial ones."""
        if length is not None or not 0 < len(words.concatenated(concat)) <= PARTS or call.request.length != 0:
            raise Refused(f"a final upload has 1 to {PARTS} parts, no length and no body", status=400)
        row.concat, row.state = concat, JOINING
        await self.uploads.parts(row)
        row = await self.uploads.begin(row)
        row = await self.uploads.joined(row, call.exchange) or row
        await self.said(call, 201, row, None, [(b"location", f"{base}/{row.id}".encode())])

    # ---- going on

    async def append(self, call: Body, row: Row) -> None:
        """PATCH."""
        if row.concat.startswith("final"):
            raise Refused("nothing is appended to a final upload", status=403)
        if media(call) != words.STREAM:
            raise Refused("what is appended is application/offset+octet-stream", status=415)
        offset = words.number(call.header(b"upload-offset"), "Upload-Offset")
        if offset is None:
            raise Refused("PATCH needs Upload-Offset", status=400, hint="HEAD says which")
        if row.whole:
            if offset != row.length or call.request.length > 0:
                raise Refused(f"this upload is complete with {row.length} bytes", status=409)
            await self.said(call, 204, row, row.length)
            return
        writer = await self.uploads.claim(row)
        try:
            if offset != writer.offset:
                raise Refused(f"the offset is {writer.offset}, not {offset}", status=409, hint="ask for it with HEAD")
            row = await self.uploads.settle_length(row, words.number(call.header(b"upload-length"), "Upload-Length"))
        except BaseException:
            await writer.close()
            raise
        row, offset = await self.more(call, row, writer)
        await self.said(call, 204, row, offset)

    async def more(self, call: Body, row: Row, writer: Any) -> tuple[Row, int]:
        """The body, with its checksum; and the end, if this is it."""
        given = call.header(b"upload-checksum")
        wanted = dict([words.checksum(given)]) if given is not None else {}
        later = None
        if given is None and b"upload-checksum" in (call.header(b"trailer") or b"").lower():
            wanted, later = dict.fromkeys(words.TUS_HASHES.values(), b""), lambda: trailing(call)
        route = self.route
        async with route.appending(call, row, writer):
            await route.within(call, row, writer)
            await route.checked(call, row, writer, wanted, MISMATCH, later)
            call.raise_cut()
            if writer.offset == row.length:
                at = call.spend("", 0)
                row = await self.uploads.complete(row, writer, call.exchange)
                call.spend("finish", at)
            return row, writer.offset

    async def said(self, call: Body, status: int, row: Row, offset: int | None, more: Any = ()) -> None:
        """The answer; when what the upload feeds refused it, that."""
        if row.answer and row.answer[0] >= 400:
            from fairlead.serve.uploadhttp import answer_of

            status, headers, body = answer_of(row)
            await call.respond(status, body, [*headers, *self.told(row, offset)])
            return
        await call.respond(status, b"", [*self.told(row, offset), *more])

    async def state(self, call: Body, row: Row) -> None:
        """HEAD."""
        if row.state == JOINING and not row.by:
            with suppress(Conflict):
                row = await self.uploads.joined(row, call.exchange) or row
        offset = row.length if row.state != JOINING else None
        if not row.whole:
            writer = await self.uploads.claim(row)
            try:
                offset = await writer.sync()
                if offset == row.length:
                    row = await self.uploads.complete(row, writer, call.exchange)
            finally:
                await writer.close()
        fields = [*self.told(row, offset), (b"cache-control", b"no-store")]
        if row.length is None and row.state != JOINING:
            fields.append((b"upload-defer-length", b"1"))
        elif row.length is not None:
            fields.append((b"upload-length", b"%d" % row.length))
        if row.meta:
            fields.append((b"upload-metadata", words.metadata_field(row.meta)))
        if row.concat:
            fields.append((b"upload-concat", row.concat.encode("latin-1")))
        await call.respond(200, b"", fields)


def trailing(call: Body) -> dict[str, bytes]:
    """The checksum behind the body. WireError 400 when it is not there, or junk."""
    fields = call.request.trailers or ()
    return dict([words.checksum(next((value for name, value in fields if name == b"upload-checksum"), b""))])


def media(call: Body) -> bytes:
    """The request's media type."""
    return (call.header(b"content-type") or b"").partition(b";")[0].strip().lower()
