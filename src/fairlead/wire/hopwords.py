"""What the frames of `wire.hop` hold: a request's head as byte strings, and the marks of a journey as numbers.

A request is 11 parts: numbers (64 bytes: app, length, arrived, woken, read, parsed, routed, quality), "method scheme version",
the ends (peer, local and the effective client), authority, target, path, raw path, query, request id, upgrade, protocol. Its
fields are the header list. An answer's numbers are length, then the marks started, answered, finished; the last frame's are
the marks alone. Numbers are 64 bits, little-endian; times are CLOCK_MONOTONIC ns.

What repeats (a method, a connection's two ends) is made once and remembered, in a Memory of each link's end; it is bounded.
"""

from __future__ import annotations

from fairlead.core.errors import WireError

REMEMBERED = 4096


class Memory:
    """Words that were written or read before: {thing: bytes} and {bytes: thing}. Emptied when it is full."""

    def __init__(self):
        self.lines_out = {}
        self.lines_in = {}
        self.ends_out = {}
        self.ends_in = {}

    def line(self, request):
        """ "GET http 1.1" of a request."""
        key = (request.method, request.scheme, request.version)
        found = self.lines_out.get(key)
        if found is None:
            if len(self.lines_out) >= REMEMBERED:
                self.lines_out.clear()
            found = self.lines_out[key] = " ".join(key).encode("utf-8", "replace")
        return found

    def read_line(self, raw):
        """(method, scheme, version)."""
        found = self.lines_in.get(raw)
        if found is None:
            if len(self.lines_in) >= REMEMBERED:
                self.lines_in.clear()
            found = tuple(raw.decode("latin-1").split(" "))
            if len(found) != 3 or not found[0]:
                raise WireError("hop: a request without its line", status=0, rule="hop-head", side="us")
            self.lines_in[raw] = found
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
        """(peer, local, client)."""
        found = self.ends_in.get(raw)
        if found is None:
            if len(self.ends_in) >= REMEMBERED:
                self.ends_in.clear()
            pieces = raw.split(b"\0")
            if len(pieces) != 3:
                raise WireError("hop: a request without its ends", status=0, rule="hop-head", side="us")
            found = self.ends_in[raw] = tuple([read_end(piece) for piece in pieces])
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
        path = request.path
        raw = request.raw_path
        return [
            marks, memory.line(request), self.ends, request.authority, request.target,
            path.encode("utf-8", "surrogatepass"), raw, request.query, self.tag, request.upgrade, request.protocol,
        ]  # fmt: skip

    def read(self, request, parts, fields, memory):
        """Worker: fill a new Request, and this."""
        if parts is None or len(parts) != 11 or len(parts[0]) != 64:
            raise WireError("hop: a request without its parts", status=0, rule="hop-head", side="us")
        marks = parts[0]
        line = memory.read_line(parts[1])
        request.begin(line[0], line[1], parts[3], parts[4], fields, line[2], get64(marks, marks, 8))
        try:
            request.path = parts[5].decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise WireError("hop: a path that is no text", status=0, rule="hop-head", side="us") from None
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


def put64(v, at, value):
    """Write 64 bits of a signed number."""
    for i in range(8):
        v[at + i] = (value >> (8 * i)) & 255


def request_marks(app, request, journey):
    """The numbers of a request."""
    made = bytearray(64)
    write_request(made, app, request, journey)
    return bytes(made)


def write_request(v, app, request, journey):
    put64(v, 0, app)
    put64(v, 8, request.length)
    if journey is not None:
        put64(v, 16, journey.arrived)
        put64(v, 24, journey.woken)
        put64(v, 32, journey.read)
        put64(v, 40, journey.parsed)
        put64(v, 48, journey.routed)
        put64(v, 56, journey.arrived_quality)


def answer_marks(journey, length, headed, finished):
    """The numbers of an answer's head (32 bytes), or of its last frame (24)."""
    at = 8 if headed else 0
    made = bytearray(24 + at)
    write_answer(made, at, journey, length, finished)
    return bytes(made)


def write_answer(v, at, journey, length, finished):
    if at:
        put64(v, 0, length)
    if journey is not None:
        put64(v, at, journey.started)
        put64(v, at + 8, journey.answered)
    put64(v, at + 16, finished)


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
