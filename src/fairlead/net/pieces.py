"""What a carrier sends at once: a batch of plaintext for TLS, or some of a file that the kernel sends by itself; and what
the kernel says of it.

Rules
1. Small chunks of plaintext are joined up to a record (RFC 8446 section 5.1), large ones cut: no more is encrypted at once than
   the socket is likely to take.
2. A file goes by sendfile(2). One that cannot (a file system without it) is read here, piece by piece. A file that ends before
   its promise is an error: what was said of it can not be kept.
"""

from __future__ import annotations

import errno
import os

from fairlead.core.errors import AppError
from fairlead.core.handler import error_response

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

RECORD = 16384  # TLS plaintext per record
BATCH = 65536  # plaintext encrypted at once
MOST = 1 << 20  # bytes of a file in one call, so that one fast reader does not hold the loop
UNABLE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EOVERFLOW)


def next_batch(plain):
    """Take the next batch off a list of chunks."""
    first = plain[0]
    if len(first) > BATCH:
        plain[0] = first[BATCH:]
        return first[:BATCH]
    if len(plain) == 1:
        plain.clear()
        return first
    size = taken = 0
    for chunk in plain:
        if taken and size + len(chunk) > RECORD:
            break
        size += len(chunk)
        taken += 1
    batch = b"".join(plain[:taken])
    del plain[:taken]
    return batch


def send_some(fd, region):
    """Bytes of the region that the kernel took (they are counted off), -1 when it takes none now. Raises OSError, AppError."""
    try:
        sent = _fast.sendfile(fd, region.fd, region.at, min(region.left, MOST))
    except OSError as error:
        if error.errno not in UNABLE:
            raise
        data = os.pread(region.fd, min(region.left, BATCH), region.at)
        sent = _fast.send(fd, data, 0) if data else 0
    if sent == 0:
        raise AppError("a file became shorter while it was sent", hint="put new files in place by renaming")
    if sent > 0:
        region.at += sent
        region.left -= sent
    return sent


def drop(out, sent):
    """Take the chunks that are whole among `sent` bytes off a list; how many bytes of the next one are among them."""
    gone = 0
    for chunk in out:
        if sent < len(chunk):
            break
        sent -= len(chunk)
        gone += 1
    del out[:gone]
    return sent


def said_by_kernel(fd, before):
    """(What to give as `before` next time, what Journey.net is) of a TCP socket; None of another. About 2.5 us."""
    info = _fast.tcp_info(fd)
    if info is None:
        return None
    left = max(_fast.unacked(fd), 0)
    return (info[7], info[8], info[9]), (info[7] - before[0], info[8] - before[1], info[4], left, info[9] - before[2])


def whole_answer(error):
    """An error as a whole HTTP/1.1 answer, for a connection on which no codec has begun."""
    response, body = error_response(error)
    head = b"HTTP/1.1 400 Bad Request\r\n" + b"".join([b"%b: %b\r\n" % field for field in response.headers])
    return head + b"connection: close\r\n\r\n" + body
