"""Uploads on a disk: one directory, unfinished ones below `.uploads`.

    dir/.uploads/<id>         the bytes so far: its length is the offset
    dir/.uploads/<id>.fence   who may write (40 bytes, see FENCE), changed under flock only
    dir/<id>                  a finished upload          dir/<id>.json   what is known about it

Rules
1. Every batch is written under flock on the fence file, after a look whether its fence is still ours; the kernel lets the lock
   go when a process dies. So a claim by any process stops every other writer between two batches, and no message is needed for
   it.
2. `synced` in the fence file is an offset that fdatasync has returned for. After a restart of the machine (another boot id) what
   is beyond was never promised and may be garbage: the claim cuts it off. After the death of a process only, the page cache has
   it all.
3. `upto` is the offset of `hold`, or -1: the claim cuts off what is beyond.
4. All of it happens in the bounded pool of threads (the loop's default executor); the loop never waits for the disk. Write-back
   is begun every SYNC bytes in a second thread, so that the last sync does not have it all to do.
5. Finished files appear by rename: whole or not at all.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fairlead.core.errors import AppError, FairleadError, Refused
from fairlead.serve.uploadstorage import Storage, Writer, fenced, gone

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

FENCE = struct.Struct("<QQq16s")  # fence, synced, upto, boot
GONE = 1 << 63  # a fence that nobody has
SYNC = 64 << 20  # bytes between two write-backs
PIECE = 1 << 20
HIDDEN = ".uploads"
DATASYNC = getattr(os, "fdatasync", os.fsync)


def boot_id() -> bytes:
    """This start of the machine; zeros where it cannot be known."""
    with suppress(OSError, ValueError):
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().replace("-", "").strip())
    return bytes(16)


def refusal(error: OSError) -> FairleadError:
    """What a client is told about a disk that would not."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Refused("there is no room for more of this upload", status=507, retry="always", hint="it can be resumed later")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Refused("too many files are open", status=503, after=1)
    if error.errno == errno.ENOENT:
        return gone()
    return AppError(f"the upload cannot be written: {os.strerror(error.errno or 0)}")


async def threaded(function: Callable[..., Any], *args: Any) -> Any:
    """In the pool. It is finished even when we are cancelled: a file must not be closed while a thread writes to it."""
    try:
        future = asyncio.get_running_loop().run_in_executor(None, function, *args)
    except RuntimeError:  # the pool is closed
        raise Refused("the server is stopping", status=503, retry="always", after=1) from None
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
    except OSError as error:
        raise refusal(error) from None


@contextmanager
def locked(fd: int) -> Iterator[None]:
    """flock, exclusive."""
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)


class Disk(Storage):
    """A directory."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).absolute()
        self.hidden = self.path / HIDDEN
        self.boot = boot_id()

    async def start(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.hidden.mkdir(mode=0o700, exist_ok=True)
            if not os.access(self.hidden, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise AppError(
                f"uploads cannot be kept in {self.path}: {error.strerror}", hint="`upload.dir` must be a directory we may write to"
            ) from None

    def fence(self, name: str) -> Path:
        """The file of who may write."""
        return self.hidden / f"{name}.fence"

    async def begin(self, row: Any) -> None:
        await threaded(self.make, row.id)

    def make(self, name: str) -> None:
        """Both files, durably."""
        for path, data in ((self.hidden / name, b""), (self.fence(name), FENCE.pack(0, 0, -1, self.boot))):
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640)
            try:
                os.write(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
        sync_folder(self.hidden)

    async def claim(self, row: Any) -> DiskWriter:
        writer = DiskWriter(self)
        try:
            await threaded(writer.open, row.id)
        except BaseException:
            await writer.close()
            raise
        return writer

    async def size(self, row: Any) -> int:
        path = self.path / row.id if row.finished else self.hidden / row.id
        return int((await threaded(os.stat, path)).st_size)

    async def read(self, row: Any) -> AsyncIterator[bytes]:
        path = self.path / row.id if (self.path / row.id).exists() else self.hidden / row.id
        fd = await threaded(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
        at = 0
        try:
            while part := await threaded(os.pread, fd, PIECE, at):
                at += len(part)
                yield part
        finally:
            os.close(fd)

    async def finish(self, row: Any) -> None:
        await threaded(self.move, row.id, json.dumps(row.known(), ensure_ascii=True, indent=1).encode() + b"\n")

    def move(self, name: str, known: bytes) -> None:
        """Rule 5; what was done already stays done."""
        self.stop(name)
        side = self.hidden / f"{name}.json"
        with suppress(FileNotFoundError):
            side.write_bytes(known)
            os.replace(side, self.path / f"{name}.json")
            os.replace(self.hidden / name, self.path / name)
        if not (self.path / name).exists():
            raise gone()
        sync_folder(self.path)
        with suppress(FileNotFoundError):
            self.fence(name).unlink()

    def stop(self, name: str) -> None:
        """Nobody writes any more."""
        with suppress(FileNotFoundError):
            fd = os.open(self.fence(name), os.O_RDWR | os.O_CLOEXEC)
            try:
                with locked(fd):
                    os.pwrite(fd, GONE.to_bytes(8, "little"), 0)
            finally:
                os.close(fd)

    async def remove(self, row: Any) -> None:
        await threaded(self.unlink, row.id)

    def unlink(self, name: str) -> None:
        """All of its files."""
        self.stop(name)
        for path in (self.hidden / name, self.fence(name), self.path / name, self.path / f"{name}.json"):
            path.unlink(missing_ok=True)

    def where(self, row: Any) -> dict[str, str]:
        return {"path": str(self.path / row.id)}

    async def orphans(self, before: float) -> list[str]:
        return await threaded(self.stale, before)  # type: ignore[no-any-return]

    def stale(self, before: float) -> list[str]:
        """Unfinished files that were not written to since."""
        found = []
        for entry in os.scandir(self.hidden):
            with suppress(OSError):
                if entry.stat().st_mtime < before:
                    found.append(entry.name.partition(".")[0])
        return sorted(set(found))

    async def discard(self, name: str) -> None:
        await threaded(self.drop, name)

    def drop(self, name: str) -> None:
        """The unfinished files only: a finished one of an old record is somebody's."""
        self.stop(name)
        for path in (self.hidden / name, self.fence(name), self.hidden / f"{name}.json"):
            path.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make names durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def behind(chunks: list[bytes], count: int) -> list[bytes]:
    """What is left of chunks after so many bytes."""
    for number, chunk in enumerate(chunks):
        if count < len(chunk):
            return [chunk[count:], *chunks[number + 1 :]]
        count -= len(chunk)
    return []


class DiskWriter(Writer):
    """See the module. `syncing` is the write-back under way."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.fd = self.lock = -1
        self.offset = self.synced = self.held = 0
        self.mine = 0
        self.syncing: asyncio.Future[Any] | None = None

    def open(self, name: str) -> None:
        """Claim: rules 1 to 3. In a thread."""
        self.lock = os.open(self.disk.fence(name), os.O_RDWR | os.O_CLOEXEC)
        with locked(self.lock):
            found, synced, upto, boot = FENCE.unpack(os.pread(self.lock, FENCE.size, 0))
            if found >= GONE:
                raise gone()
            self.fd = os.open(self.disk.hidden / name, os.O_RDWR | os.O_CLOEXEC)
            size = os.fstat(self.fd).st_size
            cut = min(size, synced if boot != self.disk.boot else size, upto if upto >= 0 else size)
            if cut < size:
                os.ftruncate(self.fd, cut)
            self.mine = found + 1
            os.pwrite(self.lock, FENCE.pack(self.mine, min(synced, cut), -1, self.disk.boot), 0)
        self.offset = cut
        self.synced = min(synced, cut)
        self.flush(cut)

    def check(self) -> None:
        """Under the lock: we may."""
        if int.from_bytes(os.pread(self.lock, 8, 0), "little") != self.mine:
            raise fenced()

    async def write(self, chunks: Sequence[bytes]) -> None:
        await threaded(self.put, chunks)
        if self.offset - self.synced >= SYNC and self.syncing is None:
            self.syncing = asyncio.get_running_loop().run_in_executor(None, self.flush, self.offset)
            self.syncing.add_done_callback(self.wrote_back)

    def wrote_back(self, future: asyncio.Future[Any]) -> None:
        """What went wrong shows again at the next sync."""
        self.syncing = None
        if not future.cancelled():
            future.exception()

    def put(self, chunks: Sequence[bytes]) -> None:
        """One batch. In a thread."""
        left = list(chunks)
        while left:
            done = _fast.write_fenced(self.lock, self.mine, self.fd, self.offset, left)
            if done < 0:
                raise fenced()
            self.offset += done
            left = behind(left, done)  # something only when the disk took a part: the next try says why

    def flush(self, upto: int) -> None:
        """fdatasync, and the note of it. In a thread."""
        DATASYNC(self.fd)
        with locked(self.lock):
            self.check()
            if upto > self.synced:
                os.pwrite(self.lock, upto.to_bytes(8, "little"), 8)
                self.synced = upto

    async def sync(self) -> int:
        if self.syncing is not None:
            await asyncio.wait([self.syncing])
        if self.synced < self.offset:
            await threaded(self.flush, self.offset)
        return self.offset

    async def hold(self) -> None:
        self.held = self.offset
        await threaded(self.note, self.held)

    async def settle(self, good: bool) -> None:
        if good:
            await self.sync()
        await threaded(self.note, -1, None if good else self.held)

    def note(self, upto: int, cut: int | None = None) -> None:
        """Write `upto`; maybe cut first."""
        with locked(self.lock):
            self.check()
            if cut is not None:
                os.ftruncate(self.fd, cut)
                self.offset = cut
                self.synced = min(self.synced, cut)
                os.pwrite(self.lock, self.synced.to_bytes(8, "little"), 8)
            os.pwrite(self.lock, upto.to_bytes(8, "little", signed=True), 16)

    async def close(self) -> None:
        if self.syncing is not None:
            await asyncio.wait([self.syncing])
        for fd in (self.fd, self.lock):
            if fd >= 0:
                os.close(fd)
        self.fd = self.lock = -1
