"""One HTTP/3 stream's state: of a request (bidirectional), or of the connection's own (unidirectional).

A request's stream is h2's, with its turns (`h2stream`), and what reading QUIC's bytes needs: frames have no length limit here,
so the payload of DATA is passed on as it comes, and only a field section is collected.
"""

from __future__ import annotations

from fairlead.wire.h2stream import Stream as Shared


class Stream(Shared):
    """`id` is QUIC's.

    kind, left_in       the frame being read, and how much of its payload is still to come
    buffer              bytes of a frame's head that is not whole; block: of a field section that is not
    wants, later, fin   the inserts that a whole field section waits for; what came behind it meanwhile; its last byte is heard
    tail                a trailer section that was heard; has_tail: one was, and nothing but unknown frames may follow
    useless             empty DATA and unknown frames so far
    saying              a head that waits for the first body bytes to leave with them
    stuck               the peer's flow control keeps bytes of it in the transport; stopped: the peer reads no more of it
    turn                bytes that it sent since its turn began, when it is mixed with others
    """

    def __init__(self, id):
        self.start(id)

    def start(self, id):
        """In place of a constructor on the hot path."""
        self.begin(id, 1, 0)
        self.kind = -1
        self.left_in = self.wants = self.useless = self.turn = 0
        self.buffer = b""
        self.block = self.later = self.saying = None
        self.tail = None
        self.fin = self.has_tail = self.stuck = self.stopped = self.opened = False


class Uni:
    """A stream of the peer's that is the connection's: `type` is its type, -1 until that was read, -2 for one that is ignored."""

    def __init__(self):
        self.type = -1
        self.buffer = b""
        self.left = 0
