"""Connection: one peer, its codec, and the exchanges open on it. Both roles, all protocols.

It hears its codec (it is the Sink), makes an Exchange of each head, has it admitted and opened by the listener's handler,
and passes every later word to that exchange's answer. What exchanges say goes to the codec. The socket is a Carrier, which
reads, feeds, flushes and closes; this file knows none.

    Reads <- Ends <- Faults <- Saying <- Connection         each a file of its own, which knows only those to its left
    open exchanges, marks of reads; when one is over; what goes wrong; what is said; here: the carrier's calls, what is heard

Rules
1. Whatever a handler or an answer raises stops in `raised`: an error answer if the head is not out, else a reset.
2. Whoever hears a word may be let go inside it, so it is held in a local while it is called: compiled code holds no other.
3. The sooner of the codec's deadline and those of the open exchanges is the connection's.
"""

from __future__ import annotations

from fairlead.core.errors import NetError, Refused, WireError
from fairlead.core.exchange import Exchange
from fairlead.core.journey import Journey
from fairlead.core.saying import Saying


class Owner:
    """Who owns a client-role connection: a pool."""

    def released(self, conn):
        """A leg is over and the connection may take another (`conn.codec.reusable`), or not."""

    def gone(self, conn, why):
        """The connection is closed."""


class Connection(Saying):
    """See the module. peer and local are (host, port) tuples, or a path for AF_UNIX ("" if unnamed).

    `scene` is a dict that a handler, `scene_of`, keeps here from request to request; another handler begins anew.
    """

    def __init__(self, service, carrier, peer=None, local=None, client=False):
        Saying.__init__(self, service, carrier, client)
        self.owner = None
        self.peer = peer
        self.local = local
        self.tls = None
        self.target = None
        self.scene = self.scene_of = None
        self.draining = self.closed = False
        self.opened = self.last_seen = 0
        self.request_limit = service.limits.request

    # ---- the carrier's side

    def receive(self, data, now):
        """Bytes from the peer (b"" to go on with what is buffered)."""
        self.last_seen = now
        self.in_feed = True
        try:
            self.codec.feed(data, now)
        except WireError as error:
            self.broken(error)
        finally:
            self.in_feed = False

    def receive_eof(self, now):
        """The peer sends no more."""
        self.in_feed = True
        try:
            self.codec.eof(now)
        except WireError as error:
            self.broken(error)
        finally:
            self.in_feed = False

    def deadline(self):
        """The next moment (monotonic ns) `tick` must be called at, 0 for never."""
        due = self.codec.deadline()
        if self.current is not None and self.current.deadline:
            if due == 0 or self.current.deadline < due:
                due = self.current.deadline
        if self.exchanges:
            for ex in self.exchanges.values():
                if ex.deadline and (due == 0 or ex.deadline < due):
                    due = ex.deadline
        return due

    def tick(self, now):
        """A deadline has come."""
        ex = self.current
        self.in_feed = True
        try:
            if ex is not None and ex.deadline and now >= ex.deadline:
                self.overdue(ex)
            else:
                if self.exchanges:
                    for ex in list(self.exchanges.values()):
                        if ex.deadline and now >= ex.deadline:
                            self.overdue(ex)
                self.codec.tick(now)
        except WireError as error:
            self.broken(error)
        finally:
            self.in_feed = False

    def drained(self, now):
        """All that was said is with the kernel, and somebody was told to wait: writers may go on."""
        self.waiting = False
        self.codec.now = now
        self.in_feed = True
        try:
            self.codec.drained(now)
            if self.held:
                held = self.held
                self.held = []
                for stream in held:
                    self.room(stream)
        finally:
            self.in_feed = False

    def gone(self, why):
        """The socket is closed. Every open exchange hears it once."""
        if self.closed:
            return
        self.closed = True
        if why is None:
            why = self.ruled
        if why is None:
            why = NetError("the peer closed the connection", step="receive", status=499)
        self.lost(why)
        if self.owner is not None:
            self.owner.gone(self, why)
        self.service.observer.closed(self, why)
        if self.codec is not None:
            self.codec.finished = True

    # ---- hear

    def head(self, stream, message, end):
        now = self.clock.now()
        if self.client:
            self.leg_head(stream, message, end, now)
            return
        j = Journey.__new__(Journey)
        j.begin()
        self.stamp(j, now)
        ex = Exchange.__new__(Exchange)
        ex.begin(self, stream, 0, message, j)
        ex.heard_end = end
        self.requests += 1
        self.keep(ex)
        service = self.service
        if self.request_limit:
            ex.deadline = now + self.request_limit
        try:
            entered = service.admission.enter(ex)
            j.routed = now  # journey
            if entered == 1:
                service.handler.open(ex)
            elif entered == 0:
                self.overloaded(ex)
        except Exception as error:
            self.raised(ex, error)
        if self.exchanges is not None:
            self.mark = self.clock.now()  # the next head's parsing begins now  # journey

    def leg_head(self, stream, message, end, now):
        ex = self.find(stream)
        if ex is None:
            return
        ex.journey.leg_head = now  # journey
        ex.response = message
        ex.heard_end = end
        if self.codec.tunnel or (self.codec.multiplexed and ex.request.method == "CONNECT" and message.status < 300):
            ex.tunnel = True
        answer = ex.answer
        if answer is not None:
            try:
                answer.head(message, end)
            except Exception as error:
                self.raised(ex, error)
        if end and ex.said_end and not ex.over:
            self.leg_over(ex)

    def inform(self, stream, status, headers):
        ex = self.find(stream)
        answer = ex.answer if ex is not None else None
        if answer is not None:
            try:
                answer.inform(status, headers)
            except Exception as error:
                self.raised(ex, error)

    def at_once(self, stream, message, body):
        ex = self.find(stream)
        if ex is None:
            return
        ex.journey.leg_head = self.codec.now  # journey
        ex.response = message
        ex.heard_end = True
        answer = ex.answer
        if answer is not None:
            try:
                if not answer.at_once(message, body):
                    answer.head(message, False)
                    answer = ex.answer  # it may be another by now
                    if answer is not None and not ex.over:
                        answer.data(body, True)
            except Exception as error:
                self.raised(ex, error)
        if ex.said_end and not ex.over:
            self.leg_over(ex)

    def data(self, stream, chunk, end):
        ex = self.find(stream)
        count = len(chunk)
        if ex is None:
            self.codec.consumed(stream, count)
            return
        j = ex.journey
        if ex.role == 0:
            j.bytes_in += count
            if ex.body_limit and j.bytes_in > ex.body_limit and not ex.said_head:
                self.raised(ex, Refused(f"the request's body is larger than {ex.body_limit} bytes", status=413))
            if end:
                j.body_end = self.mark or self.clock.now()  # journey
        if end:
            ex.heard_end = True
        ex.withheld += count
        took = True
        answer = ex.answer if ex.intake is None else ex.intake
        if answer is not None:
            try:
                took = answer.data(chunk, end)
            except Exception as error:
                self.raised(ex, error)
        if took and not ex.over and ex.withheld >= count:
            ex.withheld -= count
            self.codec.consumed(stream, count)
        elif ex.over:
            self.codec.consumed(stream, count)
        if end and ex.role and ex.said_end and not ex.over:
            self.leg_over(ex)

    def end(self, stream, trailers):
        ex = self.find(stream)
        if ex is None:
            return
        ex.heard_end = True
        if ex.role == 0:
            ex.journey.body_end = self.mark or self.clock.now()  # journey
            ex.request.trailers = trailers
        elif ex.response is not None:
            ex.response.trailers = trailers
        answer = ex.answer if ex.intake is None else ex.intake
        if answer is not None:
            try:
                answer.end(trailers)
            except Exception as error:
                self.raised(ex, error)
        if ex.said_end and not ex.over:
            if ex.role:
                self.leg_over(ex)
            elif self.codec.fin:  # a tunnel's second direction
                self.done(ex, self.clock.now())

    def reset(self, stream, why, side):
        ex = self.find(stream)
        if ex is not None:
            ex.left = True
            self.tell_reset(ex, why, side)
            if side == "both":
                self.drop(ex, why)

    def room(self, stream):
        if stream == self.telling:
            self.told = True
            return
        ex = self.find(stream)
        answer = ex.answer if ex is not None else None
        if answer is not None:
            try:
                answer.room()
            except Exception as error:
                self.raised(ex, error)

    def goaway(self, last):
        self.draining = True

    # ---- its exchanges, its end

    def admitted(self, ex):
        """It waited for admission, and may go on."""
        self.codec.now = self.clock.now()
        try:
            self.service.handler.open(ex)
        except Exception as error:
            self.raised(ex, error)

    def open_leg(self, request, journey):
        """Client role: a new Exchange to say `request` on, or None when this connection takes none now."""
        stream = self.codec.open_stream()
        if stream == 0 or self.closed:
            return None
        ex = Exchange.__new__(Exchange)
        ex.begin(self, stream, 1, request, journey)
        self.keep(ex)
        self.requests += 1
        return ex

    def freed(self):
        if self.owner is not None:
            self.owner.released(self)

    def drain(self):
        """Finish what is open, take nothing new, then close."""
        self.draining = True
        self.codec.now = self.clock.now()
        self.codec.goaway(-1)
        if self.idle() and not self.codec.multiplexed:
            self.carrier.close(None)
        else:
            self.carrier.touch()

    def farewell(self):
        """The grace of a drain is over: each answer that is still open may end politely."""
        for ex in self.open_exchanges():
            ex.left = True
            answer = ex.answer
            if answer is not None and ex.role == 0:
                try:
                    answer.farewell()
                except Exception as error:
                    self.raised(ex, error)
