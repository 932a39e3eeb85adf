"""Faults: what becomes of an exchange, and of the connection, when something goes wrong. A part of Connection.

Rules
1. Whatever a handler or an answer raises stops here (`raised`): an error answer if the head is not out, else a reset.
2. A rule of the protocol broken by the peer (`broken`) ends the connection. With one stream the client gets an answer that names
   the rule, if no head is out; else, and from an upstream, every open exchange hears of it.
3. What never became an exchange (a head that cannot be parsed, a refused stream) is one for the log.
"""

from __future__ import annotations

from fairlead.core.ends import Ends
from fairlead.core.errors import AppError, FairleadError
from fairlead.core.exchange import Exchange
from fairlead.core.handler import error_response
from fairlead.core.journey import Journey
from fairlead.core.message import Request


class Faults(Ends):
    """See the module. `ruled`: the rule that a multiplexed peer broke."""

    def __init__(self, service, carrier, client):
        Ends.__init__(self, service, carrier)
        self.client = client
        self.scheme = service.scheme
        self.ruled = None

    def raised(self, ex, error):
        """A handler or answer raised `error`: answer it, or reset."""
        if not isinstance(error, FairleadError):
            self.service.observer.broke(ex, error)
            error = AppError(f"{type(error).__name__} was raised while answering")
        if ex.over:
            return
        self.tell_reset(ex, error, "both")
        self.say_reset(ex, error, "both")

    def tell_reset(self, ex, why, side):
        if ex.error is None:
            ex.error = why
        answer = ex.answer
        if answer is not None:
            try:
                answer.reset(why, side)
            except Exception as error:
                self.service.observer.broke(ex, error)

    def overloaded(self, ex):
        ex.error = "overloaded"
        admission = self.service.admission
        error = FairleadError(admission.why, side="peer", status=503)
        error.after = admission.retry_after
        response, body = error_response(error)
        admission.busy += 1
        ex.whole(response, body)

    def overdue(self, ex):
        ex.deadline = 0
        if self.client and self.codec.multiplexed:
            self.codec.now = self.clock.now()
            self.codec.ping()  # is it this request, or is nobody there any more?
        error = FairleadError("the request took longer than its limit", side="upstream", status=504)
        self.tell_reset(ex, error, "both")
        self.say_reset(ex, error, "both")

    def broken(self, error):
        """The peer broke a rule of the protocol, or a deadline passed: say what we can, then close."""
        codec = self.codec
        ex = self.current
        self.linger = True
        if self.client or codec.multiplexed or error.status == 0:
            codec.finished = True
            self.lost(error)
            if codec.multiplexed and error.status:
                self.ruled = error
                if not self.client:
                    self.refused(0, error)
            return
        if ex is not None and ex.said_head:
            codec.finished = True
            self.lost(error)
            return
        response, body = error_response(error)
        if ex is None:
            ex = self.unparsed(error)
        else:
            self.tell_reset(ex, error, "both")
        ex.error = error
        ex.response = response
        ex.said_head = ex.said_end = True
        now = self.clock.now()
        codec.now = now
        ex.journey.answered = ex.journey.finished = now  # journey
        ex.journey.bytes_out += len(body)
        codec.refuse(response.status, response.headers, body)

    def unparsed(self, error):
        """An exchange for the log, of a request whose head never became one."""
        j = Journey()
        self.stamp(j, self.clock.now())
        ex = Exchange(self, 0, 0, Request("-", self.scheme, b"", b"-", [], "1.1", 0), j)
        self.current = ex
        self.service.admission.busy += 1
        self.requests += 1
        return ex

    def refused(self, stream, why):
        now = self.clock.now()
        request = Request("-", self.scheme, b"", b"-", [], getattr(self.codec, "version", "2"), 0)
        j = Journey()
        self.stamp(j, now)
        j.done = now  # journey
        ex = Exchange(self, stream, 0, request, j)
        ex.error = why
        self.requests += 1
        self.service.admission.busy += 1
        self.release(ex)

    def lost(self, why):
        for ex in self.open_exchanges():
            self.tell_reset(ex, why, "both")
            self.drop(ex, why)
