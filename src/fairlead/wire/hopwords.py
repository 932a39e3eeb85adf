"""What the frames of `wire.hop` hold: a request's head as byte strings, and the marks of a journey as numbers.

A request is 11 parts: numbers (64 bytes: app, length, arrived, woken, read, parsed, routed, quality), "method scheme version",
the ends (peer, local and the effective client), authority, target, path, raw path, query, request id, upgrade, protocol. Its
fields are the header list. The path is empty where it is the raw path, as text. An answer's numbers are length, then the marks
started, answered, finished; the last frame's are the marks alone. Numbers are 64 bits, little-endian; times are CLOCK_MONOTONIC
ns.

An answer whose upgrade is `hold` is none: its field `fairlead-hold` says to which topics the front is to hand the client's
connection (`serve.hold`); for the worker it is the whole answer.

What repeats (a method, a connection's two ends) is made once and remembered, in a Memory of each link's end; it is bounded.
"""

from __future__ import annotations

from fairlead.core.errors import WireError

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

REMEMBERED = 4096
HOLD = b"hold"  # in the place of an answer's upgrade: no answer, but what the front is to do with the client's connection
HOLD_STATUS = 300  # of such an answer: none that would make a stream a tunnel


class Ends:
    """The ends of one connection of a front, and (in the worker) what the scopes of its requests have in common: see
    `core.connection`. `peer`, `local` and `client` are (host, port), a path, or None.
    """

    def __init__(self, peer, local, client):
        self.peer = peer
        self.local = local
        self.client = client
        self.scene = self.scene_of = None


class Memory:
    """Words that were written or read before: {thing: bytes} and {bytes: thing}. Emptied when it is full."""

    def __init__(self):
        self.method = self.scheme = self.version = None  # of the line that was written last
        self.last_line = self.last_raw = b""
        self.last_words = None  # of the line that was read last
        self.lines_out = {}
        self.lines_in = {}
        self.ends_out = {}
        self.ends_in = {}

    def line(self, request):
        """ "GET http 1.1" of a request."""
        if request.method is self.method and request.scheme is self.scheme and request.version is self.version:
            return self.last_line
        key = (request.method, request.scheme, request.version)
        found = self.lines_out.get(key)
        if found is None:
            if len(self.lines_out) >= REMEMBERED:
                self.lines_out.clear()
            found = self.lines_out[key] = " ".join(key).encode("utf-8", "replace")
        self.method, self.scheme, self.version = key
        self.last_line = found
        return found

    def read_line(self, raw):
        """(method, scheme, version)."""
        if raw == self.last_raw and self.last_words is not None:
            return self.last_words
        found = self.lines_in.get(raw)
        if found is None:
            if len(self.lines_in) >= REMEMBERED:
                self.lines_in.clear()
            found = tuple(raw.decode("latin-1").split(" "))
            if len(found) != 3 or not found[0]:
                raise WireError("hop: a request without its line", status=0, rule="hop-head", side="us")
            self.lines_in[raw] = found
        self.last_raw = raw
        self.last_words = found
        return found

    def ends(self, peer, local, client):
        """The three addresses as bytes; each is (host, port), a path, or None."""
        key = (peer, local, client)
        found = self.ends_out.get(key)
        if found is None:
            if len(self.ends_out) >= REMEMBERED:
                self.ends_out.clear()
            found = self.ends_out[key] = b"\0".join([write_end(end) for end in key])
        return found

    def read_ends(self, raw):
        """The Ends."""
        found = self.ends_in.get(raw)
        if found is None:
            if len(self.ends_in) >= REMEMBERED:
                self.ends_in.clear()
            pieces = raw.split(b"\0")
            if len(pieces) != 3:
                raise WireError("hop: a request without its ends", status=0, rule="hop-head", side="us")
            found = self.ends_in[raw] = Ends(read_end(pieces[0]), read_end(pieces[1]), read_end(pieces[2]))
        return found


def write_end(end):
    """An address as bytes."""
    if end is None:
        return b""
    if isinstance(end, tuple):
        return b"t%b %d" % (str(end[0]).encode("utf-8", "surrogateescape"), int(end[1]))
    return b"p" + (end if isinstance(end, bytes) else str(end).encode("utf-8", "surrogateescape"))


def read_end(raw):
    """An address from bytes."""
    if not raw:
        return None
    text = raw[1:].decode("utf-8", "surrogateescape")
    if raw[:1] != b"t":
        return text
    host, _, port = text.rpartition(" ")
    if not port.isascii() or not port.isdigit() or len(port) > 5:
        raise WireError("hop: an address that is none", status=0, rule="hop-head", side="us")
    return host, int(port)


class Letter:
    """What goes with a request's head and is no part of the message: who asks, for which app, when it passed where."""

    def begin(self, app, tag, ends):
        """Front: the app's number, the request's id, the ends as bytes."""
        self.app = app
        self.tag = tag
        self.ends = ends

    def parts(self, request, marks, memory):
        """The parts of the frame."""
        path = request.decoded
        return [
            marks, memory.line(request), self.ends, request.authority, request.target,
            path.encode("utf-8", "surrogatepass") if path else b"", request.raw_path, request.query, self.tag,
            request.upgrade, request.protocol,
        ]  # fmt: skip

    def read(self, request, parts, fields, memory):
        """Worker: fill a new Request, and this."""
        if parts is None or len(parts) != 11 or len(parts[0]) != 64:
            raise WireError("hop: a request without its parts", status=0, rule="hop-head", side="us")
        marks = parts[0]
        line = memory.read_line(parts[1])
        request.begin(line[0], line[1], parts[3], parts[4], fields, line[2], get64(marks, marks, 8))
        if parts[5]:
            request.decoded = text_of(parts[5])
        request.raw_path = parts[6]
        request.query = parts[7]
        request.upgrade = parts[9]
        request.protocol = parts[10]
        self.app = get64(marks, marks, 0)
        self.tag = parts[8]
        self.ends = parts[2]
        self.marks = marks

    def stamp(self, journey):
        """Give the worker's journey the front's marks, so that the application sees where its request has been."""
        marks = self.marks
        journey.arrived = get64(marks, marks, 16)
        journey.woken = get64(marks, marks, 24)
        journey.read = get64(marks, marks, 32)
        journey.parsed = get64(marks, marks, 40)
        journey.routed = get64(marks, marks, 48)
        journey.arrived_quality = get64(marks, marks, 56) & 7


def text_of(raw):
    """A decoded path."""
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise WireError("hop: a path that is no text", status=0, rule="hop-head", side="us") from None


def get32(data, v, at):
    """32 bits at byte `at`."""
    value = 0
    for i in range(3, -1, -1):
        value = value << 8 | v[at + i]
    return value


def get64(data, v, at):
    """64 bits at byte `at`, as a signed number."""
    value = 0
    for i in range(7, -1, -1):
        value = value << 8 | v[at + i]
    return value - (1 << 64) if value >> 63 else value


def request_marks(app, request, journey):
    """The numbers of a request."""
    if journey is None:
        return _fast.numbers(app, request.length, 0, 0, 0, 0, 0, 0, 64)
    return _fast.numbers(
        app, request.length, journey.arrived, journey.woken, journey.read, journey.parsed, journey.routed,
        journey.arrived_quality, 64,
    )  # fmt: skip


def answer_marks(journey, length, headed, finished):
    """The numbers of an answer's head (32 bytes), or of its last frame (24)."""
    started = answered = 0
    if journey is not None:
        started = journey.started
        answered = journey.answered
    if headed:
        return _fast.numbers(length, started, answered, finished, 0, 0, 0, 0, 32)
    return _fast.numbers(started, answered, finished, 0, 0, 0, 0, 0, 24)


def marked(journey, parts, at):
    """Front: the worker's marks, the cause of an early end, and the application's own steps."""
    marks = parts[0]
    started = get64(marks, marks, at)
    answered = get64(marks, marks, at + 8)
    finished = get64(marks, marks, at + 16)
    if started:
        journey.started = started
    if answered:
        journey.answered = answered
    if finished:
        journey.finished = finished
    if parts[2]:
        journey.end = parts[2][:24].decode("ascii", "replace")
    if len(parts) > 4:
        journey.custom = None
        for i in range(4, len(parts) - 1, 2):
            start, _, took = parts[i + 1].partition(b" ")
            if start.isdigit() and took.isdigit() and len(start) < 19 and len(took) < 19:
                journey.add(parts[i].decode("utf-8", "replace"), int(start), int(took))
