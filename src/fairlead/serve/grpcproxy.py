"""gRPC through the reverse proxy: each call is balanced by itself, as every request is; what is added is time and retries.

Rules
1. The deadline of a call goes on as what is left of it (`grpc-timeout`), and holds here too: when it passes before the
   upstream answers, the client hears DEADLINE_EXCEEDED and the upstream a reset.
2. A call is sent again when the upstream says that it did not look at it (REFUSED_STREAM, GOAWAY), or when it fails without
   a message ("Trailers-Only") and with a status that the policy lists: `retry.grpc` of the route, or a retryPolicy of the
   service config (gRFC A6) for its method. Both are held to `retry.times` or maxAttempts, and to the budget.
3. For that the request's messages are kept, up to KEPT bytes, until the upstream answers; a longer request is not sent again.
4. Between attempts of a service config's policy is its backoff, at random below the limit (A6), and never past the deadline.
5. A stream may pause as long as it likes, once the upstream's answer has begun (before, `timeouts.head` holds).
6. A status that the upstream said passes through, in the head or the trailers. Failures here are HTTP's 502, 503 and 504,
   which clients read as UNAVAILABLE.
"""

# mypy: disable-error-code="union-attr,attr-defined,has-type,assignment,var-annotated,arg-type"

from __future__ import annotations

from random import random

from fairlead.core.errors import FairleadError, NetError, WireError
from fairlead.core.message import Response
from fairlead.serve.proxy import Pair, Uplink
from fairlead.wire.grpc import say_timeout, timeout_of

KEPT = 65536  # bytes of a request that are kept to be sent again; Envoy's buffer for retries is 64 KiB as well
LATE = [(b"content-type", b"application/grpc"), (b"grpc-status", b"4"), (b"grpc-message", b"the deadline has passed")]


class Policy:
    """When a call is sent again. `statuses`: grpc-status values as bytes; `most`: attempts in all; times in seconds.

    `timeout`: ns that a call may take if its client set no less, 0 for no limit.
    """

    def __init__(self, statuses=(), most=2, first=0.0, longest=0.0, factor=1.0, timeout=0):
        self.statuses = frozenset(statuses)
        self.most = most
        self.first = first
        self.longest = longest
        self.factor = factor
        self.timeout = timeout

    def pause(self, attempts):
        """Seconds before the next attempt, when there were so many (A6: at random between nothing and the limit)."""
        return random() * min(self.first * self.factor ** (attempts - 1), self.longest)


class Calls:
    """Takes the gRPC calls of a Proxy. `usual`: their Policy; `methods`: Policies by path, or by service ("/pkg.Service/")."""

    def __init__(self, proxy, usual, methods=None):
        self.proxy = proxy
        self.usual = usual
        self.methods = methods or {}

    def takes(self, exchange):
        """Is this a call? Then it is on its way."""
        request = exchange.request
        kind = request.get(b"content-type")
        if kind is None or not kind.startswith(b"application/grpc") or kind.startswith(b"application/grpc-web"):
            return False
        path = request.raw_path
        pair = GrpcPair.__new__(GrpcPair)
        pair.begin(self.proxy, exchange)
        pair.policy = self.methods.get(path) or self.methods.get(path[: path.rfind(b"/") + 1]) or self.usual
        pair.kept = []
        pair.kept_size = 0
        pair.ended = False
        pair.due = 0
        pair.start()
        return True


class GrpcUplink(Uplink):
    """Keeps what it passes on, as long as it may be wanted again."""

    def data(self, chunk, end):
        self.pair.keep(chunk, end)
        return Uplink.data(self, chunk, end)

    def end(self, trailers):
        self.pair.keep(b"", True)
        Uplink.end(self, trailers)


class GrpcPair(Pair):
    """One call on its way. `due`: monotonic ns of its deadline, 0 for none."""

    def start(self):
        left = self.left
        left.conn.codec.patient(left.stream)
        self.idle = 0  # a stream of messages may pause
        value = left.request.get(b"grpc-timeout")
        took = self.policy.timeout
        if value is not None:
            try:
                given = timeout_of(value)
            except WireError:
                given = 0  # the upstream will say what is wrong with it
            if given and (not took or given < took):
                took = given
        if took:
            self.due = min((left.journey.parsed or left.journey.routed) + took, 1 << 62)
            if not left.deadline or self.due < left.deadline:
                left.deadline = self.due
        Pair.start(self)

    def send(self, leg):
        if self.due:
            self.say_due()
        Pair.send(self, leg)

    def say_due(self):
        """What is left of the deadline, into the request."""
        request = self.left.request
        value = say_timeout(self.due - self.upstream.poller.now())
        fields = [pair for pair in request.headers if pair[0] != b"grpc-timeout"]
        fields.append((b"grpc-timeout", value))
        request.headers = fields

    def link(self):
        if self.uplink is None:
            self.uplink = GrpcUplink(self)
        self.left.answer = self.uplink
        return self.uplink

    def keep(self, chunk, end):
        """Part of the request."""
        if end:
            self.ended = True
        if self.kept is not None and chunk:
            self.kept_size += len(chunk)
            if self.answered or self.kept_size > KEPT:
                self.kept = None
            else:
                self.kept.append(chunk)

    # ---- the answer

    def head(self, message, end):
        if end and message.status == 200 and self.again(message.get(b"grpc-status")):
            return
        self.kept = None
        Pair.head(self, message, end)

    def again(self, status):
        """A call that failed without a message: send it again, if the policy says so."""
        policy = self.policy
        if status is None or status not in policy.statuses or self.attempts >= policy.most or not self.free():
            return False
        pause = policy.pause(self.attempts)
        if self.due and self.upstream.poller.now() + pause * 1e9 >= self.due:
            return False
        if not self.proxy.may_retry():
            return False
        self.restart(pause)
        return True

    def free(self):
        """May it be sent again at all?"""
        return self.kept is not None and not self.answered and not self.left.over

    def restart(self, pause):
        """Begin anew, with another target if there is one."""
        leg = self.leg
        self.leg = None
        if leg is not None:
            leg.answer = None
            if not leg.said_end and not leg.over:
                leg.reset(NetError("the call is sent again", step="send", side="upstream"), "both")
        if self.tried is None:
            self.tried = []
        if len(self.tried) + 1 < len(self.upstream.all):
            self.tried.append(self.target)
        if self.left.request.length:
            self.uplink = None
            uplink = self.link()
            uplink.held = list(self.kept)
            uplink.held_end = self.ended
        if pause:
            self.upstream.poller.loop.call_later(pause, self.go_on)
        else:
            self.go_on()

    def go_on(self):
        """The next attempt."""
        if self.left.over:
            return
        try:
            self.go(self.upstream.poller.now())
        except FairleadError as error:
            self.left.fail(error)

    def reset(self, why, side):
        if side == "both" and why.retry == "always" and not self.heard and self.free():
            if self.attempts <= self.proxy.retries and self.proxy.may_retry():
                self.restart(0.0)
                return
        Pair.reset(self, why, side)

    def abandoned(self, why):
        left = self.left
        if self.due and why.status == 504 and not self.answered and not left.over and not left.said_head:
            left.journey.end = "grpc-deadline-exceeded"
            left.head(Response(200, list(LATE)), True)
        Pair.abandoned(self, why)
