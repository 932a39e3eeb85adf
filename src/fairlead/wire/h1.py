"""HTTP/1.1 and 1.0, server and client role: one connection's messages heard and said (RFC 9112; semantics RFC 9110).

What is heard goes through these phases, and what is said through those; an exchange is over when both are at their end:

    hearing   HEAD -> LENGTH | CHUNKED -> (TRAILER) | UNTIL_CLOSE -> HEARD          TUNNEL: raw bytes after 101 or CONNECT
    saying    IDLE -> WAIT -> LENGTH | CHUNKED | UNTIL_CLOSE | SWALLOW -> SAID      TUNNEL

Rules
1. Framing is decided here, from what the message is, never copied from what a handler gave: its Transfer-Encoding and
   Keep-Alive are dropped, its Connection is read for `close` and `upgrade`, its Content-Length is held to its word.
2. Bytes behind a whole request stay in `buffer` until its answer is said, then `more` is true. Behind a request that
   closes the connection they are dropped, never parsed. Behind a whole response they spoil the connection.
3. All state is settled before the sink hears a word, because the sink may speak from inside it.
4. An answer that ends before its request: the rest of the body is read and dropped up to `limits.drain`, then we close.
5. Deadlines are counted only while it is the peer's turn: not while a reader of ours holds the body back.
The strictness rules are in `h1rules`, the head parser in `h1head`, the chunked coding in `h1body`.
"""

from __future__ import annotations

from fairlead.core.codec import Codec
from fairlead.core.errors import AppError, NetError
from fairlead.wire.h1body import Chunks, size_line
from fairlead.wire.h1bytes import clean, clean_target, token
from fairlead.wire.h1head import Head
from fairlead.wire.h1rules import LENIENT, broken
from fairlead.wire.h1say import Given, last_chunk, status_line

# hearing
_HEAD = 0
_LENGTH = 1
_CHUNKED = 2
_TRAILER = 3
_UNTIL_CLOSE = 4
_HEARD = 5
_TUNNEL = 6
# saying
_IDLE = 0
_WAIT = 1
_SAY_LENGTH = 2
_SAY_CHUNKED = 3
_SAY_UNTIL_CLOSE = 4
_SWALLOW = 5
_SAID = 6
_SAY_TUNNEL = 7

# told: what kind of head was told by the step just made
_INTERIM = 1
_FINAL = 2

_SMALL = 16384  # answers below this leave as one piece of bytes
_KEEP = 4096  # a rest of a read is copied out when it drags more than this along
_SECOND = 1_000_000_000


class H1(Codec):
    """One HTTP/1.x connection. `common`: date and server for our answers; `scheme`: what requests on it are."""

    def __init__(self, sink, limits, client=False, common=None):
        self.sink = sink
        self.limits = limits
        self.client = client
        self.wants_read = True
        self.more = self.finished = self.multiplexed = self.tunnel = False
        self.reusable = client
        self.now = 0
        self.common = common
        self.scheme = "http"
        self._lenient = frozenset()
        self.parser = Head(limits, client)
        self.chunks = None
        self.buffer = b""
        self.at = 0
        self.out = []
        self.out_size = 0
        self.stream = 0
        self.hearing = self.saying = 0
        self.left = self.said_left = 0
        self.pending = self.received = self.dropped = 0
        self.method = ""
        self.minor = 1
        self.keep = True
        self.closing = self.dropping = self.expecting = self.waiting = self.ended = self.spoiled = False
        self.upgrading = self.resumed = False
        self.given = Given()
        self.informs = self.told = 0
        self.first_byte = self.body_began = self.body_last = self.paused_at = self.idle_since = 0
        self.window = limits.window
        self.lookahead = limits.lookahead
        self.outgoing = limits.outgoing

    @property
    def lenient(self):
        """The rules that are tolerated here: a set of names out of `h1rules.LENIENT`."""
        return self._lenient

    @lenient.setter
    def lenient(self, rules):
        self._lenient = frozenset(rules)
        if not self._lenient <= LENIENT:
            raise ValueError(f"only {sorted(LENIENT)} may be tolerated, not {sorted(self._lenient - LENIENT)}")
        self.parser.lenient_lf = "bare-lf" in self._lenient
        self.parser.lenient_fold = "obs-fold" in self._lenient

    # ---- bytes in

    def feed(self, data, now, stream=0, fin=False):
        self.now = now
        self.more = False
        if self.finished:
            return
        at = 0
        if self.buffer:
            if data:
                data = self.buffer[self.at :] + data
            else:
                data = self.buffer
                at = self.at
            self.buffer = b""
        if self.waiting and not data and not self.out:
            self.waiting = False
            self.sink.room(self.stream)
        if at < len(data):
            self.hear(data, at)
        if self.ended and not self.more and not self.finished:
            self.cut_short()
        self.look()

    def hear(self, data, at):
        """Bytes from `at` on, until a message is over or the bytes are."""
        end = len(data)
        heads = 0
        while at < end and not self.finished:
            phase = self.hearing
            if phase == _LENGTH:
                at = self.hear_length(data, at, end)
            elif phase == _HEAD:
                if heads:
                    break
                self.told = 0
                at = self.hear_head(data, at, end)
                if self.told == 0:
                    break
                heads = self.told == _FINAL
            elif phase == _CHUNKED:
                at = self.hear_chunks(data, at, end)
            elif phase == _TRAILER:
                at = self.hear_trailer(data, at, end)
                if self.hearing == _TRAILER:
                    break
            elif phase == _UNTIL_CLOSE or phase == _TUNNEL:
                at = self.hear_raw(data, at, end)
            else:
                break
            if self.hearing == _HEARD or self.hearing == _HEAD and heads:
                break
        self.store(data, at, end)
        self.more = bool(heads) and self.hearing == _HEAD and bool(self.buffer)

    def store(self, data, at, end):
        """Keep what was not used."""
        if at >= end or self.finished or (self.hearing == _HEARD and not self.keep and not self.upgrading):
            self.buffer = b""
            self.at = 0
        elif at > _KEEP and self.hearing == _HEAD or end - at < 64:
            self.buffer = data[at:]
            self.at = 0
        else:
            self.buffer = data
            self.at = at

    def look(self):
        """Set `wants_read` and `more` to what the state says."""
        phase = self.hearing
        if self.finished or self.ended:
            wants = False
        elif phase == _HEARD:
            wants = not self.lookahead or len(self.buffer) - self.at < self.lookahead
        elif phase == _HEAD or self.dropping:
            wants = True
        else:
            wants = not self.window or self.pending < self.window
        if wants != self.wants_read:
            self.wants_read = wants
            if not wants:
                self.paused_at = self.now
            else:
                self.resumed = True

    def hear_head(self, data, at, end):
        """A head as far as it goes; a whole one is told."""
        if not self.first_byte:
            if self.client and self.saying == _IDLE:
                self.spoil()
            self.first_byte = self.now
        at = self.parser.read(data, at, end)
        if not self.parser.whole:
            return at
        self.told = _FINAL
        if self.client:
            return self.hear_response(at, end)
        self.hear_request()
        return at

    def hear_request(self):
        """A whole request head."""
        head = self.parser
        message = head.request(self.scheme)
        if self.limits.body and message.length > self.limits.body:
            raise broken("body-too-long", False)
        self.stream += 1
        self.method = message.method
        self.minor = head.minor
        self.keep = not head.close and (head.minor == 1 or head.keep) and not self.closing
        self.upgrading = message.upgrade != b"" or message.method == "CONNECT"
        self.expecting = message.expect
        self.saying = _WAIT
        self.pending = self.received = 0
        length = message.length
        self.left = length
        self.hearing = _HEARD if length == 0 else _LENGTH if length > 0 else _CHUNKED
        if length:
            self.body_starts()
        self.sink.head(self.stream, message, length == 0)

    def hear_response(self, at, end):
        """A whole response head, interim or final."""
        head = self.parser
        message = head.response(self.method)
        status = head.status
        if status < 200 and status != 101:
            self.hear_interim(status, message.headers)
            return at
        self.pending = self.received = 0
        stream = self.stream
        if status == 101 or (self.method == "CONNECT" and status < 300):
            if status == 101 and not self.upgrading:
                raise broken("unasked-upgrade", True)
            self.tunnel = True
            self.hearing = _TUNNEL
            self.saying = _SAY_TUNNEL
            self.sink.head(stream, message, False)
            return at
        if head.close or (head.minor == 0 and not head.keep):
            self.keep = False
        self.left = message.length
        if message.length == 0:
            at = self.heard(at, end)
            self.sink.head(stream, message, True)
            return at
        self.hearing = _LENGTH if message.length > 0 else _CHUNKED if head.chunked else _UNTIL_CLOSE
        if self.hearing == _UNTIL_CLOSE:
            self.keep = False
        self.body_starts()
        self.sink.head(stream, message, False)
        return at

    def hear_interim(self, status, headers):
        """A 1xx head; the final one is still to come."""
        self.informs += 1
        if self.limits.informational and self.informs > self.limits.informational:
            raise broken("too-many-interim", True)
        self.parser.start()
        self.told = _INTERIM
        self.sink.inform(self.stream, status, headers)

    def body_starts(self):
        """A body is about to come."""
        self.body_began = self.body_last = self.now
        if self.hearing == _CHUNKED:
            if self.chunks is None:
                self.chunks = Chunks(self.limits, self.client)
            self.chunks.start()

    def hear_length(self, data, at, end):
        """Body bytes by Content-Length."""
        take = end - at
        if take > self.left:
            take = self.left
        chunk = data if take == len(data) else data[at : at + take]
        self.left -= take
        at += take
        stream = self.stream
        last = self.left == 0
        if self.client and last:
            at = self.heard(at, end)
        elif last:
            self.hearing = _HEARD
        self.give(stream, chunk, take, last)
        return at

    def hear_chunks(self, data, at, end):
        """Body bytes in chunks: all the data of this read is given as one piece."""
        chunks = self.chunks
        at = chunks.read(data, data, at, end)
        pieces = chunks.pieces
        if chunks.over:
            self.hearing = _TRAILER
            self.parser.trail()
        if pieces:
            chunks.pieces = []
            chunk = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self.give(self.stream, chunk, len(chunk), False)
        return at

    def hear_trailer(self, data, at, end):
        """The trailer section, which ends a chunked body."""
        parser = self.parser
        at = parser.read(data, at, end)
        if not parser.whole:
            return at
        stream = self.stream
        dropping = self.dropping
        trailers = parser.headers or None
        if self.client:
            at = self.heard(at, end)
        else:
            self.hearing = _HEARD
            self.over()
        if not dropping:
            self.sink.end(stream, trailers)
        return at

    def hear_raw(self, data, at, end):
        """A body that ends with the connection, or a tunnel's bytes."""
        chunk = data[at:] if at else data
        self.give(self.stream, chunk, end - at, False)
        return end

    def give(self, stream, chunk, count, last):
        """Give body bytes to the sink, or drop them when nobody wants them any more."""
        self.received += count
        self.body_last = self.now
        self.expecting = False
        if self.dropping:
            self.drop(count)
            return
        if self.limits.body and not self.client and self.received > self.limits.body and self.hearing != _TUNNEL:
            raise broken("body-too-long", False)
        self.pending += count
        self.sink.data(stream, chunk, last)

    def drop(self, count):
        """Body bytes that nobody wants: read on for a while, to keep the connection."""
        self.dropped += count
        if self.limits.drain and self.dropped > self.limits.drain:
            self.finished = True
        else:
            self.over()

    def heard(self, at, end):
        """Client role: the response is whole. What follows it was not asked for. The position where to go on."""
        self.hearing = _HEARD
        if at < end:
            self.spoiled = True
        self.over()
        return end

    def over(self):
        """When both sides are at their end, the next exchange may come, or the connection is finished."""
        if self.hearing != _HEARD or self.saying != _SAID:
            return
        if not self.keep or self.closing or self.spoiled:
            self.finished = True
            return
        if self.ended and not self.buffer:
            self.finished = True
            return
        self.hearing = _HEAD
        self.saying = _IDLE
        self.parser.start()
        self.first_byte = 0
        self.idle_since = self.now
        self.dropping = self.expecting = False
        self.reusable = self.client
        self.more = self.buffer != b""

    def spoil(self):
        """Bytes came that no request asked for."""
        self.reusable = False
        self.finished = True
        raise broken("unasked-bytes", True)

    def eof(self, now, stream=0):
        self.now = now
        self.ended = True
        self.wants_read = False
        phase = self.hearing
        if self.finished:
            return
        if phase == _TUNNEL:
            self.hearing = _HEARD
            self.sink.end(self.stream, None)
        elif phase == _UNTIL_CLOSE:
            self.heard(0, 0)
            self.sink.end(self.stream, None)
        elif phase == _HEARD:
            if self.client:
                self.spoiled = True
            else:
                why = NetError("the client closed its side before the answer", step="receive", status=499)
                self.sink.reset(self.stream, why, "read")
        else:
            self.cut_short()

    def cut_short(self):
        """The peer closed, and what it sent ends here: an error when that is inside a message."""
        if self.hearing == _HEARD or self.hearing == _TUNNEL:
            return
        if self.hearing == _HEAD:
            self.eof_in_head()
        elif self.dropping:
            self.finished = True
        else:
            self.cut(broken("eof-in-body", self.client))

    def eof_in_head(self):
        """The peer closed while a head was awaited."""
        self.reusable = False
        if self.client and self.saying != _IDLE:
            seen = self.first_byte or self.informs
            self.cut(broken("eof-in-head" if seen else "no-answer", True, not seen))
        if self.buffer or self.parser.begun:
            self.cut(broken("eof-in-head", self.client))
        self.finished = True

    def cut(self, error):
        """Raise what ended this connection."""
        self.reusable = False
        self.keep = False
        raise error

    def detach(self):
        rest = self.buffer[self.at :]
        self.buffer = b""
        self.at = 0
        self.finished = True
        return rest

    # ---- time

    def deadline(self):
        if self.finished or self.hearing == _TUNNEL or self.hearing == _HEARD or self.ended:
            return 0
        limits = self.limits
        if self.hearing == _HEAD:
            if self.first_byte and not self.client:
                return self.first_byte + limits.header if limits.header else 0
            if self.client and self.saying != _IDLE:
                return 0
            if not self.idle_since:
                self.idle_since = self.now
            limit = limits.idle if self.client or self.stream else limits.header
            return self.idle_since + limit if limit else 0
        if self.client or not self.wants_read:
            return 0
        return self.body_deadline()

    def body_deadline(self):
        """When the body counts as stalled, or as too slow."""
        limits = self.limits
        due = self.body_last + limits.body_idle if limits.body_idle else 0
        if limits.body_rate:
            slow = self.body_began + max(limits.body_grace, self.received * _SECOND // limits.body_rate)
            if not due or slow < due:
                due = slow
        return due

    def tick(self, now):
        if self.resumed:
            self.resume(now)
        due = self.deadline()
        self.now = now
        if not due or now < due:
            return
        if self.hearing != _HEAD:
            paused = self.limits.body_idle and now >= self.body_last + self.limits.body_idle
            rule = "slow-body" if paused else "slow-rate"
        elif self.first_byte and not self.client:
            rule = "slow-head"
        else:
            self.finished = True
            self.reusable = False
            rule = "idle"
        raise broken(rule, self.client)

    def resume(self, now):
        """Reading goes on after a pause of ours: it does not count against the peer."""
        self.resumed = False
        if self.paused_at:
            self.body_began += now - self.paused_at
            self.body_last = now
            self.paused_at = 0

    # ---- words out

    def take(self):
        out = self.out
        if not out:
            return None
        self.out = []
        if self.out_size < _SMALL and len(out) > 1:
            out = [b"".join(out)]
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
        self.out.append(chunk)
        self.out_size += len(chunk)

    def head(self, stream, message, end):
        if stream != self.stream or self.finished:
            return
        if self.client:
            if self.saying == _WAIT:
                self.say_request(message, end)
        elif self.saying == _WAIT:
            self.say_response(message, end)

    def say_response(self, message, end):
        """A final response head. Nothing is written, and no state changed, when it may not be said."""
        status = message.status
        if status < 101 or 101 < status < 200 or status > 999 or (status == 101 and not self.upgrading):
            raise AppError(f"{status} is not a final status" if status != 101 else "101 answers only a request to upgrade")
        parts = [status_line(status, message.reason)]
        tunnel = status == 101 or (self.method == "CONNECT" and 200 <= status < 300)
        given = self.given
        given.put(parts, message.headers)
        length = given.length
        bodyless = status == 204 or status == 304 or self.method == "HEAD"
        keep = self.keep and not self.closing and not given.close and not self.expecting
        if self.limits.requests and self.stream >= self.limits.requests:
            keep = False
        if length < 0 and message.length > 0 and not end:
            length = message.length
        saying = _SWALLOW
        if tunnel:
            saying = _SAY_TUNNEL
            keep = True
        elif bodyless:
            if status != 204 and length >= 0:
                parts.append(b"content-length: %d\r\n" % length)
        elif length >= 0 or end:
            if end and length > 0:
                raise AppError(f"the answer promises {length} bytes and has no body", hint="drop content-length or send the body")
            saying = _SAY_LENGTH
            parts.append(b"content-length: %d\r\n" % length if length > 0 else b"content-length: 0\r\n")
        elif self.minor:
            saying = _SAY_CHUNKED
            parts.append(b"transfer-encoding: chunked\r\n")
        else:
            saying = _SAY_UNTIL_CLOSE
            keep = False
        if self.common is not None:
            if not given.date:
                parts += [b"date: ", self.common.date, b"\r\n"]
            if not given.server and self.common.server:
                parts += [b"server: ", self.common.server, b"\r\n"]
        if given.upgrade or status == 101:
            parts.append(b"connection: upgrade\r\n" if keep else b"connection: upgrade, close\r\n")
        elif not keep:
            parts.append(b"connection: close\r\n")
        elif self.minor == 0:
            parts.append(b"connection: keep-alive\r\n")
        parts.append(b"\r\n")
        self.write(b"".join(parts))
        self.keep = keep
        self.said_left = length if length > 0 else 0
        self.saying = saying
        if tunnel:
            self.open_tunnel()
        elif end:
            self.said()

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
        method = message.method.encode("ascii")
        if not token(method) or not clean_target(message.target):
            raise AppError(f"{message.method!r} {message.target!r} is no request line")
        parts = [method, b" ", message.target, b" HTTP/1.1\r\n"]
        rest = []
        given = self.given
        given.put(rest, message.headers)
        length = given.length
        if not given.host:
            if not clean(message.authority):
                raise AppError("the authority has a control byte")
            parts += [b"host: ", message.authority, b"\r\n"]
        parts += rest
        wanted = message.length
        if end:
            wanted = 0
        elif length >= 0:
            wanted = length
        if end and length > 0:
            raise AppError(f"the request promises {length} bytes and has no body")
        if wanted > 0:
            self.saying = _SAY_LENGTH
            parts.append(b"content-length: %d\r\n" % wanted)
        elif wanted < 0:
            self.saying = _SAY_CHUNKED
            parts.append(b"transfer-encoding: chunked\r\n")
        else:
            self.saying = _SAY_LENGTH
            if not end or length == 0 or message.method in ("POST", "PUT", "PATCH"):
                parts.append(b"content-length: 0\r\n")
        self.upgrading = given.upgrade
        if given.upgrade:
            parts.append(b"connection: upgrade\r\n")
        elif given.close:
            parts.append(b"connection: close\r\n")
            self.keep = False
        parts.append(b"\r\n")
        self.write(b"".join(parts))
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
        if status == 100:
            self.expecting = False
        self.write(b"".join(parts))

    def data(self, stream, chunk, end):
        if stream != self.stream or self.finished:
            return True
        saying = self.saying
        size = len(chunk)
        if saying == _SAY_LENGTH:
            if size > self.said_left:
                self.lied(f"the body has {size - self.said_left} bytes more than its content-length")
            self.said_left -= size
            if size:
                self.write(chunk)
        elif saying == _SAY_CHUNKED:
            if size:
                self.write(size_line(size))
                self.write(chunk)
                self.write(b"\r\n")
        elif saying == _SAY_UNTIL_CLOSE or saying == _SAY_TUNNEL:
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

    def end(self, stream, trailers):
        if stream != self.stream or self.finished:
            return
        saying = self.saying
        if saying == _SAY_LENGTH:
            if self.said_left:
                self.lied(f"the body ended {self.said_left} bytes short of its content-length")
        elif saying == _SAY_CHUNKED:
            self.write(last_chunk(trailers) if trailers else b"0\r\n\r\n")
        elif saying == _SAY_TUNNEL:
            self.finished = True
            return
        elif saying != _SWALLOW and saying != _SAY_UNTIL_CLOSE:
            return
        self.said()

    def lied(self, what):
        """A body is not as long as was promised: what is out cannot be mended, so the connection ends."""
        self.finished = True
        self.reusable = False
        raise AppError(what)

    def said(self):
        """We said the last word of this exchange."""
        self.saying = _SAID
        self.waiting = False
        if self.client or self.hearing == _HEARD:
            self.over()
            return
        limit = self.limits.drain
        if self.expecting or not self.keep or (limit and self.hearing == _LENGTH and self.left > limit):
            self.finished = True
            return
        self.dropping = True
        self.dropped = 0
        self.wants_read = True

    def consumed(self, stream, count):
        if stream != self.stream:
            return
        self.pending -= count
        if self.expecting and self.saying == _WAIT and not self.client:
            self.expecting = False
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self.wants_read:
            self.look()

    def reset(self, stream, why, side):
        if stream != self.stream or self.finished or (self.hearing == _HEAD and self.saying == _IDLE):
            return
        if side == "read" and not self.client:
            if self.hearing != _HEARD and self.hearing != _TUNNEL:
                self.dropping = True
                self.wants_read = True
            return
        self.reusable = False
        self.finished = True

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
                parts += [b"date: ", self.common.date, b"\r\nserver: ", self.common.server, b"\r\n"]
            parts.append(b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body))
            if self.method != "HEAD" or self.saying == _IDLE:
                parts.append(body)
            self.write(b"".join(parts))
        self.saying = _SAID
        self.finished = True
