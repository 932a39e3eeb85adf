"""Listening: accept what waits, and give each connection a Tcp, a Connection and a codec.

Rules
1. The socket is somebody else's (the master's, handed to us): we watch it and stop watching it, we never close it.
2. Each wake-up accepts at most `BURST`, so that a flood of connections does not starve those that are open.
3. Out of descriptors (EMFILE): accepting pauses for a moment and says so once, instead of spinning on a ready listener.
4. The accept-queue wait of a connection is `tcpi_last_data_sent` at accept: the time since the kernel made it (jiffy-exact).
5. Where several workers accept on one socket a `gate` keeps them fair: one connection per wake-up, and who has more than
   its share stands back for `STAND_BACK` and looks again: a sibling may have stood back too and be on its way, or wait for a
   core. What has waited for `STAND_BACK_MOST` is taken, whoever has how many: siblings that are stuck cost no more than that.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from functools import partial
from typing import Any

from fairlead.core.errors import FairleadError
from fairlead.net.greet import Greeter, addresses
from fairlead.net.poll import IN, Watcher
from fairlead.net.tcp import Tcp

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

BURST = 64
FAREWELL = 1.0  # seconds for streams that were told to end, once the grace is over
STAND_BACK = 0.001  # seconds in which a sibling may take what waits
STAND_BACK_MOST = 8_000_000  # ns
PAUSE = 0.2  # seconds without accepting when descriptors or memory ran out
SO_TIMESTAMPNS = 35
log = logging.getLogger("fairlead.error")


class Listener(Watcher):
    """Accepts from one listening socket.

    `make_codec(conn, alpn)` gives the codec of a new connection (alpn None without TLS). `tls` has `.engine()`, or is
    None. `service` and `tls` may be replaced at any time: new connections get the new ones. `gate` has `may()` (is it our
    turn to accept?) and `took()`, or is None.
    """

    def __init__(self, poller, sock, service, make_codec, tls=None):
        super().__init__()
        self.poller = poller
        self.sock = sock
        self.service = service
        self.make_codec = make_codec
        self.tls = tls
        self.tcps = set()
        self.greeting = set()
        self.accepted = 0
        self.most = 0
        self.listening = False
        self.paused = False
        self.gate: Any = None
        self.idle: Any = None  # the budget of idle connections: hears of each that is opened
        self.aside = None
        self.standing = self.returned = 0  # ns: since when we stand back for what waits, and when we last came back to it
        self.is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
        if self.is_tcp:
            stamp(sock)

    def start(self):
        """Begin to accept."""
        if not self.listening:
            self.listening = True
            self.poller.watch(self.sock.fileno(), self, IN)

    def stop(self):
        """Accept no more; what waits in the queue stays there for whoever has the socket."""
        if self.listening:
            self.listening = False
            if self.aside is not None:
                self.aside.cancel()
                self.aside = None
            elif not self.paused:
                self.poller.unwatch(self.sock.fileno())
            self.paused = False

    def take(self):
        """(descriptor, peer) of a connection that waits, or None."""
        return _fast.accept(self.sock.fileno())

    def ready(self, events):
        if self.gate is None:
            self.accept(BURST)
            return
        now = 0
        if not self.gate.may():
            now = self.poller.now()
            if now - self.returned > 2_000_000:
                self.standing = now  # we have not been standing back: this one came just now
            if now - self.standing < STAND_BACK_MOST:
                self.poller.unwatch(self.sock.fileno())
                self.aside = self.poller.loop.call_later(STAND_BACK, self.step_in)
                return
        self.standing = now
        if self.accept(1):
            self.gate.took()

    def accept(self, most):
        """Take up to `most` connections; how many there were."""
        for count in range(most):
            try:
                got = self.take()
            except OSError as error:
                self.pause(error)
                return count
            if got is None:
                return count
            self.open(got[0], got[1])
        return most

    def step_in(self):
        """We stood back: see what still waits."""
        self.aside = None
        if self.listening:
            self.returned = self.poller.now()
            self.poller.watch(self.sock.fileno(), self, IN)

    def open(self, fd, peer):
        """One accepted connection; one that owes us a PROXY header begins when it has come."""
        now = self.poller.now()
        waited = _fast.accept_wait(fd) if self.is_tcp else -1
        self.accepted += 1
        announcing = self.service.announcing
        if announcing is not None and announcing.hop(peer).trusted:
            begin = partial(self.announced, peer, now, waited)
            self.greeting.add(Greeter(self.poller, fd, peer, self.service.limits, begin, self.greeting.discard))
        else:
            self.start_one(fd, peer, _fast.local_address(fd), now, waited)

    def announced(self, peer, now, waited, fd, header):
        """The PROXY header has come."""
        client, local = addresses(header, peer, _fast.local_address(fd))
        self.start_one(fd, client, local, now, waited)

    def start_one(self, fd, peer, local, now, waited):
        """A connection whose first byte is its own."""
        tcp = Tcp(self.poller, fd, self.service, peer, local)
        conn = tcp.conn
        conn.accepted = now
        if waited >= 0:
            conn.connected = now - waited * 1_000_000
        self.tcps.add(tcp)
        tcp.on_close = self.tcps.discard
        self.service.observer.opened(conn)
        if self.tls is not None:
            tcp.start(None, self.tls.engine(), self.make_codec)
        else:
            tcp.start(self.make_codec(conn, None))
        if self.idle is not None:
            self.idle.opened()

    def pause(self, error):
        """accept failed for want of something of ours: wait a little."""
        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            raise error
        log.error("cannot accept on %s: %s; waiting %.1f s (raise the descriptor limit)", self.service.name, error.strerror, PAUSE)
        self.poller.unwatch(self.sock.fileno())
        self.paused = True
        self.poller.loop.call_later(PAUSE, self.resume)

    def resume(self):
        if self.listening and self.paused:
            self.paused = False
            self.poller.watch(self.sock.fileno(), self, IN)

    def abort(self, why):
        """The poller found our socket broken."""
        log.error("listener %s failed: %s", self.service.name, why)
        self.stop()

    def begin_drain(self):
        """Idle connections close now, busy ones after their answer."""
        for greeter in list(self.greeting):
            greeter.abort(None)
        for tcp in list(self.tcps):
            tcp.conn.draining = True
            if tcp.codec is None:
                tcp.abort(None)
            else:
                tcp.conn.drain()

    async def drain(self, grace):
        """Stop accepting, finish what is open within `grace` seconds, bid the rest farewell, then abort what is left after
        `FAREWELL`; how many were aborted.
        """
        self.stop()
        self.begin_drain()
        await self.ended(grace)
        for tcp in list(self.tcps):
            if tcp.codec is not None:
                tcp.conn.farewell()
        await self.ended(FAREWELL)
        left = list(self.tcps)
        for tcp in left:
            tcp.abort(FairleadError("the server is shutting down", status=503))
        return len(left)

    async def ended(self, seconds):
        """Until no connection is left, at most so long."""
        end = self.poller.loop.time() + seconds
        while self.tcps and self.poller.loop.time() < end:
            await asyncio.sleep(0.02)


def stamp(sock):
    """Have the kernel stamp what connections of this listening socket receive; they inherit it."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        pass  # no kernel stamps here: buffer waits stay unknown
