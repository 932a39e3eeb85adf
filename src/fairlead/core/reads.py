"""Reads: the exchanges that are open on a connection, and the marks of the reads that bring them. The lowest part of Connection.

Rules
1. A codec with one stream has one exchange at most, `current`; a multiplexed one has them by stream, in `exchanges`.
2. The marks of a read belong to the head that it completes, which takes them (`stamp`). While `current` is open, what a read
   took is its own; while many are, a read's marks are kept for the next head, and an earlier read's are no longer its.
3. What brought the connection itself (connected, accepted, secured) shows in its first request only.
"""

from __future__ import annotations

from fairlead.core.exchange import Channel


class Reads(Channel):
    """See the module. Times are monotonic ns, 0 for unset."""

    def __init__(self, service):
        self.clock = service.clock
        self.codec = None
        self.current = None
        self.exchanges = None
        self.recent = None  # of many: the one that was found last
        self.requests = 0
        self.connected = self.accepted = self.secured = 0
        self.forget_reads()

    # ---- what is open

    def keep(self, ex):
        """It is open from now on."""
        if self.codec.multiplexed:
            if self.exchanges is None:
                self.exchanges = {}
            self.exchanges[ex.stream] = self.recent = ex
        else:
            self.current = ex

    def find(self, stream):
        """The open exchange of a stream, or None."""
        if self.exchanges is not None:
            ex = self.recent
            if ex is None or ex.stream != stream or ex.over:
                ex = self.recent = self.exchanges.get(stream)
            return ex
        ex = self.current
        if ex is not None and ex.stream == stream:
            return ex
        return None

    def open_exchanges(self):
        """All open exchanges, as a list of its own."""
        if self.exchanges is not None:
            return list(self.exchanges.values())
        return [self.current] if self.current is not None else []

    def idle(self):
        """True when no exchange is open."""
        return self.current is None and not self.exchanges

    # ---- the marks of reads

    def reading(self, woken, arrived, quality, start, done, count):
        """A read happened: loop woken, kernel stamp (or 0) with its quality, read start and end, bytes."""
        if self.current is not None:
            j = self.current.journey  # journey
            j.spent_read += done - start  # journey
            return
        if self.exchanges is not None or (self.woken != 0 and self.codec is not None and self.codec.multiplexed):
            self.forget_reads()  # what an earlier read brought was no head, but settings of the connection
        if self.woken == 0:
            self.woken = woken  # journey
            self.arrived = arrived  # journey
            self.arrived_quality = quality  # journey
            self.loop_ns = start - woken  # journey
        self.read_ns += done - start  # journey
        self.read_done = done  # journey
        self.mark = done  # journey

    def decrypting(self, start, done):
        """TLS records were opened."""
        if self.current is not None:
            self.current.journey.spent_decrypt += done - start  # journey
            return
        self.decrypt_ns += done - start  # journey
        self.decrypted = done  # journey
        self.mark = done  # journey

    def handshaken(self, read, done):
        """TLS is up. `read`: the last handshake read also brought application bytes, at this time (else 0)."""
        self.forget_reads()
        self.secured = self.mark = done
        if read:
            self.woken = self.read_done = read
            self.decrypted = done

    def forget_reads(self):
        self.woken = self.arrived = self.loop_ns = self.read_ns = self.read_done = 0  # journey
        self.decrypt_ns = self.decrypted = self.mark = 0  # journey
        self.arrived_quality = 5  # journey

    def stamp(self, j, now):
        """Give a new journey the marks of the reads that brought its head."""
        if self.requests == 0:
            j.connected = self.connected  # journey
            j.accepted = self.accepted  # journey
            j.secured = self.secured  # journey
        if self.woken:
            j.woken = self.woken  # journey
            j.arrived = self.arrived  # journey
            j.arrived_quality = self.arrived_quality  # journey
            j.spent_loop = self.loop_ns  # journey
            j.read = self.read_done  # journey
            j.spent_read = self.read_ns  # journey
            j.decrypted = self.decrypted  # journey
            j.spent_decrypt = self.decrypt_ns  # journey
        else:
            j.shared = True  # journey
        if self.mark:
            j.spent_parse = now - self.mark  # journey
        j.parsed = now  # journey
        self.forget_reads()  # journey
        self.mark = now  # journey
