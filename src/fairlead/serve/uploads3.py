"""Uploads in S3-compatible storage: one multipart upload each, by `botocore` in the pool of threads (extra `s3`).

    prefix/<id>              the finished object          prefix/<id>.tail-<n>   what is too short to be a part yet

Rules
1. S3 keeps parts, the row says which count: a part is listed there only once S3 has it, by a write that names the row's version.
   Who lost the upload loses that write, so its part is never listed: that is the fence, and it holds between machines.
2. Part numbers are taken before they are used (`next`), so that two writers never use the same.
3. A part has at least 5 MiB, but for the last. What is left over at the end of a request is a tail object; the next request
   begins with it. An offset counts listed parts and the tail.
4. At most two parts are in memory: one that fills, one on its way. They grow with their number, for S3 takes 10,000.
5. `hold` keeps back the write that lists: parts that came since are listed together by `settle(True)`, or never.
A bucket should have a lifecycle rule that ends multipart uploads left behind; ours are ended when they expire.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from fairlead.core.errors import AppError, FairleadError, Refused
from fairlead.serve.uploadstorage import Storage, Writer, fenced, gone
from fairlead.store.contract import Conflict

PART = 8 << 20
STEPS = 2000  # parts after which they get twice as long
LARGEST = 64 << 20
PIECE = 1 << 20

Save = Callable[[Any], Any]  # writes a row over its version


class S3(Storage):
    """`url`: s3://bucket/prefix. `save(row)` stores the row (Conflict). Credentials and the rest as botocore finds them."""

    def __init__(self, url: str, *, endpoint: str = "", region: str = "") -> None:
        self.bucket, _, prefix = url.removeprefix("s3://").partition("/")
        self.prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self.endpoint, self.region = endpoint, region
        self.client: Any = None
        self.save: Save | None = None

    async def start(self) -> None:
        self.client = await asyncio.get_running_loop().run_in_executor(None, client_of, self.endpoint, self.region)
        try:
            await self.call("head_bucket")
        except FairleadError as error:
            if error.status == 503:
                raise
            raise AppError(f"the bucket {self.bucket} cannot be used: {error}") from None

    async def call(self, name: str, **given: Any) -> Any:
        """One call of the client, in a thread. Refused or AppError."""
        from botocore.exceptions import BotoCoreError, ClientError

        def run() -> Any:
            return getattr(self.client, name)(Bucket=self.bucket, **given)

        try:
            return await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, run))
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            raise refusal(code, error) from None
        except BotoCoreError as error:
            raise Refused(f"the storage cannot be reached: {error}", status=503, retry="always", after=5) from None

    def key(self, row: Any) -> str:
        """The finished object."""
        return self.prefix + row.id

    async def begin(self, row: Any) -> None:
        made = await self.call("create_multipart_upload", Key=self.key(row), ContentType=row.kind[:256])
        row.place = {"upload": made["UploadId"], "parts": [], "next": 1, "fence": 0}

    async def claim(self, row: Any) -> S3Writer:
        assert self.save is not None
        row.place["fence"] += 1
        await self.save(row)
        writer = S3Writer(self, row)
        writer.offset = offset_of(row)
        if tail := row.place.get("tail"):
            try:
                data = await self.whole(tail[0])
            except FairleadError:
                if not await self.there(row):  # else only the row does not know yet that it is finished
                    raise
                return writer
            writer.buffer.append(data)
            writer.filled = len(data)
        return writer

    async def whole(self, key: str) -> bytes:
        """A small object."""
        found = await self.call("get_object", Key=key)
        return await asyncio.get_running_loop().run_in_executor(None, found["Body"].read)  # type: ignore[no-any-return]

    async def size(self, row: Any) -> int:
        return offset_of(row)

    async def read(self, row: Any) -> AsyncIterator[bytes]:
        """A finished object; of an unfinished one nothing can be read."""
        if row.place.get("parts") is not None and not row.place.get("complete"):
            await self.assemble(row)
        found = await self.call("get_object", Key=self.key(row))
        loop = asyncio.get_running_loop()
        while part := await loop.run_in_executor(None, found["Body"].read, PIECE):
            yield part

    async def finish(self, row: Any) -> None:
        if not row.place.get("complete"):
            await self.assemble(row)

    async def assemble(self, row: Any) -> None:
        """Parts, and the tail as the last of them, become the object. May be done again."""
        place = row.place
        parts = [{"PartNumber": number, "ETag": tag} for number, tag, _ in place["parts"]]
        try:
            if tail := place.get("tail"):
                made = await self.part(row, place["next"], await self.whole(tail[0]))
                parts.append({"PartNumber": place["next"], "ETag": made})
            if not parts:
                await self.call("put_object", Key=self.key(row), Body=b"", ContentType=row.kind[:256])
                await self.abort(row)
            else:
                await self.call(
                    "complete_multipart_upload", Key=self.key(row), UploadId=place["upload"], MultipartUpload={"Parts": parts}
                )
        except FairleadError as error:
            if error.status != 404 or not await self.there(row):  # else it was done before
                raise
        place["complete"] = True
        if tail := place.get("tail"):
            with suppress(FairleadError):
                await self.call("delete_object", Key=tail[0])

    async def there(self, row: Any) -> bool:
        """The finished object exists."""
        try:
            found = await self.call("head_object", Key=self.key(row))
        except FairleadError:
            return False
        return bool(found["ContentLength"] == offset_of(row))

    async def part(self, row: Any, number: int, data: bytes) -> str:
        """Upload one part; its tag."""
        made = await self.call("upload_part", Key=self.key(row), UploadId=row.place["upload"], PartNumber=number, Body=data)
        return str(made["ETag"])

    async def abort(self, row: Any) -> None:
        """End the multipart upload."""
        with suppress(FairleadError):
            await self.call("abort_multipart_upload", Key=self.key(row), UploadId=row.place["upload"])

    async def remove(self, row: Any) -> None:
        await self.abort(row)
        for key in ((row.place.get("tail") or [""])[0], self.key(row)):
            if key:
                with suppress(FairleadError):
                    await self.call("delete_object", Key=key)

    def where(self, row: Any) -> dict[str, str]:
        return {"bucket": self.bucket, "key": self.key(row)}


@cache
def client_of(endpoint: str, region: str) -> Any:
    """A client, which threads may share; making one takes a tenth of a second. AppError."""
    try:
        from botocore.config import Config
        from botocore.session import Session
    except ImportError:
        raise AppError("uploads to S3 need botocore", hint="pip install 'fairlead[s3]'") from None
    config = Config(
        connect_timeout=5, read_timeout=60, retries={"max_attempts": 4, "mode": "standard"}, max_pool_connections=40,
        request_checksum_calculation="when_required", response_checksum_validation="when_required",
    )  # fmt: skip
    region = region or ("us-east-1" if endpoint else "")
    return Session().create_client("s3", region_name=region or None, endpoint_url=endpoint or None, config=config)


def offset_of(row: Any) -> int:
    """What counts."""
    return sum([part[2] for part in row.place["parts"]]) + (row.place["tail"][1] if row.place.get("tail") else 0)


def refusal(code: str, error: Exception) -> FairleadError:
    """What a client is told about a storage that would not."""
    if code in ("NoSuchKey", "NoSuchUpload", "404", "NotFound", "NoSuchBucket"):
        return gone()
    if code in ("QuotaExceeded", "XMinioStorageFull", "EntityTooLarge"):
        return Refused("there is no room for more of this upload", status=507, retry="always")
    if code in ("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "503", "500"):
        return Refused("the storage is busy", status=503, retry="always", after=5)
    return AppError(f"the storage refused: {error}")


class S3Writer(Writer):
    """See the module. `waiting` is the part on its way."""

    def __init__(self, storage: S3, row: Any) -> None:
        self.storage, self.row = storage, row
        self.buffer: list[bytes] = []
        self.filled = self.offset = 0
        self.waiting: asyncio.Task[None] | None = None
        self.fresh: list[list[Any]] = []  # parts that S3 has and the row does not list
        self.holding = False
        self.before: tuple[list[bytes], int, int] | None = None

    @property
    def wanted(self) -> int:
        """Bytes of the next part."""
        return min(LARGEST, PART << (len(self.row.place["parts"]) // STEPS))

    async def write(self, chunks: Sequence[bytes]) -> None:
        for chunk in chunks:
            self.buffer.append(chunk)
            self.filled += len(chunk)
            self.offset += len(chunk)
        if self.filled >= self.wanted:
            await self.arrived()
            data = b"".join(self.buffer)
            self.buffer, self.filled = [], 0
            number = self.row.place["next"]
            self.row.place["next"] = number + 1
            if number > 10000:
                raise Refused("S3 takes no more than 10,000 parts", status=413)
            await self.saved()  # rule 2, and the parts before
            self.waiting = asyncio.get_running_loop().create_task(self.send(number, data))

    async def send(self, number: int, data: bytes) -> None:
        """One part."""
        tag = await self.storage.part(self.row, number, data)
        self.fresh.append([number, tag, len(data)])

    async def arrived(self) -> None:
        """The part on its way has arrived."""
        if self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            await waiting

    async def saved(self, tail: list[Any] | None = None) -> None:
        """The row, with the parts that have arrived unless they are held. Refused when another has the upload."""
        place = self.row.place
        old = place.get("tail")
        if not self.holding:
            if self.fresh:
                place["parts"] += self.fresh
                self.fresh = []
                place["tail"] = None  # it is in the first of them
            if tail is not None:
                place["tail"] = tail
        assert self.storage.save is not None
        try:
            await self.storage.save(self.row)
        except Conflict:
            raise fenced() from None
        if old and place.get("tail") != old:
            with suppress(FairleadError):
                await self.storage.call("delete_object", Key=old[0])

    async def sync(self) -> int:
        await self.arrived()
        if not self.holding and self.offset != offset_of(self.row):
            tail = None
            if self.filled:
                number = self.row.place["next"]
                self.row.place["next"] = number + 1
                key = f"{self.storage.key(self.row)}.tail-{number}"
                await self.storage.call("put_object", Key=key, Body=b"".join(self.buffer))
                tail = [key, self.filled]
            await self.saved(tail)
        return self.offset

    async def hold(self) -> None:
        await self.sync()
        self.before = list(self.buffer), self.filled, self.offset
        self.holding = True

    async def settle(self, good: bool) -> None:
        await self.arrived()
        self.holding = False
        if good:
            await self.sync()
        elif self.before is not None:
            self.fresh = []
            self.buffer, self.filled, self.offset = self.before

    async def close(self) -> None:
        if self.waiting is not None:
            await asyncio.wait([self.waiting])
            if not self.waiting.cancelled():
                self.waiting.exception()
        self.buffer = []
