"""One stream's state, of HTTP/2 and (`h3stream`) HTTP/3, and whose turn it is: priorities (RFC 9113 section 5, RFC 9218).

A stream is in its connection's dictionary from its head until both sides ended or one reset it. What is said and has no
window yet, or is not yet its turn, waits in `queue`.

Turns (RFC 9218 section 10): the lowest urgency first; within one, what is not incremental goes one after the other by
number, and then the incremental ones a frame each in turn.
"""

from __future__ import annotations

_EARLY = 100  # priorities kept for requests that have not come
_SECOND = 1_000_000_000
USUAL = 3  # urgency when nothing is said (RFC 9218 section 4.1)
LONGEST = 64  # bytes of a Priority field that is looked at; "u=0, i" is six


class Stream:
    """See the module. Sizes in bytes, times in monotonic ns.

    send_window, window   what we may send, what the peer may send
    pending, unacked      delivered and not credited yet; credited and not yet given back as window
    left, said_left       what the content-length still promises, -1 when it promises nothing; received: body bytes heard
    queue, queued         what waits to be sent, and how much that is; skip: bytes of the first chunk that are out already
    patient               its body may pause as long as it likes
    peer_wait, our_wait   ns that the peer's window kept us waiting, and ours the peer
    """

    def __init__(self, id, send_window, window):
        self.begin(id, send_window, window)

    def begin(self, id, send_window, window):
        """In place of a constructor on the hot path."""
        self.id = id
        self.send_window = send_window
        self.window = window
        self.pending = self.unacked = self.received = 0
        self.left = self.said_left = -1
        self.queue = None
        self.queued = self.skip = 0
        self.trailers = None
        self.method = ""
        self.heard_head = self.heard_end = self.said_head = self.said_end = self.sent_end = False
        self.patient = self.gone = self.ready = self.waiting = self.expecting = self.bodiless = self.tunnel = False
        self.urgency = 3
        self.incremental = False
        self.informs = 0
        self.began = self.last = self.paused = self.stalled = self.peer_wait = self.our_wait = 0

    def asked(self, message, last, now):
        """Server role: a request's head was heard."""
        self.method = message.method
        self.heard_head = True
        self.heard_end = last
        if not last:
            self.left = message.length
            self.expecting = message.expect
            self.began = self.last = now

    def answered(self, message, last, now):
        """Client role: the final head of the answer was heard. Whether a body follows, which has deadlines."""
        self.heard_head = True
        self.heard_end = last
        if last:
            return False
        if self.method == "CONNECT" and message.status < 300:
            self.tunnel = True
        elif message.length >= 0:
            self.left = message.length
        self.began = self.last = now
        return not self.tunnel

    def lie(self):
        """How the body that was said differs from the length in its head."""
        if self.said_left < 0:
            return f"the body has {-self.said_left} bytes more than its content-length"
        return f"the body ended {self.said_left} bytes short of its content-length"

    def body_due(self, limits, idle):
        """When its body has paused too long (`idle`, ns), or comes slower than `limits.body_rate` allows, 0 for never."""
        due = self.last + idle if idle else 0
        if limits.body_rate:
            slow = self.began + max(limits.body_grace, self.received * _SECOND // limits.body_rate)
            if due == 0 or slow < due:
                due = slow
        return due


def priority_of(stream, value):
    """Set a stream's urgency and incremental by a Priority field (RFC 9218 section 4); what is not understood is ignored.

    So is what is longer than `LONGEST`: HPACK repeats a long value for a byte, and each time it would be read anew.
    """
    if len(value) > LONGEST:
        return
    for part in value.split(b","):
        name, found, text = part.strip(b" \t").partition(b"=")
        text = text.partition(b";")[0].strip()
        if name == b"u" and found and len(text) == 1 and 48 <= text[0] <= 55:
            stream.urgency = text[0] - 48
        elif name.partition(b";")[0] == b"i":
            stream.incremental = not found or text == b"?1"


def first_priority(stream, message, early):
    """A request's first priority: a PRIORITY_UPDATE that came before it, which is taken out of `early`, then its own fields."""
    if early is not None:
        value = early.pop(stream.id, None)
        if value is not None:
            priority_of(stream, value)
    most = 8  # fields of that name
    for field in message.listed():
        if field[0] == b"priority" and most > 0:
            most -= 1
            priority_of(stream, field[1])


def keep_priority(early, about, value):
    """Keep a PRIORITY_UPDATE of a request that has not come, in `early` (or None): so many at most. It, or a new one."""
    if early is None:
        early = {}
    if len(early) < _EARLY or about in early:
        early[about] = value
    return early


def next_of(ready):
    """Whose turn it is among the streams in the list `ready`."""
    best = None
    for stream in ready:
        if best is None or before(stream, best):
            best = stream
    return best


def before(one, other):
    """Whether `one` goes before `other`, which stands earlier in the list."""
    if one.urgency != other.urgency:
        return one.urgency < other.urgency
    if one.incremental:
        return False
    return other.incremental or one.id < other.id
