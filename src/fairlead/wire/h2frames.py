"""HTTP/2 frames as we write them, and how a connection says goodbye (RFC 9113 sections 4.1, 6.4, 6.8).

What is to be sent is collected in `out`, one bytearray for everything small, and moved to `chunks` where a body's bytes
go out without being copied. `control` counts what answers the peer's own frames: a peer that makes us answer and does not
read is cut off at `limits.control`.
"""

from __future__ import annotations

from fairlead.core.codec import Codec
from fairlead.wire.h2limits import Guard
from fairlead.wire.h2rules import broken, code_of

_FLOODS = ("reset-flood", "settings-flood", "ping-flood", "empty-flood", "window-flood", "priority-flood")
_SECOND = 1_000_000_000


class Frames(Codec):
    """The pen of an HTTP/2 connection. `streams`: {number: h2stream.Stream}. `goaway_sent`, `goaway_heard`: last stream, or -1."""

    def __init__(self, sink, limits, client=False):
        super().__init__(sink, limits, client)
        self.multiplexed = True
        self.reusable = client
        self.out = bytearray()
        self.chunks = []
        self.out_size = self.control = 0
        self.max_control = limits.control
        self.streams = {}
        self.guard = Guard(limits)
        self.dead = False
        self.goaway_sent = self.goaway_heard = -1
        self.goaway_at = self.heard_last = 0

    def frame(self, size, kind, flags, stream):
        """A frame header."""
        out = self.out
        out.append(size >> 16)
        out.append(size >> 8 & 255)
        out.append(size & 255)
        out.append(kind)
        out.append(flags)
        out.append(stream >> 24)
        out.append(stream >> 16 & 255)
        out.append(stream >> 8 & 255)
        out.append(stream & 255)

    def word(self, value):
        """Four bytes."""
        out = self.out
        out.append(value >> 24 & 255)
        out.append(value >> 16 & 255)
        out.append(value >> 8 & 255)
        out.append(value & 255)

    def word_at(self, v, at):
        """Four bytes read. Not by `v[at] << 24`: that is a C int when compiled, and negative from 2^31 on."""
        value = v[at]
        value = value << 8 | v[at + 1]
        value = value << 8 | v[at + 2]
        return value << 8 | v[at + 3]

    def settle_chunk(self):
        """Close `out`: what follows is a chunk of its own."""
        if self.out:
            self.chunks.append(bytes(self.out))
            self.out = bytearray()

    def put_control(self, frame):
        """An answer to a control frame."""
        self.out += frame
        self.control += len(frame)
        if self.max_control and self.control > self.max_control:
            self.fail("control-flood")

    def say_reset(self, stream, code):
        """RST_STREAM."""
        self.frame(4, 3, 0, stream)
        self.word(code)
        self.control += 13
        if self.max_control and self.control > self.max_control and not self.dead:
            self.fail("control-flood")

    def say_update(self, stream, count):
        """WINDOW_UPDATE."""
        self.frame(4, 8, 0, stream)
        self.word(count)

    def say_goaway(self, last, code):
        """GOAWAY; its last stream never goes up (section 6.8)."""
        if 0 <= self.goaway_sent < last:
            last = self.goaway_sent
        self.frame(8, 7, 0, 0)
        self.word(last)
        self.word(code)
        self.goaway_sent = last

    def leave(self, code):
        """The connection ends with this error: nothing more is heard."""
        if not self.dead:
            self.dead = True
            self.say_goaway(self.heard_last, code)
            self.reusable = False

    def last_goaway(self):
        """The second step: the peer knows, or has had time to."""
        self.goaway_at = 0
        self.say_goaway(self.heard_last, 0)
        if not self.streams:
            self.finished = True

    def fail(self, rule):
        """The peer broke the connection."""
        self.leave(code_of(rule))
        raise broken(rule, self.client)

    def count(self, kind):
        """One more of what floods are made of."""
        if self.guard.over(kind, self.now):
            self.fail(_FLOODS[kind])
