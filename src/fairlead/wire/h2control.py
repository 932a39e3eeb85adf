"""The frames of HTTP/2 that carry no message: resets, windows, settings, pings, goodbyes, priorities (RFC 9113 6, RFC 9218).

Each is counted in its bucket (`h2limits`), and each answer in `control`: none of them may make us work or hold more than
the peer does.
"""

from __future__ import annotations

from fairlead.wire.h2ends import Ends
from fairlead.wire.h2rules import reset_by_peer
from fairlead.wire.h2stream import LONGEST, keep_priority, priority_of
from fairlead.wire.hpack import Encoder

_ACK = 1
_MAX_WINDOW = 0x7FFFFFFF
_RESETS, _SETTINGS, _PINGS, _EMPTIES, _UPDATES, _PRIORITIES = range(6)


class Control(Ends):
    """What an HTTP/2 connection does with the frames that are about itself."""

    def __init__(self, sink, limits, client=False):
        super().__init__(sink, limits, client)
        self.encoder = Encoder()
        self.priorities = None
        self.connect_protocol = False
        self.asked_window = 0
        self.on_settled = None  # callables waiting for the peer's first SETTINGS

    def hear_reset(self, stream, code):
        """RST_STREAM."""
        if stream == 0:
            self.fail("stream-zero")
        st = self.streams.get(stream)
        if st is None:
            if self.is_idle(stream):
                self.fail("idle-stream")
            self.count(_RESETS)
            return
        if self.client and code == 0 and st.heard_end:
            self.remove(st)  # the whole answer came; the rest of our body is of no use to anybody (section 8.1)
            self.sink.reset(stream, reset_by_peer(code, True), "write")
            return
        self.remove(st)
        if not self.client:
            self.count(_RESETS)
        self.sink.reset(stream, reset_by_peer(code, self.client), "both")

    def hear_update(self, stream, count):
        """WINDOW_UPDATE."""
        self.count(_UPDATES)
        if stream == 0:
            if count == 0:
                self.fail("window-zero")
            if not self.open_connection(count):
                self.fail("window-overflow")
            return
        st = self.streams.get(stream)
        if st is None:
            if self.is_idle(stream):
                self.fail("idle-stream")
        elif count == 0:
            self.bury(st, "window-zero")
        elif not self.open_window(st, count):
            self.bury(st, "window-overflow")

    def hear_settings(self, v, at, size, flags, stream):
        """SETTINGS."""
        if stream:
            self.fail("not-stream-zero")
        if flags & _ACK:
            if size:
                self.fail("settings-ack-size")
            self.acked = True
            return
        if size % 6:
            self.fail("bad-frame-size")
        self.count(_SETTINGS)
        end = at + size
        self.asked_window = self.first_window
        while at < end:
            value = self.word_at(v, at + 2)
            self.hear_setting(v[at] << 8 | v[at + 1], value)
            at += 6
        if self.asked_window != self.first_window:  # once: 2730 changes of 100 streams' windows fit into one frame
            self.resize_streams(self.asked_window)
        first = not self.settled
        self.settled = True
        self.put_control(b"\0\0\0\4\1\0\0\0\0")
        if first and self.client:
            self.reusable = self.may_open()
        if first and self.on_settled is not None:
            waiting = self.on_settled
            self.on_settled = None
            for one in waiting:
                one()

    def hear_setting(self, name, value):
        """One setting (section 6.5.2, RFC 8441 section 3)."""
        if name == 1:
            self.encoder.resize(value)
        elif name == 2:
            if value > 1 or (self.client and value):
                self.fail("bad-setting")
        elif name == 3:
            self.peer_streams = value
            self.reusable = self.may_open()
        elif name == 4:
            if value > _MAX_WINDOW:
                self.fail("bad-window-setting")
            self.asked_window = value
        elif name == 5:
            if value < 16384 or value > 16777215:
                self.fail("bad-setting")
            self.peer_frame = value
        elif name == 8:
            if value > 1 or (self.connect_protocol and not value):
                self.fail("bad-setting")
            self.connect_protocol = value == 1

    def hear_ping(self, data, at, size, flags, stream):
        """PING: answered, or the answer to ours."""
        if stream:
            self.fail("not-stream-zero")
        if size != 8:
            self.fail("bad-frame-size")
        if flags & _ACK:
            self.hear_pong(data[at : at + 8])
            return
        self.count(_PINGS)
        self.put_control(b"\0\0\x08\6\1\0\0\0\0" + data[at : at + 8])

    def hear_pong(self, payload):
        """An answer to a PING of ours: it measures, or it says that the peer knows our GOAWAY."""
        if payload == b"fairdrop":
            if self.goaway_at:
                self.last_goaway()
        else:
            self.measured(payload)

    def hear_goaway(self, data, v, at, size, stream):
        """GOAWAY: what the peer did not look at may be asked again elsewhere (section 6.8)."""
        if stream:
            self.fail("not-stream-zero")
        if size < 8:
            self.fail("bad-frame-size")
        last = self.word_at(v, at) & 0x7FFFFFFF
        if self.goaway_heard >= 0 and last > self.goaway_heard:
            last = self.goaway_heard
        self.goaway_heard = last
        self.reusable = False
        self.sink.goaway(last)
        if self.client:
            for st in list(self.streams.values()):
                if st.id > last:
                    self.remove(st)
                    why = reset_by_peer(7, True)
                    self.sink.reset(st.id, why, "both")
        self.over()

    def hear_priority(self, v, at, size, stream):
        """PRIORITY: deprecated and without effect, but checked (section 5.3.2)."""
        if stream == 0:
            self.fail("stream-zero")
        self.count(_PRIORITIES)
        st = self.streams.get(stream)
        rule = ""
        if size != 5:
            rule = "bad-frame-size"
        elif (self.word_at(v, at) & 0x7FFFFFFF) == stream:
            rule = "self-dependency"
        if not rule:
            return
        if st is not None:
            self.bury(st, rule)
        elif rule == "bad-frame-size" or self.is_idle(stream):
            self.fail(rule)

    def hear_priority_update(self, data, v, at, size, stream):
        """PRIORITY_UPDATE (RFC 9218 section 7.1)."""
        if stream:
            self.fail("not-stream-zero")
        if self.client:
            self.fail("bad-stream-id")
        if size < 4:
            self.fail("bad-frame-size")
        self.count(_PRIORITIES)
        about = self.word_at(v, at) & 0x7FFFFFFF
        if about == 0:
            self.fail("stream-zero")
        if size > 4 + LONGEST:
            return
        value = data[at + 4 : at + size]
        st = self.streams.get(about)
        if st is not None:
            priority_of(st, value)
        elif about > self.heard_last and about & 1:
            self.priorities = keep_priority(self.priorities, about, value)
