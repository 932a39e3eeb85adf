"""Admission that counts: how many requests may be in flight, who waits, for how long, and who is sent away.

Rules
1. Requests are counted, not connections. The limit is for all workers together; there may be one per worker beside it.
2. In all: each worker writes how many it has admitted into its own cell and reads the others' (`shared`: load, store, and the
   places of the cells). It writes first and reads then, with atomic words, so two that come at once cannot both pass the
   limit; both may be told to wait, and one of them goes on a moment later.
3. What is over the limit waits in order, at most `queue_most`, each at most `wait` ns; then the answer is 503 with Retry-After.
   A request that waits holds its body back: nothing of it is credited.
4. What asks for a health path (`health`) is always admitted: who is asked "are you well?" must not say nothing.
5. While `shedding` (memory is short) new requests are refused, health paths excepted.
6. Time comes from the exchange's connection, timers from `later(seconds, callable)` and `soon(callable)`; they run only
   while somebody waits. Without limits `enter` is one addition.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from fairlead.core.errors import Refused
from fairlead.core.exchange import Answer
from fairlead.core.handler import Admission

POLL = 0.005  # seconds: how often somebody who waits looks whether other workers have room
SECOND = 1_000_000_000


class Queueing(Admission):
    """See the module. `most`: in all workers, `own_most`: in this one; 0 is none."""

    def __init__(self, clock, soon=None, later=None):
        Admission.__init__(self)
        self.clock = clock
        self.soon = soon
        self.later = later
        self.own_most = 0
        self.queue_most = 0
        self.wait = SECOND
        self.health: frozenset[bytes] = frozenset()
        self.shared = None
        self.own_cell = -1
        self.cells = []
        self.waiting = deque[Any]()
        self.shedding = self.scheduled = self.ticking = False
        self.full = self.late = self.shed = self.deepest = 0

    def share(self, words, cells, own):
        """Count together with others: `words` (load, store), the places of all cells, and our own."""
        self.shared = words
        self.cells = cells
        self.own_cell = own
        words.store(own, self.busy)

    def enter(self, exchange):
        if self.shedding or self.most or self.own_most:
            return self.weigh(exchange)
        self.busy += 1
        return 1

    def weigh(self, exchange):
        """1 admitted, 0 refused, 2 waits: with limits, or while shedding."""
        if exchange.request.target.partition(b"?")[0] in self.health:
            self.count(1)
            return 1
        if self.shedding:
            self.refused += 1
            self.shed += 1
            self.why = "the server is short of memory; try again shortly"
            return 0
        if not self.waiting and self.take():
            return 1
        if len(self.waiting) >= self.queue_most:
            self.refused += 1
            self.full += 1
            self.why = "too many requests are in flight, and too many wait; try again shortly"
            return 0
        one = Waiting(self, exchange, self.clock.now() + self.wait)
        exchange.answer = one
        self.waiting.append(one)
        self.deepest = max(self.deepest, len(self.waiting))
        self.tick_later()
        return 2

    def take(self):
        """Count one more, if the limits allow it."""
        if self.own_most and self.busy >= self.own_most:
            return False
        self.count(1)
        if self.most and self.total() > self.most:
            self.count(-1)
            return False
        return True

    def count(self, change):
        """One more or less in flight here, and everybody can see it."""
        self.busy += change
        if self.shared is not None:
            self.shared.store(self.own_cell, self.busy)

    def total(self):
        """In flight in all workers."""
        if self.shared is None:
            return self.busy
        total = 0
        for cell in self.cells:
            total += self.shared.load(cell)
        return total

    def leave(self, exchange):
        self.busy -= 1
        if self.shared is not None and (self.most or self.own_most):
            self.shared.store(self.own_cell, self.busy)
        if self.waiting and not self.scheduled:
            self.scheduled = True
            self.soon(self.go_on)

    def go_on(self):
        """There is room, perhaps: admit who waits, in order."""
        self.scheduled = False
        while self.waiting and self.take():
            one = self.waiting.popleft()
            one.admitted(self.clock.now())

    def drop(self, one):
        """One who waits has left; `leave` will be called for it as for any other."""
        try:
            self.waiting.remove(one)
        except ValueError:
            return
        self.count(1)

    def tick_later(self):
        if not self.ticking:
            self.ticking = True
            self.later(POLL, self.tick)

    def tick(self):
        """While somebody waits: whose time is over, and is there room elsewhere?"""
        self.ticking = False
        now = self.clock.now()
        while self.waiting and self.waiting[0].until <= now:
            one = self.waiting.popleft()
            self.refused += 1
            self.late += 1
            self.count(1)
            one.refuse(self.retry_after)
        self.go_on()
        if self.waiting:
            self.tick_later()


class Waiting(Answer):
    """A request that waits for admission: keeps what its client sends meanwhile, uncredited."""

    def __init__(self, admission, exchange, until):
        self.admission = admission
        self.exchange = exchange
        self.until = until
        self.held = []
        self.over = False
        self.trailers = None

    def data(self, chunk, end):
        if chunk:
            self.held.append(chunk)
        self.over = self.over or end
        return not chunk

    def end(self, trailers):
        self.over = True
        self.trailers = trailers

    def reset(self, why, side):
        if side == "both":
            self.admission.drop(self)

    def admitted(self, now):
        """Its turn has come."""
        ex = self.exchange
        ex.answer = None
        ex.journey.queued = now  # journey
        ex.conn.admitted(ex)
        answer = ex.answer
        if answer is not None and not ex.over:
            self.pour(ex, answer)
        ex.conn.flush()

    def pour(self, ex, answer):
        """What was kept goes to who answers."""
        held = self.held
        self.held = []
        for chunk in held:
            if answer.data(chunk, False):
                ex.credit(len(chunk))
        if self.over:
            answer.end(self.trailers)

    def refuse(self, after):
        """Its time is over."""
        error = Refused("no place became free in time; try again shortly", status=503, retry="always", after=after)
        self.exchange.answer = None
        self.exchange.fail(error)
