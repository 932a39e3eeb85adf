"""The ear of HTTP/2: frames, header blocks, streams, settings (RFC 9113 sections 4 to 6 and 8, both roles).

A connection is never half heard: a frame is used when it is whole, a header block when its last frame is. Everything that
one `feed` brings is heard in it, many requests if need be: answers need no order here, so nothing is held back.

    a stream   head -> data* -> [trailer] -> heard_end        no such stream: idle (above `last`), else closed; `graves`
                                                              remembers the ones that we reset, whose frames may still come
Rules
1. What breaks the connection raises WireError; `take` then has the GOAWAY. What breaks one stream resets that stream, is
   heard as `reset` or `refused`, and counts like a reset by the peer: both make us work for nothing (`h2limits`).
2. All state is settled before the sink hears a word, because the sink may speak from inside it.
3. A header block is decoded whatever becomes of it: the tables of both sides must stay equal.
4. A stream that is reset is gone from here at once, but it counts against `limits.streams` until the work for it has
   ended (`abandoned`): else reset and ask again would buy unlimited work.
5. DATA is charged to both windows with its padding (section 6.1), also on a stream that is gone.
The rules with their codes are in `h2rules`, messages in `h2head`, windows in `h2windows`, the mouth in `h2`.
"""

from __future__ import annotations

from fairlead.core.errors import NetError, WireError
from fairlead.wire.h2head import Given, request_of, response_of, trailers_of
from fairlead.wire.h2limits import Guard
from fairlead.wire.h2rules import broken, code_of, reset_by_peer
from fairlead.wire.h2stream import Stream, priority_of
from fairlead.wire.h2windows import Windows
from fairlead.wire.hpack import Decoder, Encoder

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _PRIORITY, _RST, _SETTINGS, _PUSH, _PING, _GOAWAY, _UPDATE, _CONTINUATION = range(10)
_PRIORITY_UPDATE = 16
_END_STREAM = 1
_ACK = 1
_END_HEADERS = 4
_PADDED = 8
_HAS_PRIORITY = 32
_MAX_WINDOW = 0x7FFFFFFF
_GRAVES = 256  # streams that we reset and remember: their frames may still be on the way
_RESETS, _SETTINGS_BUCKET, _PINGS, _EMPTIES, _UPDATES, _PRIORITIES = range(6)
_SECOND = 1_000_000_000


class Hearing(Windows):
    """The ear of `h2.H2`, and with `Windows` all of its state. `scheme`: of this connection's requests."""

    def __init__(self, sink, limits, client=False, common=None):
        self.sink = sink
        self.limits = limits
        self.client = client
        self.wants_read = True
        self.more = self.finished = self.tunnel = False
        self.multiplexed = True
        self.reusable = client
        self.now = 0
        self.abandoned = 0
        self.waits = None
        self.common = common
        self.scheme = "http"
        self.buffer = b""
        self.out = bytearray()
        self.chunks = []
        self.out_size = self.control = 0
        self.streams = {}
        self.last = self.next_stream = self.heard_last = 0
        self.graves = {}
        self.priorities = None
        self.decoder = Decoder(limits.head, limits.headers)
        self.encoder = Encoder()
        self.given = Given()
        self.guard = Guard(limits)
        self.block = None
        self.block_stream = self.block_flags = self.block_frames = self.block_began = 0
        self.peer_streams = 100 if client else 0
        self.peer_frame = 16384
        self.connect_protocol = self.greeted = self.settled = self.dead = False
        self.goaway_sent = -1
        self.goaway_heard = -1
        self.goaway_at = 0
        self.max_head = limits.head
        self.max_streams = limits.streams
        self.max_body = limits.body
        self.max_control = limits.control
        self.outgoing = limits.outgoing
        self.begun = self.idle_since = self.check_at = 0
        self.rtt = 0
        self.begin_windows(limits)
        self.greet()

    # ---- bytes in

    def feed(self, data, now, stream=0, fin=False):
        self.now = now
        self.more = False
        if self.finished or self.dead:
            return
        if not self.begun:
            self.begun = self.idle_since = now
        if data:
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
        if data[:size] != PREFACE[:size]:
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
            stream = (v[at + 5] & 127) << 24 | v[at + 6] << 16 | v[at + 7] << 8 | v[at + 8]
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
            self.hear_update(stream, (v[at] & 127) << 24 | v[at + 1] << 16 | v[at + 2] << 8 | v[at + 3])
        elif kind == _RST:
            if size != 4:
                self.fail("bad-frame-size")
            self.hear_reset(stream, v[at] << 24 | v[at + 1] << 16 | v[at + 2] << 8 | v[at + 3])
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
            own = ((v[at] & 127) << 24 | v[at + 1] << 16 | v[at + 2] << 8 | v[at + 3]) == stream
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
            self.block = None
            whole = bytes(block)
            self.whole_block(whole, 0, len(whole), self.block_flags, self.block_stream)

    def whole_block(self, data, at, end, flags, stream):
        """A header block: a request, a response, or a trailer section."""
        decoder = self.decoder
        try:
            fields = decoder.decode(data, at, end)
        except WireError:
            self.leave(9)
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
            self.fail("closed-stream" if stream & 1 else "bad-stream-id")
        self.heard_last = stream
        if 0 <= self.goaway_sent < stream:
            return
        self.last = stream
        decoder = self.decoder
        if len(self.streams) + self.abandoned >= self.max_streams:
            self.refuse_stream(stream, "too-many-streams")
            return
        if decoder.bad or decoder.over or flags & 256:
            self.refuse_stream(stream, decoder.bad or ("head-too-long" if decoder.over else "self-dependency"))
            return
        message = request_of(fields, self.scheme, last, True)
        if type(message) is str:
            self.refuse_stream(stream, message)
            return
        self.open_request(message, stream, last)

    def open_request(self, message, stream, last):
        """A sound request head."""
        st = Stream.__new__(Stream)
        st.begin(stream, self.first_window, self.stream_window)
        st.method = message.method
        st.heard_head = True
        st.heard_end = last
        if not last:
            st.left = message.length
            st.expecting = message.expect
            st.began = st.last = self.now
            self.check_by(self.now + self.body_idle)
            if self.max_body and message.length > self.max_body:
                self.refuse_stream(stream, "body-too-long")
                return
        self.streams[stream] = st
        if self.priorities is not None:
            value = self.priorities.pop(stream, None)
            if value is not None:
                priority_of(st, value)
        for field in message.headers:
            if field[0] == b"priority":
                priority_of(st, field[1])
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
        st.heard_head = True
        st.heard_end = last
        if not last:
            if st.method == "CONNECT" and message.status < 300:
                st.tunnel = True
            elif message.length >= 0:
                st.left = message.length
            st.began = st.last = self.now
            if not st.tunnel:
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
            if st.sent_end or self.client:
                self.half_over(st)
        self.sink.data(stream, chunk, last)

    # ---- the other frames

    def hear_reset(self, stream, code):
        """RST_STREAM."""
        if stream == 0:
            self.fail("stream-zero")
        st = self.streams.get(stream)
        if st is None:
            if self.is_idle(stream):
                self.fail("idle-stream")
            self.count(_RESETS)
            return
        if self.client and code == 0 and st.heard_end:
            self.remove(st)  # the whole answer came; the rest of our body is of no use to anybody (section 8.1)
            self.sink.reset(stream, reset_by_peer(code, True), "write")
            return
        self.remove(st)
        if not self.client:
            self.count(_RESETS)
        self.sink.reset(stream, reset_by_peer(code, self.client), "both")

    def hear_update(self, stream, count):
        """WINDOW_UPDATE."""
        self.count(_UPDATES)
        if stream == 0:
            if count == 0:
                self.fail("window-zero")
            if not self.open_connection(count):
                self.fail("window-overflow")
            return
        st = self.streams.get(stream)
        if st is None:
            if self.is_idle(stream):
                self.fail("idle-stream")
        elif count == 0:
            self.bury(st, "window-zero")
        elif not self.open_window(st, count):
            self.bury(st, "window-overflow")

    def hear_settings(self, v, at, size, flags, stream):
        """SETTINGS."""
        if stream:
            self.fail("not-stream-zero")
        if flags & _ACK:
            if size:
                self.fail("settings-ack-size")
            return
        if size % 6:
            self.fail("bad-frame-size")
        self.count(_SETTINGS_BUCKET)
        end = at + size
        while at < end:
            value = v[at + 2] << 24 | v[at + 3] << 16 | v[at + 4] << 8 | v[at + 5]
            self.hear_setting(v[at] << 8 | v[at + 1], value)
            at += 6
        first = not self.settled
        self.settled = True
        self.put_control(b"\0\0\0\4\1\0\0\0\0")
        if first and self.client:
            self.reusable = self.may_open()

    def hear_setting(self, name, value):
        """One setting (section 6.5.2, RFC 8441 section 3)."""
        if name == 1:
            self.encoder.resize(value)
        elif name == 2:
            if value > 1 or (self.client and value):
                self.fail("bad-setting")
        elif name == 3:
            self.peer_streams = value
            self.reusable = self.may_open()
        elif name == 4:
            if value > _MAX_WINDOW:
                self.fail("bad-window-setting")
            self.resize_streams(value)
        elif name == 5:
            if value < 16384 or value > 16777215:
                self.fail("bad-setting")
            self.peer_frame = value
        elif name == 8:
            if value > 1 or (self.connect_protocol and not value):
                self.fail("bad-setting")
            self.connect_protocol = value == 1

    def hear_ping(self, data, at, size, flags, stream):
        """PING: answered, or the answer to ours."""
        if stream:
            self.fail("not-stream-zero")
        if size != 8:
            self.fail("bad-frame-size")
        if flags & _ACK:
            self.hear_pong(data[at : at + 8])
            return
        self.count(_PINGS)
        self.put_control(b"\0\0\x08\6\1\0\0\0\0" + data[at : at + 8])

    def hear_pong(self, payload):
        """An answer to a PING of ours: it measures, or it says that the peer knows our GOAWAY."""
        if payload == b"fairdrop":
            if self.goaway_at:
                self.last_goaway()
        else:
            self.measured(payload)

    def hear_goaway(self, data, v, at, size, stream):
        """GOAWAY: what the peer did not look at may be asked again elsewhere (section 6.8)."""
        if stream:
            self.fail("not-stream-zero")
        if size < 8:
            self.fail("bad-frame-size")
        last = (v[at] & 127) << 24 | v[at + 1] << 16 | v[at + 2] << 8 | v[at + 3]
        if self.goaway_heard >= 0 and last > self.goaway_heard:
            last = self.goaway_heard
        self.goaway_heard = last
        self.reusable = False
        self.sink.goaway(last)
        if self.client:
            for st in list(self.streams.values()):
                if st.id > last:
                    self.remove(st)
                    why = reset_by_peer(7, True)
                    self.sink.reset(st.id, why, "both")
        self.over()

    def hear_priority(self, v, at, size, stream):
        """PRIORITY: deprecated and without effect, but checked (section 5.3.2)."""
        if stream == 0:
            self.fail("stream-zero")
        self.count(_PRIORITIES)
        st = self.streams.get(stream)
        rule = ""
        if size != 5:
            rule = "bad-frame-size"
        elif ((v[at] & 127) << 24 | v[at + 1] << 16 | v[at + 2] << 8 | v[at + 3]) == stream:
            rule = "self-dependency"
        if not rule:
            return
        if st is not None:
            self.bury(st, rule)
        elif rule == "bad-frame-size" or self.is_idle(stream):
            self.fail(rule)

    def hear_priority_update(self, data, v, at, size, stream):
        """PRIORITY_UPDATE (RFC 9218 section 7.1)."""
        if stream:
            self.fail("not-stream-zero")
        if self.client:
            self.fail("bad-stream-id")
        if size < 4:
            self.fail("bad-frame-size")
        self.count(_PRIORITIES)
        about = (v[at] & 127) << 24 | v[at + 1] << 16 | v[at + 2] << 8 | v[at + 3]
        if about == 0:
            self.fail("stream-zero")
        if size > 260:
            return
        value = data[at + 4 : at + size]
        st = self.streams.get(about)
        if st is not None:
            priority_of(st, value)
        elif about > self.heard_last and about & 1:
            if self.priorities is None:
                self.priorities = {}
            if len(self.priorities) < self.max_streams or about in self.priorities:
                self.priorities[about] = value

    # ---- how streams and connections end

    def hear_unknown(self, stream):
        """DATA or HEADERS on a stream that is not open: idle, reset by us, or closed."""
        if stream in self.graves:
            return
        if self.is_idle(stream):
            self.fail("idle-stream")
        if 0 <= self.goaway_sent < stream:
            return
        self.fail("closed-stream")

    def is_idle(self, stream):
        """Whether a stream was never opened."""
        if self.client:
            return not stream & 1 or stream >= self.next_stream
        return not stream & 1 or stream > self.heard_last

    def half_over(self, st):
        """The peer's side of a stream ended: gone, if ours has ended too."""
        if st.sent_end and not st.gone:
            self.remove(st)

    def remove(self, st):
        """A stream is no more. What its reader did not credit will never be, so its window goes back to the others."""
        if st.gone:
            return
        st.gone = True
        self.streams.pop(st.id, None)
        if st.ready:
            self.ready.remove(st)
            st.ready = False
        if st.waiting:
            self.waiters.remove(st)
            st.waiting = False
        if st.pending:
            self.credit(st.pending)
            st.pending = 0
        st.queue = None
        st.queued = 0
        if st.peer_wait or st.our_wait or st.stalled:
            self.note_wait(st)
        if self.client:
            self.reusable = self.may_open()
        self.over()

    def entomb(self, stream):
        """Remember that we reset a stream: its frames may still come, and are no offence."""
        graves = self.graves
        if len(graves) >= _GRAVES:
            del graves[next(iter(graves))]
        graves[stream] = True

    def bury(self, st, rule):
        """The peer broke a rule on one stream: reset it."""
        stream = st.id
        self.entomb(stream)
        self.remove(st)
        self.say_reset(stream, code_of(rule))
        self.count(_RESETS)
        self.sink.reset(stream, broken(rule, self.client), "both")

    def over(self):
        """A connection that said goodbye, or was told it, ends with its last stream."""
        if not self.streams:
            self.idle_since = self.now
            if (self.goaway_sent >= 0 and not self.goaway_at) or (self.goaway_heard >= 0 and self.client):
                self.finished = True

    def look(self):
        """Set `more`: there is something to send that the last `take` left, or somebody to tell of room."""
        self.more = bool(self.ready) and self.send_window > 0

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

    # ---- time

    def check_by(self, at):
        """Look at slow streams no later than `at`."""
        if self.check_at == 0 or at < self.check_at:
            self.check_at = at

    def deadline(self):
        if self.finished or self.dead:
            return 0
        limits = self.limits
        due = 0
        if not self.settled:
            due = self.begun + limits.header if limits.header and self.begun else 0
        elif self.block is not None:
            due = self.block_began + limits.header if limits.header else 0
        elif self.goaway_at:
            due = self.goaway_at
        elif not self.streams and self.abandoned == 0:
            if not self.idle_since:
                self.idle_since = self.now
            return self.idle_since + limits.idle if limits.idle else 0
        if self.check_at and self.streams and (due == 0 or self.check_at < due):
            due = self.check_at
        return due

    def tick(self, now):
        self.now = now
        limits = self.limits
        if self.goaway_at and now >= self.goaway_at:
            self.last_goaway()
        if not self.settled:
            if limits.header and self.begun and now >= self.begun + limits.header:
                self.fail("slow-preface")
        elif self.block is not None:
            if limits.header and now >= self.block_began + limits.header:
                self.fail("slow-head")
        elif not self.streams and self.abandoned == 0 and not self.finished:
            if limits.idle and now >= self.idle_since + limits.idle:
                self.leave(0)
                error = broken("idle", self.client)
                error.status = 0
                raise error
        if self.check_at and now >= self.check_at:
            self.check_streams(now)

    def check_streams(self, now):
        """Reset the streams whose peer is too slow; say when to look again."""
        self.check_at = 0
        for st in list(self.streams.values()):
            due = self.due_of(st)
            if due and now >= due:
                self.bury(st, self.slow_rule(st, now))
            elif due:
                self.check_by(due)

    def due_of(self, st):
        """When a stream counts as stalled, 0 for never."""
        if st.stalled:
            return st.stalled + self.limits.write_idle if self.limits.write_idle else 0
        if st.heard_end or not st.heard_head or st.tunnel or st.paused or st.expecting:
            return 0
        due = st.last + self.body_idle if self.body_idle else 0
        if self.limits.body_rate:
            slow = st.began + max(self.limits.body_grace, st.received * _SECOND // self.limits.body_rate)
            if due == 0 or slow < due:
                due = slow
        return due

    def slow_rule(self, st, now):
        """Which rule a stalled stream broke."""
        if st.stalled:
            return "slow-reader"
        return "slow-body" if self.body_idle and now >= st.last + self.body_idle else "slow-rate"
