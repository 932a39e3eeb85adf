"""The hop: one link between a front and a worker (AF_UNIX, one machine), many requests at once. Both roles.

A frame is a header of 24 bytes, a block of byte strings (`_fast.frame`, `_fast.hop_block`) and body bytes:

    u32 length   u8 kind   u8 flags   u16 aux   u64 stream   u32 block   u32 extra   | block | body (length - block)

    REQUEST  front  head; the body may be with it             ANSWER  worker  head; aux: status; a whole answer is one frame
    INFORM   worker an interim head; aux: status              DATA    both    body bytes
    END      both   trailers                                  RESET   both    aux: status; flags: side
    CREDIT   both   extra: bytes credited; aux 1: go on (100) GRANT   worker  stream: begun up to it; aux: window
    GOAWAY   both   no new stream                             FD      both    a descriptor travels with this frame

Rules
1. A link carries words, not HTTP: what h1, h2 or h3 heard is said here, and what is heard here is said there. After 101, or a
   2xx to CONNECT, a stream is a tunnel: `data` is raw both ways, and each side ends by itself.
2. Streams are numbered by the front: 1, 2, 3 ... Body bytes are charged to their stream and to the link until `consumed`
   credits them; nobody sends what was not credited. What does not fit waits here, and the writer is told "no room".
3. A head waits for the first body bytes, so that a whole answer is one frame. All that was said in one turn of the loop leaves at
   once, small frames joined.
4. The worker says how far it began (`start`) and its `window`: how many requests the front may have sent that are not begun.
   A GRANT rides with answers; it goes alone only when the front may be waiting for it.
5. A claim word decides who has a request that is not begun: the front wrote SENT into it; the worker swaps it to BEGUN
   when its handler begins, the front to TAKEN when it waited too long. One of the two succeeds (see `core.slab`).
6. The worker's marks (CLOCK_MONOTONIC ns, one clock for a whole machine) come back in the block of the head and of the last frame.
7. Both sides of a link are ours, and yet nothing is believed: a frame that breaks a rule raises WireError, which ends the link
   and never the process. Frames of a stream that is over are ignored: they crossed its end.
8. After GOAWAY was said and heard, and no stream is left, the link is finished.
"""
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from fairlead.core.errors import AppError, Refused
from fairlead.core.names import name_cause
from fairlead.wire.hophear import Hearing, Stream
from fairlead.wire.hopwords import answer_marks, request_marks

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

REQUEST, ANSWER, INFORM, DATA, END, RESET, CREDIT, GRANT, GOAWAY, FD = range(1, 11)
F_END, F_EXPECT = 1, 2
SIDES = ("both", "read", "write")
DOWN, UP, STREAMS = 65536, 262144, 65536  # as in hophear
CLAIMS = 64  # claim words of one link
SMALL = 65536  # frames up to this much together leave as one piece
SENT, BEGUN, TAKEN = 1, 2, 3


class Hop(Hearing):
    """One end of a link: `client` in the front, the server role in a worker.

    `claims`: None, or the (Words, first word, generation) of this link. `window` (worker): what GRANT tells. `granted` and
    `begun` (front): what it told. `arriving` (worker): the Letter of the request whose head is being heard. `letter`
    (front): the Letter of the request that is said next. `on_grant()` and `on_start()` (the first begun in a turn, or a
    grant is due) are called when set.
    """

    # ---- words out

    def take(self):
        if self.heading is not None:
            self.release(b"", False)
        if not self.client and (self.frames or self.due):
            if self.begun != self.told_begun or self.window != self.told_window:
                self.put(_fast.hop_frame(GRANT, 0, self.window, 0, self.begun, None, None, b""))
                self.told_begun = self.begun
                self.told_window = self.window
            self.due = False
        frames = self.frames
        if not frames:
            return None
        self.frames = []
        if self.size <= SMALL and len(frames) > 1:
            frames = [_fast.joined(frames)]
        self.size = 0
        return frames

    def open_stream(self):
        if not self.reusable or self.finished or len(self.streams) >= STREAMS:
            return 0
        self.last += 1
        s = Stream.__new__(Stream)
        s.begin(self.last, DOWN)
        self.streams[self.last] = self.recent = s
        return self.last

    def head(self, stream, message, end):
        s = self.found(stream)
        if s is None:
            return
        if self.heading is not None:
            self.release(b"", False)
        s.message = message
        self.heading = s
        if self.client:
            request = message
            s.asks = 2 if request.method == "CONNECT" else 1 if request.upgrade else 0
            s.letter = self.letter
        else:
            response = message
            self.tunnel = self.opens_tunnel(s, response.status)
        if end:
            self.release(b"", True)
            self.said(s)

    def release(self, body, end):
        """Write the head that waits, with the first body bytes."""
        s = self.heading
        self.heading = None
        message = s.message
        s.message = None
        ex = self.conn.find(s.number) if self.conn is not None else None
        flags = F_END if end else 0
        if self.client:
            letter = s.letter
            s.letter = None
            request = message
            if request.expect:
                flags |= F_EXPECT
            marks = request_marks(letter.app, request, ex.journey if ex is not None else None)
            parts = letter.parts(request, marks, self.memory)
            self.put(_fast.hop_frame(REQUEST, flags, 0, 0, s.number, parts, request.listed(), body))
            return
        self.answers += 1
        cause = b""
        if ex is not None and ex.error is not None:
            cause = name_cause(ex.error).encode()
        journey = ex.journey if ex is not None else None
        response = message
        marks = answer_marks(journey, response.length, True, self.now if end else 0)
        parts = [marks, response.reason, cause, response.upgrade]
        if journey is not None and journey.custom is not None:
            own_steps(parts, journey.custom)
        self.put(_fast.hop_frame(ANSWER, flags, response.status, 0, s.number, parts, response.listed(), body))

    def data(self, stream, chunk, end):
        s = self.found(stream)
        if s is None or s.said_end or s.out_end:
            return True
        count = len(chunk)
        fits = count <= s.room and count <= self.room_left and s.out is None
        if self.heading is not None:
            if self.heading is s and fits:
                s.room -= count
                self.room_left -= count
                self.release(chunk, end)
                if end:
                    self.said(s)
                return self.has_room(s)
            self.release(b"", False)
        if end:
            s.finished = self.now
        if fits:
            self.send_data(s, chunk, end)
            return self.has_room(s)
        if s.out is None:
            s.out = []
        if count:
            s.out.append(chunk)
        s.out_end = end
        s.waiting = True
        self.go_on(s)
        return self.has_room(s)

    def has_room(self, s):
        """May more be said on this stream? If not, `room` will be heard."""
        if s.room > 0 and self.room_left > 0 and s.out is None:
            return True
        s.waiting = not s.said_end
        return False

    def send_data(self, s, chunk, end):
        """One DATA frame; there is room for it."""
        count = len(chunk)
        s.room -= count
        self.room_left -= count
        parts = self.last_marks(s) if end and not self.client else None
        self.put(
            _fast.hop_frame(DATA, F_END if end else 0, 0, 0, s.number, parts, [] if parts is not None else None, chunk)
        )
        if end:
            self.said(s)

    def last_marks(self, s):
        """The block of an answer's last frame: marks, and the application's own steps."""
        ex = self.conn.find(s.number) if self.conn is not None else None
        journey = ex.journey if ex is not None else None
        parts = [answer_marks(journey, 0, False, s.finished or self.now), b"", b"", b""]
        if journey is not None and journey.custom is not None:
            own_steps(parts, journey.custom)
        return parts

    def go_on(self, s):
        """There may be room again: send what waits, then tell the writer."""
        while s.out:
            room = s.room if s.room < self.room_left else self.room_left
            if room <= 0:
                return
            chunk = s.out[0]
            if len(chunk) > room:
                s.out[0] = _fast.piece(chunk, room, len(chunk))
                self.send_data(s, _fast.piece(chunk, 0, room), False)
                return
            s.out.pop(0)
            self.send_data(s, chunk, s.out_end and not s.out and s.trailers is None)
        if s.out is not None:
            s.out = None
            if s.out_end and not s.said_end:
                self.send_end(s, s.trailers)
        if s.said_end:
            s.waiting = False
        elif s.room > 0 and self.room_left > 0:
            s.waiting = False
            self.sink.room(s.number)

    def end(self, stream, trailers):
        s = self.found(stream)
        if s is None or s.said_end or s.out_end:
            return
        s.finished = self.now
        if self.heading is not None:
            if self.heading is s and not trailers:
                self.release(b"", True)
                self.said(s)
                return
            self.release(b"", False)
        if s.out is not None:
            s.out_end = True
            s.trailers = trailers
            return
        self.send_end(s, trailers)

    def send_end(self, s, trailers):
        parts = [] if self.client else self.last_marks(s)
        self.put(_fast.hop_frame(END, 0, 0, 0, s.number, parts, trailers if trailers is not None else [], b""))
        self.said(s)

    def said(self, s):
        """Our side of a stream is over."""
        s.said_end = True
        if s.heard_end:
            self.over(s)

    def inform(self, stream, status, headers):
        s = self.found(stream)
        if s is None or self.client:
            return
        if status == 100:
            self.consumed(stream, 0)
        elif 100 < status < 200:
            self.put(_fast.hop_frame(INFORM, 0, status, 0, stream, [], headers, b""))

    def consumed(self, stream, count):
        s = self.found(stream)
        if s is None:
            return
        if s.expect:
            s.expect = False
            self.put(_fast.hop_frame(CREDIT, 0, 1, 0, stream, None, None, b""))
        if count <= 0:
            return
        s.charged -= count
        self.credit_link(count)
        if s.heard_end:
            return
        s.owed += count
        if s.owed * 2 >= (UP if self.client else DOWN):
            self.put(_fast.hop_frame(CREDIT, 0, 0, s.owed, stream, None, None, b""))
            s.owed = 0

    def reset(self, stream, why, side):
        s = self.found(stream)
        if s is None:
            return
        if self.heading is s:
            if side == "both" and self.client:  # the other end has not heard of it
                self.heading = None
                self.over(s)
                return
            self.release(b"", False)
        code = SIDES.index(side)
        self.put(_fast.hop_frame(RESET, code, status_of(why), 0, stream, error_parts(why), [], b""))
        if side == "both":
            self.over(s)

    def goaway(self, last):
        if not self.said_goaway:
            self.said_goaway = True
            self.reusable = False
            self.put(_fast.hop_frame(GOAWAY, 0, 0, 0, 0, None, None, b""))
            self.maybe_finish()

    def pass_fd(self, stream, fd):
        """Send a descriptor: the carrier takes `fds_out` along with the bytes (SCM_RIGHTS, unix(7))."""
        self.fds_out.append(fd)
        self.put(_fast.hop_frame(FD, 0, 0, 0, stream, None, None, b""))

    # ---- who has it

    def word(self, stream, state):
        """The value of a claim word."""
        return self.generation | stream << 2 | state

    def send_claim(self, stream):
        """Front: a request is about to be sent."""
        if self.words is not None:
            self.words.store(self.claim_at + stream % CLAIMS, self.word(stream, SENT))

    def take_back(self, stream):
        """Front: is a request still not begun? Then it is the front's again, and the worker will not begin it."""
        if self.words is None:
            return False
        return self.words.swap(self.claim_at + stream % CLAIMS, self.word(stream, SENT), self.word(stream, TAKEN))

    def start(self, stream):
        """Worker: the handler begins now. False when the front took the request back, or the client left."""
        s = self.found(stream)
        if s is None:
            return False
        if s.begun:
            return True
        if self.words is not None and not self.words.swap(
            self.claim_at + stream % CLAIMS, self.word(stream, SENT), self.word(stream, BEGUN)
        ):
            return False
        s.begun = True
        if stream > self.begun:
            self.begun = stream
        if not self.due and (self.last - self.told_begun) * 2 >= self.told_window:
            self.due = True
            self.turning = False
        if not self.turning:
            self.turning = True
            if self.on_start is not None:
                self.on_start()
        return True

    def turn_over(self):
        """Worker: the turn in which something was begun has ended; `on_start` wants to hear of the next."""
        self.turning = False


def own_steps(parts, custom):
    """The application's own steps (name, start, duration) as parts: the name, then two numbers."""
    for name, start, duration in custom:
        parts.append(str(name).encode("utf-8", "replace")[:256])
        parts.append(b"%d %d" % (start, duration))


def status_of(why):
    """The status of an error, for the wire."""
    status = why.status if hasattr(why, "status") else 500
    return status if 0 <= status < 1000 else 500


def error_parts(why):
    """An error as five parts: kind, text, hint, step, side."""
    kind = b"app" if isinstance(why, AppError) else b"refused" if isinstance(why, Refused) else b"net"
    found = [kind]
    for text in (str(why), getattr(why, "hint", ""), getattr(why, "step", ""), getattr(why, "side", "us")):
        found.append(text[:1000].encode("utf-8", "replace"))
    return found
