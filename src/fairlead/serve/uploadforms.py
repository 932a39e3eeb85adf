"""A form of a web page, as it comes (multipart/form-data, RFC 7578): each file of it is an upload, its other fields are metadata.

The parser is python-multipart's (extra `forms`), which is given what arrives and keeps nothing. Rules
1. All or nothing: what a file feeds hears of it only when the whole form is there. A form that breaks off, or is wrong, leaves
   nothing behind.
2. A part with a file name is a file; one with an empty name and no bytes is an input in which nothing was chosen, and is nothing.
3. Files are written as they come. Fields are kept: PARTS parts, HEADERS fields of HEADER bytes for each, VALUE bytes of a field and
   VALUES of all; beyond that 413, or 400 for heads.
4. Each file gets all fields as `meta`, also those that come behind it (`before` sees those in front of it). Of fields of one name
   the last counts.
5. The answer: {"uploads": [...], "fields": {...}} and the highest status of those that the files feed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fairlead.core.errors import AppError, FairleadError, Refused
from fairlead.serve.uploadbody import Body, each
from fairlead.serve.uploads import Row
from fairlead.serve.uploadstorage import Writer
from fairlead.wire import uploadwords as words

if TYPE_CHECKING:
    from fairlead.serve.uploadhttp import UploadRoute

FORM = b"multipart/form-data"
PARTS = 200  # of one form
HEADERS = 8  # fields of a part's head; a browser sends two
HEADER = 2048  # bytes of one of them: heads are read byte by byte
VALUE = 16 * 1024  # bytes of one field
VALUES = 64 * 1024  # bytes of all fields with their names: each file's row has them
NAME = 255  # characters of a field's name
BOUNDARY = re.compile(rb';\s*boundary\s*=\s*(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
FIELD = re.compile(r';\s*name\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]+))', re.IGNORECASE)
FILENAME = re.compile(r";\s*filename\*?\s*=", re.IGNORECASE)


def is_form(call: Body) -> bool:
    """The request brings a form."""
    return (call.header(b"content-type") or b"").partition(b";")[0].strip().lower() == FORM


class Parts:
    """What has arrived, as words: ("part", {field: value}), ("data", bytes), ("end",). `over`: the last boundary was there."""

    def __init__(self, boundary: bytes) -> None:
        try:
            from python_multipart.multipart import MultipartParser
        except ImportError:
            raise AppError("forms need python-multipart", hint="pip install 'fairlead[forms]'") from None
        self.words: list[tuple[Any, ...]] = []
        self.head: dict[str, str] = {}
        self.name = self.value = b""
        self.over = False
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self.head.clear,
                "on_header_field": self.on_field,
                "on_header_value": self.on_value,
                "on_header_end": self.on_header_end,
                "on_headers_finished": self.on_head,
                "on_part_data": self.on_data,
                "on_part_end": self.on_end,
                "on_end": self.on_over,
            },
            max_header_count=HEADERS,
            max_header_size=HEADER,
        )

    def feed(self, chunk: bytes) -> Iterator[tuple[Any, ...]]:
        """The words of one more piece. Refused 400."""
        from python_multipart.exceptions import FormParserError

        try:
            self.parser.write(chunk)
        except FormParserError as error:
            raise Refused(f"the form is not multipart/form-data: {error}", status=400, hint="see RFC 7578") from None
        found, self.words = self.words, []
        return iter(found)

    def on_field(self, data: bytes, start: int, end: int) -> None:
        """A piece of a field's name."""
        self.name += data[start:end]

    def on_value(self, data: bytes, start: int, end: int) -> None:
        """A piece of its value."""
        self.value += data[start:end]

    def on_header_end(self) -> None:
        """A field of a part's head is there."""
        self.head[self.name.decode("latin-1").lower()] = self.value.decode("utf-8", "replace")
        self.name = self.value = b""

    def on_head(self) -> None:
        """All of them are."""
        self.words.append(("part", dict(self.head)))

    def on_data(self, data: bytes, start: int, end: int) -> None:
        """Bytes of a part."""
        self.words.append(("data", data[start:end]))

    def on_end(self) -> None:
        """The end of a part."""
        self.words.append(("end",))

    def on_over(self) -> None:
        """The end of the form."""
        self.over = True


class Form:
    """One form on its way into a route's uploads. `files`: their rows; `fields`: the others; `writer` of the file that comes."""

    def __init__(self, route: UploadRoute, call: Body) -> None:
        found = BOUNDARY.search(call.header(b"content-type") or b"")
        if found is None:
            raise Refused("the form has no boundary", status=400, hint="Content-Type: multipart/form-data; boundary=…")
        if call.header(b"repr-digest") is not None:
            raise Refused("Repr-Digest is of one file, and this is a form", status=400, hint="Content-Digest is of the whole form")
        self.route, self.uploads, self.call = route, route.uploads, call
        self.parts = Parts(found[1] or found[2])
        self.files: list[Row] = []
        self.fields: dict[str, str] = {}
        self.count = self.kept = 0
        self.head: dict[str, str] = {}  # of the part that comes
        self.name = ""
        self.value: bytearray | None = None  # it is a field
        self.writer: Writer | None = None  # it is a file that has begun

    async def take(self) -> None:
        """All of the body. Refused, and then nothing of it stays."""
        call = self.call
        given = call.header(b"content-digest")
        wanted = words.digests(given, "Content-Digest") if given is not None else {}
        hashes = {name: hashlib.new(words.HASHES[name]) for name in wanted}
        try:
            at = call.spend("", 0)
            while chunks := await call.take():
                at = call.spend("receive", at)
                if hashes:
                    await asyncio.get_running_loop().run_in_executor(None, each_of, hashes, chunks)
                    at = call.spend("digest", at)
                for chunk in chunks:
                    await self.fed(chunk)
                at = call.spend("write", at)
            call.raise_cut()
            if not self.parts.over:
                raise Refused("the form ends before its last boundary", status=400)
            if any([hashes[name].digest() != value for name, value in wanted.items()]):
                raise Refused("what arrived does not have the digest that was given", status=400, hint="send it again")
        except BaseException:
            await self.drop()
            raise

    async def fed(self, chunk: bytes) -> None:
        """One piece: files to the storage, many pieces of one at once; fields to memory."""
        held: list[bytes] = []
        for word in self.parts.feed(chunk):
            if word[0] == "data":
                held.append(word[1])
                continue
            await self.data(held)
            held = []
            if word[0] == "part":
                await self.part(word[1])
            else:
                await self.ended()
        await self.data(held)

    async def part(self, head: dict[str, str]) -> None:
        """A part begins. Refused."""
        self.count += 1
        if self.count > PARTS:
            raise Refused(f"a form may have {PARTS} parts", status=413)
        said = head.get("content-disposition", "")
        found = FIELD.search(said)
        if not said.lower().startswith("form-data") or found is None:
            raise Refused(f"part {self.count} has no name", status=400, hint='Content-Disposition: form-data; name="…"')
        self.name = re.sub(r"\\(.)", r"\1", found[1]) if found[1] is not None else found[2]
        self.kept += len(self.name)
        if len(self.name) > NAME:
            raise Refused(f"the name of a field may have {NAME} characters", status=400)
        self.head, self.writer = head, None
        self.value = None if FILENAME.search(said) else bytearray()

    async def data(self, pieces: list[bytes]) -> None:
        """Bytes of the part. Refused."""
        if not pieces:
            return
        size = sum(map(len, pieces))
        if self.value is not None:
            self.kept += size
            if len(self.value) + size > VALUE or self.kept > VALUES:
                raise Refused(f"the field {self.name[:64]} has more than {VALUE} bytes, or all have more than {VALUES}", status=413)
            self.value += b"".join(pieces)
            return
        writer = self.writer or await self.begun()
        offset = writer.offset + size
        self.uploads.bound(offset)
        row = self.files[-1]
        await self.uploads.quota.reserve(row.owner, row.id, offset)
        await writer.write(pieces)
        self.uploads.counts.bytes += size

    async def begun(self) -> Writer:
        """A file, now that a byte of it, or its name, is there."""
        row = self.route.new(self.call, "plain")
        row.filename = words.disposition(self.head["content-disposition"].encode())
        kind = self.head.get("content-type", "application/octet-stream")
        row.headers = [pair for pair in row.headers if pair[0] not in ("content-type", "content-disposition")]
        row.headers += [["content-type", kind], ["content-disposition", self.head["content-disposition"]]]
        row.meta = dict(self.fields)
        self.files.append(await self.uploads.begin(row))
        self.writer = await self.uploads.claim(row)
        return self.writer

    async def ended(self) -> None:
        """The part is whole: rule 2 for files."""
        if self.value is not None:
            self.fields[self.name] = self.value.decode("utf-8", "replace")
        elif self.writer is None and words.disposition(self.head["content-disposition"].encode()):
            await self.begun()  # an empty file
        self.value = None
        await self.let_go(True)

    async def let_go(self, good: bool) -> None:
        """The writer is done: no form keeps more than one file open."""
        writer, self.writer = self.writer, None
        if writer is not None:
            try:
                if good:
                    await writer.sync()
            finally:
                await writer.close()

    async def finish(self) -> tuple[int, dict[str, Any]]:
        """Every file to its end: the answer, rule 5. A file that is refused here takes no other with it."""
        told, status = [], 201 if self.files else 200
        for row in self.files:
            row.meta = {**row.meta, **self.fields}
            try:
                self.writer = await self.uploads.claim(row)
                row = await self.uploads.complete(row, self.writer, self.call.exchange)
                answered, body = int(row.answer[0]), row.answer[2]
            except FairleadError as error:
                answered, body = error.status or 500, str(error)
                await self.uploads.remove(row)
            finally:
                await self.let_go(False)
            status = max(status, answered)
            told.append({**row.known(), "state": row.state, "status": answered, "answer": body})
        return status, {"uploads": told, "fields": self.fields}

    async def drop(self) -> None:
        """Rule 1."""
        await self.let_go(False)
        for row in self.files:
            with suppress(FairleadError):  # what cannot be removed now expires
                await self.uploads.remove(row)


async def answered(route: UploadRoute, call: Body, base: str) -> None:
    """Take a form and answer it."""
    form = Form(route, call)
    counts = route.uploads.counts
    counts.active += 1
    try:
        await form.take()
        at = call.spend("", 0)
        status, told = await form.finish()
        call.spend("finish", at)
    except FairleadError:
        counts.aborted += not call.exchange.heard_end
        raise
    finally:
        counts.active -= 1
        call.mark()
    for one in told["uploads"]:
        one["location"] = f"{base}/{one['id']}"
    body = json.dumps(told).encode() + b"\n"
    await call.respond(status, body, [(b"content-type", b"application/json"), (b"cache-control", b"no-store")])


def each_of(hashes: dict[str, Any], chunks: list[bytes]) -> None:
    """Every chunk to every hash."""
    for one in hashes.values():
        each(one.update, chunks)
