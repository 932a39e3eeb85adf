"""HTTP/1.1 and 1.0, server and client role: one connection's messages said, on top of `h1hear`, which hears them.

    saying    IDLE -> WAIT -> LENGTH | CHUNKED | UNTIL_CLOSE | SWALLOW -> SAID    TUNNEL: raw bytes after 101 or CONNECT

An exchange is over when hearing is at HEARD and saying at SAID; then the next may come, or the connection is finished.

Rules
1. Framing is decided here, from what the message is, never copied from what a handler gave: its Transfer-Encoding and
   Keep-Alive are dropped, its Connection is read for `close`, `upgrade` and (a request) `te`, its Content-Length is
   held to its word.
2. A head that may not be said raises AppError and leaves everything as it was. A body that breaks the promise of its
   head raises AppError too, but ends the connection: framing is never corrupted.
3. An answer that ends before its request: the rest of the body is dropped up to `limits.drain`, then we close.
   A tunnel's `end` closes the connection, unless `halves` is set: then it ends our direction only (`fin`).
4. 100 Continue is said by the first `consumed`; a final answer before that says `Connection: close`.
"""

from __future__ import annotations

from fairlead.core.errors import AppError
from fairlead.core.message import bits_of
from fairlead.wire.h1block import Block
from fairlead.wire.h1bytes import METHODS, clean, clean_target, token
from fairlead.wire.h1hear import Hearing
from fairlead.wire.h1say import last_chunk, status_line

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

# saying
_IDLE = 0
_WAIT = 1
_SAY_LENGTH = 2
_SAY_CHUNKED = 3
_SAY_UNTIL_CLOSE = 4
_SWALLOW = 5
_SAID = 6
_SAY_TUNNEL = 7
# of hearing (see h1hear), what matters here
_HEAD = 0
_LENGTH = 1
_HEARD = 5
_TUNNEL = 6

_METHOD_BYTES = {name: raw + b" " for raw, name in METHODS.items()}
_GET = "GET"
_WITH_BODY = ("POST", "PUT", "PATCH")
_CONTENT_LENGTH = bits_of(b"content-length")
_SERVER = bits_of(b"server")
_DATED = bits_of(b"date", b"server")
_FRAMING = bits_of(
    b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"proxy-connection", b"upgrade"
)
_SMALL = 16384  # answers below this leave as one piece of bytes


class H1(Hearing):
    """One HTTP/1.x connection. `common` (core.message.Common): date and server for answers that have none."""

    # ---- words out

    def take(self):
        out = self.out
        if not out:
            return None
        self.out = []
        self.silent = True
        if self.out_size < _SMALL and len(out) > 1:
            out = [_fast.joined(out)]
        self.out_size = 0
        if self.waiting:
            self.more = True
        return out

    def drained(self, now):
        self.now = now
        if self.waiting and self.out_size < self.outgoing:
            self.waiting = False
            self.sink.room(self.stream)

    def write(self, chunk):
        """Put bytes into what `take` gives."""
        self.silent = False
        self.out.append(chunk)
        self.out_size += len(chunk)

    def head(self, stream, message, end):
        if stream != self.stream or self.finished:
            return
        if self.client:
            if self.saying == _WAIT:
                self.say_request(message, end)
        elif self.saying == _WAIT:
            self.say_response(message, end, b"")

    def whole(self, stream, message, body):
        if self.client or stream != self.stream or self.finished or self.saying != _WAIT or len(body) > _SMALL:
            self.head(stream, message, False)
            return False
        return self.say_response(message, False, body)

    def say_response(self, message, end, body):
        """A final response head. Nothing is written, and no state changed, when it may not be said.

        `body`: all of the body, or b"". True when it was said as well: its length is what the head promises.
        """
        status = message.status
        if status < 200 or status > 999:
            self.only_upgrade(status)
        if message.kept is None and message.drop and isinstance(message.block, Block) and self.plain(status):
            return self.answer_block(message, message.block, end, body)
        parts = [status_line(status, message.reason)]
        tunnel = status == 101 or (self.bare and 200 <= status < 300 and self.method == "CONNECT")
        given = self.given
        given.put(parts, message.listed() if message.kept is None else message.kept)
        length = given.length
        bodyless = status == 204 or status == 304 or (self.bare and self.method == "HEAD")
        keep = self.keep and not self.closing and not given.close and not self.expecting
        if self.max_requests and self.stream >= self.max_requests:
            keep = False
        if length < 0 and message.length > 0 and not end:
            length = message.length
        saying = _SWALLOW
        if tunnel:
            saying = _SAY_TUNNEL
            keep = True
        elif bodyless:
            if status != 204 and length >= 0:
                parts.append(b"content-length: ")
                parts.append(_fast.decimal(length))
                parts.append(b"\r\n")
        elif length >= 0 or end:
            if end and length > 0:
                raise AppError(
                    f"the answer promises {length} bytes and has no body", hint="drop content-length or send the body"
                )
            saying = _SAY_LENGTH
            parts.append(b"content-length: ")
            parts.append(_fast.decimal(length if length > 0 else 0))
            parts.append(b"\r\n")
        elif self.minor:
            saying = _SAY_CHUNKED
            parts.append(b"transfer-encoding: chunked\r\n")
        else:
            saying = _SAY_UNTIL_CLOSE
            keep = False
        self.put_own(parts, given, keep, status == 101)
        parts.append(b"\r\n")
        entire = body != b"" and saying == _SAY_LENGTH and length == len(body)
        if entire:
            parts.append(body)
            length = 0
        self.write(_fast.joined(parts))
        self.keep = keep
        self.said_left = length if length > 0 else 0
        self.saying = saying
        if tunnel:
            self.open_tunnel()
        elif end or entire:
            self.said()
        return entire

    def only_upgrade(self, status):
        """Of what is no final status, 101 may be said, to who asked for it."""
        if status != 101:
            raise AppError(f"{status} is not a final status")
        if not self.upgrading:
            raise AppError("101 answers only a request to upgrade")

    def other_method(self, name):
        """The bytes of a method that is not GET, its space included; HEAD and CONNECT are noted."""
        self.bare = name == "HEAD" or name == "CONNECT"
        method = _METHOD_BYTES.get(name)
        if method is None:
            method = name.encode("latin-1", "replace")
            if not token(method):
                raise AppError(f"{name!r} is no method")
            method = method + b" "
        return method

    def plain(self, status):
        """Whether an answer with this status is framed by its length alone."""
        return status >= 200 and status != 204 and status != 304 and not self.bare

    def answer_block(self, message, block, end, body):
        """A final response whose fields are a block: the same bytes as `say_response` writes, in one go."""
        keep = self.keep and not self.closing and not self.expecting
        if self.max_requests and self.stream >= self.max_requests:
            keep = False
        length = message.length
        if end and length > 0:
            raise AppError(f"the answer promises {length} bytes and has no body")
        known = block.known & ~message.drop
        more = b""
        if self.common is not None:
            if not known & _DATED:
                more = self.common.lines
            elif known & _DATED != _DATED:
                more = self.common.date_line if known & _SERVER else self.common.server_line
        saying = _SAY_LENGTH
        if end:
            length = 0
        elif length < 0:
            if self.minor:
                saying = _SAY_CHUNKED
                more = b"transfer-encoding: chunked\r\n" + more
            else:
                saying = _SAY_UNTIL_CLOSE
                keep = False
        if not keep:
            more = more + b"connection: close\r\n"
        elif self.minor == 0:
            more = more + b"connection: keep-alive\r\n"
        line = status_line(message.status, message.reason)
        entire = body != b"" and length == len(body)
        made = block.said(
            line, b"", b"", message.before, message.drop | _FRAMING, message.after, message.tail, length, more,
            body if entire else b"",
        )  # fmt: skip
        if made is None:
            raise AppError("a field that was added has a byte that would break the head")
        self.write(made)
        self.keep = keep
        self.said_left = length if length > 0 and not entire else 0
        self.saying = saying
        if end or entire:
            self.said()
        return entire

    def put_own(self, parts, given, keep, switching):
        """The fields of an answer that are ours to say: date, server, and what becomes of the connection."""
        if self.common is not None:
            if not given.date and not given.server:
                parts.append(self.common.lines)
            elif not given.date:
                parts.append(self.common.date_line)
            elif not given.server:
                parts.append(self.common.server_line)
        if given.upgrade or switching:
            parts.append(b"connection: upgrade\r\n" if keep else b"connection: upgrade, close\r\n")
        elif not keep:
            parts.append(b"connection: close\r\n")
        elif self.minor == 0:
            parts.append(b"connection: keep-alive\r\n")

    def open_tunnel(self):
        """Both directions are raw bytes from now on."""
        self.tunnel = True
        self.hearing = _TUNNEL
        self.saying = _SAY_TUNNEL
        self.pending = 0
        self.more = self.buffer != b""

    def open_stream(self):
        if not self.client or not self.reusable or self.finished:
            return 0
        self.reusable = False
        self.stream += 1
        self.saying = _WAIT
        self.informs = 0
        self.keep = True
        return self.stream

    def say_request(self, message, end):
        """A request head."""
        if message.method is _GET:
            method = b"GET "
            self.bare = False
        else:
            method = self.other_method(message.method)
        if not clean_target(message.target):
            raise AppError(f"{message.target!r} is no request-target")
        if message.kept is None and message.drop and message.before and isinstance(message.block, Block):
            self.ask_block(method, message, message.block, end)
            return
        parts = [method, message.target, b" HTTP/1.1\r\n"]
        given = self.given
        given.put(parts, message.listed() if message.kept is None else message.kept)
        length = given.length
        if not given.host:
            if not clean(message.authority):
                raise AppError("the authority has a control byte")
            parts.insert(3, b"host: %b\r\n" % message.authority)
        wanted = message.length
        if end:
            wanted = 0
        elif length >= 0:
            wanted = length
        if end and length > 0:
            raise AppError(f"the request promises {length} bytes and has no body")
        if wanted > 0:
            self.saying = _SAY_LENGTH
            parts.append(b"content-length: ")
            parts.append(_fast.decimal(wanted))
            parts.append(b"\r\n")
        elif wanted < 0:
            self.saying = _SAY_CHUNKED
            parts.append(b"transfer-encoding: chunked\r\n")
        else:
            self.saying = _SAY_LENGTH
            if not end or length == 0 or message.method in _WITH_BODY:
                parts.append(b"content-length: 0\r\n")
        self.upgrading = given.upgrade
        if given.te:
            parts.append(b"connection: te\r\n")  # a list field may be more than one line
        if given.upgrade:
            parts.append(b"connection: upgrade\r\n")
        elif given.close:
            parts.append(b"connection: close\r\n")
            self.keep = False
        parts.append(b"\r\n")
        self.write(_fast.joined(parts))
        self.method = message.method
        self.said_left = wanted if wanted > 0 else 0
        if end:
            self.said()

    def ask_block(self, method, message, block, end):
        """A request whose fields are a block, Host in its `before`: the same bytes as `say_request` writes, in one go."""
        wanted = 0 if end else message.length
        if end and message.length > 0:
            raise AppError(f"the request promises {message.length} bytes and has no body")
        shown = wanted
        more = b""
        self.saying = _SAY_LENGTH
        if wanted < 0:
            self.saying = _SAY_CHUNKED
            more = b"transfer-encoding: chunked\r\n"
        elif end and not block.known & _CONTENT_LENGTH and (message.method is _GET or message.method not in _WITH_BODY):
            shown = -1
        made = block.said(
            method, message.target, b" HTTP/1.1\r\n", message.before, message.drop | _FRAMING, message.after, message.tail,
            shown, more, b"",
        )  # fmt: skip
        if made is None:
            raise AppError("a field that was added has a byte that would break the head")
        self.upgrading = False
        self.write(made)
        self.method = message.method
        self.said_left = wanted if wanted > 0 else 0
        if end:
            self.said()

    def inform(self, stream, status, headers):
        if stream != self.stream or self.saying != _WAIT or self.client or self.minor == 0 or self.finished:
            return
        if not 100 <= status < 200 or status == 101:
            raise AppError(f"{status} is not an interim status")
        parts = [status_line(status, b"")]
        self.given.put(parts, headers)
        parts.append(b"\r\n")
        if status == 100 and self.expecting:
            self.go_on()
        self.write(_fast.joined(parts))

    def data(self, stream, chunk, end):
        if stream != self.stream or self.finished:
            return True
        saying = self.saying
        size = len(chunk)
        if self.region is not None:
            self.lied("body bytes were said before the file ahead of them was sent")
        if saying == _SAY_LENGTH:
            if size > self.said_left:
                self.lied(f"the body has {size - self.said_left} bytes more than its content-length")
            self.said_left -= size
            if size:
                self.write(chunk)
        elif saying == _SAY_CHUNKED:
            if size:
                self.silent = False
                self.out += [_fast.hexadecimal(size), b"\r\n", chunk, b"\r\n"]
                self.out_size += size + 20
        elif saying in (_SAY_UNTIL_CLOSE, _SAY_TUNNEL):
            if size:
                self.write(chunk)
        elif saying != _SWALLOW:
            return True
        if end:
            self.end(stream, None)
            return True
        if self.outgoing and self.out_size > self.outgoing:
            self.waiting = True
            return False
        return True

    def put_region(self, stream, region, end):
        if stream != self.stream or self.finished or self.saying != _SAY_LENGTH:
            return False
        if self.region is not None:
            self.lied("body bytes were said before the file ahead of them was sent")
        if region.left > self.said_left:
            self.lied(f"the body has {region.left - self.said_left} bytes more than its content-length")
        self.said_left -= region.left
        if end and self.said_left:
            self.lied(f"the body ended {self.said_left} bytes short of its content-length")
        self.region = region
        self.ending = end
        self.silent = False
        return True

    def region_sent(self):
        self.region = None
        if self.ending and not self.finished:
            self.ending = False
            self.said()

    def cast(self, stream, cast):
        if stream != self.stream or self.finished or self.waiting or self.out:
            return None
        if self.saying == _SAY_CHUNKED:
            if cast.chunk is None:
                cast.chunk = _fast.joined([_fast.hexadecimal(len(cast.data)), b"\r\n", cast.data, b"\r\n"])
            return cast.chunk
        if self.saying == _SAY_UNTIL_CLOSE or self.saying == _SAY_TUNNEL:
            return cast.data
        return None

    def end(self, stream, trailers):
        if stream != self.stream or self.finished:
            return
        saying = self.saying
        if self.region is not None:
            self.lied("the end was said before the file ahead of it was sent")
        if saying == _SAY_LENGTH:
            if self.said_left:
                self.lied(f"the body ended {self.said_left} bytes short of its content-length")
        elif saying == _SAY_CHUNKED:
            self.write(last_chunk(trailers) if trailers else b"0\r\n\r\n")
        elif saying == _SAY_TUNNEL:
            if self.halves and self.hearing == _TUNNEL:
                self.fin = True
                self.saying = _SAID
            else:
                self.finished = True
            return
        elif saying != _SWALLOW and saying != _SAY_UNTIL_CLOSE:
            return
        self.said()

    def lied(self, what):
        """A body is not as long as was promised: what is out cannot be mended, so the connection ends."""
        self.finished = True
        self.reusable = False
        self.region = None
        raise AppError(what)

    def said(self):
        """We said the last word of this exchange."""
        self.saying = _SAID
        self.waiting = False
        if self.client or self.hearing == _HEARD:
            self.over()
            return
        limit = self.max_drain
        if self.expecting or not self.keep or (limit and self.hearing == _LENGTH and self.left > limit):
            self.finished = True
            return
        self.dropped = 0
        self.drop_rest()

    def drop_rest(self):
        """Nobody wants the rest of the body."""
        self.dropping = True
        if not self.wants_read:
            self.wants_read = self.resumed = True

    def go_on(self):
        """The peer, which waited for 100 Continue, may send its body: its time counts from now."""
        self.expecting = False
        self.paused_at = self.body_began
        self.resumed = True

    def consumed(self, stream, count):
        if stream != self.stream:
            return
        self.pending -= count
        if self.expecting and self.saying == _WAIT and not self.client:
            self.go_on()
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self.wants_read:
            self.look()

    def reset(self, stream, why, side):
        if stream != self.stream or self.finished or (self.hearing == _HEAD and self.saying == _IDLE):
            return
        if side == "read" and not self.client:
            if self.hearing != _HEARD and self.hearing != _TUNNEL:
                self.drop_rest()
            return
        self.reusable = False
        self.finished = True
        self.region = None

    def goaway(self, last):
        self.closing = True
        self.reusable = False
        if self.hearing == _HEAD and self.saying == _IDLE and not self.first_byte:
            self.finished = True

    def refuse(self, status, headers, body):
        if self.finished or self.client:
            return
        if self.saying == _IDLE or self.saying == _WAIT:
            parts = [status_line(status, b"")]
            self.given.put(parts, headers)
            if self.common is not None:
                parts.append(b"date: ")
                parts.append(self.common.date)
                parts.append(b"\r\nserver: ")
                parts.append(self.common.server)
                parts.append(b"\r\n")
            parts.append(b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body))
            if self.method != "HEAD" or self.saying == _IDLE:
                parts.append(body)
            self.write(_fast.joined(parts))
        self.saying = _SAID
        self.finished = True
