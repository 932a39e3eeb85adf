"""The reverse proxy: one request goes out again on a warm connection, and its answer comes back. RFC 9110 section 7.6.

A proxied request is two crossed exchanges: `left` (the client's) and `leg` (ours to the upstream). `Pair` stands
between them in the direction of the answer, `Uplink` in the direction of the request's body when there is one:

    client -> left -> (Uplink) -> leg -> upstream          upstream -> leg -> Pair -> left -> client

Rules
1. On a warm connection everything happens inside `Proxy.open`: no task, no future, no callback.
2. `data` that finds no room withholds the credit of the other side; `room` gives it. So nothing is ever piled up here,
   except what the client sends while no connection is there yet, at most one window.
3. A request is sent again only when that cannot do it twice: when it was not sent at all (no connection), or the
   upstream says that it did not look at it (h2: GOAWAY, REFUSED_STREAM), or once, when a reused connection died without a
   word, the method is idempotent (RFC 9110 section 9.2.2) and there was no body.
   Retries are held to a budget, a share of the requests, so that they never double the load of a failing server.
4. Fields of the connection (RFC 9110 section 7.6.1) stay on theirs, also those that `Connection` names. `Via`,
   `Forwarded` and `X-Forwarded-*` are ours to write. Framing belongs to the codecs.
5. Before the head is out, an upstream's failure is a 502 or 504; after it, the client's stream is reset: a cut answer
   must never look whole. A client that leaves aborts the leg, and with h1 its connection.
6. `Expect: 100-continue` is passed on, and the upstream's 100 lets the client go on; so does `PATIENCE` without a word.
7. After 101 both sides are tunnels: bytes, back-pressure and the end of a direction pass through. A WebSocket's handshake
   is translated where the two sides speak different versions (`serve.wscross`).
8. Silence is counted only while it is the upstream's turn: not while the client does not take what is there.
9. A FIN behind a whole request may come from a client that only asks nothing more, or from one that left. The first gets
   its answer. To tell, an HTTP/1.1 client that waits longer than `PROBE` is told `100 Continue`, which every client has to
   bear (RFC 9110 section 15.2): who is gone answers with a reset, and then, as at once with any reset or hang-up, the leg
   is aborted. `half_close` of a route limits the wait besides (nginx: proxy_ignore_client_abort, aborts at once).
"""
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from fairlead.core.errors import FairleadError, NetError, Refused, WireError
from fairlead.core.exchange import Answer
from fairlead.core.handler import Handler
from fairlead.core.message import Response, is_event_stream
from fairlead.net.poll import Watcher
from fairlead.serve import wscross
from fairlead.serve.heads import Heads, Options, last_stop

__all__ = ["Options", "Pair", "Proxy", "Split"]
PATIENCE = 1_000_000_000  # ns to wait for an upstream's 100 (RFC 9110 section 10.1.1: not for ever)
PROBE = 500_000_000  # ns after which a client that closed its side is asked whether it is there
IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND", "QUERY"))
BUDGET_MOST = _BUDGET_MOST = 10.0  # retries saved up at most

_GET = "GET"
SPECIAL = frozenset(("CONNECT", "OPTIONS", "TRACE"))


class Proxy(Heads):
    """`Proxy(upstream, options)`: answers by asking the upstream."""

    def __init__(self, upstream, options=None):
        Heads.__init__(self, upstream, options)
        self.retries = self.options.retries
        self.half_close = self.options.half_close
        self.budget = BUDGET_MOST
        self.budget_gain = self.options.retry_budget
        self.calls = None  # a serve.grpcproxy.Calls, which knows more of gRPC

    def open(self, exchange):
        request = exchange.request
        if request.method is not _GET and request.method in SPECIAL and last_stop(exchange):
            return
        if self.budget < _BUDGET_MOST:
            self.budget += self.budget_gain
        if request.method is not _GET and self.calls is not None and request.method == "POST" and self.calls.takes(exchange):
            return
        pair = Pair.__new__(Pair)  # a constructor's argument tuple costs more than what it does
        pair.begin(self, exchange)
        pair.start()

    # ---- retries

    def may_retry(self):
        """Take one retry out of the budget, if there is one."""
        if self.budget < 1.0:
            return False
        self.budget -= 1.0
        return True


class Pair(Answer):
    """One proxied request. Hears the leg; `left` is the client's exchange."""

    def begin(self, proxy, left):
        """What a constructor would do."""
        self.proxy = proxy
        self.left = left
        self.upstream = proxy.upstream
        self.limit = self.upstream.head_limit
        self.idle = self.upstream.idle_limit
        self.target = None
        self.leg = None
        self.uplink = None
        self.asker = None
        self.tried = None
        self.attempts = 0
        self.asked = 0
        self.reused = False
        self.heard = False
        self.answered = False
        self.tunnel = False
        self.translated = False

    # ---- a connection

    def start(self):
        """First attempt."""
        left = self.left
        upstream = self.upstream
        now = left.journey.routed
        if not now:
            now = self.upstream.poller.now()
        total = upstream.total_limit
        if total and (not left.deadline or now + total < left.deadline):
            left.deadline = now + total
        self.go(now)

    def go(self, now):
        """Choose a target; take its warm connection, or wait for one."""
        left = self.left
        target = self.upstream.choose(left, self.tried, now)
        if target is None:
            raise Refused("no server of the upstream is left to ask", status=503, after=1)
        self.target = target
        self.attempts += 1
        j = left.journey
        j.attempts = self.attempts
        j.picked = now
        target.enter()
        leg = target.pool.open(left.request, j) if self.attempts == 1 else None
        if leg is not None:
            self.reused = True
            self.send(leg)
            return
        self.link()
        self.asked = now
        self.asker = target.pool.ask(self)

    def granted(self, pool):
        """A slot became free."""
        left = self.left
        now = self.upstream.poller.now()
        j = left.journey
        leg = pool.open(left.request, j)
        if leg is None:
            self.denied(
                NetError("the connection to the upstream was gone again", step="dial", side="upstream", retry="always")
            )
            return
        self.asker = None
        self.reused = leg.conn.requests > 1
        if self.reused:
            j.spent_pool += now - self.asked
        else:
            j.spent_dial += now - self.asked
            j.dialed = now
        self.send(leg)

    def denied(self, error):
        """There will be no connection: nothing was sent, so another target may be asked."""
        self.asker = None
        self.target.leave()
        left = self.left
        now = self.upstream.poller.now()
        left.journey.spent_dial += now - self.asked
        if left.over:
            return
        if isinstance(error, NetError) and self.attempts <= self.proxy.retries and self.another(now):
            return
        left.fail(error)

    def another(self, now):
        """Go on with a target that was not tried yet, if there is one and the budget allows it."""
        if self.tried is None:
            self.tried = []
        self.tried.append(self.target)
        if len(self.tried) >= len(self.upstream.all) or not self.proxy.may_retry():
            return False
        try:
            self.go(now)
        except FairleadError as error:
            self.left.fail(error)
        return True

    # ---- the request

    def send(self, leg):
        """Say the request on a leg."""
        left = self.left
        proxy = self.proxy
        self.leg = leg
        leg.answer = self
        self.heard = False
        request = proxy.outgoing(left, self.target)
        leg.request = request
        given = left.request
        if given.protocol or (given.upgrade and leg.conn.codec.multiplexed and wscross.crosses(given)):
            wscross.ask(self, leg, request)
            return
        if given.length:
            leg.head(request, False)
            self.stream(given.expect)
            return
        if given.upgrade and not plain_h2c(given.upgrade) and not leg.conn.codec.multiplexed:
            request.upgrade = given.upgrade
            request.headers.append((b"connection", b"upgrade"))
            request.headers.append((b"upgrade", given.get(b"upgrade")))
            self.tunnel = True
        left.answer = leg
        if self.limit:
            leg.deadline = (self.upstream.poller.now() if self.asked else left.journey.picked) + self.limit
        leg.head(request, True)

    def stream(self, expecting):
        """The request has a body: pass on what is there, and the rest as it comes."""
        uplink = self.link()
        if expecting:
            self.leg.conn.flush()
        uplink.begin(self.leg)
        if expecting and not uplink.over:
            uplink.hurry()

    def link(self):
        """The Uplink, from now on between the client and the leg."""
        if self.uplink is None:
            self.uplink = Uplink(self)
        self.left.answer = self.uplink
        return self.uplink

    def sent(self):
        """The request is over now: from here the upstream has `head` time to answer."""
        if self.limit and not self.answered:
            self.leg.deadline = self.upstream.poller.now() + self.limit
            self.leg.conn.carrier.rearm()

    # ---- the answer

    def inform(self, status, headers):
        self.heard = True
        left = self.left
        if status == 100:
            if self.uplink is not None:
                self.uplink.patience = 0
            if left.request.expect:
                left.credit(0)
        elif status > 101 and left.request.version != "1.0":
            response = Response(status, headers)
            self.proxy.returning(response)
            left.inform(status, response.headers)

    def head(self, message, end):
        leg = self.leg
        left = self.left
        response = message
        j = left.journey
        leg.deadline = j.leg_head + self.idle if self.idle else 0
        self.learn(j)
        if self.translated and wscross.answered(self, message):
            return
        upgraded = response.status == 101
        upgrade = response.get(b"upgrade") if upgraded else None
        self.returned(response)
        if upgraded:
            self.cross(response, upgrade)
            return
        if end:
            j.leg_end = j.leg_head
        left.head(message, end)
        if end:
            self.finished()

    def at_once(self, message, body):
        if self.translated:
            return False
        left = self.left
        j = left.journey
        self.learn(j)
        self.returned(message)
        j.leg_end = j.leg_head
        left.whole(message, body)
        self.finished()
        return True

    def learn(self, j):
        """The upstream answers."""
        self.heard = self.answered = True
        target = self.target
        target.fails = 0
        if self.upstream.learns:
            target.learn(j.leg_head - j.leg_sent, j.leg_head)

    def returned(self, response):
        """Make the upstream's head ours."""
        self.proxy.returning(response)
        if self.upstream.sticky:
            self.upstream.stick(self.left, self.target, response)

    def cross(self, message, upgrade):
        """101: both become byte tunnels."""
        message.headers.append((b"connection", b"upgrade"))
        message.headers.append((b"upgrade", upgrade or self.left.request.upgrade))
        self.open_tunnel(message)

    def open_tunnel(self, message):
        """Say the answer that opens it, and from then on pass bytes both ways."""
        left = self.left
        leg = self.leg
        left.deadline = leg.deadline = 0
        leg.said_end = left.heard_end = False
        left.conn.codec.halves = leg.conn.codec.halves = True
        left.answer = Tunnel(left, leg)
        leg.answer = Tunnel(leg, left)
        left.head(message, False)
        left.conn.flush()

    def data(self, chunk, end):
        left = self.left
        leg = self.leg
        if end or self.idle:
            now = self.upstream.poller.now()
            if end:
                left.journey.leg_end = now
        room = left.data(chunk, end)
        if end:
            self.finished()
        elif not room:
            leg.deadline = 0
            self.link().leg = leg
        elif self.idle:
            leg.deadline = now + self.idle
        return room

    def end(self, trailers):
        left = self.left
        left.journey.leg_end = self.upstream.poller.now()
        left.end(trailers)
        self.finished()

    def finished(self):
        """The answer is whole. If the request is not, the rest of it is of no use to anybody."""
        leg = self.leg
        if not leg.said_end and not leg.over:
            leg.answer = None
            if self.uplink is not None:
                self.uplink.leg = None
            leg.reset(
                NetError(
                    "the upstream answered before the request was over", step="send", side="upstream", retry="never"
                ),
                "both",
            )

    def room(self):
        self.left.room()

    def farewell(self):
        """The client's side of an event stream ends cleanly, and its client comes again; the upstream's is given up."""
        left = self.left
        if self.answered and not self.tunnel and not left.over and is_event_stream(left.response):
            left.end(None)
            self.leg.reset(NetError("the server is shutting down", step="send", status=0), "both")

    def reset(self, why, side):
        """The leg ended early; "read" is the client's word, passed on by the leg it speaks to."""
        if side != "both":
            self.half_closed(why)
            return
        left = self.left
        if left.over:
            return
        if self.answered:
            left.reset(blamed(why), "both")
            return
        now = self.upstream.poller.now()
        overdue = why.status == 504
        self.target.failed(now) if overdue or not self.reused else None
        if not overdue and self.repeatable(why) and self.proxy.may_retry():
            self.leg = None
            try:
                self.go(now)
                return
            except FairleadError as error:
                why = error
        left.fail(blamed(why))

    def repeatable(self, why):
        """Rule 3: a reused connection died without a word, and asking again changes nothing."""
        request = self.left.request
        return (
            (why.retry == "always" or (self.reused and request.method in IDEMPOTENT))
            and not self.heard
            and self.attempts <= self.proxy.retries
            and request.length == 0
            and not self.tunnel
        )

    def half_closed(self, why):
        """The client closed its side behind a whole request (rule 9)."""
        if not self.answered:
            poller = self.upstream.poller
            now = poller.now()
            limit = self.proxy.half_close
            watch = HalfClosed(self, why, now + limit if limit else 0)
            poller.wheel.add(now + (limit if 0 < limit < PROBE else PROBE), watch)

    def abandoned(self, why):
        """The client left, or its request ran out of time."""
        if self.asker is not None:
            self.target.pool.forget(self.asker)
            self.asker = None
            self.target.leave()
        elif self.leg is not None:
            self.leg.reset(why, "both")


class Uplink(Answer):
    """Hears the client: its body while there is no leg yet (held), then passes it to the leg."""

    def __init__(self, pair):
        self.pair = pair
        self.leg = None
        self.held = None
        self.held_end = False
        self.trailers = None
        self.over = False
        self.patience = 0

    def begin(self, leg):
        """The leg is there: say what was held."""
        self.leg = leg
        held = self.held
        self.held = None
        room = True
        for chunk in held or ():
            room = leg.data(chunk, False)
        if self.held_end:
            leg.end(self.trailers)
            self.ended()
        elif held is not None and room:
            self.pair.left.room()

    def hurry(self):
        """Should the upstream not say 100, let the client go on after a while all the same."""
        self.patience = 1
        poller = self.pair.upstream.poller
        poller.wheel.add(poller.now() + PATIENCE, Patience(self))

    def data(self, chunk, end):
        leg = self.leg
        if leg is not None:
            room = leg.data(chunk, end)
            if end:
                self.ended()
            return room
        if self.pair.answered:
            return True
        if self.held is None:
            self.held = []
        self.held.append(chunk)
        self.held_end = end
        return False

    def end(self, trailers):
        leg = self.leg
        if leg is not None:
            leg.end(trailers)
            self.ended()
        else:
            self.held_end = True
            self.trailers = trailers

    def ended(self):
        self.over = True
        self.pair.sent()

    def reset(self, why, side):
        if side == "both":
            self.pair.abandoned(why)
        else:
            self.pair.half_closed(why)

    def farewell(self):
        self.pair.farewell()

    def room(self):
        pair = self.pair
        leg = pair.leg
        if leg is not None:
            if pair.answered and pair.idle:
                leg.deadline = pair.upstream.poller.now() + pair.idle
            leg.room()


class Tunnel(Answer):
    """One direction after 101: what `own` hears is said on `other`."""

    def __init__(self, own, other):
        self.own = own
        self.other = other

    def data(self, chunk, end):
        return self.other.data(chunk, end)

    def end(self, trailers):
        other = self.other
        other.end(None)
        if (other.over or other.conn.codec.finished) and not self.own.said_end:
            self.own.reset(
                NetError("the other side of the tunnel closed", step="receive", status=0, side="upstream"), "both"
            )

    def reset(self, why, side):
        self.other.reset(why, side)

    def room(self):
        self.other.room()

    def farewell(self):
        """Both sides are told that no more comes: what was sent arrives, which a cut would not promise."""
        self.own.end(None)
        self.other.end(None)


class HalfClosed(Watcher):
    """A client that closed its side: is it still there, and how long is it waited for? `until`: ns, 0 for ever."""

    def __init__(self, pair, why, until):
        self.blocked = False
        self.slot = 0
        self.pair = pair
        self.why = why
        self.until = until
        self.asked = False

    def due(self, now):
        pair = self.pair
        left = pair.left
        if left.over or pair.answered:
            return
        if self.until and now >= self.until:
            pair.abandoned(self.why)
            left.fail(self.why)
            return
        if not self.asked:
            self.asked = True
            left.inform(100, [])
        if self.until:
            pair.upstream.poller.wheel.add(self.until, self)


class Patience(Watcher):
    """An upstream that knows nothing of 100 Continue must not make the client wait for ever."""

    def __init__(self, uplink):
        self.blocked = False
        self.slot = 0
        self.uplink = uplink

    def due(self, now):
        uplink = self.uplink
        left = uplink.pair.left
        if uplink.patience and not left.over and not uplink.pair.answered:
            left.credit(0)


class Split(Handler):
    """A canary: `Split([(proxy, weight), ...])` gives each request to one of several proxies, by weight."""

    def __init__(self, shares, random=None):
        from random import Random

        self.shares = [(proxy, weight) for proxy, weight in shares if weight > 0]
        self.total = sum([weight for _, weight in self.shares])
        self.random = random if random is not None else Random()

    def open(self, exchange):
        drawn = self.random.random() * self.total
        chosen = None
        for proxy, weight in self.shares:
            chosen = proxy
            drawn -= weight
            if drawn < 0:
                break
        chosen.open(exchange)


def plain_h2c(upgrade):
    """An offer of HTTP/2 is for this connection only (RFC 9113 dropped it anyway)."""
    return upgrade.startswith(b"h2c")


def blamed(why):
    """An error of the upstream's connection, as the client and the log should see it."""
    if isinstance(why, Refused) or why.status in (503, 504):
        return why
    if isinstance(why, WireError):
        return WireError(f"the upstream's answer cannot be used ({why})", status=502, rule=why.rule, side="upstream")
    if isinstance(why, NetError) and why.step == "dial":
        return why
    return NetError(
        f"the upstream's connection ended before its answer did ({why})", step="receive", status=502, side="upstream"
    )
