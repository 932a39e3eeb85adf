"""Who answers: Handler, and what the connections of one listener share: Service, Admission, Observer.

`Handler.open(exchange)` is called inside Connection.head, on the codec's stack: it returns at once, having set
`exchange.answer` if it wants to hear the body, or having answered. It may raise a FairleadError, which becomes an error
answer with the error's status; anything else it raises becomes a 500 and is logged. Nothing it raises reaches the codec.
"""

from __future__ import annotations

from fairlead.core.errors import FairleadError, Refused
from fairlead.core.journey import Clock
from fairlead.core.limits import Limits
from fairlead.core.message import Common, Response, reason


class Handler:
    """One thing that can answer. Subclasses implement `open`."""

    def open(self, exchange):
        """Take the exchange. Sync, quick, and without awaiting; see the module for what may be raised."""


class Admission:
    """Counts requests in flight and refuses over the limit. Decided in Connection.head, before routing. core.admission has
    the one that queues."""

    def __init__(self, most=0, retry_after=1):
        self.most = most
        self.retry_after = retry_after
        self.busy = 0
        self.refused = 0
        self.why = "too many requests are in flight; try again shortly"

    def enter(self, exchange):
        """1: go on (and `leave` when it is over). 0: answer 503 with Retry-After, because of `why`; `leave` is called when that
        is over, too. 2: it waits, and the admission will have its connection go on.
        """
        if self.most and self.busy >= self.most:
            self.refused += 1
            return 0
        self.busy += 1
        return 1

    def leave(self, exchange):
        """An admitted exchange is over."""
        self.busy -= 1


class Observer:
    """Who is told what happened. The base forgets everything."""

    def done(self, exchange):
        """An exchange of role SERVER is over; its journey is complete."""

    def opened(self, conn):
        """A connection was accepted."""

    def closed(self, conn, why):
        """A connection is gone; `why` is None or a FairleadError."""

    def broke(self, exchange, error):
        """A handler raised: log it with its traceback."""


class Service:
    """What the connections of one listener share. Replaced whole on reload; old connections may keep the old one."""

    def __init__(self, handler, *, name="", clock=None, limits=None, admission=None, observer=None, common=None):
        self.handler = handler
        self.name = name
        self.clock = clock if clock is not None else Clock()
        self.limits = limits if limits is not None else Limits()
        self.admission = admission if admission is not None else Admission()
        self.observer = observer if observer is not None else Observer()
        self.common = common if common is not None else Common()
        self.server_timing = False
        self.alt_svc = None  # the Alt-Svc field of each answer (RFC 7838), for a listener that speaks HTTP/3 as well
        self.scheme = "http"
        self.debug = False
        self.forwarded = None
        self.announcing = None  # peers that owe a PROXY header, as something with `hop(peer).trusted`
        self.draining = False
        self.retired = False
        self.sample_every = self.sample_left = 0

    def sampled(self):
        """Is it this request's turn for the dearer socket queries? Every `sample_every`-th; 0 is none."""
        if self.sample_every == 0:
            return False
        self.sample_left -= 1
        if self.sample_left > 0:
            return False
        self.sample_left = self.sample_every
        return True


def error_response(error, debug=False):
    """(Response, body bytes) for an error: plain text, one sentence, and the hint; never a traceback."""
    status = error.status if isinstance(error, FairleadError) and error.status >= 400 else 500
    told = isinstance(error, FairleadError) and (error.side != "us" or isinstance(error, Refused) or debug)
    text = str(error) if told else reason(status).decode()
    hint = getattr(error, "hint", "") if told else ""
    body = f"{status} {reason(status).decode()}: {text}{'. ' + hint if hint else ''}\n".encode("utf-8", "replace")
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    after = getattr(error, "after", 0)
    if after:
        headers.append((b"retry-after", b"%d" % after))
    return Response(status, headers, len(body)), body
