"""HTTP/3 (RFC 9114), server and client role: one connection's streams said, on top of `h3hear`, which hears them.

    Frames <- Ends <- Control <- Hearing <- H3        qpack, h2head: header lists; h3stream, h2stream: streams and their turns

It stands on QUIC streams that a transport carries. The seam with that transport:

    feed(data, now, stream, fin)      bytes of a stream, in order; `fin`: its last. Both kinds of stream, by their QUIC ids
    stream_reset(stream, code, now)   the peer's RESET_STREAM           stop_sending(stream, code, now)  its STOP_SENDING
    datagram(data, now)               a QUIC DATAGRAM's payload         eof(now)      the connection is over
    opened()                          the peer allows more streams      drained(now)  the transport has room again
    blocked(stream), unblocked(stream)  the peer's flow control keeps bytes of a stream, or all of them are sent now

    take()    -> [(stream, bytes, fin)] or None      orders() -> [("reset" | "stop", stream, code), ("close", code, reason)]
    credit()  -> [(stream, bytes taken)]             messages(room, packet, around) -> [a QUIC DATAGRAM's payload]

Rules of the seam
1. After each of the verbs above, and when the rest said something: `take`, then `orders`, then `credit`. `more` is true after
   `take` when bodies wait for their turn (take again when the transport has sent what it was given), or when
   somebody may be told of room: `drained`, or `feed(b"", now)`, does that. So does the one after `unblocked`.
   `allowance`: body bytes that the next `take` may give, which the transport sets before it takes: what it can send soon, so that
   whatever comes later and is more urgent waits for no more than that. `roomy` after `take`: somebody may be told of room.
2. Peers are credited (MAX_DATA, MAX_STREAM_DATA) only what `credit` gives: what was read here, or by a body's reader.
3. The transport answers STOP_SENDING with RESET_STREAM itself (RFC 9000 section 3.5). A stream whose both sides are over is
   its own to forget.
4. ("close", 0x100, "") means: when all that was taken is acknowledged. Any other code: at once, and no verb after it.
5. `opener(unidirectional)` -> a new stream's id, -1 when the peer allows none now; then `opened()` when it does.
6. Exchanges are numbered by their QUIC stream's id plus one, because 0 is no stream to the rest (`Codec.open_stream`).
7. Datagrams wait here until the transport can send them, at most 256 and 256 KiB: the oldest is dropped (RFC 9221 section 5.3).
8. What breaks the connection raises WireError with `code`; `take` and `orders` still hold what goes out.

Rules of speaking are those of `h2`: framing is ours, the promise of a head is held to, bodies go out at once while nobody waits and
the transport has room, else in turns (RFC 9218), one stream after another where they do not ask to be mixed. An answer that is over
before its request stops it with H3_NO_ERROR. Goodbye has two steps (section 5.2): GOAWAY with the highest number, and a second
later with the first that is not taken any more. QUIC asks itself whether the peer lives, so `ping` does nothing.
"""

from __future__ import annotations

from fairlead.core.errors import AppError
from fairlead.wire.h2head import said_trailers, status_field
from fairlead.wire.h2stream import next_of, priority_of
from fairlead.wire.h3hear import Hearing
from fairlead.wire.h3stream import Stream
from fairlead.wire.quicint import varint

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

_FRAME = 16384  # body bytes of a stream's turn when it is to be mixed with others
_COPIED = 2048  # body bytes that are cheaper to copy than to send as a piece of their own
_PACKET = 1200  # bytes: who gave less than this may share its packets with who comes next
_LEAST = 256  # body bytes that are worth a frame
_DATAGRAMS, _DATAGRAM_BYTES = 256, 262_144
_NO_ERROR, _INTERNAL, _CANCELLED = 0x100, 0x102, 0x10C


class H3(Hearing):
    """One HTTP/3 connection. `opener` is set by the transport before the first `take`."""

    @property
    def version(self):
        """What the log calls a request that was refused."""
        return "3"

    # ---- what leaves

    def take(self):
        if self.heads:
            self.flush_heads()
        decoder = self.decoder
        if self.control or decoder.known < decoder.inserted or decoder.out:
            self.own_streams()
        if self.ready:
            self.turns()
        chunks = self.chunks
        self.out_size = 0
        self.roomy = self.has_room()
        self.more = self.roomy or bool(self.ready)
        if not chunks:
            return None
        self.chunks = []
        return chunks

    def turns(self):
        """Give the streams that wait their turns, as far as the transport allows.

        A transport sends what it holds of several streams a packet of each in turn. So the next stream has to wait for the next
        `take`, when it is not one that wants to be mixed with this one (RFC 9218 section 10).
        """
        left = self.allowance - self.out_size
        run = 0
        st = None
        while self.ready and left > _LEAST:
            before = st
            st = next_of(self.ready)
            if before is not None and before is not st:
                mixed = before.incremental and st.incremental and before.urgency == st.urgency
                if not mixed:
                    if run > _PACKET:
                        return
                    run = 0
            size = self.one_frame(st, left) + 4
            left -= size
            run += size

    def one_frame(self, st, most):
        """One DATA frame of what a stream has waiting, of `most` body bytes; how many it got."""
        queue = st.queue
        chunk = queue[0]
        skip = st.skip
        size = len(chunk) - skip
        mixed = st.incremental and len(self.ready) > 1
        if mixed and most > _FRAME - st.turn:
            most = _FRAME - st.turn
        if size > most:
            size = most
            st.skip = skip + size  # the rest stays where it is: cutting it off would copy a large chunk for every frame
        else:
            del queue[0]
            st.skip = 0
        chunk = _fast.piece(chunk, skip, skip + size)
        st.queued -= size
        last = st.said_end and not queue
        if mixed and not last:
            st.turn += size
            if st.turn >= _FRAME:
                st.turn = 0
                self.ready.remove(st)  # behind the others of its urgency
                self.ready.append(st)
        if not queue:
            st.ready = False
            self.ready.remove(st)
        self.put_data(st, chunk, size, last and st.trailers is None)
        if last and st.trailers is not None:
            self.put_trailers(st)
        return size

    def put_data(self, st, chunk, size, end):
        """A DATA frame, with the head that waited for it; without bytes, only the end."""
        stream = st.id
        out = st.saying
        if size == 0:
            if out is None:
                self.chunks.append((stream, b"", end))
            else:
                st.saying = None
                self.chunks.append((stream, bytes(out), end))
        else:
            if out is None:
                out = bytearray()
            else:
                st.saying = None
            out.append(0)
            if size < 64:
                out.append(size)
            elif size < 16384:
                out.append(0x40 | size >> 8)
                out.append(size & 255)
            else:
                out += varint(size)
            if size <= _COPIED:
                out += chunk
                self.chunks.append((stream, bytes(out), end))
            else:
                self.chunks.append((stream, bytes(out), False))
                self.chunks.append((stream, chunk, end))
            self.out_size += size
        if end:
            self.sent(st)

    def sent(self, st):
        """The end of our side is out."""
        st.sent_end = True
        if st.heard_end:
            self.remove(st)
        elif not self.client and not st.tunnel:
            if not st.fin:
                self.order("stop", st.id, _NO_ERROR)
                self.entomb(st.id)
            self.remove(st)

    def drained(self, now):
        self.now = now
        if self.waiters:
            self.tell_room()
        self.look()

    def unsent(self, stream):
        st = self.streams.get(stream - 1)
        if st is None or st.queue is None:
            return 0
        return st.queued or len(st.queue)

    # ---- words out

    def head(self, stream, message, end):
        st = self.streams.get(stream - 1)
        if st is None or st.said_head or self.dead:
            return
        if self.client:
            self.head_of_request(st, message, end)
        else:
            self.head_of_response(st, message, end)

    def head_of_response(self, st, message, end):
        """A final response head."""
        given = self.given
        fields = given.answer(message, st.method, end, self.common)
        if given.priority is not None:
            priority_of(st, given.priority)
        st.said_head = True
        st.said_left = given.length
        st.bodiless = given.bodiless
        st.tunnel = given.tunnel
        self.put_head(st, fields, end)
        if end:
            st.said_end = True
            self.sent(st)

    @property
    def capacity(self):
        """Client role: how many streams may be open at once, as `limits.streams` allows; QUIC may say fewer."""
        return self.max_streams

    def open_stream(self):
        if not self.may_open():
            self.reusable = False
            return 0
        opener = self.opener
        stream = -1 if opener is None else opener(False)
        if stream < 0:
            return 0  # for now: QUIC lets the peer count streams ahead, so there is no number to compare with
        st = Stream.__new__(Stream)
        st.start(stream)
        st.began = st.last = self.now
        self.streams[stream] = st
        self.reusable = self.may_open()
        return stream + 1

    def opened(self):
        """The peer allows more streams: `take` opens what we need, and who wants a request asks again."""

    def head_of_request(self, st, message, end):
        """A request head."""
        given = self.given
        fields = given.ask(message, end, self.connect_protocol)
        if given.tunnel:
            end = False
        if given.priority is not None:
            priority_of(st, given.priority)
        st.method = message.method
        st.said_head = True
        st.said_left = given.length if not end else -1
        self.put_head(st, fields, end)
        if end:
            st.said_end = True
            self.sent(st)

    def say_continue(self, st):
        self.put_head(st, [status_field(100)], False)

    def inform(self, stream, status, headers):
        st = self.streams.get(stream - 1)
        if st is None or self.client or st.said_head or self.dead:
            return
        if not 100 <= status < 200 or status == 101:
            raise AppError(f"{status} is not an interim status")
        if status == 100:
            if not st.expecting:
                return
            st.expecting = False
        fields = [status_field(status)]
        self.given.put(fields, headers, False)
        self.put_head(st, fields, False)

    def data(self, stream, chunk, end):
        st = self.streams.get(stream - 1)
        if st is None or st.said_end or not st.said_head or self.dead:
            return True
        size = len(chunk)
        if st.said_left >= 0:
            st.said_left -= size
            if st.said_left < 0 or (end and st.said_left):
                self.lied(st)
        if st.bodiless:
            size = 0
            chunk = b""
        if size == 0 and not end:
            return True
        if end:
            st.said_end = True
        if (
            not st.stuck
            and not st.queue
            and not self.ready
            and size <= self.allowance - self.out_size
            and (size <= _COPIED or len(self.streams) == 1)  # else what is more urgent may be said before this is taken
        ):
            self.put_data(st, chunk, size, end)
            return True
        return self.hold(st, chunk, size)

    def hold(self, st, chunk, size):
        """Bytes that wait for the transport or their turn; whether there is room for more."""
        if st.queue is None:
            st.queue = []
        if size == 0 and not st.queue:
            st.queue = None
            if st.trailers is None:
                self.put_data(st, b"", 0, True)  # an end alone needs no room
            else:
                self.put_trailers(st)
            return True
        st.queue.append(chunk)
        st.queued += size
        self.enlist(st)
        if st.said_end or (st.queued <= self.outgoing and not st.stuck):
            return True
        if not st.waiting:
            st.waiting = True
            self.waiters.append(st)
        return False

    def end(self, stream, trailers):
        st = self.streams.get(stream - 1)
        if st is None or st.said_end or not st.said_head or self.dead:
            return
        if st.said_left > 0:
            self.lied(st)
        if trailers is not None:
            trailers = said_trailers(trailers)
        st.said_end = True
        if trailers:
            st.trailers = trailers
        if st.queue:
            return
        if st.trailers is not None:
            self.put_trailers(st)
        else:
            self.put_data(st, b"", 0, True)

    def put_trailers(self, st):
        """The trailer section, which ends the stream."""
        self.put_head(st, st.trailers, True)
        self.sent(st)

    def lied(self, st):
        """A body is not as long as was promised: what is out cannot be mended, so the stream ends."""
        self.give_up(st, _INTERNAL, None)
        raise AppError(st.lie())

    def reset(self, stream, why, side):
        st = self.streams.get(stream - 1)
        if st is None or self.dead:
            return
        if side == "read" and not self.client:
            return
        code = _CANCELLED
        if not self.client and why is not None and (why.side != "peer" or isinstance(why, AppError)):
            code = _INTERNAL
        self.give_up(st, code, None)

    def say_datagram(self, stream, payload):
        """A datagram of a request's stream (RFC 9297 section 2.1). False: the peer takes none, or the stream is over."""
        if not self.datagrams or stream - 1 not in self.streams or self.dead:
            return False
        made = varint((stream - 1) // 4) + payload
        outbox = self.outbox
        outbox.append(made)
        self.outbox_size += len(made)
        while len(outbox) > _DATAGRAMS or self.outbox_size > _DATAGRAM_BYTES:
            self.outbox_size -= len(outbox.popleft())
        return True

    def messages(self, room, packet, around):
        """Datagrams for which there is room, the oldest first. Each takes `around` bytes more than its own; one that fits no packet
        is dropped.
        """
        found = []
        outbox = self.outbox
        while outbox:
            size = len(outbox[0]) + around
            if room < size <= packet:
                break
            made = outbox.popleft()
            self.outbox_size -= len(made)
            if size <= packet:
                room -= size
                found.append(made)
        return found
