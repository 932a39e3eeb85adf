"""What a carrier sends at once: a batch of plaintext for TLS, or some of a file that the kernel sends by itself.

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
