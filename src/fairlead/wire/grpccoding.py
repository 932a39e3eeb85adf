"""Compression of gRPC messages: gzip, deflate (which means zlib, RFC 1950) and zstd, each message by itself.

Rules ("gRPC compression", compression.md)
1. A message may be compressed only when the call has said how (grpc-encoding). One that is, in a call that is not, breaks the
   protocol: INTERNAL. An encoding that we do not have is UNIMPLEMENTED, and the answer lists those that we have.
2. Inflating stops at the limit of one message, whatever the compressed size says: a bomb costs no more than a message.
3. We compress for a client that listed the encoding in grpc-accept-encoding, else not.
zstd is there when Python has it (3.14), or the package backports.zstd is installed (the extra `zstd`).
"""

from __future__ import annotations

import zlib
from typing import Any

from fairlead.core.errors import WireError
from fairlead.wire.grpc import too_long

zstd: Any = None
try:
    from compression import zstd  # type: ignore
except ImportError:
    try:
        from backports import zstd  # type: ignore
    except ImportError:
        pass

NAMES = ("identity", "gzip", "deflate") + (("zstd",) if zstd is not None else ())
ACCEPTED = ", ".join(NAMES).encode()
WINDOW = {"gzip": 31, "deflate": 15}
BROKEN = (zlib.error, EOFError) if zstd is None else (zlib.error, EOFError, zstd.ZstdError)
GROWTH = 1 << 20  # bytes asked for beyond what is there, so that `most` is no allocation


def inflate(name, data, most):
    """The message. Raises WireError when it is longer than `most` (0: no limit) or no such data."""
    if name == "identity":
        raise WireError(
            "a message is compressed, and grpc-encoding does not say how", rule="grpc-coding", hint="say grpc-encoding"
        )
    made = zstd.ZstdDecompressor() if name == "zstd" else zlib.decompressobj(WINDOW[name])
    try:
        return inflate_by(made, data, most)
    except BROKEN as error:
        raise WireError(f"a message is no {name} data: {error}", rule="grpc-coding") from None


def inflate_by(made, data, most):
    """Inflate by an object, in steps, until the end."""
    found = []
    size = 0
    while not made.eof:
        room = most - size + 1 if most else GROWTH
        piece = made.decompress(data, min(room, GROWTH))
        data = getattr(made, "unconsumed_tail", b"")
        size += len(piece)
        if most and size > most:
            raise too_long(size, most)
        if not piece and not made.eof:
            raise EOFError("it is cut short")
        found.append(piece)
    if made.unused_data:
        raise EOFError("there is something behind it")
    return b"".join(found)


def deflate(name, data):
    """A message compressed."""
    if name == "zstd":
        return zstd.compress(data)
    made = zlib.compressobj(6, zlib.DEFLATED, WINDOW[name])
    return made.compress(data) + made.flush()


def choose(wanted, accepted):
    """`wanted`, if a grpc-accept-encoding value (bytes or None) lists it; else "identity"."""
    if wanted == "identity" or accepted is None:
        return "identity"
    return wanted if wanted.encode() in [one.strip() for one in accepted.split(b",")] else "identity"
