"""HTTP/3 frames as we write them, the orders to the transport, and how a connection ends by error (RFC 9114 sections 7, 8).

What goes out is a list of (stream, bytes, fin); a head waits in its stream for the first body bytes, so that a small answer is
one piece. Orders go out behind it.
"""

from __future__ import annotations

from collections import deque

from fairlead.core.codec import Codec
from fairlead.wire.h2limits import Guard
from fairlead.wire.h3rules import broken, code_of
from fairlead.wire.qpack import Decoder, Encoder
from fairlead.wire.quicint import varint

_FLOODS = ("reset-flood", "settings-flood", "ping-flood", "empty-flood", "window-flood", "priority-flood")
_FOUR = 0x3FFF


class Frames(Codec):
    """The pen of an HTTP/3 connection. `streams`: {QUIC id: h3stream.Stream}. `goaway_sent`, `goaway_heard`: -1, or the first
    request that is not taken.
    """

    def __init__(self, sink, limits, client=False):
        super().__init__(sink, limits, client)
        self.multiplexed = True
        self.reusable = client
        self.opener = None
        self.chunks = []
        self.heads = []  # streams with a head that waits
        self.ordered = []
        self.outbox: deque[bytes] = deque()  # datagrams
        self.outbox_size = 0
        self.credits = {}
        self.out_size = 0
        self.control = bytearray()
        self.control_stream = self.decoder_stream = -1
        self.streams = {}
        self.guard = Guard(limits)
        self.dead = False
        self.goaway_sent = self.goaway_heard = self.heard_last = -1
        self.goaway_at = 0
        self.encoder = Encoder()
        self.decoder = Decoder(limits.head or 1 << 40, limits.headers or 1 << 40, limits.qpack_table)

    def put_head(self, st, fields, end):
        """A field section in a HEADERS frame: now when it ends the stream, else with what follows it."""
        out = st.saying
        start = 0
        if out is None:
            out = bytearray()
        else:
            start = len(out)
        out += b"\1\x40\0\0\0"
        encoder = self.encoder
        for field in fields:
            encoder.add(out, field)
        size = len(out) - start - 3
        if size > _FOUR:
            out[start : start + 3] = b"\1" + varint(size | 1 << 62)
        else:
            out[start + 1] = 0x40 | size >> 8
            out[start + 2] = size & 255
        if end:
            st.saying = None
            self.chunks.append((st.id, bytes(out), True))
            self.out_size += len(out)
        elif st.saying is None:
            st.saying = out
            self.heads.append(st)

    def flush_heads(self):
        """Heads that nothing has followed yet."""
        heads = self.heads
        if heads:
            self.heads = []
            for st in heads:
                self.flush_head(st)

    def flush_head(self, st):
        """A head that waits goes out by itself."""
        if st.saying is not None:
            self.chunks.append((st.id, bytes(st.saying), False))
            st.saying = None

    def put_control(self, kind, payload):
        """A frame on our control stream."""
        self.control += varint(kind) + varint(len(payload)) + payload

    def own_streams(self):
        """Say what our control stream and our decoder stream have to say, opening them when the peer lets us."""
        if self.control:
            if self.control_stream < 0:
                self.control_stream = self.open_own()
            if self.control_stream >= 0:
                self.chunks.append((self.control_stream, bytes(self.control), False))
                self.control = bytearray()
        decoder = self.decoder
        if decoder.known < decoder.inserted or decoder.out:
            if self.decoder_stream < 0:
                self.decoder_stream = self.open_own()
                if self.decoder_stream < 0:
                    return
                self.chunks.append((self.decoder_stream, b"\3", False))
            self.chunks.append((self.decoder_stream, decoder.said(), False))

    def open_own(self):
        """A unidirectional stream's id, or -1."""
        opener = self.opener
        return -1 if opener is None else opener(True)

    def spend(self, stream, count):
        """Bytes that nobody here holds any more: the peer may send as many again."""
        if count > 0:
            self.credits[stream] = self.credits.get(stream, 0) + count

    def order(self, what, stream, code):
        """An order about a stream."""
        self.ordered.append((what, stream, code))

    def leave(self, code, reason):
        """The connection ends with this error: nothing more is heard."""
        if not self.dead:
            self.dead = True
            self.reusable = False
            self.ordered.append(("close", code, reason))

    def finish(self):
        """The connection ends well, when what was said has arrived."""
        if not self.finished and not self.dead:
            self.finished = True
            self.ordered.append(("close", 0x100, ""))

    def fail(self, rule):
        """The peer broke the connection."""
        self.leave(code_of(rule), rule)
        raise broken(rule, self.client)

    def count(self, kind):
        """One more of what floods are made of."""
        if self.guard.over(kind, self.now):
            self.fail(_FLOODS[kind])

    # ---- the transport takes

    def orders(self):
        """What the transport is to do, in order; giving it away empties it."""
        ordered = self.ordered
        if ordered:
            self.ordered = []
        return ordered

    def credit(self):
        """What the peer may be credited: (stream, bytes) that were taken; giving it away empties it."""
        if not self.credits:
            return []
        credits = list(self.credits.items())
        self.credits = {}
        return credits
