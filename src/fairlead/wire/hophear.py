"""Hearing on a link: frames in, words out. What is said, and the rules of both, is in `wire.hop`.

    bytes -> frames_of -> frame -> hear_request | hear_answer | hear_data + body | hear_grant | hear_credit | hear_other -> Sink

A frame is handled when its block is there; its body is passed on as it comes. Everything is checked against the streams that are
open: a frame out of place raises WireError, one of a stream that is over is passed over (its body is credited to the link).
"""

from __future__ import annotations

from fairlead.core.codec import Codec
from fairlead.core.connection import Connection
from fairlead.core.errors import AppError, NetError, Refused, WireError
from fairlead.core.message import Request, Response
from fairlead.wire.hopwords import Letter, Memory, get32, get64, marked

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

HEADER = 24
REQUEST, ANSWER, INFORM, DATA, END, RESET, CREDIT, GRANT, GOAWAY, FD = range(1, 11)
F_END, F_EXPECT = 1, 2
SIDES = ("both", "read", "write")

DOWN = 65536  # body bytes of one request on their way to a worker
UP = 262144  # body bytes of one answer on their way to the front: two of the usual 100 KB pages
LINK = 67108864  # both, of all streams of a link together
SHORT = 16384  # an answer's body up to this much is told with its head
BLOCK = 1048576  # a head with its names and values; listeners' own limits are far below
STREAMS = 65536  # open at once on one link
WINDOW = 48  # requests sent and not begun, at most; below the claim words of a link, so that none is used twice at once


class Stream:
    """One exchange on a link: what was said and heard of it, what may still be sent, and what waits."""

    def begin(self, number, window):
        """In place of a constructor: `Stream.__new__(Stream)`, then this."""
        self.number = number
        self.message = None
        self.room = window
        self.charged = 0
        self.owed = 0
        self.out = None
        self.trailers = None
        self.finished = 0
        self.out_end = self.said_end = self.heard_end = self.heard_head = False
        self.expect = self.waiting = self.begun = False
        self.asks = 0
        self.letter = None


class Hearing(Codec):
    """The half of a Hop that hears, and what both halves share."""

    def __init__(self, sink, limits, client=False, claims=None):
        Codec.__init__(self, sink, limits, client)
        self.multiplexed = True
        self.abandoned = 0
        self.waits = None
        self.conn = sink if isinstance(sink, Connection) else None
        self.streams = {}
        self.recent = None  # the stream that was looked up last
        self.frames = []
        self.size = 0
        self.buffer = b""
        self.rest = 0
        self.rest_stream = 0
        self.rest_end = False
        self.entire = None  # all of the body of the answer whose head is being heard
        self.heading = None
        self.room_left = LINK
        self.charged = self.owed = 0
        self.last = 0
        self.begun = self.told_begun = 0
        self.window = self.told_window = 1
        self.due = False
        self.said_goaway = self.heard_goaway = False
        self.letter = self.arriving = None
        self.memory = Memory()
        self.on_grant = self.on_start = self.on_fd = None
        self.fds_in = []
        self.fds_out = []
        self.reusable = client
        self.words = claims[0] if claims is not None else None
        self.claim_at = claims[1] if claims is not None else 0
        self.generation = claims[2] << 42 if claims is not None else 0
        self.how_far = 0
        self.answers = 0
        self.turning = False

    # ---- bytes in

    def feed(self, data, now, stream=0, fin=False):
        self.now = now
        if self.buffer:
            data = self.buffer + data
            self.buffer = b""
        self.frames_of(data, data)

    def frames_of(self, data, v):
        """Every whole frame of the data, and of a frame with a body as much as is there."""
        at = 0
        size = len(data)
        while at < size and not self.finished:
            if self.rest:
                count = self.rest if self.rest < size - at else size - at
                self.rest -= count
                self.body(_fast.piece(data, at, at + count))
                at += count
                continue
            if size - at < HEADER:
                break
            length = get32(data, data, at)
            block = get32(data, data, at + 16)
            kind = v[at + 4]
            if block > length or block > BLOCK or length - block > LINK:
                raise broke("a frame says more than it may hold", "hop-length")
            if size - at - HEADER < block:
                break
            self.how_far = at + HEADER
            self.rest = length - block
            self.entire = None
            if kind == ANSWER and v[at + 5] & F_END and 0 < self.rest <= SHORT and self.rest <= size - at - HEADER - block:
                self.entire = _fast.piece(data, at + HEADER + block, at + HEADER + length)
            self.rest_stream = get64(data, data, at + 8)
            self.rest_end = False
            self.frame(kind, v[at + 5], v[at + 6] | v[at + 7] << 8, get32(data, data, at + 20), data, block)
            at += HEADER + (length if self.rest == 0 else block)  # an answer that was told at once has no rest
        if at < size and not self.finished:
            self.buffer = _fast.piece(data, at, size)

    def frame(self, kind, flags, aux, extra, data, block):
        """One frame, without its body."""
        number = self.rest_stream
        parts = fields = None
        if block:
            found = _fast.hop_block(data, self.how_far, self.how_far + block)
            if found is None:
                raise broke("the block of a frame does not add up", "hop-block")
            parts, fields = found
        if self.rest and kind != DATA and kind != REQUEST and kind != ANSWER:
            raise broke(f"a frame of kind {kind} has a body", "hop-body")
        if kind == DATA:
            self.hear_data(number, flags, parts)
        elif kind == ANSWER and self.client:
            self.hear_answer(number, flags, aux, parts, fields)
        elif kind == REQUEST and not self.client:
            self.hear_request(number, flags, parts, fields)
        elif kind == GRANT and self.client:
            self.hear_grant(number, aux)
        elif kind == CREDIT:
            self.hear_credit(number, extra, aux)
        else:
            self.hear_other(kind, number, flags, aux, parts, fields)

    def hear_request(self, number, flags, parts, fields):
        if number <= self.last or number >> 40:
            raise broke(f"stream {number} comes after {self.last}", "hop-stream")
        if len(self.streams) >= STREAMS:
            raise broke("too many streams are open", "hop-streams")
        self.last = number
        request = Request.__new__(Request)
        letter = Letter.__new__(Letter)
        letter.read(request, parts, fields, self.memory)
        s = Stream.__new__(Stream)
        s.begin(number, UP)
        s.heard_head = True
        s.heard_end = flags & F_END != 0 and self.rest == 0
        s.expect = request.expect = flags & F_EXPECT != 0
        s.asks = 2 if request.method == "CONNECT" else 1 if request.upgrade else 0
        self.streams[number] = self.recent = s
        self.rest_end = flags & F_END != 0
        self.arriving = letter
        self.sink.head(number, request, s.heard_end)
        self.arriving = None

    def hear_answer(self, number, flags, status, parts, fields):
        s = self.found(number)
        if s is None:
            return
        if s.heard_head:
            raise broke("a second head", "hop-head")
        if parts is None or len(parts) < 4 or len(parts[0]) < 32 or not 100 < status < 1000:
            raise broke("an answer without its parts", "hop-head")
        s.heard_head = True
        s.heard_end = flags & F_END != 0 and self.rest == 0
        self.rest_end = flags & F_END != 0
        message = Response.__new__(Response)
        message.begin(status, fields, get64(parts[0], parts[0], 0), parts[1], "1.1")
        message.upgrade = parts[3]
        self.hear_marks(number, parts, 8)
        self.tunnel = self.opens_tunnel(s, status)
        if self.entire is not None and not self.tunnel and s.said_end:
            self.tell_entire(s, message, self.entire)
            return
        if s.heard_end:
            self.over(s)
        self.sink.head(number, message, s.heard_end)

    def tell_entire(self, s, message, body):
        """An answer with all of its body, to a request that was said: one word, and nothing stays charged."""
        self.entire = None
        self.rest = 0
        s.heard_end = True
        count = len(body)
        self.charged += count
        self.credit_link(count)
        self.over(s)
        self.sink.at_once(s.number, message, body)

    def hear_marks(self, number, parts, at):
        """The worker's marks, from byte `at` of the first part on: into the journey of the exchange."""
        if self.conn is not None and parts is not None and len(parts) >= 4:
            ex = self.conn.find(number)
            if ex is not None:
                marked(ex.journey, parts, at)

    def hear_data(self, number, flags, parts):
        s = self.found(number)
        self.rest_end = flags & F_END != 0
        if s is not None:
            if s.heard_end or not s.heard_head:
                raise broke("body bytes where none may be", "hop-data")
            if parts and self.client and len(parts[0]) >= 24:
                self.hear_marks(number, parts, 0)
        if self.rest == 0 and self.rest_end and s is not None:
            s.heard_end = True
            if s.said_end and not s.out:
                self.over(s)
            self.sink.data(number, b"", True)

    def body(self, chunk):
        """Body bytes of the frame that is being read."""
        count = len(chunk)
        number = self.rest_stream
        self.charged += count
        if self.charged > LINK:
            raise broke("more was sent than the link may hold", "hop-window")
        s = self.found(number)
        if s is None:
            self.credit_link(count)
            return
        s.charged += count
        if s.heard_end or s.charged > (UP if self.client else DOWN):
            raise broke("more was sent than the stream may hold", "hop-window")
        end = self.rest == 0 and self.rest_end
        if end:
            s.heard_end = True
            if s.said_end and not s.out:
                self.over(s)
        self.sink.data(number, chunk, end)

    def hear_grant(self, number, window):
        if not 1 <= window <= WINDOW or number > self.last:
            raise broke("a grant of what is not there", "hop-grant")
        if number > self.begun:
            self.begun = number
        self.window = window
        if self.on_grant is not None:
            self.on_grant()

    def hear_credit(self, number, count, aux):
        if number == 0:
            self.room_left += count
            if self.room_left > LINK:
                raise broke("more was credited than sent", "hop-credit")
            for s in list(self.streams.values()):
                if s.waiting:
                    self.go_on(s)
            return
        s = self.found(number)
        if s is None:
            return
        s.room += count
        if s.room > (DOWN if self.client else UP):
            raise broke("more was credited than sent", "hop-credit")
        if aux == 1:
            self.sink.inform(number, 100, [])
        if s.waiting:
            self.go_on(s)

    def hear_other(self, kind, number, flags, aux, parts, fields):
        if kind == GOAWAY:
            self.heard_goaway = True
            self.reusable = False
            if not self.said_goaway:
                self.goaway(-1)
            self.sink.goaway(self.last)
            self.maybe_finish()
            return
        if kind == FD:
            if not self.fds_in:
                raise broke("a descriptor was announced and did not come", "hop-fd")
            fd = self.fds_in.pop(0)
            if self.on_fd is not None:
                self.on_fd(number, fd)
            return
        if kind not in (INFORM, END, RESET) or (kind == INFORM and not self.client):
            raise broke(f"a frame of kind {kind} here", "hop-kind")
        s = self.found(number)
        if s is None:
            return
        if kind == RESET:
            self.hear_reset(s, flags, aux, parts)
        elif kind == END:
            self.hear_end(s, parts, fields)
        else:
            if not 100 < aux < 200 or s.heard_head:
                raise broke("an interim head out of place", "hop-head")
            self.sink.inform(number, aux, fields or [])

    def hear_end(self, s, parts, fields):
        if s.heard_end or not s.heard_head:
            raise broke("an end out of place", "hop-data")
        if self.client and parts is not None and parts and len(parts[0]) >= 24:
            self.hear_marks(s.number, parts, 0)
        s.heard_end = True
        if s.said_end and not s.out:
            self.over(s)
        self.sink.end(s.number, fields or None)

    def hear_reset(self, s, flags, status, parts):
        if parts is None or len(parts) != 5 or flags & 7 > 2:
            raise broke("a reset without its parts", "hop-reset")
        side = SIDES[flags & 7]
        why = error_of(status, parts)
        if not self.client and s.number > self.begun:  # taken back: it counts as begun, and the front may be waiting
            self.begun = s.number
            self.due = True
        if side == "both":
            self.over(s)
        self.sink.reset(s.number, why, side)

    def eof(self, now, stream=0):
        self.now = now
        if self.streams or self.rest or self.buffer:
            raise WireError("the link was cut", status=0, rule="hop-cut", side="us")
        self.finished = True

    def detach(self):
        left = self.buffer
        self.buffer = b""
        return left

    # ---- what both halves share

    def found(self, number):
        """The open stream of a number, or None."""
        s = self.recent
        if s is None or s.number != number:
            s = self.recent = self.streams.get(number)
        return s

    def put(self, frame):
        self.size += len(frame)
        self.frames.append(frame)

    def opens_tunnel(self, s, status):
        """Does an answer of this status make the stream a tunnel? After 101 the asking side may speak on."""
        if status == 101 and s.asks == 1:
            if self.client:
                s.said_end = False
            else:
                s.heard_end = False
            return True
        return s.asks == 2 and 200 <= status < 300

    def credit_link(self, count):
        """Bytes are off the link; it is told so in large steps."""
        self.charged -= count
        self.owed += count
        if self.owed >= LINK // 4:
            self.put(_fast.hop_frame(CREDIT, 0, 0, self.owed, 0, None, None, b""))
            self.owed = 0

    def over(self, s):
        """Both sides are done with a stream: what nobody credited is credited now."""
        if self.streams.pop(s.number, None) is None:
            return
        self.recent = None
        s.out = None
        s.waiting = False
        if s.charged:
            self.credit_link(s.charged)
            s.charged = 0
        if self.said_goaway:
            self.maybe_finish()

    def maybe_finish(self):
        if self.said_goaway and self.heard_goaway and not self.streams:
            self.finished = True

    def go_on(self, s):
        """There may be room again on a stream: see `wire.hop`."""


def broke(text, rule):
    """The error of a frame that breaks a rule."""
    return WireError(f"hop: {text}", status=0, rule=rule, side="us")


def error_of(status, parts):
    """The error that parts describe."""
    text, hint, step, side = [part.decode("utf-8", "replace") for part in parts[1:]]
    if parts[0] == b"app":
        return AppError(text, status=status, hint=hint)
    if parts[0] == b"refused":
        return Refused(text, status=status, hint=hint)
    return NetError(
        text, step=step, status=status, side=side if side in ("peer", "us", "upstream") else "us", hint=hint
    )
