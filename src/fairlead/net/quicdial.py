"""Dialing over QUIC: a name or an address becomes an HTTP/3 connection of a pool, its handshake done, or an error.

Rules
1. Each connection has a UDP socket of its own, connected to its peer: the kernel sorts packets, and says when nothing is
   there.
2. The addresses of a name are tried as `net.dial` tries them: the next one `STAGGER` after the last, or at once when one fails;
   the first whose handshake is done wins, and the others are closed.
3. One deadline covers the look-up and all handshakes. The pool hears exactly one of `opened(opening, conn)` and `undialed(opening,
   error)`, never on the stack of its `dial`, and neither after `cancel()`.
4. The newest session ticket of each server name is kept for the next connection: a resumed handshake has no certificates. Early
   data is not sent: a request must not be run twice because a network repeats it.
"""

from __future__ import annotations

import errno
import logging
import socket
import ssl
from typing import Any

from fairlead.core.connection import Owner
from fairlead.core.errors import NetError
from fairlead.net import quicengine
from fairlead.net.dial import STAGGER, name_of
from fairlead.net.poll import IN, OUT, Watcher
from fairlead.net.quicconn import QuicConn
from fairlead.net.quicsettings import QuicSettings
from fairlead.net.udp import Udp

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

BATCHES = 4  # reads of one wake-up
GRAIN = 0.001  # seconds: deadlines so near are one; a loop counts in milliseconds
TICKETS = 64
MOST = 8952  # bytes of the largest datagram that is tried
log = logging.getLogger("fairlead.error")


class QuicClient:
    """QUIC towards an upstream. `settings` is an `UpstreamTls`, or has its attributes. Raises ConfigError."""

    def __init__(self, settings: Any, engine: str = "") -> None:
        engine = engine or ("qh3" if quicengine.available("qh3") or not quicengine.available("aioquic") else "aioquic")
        quicengine.require(engine)
        self.settings = settings
        self.engine = engine
        self.tickets: dict[str, Any] = {}
        ours = QuicSettings(engine, client=True)
        ours.show(settings)
        self.pair = ours.pair

    def opening(self, pool: Any) -> QuicOpening:
        """Begin a dial on a pool's behalf."""
        return QuicOpening(pool, self)

    def made(self, pool: Any, server_name: str | None) -> QuicSettings:
        """The settings of one connection."""
        limits = pool.service.limits
        made = QuicSettings(self.engine, client=True)
        made.name = self.settings.name or server_name or ""
        made.verify = self.settings.verify
        made.ca = self.settings.ca or ssl.get_default_verify_paths().cafile or ""
        made.ticket = self.tickets.get(made.name)
        made.pair = self.pair
        made.window = limits.connection_window
        made.stream_window = max(limits.window, 65536)
        made.most = MOST
        made.idle = max(limits.idle / 1e9, 5.0) + 5.0 if limits.idle else 80.0
        return made

    def keep(self, name: str, ticket: Any) -> None:
        """Rule 4."""
        if name not in self.tickets and len(self.tickets) >= TICKETS:
            del self.tickets[next(iter(self.tickets))]
        self.tickets[name] = ticket


class Home(Watcher):
    """What a QuicConn of ours needs of its surroundings: its socket and its timer."""

    def __init__(self, opening: QuicOpening, sock: socket.socket, peer: Any) -> None:
        super().__init__()
        self.opening: QuicOpening | None = opening
        self.poller = opening.pool.poller
        self.sock = sock
        self.udp = Udp(sock)
        self.peer = peer
        self.conn: Any = None
        self.alarm: Any = None
        self.stuck = self.closing = False
        self.watched = True
        self.poller.watch(sock.fileno(), self, IN)

    def ready(self, events: int) -> None:
        conn = self.conn
        if events & OUT and self.stuck:
            self.stuck = False
            self.poller.change(self.sock.fileno(), IN)
            conn.settle()
        start = self.poller.now()
        ahead = 0
        count = 0
        for _ in range(BATCHES):
            batch = self.udp.receive()
            if not batch:
                break
            ahead = ahead or _fast.realtime_ns() - self.poller.now()
            for data, _, _, stamp, segment, ecn in batch:
                at = stamp - ahead if stamp else 0
                size = segment or len(data)
                for first in range(0, len(data), size):
                    count += 1
                    conn.arrived(data[first : first + size], self.peer, at, start, ecn)
        if count == 0:
            self.refused()
        elif not conn.gone:
            conn.pull(self.poller.woken if self.poller.in_turn else start, start)
            if self.closing:
                conn.acknowledged()

    def refused(self) -> None:
        """Woken without a datagram: an ICMP error, which counts as long as nothing else has answered."""
        if self.opening is not None and not self.conn.gone and not self.conn.engine.done and self.udp.messages == 0:
            error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if self.sock.fileno() >= 0 else 0
            if error in (0, errno.ECONNREFUSED):
                self.conn.abort(
                    NetError(f"{self.opening.name} refused the packets", step="dial", side="upstream", retry="always")
                )

    # ---- what the connection tells

    def wake(self, conn: Any, at: float) -> None:
        """`conn.ticked` at `at`, in monotonic seconds."""
        if conn.timer_at and conn.timer_at <= at:
            return
        conn.timer_at = at
        if self.alarm is not None:
            self.alarm.cancel()
        self.alarm = self.poller.loop.call_later(max(GRAIN, at - self.poller.now() / 1e9), self.ring)

    def ring(self) -> None:
        """The engine's deadline."""
        self.alarm = None
        conn = self.conn
        if conn.gone:
            return
        conn.timer_at = 0.0
        now = self.poller.now()
        at = conn.engine.timer()
        try:
            if at is not None and at <= now / 1e9 + GRAIN:
                conn.ticked(max(now, round(at * 1e9) + 1000))
            elif conn.held:
                conn.settle()
            else:
                conn.arm()
        except Exception:
            log.exception("a QUIC connection failed inside the server")
            conn.abort(None)

    def secured(self, conn: Any) -> None:
        """The handshake is done."""
        opening, self.opening = self.opening, None
        if opening is not None:
            opening.secured(self, conn)

    def issued(self, conn: Any, cid: bytes) -> None:
        """The socket is its own: no packet has to be sorted by id."""

    def retired(self, conn: Any, cid: bytes) -> None:
        """As `issued`."""

    def waits(self, conn: Any) -> None:
        """It closes when all is acknowledged."""
        self.closing = True

    def linger(self, conn: Any) -> None:
        """It is closed; a server that did not hear that will see it by its own timer."""
        self.poller.loop.call_soon(conn.leave)

    def leave(self, conn: Any) -> None:
        """It is gone."""
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None
        if self.watched:
            self.watched = False
            self.poller.unwatch(self.sock.fileno())
            self.sock.close()

    def push(self, conn: Any) -> None:
        """The kernel had no room."""
        if not self.stuck and self.watched:
            self.stuck = True
            self.poller.change(self.sock.fileno(), IN | OUT)

    def again(self, conn: Any) -> None:
        """It has more to do, after the others."""
        self.poller.loop.call_soon(conn.settle_later)

    def abort(self, why: Any) -> None:
        """The poller found something broken."""
        self.conn.abort(why)


class QuicOpening(Owner):
    """One dial on a pool's behalf; in place of `pool.Opening`. `client` is a QuicClient."""

    def __init__(self, pool: Any, client: QuicClient) -> None:
        self.pool = pool
        self.client = client
        self.dial = self
        self.open: set[Any] = set()
        self.left: list[tuple[int, Any]] = []
        self.last: Any = None
        self.over = False
        self.staggered: Any = None
        loop = pool.poller.loop
        self.timer = loop.call_later(pool.dial_timeout, self.timed_out) if pool.dial_timeout else None
        self.first = loop.call_soon(self.start)

    @property
    def name(self) -> str:
        """The address as text."""
        return name_of(self.pool.address)

    def start(self) -> None:
        if not self.over:
            self.pool.dialer.resolve(self.pool.address, self.resolved)

    def resolved(self, found: list[tuple[int, Any]], error: NetError | None) -> None:
        """The addresses of the name are known, or not."""
        if self.over:
            return
        if error is not None:
            self.finish(error)
            return
        self.left = found
        self.next()

    def next(self) -> None:
        """The next attempt, and the clock for the one after."""
        if self.staggered is not None:
            self.staggered.cancel()
            self.staggered = None
        if self.over:
            return
        if not self.left:
            if not self.open:
                self.finish(self.last or NetError(f"{self.name} has no address", step="resolve", side="upstream"))
            return
        family, peer = self.left.pop(0)
        if self.left:
            self.staggered = self.pool.poller.loop.call_later(STAGGER, self.next)
        sock = None
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.connect(peer)
            self.attempt(sock, peer[:2])
        except OSError as problem:
            if sock is not None:
                sock.close()
            text = f"{self.name} could not be dialed ({problem.strerror})"
            self.last = NetError(text, step="dial", side="upstream", retry="always")
            self.next()

    def attempt(self, sock: socket.socket, peer: Any) -> None:
        """One handshake."""
        pool = self.pool
        settings = self.client.made(pool, pool.server_name)
        now = pool.poller.now()
        home = Home(self, sock, peer)
        keep = self.client.keep
        engine = quicengine.client(settings, peer, now / 1e9, lambda ticket: keep(settings.name, ticket))
        conn = home.conn = QuicConn(home, engine, pool.service, peer, sock.getsockname()[:2], True)
        conn.make_codec = lambda conn, alpn: pool.make_codec(conn)
        conn.conn.owner = self
        conn.patience = round(3e9 * pool.dial_timeout) if pool.dial_timeout else 0
        self.open.add(conn)
        conn.start(now)
        conn.settle()

    def secured(self, home: Home, conn: Any) -> None:
        """The first one wins."""
        self.open.discard(conn)
        if self.over:
            conn.abort(None)
            return
        pool = self.pool
        self.finish(None)
        conn.conn.owner = None
        pool.poller.loop.call_soon(pool.opened, self, conn.conn)

    def gone(self, conn: Any, why: Any) -> None:
        """An attempt failed: the next address, now."""
        self.open = {one for one in self.open if one.conn is not conn}
        if self.over:
            return
        if isinstance(why, NetError) and why.step == "dial":
            self.last = why
        else:
            text = f"QUIC with {self.name} failed: {why}"
            self.last = NetError(text, step="tls", side="upstream", retry="always")
        self.next()

    def released(self, conn: Any) -> None:
        """No leg is opened before the pool has it."""

    def timed_out(self) -> None:
        """The deadline."""
        text = f"{self.name} did not answer over UDP in time: it has no HTTP/3, or UDP is blocked"
        self.finish(NetError(text, step="dial", status=504, side="upstream", retry="always"))

    def cancel(self) -> None:
        """Nobody wants it any more."""
        self.finish(None)

    def finish(self, error: NetError | None) -> None:
        """Stop everything; tell the pool of an error."""
        if self.over:
            return
        self.over = True
        self.first.cancel()
        for timer in (self.timer, self.staggered):
            if timer is not None:
                timer.cancel()
        attempts, self.open = self.open, set()
        for conn in attempts:
            conn.abort(None)
        if error is not None:
            self.pool.undialed(self, error)
