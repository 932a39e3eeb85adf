"""How HTTP/2 streams and connections end: by word, by rule, by time (RFC 9113 sections 5.1, 5.4, 6.8).

    no such stream: never opened (idle, above the last), or closed; `graves` remembers the ones that we reset, whose frames
    may still be on their way and are no offence

Rules
1. A stream that is reset is gone from here at once, but it counts against `limits.streams` until the work for it has
   ended (`abandoned`): else reset and ask again would buy unlimited work.
2. A stream that the peer made us reset counts like one that it reset itself: both make us work for nothing (`h2limits`).
3. Deadlines are counted only while it is the peer's turn: not while our window, or a reader of ours, holds a body back. A
   peer that opens no window for what waits is a slow reader (`limits.write_idle`). A `patient` stream's body may pause.
4. With `limits.ping` a peer that is silent while streams are open is asked whether it lives; with `limits.age` a connection
   says goodbye at that age, a tenth more or less, so that many of one moment do not come again in one moment.
"""

from __future__ import annotations

from fairlead.wire.h2limits import parting
from fairlead.wire.h2rules import broken, code_of
from fairlead.wire.h2windows import Windows

_GRAVES = 256
_GAPS = 16
_RESETS = 0


class Ends(Windows):
    """The ends of an HTTP/2 connection's streams, and its own."""

    def __init__(self, sink, limits, client=False):
        super().__init__(sink, limits, client)
        self.graves = {}
        self.gaps = []
        self.block: bytearray = None  # type: ignore[assignment]
        self.block_began = self.begun = self.idle_since = self.check_at = 0
        self.greeted = self.settled = self.acked = False
        self.peer_streams = 100 if client else 0
        self.peer_frame = 16384
        self.next_stream = self.silent_by = self.heard_at = 0
        self.ping_after = limits.ping
        self.age = limits.age
        self.max_streams = limits.streams or 0x7FFFFFFF

    # ---- streams

    def hear_unknown(self, stream):
        """DATA or HEADERS on a stream that is not open: idle, reset by us, or closed."""
        if stream in self.graves:
            return
        if self.is_idle(stream):
            self.fail("idle-stream")
        if 0 <= self.goaway_sent < stream:
            return
        self.fail("closed-stream")

    def is_idle(self, stream):
        """Whether a stream was never opened."""
        if self.client:
            return not stream & 1 or stream >= self.next_stream
        return not stream & 1 or stream > self.heard_last

    def skip(self, before, stream):
        """The peer left numbers out: those streams were never open (section 5.1.1)."""
        if len(self.gaps) >= _GAPS:
            del self.gaps[0]
        self.gaps.append((before, stream))

    def skipped(self, stream):
        """Whether a number was left out."""
        return any([before < stream < after for before, after in self.gaps])

    def half_over(self, st):
        """The peer's side of a stream ended: gone, if ours has ended too."""
        if st.sent_end and not st.gone:
            self.remove(st)

    def remove(self, st):
        """A stream is no more. What its reader did not credit will never be, so its window goes back to the others."""
        if st.gone:
            return
        st.gone = True
        self.streams.pop(st.id, None)
        if st.ready:
            self.ready.remove(st)
            st.ready = False
        if st.waiting:
            self.waiters.remove(st)
            st.waiting = False
        if st.pending:
            self.credit(st.pending)
            st.pending = 0
        st.queue = None
        st.queued = 0
        if st.peer_wait or st.our_wait or st.stalled:
            self.note_wait(st)
        if self.client:
            self.reusable = self.may_open()
        self.over()

    def entomb(self, stream):
        """Remember that we reset a stream: its frames may still come, and are no offence."""
        graves = self.graves
        if len(graves) >= _GRAVES:
            del graves[next(iter(graves))]
        graves[stream] = True

    def bury(self, st, rule):
        """The peer broke a rule on one stream: reset it."""
        stream = st.id
        self.entomb(stream)
        self.remove(st)
        self.say_reset(stream, code_of(rule))
        self.count(_RESETS)
        self.sink.reset(stream, broken(rule, self.client), "both")

    def over(self):
        """A connection that said goodbye, or was told it, ends with its last stream."""
        if not self.streams:
            self.idle_since = self.now
            if (self.goaway_sent >= 0 and not self.goaway_at) or (self.goaway_heard >= 0 and self.client):
                self.finished = True

    def may_open(self):
        """Client role: whether another stream may be opened now."""
        if self.dead or self.finished or not self.client or self.goaway_sent >= 0 or self.goaway_heard >= 0:
            return False
        limit = min(self.peer_streams, self.max_streams)
        if self.silent_by:
            return False
        return len(self.streams) < limit and self.next_stream < 0x7FFFFF00

    # ---- time

    def check_by(self, at):
        """Look at slow streams no later than `at`."""
        if self.check_at == 0 or at < self.check_at:
            self.check_at = at

    def deadline(self):
        if self.finished or self.dead:
            return 0
        limits = self.limits
        due = 0
        if not self.settled:
            due = self.begun + limits.header if limits.header and self.begun else 0
        elif self.block is not None:
            due = self.block_began + limits.header if limits.header else 0
        elif self.goaway_at:
            due = self.goaway_at
        elif not self.streams and self.abandoned == 0 and not self.silent_by:
            if not self.idle_since:
                self.idle_since = self.now
            due = self.idle_since + limits.idle if limits.idle else 0
            return due if not self.age else min(due or self.of_habit(), self.of_habit())
        if self.check_at and self.streams and (due == 0 or self.check_at < due):
            due = self.check_at
        if self.silent_by and (due == 0 or self.silent_by < due):
            due = self.silent_by
        if self.age or self.ping_after:
            at = self.of_habit()
            if at and (due == 0 or at < due):
                due = at
        return due

    def of_habit(self):
        """When the connection's age or the peer's silence is due, 0 for never."""
        at = 0
        if self.age and self.begun:
            at = parting(self.begun, self.age)
        if self.ping_after and self.streams and not self.silent_by and self.heard_at:
            if at == 0 or self.heard_at + self.ping_after < at:
                at = self.heard_at + self.ping_after
        return at

    def habits(self, now):
        """Is it time to ask, or to part?"""
        if self.ping_after and self.streams and not self.silent_by and self.heard_at and now >= self.heard_at + self.ping_after:
            self.ping()
        if self.age and self.begun and now >= parting(self.begun, self.age):
            self.age = 0
            self.goaway(-1)

    def patient(self, stream):
        st = self.streams.get(stream)
        if st is not None:
            st.patient = True

    def tick(self, now):
        self.now = now
        limits = self.limits
        if self.goaway_at and now >= self.goaway_at:
            self.last_goaway()
        if self.silent_by and now >= self.silent_by:
            self.fail("no-pong")
        if self.age or self.ping_after:
            self.habits(now)
        if not self.settled:
            if limits.header and self.begun and now >= self.begun + limits.header:
                self.fail("slow-preface")
        elif self.block is not None:
            if limits.header and now >= self.block_began + limits.header:
                self.fail("slow-head")
        elif not self.streams and self.abandoned == 0 and not self.finished:
            if limits.idle and now >= self.idle_since + limits.idle:
                self.leave(0)
                error = broken("idle", self.client)
                error.status = 0
                raise error
        if self.check_at and now >= self.check_at:
            self.check_streams(now)

    def check_streams(self, now):
        """Reset the streams whose peer is too slow; say when to look again."""
        self.check_at = 0
        for st in list(self.streams.values()):
            due = self.due_of(st)
            if due and now >= due:
                self.bury(st, self.slow_rule(st, now))
            elif due:
                self.check_by(due)

    def due_of(self, st):
        """When a stream counts as stalled, 0 for never."""
        if st.stalled:
            return st.stalled + self.limits.write_idle if self.limits.write_idle else 0
        if st.heard_end or not st.heard_head or st.tunnel or st.paused or st.expecting or st.patient:
            return 0
        return st.body_due(self.limits, self.body_idle)

    def slow_rule(self, st, now):
        """Which rule a stalled stream broke."""
        if st.stalled:
            return "slow-reader"
        return "slow-body" if self.body_idle and now >= st.last + self.body_idle else "slow-rate"
