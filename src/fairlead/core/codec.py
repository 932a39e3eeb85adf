"""Codec and Sink: how a protocol talks to the rest. Bytes and time in, words out; no socket, no clock, no await.

A Codec turns one connection's bytes into words it says to its Sink, and our words into bytes to send:

    peer's bytes -> feed/eof/tick -> sink.head inform data end reset room goaway          (hear)
    our words    -> head inform data end consumed reset goaway ping -> take() -> bytes    (say)

Rules
1. Say never calls hear on the same stack: a Sink may speak from inside any word it hears, and is not re-entered for it.
2. `feed` of h1 parses at most one request (client role: one response) per call and then returns; while `more` is true
   the caller calls `feed(b"", now)` again, in a loop. So pipelined requests never recurse, and answers leave in order. A
   multiplexed codec hears all that it is given; its `more` says that `take` has more to give or somebody has room.
3. What breaks the connection raises WireError from feed, eof or tick. `take()` still holds what should be sent first
   (an alert, a GOAWAY). `error.status` is the answer an unanswered HTTP/1 request deserves (say it by `refuse`);
   status 0 means: just close. What breaks one stream only is heard as `reset`.
4. Body bytes are delivered by `data` and stay charged against the window until `consumed(stream, n)` credits them. That
   is the one back-pressure mechanism: h1 stops wanting to read (`wants_read` false), h2 and h3 hold back WINDOW_UPDATE.
5. `data` said returns room: False means "taken, but say no more until `room(stream)` is heard".
6. `stream` numbers an exchange within its connection; h1 counts 1, 2, 3 ... A word for a stream that is over is ignored.
7. Times are monotonic nanoseconds and always arguments. `now` holds the last one given; whoever speaks outside of
   feed/eof/tick sets it first.
"""

from __future__ import annotations


class Sink:
    """Who hears a codec. Every method may be called only from inside feed, eof, tick or drained."""

    def head(self, stream, message, end):
        """A final head: Request (server role) or Response (client role). `end`: there is no body and no trailers."""

    def inform(self, stream, status, headers):
        """An interim (1xx) response head, client role."""

    def at_once(self, stream, message, body):
        """A final head (client role) with the whole of its body, told as one: the stream is at its end, and nothing is charged."""
        self.head(stream, message, False)
        self.data(stream, body, True)

    def data(self, stream, chunk, end):
        """Body bytes (bytes, never empty unless `end`)."""

    def end(self, stream, trailers):
        """The body is over; `trailers` is a header list or None."""

    def reset(self, stream, why, side):
        """The peer (or a rule it broke) ended a stream early. `why` is a FairleadError; side "both", "read" or "write"."""

    def room(self, stream):
        """A `data` that was told no room may go on."""

    def refused(self, stream, why):
        """A request head that opened no exchange; the codec has answered it. `why` is a WireError: for the log."""

    def goaway(self, last):
        """The peer will take no new exchange after stream `last`."""

    def lost(self, why):
        """The connection is gone; every open exchange ends with `why` (a FairleadError)."""


class Cast:
    """Body bytes that many exchanges say alike, `data`, and what a framing makes of them: made by the first, kept for all.

    `chunk`: a chunk of HTTP/1.1. `frame`: a WebSocket message, as a Cast of its own; `packed`: deflated, by window bits.
    """

    def __init__(self, data):
        self.data = data
        self.chunk = self.frame = self.packed = None


class Codec:
    """One connection's protocol state. Attributes everybody may read:

    client      True: we send requests and hear responses
    wants_read  False: give us no more bytes for now (back-pressure, or look-ahead full)
    more        True: `feed(b"", now)` would make progress without new bytes
    finished    True: nothing more will be said or heard: close once `take()` is empty and sent
    reusable    client role: True when another request may be said now (idle, alive)
    multiplexed True: many streams at once (writes are then batched per loop turn)
    silent      True: `take()` would give nothing. False: it may give something (a codec need not keep this up)
    tunnel      True after 101 or a 2xx to CONNECT (h1): `data` is raw both ways
    fin         a tunnel of one stream (h1): nothing more comes from us, and the peer may go on: shut the write side
    halves      whoever sets it wants that for the tunnel's `end`; else an `end` is the end of the connection
    abandoned   multiplexed: exchanges that ended early while the work for them goes on; their streams are not free yet
    region      a `core.region.Region` that is to be sent behind all that `take` gives, or None
    waits       multiplexed: {stream: (ns the peer's window kept us waiting, ns ours the peer)} of streams that are over
    """

    def __init__(self, sink, limits, client=False):
        self.sink = sink
        self.limits = limits
        self.client = client
        self.wants_read = True
        self.more = False
        self.finished = False
        self.reusable = False
        self.multiplexed = False
        self.tunnel = False
        self.fin = self.halves = self.silent = False
        self.abandoned = 0
        self.waits = None
        self.region = None
        self.now = 0

    # bytes and time in

    def feed(self, data, now, stream=0, fin=False):
        """Bytes from the peer. `stream` and `fin` only for codecs over many byte streams (h3, hop)."""

    def eof(self, now, stream=0):
        """The peer will send no more. Raises WireError when that cuts a message short."""

    def take(self):
        """What to send now: a list of bytes, or None when there is nothing. Giving it away empties it."""
        return None

    def deadline(self):
        """Monotonic ns at which `tick` wants to be called, 0 for never."""
        return 0

    def tick(self, now):
        """Time has reached the deadline: raises WireError (408, or 0 for an idle close) or does what is due."""

    def drained(self, now):
        """The socket took all that was waiting: hear `room` for each stream that was told to wait."""

    def unsent(self, stream):
        """Multiplexed: what a stream said and `take` has not given yet (0: nothing)."""
        return 0

    def detach(self):
        """Leave the connection to somebody else; the bytes fed but not used."""
        return b""

    # words out

    def head(self, stream, message, end):
        """Say a final head: a Response (server role) or a Request (client role: `stream` from `open_stream`)."""

    def whole(self, stream, message, body):
        """Say a final head and, if it can leave with it in one piece, all of the body: True. False: only the head was said."""
        self.head(stream, message, False)
        return False

    def open_stream(self):
        """Client role: the number for a new exchange, 0 when none may be opened now."""
        return 0

    def start(self, stream):
        """The handler begins to work on this request now. False: somebody else has it (hop); drop it without a word."""
        return True

    def inform(self, stream, status, headers):
        """Say an interim (1xx) response."""

    def data(self, stream, chunk, end):
        """Say body bytes; False: no room, wait for `room`."""
        return True

    def put_region(self, stream, region, end):
        """Say bytes of a file as body bytes, for the carrier to send; False where that is not possible."""
        return False

    def region_sent(self):
        """The carrier sent all of `region`."""

    def cast(self, stream, cast):
        """The bytes that would say `cast.data` now; the caller sends them itself, and at once. None: say it by `data`."""
        return None

    def end(self, stream, trailers):
        """Say the end of the body, with trailers or None."""

    def consumed(self, stream, count):
        """The reader took `count` bytes of what `data` delivered. The first call also sends a pending 100 Continue."""

    def reset(self, stream, why, side):
        """Give a stream up: "read" (we will not read its body), "write", or "both"."""

    def patient(self, stream):
        """Multiplexed: the body of this stream may pause as long as it likes (a stream of messages, not an upload)."""

    def goaway(self, last):
        """Soft goodbye: finish what is open, take nothing new (h1: the next answer says `Connection: close`)."""

    def ping(self):
        """Probe the peer, where the protocol can."""

    def refuse(self, status, headers, body):
        """Answer what could not be parsed or was not answered yet with a last response, then finish (h1)."""
