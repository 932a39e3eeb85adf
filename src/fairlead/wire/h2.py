"""HTTP/2 (RFC 9113), server and client role: one connection's streams said, on top of `h2hear`, which hears them.

    Frames <- Windows <- Ends <- Control <- Hearing <- H2         hpack, h2head: header lists; h2stream: turns

Rules
1. Framing is ours: the same words of a handler become HTTP/1.1's chunks or HTTP/2's frames. Fields of a connection are
   dropped, Content-Length is held to its word, names become lower case (see `h2head`).
2. A head that may not be said raises AppError and leaves everything as it was. A body that breaks the promise of its head
   raises AppError too and resets its stream, and only that.
3. A body's bytes go out at once while nobody else waits and the windows allow it. What does not fit waits in its stream,
   and `take` gives each its turn (RFC 9218): so a late urgent answer overtakes an early large one.
4. `data` answers no room when more than `limits.outgoing` waits in its stream; `room` is heard when half of it is gone.
5. An answer that is over before its request: the stream is reset with NO_ERROR (section 8.1), and what still comes of the
   body is dropped.
6. After `ping` a connection takes nothing new until a byte comes; if none does, it is dead (for an upstream that is gone
   without a word, and would otherwise swallow every request given to it).
7. Goodbye has two steps (section 6.8): GOAWAY 2^31-1 and a PING; when the PING is back, or after a second, GOAWAY with the
   last stream that was heard. So nothing that was on its way is lost.
8. After a 2xx to CONNECT, extended or not (RFC 8441), a stream is raw bytes both ways.
"""

from __future__ import annotations

from fairlead.core.errors import AppError
from fairlead.wire.h2head import said_trailers, status_field
from fairlead.wire.h2hear import Hearing
from fairlead.wire.h2stream import Stream, next_of, priority_of

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

_FRAME = 16375  # body bytes in a DATA frame: with its header exactly one TLS record
_DRIBBLE = 1024  # a frame that the peer's windows cut shorter than this gives no reason for more WINDOW_UPDATE
_UPDATES = 4
_COPIED = 2048  # body bytes that are cheaper to copy than to send as a piece of their own
_TURN = 131072  # bytes that one `take` gives of what waits in streams
_PATIENCE = 5_000_000_000  # ns for a PING's answer, or for any other byte
_FINAL_AFTER = 1_000_000_000  # ns between the two steps of goodbye


class H2(Hearing):
    """One HTTP/2 connection. `common` (core.message.Common): date and server for answers that have none."""

    # ---- what leaves

    def take(self):
        if self.ready:
            self.turns()
        if not self.out:
            if not self.chunks:
                return None
        elif not self.chunks:
            out = bytes(self.out)
            self.out = bytearray()
            self.out_size = self.control = 0
            return [out]
        else:
            self.settle_chunk()
        chunks = self.chunks
        self.chunks = []
        self.out_size = self.control = 0
        return chunks

    def turns(self):
        """Give the streams that wait their turns."""
        left = _TURN
        while self.ready and left > 0 and self.send_window > 0:
            st = next_of(self.ready)
            left -= self.one_frame(st) + 9
        if self.send_window <= 0:
            for st in self.ready:
                self.stands(st)
        self.more = (bool(self.ready) and self.send_window > 0) or self.has_room()

    def one_frame(self, st):
        """One DATA frame of what a stream has waiting; how many body bytes."""
        queue = st.queue
        chunk = queue[0]
        skip = st.skip
        size = len(chunk) - skip
        most = min(_FRAME, st.send_window, self.send_window)
        if size > most and size:
            st.skip = skip + most  # the rest stays where it is: cutting it off would copy a large chunk for every frame
            size = most
            if size < _DRIBBLE:
                self.guard.level[_UPDATES] += 10
        else:
            del queue[0]
            st.skip = 0
        chunk = _fast.piece(chunk, skip, skip + size)
        st.queued -= size
        last = st.said_end and not queue
        if not last and st.incremental and len(self.ready) > 1:
            self.ready.remove(st)  # behind the others of its urgency
            self.ready.append(st)
        self.put_data(st, chunk, size, last and st.trailers is None)
        if last and st.trailers is not None:
            self.put_trailers(st)
        if not queue or st.send_window <= 0:
            if st.ready:
                st.ready = False
                self.ready.remove(st)
            if queue and st.queued:
                self.stands(st)
        return size

    def put_data(self, st, chunk, size, end):
        """A DATA frame, which the windows allow."""
        self.frame(size, 0, 1 if end else 0, st.id)
        if size <= _COPIED:
            self.out += chunk
        else:
            self.settle_chunk()
            self.chunks.append(chunk)
        st.send_window -= size
        self.send_window -= size
        self.out_size += size
        self.guard.earn(4, 10)
        if end:
            self.sent(st)

    def sent(self, st):
        """END_STREAM is out."""
        st.sent_end = True
        if st.heard_end:
            self.remove(st)
        elif not self.client and not st.tunnel:
            self.entomb(st.id)
            self.say_reset(st.id, 0)
            self.remove(st)

    def drained(self, now):
        self.now = now
        if self.waiters:
            self.tell_room()

    def unsent(self, stream):
        st = self.streams.get(stream)
        if st is None or st.queue is None:
            return 0
        return st.queued or len(st.queue)

    # ---- words out

    def head(self, stream, message, end):
        st = self.streams.get(stream)
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
        self.put_head(st.id, fields, end)
        if end:
            st.said_end = True
            self.sent(st)

    @property
    def capacity(self):
        """Client role: how many streams may be open at once, as the peer and `limits.streams` allow."""
        return min(self.peer_streams, self.max_streams)

    def open_stream(self):
        if not self.may_open():
            return 0
        stream = self.next_stream or 1
        self.next_stream = stream + 2
        st = Stream.__new__(Stream)
        st.begin(stream, self.first_window, self.stream_window)
        self.streams[stream] = st
        self.reusable = self.may_open()
        return stream

    def head_of_request(self, st, message, end):
        """A request head."""
        given = self.given
        fields = given.ask(message, end, self.connect_protocol)
        if given.tunnel:
            end = False
        st.method = message.method
        st.said_head = True
        st.said_left = given.length if not end else -1
        self.put_head(st.id, fields, end)
        if end:
            st.said_end = True
            self.sent(st)

    def put_head(self, stream, fields, end):
        """HEADERS, and CONTINUATION when the block is longer than a frame."""
        out = self.out
        start = len(out)
        self.frame(0, 1, 5 if end else 4, stream)
        encoder = self.encoder
        encoder.begin(out)
        for field in fields:
            encoder.add(out, field)
        size = len(out) - start - 9
        if size > 16384:
            self.split_block(start, size, stream, 1 if end else 0)
            return
        out[start] = size >> 16
        out[start + 1] = size >> 8 & 255
        out[start + 2] = size & 255

    def split_block(self, start, size, stream, flags):
        """A long block as HEADERS and CONTINUATION frames."""
        block = bytes(self.out[start + 9 :])
        del self.out[start:]
        at = 0
        while at < size:
            part = block[at : at + 16384]
            last = at + 16384 >= size
            if at == 0:
                self.frame(len(part), 1, flags, stream)
            else:
                self.frame(len(part), 9, 4 if last else 0, stream)
            self.out += part
            at += 16384

    def say_continue(self, st):
        self.put_head(st.id, [status_field(100)], False)

    def inform(self, stream, status, headers):
        st = self.streams.get(stream)
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
        self.put_head(stream, fields, False)

    def data(self, stream, chunk, end):
        st = self.streams.get(stream)
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
            not st.queue
            and size <= _FRAME
            and size <= st.send_window
            and size <= self.send_window
            and not self.ready
            and self.out_size < _TURN
        ):
            self.put_data(st, chunk, size, end)
            return True
        return self.hold(st, chunk, size)

    def hold(self, st, chunk, size):
        """Bytes that wait for a window or their turn; whether there is room for more."""
        if st.queue is None:
            st.queue = []
        if size or not st.queue:
            st.queue.append(chunk)
        st.queued += size
        if st.send_window > 0:
            self.enlist(st)
            if self.send_window <= 0:
                self.stands(st)
        elif size:
            self.stands(st)
        else:
            self.last_words(st)
        if st.queued <= self.outgoing or st.said_end:
            return True
        if not st.waiting:
            st.waiting = True
            self.waiters.append(st)
        return False

    def last_words(self, st):
        """END_STREAM alone needs no window."""
        if len(st.queue) == 1 and not st.queue[0]:
            st.queue = None
            if st.trailers is not None:
                self.put_trailers(st)
            else:
                self.put_data(st, b"", 0, True)

    def end(self, stream, trailers):
        st = self.streams.get(stream)
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
        self.put_head(st.id, st.trailers, True)
        self.sent(st)

    def lied(self, st):
        """A body is not as long as was promised: what is out cannot be mended, so the stream ends."""
        self.entomb(st.id)
        self.say_reset(st.id, 2)
        self.remove(st)
        raise AppError(st.lie())

    def reset(self, stream, why, side):
        st = self.streams.get(stream)
        if st is None or self.dead:
            return
        if side == "read" and not self.client:
            return
        code = 8
        if not self.client and why is not None and (why.side != "peer" or isinstance(why, AppError)):
            code = 2
        self.entomb(stream)
        if st.said_head or not self.client:
            self.say_reset(stream, code)
        self.remove(st)

    def goaway(self, last):
        self.reusable = False
        if self.goaway_sent >= 0 or self.dead:
            return
        if self.client:
            self.say_goaway(0, 0)
            if not self.streams:
                self.finished = True
            return
        self.say_goaway(0x7FFFFFFF, 0)
        self.out += b"\0\0\x08\6\0\0\0\0\0fairdrop"
        self.goaway_at = self.now + _FINAL_AFTER

    def ping(self):
        if not self.silent_by:
            self.silent_by = self.now + _PATIENCE
            self.reusable = False
        self.out += b"\0\0\x08\6\0\0\0\0\0fairping"
