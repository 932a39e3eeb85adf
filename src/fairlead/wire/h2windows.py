"""Flow control of HTTP/2 in both directions, and windows that grow as far as the path needs (RFC 9113 section 5.2, 6.9).

Heard: a stream's window starts at `limits.window`, the connection's at `limits.connection_window`. Both are given back
when the reader takes the bytes, half a window at a time, so what waits here for readers never exceeds them.

Growing: during a transfer a PING measures how much comes within one round trip, the bandwidth-delay product. A window is
given back by halves, so a peer that never stands before it has at most half of it under way; when what came is close to that
half, the window was what held the peer up, and it doubles, up to `limits.window_most` and `limits.connection_window_most`.
Only what readers took counts: a peer that holds its PING back, or opens many streams that nobody reads, makes nothing grow.

Said: a stream whose window, or the connection's, is used up leaves `ready` until WINDOW_UPDATE; how long it stood is
`peer_wait`, and how long the peer stood before our window `our_wait`. `waits` has both for streams that are over.
"""

from __future__ import annotations

from fairlead.wire.h2frames import Frames

_MAX_WINDOW = 0x7FFFFFFF
_PROBE = b"fairband"
_PROBE_FROM = 32768  # bytes heard between two measurements: small requests are not worth a PING


class Windows(Frames):
    """The windows of an HTTP/2 connection."""

    def __init__(self, sink, limits, client=False):
        super().__init__(sink, limits, client)
        self.ready = []
        self.waiters = []
        self.stream_window = min(limits.window or _MAX_WINDOW, _MAX_WINDOW)
        self.window = self.target = min(max(limits.connection_window, self.stream_window, 65535), _MAX_WINDOW)
        self.stream_most = min(max(limits.window_most, self.stream_window), _MAX_WINDOW)
        self.most = min(max(limits.connection_window_most, self.target), _MAX_WINDOW)
        self.unacked = 0
        self.first_window = self.send_window = 65535
        self.probe_at = self.probed = self.unprobed = 0
        self.body_idle = limits.body_idle
        self.rtt = 0

    def greet(self):
        """Our preface: SETTINGS, and the connection's window."""
        limits = self.limits
        if self.client:
            self.out += b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            settings = [(2, 0)]
        else:
            settings = [(8, 1), (9, 1)]
            if limits.streams:
                settings.append((3, limits.streams))
        if self.stream_window != 65535:
            settings.append((4, self.stream_window))
        if limits.head:
            settings.append((6, limits.head))
        self.frame(6 * len(settings), 4, 0, 0)
        for name, value in settings:
            self.out.append(0)
            self.out.append(name)
            self.word(value)
        if self.window > 65535:
            self.say_update(0, self.window - 65535)

    # ---- what we hear

    def credit(self, count):
        """Bytes that nobody here holds any more: the connection's window."""
        self.unacked += count
        if self.unacked * 2 >= self.target:
            self.say_update(0, self.unacked)
            self.window += self.unacked
            self.unacked = 0

    def consumed(self, stream, count):
        st = self.streams.get(stream)
        if st is None:
            return
        if st.expecting and not st.said_head and not self.client:
            st.expecting = False
            st.last = st.began = self.now
            self.check_by(self.now + self.body_idle)
            self.say_continue(st)
        if count <= 0:
            return
        if count > st.pending:
            count = st.pending
        st.pending -= count
        self.credit(count)
        if st.heard_end:
            return
        st.unacked += count
        if st.unacked * 2 >= self.stream_window:
            self.say_update(stream, st.unacked)
            st.window += st.unacked
            st.unacked = 0
            if st.paused:
                self.resume(st)

    def resume(self, st):
        """The peer may send again: the pause was ours and does not count against it."""
        now = self.now
        st.our_wait += now - st.paused
        st.began += now - st.paused
        st.last = now
        st.paused = 0
        self.check_by(now + self.body_idle)

    def measure(self, count):
        """Body bytes came: measure the round trip, when that is worth it."""
        self.unprobed += count
        if self.probe_at or self.unprobed < _PROBE_FROM or self.stream_window >= self.stream_most:
            return
        self.probe_at = self.now or 1
        self.probed = self.unprobed = 0
        self.out += b"\0\0\x08\6\0\0\0\0\0fairband"

    def measured(self, payload):
        """The answer to our PING: what came meanwhile, and was taken, is the bandwidth-delay product."""
        if payload != _PROBE or not self.probe_at:
            return
        self.rtt = self.now - self.probe_at
        self.probe_at = 0
        came = self.unprobed
        self.unprobed = 0
        for st in self.streams.values():
            came -= st.pending
        if came * 5 >= self.stream_window * 2:
            self.grow(min(max(came, self.stream_window) * 2, self.stream_most))

    def grow(self, window):
        """Every stream's window is this from now on; the connection's keeps its distance."""
        more = window - self.stream_window
        if more <= 0:
            return
        self.stream_window = window
        self.frame(6, 4, 0, 0)
        self.out += b"\0\4"
        self.word(window)
        for st in self.streams.values():
            st.window += more
            if st.paused:
                self.resume(st)
        target = min(self.target + 4 * more, self.most)
        if target > self.target:
            self.say_update(0, target - self.target)
            self.window += target - self.target
            self.target = target

    # ---- what we say

    def resize_streams(self, window):
        """The peer's SETTINGS_INITIAL_WINDOW_SIZE: every stream's window moves by the difference (section 6.9.2)."""
        more = window - self.first_window
        self.first_window = window
        for st in self.streams.values():
            if st.send_window + more > _MAX_WINDOW:
                self.fail("window-overflow")
            st.send_window += more
            if st.ready and st.send_window <= 0 and st.queued:  # an end alone needs no window
                st.ready = False
                self.ready.remove(st)
                self.stands(st)
            self.enlist(st)

    def open_window(self, st, count):
        """WINDOW_UPDATE on a stream; False when that is too much."""
        if st.send_window + count > _MAX_WINDOW:
            return False
        st.send_window += count
        self.enlist(st)
        return True

    def open_connection(self, count):
        """WINDOW_UPDATE on the connection; False when that is too much."""
        if self.send_window + count > _MAX_WINDOW:
            return False
        stood = self.send_window <= 0
        self.send_window += count
        if stood and self.send_window > 0:
            for st in self.ready:
                self.went_on(st)
        return True

    def enlist(self, st):
        """A stream with something to send and a window to send it in takes its turn."""
        if st.queue and not st.ready and st.send_window > 0:
            st.ready = True
            self.ready.append(st)
            if self.send_window > 0:
                self.went_on(st)

    def stands(self, st):
        """A stream waits for the peer's window."""
        if not st.stalled:
            st.stalled = self.now or 1
            if self.limits.write_idle:
                self.check_by(self.now + self.limits.write_idle)

    def went_on(self, st):
        """It waits no more."""
        if st.stalled:
            st.peer_wait += self.now - st.stalled
            st.stalled = 0

    def note_wait(self, st):
        """Keep what a stream that is over waited for its windows, for its exchange's journey."""
        self.went_on(st)
        if st.paused:
            st.our_wait += self.now - st.paused
        if self.waits is None or len(self.waits) > 256:
            self.waits = {}
        self.waits[st.id] = (st.peer_wait, st.our_wait)

    # ---- for who derives from it

    def check_by(self, at):
        """Look at slow streams no later than `at`."""

    def say_continue(self, st):
        """Say 100 Continue."""
