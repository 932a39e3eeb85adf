"""Content codings (RFC 9110 section 8.4.1): which one a client takes, and the libraries behind them.

gzip and deflate are the standard library's; br is the package `brotli` (1.2 or newer: it can stop a bomb), zstd the
standard library's from 3.14 on and `backports.zstd` before. What is not installed is not offered.

An encoder has `feed(data, end) -> bytes` and gives out with every call all that it has, so streams do not stall. A decoder
has `feed(data, most) -> bytes`, at most about `most` bytes a call, `feed(b"", most)` for the rest, and `over`.
"""

from __future__ import annotations

import zlib
from functools import cache
from importlib import import_module

STEP = 4096  # bytes of input that a decoder of gzip is given at once
MEMBERS = 100  # gzip members of one body, and one more for each DENSE bytes; bgzip makes one of some 20 KB
DENSE = 512
LEVELS = {"gzip": 5, "br": 4, "zstd": 3}


@cache
def library(name):
    """The module behind a coding, or None when it is not installed."""
    for module in {"br": ("brotli",), "zstd": ("compression.zstd", "backports.zstd")}[name]:
        try:
            return import_module(module)
        except ImportError:
            continue
    return None


def available(names):
    """Those of the codings that can be used here, in the same order."""
    return tuple([name for name in names if name in ("gzip", "deflate") or library(name) is not None])


def accepted(value, offered):
    """The first of `offered` (names, best first) with the highest weight in an Accept-Encoding value; "" for none."""
    weights = {}
    for part in value.lower().split(b","):
        name, _, rest = part.partition(b";")
        weights[name.strip().decode("latin-1")] = weight(rest)
    best, found = 0.0, ""
    for name in offered:
        q = weights.get(name, weights.get("*", 0.0))
        if q > best:
            best, found = q, name
    return found


def weight(parameters):
    """The q of a member, 0 when it is not a number between 0 and 1."""
    for parameter in parameters.split(b";"):
        key, _, value = parameter.partition(b"=")
        if key.strip() == b"q":
            try:
                q = float(value)
            except ValueError:
                return 0.0
            return q if 0.0 <= q <= 1.0 else 0.0
    return 1.0


class Gzip:
    """An encoder of gzip (RFC 1952)."""

    def __init__(self, level):
        self.coder = zlib.compressobj(level, zlib.DEFLATED, 31)

    def feed(self, data, end):
        return self.coder.compress(data) + self.coder.flush(zlib.Z_FINISH if end else zlib.Z_SYNC_FLUSH)


class Brotli:
    """An encoder of br (RFC 7932)."""

    def __init__(self, level):
        self.coder = library("br").Compressor(quality=level)

    def feed(self, data, end):
        return self.coder.process(data) + (self.coder.finish() if end else self.coder.flush())


class Zstd:
    """An encoder of zstd (RFC 8878); its window is one that every client must take (RFC 9659)."""

    def __init__(self, level):
        module = library("zstd")
        self.coder = module.ZstdCompressor(level=level)
        self.block, self.frame = self.coder.FLUSH_BLOCK, self.coder.FLUSH_FRAME

    def feed(self, data, end):
        return self.coder.compress(data, self.frame if end else self.block)


ENCODERS = {"gzip": Gzip, "br": Brotli, "zstd": Zstd}


def encoder(name, level=0):
    """A new encoder; `level` 0 is the default, chosen for answers made while somebody waits."""
    return ENCODERS[name](level or LEVELS[name])


class Inflate:
    """A decoder of gzip, or of deflate with its zlib wrapper as RFC 9110 wants it.

    Several gzip members follow each other. Each costs a new decoder, so that a body of nothing but members is refused, and input
    is given in small steps, because zlib copies what stands behind a member's end.
    """

    def __init__(self, name):
        self.bits = 31 if name == "gzip" else 15
        self.coder = zlib.decompressobj(self.bits)
        self.left = b""
        self.at = self.came = self.members = 0
        self.over = False

    def feed(self, data, most):
        if data:
            self.left = self.left[self.at :] + data
            self.at = 0
            self.came += len(data)
        out = b""
        while not out:
            if self.coder.eof:
                if self.at == len(self.left):
                    break
                self.another()
            piece = self.coder.unconsumed_tail
            if not piece:
                piece = self.left[self.at : self.at + STEP]
                self.at += len(piece)
            out = self.coder.decompress(piece, most)
            if self.coder.eof:
                self.at -= len(self.coder.unused_data)
            elif not piece:
                break
        self.over = self.coder.eof and self.at == len(self.left)
        return out

    def another(self):
        """The next member of a gzip body begins."""
        self.members += 1
        if self.bits != 31:
            raise ValueError("bytes after the end of the stream")
        if self.members > MEMBERS + self.came // DENSE:
            raise ValueError("it has too many members for its size")
        self.coder = zlib.decompressobj(self.bits)


class Unbrotli:
    """A decoder of br."""

    def __init__(self, name):
        self.coder = library("br").Decompressor()
        self.over = False
        self.left = b""

    def feed(self, data, most):
        if not self.coder.can_accept_more_data():
            self.left += data
            data = b""
        else:
            data, self.left = self.left + data, b""
        out = self.coder.process(data, output_buffer_limit=most)
        self.over = self.coder.is_finished()
        return out


class Unzstd:
    """A decoder of zstd."""

    def __init__(self, name):
        self.module = library("zstd")
        self.coder = self.module.ZstdDecompressor()
        self.over = False
        self.left = b""

    def feed(self, data, most):
        if self.over:
            if data or self.left:
                raise ValueError("bytes after the end of the stream")
            return b""
        out = self.coder.decompress(data, most)
        self.over = self.coder.eof
        self.left = self.coder.unused_data if self.over else b""
        if self.left:
            raise ValueError("bytes after the end of the stream")
        return out


DECODERS = {"gzip": Inflate, "x-gzip": Inflate, "deflate": Inflate, "br": Unbrotli, "zstd": Unzstd}


def decoder(name):
    """A new decoder; raises KeyError for a coding that is unknown or not installed."""
    if name in ("br", "zstd") and library(name) is None:
        raise KeyError(name)
    return DECODERS[name]("gzip" if name == "x-gzip" else name)
