"""The ear of HTTP/2: frames, header blocks, streams, settings (RFC 9113 sections 4 to 6 and 8, both roles).

A connection is never half heard: a frame is used when it is whole, a header block when its last frame is. Everything that
one `feed` brings is heard in it, many requests if need be: answers need no order here, so nothing is held back.

    a stream   head -> data* -> [trailer] -> heard_end
Rules
1. What breaks the connection raises WireError; `take` then has the GOAWAY. What breaks one stream resets that stream, and
   is heard as `reset` or `refused`.
2. All state is settled before the sink hears a word, because the sink may speak from inside it.
3. A header block is decoded whatever becomes of it: the tables of both sides must stay equal.
4. DATA is charged to both windows with its padding (section 6.1), also on a stream that is gone.
Rules with their codes are in `h2rules`, messages in `h2head`, the other frames in `h2control`, ends and deadlines in
`h2ends`, windows in `h2windows`, the pen in `h2frames`, the mouth in `h2`.
"""

from __future__ import annotations

from fairlead.core.errors import NetError, WireError
from fairlead.wire.h2control import Control
from fairlead.wire.h2head import Asked, Given, response_of, trailers_of
from fairlead.wire.h2rules import broken, code_of
from fairlead.wire.h2stream import Stream, first_priority
from fairlead.wire.hpack import Decoder

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _PRIORITY, _RST, _SETTINGS, _PUSH, _PING, _GOAWAY, _UPDATE, _CONTINUATION = range(10)
_PRIORITY_UPDATE = 16
_END_STREAM = 1
_ACK = 1
_END_HEADERS = 4
_PADDED = 8
_HAS_PRIORITY = 32
_RESETS = 0
_EMPTIES = 3


class Hearing(Control):
    """The ear of `h2.H2`, and with `Windows` all of its state. `scheme`: of this connection's requests."""

    def __init__(self, sink, limits, client=False, common=None):
        super().__init__(sink, limits, client)
        self.common = common
        self.scheme = "http"
        self.buffer = b""
        self.decoder = Decoder(limits.head or 1 << 40, limits.headers or 1 << 40)
        self.given = Given()
        self.asked = Asked()
        self.block_stream = self.block_flags = self.block_frames = 0
        self.requests = 0
        self.max_requests = limits.requests
        self.max_head = limits.head
        self.max_body = limits.body
        self.outgoing = limits.outgoing or 1 << 60
        self.greet()

    # ---- bytes in

    def feed(self, data, now, stream=0, fin=False):
        self.now = now
        self.more = False
        if self.finished or self.dead:
            return
        if not self.begun:
            self.begun = self.idle_since = now
            self.guard.leaked = now
        if data:
            self.heard_at = now
            if self.silent_by:
                self.silent_by = 0
                self.reusable = self.may_open()
            if self.buffer:
                data = self.buffer + data
                self.buffer = b""
            at = 0
            end = len(data)
            if not self.greeted:
                at = self.greeting(data, end)
            if self.greeted:
                at = self.frames(data, data, at, end)
            if at < end and not self.finished:
                self.buffer = _fast.piece(data, at, end)
        if self.waiters:
            self.tell_room()
        self.look()

    def greeting(self, data, end):
        """The client's preface; our role as client needs none. Where the frames begin."""
        if self.client:
            self.greeted = True
            return 0
        size = min(end, 24)
        if data[:size] != _PREFACE[:size]:
            self.fail("bad-preface")
        if end < 24:
            return 0
        self.greeted = True
        return 24

    def frames(self, data, v, at, end):
        """Every whole frame from `at` on; where the first that is not whole begins."""
        while end - at >= 9 and not self.finished:
            size = v[at] << 16 | v[at + 1] << 8 | v[at + 2]
            kind = v[at + 3]
            flags = v[at + 4]
            stream = self.word_at(v, at + 5) & 0x7FFFFFFF
            if size > 16384:
                self.fail("frame-too-long")
            if not self.settled and (kind != _SETTINGS or flags & _ACK):
                self.fail("bad-preface")
            if end - at < 9 + size:
                break
            at += 9
            if self.block is not None and (kind != _CONTINUATION or stream != self.block_stream):
                self.fail("block-interrupted")
            if kind == _DATA:
                self.hear_data(data, v, at, size, flags, stream)
            elif kind == _HEADERS:
                self.hear_headers(data, v, at, size, flags, stream)
            else:
                self.hear_other(data, v, at, size, kind, flags, stream)
            at += size
        return at

    def hear_other(self, data, v, at, size, kind, flags, stream):
        """Frames that are neither DATA nor HEADERS; unknown ones are ignored (section 4.1)."""
        if kind == _UPDATE:
            if size != 4:
                self.fail("bad-frame-size")
            self.hear_update(stream, self.word_at(v, at) & 0x7FFFFFFF)
        elif kind == _RST:
            if size != 4:
                self.fail("bad-frame-size")
            self.hear_reset(stream, self.word_at(v, at))
        elif kind == _SETTINGS:
            self.hear_settings(v, at, size, flags, stream)
        elif kind == _PING:
            self.hear_ping(data, at, size, flags, stream)
        elif kind == _CONTINUATION:
            self.hear_continuation(data, at, size, flags)
        elif kind == _PRIORITY:
            self.hear_priority(v, at, size, stream)
        elif kind == _GOAWAY:
            self.hear_goaway(data, v, at, size, stream)
        elif kind == _PRIORITY_UPDATE:
            self.hear_priority_update(data, v, at, size, stream)
        elif kind == _PUSH:
            self.fail("push")
        elif size == 0:
            self.count(_EMPTIES)

    # ---- header blocks

    def hear_headers(self, data, v, at, size, flags, stream):
        """HEADERS: a block begins, and most often ends."""
        if stream == 0:
            self.fail("stream-zero")
        end = at + size
        if flags & _PADDED:
            if size < 1 or v[at] > size - 1:
                self.fail("bad-padding")
            end -= v[at]
            at += 1
        own = False
        if flags & _HAS_PRIORITY:
            if end - at < 5:
                self.fail("bad-frame-size")
            own = (self.word_at(v, at) & 0x7FFFFFFF) == stream
            at += 5
        if own:
            flags |= 256
        if flags & _END_HEADERS:
            self.whole_block(data, at, end, flags, stream)
            return
        self.block = bytearray(data[at:end])
        self.block_stream = stream
        self.block_flags = flags
        self.block_frames = 0
        self.block_began = self.now

    def hear_continuation(self, data, at, size, flags):
        """CONTINUATION: the block goes on."""
        block = self.block
        if block is None:
            self.fail("lone-continuation")
        if size == 0:
            self.count(_EMPTIES)
        self.block_frames += 1
        if self.limits.continuations and self.block_frames > self.limits.continuations:
            self.fail("continuation-flood")
        if self.max_head and len(block) + size > self.max_head:
            self.fail("block-too-long")
        block += data[at : at + size]
        if flags & _END_HEADERS:
            self.block = None  # type: ignore[assignment]
            whole = bytes(block)
            self.whole_block(whole, 0, len(whole), self.block_flags, self.block_stream)

    def whole_block(self, data, at, end, flags, stream):
        """A header block: a request, a response, or a trailer section."""
        decoder = self.decoder
        try:
            fields = decoder.decode(data, at, end)
        except WireError as error:
            self.leave(9)
            error.status = 502 if self.client else 400
            error.side = "upstream" if self.client else "peer"
            raise
        st = self.streams.get(stream)
        last = flags & _END_STREAM != 0
        if st is None:
            if self.client:
                self.hear_unknown(stream)
            else:
                self.hear_request(fields, stream, last, flags)
            return
        rule = decoder.bad if decoder.bad else "head-too-long" if decoder.over else ""
        if st.heard_end:
            self.bury(st, "closed-stream")
        elif st.tunnel or (st.method == "CONNECT" and not self.client):
            self.bury(st, "tunnel-head")
        elif rule:
            self.bury(st, rule)
        elif self.client and not st.heard_head:
            self.hear_response(st, fields, last)
        else:
            self.hear_trailers(st, fields, last)

    def hear_request(self, fields, stream, last, flags):
        """Server role: a new stream."""
        if stream <= self.heard_last or not stream & 1:
            if stream in self.graves:
                return
            self.fail("closed-stream" if stream & 1 and not self.skipped(stream) else "bad-stream-id")
        if stream > self.heard_last + 2:
            self.skip(self.heard_last, stream)
        self.heard_last = stream
        if 0 <= self.goaway_sent < stream:
            return
        decoder = self.decoder
        self.requests += 1
        if self.requests == self.max_requests:
            self.goaway(-1)
        if len(self.streams) + self.abandoned >= self.max_streams:
            self.refuse_stream(stream, "too-many-streams")
            return
        if decoder.bad or decoder.over or flags & 256:
            self.refuse_stream(stream, decoder.bad or ("head-too-long" if decoder.over else "self-dependency"))
            return
        message = self.asked.request(fields, self.scheme, last, True)
        if type(message) is str:
            self.refuse_stream(stream, message)
            return
        self.open_request(message, stream, last)

    def open_request(self, message, stream, last):
        """A sound request head."""
        st = Stream.__new__(Stream)
        window = self.stream_window
        if window < 65535 and not self.acked:
            window = 65535  # the peer may not know better yet
        st.begin(stream, self.first_window, window)
        st.asked(message, last, self.now)
        if not last:
            self.check_by(self.now + self.body_idle)
            if self.max_body and message.length > self.max_body:
                self.refuse_stream(stream, "body-too-long")
                return
        self.streams[stream] = st
        first_priority(st, message, self.priorities)
        self.sink.head(stream, message, last)

    def refuse_stream(self, stream, rule):
        """A head that opens no exchange: reset, counted, and told for the log."""
        self.entomb(stream)
        self.say_reset(stream, code_of(rule))
        self.count(_RESETS)
        if rule != "too-many-streams":
            self.sink.refused(stream, broken(rule, False))

    def hear_response(self, st, fields, last):
        """Client role: a head, interim or final."""
        message = response_of(fields, st.method, last)
        if type(message) is str:
            self.bury(st, message)
            return
        if message.status < 200:
            st.informs += 1
            if self.limits.informational and st.informs > self.limits.informational:
                self.bury(st, "too-many-interim")
                return
            self.sink.inform(st.id, message.status, message.headers)
            return
        if st.answered(message, last, self.now):
            self.check_by(self.now + self.body_idle)
        stream = st.id
        if last:
            self.half_over(st)
        self.sink.head(stream, message, last)

    def hear_trailers(self, st, fields, last):
        """A second block on a stream: trailers, which end it."""
        if not last:
            self.bury(st, "trailer-not-last")
            return
        trailers = trailers_of(fields)
        if type(trailers) is str:
            self.bury(st, trailers)
            return
        if st.left > 0:
            self.bury(st, "wrong-length")
            return
        st.heard_end = True
        stream = st.id
        self.half_over(st)
        self.sink.end(stream, trailers or None)

    # ---- data

    def hear_data(self, data, v, at, size, flags, stream):
        """DATA: body bytes."""
        if stream == 0:
            self.fail("stream-zero")
        count = size
        if flags & _PADDED:
            if size < 1 or v[at] > size - 1:
                self.fail("bad-padding")
            count = size - 1 - v[at]
            at += 1
        last = flags & _END_STREAM != 0
        self.window -= size
        if self.window < 0:
            self.fail("window-exceeded")
        st = self.streams.get(stream)
        if st is None:
            self.credit(size)
            self.hear_unknown(stream)
            return
        if size != count:
            self.credit(size - count)
        if st.heard_end:
            self.credit(count)
            self.bury(st, "closed-stream")
            return
        if count == 0 and not last:
            self.count(_EMPTIES)
        st.window -= size
        if st.window < 0 or (st.left >= 0 and count > st.left) or not st.heard_head:
            self.credit(count)
            self.bury(st, "window-exceeded" if st.window < 0 else "wrong-length" if st.heard_head else "no-head")
            return
        if st.window == 0:
            st.paused = self.now
        if size != count:
            st.unacked += size - count
        self.give(st, _fast.piece(data, at, at + count), count, last)

    def give(self, st, chunk, count, last):
        """Body bytes to the sink."""
        st.received += count
        st.last = self.now
        st.expecting = False
        if st.left >= 0:
            st.left -= count
            if last and st.left:
                self.credit(count)
                self.bury(st, "wrong-length")
                return
        if self.max_body and st.received > self.max_body and not self.client and not st.tunnel:
            self.credit(count)
            self.bury(st, "body-too-long")
            return
        stream = st.id
        self.measure(count)
        if not count:
            if last:
                st.heard_end = True
                self.half_over(st)
                self.sink.data(stream, b"", True)
            return
        st.pending += count
        if last:
            st.heard_end = True
            self.half_over(st)
        self.sink.data(stream, chunk, last)

    def look(self):
        """Set `more`: there is something to send that the last `take` left, or somebody to tell of room."""
        self.more = bool(self.ready) and self.send_window > 0

    def has_room(self):
        """Whether somebody who was told to wait may go on."""
        for st in self.waiters:  # noqa: SIM110 (compiled code has no generator expressions here)
            if st.queued * 2 <= self.outgoing:
                return True
        return False

    def tell_room(self):
        """Tell those who wait and may go on."""
        for st in list(self.waiters):
            if st.waiting and st.queued * 2 <= self.outgoing:
                st.waiting = False
                self.waiters.remove(st)
                self.sink.room(st.id)

    def eof(self, now, stream=0):
        self.now = now
        self.wants_read = False
        self.finished = True
        if self.streams:
            status = 502 if self.client else 499
            side = "upstream" if self.client else "peer"
            why = NetError("the peer closed the connection", step="receive", status=status, side=side)
            for st in list(self.streams.values()):
                stream = st.id
                self.remove(st)
                self.sink.reset(stream, why, "both")
