"""One HTTP/2 stream's state, and whose turn it is: priorities (RFC 9113 section 5, RFC 9218).

A stream is in its connection's dictionary from its head until both sides ended or one reset it. What is said and has no
window yet, or is not yet its turn, waits in `queue`.

Turns (RFC 9218 section 10): the lowest urgency first; within one, what is not incremental goes one after the other by
number, and then the incremental ones a frame each in turn.
"""

from __future__ import annotations

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
