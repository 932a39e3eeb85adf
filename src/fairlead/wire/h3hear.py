"""The ear of HTTP/3: requests and answers on their streams (RFC 9114 section 4, both roles).

    a stream   head -> DATA* -> [trailer] -> its end, with unknown frames anywhere

Rules
1. What breaks the connection raises WireError; the order to close it is given by then. What breaks one stream resets that
   stream, and is heard as `reset` or `refused`.
2. All state is settled before the sink hears a word, because the sink may speak from inside it.
3. Bytes of frames are spent as they are read; a body's are when its reader took them (`consumed`). So what a stream may hold here
   is bounded by what the transport let the peer send.
4. A field section that needs inserts which have not come waits, and with it everything behind it on its stream; no more than
   `limits.qpack_blocked` streams may.
5. A frame type is judged before its payload is waited for. Where it may not be, the connection ends, as the RFC says: a peer
   that is lost in its own stream is lost in all of them.
Rules with their codes are in `h3rules`, messages in `h2head` (one for both versions), field sections in `qpack`, the connection's
own streams in `h3control`, ends and deadlines in `h3ends`, the pen in `h3frames`, the mouth in `h3`.
"""

from __future__ import annotations

from fairlead.core.errors import NetError, WireError
from fairlead.wire.h2head import Asked, Given, response_of, trailers_of
from fairlead.wire.h2stream import first_priority
from fairlead.wire.h3control import Control
from fairlead.wire.h3rules import reset_by_peer
from fairlead.wire.h3stream import Stream

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

_DATA, _HEADERS, _PUSH_PROMISE = 0, 1, 5
_RESETS, _EMPTIES = 0, 3
_USUAL = 2  # useless frames of a stream that are not counted: an empty DATA at its end, one of a reserved type (section 7.2.8)


class Hearing(Control):
    """The ear of `h3.H3`. `scheme`: of this connection's requests. `on_datagram(stream, payload)` is called when set."""

    def __init__(self, sink, limits, client=False, common=None):
        super().__init__(sink, limits, client)
        self.common = common
        self.scheme = "https"
        self.on_datagram = None
        self.given = Given()
        self.asked = Asked()
        self.requests = 0
        self.max_requests = limits.requests
        self.max_head = limits.head or 1 << 40
        self.max_body = limits.body
        self.max_blocked = limits.qpack_blocked
        self.outgoing = limits.outgoing or 1 << 60

    # ---- bytes in

    def feed(self, data, now, stream=0, fin=False):
        self.now = now
        self.more = False
        if self.finished or self.dead:
            return
        if not self.begun:
            self.begin(now)
        if data or fin:
            kind = stream & 3
            if kind == 0:
                self.hear_request_stream(data, stream, fin)
            elif kind == (3 if self.client else 2):
                self.hear_uni(data, stream, fin)
            elif kind == 1 and self.client:
                self.fail("server-bidi")
            else:
                self.spend(stream, len(data))  # ours alone, or nobody's: QUIC lets none of them through
        if self.waiters:
            self.tell_room()
        self.look()

    def begin(self, now):
        """The connection's first moment."""
        self.begun = self.idle_since = now or 1
        self.guard.leaked = now

    def hear_request_stream(self, data, stream, fin):
        """Bytes of a stream that carries a request and its answer."""
        st = self.streams.get(stream)
        if st is None:
            if stream in self.graves or self.client:
                self.spend(stream, len(data))
                if fin:
                    self.graves.pop(stream, None)
                return
            st = self.new_stream(stream, fin)
            if st is None:
                self.spend(stream, len(data))
                return
        if fin:
            st.fin = True
        if st.wants:
            if st.later is None:
                st.later = bytearray()
            st.later += data
            return
        self.read(st, data, fin)

    def new_stream(self, stream, fin):
        """Server role: the first bytes of a request, or None when it is not taken."""
        if stream > self.heard_last:
            self.heard_last = stream
        st = Stream.__new__(Stream)
        st.start(stream)
        st.fin = fin
        st.began = st.last = self.now
        full = len(self.streams) + self.abandoned >= self.max_streams
        self.streams[stream] = st
        self.requests += 1
        if self.requests == self.max_requests:
            self.goaway(-1)
        if 0 <= self.goaway_sent <= stream:
            self.decline(st, "after-goaway")
            return None
        if full:
            self.decline(st, "too-many-streams")
            return None
        if self.limits.header:
            self.check_by(self.now + self.limits.header)
        return st

    def read(self, st, data, fin):
        """The bytes `data` of a stream's frames; `fin`: its last ones."""
        fresh = len(data)
        if st.buffer:
            data = st.buffer + data
            st.buffer = b""
        self.spend(st.id, fresh - self.frames(st, data, data, len(data), fin))
        if fin and not st.gone and not st.heard_end and not st.wants:
            self.ended(st)

    def frames(self, st, data, v, end, fin):
        """Every whole frame; how many bytes of `data` are not to be spent: a body's, and what waits behind a field section."""
        at = 0
        kept = 0
        while at < end:
            if st.left_in:
                size = min(st.left_in, end - at)
                st.left_in -= size
                if st.kind == _DATA:
                    kept += size
                    last = fin and at + size == end
                    if last and st.left_in:
                        self.fail("frame-cut")
                    self.give(st, _fast.piece(data, at, at + size), size, last)
                    at += size
                elif st.kind == _HEADERS:
                    st.block += data[at : at + size]
                    at += size
                    if st.left_in == 0:
                        whole = bytes(st.block)
                        st.block = None
                        self.whole_block(st, whole, 0, len(whole), fin and at == end)
                else:
                    at += size
            else:
                kind = self.number(v, at, end)
                size = -1 if kind < 0 else self.number(v, self.behind, end)
                if kind >= 0:
                    self.may_stand(st, kind)
                if size < 0:
                    st.buffer = _fast.piece(data, at, end)
                    return kept
                at = self.behind
                if kind == _HEADERS:
                    if size > self.max_head:
                        self.spoilt(st, "head-too-long")
                    elif size <= end - at:
                        self.whole_block(st, data, at, at + size, fin and at + size == end)
                        at += size
                    else:
                        st.kind = kind
                        st.left_in = size
                        st.block = bytearray()
                else:
                    st.kind = kind
                    st.left_in = size
                    if size == 0 or kind != _DATA:
                        st.useless += 1
                        if st.useless > _USUAL:
                            self.count(_EMPTIES)
                    elif 0 <= st.left < size:
                        self.bury(st, "wrong-length")  # now, so that nothing of the frame is heard however it is cut
            if st.gone or self.dead:
                return kept
            if st.wants and at < end:
                st.later = bytearray(data[at:end])
                return kept + end - at
        return kept

    def may_stand(self, st, kind):
        """Whether a frame of this type may be here; unknown ones may."""
        if kind == _DATA:
            if not st.heard_head or st.has_tail:
                self.fail("frame-unexpected")
        elif kind == _HEADERS:
            if st.has_tail or st.tunnel or (st.method == "CONNECT" and not self.client and st.heard_head):
                self.fail("frame-unexpected")
        elif kind <= 13:
            if kind == _PUSH_PROMISE and self.client:
                self.fail("push")
            if kind == 2 or kind == 6 or kind == 8 or kind == 9:
                self.fail("reserved-frame")
            if kind == 3 or kind == 4 or kind == 5 or kind == 7 or kind == 13:
                self.fail("frame-unexpected")
        elif kind == 0xF0700 or kind == 0xF0701:
            self.fail("frame-unexpected")

    def ended(self, st):
        """A stream is over, and none of its frames said so."""
        if st.buffer or st.left_in:
            self.fail("frame-cut")
        if not st.heard_head:
            self.spoilt(st, "no-head" if self.client else "request-incomplete")
            return
        if st.left > 0:
            self.bury(st, "wrong-length")
            return
        st.heard_end = True
        number = st.id + 1
        trailers = st.tail
        tail = st.has_tail
        self.half_over(st)
        if tail:
            self.sink.end(number, trailers or None)
        else:
            self.sink.data(number, b"", True)

    def spoilt(self, st, rule):
        """A message is none: before its request was told of, it is refused, else reset."""
        if self.client or st.heard_head:
            self.bury(st, rule)
        else:
            self.decline(st, rule)

    # ---- field sections

    def whole_block(self, st, data, at, end, last):
        """A field section: a request, a response, or a trailer section."""
        decoder = self.decoder
        try:
            fields = decoder.section(data, at, end)
        except WireError as error:
            self.blame(error)
        if fields is None:
            if len(self.waiting) >= self.max_blocked:
                self.fail("too-many-blocked")
            st.wants = decoder.wanted
            st.block = bytearray(data[at:end])
            self.waiting.append(st)
            return
        if decoder.wanted:
            decoder.acknowledge(st.id, decoder.wanted)
        rule = decoder.bad if decoder.bad else "head-too-long" if decoder.over else ""
        if rule:
            self.spoilt(st, rule)
        elif st.heard_head:
            self.hear_trailers(st, fields, last)
        elif self.client:
            self.hear_response(st, fields, last)
        else:
            self.hear_request(st, fields, last)

    def wake(self):
        """Inserts came: go on with the streams whose field sections waited for them."""
        for st in list(self.waiting):
            if self.dead:
                return
            if not 0 < st.wants <= self.decoder.inserted:
                continue
            self.waiting.remove(st)
            st.wants = 0
            block = bytes(st.block)
            later = bytes(st.later) if st.later is not None else b""
            st.block = st.later = None
            self.whole_block(st, block, 0, len(block), st.fin and not later)
            if st.gone:
                self.spend(st.id, len(later))
            elif later:
                self.read(st, later, st.fin)
            elif st.fin and not st.heard_end:
                self.ended(st)

    def hear_request(self, st, fields, last):
        """Server role: a head."""
        message = self.asked.request(fields, self.scheme, last, True)
        if type(message) is str:
            self.decline(st, message)
            return
        self.open_request(st, message, last)

    def open_request(self, st, message, last):
        """A sound request head."""
        message.version = "3"
        if self.max_body and message.length > self.max_body:
            self.decline(st, "body-too-long")
            return
        st.asked(message, last, self.now)
        if not last:
            self.check_by(self.now + self.body_idle)
        first_priority(st, message, self.priorities)
        self.sink.head(st.id + 1, message, last)

    def hear_response(self, st, fields, last):
        """Client role: a head, interim or final."""
        message = response_of(fields, st.method, last)
        if type(message) is str:
            self.bury(st, message)
            return
        message.version = "3"
        number = st.id + 1
        if message.status < 200:
            st.informs += 1
            if self.limits.informational and st.informs > self.limits.informational:
                self.bury(st, "too-many-interim")
                return
            self.sink.inform(number, message.status, message.headers)
            return
        if st.answered(message, last, self.now):
            self.check_by(self.now + self.body_idle)
        if last:
            self.half_over(st)
        self.sink.head(number, message, last)

    def hear_trailers(self, st, fields, last):
        """A second section on a stream: trailers. They are told when the stream has ended."""
        trailers = trailers_of(fields)
        if type(trailers) is str:
            self.bury(st, trailers)
            return
        if st.left > 0:
            self.bury(st, "wrong-length")
            return
        st.has_tail = True
        st.tail = trailers
        if last:
            self.ended(st)

    # ---- bodies

    def give(self, st, chunk, count, last):
        """Body bytes to the sink."""
        if st.left >= 0:
            st.left -= count
            if st.left < 0 or (last and st.left):
                self.spend(st.id, count)
                self.bury(st, "wrong-length")
                return
        st.received += count
        st.last = self.now
        st.expecting = False
        if self.max_body and st.received > self.max_body and not self.client and not st.tunnel:
            self.spend(st.id, count)
            self.bury(st, "body-too-long")
            return
        st.pending += count
        number = st.id + 1
        if last:
            st.heard_end = True
            self.half_over(st)
        self.sink.data(number, chunk, last)

    def consumed(self, stream, count):
        st = self.streams.get(stream - 1)
        if st is None:
            return
        if st.expecting and not st.said_head and not self.client:
            st.expecting = False
            st.last = st.began = self.now
            self.check_by(self.now + self.body_idle)
            self.say_continue(st)
        if count <= 0:
            return
        if count > st.pending:
            count = st.pending
        st.pending -= count
        self.spend(st.id, count)
        if not st.pending and not st.heard_end:
            st.last = self.now  # the pause was ours
            self.check_by(self.now + self.body_idle)

    def say_continue(self, st):
        """Say 100 Continue."""

    # ---- the peer gives up

    def stream_reset(self, stream, code, now):
        """The peer ended its side of a stream with RESET_STREAM."""
        self.now = now
        if self.finished or self.dead:
            return
        if stream & 3 == 2 or stream & 3 == 3:
            self.uni_reset(stream)
            return
        self.graves.pop(stream, None)
        st = self.streams.get(stream)
        if st is None:
            if not self.client and stream > self.heard_last and stream & 3 == 0:
                self.heard_last = stream
                self.count(_RESETS)
                self.order("reset", stream, 0x10D)
            return
        if not self.client:
            self.count(_RESETS)
        st.fin = True
        self.give_up(st, 0x10C, reset_by_peer(code, self.client))

    def stop_sending(self, stream, code, now):
        """The peer reads no more of what we send on a stream (STOP_SENDING)."""
        self.now = now
        if self.finished or self.dead:
            return
        if stream == self.control_stream or stream == self.decoder_stream:
            self.fail("closed-critical")
        st = self.streams.get(stream)
        if st is None:
            return
        st.stopped = True
        if not self.client:
            self.count(_RESETS)
            self.give_up(st, 0x10C, reset_by_peer(code, False))
            return
        why = reset_by_peer(code, True)
        if code != 0x100 and not st.heard_head:
            self.give_up(st, 0x10C, why)
            return
        self.unsay(st)  # the answer is there, or comes; the rest of our body is of no use to anybody (section 4.1)
        self.sink.reset(stream + 1, why, "write")

    def unsay(self, st):
        """Nothing more is sent on a stream."""
        st.said_end = st.sent_end = True
        st.queue = None
        st.queued = 0
        if st.ready:
            st.ready = False
            self.ready.remove(st)
        if st.waiting:
            st.waiting = False
            self.waiters.remove(st)
        if st.heard_end:
            self.remove(st)

    def datagram(self, data, now):
        """The payload of a QUIC DATAGRAM frame: for the stream of a request (RFC 9297 section 2.1)."""
        self.now = now
        if self.finished or self.dead:
            return
        quarter = self.number(data, 0, len(data))
        if quarter < 0 or quarter >= 1 << 60:
            self.fail("bad-datagram")
        if self.on_datagram is not None and quarter * 4 in self.streams:
            self.on_datagram(quarter * 4 + 1, data[self.behind :])

    # ---- room

    def look(self):
        """Set `more`: there is something to send that the last `take` left."""
        self.more = bool(self.ready)

    def has_room(self):
        """Whether somebody who was told to wait may go on."""
        for st in self.waiters:  # noqa: SIM110 (compiled code has no generator expressions here)
            if not st.stuck and st.queued * 2 <= self.outgoing:
                return True
        return False

    def tell_room(self):
        """Tell those who wait and may go on."""
        for st in list(self.waiters):
            if st.waiting and not st.stuck and st.queued * 2 <= self.outgoing:
                st.waiting = False
                self.waiters.remove(st)
                self.sink.room(st.id + 1)

    def eof(self, now, stream=0):
        """The connection is over."""
        self.now = now
        self.wants_read = False
        self.finished = True
        if self.streams:
            status = 502 if self.client else 499
            side = "upstream" if self.client else "peer"
            why = NetError("the peer closed the connection", step="receive", status=status, side=side)
            for st in list(self.streams.values()):
                number = st.id + 1
                self.remove(st)
                self.sink.reset(number, why, "both")
