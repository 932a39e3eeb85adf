"""Upstream: a group of servers that can stand in for each other; Target: one of them, with its pool and what we learnt.

Rules
1. Choosing is `serve/pick` over the targets that are not resting and were not tried yet for this request. Backups are
   chosen only when no other is left.
2. Passive health: `eject.errors` failures in a row (no connection, or no answer) send a target to rest.
   Never more than `eject.most` of them rest at once, and when all would, none does: a guess must not close the house.
   Active health (`mark_sick`, from the master's checks) keeps servers out likewise; when all are unhealthy all are asked,
   for a check that is set up wrongly must not close it either.
3. What was learnt and the warm connections belong to (address, how to connect), so a reload keeps them: `adopt`.
4. `sticky`: a client that brings the cookie of a server gets that server as long as it can be chosen, else another one, and
   with the answer that one's cookie. Its value is a hash of the address, the same in every worker and after a restart.
5. In-flight requests are counted from the choice to the leg's end, waiting included, so that waiting is load.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from typing import Any, NamedTuple

from fairlead.core.errors import Refused
from fairlead.core.handler import Handler, Observer, Service
from fairlead.core.limits import SECOND, Limits
from fairlead.net.dial import Dialer, Options, name_of
from fairlead.net.pool import Pool
from fairlead.serve.forwarded import NOBODY, effective
from fairlead.serve.pick import Candidate, picker


@dataclass(slots=True)
class Settings:
    """How an upstream behaves. Times are nanoseconds, 0 for none."""

    balance: str = "least-requests"
    dial: int = 5 * SECOND  # name, connection and TLS together
    head: int = 60 * SECOND  # request's end to the answer's head
    idle: int = 60 * SECOND  # silence inside the answer, or a server that takes nothing
    total: int = 0  # the whole exchange
    warm: int = 0
    most: int = 128
    keep: int = 60 * SECOND  # an unused connection
    requests: int = 1000
    queue: int = 200
    queue_wait: int = SECOND
    eject_errors: int = 5
    eject_rest: int = 30 * SECOND
    eject_most: float = 0.5
    answer_head: int = 64 * 1024
    answer_headers: int = 200
    streams: int = 1  # expected on one connection: more than one where HTTP/2 is spoken
    window: int = 64 * 1024
    outgoing: int = 64 * 1024
    server_name: str = ""
    sticky: str = ""  # name of the cookie
    sticky_keep: int = -1  # seconds; -1: the browser's session
    socket: Options = field(default_factory=Options)

    def limits(self) -> Limits:
        """What the connections to the servers hold to. A server may stream slowly, so there is no least rate."""
        return Limits(
            head=self.answer_head, headers=self.answer_headers, body_rate=0, body_idle=self.idle, write_idle=self.idle,
            header=self.head, idle=self.keep, handshake=self.dial, window=self.window, outgoing=self.outgoing,
            streams=max(self.streams, 100),
        )  # fmt: skip


class Server(NamedTuple):
    """One server of an upstream, as configured: (host, port) or a path, its share, and whether it only stands in."""

    address: Any
    weight: int = 1
    backup: bool = False


class TargetPool(Pool):
    """A pool that tells its target what happens."""

    def belong(self, target):
        """Whose pool this is."""
        self.target = target

    def over(self, leg):
        self.target.leave()

    def up(self):
        self.target.fails = 0

    def down(self, error):
        self.target.failed(self.poller.now())


class Target(Candidate):
    """One server. `address`: (host, port), or a path; `resting_until`: ns, 0 when it is not ejected."""

    def __init__(self, upstream, address, weight=1, backup=False):
        Candidate.__init__(self, name_of(address), weight)
        self.upstream = upstream
        self.address = address
        self.backup = backup
        self.sick = False
        self.ident = blake2b(self.name.encode(), digest_size=8).hexdigest().encode()
        self.fails = 0
        self.resting_until = 0
        self.pool = None

    def enter(self):
        """A request was given to this target."""
        self.busy += 1
        self.upstream.busy += 1

    def leave(self):
        """It is over."""
        self.busy -= 1
        self.upstream.busy -= 1

    def failed(self, now):
        """It did not do what a server does."""
        self.fails += 1
        upstream = self.upstream
        if upstream.settings.eject_errors and self.fails >= upstream.settings.eject_errors:
            upstream.eject(self, now)

    def succeeded(self):
        """It answered."""
        self.fails = 0


class Upstream:
    """`Upstream(poller, name, servers, settings, make_codec)`.

    servers      `Server`s, (address, weight, backup), or addresses: (host, port), or a path
    make_codec   make_codec(conn): the client codec of a new connection; default HTTP/1.1
    tls          None, or an object with .engine(server_name), or for HTTP/3 a `net.quicdial.QuicClient`
    """

    def __init__(self, poller, name, servers, settings=None, make_codec=None, tls=None, random=None):
        self.poller = poller
        self.name = name
        self.settings = settings if settings is not None else Settings()
        self.tls = tls
        self.scheme = "https" if tls is not None else "http"
        self.busy = 0
        self.requests = self.settings.requests
        self.head_limit = self.settings.head
        self.idle_limit = self.settings.idle
        self.total_limit = self.settings.total
        self.resting = self.sick = 0
        self.sticky = self.settings.sticky.encode()
        self.sticky_keep = self.settings.sticky_keep
        self.retired = False
        self.random = random if random is not None else Random()
        self.picker = picker(self.settings.balance, self.random)
        self.learns = self.settings.balance == "peak-ewma"
        self.by, self.by_name = key_source(self.settings.balance)
        self.service = Service(Handler(), name=name, clock=poller, limits=self.settings.limits(), observer=Observer())
        self.service.scheme = self.scheme
        self.dialer = Dialer(poller, self.settings.socket)
        self.make_codec = make_codec if make_codec is not None else h1_codec
        self.all = [self.make_target(server) for server in servers]
        self.arrange()

    def make_target(self, server):
        """A Target of a Server or an address."""
        if not isinstance(server, Server):
            server = Server(*server) if type(server) is tuple and len(server) == 3 else Server(server)
        target = Target(self, server.address, server.weight, server.backup)
        target.pool = self.make_pool(target)
        return target

    def make_pool(self, target):
        settings = self.settings
        pool = TargetPool(self.poller, self.dialer, self.service, target.address, self.make_codec)
        pool.belong(target)
        pool.tls = self.tls
        opening = getattr(self.tls, "opening", None)  # QUIC dials and shakes hands in one
        if opening is not None:
            pool.make_opening = opening
        pool.server_name = settings.server_name or (target.address[0] if type(target.address) is tuple else None)
        self.tune(pool)
        return pool

    def tune(self, pool):
        """The settings that a living pool may take over."""
        settings = self.settings
        pool.most = settings.most
        pool.keep_warm = settings.warm
        pool.queue = settings.queue
        pool.streams = settings.streams
        pool.queue_wait = settings.queue_wait
        pool.dial_timeout = settings.dial / SECOND if settings.dial else None

    def arrange(self):
        """Sort targets into the usual ones and the backups."""
        self.targets = [target for target in self.all if not target.backup]
        self.backups = [target for target in self.all if target.backup]
        self.sick = len([target for target in self.all if target.sick])

    def mark_sick(self, addresses):
        """The servers that active checks found unhealthy; all others are well."""
        for target in self.all:
            target.sick = target.address in addresses
        self.arrange()

    # ---- choosing

    def choose(self, exchange, tried, now):
        """The target for a request, or None when all were tried. `tried`: targets that failed for it, or None."""
        if self.requests and self.busy >= self.requests:
            raise Refused("too many requests are with the upstream already", status=503, after=1)
        if self.sticky:
            found = self.held(exchange, tried, now)
            if found is not None:
                return found
        targets = self.targets
        if self.resting or self.sick or tried is not None or not targets:
            targets = self.usable(tried, now)
            if not targets:
                return None
        if len(targets) == 1:
            return targets[0]
        return self.picker.pick(targets, self.key(exchange) if self.by else b"", now)

    def usable(self, tried, now):
        """Targets that are well, not tried and not resting; else backups; else resting ones; else unhealthy ones."""
        for group in (self.targets, self.backups):
            found = [t for t in group if (tried is None or t not in tried) and not t.sick and not self.rests(t, now)]
            if found:
                return found
        left = [t for t in self.all if tried is None or t not in tried]
        return [t for t in left if not t.sick] or left

    def held(self, exchange, tried, now):
        """The target whose cookie a request brings, if it can be chosen."""
        ident = cookie(exchange.request.headers, self.sticky)
        if not ident:
            return None
        for target in self.all:
            if target.ident == ident:
                good = not target.sick and (tried is None or target not in tried) and not self.rests(target, now)
                return target if good else None
        return None

    def stick(self, exchange, target, response):
        """Give the client the cookie of the target that answered, unless it brought it."""
        if cookie(exchange.request.headers, self.sticky) == target.ident:
            return
        value = self.sticky + b"=" + target.ident + b"; Path=/; HttpOnly; SameSite=Lax"
        if self.sticky_keep >= 0:
            value += b"; Max-Age=%d" % self.sticky_keep
        if exchange.request.scheme == "https":
            value += b"; Secure"
        response.headers.append((b"set-cookie", value))

    def rests(self, target, now):
        """True while ejected; who has rested long enough is back with one failure to its name."""
        if not target.resting_until:
            return False
        if now < target.resting_until:
            return True
        target.resting_until = 0
        target.fails = max(self.settings.eject_errors - 1, 0)
        self.resting -= 1
        return False

    def eject(self, target, now):
        """Send a target to rest, unless too many rest already."""
        if target.resting_until:
            if now < target.resting_until:
                return
            self.rests(target, now)
        if len(self.all) < 2 or self.resting + 1 > len(self.all) * self.settings.eject_most:
            return
        target.resting_until = now + self.settings.eject_rest
        self.resting += 1

    def key(self, exchange):
        """The bytes a hashing policy goes by; b"" when the request has none."""
        request = exchange.request
        if self.by == "path":
            return request.raw_path or request.target.partition(b"?")[0]
        if self.by == "ip":
            conn = exchange.conn
            trusted = conn.service.forwarded if conn.service.forwarded is not None else NOBODY
            return effective(request.headers, conn.peer, trusted)[0].encode()
        if self.by == "header":
            return request.get(self.by_name) or b""
        return cookie(request.headers, self.by_name)

    # ---- living

    def start(self):
        """Dial the warm connections."""
        for target in self.all:
            target.pool.top_up()

    def adopt(self, old: Any):
        """Take over the targets of an older plan's upstream that are reached in the same way; its others retire."""
        same_way = old.tls is self.tls and old.settings.server_name == self.settings.server_name
        kept = {target.address: target for target in old.all} if same_way else {}
        found = []
        for target in self.all:
            before = kept.pop(target.address, None)
            if before is not None:
                before.weight, before.backup = target.weight, target.backup
                old.busy -= before.busy
                self.busy += before.busy
                before.upstream = self
                self.tune(before.pool)
                before.pool.service = self.service
                self.resting += 1 if before.resting_until else 0
                target = before
            found.append(target)
        for target in old.all:
            if target.upstream is old:
                target.pool.retire()
        self.all = found
        self.arrange()

    def retire(self):
        """Close what is idle now, the rest when it is done."""
        self.retired = True
        for target in self.all:
            target.pool.retire()

    close = retire


def h1_codec(conn):
    """HTTP/1.1 in the client role."""
    from fairlead.wire.h1 import H1

    return H1(conn, conn.service.limits, client=True)


def key_source(balance):
    """("ip" | "path" | "header" | "cookie" | "", name bytes) of a policy such as "hash(header:x-user)"."""
    by = balance.partition("(")[2].rstrip(")")
    kind, _, name = by.partition(":")
    if not kind and balance == "maglev":
        kind = "ip"
    return kind, name.lower().encode() if kind == "header" else name.encode()


def cookie(headers, name):
    """The value of a cookie, b"" when there is none."""
    for key, value in headers:
        if key == b"cookie":
            for part in value.split(b";"):
                found, _, text = part.strip().partition(b"=")
                if found == name:
                    return text
    return b""
