"""Files of a directory: `GET` and `HEAD` with validators, ranges and precompressed twins. RFC 9110 sections 13, 14.

Rules
1. What is opened stays inside the directory: `serve/beneath` sees to it. A name that is not there, hidden, or no file is 404;
   one we may not read is 403; a directory without its closing slash is redirected to it, so that relative links work.
2. The tag is made of time and size, and of the coding for a precompressed twin: the same in every worker and after a restart.
3. Over HTTP/1.1 without TLS the kernel sends what is in the page cache by itself (serve/opened). Elsewhere it is read from there
   without waiting (preadv2 with RWF_NOWAIT); what is not there is read in a thread, so a slow disk never stops the loop. The
   next piece is sent or read when the client has taken the one before.
4. Small files that are asked for again are kept, at most KEEP bytes in all; whether they changed is looked at once a second, as
   nginx's open_file_cache does; the ones that the kernel sends stay open, and are compared at each request. A file that gets
   shorter while it is sent cuts the connection: a half file must not look whole.
5. A directory without an index is 404, or listed when `listing`. `fallback` answers for what is not there (single-page apps).
"""

from __future__ import annotations

import errno
import mimetypes
import os
import stat
from collections import OrderedDict
from html import escape
from typing import Any
from urllib.parse import quote

from fairlead.core.errors import AppError, Refused
from fairlead.core.exchange import Answer
from fairlead.core.handler import Handler
from fairlead.core.message import Response
from fairlead.core.region import NOT_POSSIBLE, WAIT
from fairlead.serve.beneath import MOST_LISTED, Directory, segments
from fairlead.serve.conditions import decide, http_date, ranges, wants_range
from fairlead.serve.filters.coding import accepted
from fairlead.serve.opened import LEAST, Opened, send_region

PIECE = 256 * 1024
SMALL = 256 * 1024  # files up to this size are kept
KEEP = 32 << 20  # bytes of files kept, per route and worker
KEEP_OPEN = 128  # files kept open, per route and worker
LOOK_EVERY = 1_000_000_000  # ns
SUFFIXES = {"br": b".br", "zstd": b".zst", "gzip": b".gz"}
NOWAIT = getattr(os, "RWF_NOWAIT", 0)
BOUNDARY = "fairlead-6f0d1b8a2c"
TYPES = {
    ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".html": "text/html", ".htm": "text/html",
    ".json": "application/json", ".map": "application/json", ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm", ".svg": "image/svg+xml", ".webp": "image/webp", ".avif": "image/avif",
    ".ico": "image/x-icon", ".woff2": "font/woff2", ".woff": "font/woff", ".ttf": "font/ttf", ".txt": "text/plain",
    ".md": "text/markdown", ".xml": "application/xml", ".pdf": "application/pdf", ".mp4": "video/mp4",
    ".webm": "video/webm", ".mp3": "audio/mpeg", ".csv": "text/csv", ".yaml": "application/yaml",
}  # fmt: skip


def type_of(name):
    """The media type of a file by its name, as bytes; text is said to be UTF-8."""
    extension = os.path.splitext(name)[1].lower()
    found = TYPES.get(extension) or mimetypes.types_map.get(extension) or "application/octet-stream"
    text = found.startswith("text/") or found in ("application/json", "application/xml", "application/manifest+json")
    return (found + ("; charset=utf-8" if text else "")).encode()


class File:
    """One version of a file: what its answers say of it. `data`: its bytes when it is kept; `opened`: the file, kept open."""

    def __init__(self, name, found, coding=""):
        self.size = found.st_size
        self.modified = int(found.st_mtime)
        self.stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        self.coding = coding
        self.etag = b'"%x-%x%b"' % (found.st_mtime_ns, found.st_size, b"-" + coding.encode() if coding else b"")
        self.date = http_date(self.modified)
        self.kind = type_of(name)
        self.looked = 0
        self.data = None
        self.opened: Any = None

    def same(self):
        """Is the open file still what its bytes were read from?"""
        found = os.fstat(self.opened.fd)
        return (found.st_mtime_ns, found.st_size, found.st_ino) == self.stamp


class Files(Handler):
    """`Files(path, ...)`: see the module; the options are those of a `files` route. `strip`: path prefix of the route."""

    def __init__(
        self, path, loop, *, strip="", index=("index.html",), listing=False, fallback="", hidden=False, links=False,
        precompressed=False, cache_control="",
    ):  # fmt: skip
        self.directory = Directory(path, links)
        self.loop = loop
        self.strip = strip.rstrip("/").encode()
        self.index = [name.encode() for name in index]
        self.listing = listing
        self.fallback = segments(fallback.encode(), True) if fallback else None
        self.hidden = hidden
        self.precompressed = precompressed
        self.cache_control = cache_control.encode()
        self.kept = OrderedDict()
        self.kept_bytes = self.kept_open = 0

    def open(self, exchange):
        request = exchange.request
        if request.method not in ("GET", "HEAD"):
            refuse(exchange)
            return
        raw = request.raw_path
        if self.strip and raw.startswith(self.strip):
            raw = raw[len(self.strip) :]
        parts = segments(raw, self.hidden)
        if parts is None:
            raise Refused("there is no such file", status=404)
        try:
            self.answer(exchange, parts, raw.endswith(b"/") or not raw)
        except OSError as error:
            self.missing(exchange, error)

    def missing(self, exchange, error):
        """Nothing there that may be read."""
        if error.errno in (errno.EACCES, errno.EPERM):
            raise Refused("this file may not be read", status=403) from None
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise Refused("too many files are open", status=503, after=1) from None
        if self.fallback is not None:
            try:
                self.answer(exchange, self.fallback, False)
                return
            except OSError:
                pass
        raise Refused("there is no such file", status=404) from None

    def answer(self, exchange, parts, slash):
        """Answer with the file or directory of this name; raises OSError when there is none."""
        if self.precompressed and parts and not slash:
            value = exchange.request.get(b"accept-encoding")
            for coding in self.wanted(value) if value is not None else ():
                try:
                    self.file(exchange, [*parts[:-1], parts[-1] + SUFFIXES[coding]], parts[-1], coding)
                    return
                except OSError:
                    continue
        self.file(exchange, parts, parts[-1] if parts else b"", "", slash)

    def wanted(self, value):
        """The codings a client takes, best first."""
        left = list(SUFFIXES)
        while left and (name := accepted(value, left)):
            yield name
            left.remove(name)

    def named(self, exchange, parts, extra):
        """Answer with a file that the application named; `extra` are its own fields. Raises OSError."""
        if not any([name == b"content-type" for name, _ in extra]):
            extra.append((b"content-type", type_of(os.fsdecode(parts[-1]))))
        self.file(exchange, parts, parts[-1], "", extra=extra)

    def file(self, exchange, parts, name, coding, slash=False, extra=None):
        """Answer with one opened name."""
        now = exchange.conn.clock.now()
        key = (coding, b"/".join(parts))  # a twin asked for by its own name is another answer
        known = self.kept.get(key)
        if (
            known is not None
            and now - known.looked < LOOK_EVERY
            and not slash
            and (known.opened is None or known.same())
        ):
            serve(exchange, self, known, -1, extra)
            return
        fd, found = self.directory.open(parts)
        try:
            if stat.S_ISDIR(found.st_mode):
                if extra is not None:
                    raise OSError(errno.EISDIR, "it is a directory")
                self.folder(exchange, parts, fd, slash)
                return
            if slash:
                raise OSError(errno.ENOTDIR, "a file has no closing slash")
            if known is None or known.stamp != (found.st_mtime_ns, found.st_size, found.st_ino):
                known = File(os.fsdecode(name), found, coding)
                if known.size <= SMALL:
                    self.keep(key, known, fd)
            known.looked = now
            fd = serve(exchange, self, known, fd, extra)
        finally:
            if fd >= 0:
                os.close(fd)

    def keep(self, key, file, fd):
        """Keep a small file's bytes, if they can be had at once."""
        data = read_now(fd, file.size, 0)
        if data is None or len(data) != file.size:
            return
        file.data = data
        if key in self.kept:
            self.drop(self.kept.pop(key))
        if file.size >= LEAST and self.kept_open < KEEP_OPEN:
            file.opened = Opened(os.dup(fd))
            self.kept_open += 1
        self.kept_bytes += file.size
        self.kept[key] = file
        while self.kept_bytes > KEEP:
            self.drop(self.kept.popitem(last=False)[1])

    def drop(self, file):
        """A file is kept no longer; an answer under way may still send it."""
        self.kept_bytes -= file.size
        if file.opened is not None:
            self.kept_open -= 1

    def folder(self, exchange, parts, fd, slash):
        """A directory: its index, a redirect to its closing slash, a list, or nothing."""
        request = exchange.request
        if not slash:
            location = b"/" + request.raw_path.strip(b"/").rpartition(b"/")[2] + b"/"
            location = b"." + location + (b"?" + request.query if request.query else b"")
            exchange.whole(Response(308, [(b"location", location), (b"content-length", b"0")], 0), b"")
            return
        for name in self.index:
            try:
                self.answer(exchange, [*parts, name], False)
                return
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                    raise
        if not self.listing:
            raise OSError(errno.ENOENT, "no index")
        body = listed(request, self.directory.names(fd, self.hidden), bool(parts))
        headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        headers.append((b"cache-control", b"no-cache"))
        exchange.whole(Response(200, headers, len(body)), b"" if request.method == "HEAD" else body)

    def close(self):
        """The route is gone."""
        self.directory.close()


def refuse(exchange):
    """405 for what changes things."""
    headers = [(b"allow", b"GET, HEAD"), (b"content-length", b"0")]
    exchange.whole(Response(405, headers, 0), b"")


def serve(exchange, files, file, fd, extra=None):
    """Answer with a file, open as `fd` unless its bytes are kept; -1 when the answer took the descriptor over, else `fd`.

    `extra`: header fields in place of ours of the same name (`content-type` and what an application said).
    """
    request = exchange.request
    status = decide(request, file.etag, file.modified)
    headers = list(extra) if extra is not None else [(b"content-type", file.kind)]
    headers += [(b"etag", file.etag), (b"last-modified", file.date), (b"accept-ranges", b"bytes")]
    if files.cache_control and extra is None:
        headers.append((b"cache-control", files.cache_control))
    if file.coding:
        headers.append((b"content-encoding", file.coding.encode()))
    if files.precompressed:
        headers.append((b"vary", b"accept-encoding"))
    if status != 200:
        kept = headers if status == 304 else [(b"content-length", b"0")]
        exchange.whole(Response(status, [pair for pair in kept if pair[0] != b"content-type"], 0), b"")
        return fd
    value = wants_range(request, file.etag, file.modified) if request.method == "GET" else b""
    pieces = ranges(value, file.size) if value else None
    if pieces is None:
        return said(exchange, files, file, fd, 200, headers, [(b"", 0, file.size)], file.size)
    if not pieces:
        headers = [(b"content-range", b"bytes */%d" % file.size), (b"content-length", b"0")]
        exchange.whole(Response(416, headers, 0), b"")
        return fd
    if len(pieces) == 1:
        first, last = pieces[0]
        headers.append((b"content-range", b"bytes %d-%d/%d" % (first, last, file.size)))
        return said(exchange, files, file, fd, 206, headers, [(b"", first, last + 1)], last + 1 - first)
    parts, size = multipart(file, headers, pieces)
    return said(exchange, files, file, fd, 206, headers, parts, size)


def multipart(file, headers, pieces):
    """(parts, size) of multipart/byteranges (RFC 9110 section 14.6); the content type moves into the parts."""
    kind = next((value for name, value in headers if name == b"content-type"), file.kind)
    headers[:] = [pair for pair in headers if pair[0] != b"content-type"]
    headers.append((b"content-type", b"multipart/byteranges; boundary=" + BOUNDARY.encode()))
    parts, size = [], 0
    for first, last in pieces:
        head = (
            f"\r\n--{BOUNDARY}\r\ncontent-type: {kind.decode('latin-1')}\r\n"
            f"content-range: bytes {first}-{last}/{file.size}\r\n\r\n"
        ).encode("latin-1")
        parts.append((head, first, last + 1))
        size += len(head) + last + 1 - first
    closing = f"\r\n--{BOUNDARY}--\r\n".encode()
    parts.append((closing, 0, 0))
    return parts, size + len(closing)


def said(exchange, files, file, fd, status, headers, parts, size):
    """Say the head and start on the body: parts are (bytes before, first, end) of the file. The descriptor, or -1 if taken."""
    headers.append((b"content-length", b"%d" % size))
    response = Response(status, headers, size)
    if exchange.request.method == "HEAD" or not size:
        exchange.whole(response, b"")
        return fd
    if file.opened is not None and len(parts) == 1 and size >= LEAST and exchange.hooks is None:
        _, first, end = parts[0]
        if exchange.conn.carrier.regions:
            exchange.head(response, False)
            if not send_region(exchange, file.opened, file.opened.fd, first, size, True):
                exchange.data(file.data[first:end], True)
            return fd
    if file.data is not None:
        exchange.whole(response, b"".join([before + file.data[first:end] for before, first, end in parts]))
        return fd
    sending = Sending(exchange, files.loop, fd, parts)
    exchange.answer = sending
    exchange.head(response, False)
    sending.go()
    return -1


class Sending(Answer):
    """The body of one answer, read piece by piece as the client takes it. Owns the descriptor."""

    def __init__(self, exchange, loop, fd, parts):
        self.exchange = exchange
        self.loop = loop
        self.fd = fd
        self.file: Any = Opened(fd)
        self.direct = exchange.conn.carrier.regions
        self.parts = parts
        self.part = 0
        self.at = parts[0][1]
        self.fresh = True
        self.waiting = self.going = False

    def go(self):
        """Say pieces until there is no room, a read has to wait, or all is said."""
        if self.waiting or self.going:
            return
        self.going = True
        try:
            while self.fd >= 0 and not self.exchange.over:
                size = min(PIECE, self.parts[self.part][2] - self.at)
                if self.direct and size >= LEAST and (said := self.hand_out(size)) != NOT_POSSIBLE:
                    if said == WAIT:
                        return
                    continue
                data = read_now(self.fd, size, self.at) if size else b""
                if data is None:
                    self.waiting = True
                    self.loop.run_in_executor(None, os.pread, self.fd, size, self.at).add_done_callback(self.came)
                    return
                if not self.say(data, size):
                    return
        finally:
            self.going = False
        self.close()

    def hand_out(self, size):
        """Let the kernel send a piece; as `exchange.region` answers. The last one ends the answer, and lets go of the file."""
        before, _, end = self.parts[self.part]
        if self.fresh and before:
            self.fresh = False
            if not self.exchange.data(before, False):
                return WAIT
        last = self.at + size >= end and self.part + 1 == len(self.parts)
        said = send_region(self.exchange, self.file, self.fd, self.at, size, last)
        if said == NOT_POSSIBLE:
            return said
        self.at += size
        if last:
            self.fd = -1
            self.file = None
        elif self.at >= end:
            self.turn_over()
        return said

    def turn_over(self):
        """On to the next part."""
        self.part += 1
        self.fresh = True
        self.at = self.parts[self.part][1]

    def came(self, future):
        """A read that had to wait is done."""
        self.waiting = False
        if self.exchange.over:
            self.close()
        elif self.say(b"" if future.exception() else future.result(), min(PIECE, self.parts[self.part][2] - self.at)):
            self.go()

    def say(self, data, size):
        """One piece, of `size` bytes at most; False when the client has to take it first, or all is said."""
        exchange = self.exchange
        before, _, end = self.parts[self.part]
        if size and not data:
            self.close()
            exchange.fail(
                AppError("a file became shorter while it was sent", hint="put new files in place by renaming")
            )
            return False
        self.at += len(data)
        if self.fresh:
            data = before + data
            self.fresh = False
        if self.at >= end:
            if self.part + 1 == len(self.parts):
                self.close()
                exchange.data(data, True)
                return False
            self.turn_over()
        return exchange.data(data, False)

    def room(self):
        self.go()

    def reset(self, why, side):
        if side == "both" and not self.waiting:
            self.close()

    def close(self):
        """No more reading."""
        self.fd = -1
        self.file = None  # a region that is being sent holds on to it


def read_now(fd, size, offset):
    """Bytes of a file if they are in memory, None when the disk would have to be waited for."""
    if not NOWAIT:
        return os.pread(fd, size, offset)
    buffer = bytearray(size)
    try:
        got = os.preadv(fd, (buffer,), offset, NOWAIT)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
            return os.pread(fd, size, offset)
        raise
    return bytes(buffer) if got == size else bytes(buffer[:got])


def listed(request, names, above):
    """A page that lists a directory."""
    rows = ['<tr><td><a href="../">../</a></td><td></td><td></td></tr>'] if above else []
    for name, found in names:
        folder = stat.S_ISDIR(found.st_mode)
        shown = name.encode("utf-8", "replace").decode() + ("/" if folder else "")
        link = "./" + quote(os.fsencode(name)) + ("/" if folder else "")
        size = "" if folder else f"{found.st_size:,}"
        date = http_date(int(found.st_mtime)).decode()
        rows.append(f'<tr><td><a href="{link}">{escape(shown)}</a></td><td>{size}</td><td>{date}</td></tr>')
    if len(names) == MOST_LISTED:
        rows.append("<tr><td>and more</td><td></td><td></td></tr>")
    title = escape(request.path)
    style = "body{font:15px system-ui;margin:2em}td{padding:.1em 1.5em .1em 0}td:nth-child(2){text-align:right}"
    return (
        f'<!doctype html><meta charset="utf-8"><title>{title}</title><style>{style}</style>'
        f"<h1>{title}</h1><table>{''.join(rows)}</table>\n"
    ).encode()
