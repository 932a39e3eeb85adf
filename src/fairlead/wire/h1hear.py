"""The ear of HTTP/1.x: messages heard, pipelining, look-ahead, half-close, deadlines (RFC 9112, both roles).

    hearing   HEAD -> LENGTH | CHUNKED -> TRAILER | UNTIL_CLOSE -> HEARD       TUNNEL: raw bytes after 101 or CONNECT

Rules
1. Bytes behind a whole request stay in `buffer` until its answer is said, then `more` is true. Behind a request that
   closes the connection they are dropped, never parsed. Behind a whole response they spoil the connection.
2. All state is settled before the sink hears a word, because the sink may speak from inside it.
3. A body that nobody wants any more is read and dropped up to `limits.drain`; beyond that we close.
4. Deadlines are counted only while it is the peer's turn: not while a reader of ours holds the body back.
The strictness rules are in `h1rules`, the head parser in `h1head`, the chunked coding in `h1body`, the mouth in `h1`.
"""

from __future__ import annotations

from fairlead.core.codec import Codec
from fairlead.core.errors import NetError
from fairlead.wire.h1body import Chunks
from fairlead.wire.h1head import Head
from fairlead.wire.h1rules import LENIENT, broken
from fairlead.wire.h1say import Given

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

# hearing
_HEAD = 0
_LENGTH = 1
_CHUNKED = 2
_TRAILER = 3
_UNTIL_CLOSE = 4
_HEARD = 5
_TUNNEL = 6
# of saying (see h1), what matters here
_IDLE = 0
_WAIT = 1
_SAID = 6
_SAY_TUNNEL = 7
# told: what kind of head was told by the step just made
_INTERIM = 1
_FINAL = 2

_SHORT = 16384  # bytes of body that are told together with their head
_KEEP = 4096  # a rest of a read is copied out when it drags more than this along
_SECOND = 1_000_000_000


class Hearing(Codec):
    """The ear of `h1.H1`, and all of its state. `scheme`: of this connection's requests: "http" or "https"."""

    def __init__(self, sink, limits, client=False, common=None, scheme="http"):
        self.sink = sink
        self.limits = limits
        self.client = client
        self.wants_read = True
        self.more = self.finished = self.multiplexed = self.tunnel = False
        self.reusable = client
        self.silent = True
        self.region = None
        self.now = 0
        self.common = common
        self.scheme = scheme
        self._lenient: frozenset[str] = frozenset()
        self.parser = Head(limits, client)
        self.chunks: Chunks = None  # type: ignore[assignment]
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
        self.closing = self.dropping = self.expecting = self.waiting = self.ended = self.ending = self.spoiled = False
        self.upgrading = self.resumed = self.bare = self.fin = self.halves = False
        self.given = Given()
        self.informs = self.told = 0
        self.first_byte = self.body_began = self.body_last = self.paused_at = self.idle_since = 0
        self.max_body = limits.body
        self.max_drain = limits.drain
        self.max_requests = limits.requests
        self.head_time = limits.header
        self.idle_time = limits.idle
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
            elif phase in (_UNTIL_CLOSE, _TUNNEL):
                at = self.hear_raw(data, at, end)
            else:
                break
            if self.hearing == _HEARD or (self.hearing == _HEAD and heads):
                break
        self.store(data, at, end)
        self.more = bool(heads) and self.hearing == _HEAD and bool(self.buffer)

    def store(self, data, at, end):
        """Keep what was not used."""
        if at >= end or self.finished or (self.hearing == _HEARD and not self.keep and not self.upgrading):
            self.buffer = b""
            self.at = 0
        elif (at > _KEEP and self.hearing == _HEAD) or end - at < 64:
            self.buffer = _fast.piece(data, at, end)
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
            return self.hear_response(data, at, end)
        self.hear_request()
        return at

    def hear_request(self):
        """A whole request head."""
        head = self.parser
        message = head.request(self.scheme)
        if self.max_body and message.length > self.max_body:
            raise broken("body-too-long", False)
        self.stream += 1
        self.method = message.method
        self.minor = head.minor
        self.keep = not head.close and (head.minor == 1 or head.keep) and not self.closing
        self.bare = head.heading or head.connecting
        self.upgrading = message.upgrade != b"" or head.connecting
        if head.connecting:
            self.keep = False  # what follows a refused CONNECT was meant for the tunnel, never a request
        self.expecting = message.expect
        self.saying = _WAIT
        self.pending = self.received = 0
        length = message.length
        self.left = length
        self.hearing = _HEARD if length == 0 else _LENGTH if length > 0 else _CHUNKED
        if length:
            self.body_starts()
        self.sink.head(self.stream, message, length == 0)

    def hear_response(self, data, at, end):
        """A whole response head, interim or final; its body with it when that is short and here already."""
        head = self.parser
        message = head.response(self.bare and self.method == "HEAD")
        status = head.status
        if status < 200 and status != 101:
            self.hear_interim(status, message.headers)
            return at
        self.pending = self.received = 0
        stream = self.stream
        if status == 101 or (self.bare and status < 300 and self.method == "CONNECT"):
            if status == 101 and not self.upgrading:
                raise broken("unasked-upgrade", True)
            self.tunnel = True
            self.hearing = _TUNNEL
            self.saying = _SAY_TUNNEL
            self.sink.head(stream, message, False)
            return at
        if head.close or (head.minor == 0 and not head.keep):
            self.keep = False
        length = message.length
        if length == 0:
            at = self.heard(at, end)
            self.sink.head(stream, message, True)
            return at
        if 0 < length <= end - at and length <= _SHORT and (not self.window or length <= self.window):
            body = _fast.piece(data, at, at + length)
            at = self.heard(at + length, end)
            self.sink.at_once(stream, message, body)
            return at
        self.left = length
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
        chunk = _fast.piece(data, at, at + take)
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
            chunk = pieces[0] if len(pieces) == 1 else _fast.joined(pieces)
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
        chunk = _fast.piece(data, at, end)
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
        if self.max_body and not self.client and self.received > self.max_body and self.hearing != _TUNNEL:
            raise broken("body-too-long", False)
        self.pending += count
        self.sink.data(stream, chunk, last)

    def drop(self, count):
        """Body bytes that nobody wants: read on for a while, to keep the connection."""
        self.dropped += count
        if self.max_drain and self.dropped > self.max_drain:
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
            if self.fin:
                self.finished = True
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
        if self.hearing == _HEAD:
            if self.first_byte and not self.client:
                return self.first_byte + self.head_time if self.head_time else 0
            if self.client and self.saying != _IDLE:
                return 0
            if not self.idle_since:
                self.idle_since = self.now
            limit = self.idle_time if self.client or self.stream else self.head_time
            return self.idle_since + limit if limit else 0
        if self.client or not self.wants_read or self.expecting:
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
