"""What ASGI's published extensions need beside a plain answer: a file as a body, and what TLS knows of the client.

Rules
1. A file leaves as body bytes of the answer, piece by piece as the client takes them, so framing, limits and the journey
   are those of any body. It is opened before the head goes out: an application can still answer 404. Where the kernel can send
   it by itself (serve/opened), it does.
2. `http.response.pathsend` is the whole body. `http.response.zerocopysend` is a part of one: `offset` and `count` are
   optional, `more_body` says whether more follows; without `offset` the file's own position is used, and moved.
3. Pieces beyond the first are read in a thread, because a disk may be slow.
4. `tls` is made once per connection, for it does not change: see the ASGI TLS extension for the six keys.
"""

from __future__ import annotations

import os
import ssl
from typing import Any

from fairlead.core.errors import AppError
from fairlead.serve.datagrams import attach as attach
from fairlead.serve.opened import Opened

PIECE = 256 * 1024
MOST = 1024 * 1024  # of a file, said at once
VERSIONS = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


async def send_path(cycle: Any, path: Any) -> None:
    """`http.response.pathsend`: the file at an absolute path, whole, as the body."""
    if not isinstance(path, str) or not os.path.isabs(path):
        raise AppError(f"the app sent the path {path!r}"[:200], hint="http.response.pathsend takes an absolute path")
    file = Opened(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    size = os.fstat(file.fd).st_size
    cycle.promise(size)
    await send_part(cycle, file, file.fd, 0, size, False)


async def send_zero_copy(cycle: Any, message: dict[str, Any]) -> None:
    """`http.response.zerocopysend`: a part of an open file."""
    file: Any = message.get("file")
    if not hasattr(file, "fileno"):
        raise AppError("the app sent http.response.zerocopysend without a file", hint='"file" is an open file')
    fd = file.fileno()
    offset = message.get("offset")
    start = offset if offset is not None else os.lseek(fd, 0, os.SEEK_CUR)
    count = message.get("count")
    if count is None:
        count = max(0, os.fstat(fd).st_size - start)
    if type(start) is not int or type(count) is not int or start < 0 or count < 0:
        raise AppError("the app sent a bad offset or count", hint="both are numbers of bytes that are not negative")
    if offset is None:
        os.lseek(fd, start + count, os.SEEK_SET)
    own = Opened(os.dup(fd))  # the application may close its file while the kernel still sends
    await send_part(cycle, own, own.fd, start, count, bool(message.get("more_body", False)))


async def send_part(cycle: Any, file: Any, fd: int, offset: int, count: int, more: bool) -> None:
    """Say `count` bytes of a file from `offset` as body bytes. `file` owns the descriptor."""
    loop = cycle.app.loop
    first = True
    while count > MOST and await cycle.file(file, fd, offset, MOST, True):
        offset += MOST
        count -= MOST
    if count and await cycle.file(file, fd, offset, count, more):
        return
    while True:
        size = min(PIECE, count)
        if cycle.wants_no_body():
            size = count = 0
        if first or not size:
            data = os.pread(fd, size, offset)
        else:
            data = await loop.run_in_executor(None, os.pread, fd, size, offset)
        if len(data) < size and not data:
            raise AppError(f"a file ended {count} bytes before its answer", hint="do not change a file while it is sent")
        first = False
        offset += len(data)
        count -= len(data)
        await cycle.send({"type": "http.response.body", "body": data, "more_body": more or count > 0})
        if count <= 0:
            return


def tls_extension(engine: Any) -> dict[str, Any]:
    """The ASGI TLS extension of a connection: certificates in PEM, numbers as IANA assigns them; None for unknown."""
    der = engine.peer_cert
    return {
        "server_cert": None,
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(der)] if der else [],
        "client_cert_name": subject_of(der) if der else None,
        "client_cert_error": None,
        "tls_version": VERSIONS.get(engine.version),
        "cipher_suite": suite_number(engine.cipher),
    }


def subject_of(der: bytes) -> str | None:
    """The subject's name as RFC 4514 writes it; None without the `cryptography` package."""
    try:
        from cryptography import x509
    except ImportError:
        return None
    return x509.load_der_x509_certificate(der).subject.rfc4514_string()


_suites: dict[str, int] = {}


def suite_number(name: str) -> int | None:
    """IANA's number of a cipher suite that OpenSSL names."""
    if not _suites:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_ciphers("ALL:@SECLEVEL=0")
        _suites.update({str(one["name"]): int(one["id"]) & 0xFFFF for one in context.get_ciphers()})  # type: ignore
    return _suites.get(name)


def as_bytes(body: Any) -> bytes:
    """A body that is not bytes: other buffers are copied, None is empty, text is refused."""
    if body is None:
        return b""
    if isinstance(body, (bytearray, memoryview, bytes)):
        return bytes(body)
    raise AppError(f"the app sent a body of type {type(body).__name__}", hint="encode text first; a body is bytes")


def whole_number(status: Any) -> int:
    """An integer that is not exactly an int (an HTTPStatus); a clear error for everything else."""
    if isinstance(status, int):
        return int(status)
    raise AppError(f"the app sent status {status!r}"[:100], hint="it is a number, as in 200")
