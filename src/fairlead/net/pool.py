"""Connections to one target, kept for the next request. Counts stream slots, not connections, so that h2 fits in.

    warm     a stack: the connection used last is taken first, so the ones nobody needs grow old and leave
    waiting  a queue, bounded, each entry with a deadline; whoever is first gets the slot that becomes free
    dialing  at most one dial per waiting asker, and never more connections than `most`

Rules
1. `open` is the warm path: pop, open a leg, done. No callback, no allocation but the leg.
2. A connection that the server closes is noticed by its own carrier (`gone`) and leaves the stack at once.
3. A connection is pushed back only if its codec says it may carry another request, it is not draining, and the pool is
   not retired. Everything else is closed.
4. A dial that fails is told to the one who waited longest; the others keep waiting for slots or dials of their own.
   A target that refuses is not dialed again in a loop: only a new request, or the once-a-second `top_up`, dials.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from fairlead.core.connection import Owner
from fairlead.core.errors import NetError, Refused
from fairlead.net.dial import name_of
from fairlead.net.poll import Watcher
from fairlead.net.tcp import Tcp

SECOND = 1_000_000_000


class Slot:
    """What a pool knows of one connection. It is `conn.target`. `uses`: legs opened so far."""

    def __init__(self, conn):
        self.conn = conn
        self.leg = None
        self.used = 0
        self.most = 1
        self.uses = 0
        self.ready = False
        self.stacked = False


class Asker(Watcher):
    """Somebody who waits for a slot; ends when `granted` or `denied` was called, or by `pool.forget`.

    `client.granted(pool)` must call `pool.open` at once; `client.denied(error)` gets a FairleadError.
    """

    def __init__(self, pool, client, until):
        self.blocked = False
        self.slot = 0
        self.pool = pool
        self.client = client
        self.until = until

    def due(self, now):
        """Waited long enough."""
        if self.client is None:
            return
        if now < self.until:
            self.pool.poller.wheel.add(self.until, self)
            return
        client = self.client
        self.pool.forget(self)
        client.denied(Refused("no connection to the upstream became free in time", status=503, after=1))


class Opening:
    """One dial on a pool's behalf."""

    def __init__(self, pool):
        self.pool = pool
        self.dial = pool.dialer.dial(pool.address, self, pool.dial_timeout)

    def dialed(self, fd, peer):
        """A socket is connected."""
        self.pool.connected(self, fd, peer)

    def undialed(self, error):
        """It is not."""
        self.pool.undialed(self, error)


class TopUp(Watcher):
    """Once a second: are there enough warm connections?"""

    def __init__(self, pool):
        self.blocked = False
        self.slot = 0
        self.pool = pool

    def due(self, now):
        if not self.pool.retired:
            self.pool.top_up()
            self.pool.poller.wheel.add(now + SECOND, self)


class Pool(Owner):
    """`Pool(poller, dialer, service, address, make_codec)`; then take slots by `open`, or wait for one by `ask`.

    service      core Service of the client side: clock, limits, observer
    address      (host, port), or a path
    make_codec   make_codec(conn) gives the codec of a new connection
    tls          object with .engine(server_name), or None; server_name is sent and checked
    most, warm   connections at most, and kept open in advance
    streams      how many legs one connection is expected to carry: the last one's answer, so 1 for HTTP/1
    make_opening make_opening(pool) begins a dial; `quicdial.QuicOpening` for HTTP/3
    queue        askers that may wait; queue_wait: for how long, ns; dial_timeout: seconds or None
    """

    def __init__(self, poller, dialer, service, address, make_codec):
        self.poller = poller
        self.dialer = dialer
        self.service = service
        self.address = address
        self.make_codec = make_codec
        self.tls = None
        self.server_name = None
        self.most = 128
        self.keep_warm = 0
        self.queue = 200
        self.queue_wait = SECOND
        self.dial_timeout = 5.0
        self.stack = []
        self.slots = set()
        self.waiting = deque[Any]()
        self.openings = set()
        self.handshaking = set()
        self.busy = 0
        self.dials = 0
        self.streams = 1
        self.retired = False
        self.topping = None
        self.make_opening = Opening

    # ---- taking

    def open(self, request, journey):
        """A leg on a warm connection, or None when there is none."""
        stack = self.stack
        while stack:
            slot = stack[-1]
            leg = slot.conn.open_leg(request, journey)
            if leg is None:
                stack.pop()
                slot.stacked = False
                if slot.used == 0 or not slot.conn.codec.multiplexed:
                    self.discard(slot)
                continue
            slot.used += 1
            if slot.used >= slot.most:
                stack.pop()
                slot.stacked = False
            slot.uses += 1
            slot.leg = leg
            self.busy += 1
            return leg
        return None

    def ask(self, client):
        """Wait for a slot, dialing if that is allowed. The Asker, or None when `client.denied` was called."""
        total = len(self.slots) + len(self.openings)
        may_dial = total < self.most
        if not may_dial and len(self.waiting) >= self.queue:
            client.denied(Refused("too many requests wait for the upstream", status=503, after=1))
            return None
        wait = self.queue_wait
        if self.dial_timeout and self.dial_timeout * SECOND + SECOND > wait and self.dials_needed() >= 0 and may_dial:
            wait = int(self.dial_timeout * SECOND) + SECOND
        until = self.poller.now() + wait
        asker = Asker(self, client, until)
        self.waiting.append(asker)
        self.poller.wheel.add(until, asker)
        if may_dial and self.dials_needed() > 0:
            self.dial()
        return asker

    def forget(self, asker):
        """An asker does not want a slot any more."""
        asker.client = None
        self.poller.wheel.remove(asker)
        try:
            self.waiting.remove(asker)
        except ValueError:
            pass

    def dials_needed(self):
        """Waiting askers that no dial is under way for."""
        waiting = -(-len(self.waiting) // self.streams) if self.streams > 1 else len(self.waiting)
        return waiting - len(self.openings) - len(self.handshaking)

    def serve(self):
        """Give free slots to those who wait."""
        while self.waiting and self.stack:
            asker = self.waiting.popleft()
            client = asker.client
            asker.client = None
            self.poller.wheel.remove(asker)
            if client is not None:
                client.granted(self)

    # ---- dialing

    def dial(self):
        """One more connection."""
        self.dials += 1
        self.openings.add(self.make_opening(self))

    def top_up(self):
        """Dial until `keep_warm` connections are open or on their way; the first call starts the clock for it."""
        if self.keep_warm and self.topping is None:
            self.topping = TopUp(self)
            self.poller.wheel.add(self.poller.now() + SECOND, self.topping)
        lacking = min(self.keep_warm, self.most) - len(self.slots) - len(self.openings)
        for _ in range(lacking):
            self.dial()

    def connected(self, opening, fd, peer):
        """A dial is done: make the connection; with TLS it is ready after the handshake."""
        self.openings.discard(opening)
        tcp = Tcp(self.poller, fd, self.service, peer, None, True)
        conn = tcp.conn
        conn.owner = self
        slot = Slot(conn)
        conn.target = slot
        self.slots.add(slot)
        if self.tls is not None:
            self.handshaking.add(slot)
            tcp.start(None, self.tls.engine(self.server_name), self.secured)
            return
        tcp.start(self.make_codec(conn))
        if not conn.closed:
            self.usable(slot)

    def opened(self, opening, conn):
        """A dial is done that made the connection itself, with its handshake (QUIC)."""
        self.openings.discard(opening)
        slot = Slot(conn)
        conn.owner = self
        conn.target = slot
        self.slots.add(slot)
        self.usable(slot)

    def secured(self, conn, alpn):
        """The TLS handshake is done: the codec; the slot is usable once the carrier has it."""
        slot = conn.target
        self.poller.loop.call_soon(self.usable, slot)
        return self.make_codec(conn)

    def usable(self, slot):
        """A connection may carry requests now."""
        self.handshaking.discard(slot)
        if slot.conn.closed:
            return
        slot.ready = True
        codec = slot.conn.codec
        if codec.multiplexed:
            slot.most = self.streams = max(self.service.limits.streams, 1)
        else:
            self.streams = 1
        self.up()
        self.put(slot)
        while self.dials_needed() > 0 and len(self.slots) + len(self.openings) < self.most and not self.retired:
            self.dial()

    def undialed(self, opening, error):
        """A dial failed: the one who waited longest is told."""
        self.openings.discard(opening)
        self.down(error)
        self.deny(error)

    def deny(self, error):
        """Tell the first in the queue."""
        while self.waiting:
            asker = self.waiting.popleft()
            client = asker.client
            asker.client = None
            self.poller.wheel.remove(asker)
            if client is not None:
                client.denied(error)
                return

    # ---- giving back

    def put(self, slot):
        """A slot is free: for the next in the queue, or for the stack."""
        if self.retired:
            self.discard(slot)
            return
        if not slot.stacked:
            slot.stacked = True
            self.stack.append(slot)
        if self.waiting:
            self.serve()

    def released(self, conn):
        slot = conn.target
        slot.used -= 1
        self.busy -= 1
        leg = slot.leg
        slot.leg = None
        self.over(leg)
        if conn.closed:
            return
        if conn.draining or conn.codec.finished:
            if slot.used == 0:
                self.discard(slot)
        elif conn.codec.reusable:
            self.put(slot)
        elif slot.used == 0:
            self.discard(slot)

    def gone(self, conn, why):
        slot = conn.target
        self.slots.discard(slot)
        if slot.stacked:
            slot.stacked = False
            self.stack.remove(slot)
        if not slot.ready:
            self.handshaking.discard(slot)
            error = NetError(
                f"TLS with {name_of(self.address)} failed: {why}", step="tls", side="upstream", retry="always"
            )
            self.down(error)
            self.deny(error)
        elif self.waiting and self.dials_needed() > 0 and len(self.slots) + len(self.openings) < self.most:
            self.dial()

    def discard(self, slot):
        """Close a connection that is not wanted any more."""
        if not slot.conn.closed:
            slot.conn.draining = True
            if slot.ready:
                slot.conn.codec.goaway(-1)
            slot.conn.carrier.close(None)

    def retire(self):
        """Close what is idle, and everything else when its leg is over. Askers are still served by what is open."""
        self.retired = True
        stack = self.stack
        self.stack = []
        for slot in stack:
            slot.stacked = False
            if slot.used == 0:
                self.discard(slot)
        for slot in self.slots:
            slot.conn.draining = True
        for opening in self.openings:
            opening.dial.cancel()
        self.openings.clear()
        while self.waiting:
            self.deny(NetError("the upstream was removed", step="pool", status=503, side="us", retry="always"))

    # ---- for who derives from it

    def over(self, leg):
        """A leg is over (h1: which one; multiplexed: perhaps another than the last)."""

    def up(self):
        """The target accepted a connection."""

    def down(self, error):
        """The target did not."""
