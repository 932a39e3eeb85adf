"""Exchange: one request and its answer on one stream of one connection, whatever the protocol. The noun of Fairlead.

The same words are said and heard: what a codec tells a Connection, the Connection tells the exchange's `answer`, and what
somebody tells the Exchange, it tells its connection's codec. So an Exchange is itself an Answer, and a proxy is two
crossed ones: `left.answer = leg; leg.answer = left`.

    hear (the peer said)   conn -> exchange.answer.head inform data end reset room
    say  (we say)          exchange.head inform data end reset           credit: exchange.room() or exchange.credit(n)

Rules
1. `answer.data(...)` returns True when the bytes are taken for good (they are credited at once) or False when they only
   are held: then the reader credits them later, all of them by `room()`, or some by `credit(n)`.
2. `exchange.data(...)` returns room; after False the answer hears `room()` when there is space again.
3. `role` is SERVER for what a client asked of us, CLIENT for a leg to an upstream. `heard_end` and `said_end` say which
   directions are over; words after the end, or after `over`, are ignored, so late tasks do no harm.
4. After 101 or a 2xx to CONNECT the exchange is a byte tunnel: `data` is raw both ways (`tunnel` is True).
5. A short answer that an upstream's read brought whole is heard as one word, `at_once`, which charges nothing; who does not
   take it hears `head` and `data`. `whole` says a complete answer, in one piece where the codec can.
6. A filter may put a body stage on either side: `intake` hears the peer's body in place of the answer, `stage` is given
   what we say in place of the codec. Each passes on what it makes of it; where there is none, nothing is paid.
"""

from __future__ import annotations

from fairlead.core.codec import Sink
from fairlead.core.journey import Journey

SERVER = 0
CLIENT = 1
COMPILED = not __file__.endswith(".py")


class Answer:
    """Who hears an exchange. The base ignores everything and takes (credits) all bytes."""

    def head(self, message, end):
        """The final head (for a leg: the Response)."""

    def inform(self, status, headers):
        """An interim response."""

    def at_once(self, message, body):
        """The final head and the whole body (not empty) as one: True when taken. False: it is told as `head` and `data`."""
        return False

    def data(self, chunk, end):
        """Body bytes; True when taken for good, False when credited later."""
        return True

    def end(self, trailers):
        """The other side's body is over."""

    def reset(self, why, side):
        """The other side gave up: `why` is a FairleadError, `side` "both", "read" or "write"."""

    def room(self):
        """What was told to wait may go on."""

    def farewell(self):
        """The server drains and its grace is over: end this answer in the way that has the client come again (an event
        stream ends cleanly, a WebSocket closes with 1012), if there is one. What does not end now is cut shortly after.
        """


class Intake(Answer):
    """A stage between the peer's body and the answer (decompression). It is told `data` and `end` as an answer would be;
    what the answer credits comes to `credit`, and the stage credits the connection for what it was given itself.
    """

    def credit(self, count):
        """The answer took `count` bytes of what the stage gave it."""

    def credit_all(self):
        """The answer took all that it was given."""


class Stage:
    """A stage between what we say and the codec (compression). It speaks by `exchange.data` and `exchange.end`."""

    def data(self, exchange, chunk, end):
        """Body bytes that were said; True when there is room for more."""
        return exchange.data(chunk, end)

    def end(self, exchange, trailers):
        """The end that was said."""
        exchange.end(trailers)


class Channel(Sink):
    """What an Exchange needs of its connection; core.connection.Connection is the one real one."""

    def say_head(self, exchange, message, end):
        """Send a final head."""

    def say_whole(self, exchange, message, body):
        """Send a final head and the whole body, which is not empty."""
        self.say_head(exchange, message, False)
        self.say_data(exchange, body, True)

    def say_inform(self, exchange, status, headers):
        """Send an interim head."""

    def say_data(self, exchange, chunk, end):
        """Send body bytes; False when there is no room."""
        return True

    def say_region(self, exchange, region, end):
        """Have bytes of a file sent: 0 not possible, 1 room for more, 2 wait for `room`."""
        return 0

    def say_cast(self, exchange, cast):
        """Send body bytes that many hear alike; False when there is no room."""
        return self.say_data(exchange, cast.data, False)

    def say_end(self, exchange, trailers):
        """End the body."""

    def say_reset(self, exchange, why, side):
        """Give the stream up."""

    def credit(self, exchange, count):
        """The reader took `count` bytes."""

    def begin(self, exchange):
        """The handler begins to work (its STARTED). False: somebody else has the request (hop), drop it without a word."""
        return True

    def flush(self):
        """Send now what has been said (a head alone otherwise waits for the first body bytes)."""


class Exchange(Answer):
    """See the module. Attributes: conn stream role request response journey route params service answer error.

    `deadline`: monotonic ns by which the whole exchange must be over, 0 for none.
    `handle` is a slot for whoever handles the exchange (one object, no meaning here). `client`: (host, port) of the client
    as a trusted peer's Forwarded fields say, None for the peer itself (`conn.peer`). `hooks`: None, or a tuple of objects
    whose `after(exchange, response)` is called just before the answer's head is said; they may change it. `ends`: None, or
    a tuple of objects whose `over(exchange)` is called once when a server exchange is over, however it ended. `principal`:
    who the client proved to be (a filter's word: a user name, or the claims of a token), None for nobody. `body_limit`:
    most bytes of request body, 0 for the listener's own limit. `entire`: the whole body of a complete answer while its
    hooks see the head: one may put another of at least a byte in its place, with the length in the head.
    `left`: the client has closed its side, or the server's farewell was said: whoever takes the exchange over to wait for something
    was not there to hear it, and looks here.
    `working`: set by a handler whose work may go on after the exchange ended early; it says `worked()` at its end. Until then
    the stream is not free, so that "reset and ask again" buys no more work than `limits.streams` allows at once.
    """

    def __init__(self, conn, stream, role, request, journey):
        self.begin(conn, stream, role, request, journey if journey is not None else Journey())

    def begin(self, conn, stream, role, request, journey):
        """In place of a constructor on the hot path: `Exchange.__new__(Exchange)`, then this."""
        self.conn = conn
        self.stream = stream
        self.role = role
        self.request = request
        self.journey = journey
        self.tag = b""
        if not COMPILED:  # compiled, all this is so by itself
            self.response = None
            self.route = None
            self.params = None
            self.answer = None
            self.error = None
            self.handle = None
            self.client = None
            self.hooks = None
            self.ends = None
            self.intake = None
            self.stage = None
            self.entire = None
            self.principal = None
            self.body_limit = 0
            self.deadline = 0
            self.withheld = 0
            self.heard_end = False
            self.said_head = False
            self.said_end = False
            self.over = False
            self.tunnel = False
            self.working = False
            self.abandoned = False
            self.left = False

    def head(self, message, end):
        """Say the final head: a Response, or for a leg the Request."""
        self.conn.say_head(self, message, end)

    def inform(self, status, headers):
        """Say an interim response (100, 103)."""
        self.conn.say_inform(self, status, headers)

    def data(self, chunk, end):
        """Say body bytes; False: taken, but wait for the answer's `room()` before saying more."""
        return self.conn.say_data(self, chunk, end)

    def region(self, region, end):
        """Say body bytes of an open file (core.region): 0 not possible here, so read them and say `data`; 1 taken, and there is
        room for more; 2 taken, and nothing more may be said before the answer hears `room()`.
        """
        return self.conn.say_region(self, region, end)

    def cast(self, cast):
        """Say body bytes that many exchanges say alike (a Cast, not empty): as `data`, but framed once for all of them."""
        return self.conn.say_cast(self, cast)

    def end(self, trailers):
        """Say that the body is over."""
        self.conn.say_end(self, trailers)

    def reset(self, why, side):
        """Give this exchange up."""
        self.conn.say_reset(self, why, side)

    def room(self):
        """Credit everything that was withheld: the reader has room again."""
        if self.intake is not None:
            self.intake.credit_all()
            return
        count = self.withheld
        self.withheld = 0
        self.conn.credit(self, count)

    def farewell(self):
        """A leg of a proxied answer: whoever hears it knows how to end the other side."""
        if self.answer is not None:
            self.answer.farewell()

    def credit(self, count):
        """Credit `count` bytes of what was withheld (0 is fine: it says "I am reading", and sends a 100 Continue)."""
        if self.intake is not None:
            self.intake.credit(count)
            return
        self.settle(count)

    def settle(self, count):
        """Credit `count` bytes as the connection counts them, past an intake."""
        self.withheld -= count
        self.conn.credit(self, count)

    def whole(self, response, body):
        """Say a complete answer in one go; `body` may be b""."""
        conn = self.conn
        if not body:
            conn.say_head(self, response, True)
        elif self.hooks is not None:
            self.entire = body
            conn.say_head(self, response, False)
            body = self.entire
            self.entire = None
            if body:
                conn.say_data(self, body, True)
        else:
            conn.say_whole(self, response, body)

    def at_once(self, message, body):
        self.whole(message, body)
        return True

    def worked(self):
        """The work that `working` announced has ended."""
        self.working = False
        if self.abandoned:
            self.abandoned = False
            self.conn.codec.abandoned -= 1

    def fail(self, why):
        """End with an error: an error answer if the head is not out yet, else a reset. `why` is a FairleadError."""
        self.conn.say_reset(self, why, "both")

    def __repr__(self):
        state = "over" if self.over else "open"
        return f"<Exchange {self.stream} {state} {self.request!r}>"
