"""Ends: when an exchange is over, and what is told and let go then. A part of Connection.

Rules
1. An exchange of role SERVER is over when its answer's last byte was handed to the kernel (`flushed`); of a tunnel, when its
   second direction ended too, where the codec can tell. A leg is over when both of its directions ended.
2. Then `Observer.done` or the owner is told, references are dropped, and later words are ignored.
3. What the last flush took is shared out: encoding from the last word to the flush, then encryption and the send, whole for
   each answer that left in it (`shared` says so).
4. From a send that would not fit until the peer had taken it all, it is the client's time.
"""

from __future__ import annotations

from fairlead.core.reads import Reads


class Ends(Reads):
    """See the module. `said_now`: when the words now waiting to be flushed began; `linger`: the peer may still be sending."""

    def __init__(self, service, carrier):
        Reads.__init__(self, service)
        self.service = service
        self.carrier = carrier
        self.linger = False
        self.said_now = self.blocked_since = 0
        self.ending = []

    # ---- with the kernel

    def flushed(self, begin, encrypted, sent):
        """All that was said is with the kernel. Clock: before encryption, after it, after the send."""
        ex = self.current
        if self.blocked_since:
            self.unblocked(sent)
            self.said_now = 0  # since then it was the client's time, not ours
        if self.exchanges is not None:
            self.flushed_many(begin, encrypted, sent)
        elif ex is not None:
            j = ex.journey
            if ex.role == 0:
                if self.said_now:
                    j.spent_encode += begin - self.said_now  # journey
                self.flush_marks(j, begin, encrypted, sent)  # journey
                if ex.said_end and (not ex.tunnel or ex.heard_end or not self.codec.fin):
                    self.done(ex, sent)
        self.said_now = 0

    def flushed_many(self, begin, encrypted, sent):
        """All that was taken is with the kernel: the answers that were in it to their last byte are done."""
        ending = self.ending
        if not ending:
            return
        self.ending = []
        codec = self.codec
        shared = len(ending) > 1
        for ex in ending:
            if ex.over:
                continue
            if codec.unsent(ex.stream):
                self.ending.append(ex)
                continue
            j = ex.journey
            if self.said_now and begin > j.finished:
                j.spent_encode += begin - j.finished  # journey
            self.flush_marks(j, begin, encrypted, sent)  # journey
            if shared:
                j.shared = True  # journey
            if codec.waits is not None:
                self.note_waits(ex)
            self.done(ex, sent)

    def flush_marks(self, j, begin, encrypted, sent):
        """Bytes of an answer went out in this flush."""
        j.encoded = begin  # journey
        if encrypted:
            j.spent_encrypt += encrypted - begin  # journey
            j.encrypted = encrypted  # journey
            j.spent_send += sent - encrypted  # journey
        else:
            j.spent_send += sent - begin  # journey

    def note_waits(self, ex):
        """What a stream waited for windows: the peer's was the client's time, ours a step of its own name."""
        waits = self.codec.waits.pop(ex.stream, None)
        if waits is None:
            return
        j = ex.journey
        peer, ours = waits
        j.spent_client += peer  # journey
        if peer:
            j.add("window-peer", j.parsed, peer)
        if ours:
            j.add("window-ours", j.parsed, ours)

    def waited(self, spent):
        """What was said waited `spent` ns for other answers, to be sent with them: part of sending."""
        ex = self.current
        if ex is not None and ex.role == 0 and self.said_now:
            self.said_now += spent
            ex.journey.spent_send += spent  # journey

    def unblocked(self, now):
        """The peer took what it had kept waiting."""
        for ex in self.open_exchanges():
            ex.journey.spent_client += now - self.blocked_since  # journey
        self.blocked_since = 0

    # ---- over

    def ended(self, ex):
        """We said the last word of this direction."""
        ex.said_end = True
        if ex.role == 0:
            if ex.journey.finished == 0:  # a worker's mark came with its answer's end (hop)
                ex.journey.finished = self.said_now  # journey
            if self.exchanges is not None:
                self.ending.append(ex)
        elif ex.heard_end:
            self.leg_over(ex)
        self.carrier.touch()

    def done(self, ex, now):
        """A server exchange is over and with the kernel."""
        j = ex.journey
        j.sent = now  # journey
        j.done = now  # journey
        service = self.service
        if j.spent_client or (service.sample_every and service.sampled()):  # its client kept us waiting, or it is its turn
            self.carrier.ask_kernel(j)  # journey
        if not ex.heard_end:
            self.linger = True
        self.release(ex)

    def release(self, ex):
        ex.over = True
        if self.exchanges is not None:
            self.exchanges.pop(ex.stream, None)
            self.recent = None
        else:
            self.current = None
            self.mark = 0  # journey; all else was forgotten when the head was stamped
        if ex.role == 0:
            service = self.service
            service.observer.done(ex)
            service.admission.leave(ex)
            if ex.ends is not None:
                for one in ex.ends:
                    one.over(ex)
        ex.answer = None
        ex.intake = None
        ex.stage = None
        ex.handle = None

    def drop(self, ex, why):
        """An exchange ended early."""
        if ex.over:
            return
        if ex.error is None:
            ex.error = why
        if ex.role:
            self.leg_over(ex)
            return
        ex.journey.done = self.clock.now()  # journey
        if ex.working and self.codec.multiplexed:
            ex.abandoned = True
            self.codec.abandoned += 1
        self.release(ex)

    def leg_over(self, ex):
        ex.over = True
        if self.exchanges is not None:
            self.exchanges.pop(ex.stream, None)
            self.recent = None
        else:
            self.current = None
            self.forget_reads()
        ex.answer = None
        ex.handle = None
        self.freed()

    def freed(self):
        """A leg is over: whoever owns the connection may use it again."""
