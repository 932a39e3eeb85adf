"""How HTTP/3 streams and connections end: by word, by rule, by time (RFC 9114 sections 4.1.1, 5).

QUIC numbers streams and closes them, so a stream that is unknown here is either new or in `graves`: one that we gave up and the
peer has not ended yet. It is taken out when the peer's end or reset comes.

Rules
1. A stream that is reset is gone from here at once, but it counts against `limits.streams` until the work for it has ended
   (`abandoned`). A stream that the peer made us reset counts like one that it reset itself (`h2limits`).
2. What the reader of a stream did not credit is credited when the stream goes.
3. Deadlines are counted only while it is the peer's turn, as in `h2ends`. What QUIC sees itself (a silent peer, a lost path) is the
   transport's to end.
"""

from __future__ import annotations

from fairlead.wire.h2limits import parting
from fairlead.wire.h3frames import Frames
from fairlead.wire.h3rules import broken, code_of

_GRAVES = 1024  # more than QUIC lets a peer have open
_RESETS = 0
_NO_ERROR = 0x100


class Ends(Frames):
    """The ends of an HTTP/3 connection's streams, and its own."""

    def __init__(self, sink, limits, client=False):
        super().__init__(sink, limits, client)
        self.graves = {}
        self.waiting = []  # streams whose field section waits for QPACK's table
        self.ready = []
        self.waiters = []
        self.roomy = False
        self.allowance = 131072  # body bytes
        self.begun = self.idle_since = self.check_at = 0
        self.age = limits.age
        self.body_idle = limits.body_idle
        self.max_streams = limits.streams or 0x7FFFFFFF

    # ---- streams

    def half_over(self, st):
        """The peer's side of a stream ended: gone, if ours has ended too."""
        if st.sent_end and not st.gone:
            self.remove(st)

    def remove(self, st):
        """A stream is no more."""
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
        if st.wants:
            self.waiting.remove(st)
            st.wants = 0
        if st.pending:
            self.spend(st.id, st.pending)
            st.pending = 0
        if st.later:
            self.spend(st.id, len(st.later))
            st.later = None
        if st.saying is not None and not st.sent_end:
            st.saying = None
        if not st.heard_end:
            self.decoder.cancel(st.id)
        st.queue = None
        st.queued = 0
        if st.peer_wait or st.stalled:
            self.note_wait(st)
        if self.client:
            self.reusable = self.may_open()
        self.over()

    def give_up(self, st, code, why):
        """Reset what of both sides is open, with `code`. `why`: heard by the sink unless None."""
        stream = st.id
        if not st.sent_end and not st.stopped:
            self.order("reset", stream, code)
        if not st.heard_end and not st.fin:
            self.order("stop", stream, code)
            self.entomb(stream)
        self.remove(st)
        if why is not None:
            self.sink.reset(stream + 1, why, "both")

    def entomb(self, stream):
        """Remember that we read no more of a stream, until its end comes, or so many others that it must have."""
        graves = self.graves
        if len(graves) >= _GRAVES:
            del graves[next(iter(graves))]
        graves[stream] = True

    def bury(self, st, rule):
        """The peer broke a rule on one stream: reset it."""
        self.count(_RESETS)
        self.give_up(st, code_of(rule), broken(rule, self.client))

    def over(self):
        """A connection that said goodbye, or was told it, ends with its last stream."""
        if not self.streams:
            self.idle_since = self.now
            if (self.goaway_sent >= 0 and not self.goaway_at) or (self.goaway_heard >= 0 and self.client):
                self.finish()

    def may_open(self):
        """Client role: whether another stream may be opened now."""
        if self.dead or self.finished or not self.client or self.goaway_sent >= 0 or self.goaway_heard >= 0:
            return False
        return len(self.streams) < self.max_streams

    # ---- what the transport does not take

    def enlist(self, st):
        """A stream with something to send, and room for it, takes its turn."""
        if st.queue and not st.ready and not st.stuck:
            st.ready = True
            self.ready.append(st)

    def blocked(self, stream):
        """The transport holds bytes of a stream that it cannot send: the peer's flow control keeps them."""
        st = self.streams.get(stream)
        if st is None or st.stuck:
            return
        st.stuck = True
        st.stalled = self.now or 1
        if st.ready:
            st.ready = False
            self.ready.remove(st)
        if self.limits.write_idle:
            self.check_by(self.now + self.limits.write_idle)

    def unblocked(self, stream):
        """The transport sent what it held of a stream."""
        st = self.streams.get(stream)
        if st is None or not st.stuck:
            return
        st.stuck = False
        self.went_on(st)
        self.enlist(st)
        self.more = self.roomy = True

    def went_on(self, st):
        """It waits no more."""
        if st.stalled:
            st.peer_wait += self.now - st.stalled
            st.stalled = 0

    def note_wait(self, st):
        """Keep what a stream that is over waited for its peer, for its exchange's journey."""
        self.went_on(st)
        if self.waits is None or len(self.waits) > 256:
            self.waits = {}
        self.waits[st.id + 1] = (st.peer_wait, 0)

    # ---- time

    def check_by(self, at):
        """Look at slow streams no later than `at`."""
        if self.check_at == 0 or at < self.check_at:
            self.check_at = at

    def deadline(self):
        if self.finished or self.dead or not self.begun:
            return 0
        due = self.goaway_at
        if not self.streams and self.abandoned == 0 and self.limits.idle:
            at = self.idle_since + self.limits.idle
            if due == 0 or at < due:
                due = at
        if self.check_at and self.streams and (due == 0 or self.check_at < due):
            due = self.check_at
        if self.age:
            at = parting(self.begun, self.age)
            if due == 0 or at < due:
                due = at
        return due

    def patient(self, stream):
        st = self.streams.get(stream - 1)
        if st is not None:
            st.patient = True

    def tick(self, now):
        self.now = now
        if self.finished or self.dead:
            return
        if self.goaway_at and now >= self.goaway_at:
            self.last_goaway()
        if self.age and self.begun and now >= parting(self.begun, self.age):
            self.age = 0
            self.goaway(-1)
        idle = self.limits.idle
        if not self.streams and self.abandoned == 0 and not self.finished and idle and now >= self.idle_since + idle:
            self.leave(_NO_ERROR, "idle")
            error = broken("idle", self.client)
            error.status = 0
            raise error
        if self.check_at and now >= self.check_at:
            self.check_streams(now)

    def last_goaway(self):
        """The second step of goodbye."""

    def check_streams(self, now):
        """Reset the streams whose peer is too slow; say when to look again."""
        self.check_at = 0
        for st in list(self.streams.values()):
            due = self.due_of(st)
            if due and now >= due:
                self.slow(st, now)
            elif due:
                self.check_by(due)

    def slow(self, st, now):
        """A stream whose peer is too slow."""
        if st.stalled:
            rule = "slow-reader"
        elif not st.heard_head:
            rule = "slow-head"
        else:
            rule = "slow-body" if self.body_idle and now >= st.last + self.body_idle else "slow-rate"
        if st.heard_head or self.client:
            self.bury(st, rule)
        else:
            self.decline(st, rule)

    def decline(self, st, rule):
        """A head that opens no exchange: reset, counted, and told for the log."""
        self.count(_RESETS)
        self.give_up(st, code_of(rule), None)
        if rule != "too-many-streams" and rule != "after-goaway":
            self.sink.refused(st.id + 1, broken(rule, False))

    def due_of(self, st):
        """When a stream counts as stalled, 0 for never."""
        limits = self.limits
        if st.stalled:
            return st.stalled + limits.write_idle if limits.write_idle else 0
        if not st.heard_head:
            return st.began + limits.header if limits.header and not self.client else 0
        if st.heard_end or st.tunnel or st.pending or st.expecting or st.patient:
            return 0
        return st.body_due(limits, self.body_idle)
