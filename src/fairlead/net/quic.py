# cython: annotation_typing=False
"""QUIC on one UDP socket (RFC 9000): which connection a datagram is for, new connections, and when each is to be woken.

Rules
1. The socket is one of several on the port, one per worker (`net.steer`). Only one process reads each at a time: who reads holds a
   name (`net.quicforward.Turn`), so that during a reload the two packets of one ClientHello do not part ways.
2. A packet is for the connection that has its destination id. An id that is nobody's here may be another worker's: of an older
   generation, or of a client that moved and that the kernel's hash brought here. It is passed on to whoever has it. What nobody
   has gets a stateless reset if it is large enough, at most `RESETS` a second.
3. A new connection needs an Initial of version 1 in a datagram of 1,200 bytes. Another version gets Version Negotiation. A client
   whose address is not proven gets Retry when the setting says always, or when `half_open` handshakes are under way; with twice
   as many, proven or not, new connections are dropped. Each client is given a token that proves it when it comes again.
4. Ids that we issue begin with whose they are: the socket's place (for the kernel), then the worker's region.
5. Everything that a turn brought is taken in first, then each connection that heard something is settled.
6. Deadlines of engines are kept in a heap with one timer of the loop; a deadline that moved later is found when its entry comes up.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import os
from time import time
from typing import Any

from fairlead.core.errors import FairleadError
from fairlead.net import quicengine, steer
from fairlead.net.listen import FAREWELL
from fairlead.net.poll import IN, OUT, Watcher
from fairlead.net.quicconn import QuicConn
from fairlead.net.quicforward import Forwarder, Hub, Turn
from fairlead.net.quictoken import NUMBER
from fairlead.net.udp import Udp
from fairlead.wire import quic as wire

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

BATCHES = 4  # reads of one wake-up
RESETS = 100  # a second
GRAIN = 0.001  # seconds: deadlines so near are one; a loop counts in milliseconds
TURN = 0.02  # seconds until the next look whether the socket is ours to read
HEIR = 0.1  # seconds that a successor has to take the socket of one who drains
LINGER = 3.0  # seconds that a closed connection answers late packets, at most
log = logging.getLogger("fairlead.error")


class QuicListener(Watcher):
    """Like `net.listen.Listener`, for a UDP socket. `settings` is a `QuicSettings`, `tokens` a `quictoken.Tokens`, `share` a
    `quicshare.Share` or None, `place` the socket's number on its port, `region` ours in the slab, `retry` "auto", "always" or
    "never".
    """

    def __init__(
        self, poller: Any, sock: Any, service: Any, make_codec: Any, settings: Any, tokens: Any, share: Any = None, hub: Any = None
    ) -> None:
        super().__init__()
        self.poller = poller
        self.sock = sock
        self.service = service
        self.make_codec = make_codec
        self.settings = settings
        self.tokens = tokens
        self.share = share
        self.place = self.region = 0
        self.retry = "auto"
        self.half_open = 200
        self.own = sock.dup()  # the one that was given closes when we are to read no more, and we may still have to send
        self.udp = Udp(self.own)
        self.tcps: set[Any] = set()
        self.hub = hub or Hub()
        self.routes: dict[bytes, QuicConn] = self.hub.routes  # of all our sockets: a client's packets may come over another
        self.conns: set[QuicConn] = set()
        self.handshaking: set[QuicConn] = set()
        self.heap: list[tuple[float, int, QuicConn]] = []
        self.numbers = 0
        self.alarm: Any = None
        self.alarm_at = 0.0
        self.dirty: dict[QuicConn, None] = {}
        self.stuck: list[QuicConn] = []
        self.accepted = 0
        self.listening = self.reading = self.paused = self.watched = self.left = False
        self.gate: Any = None
        self.idle: Any = None
        self.tls: Any = settings
        self.turn: Any = None
        self.waiting: Any = None
        self.forwarder: Forwarder | None = None
        self.resets, self.resets_at = 0, 0
        self.counts = {"retried": 0, "known": 0, "refused": 0, "forwarded": 0, "reset": 0, "negotiated": 0, "dropped": 0}

    # ---- the socket

    def start(self) -> None:
        """Read the socket as soon as nobody else does, and hear what siblings pass on."""
        if not self.listening:
            self.listening = True
            self.forward()
            self.take_turn()

    def forward(self) -> None:
        """Be reachable for siblings."""
        if self.share is not None and self.forwarder is None:
            self.forwarder = self.hub.join(self, self.tokens.name)

    def take_turn(self) -> None:
        """Rule 1."""
        self.waiting = None
        if not self.listening or self.reading:
            return
        self.turn = Turn.take(self.tokens.lasting, self.udp.name, self.place) if self.share is not None else Turn(None)
        if self.turn is None:
            self.waiting = self.poller.loop.call_later(TURN, self.take_turn)
            return
        self.reading = True
        self.watch()

    def watch(self) -> None:
        """What we want to hear of the socket."""
        wanted = (IN if self.reading else 0) | (OUT if self.stuck else 0)
        fd = self.own.fileno()
        if wanted and not self.watched:
            self.poller.watch(fd, self, wanted)
        elif wanted:
            self.poller.change(fd, wanted)
        elif self.watched:
            self.poller.unwatch(fd)
        self.watched = bool(wanted)

    def stop(self) -> None:
        """Read no more: a successor does, and passes on what is ours. Sending goes on."""
        self.listening = False
        if self.waiting is not None:
            self.waiting.cancel()
            self.waiting = None
        if self.reading:
            self.reading = False
            self.watch()
        if self.turn is not None:
            self.turn.close()
            self.turn = None

    def ready(self, events: int) -> None:
        if events & OUT and self.stuck:
            stuck, self.stuck = self.stuck, []
            self.watch()
            for conn in stuck:
                if not conn.gone:
                    conn.settle()
        if not events & IN or not self.reading:
            return
        start = self.poller.now()
        ahead = 0
        for _ in range(BATCHES):
            batch = self.udp.receive()
            if not batch:
                break
            ahead = ahead or _fast.realtime_ns() - self.poller.now()
            for data, peer, local, stamp, segment, ecn in batch:
                at = stamp - ahead if stamp else 0
                self.sort(data, peer, local, at, segment, start, ecn)
            if len(batch) < 16:
                break
        self.deal(start)

    def deal(self, start: int) -> None:
        """Rule 5."""
        dirty, self.dirty = self.dirty, {}
        woken = self.poller.woken if self.poller.in_turn else start
        for conn in dirty:
            if not conn.gone:
                conn.pull(woken, start)
                if conn.closing:
                    conn.acknowledged()

    def sort(self, data: bytes, peer: Any, local: bytes, at: int, segment: int, now: int, ecn: int = 0) -> None:
        """One message: datagrams of one peer, each to its connection."""
        if not segment or len(data) <= segment:
            self.route(data, peer, local, at, now, ecn)
            return
        for start in range(0, len(data), segment):
            self.route(data[start : start + segment], peer, local, at, now, ecn)

    def route(self, data: bytes, peer: Any, local: bytes, at: int, now: int, ecn: int = 0) -> None:
        """One datagram."""
        if not data:
            return
        if data[0] & 0x80:
            conn = self.routes.get(data[6 : 6 + data[5]]) if len(data) > 6 else None
        else:
            conn = self.routes.get(data[1:9])
        if conn is None:
            conn = self.stranger(data, peer, local, at, now)
            if conn is None:
                return
        if local:
            conn.packed = local
        conn.arrived(data, peer, at, now, ecn)
        self.dirty[conn] = None

    # ---- what is nobody's yet

    def stranger(self, data: bytes, peer: Any, local: bytes, at: int, now: int) -> QuicConn | None:
        """Rules 2 and 3."""
        head = wire.head(data)
        if head is None:
            self.counts["dropped"] += 1
        elif head.kind == wire.INITIAL:
            owner = self.share.owner(head.destination) if self.share is not None else -1
            if owner not in (-1, self.region) and self.pass_on(head, data, peer, local):
                return None
            if len(data) >= wire.LEAST and self.listening:
                return self.opened(head, peer, local, at, now)
        elif head.kind == wire.OTHER:
            if len(data) >= wire.LEAST:
                self.counts["negotiated"] += 1
                self.udp.send([wire.version_negotiation(head, (wire.VERSION_1,), os.urandom(1)[0])], peer, local)
        elif not self.pass_on(head, data, peer, local) and head.kind == wire.SHORT:
            self.reset(head, data, peer, local, now)
        return None

    def pass_on(self, head: wire.Head, data: bytes, peer: Any, local: bytes) -> bool:
        """To the worker that has the id; False when nobody has."""
        if self.share is None or self.forwarder is None or len(head.destination) < wire.CID:
            return False
        for region in (self.share.owner(head.destination), head.destination[1]):
            if region >= 0 and region != self.region and self.forwarder.send(region, data, peer, local):
                self.counts["forwarded"] += 1
                return True
        older = self.tokens.older
        if older and self.forwarder.send(head.destination[1], data, peer, local, older):
            self.counts["forwarded"] += 1
            return True
        return False

    def passed_on(self, data: bytes, peer: Any, local: bytes) -> None:
        """A sibling passed on a packet that should be ours."""
        conn = self.routes.get(data[6 : 6 + data[5]] if data[0] & 0x80 else data[1:9]) if len(data) > 8 else None
        now = self.poller.now()
        if conn is not None:
            conn.arrived(data, peer, 0, now)
            self.dirty[conn] = None
            self.poller.soon(self.deal_later)
        elif data and not data[0] & 0x80 and len(data) > 8:
            head = wire.head(data)
            if head is not None:
                self.reset(head, data, peer, local, now)

    def deal_later(self) -> None:
        self.deal(self.poller.now())

    def reset(self, head: wire.Head, data: bytes, peer: Any, local: bytes, now: int) -> None:
        """A stateless reset, within the budget."""
        if now - self.resets_at > 1_000_000_000:
            self.resets_at, self.resets = now, 0
        if self.resets >= RESETS:
            return
        packet = wire.stateless_reset(self.tokens.reset(head.destination), len(data), os.urandom(48))
        if packet is not None:
            self.resets += 1
            self.counts["reset"] += 1
            self.udp.send([packet], peer, local)

    def opened(self, head: wire.Head, peer: Any, local: bytes, at: int, now: int) -> QuicConn | None:
        """A client begins."""
        busy = len(self.handshaking)
        original, retried = head.destination, None
        nameless = not head.source and self.settings.engine == "qh3"
        ask = self.retry == "always" or (self.retry == "auto" and busy >= self.half_open)
        if len(original) < 8 and not head.token:
            self.counts["dropped"] += 1  # RFC 9000 section 7.2: at least 8 bytes
            return None
        proven = self.tokens.check(head.token, peer, time()) if head.token else None
        known = proven is None and bool(head.token) and self.tokens.known(head.token, peer, time(), self.share)
        if known:
            self.counts["known"] += 1
        if proven is not None and proven[1] == head.destination:
            original, retried = proven
        elif (ask and not known) or (nameless and len(original) != wire.CID):  # its id would be ours, and ours have one length
            self.counts["retried"] += 1
            source = self.new_id()
            token = self.tokens.retry(peer, head.destination, source, time())
            packet = quicengine.retry_packet(self.settings.engine, source, head.source, head.destination, token)
            self.udp.send([packet], peer, local)
            return None
        if busy >= 2 * self.half_open:
            self.counts["refused"] += 1
            return None
        cid = head.destination if nameless else self.new_id()
        return self.accept(cid, original, retried, head.destination, known, peer, local, at, now)

    def accept(
        self, cid: bytes, original: bytes, retried: bytes | None, told: bytes, known: bool, peer: Any, local: bytes, at: int,
        now: int,
    ) -> QuicConn:  # fmt: skip
        """A new connection, which is called `cid`; a client that has no id itself names qh3's (`net.quicqh3`)."""
        engine = quicengine.server(self.settings, cid, self.tokens.reset(cid), original, retried, self.further_id, known)
        conn = QuicConn(self, engine, self.service, peer, self.local_name(local))
        conn.packed = local
        conn.make_codec = self.make_codec
        conn.on_close = self.tcps.discard
        conn.conn.accepted = now
        conn.conn.connected = min(at, now) if at else 0
        conn.first = at or now
        self.routes[told] = self.routes[cid] = conn
        conn.cids.update((told, cid))
        if self.share is not None:
            for one in (told, cid):  # an Initial has the one or the other, and any worker may get it
                self.share.own(one, self.region)
            if cid == told:
                conn.shared.add(cid)
            else:
                conn.first_ids = (told, cid)
        self.tcps.add(conn)
        self.conns.add(conn)
        self.handshaking.add(conn)
        self.accepted += 1
        self.service.observer.opened(conn.conn)
        conn.start(now)
        if self.idle is not None:
            self.idle.opened()
        return conn

    def local_name(self, local: bytes) -> tuple[str, int]:
        """Our end's (host, port)."""
        host = self.udp.name[0]
        if len(local) == 4:
            host = ".".join(map(str, local))
        elif len(local) == 16:
            import socket

            host = socket.inet_ntop(socket.AF_INET6, local)
        return host, self.udp.name[1]

    def new_id(self) -> bytes:
        """Rule 4."""
        return bytes((steer.mark(self.place % steer.SLOTS, self.region), self.region & 0xFF)) + os.urandom(wire.CID - 2)

    def further_id(self) -> tuple[bytes, bytes]:
        """Another id, with its reset token."""
        cid = self.new_id()
        return cid, self.tokens.reset(cid)

    # ---- what connections tell us

    def issued(self, conn: QuicConn, cid: bytes) -> None:
        """An engine issued an id."""
        self.routes[cid] = conn
        conn.cids.add(cid)
        if self.share is not None and (cid[1] != self.region & 0xFF or cid[0] & 63 != self.place):
            self.share.own(cid, self.region)
            conn.shared.add(cid)

    def retired(self, conn: QuicConn, cid: bytes) -> None:
        """The peer will not use an id again."""
        if self.routes.get(cid) is conn:
            del self.routes[cid]
        conn.cids.discard(cid)
        if cid in conn.shared:
            conn.shared.discard(cid)
            self.share.disown(cid)

    def secured(self, conn: QuicConn) -> None:
        """A handshake is over."""
        self.handshaking.discard(conn)
        conn.engine.grant(self.tokens.later(conn.peer, time(), os.urandom(NUMBER)))
        self.forget_first(conn)

    def forget_first(self, conn: QuicConn) -> None:
        """No Initial comes any more."""
        for cid in conn.first_ids:
            self.share.disown(cid)
        conn.first_ids = ()

    def linger(self, conn: QuicConn) -> None:
        """It is closed, and its engine answers late packets for a moment."""
        self.handshaking.discard(conn)
        self.poller.loop.call_later(LINGER, conn.leave)

    def leave(self, conn: QuicConn) -> None:
        """It is gone."""
        self.handshaking.discard(conn)
        self.conns.discard(conn)
        self.tcps.discard(conn)
        for cid in conn.cids:
            if self.routes.get(cid) is conn:
                del self.routes[cid]
        for cid in conn.shared:
            self.share.disown(cid)
        self.forget_first(conn)
        conn.cids.clear()
        conn.shared.clear()
        if not self.listening and not self.conns:
            self.shut()

    def push(self, conn: QuicConn) -> None:
        """The kernel had no room for its datagrams: settle it when there is."""
        if conn not in self.stuck:
            self.stuck.append(conn)
            self.watch()

    def again(self, conn: QuicConn) -> None:
        """It has more to do, after the others."""
        self.poller.loop.call_soon(conn.settle_later)

    # ---- time

    def wake(self, conn: QuicConn, at: float) -> None:
        """Rule 6: `conn.ticked` is called at `at` (monotonic seconds), or at once when that is past."""
        if conn.timer_at and conn.timer_at <= at:
            return
        conn.timer_at = at
        self.numbers += 1
        heapq.heappush(self.heap, (at, self.numbers, conn))
        if self.alarm is None or at < self.alarm_at:
            self.set_alarm(at)

    def set_alarm(self, at: float) -> None:
        if self.alarm is not None:
            self.alarm.cancel()
        self.alarm_at = at
        delay = max(GRAIN, at - self.poller.now() / 1e9)
        self.alarm = self.poller.loop.call_later(delay, self.ring)

    def ring(self) -> None:
        """The earliest deadline."""
        self.alarm = None
        seconds = self.poller.now() / 1e9 + GRAIN
        heap = self.heap
        due = []
        while heap and heap[0][0] <= seconds:
            at, _, conn = heapq.heappop(heap)
            if not conn.gone and conn.timer_at == at:
                conn.timer_at = 0.0
                due.append(conn)
        for conn in due:
            try:
                at = conn.engine.timer()
                if at is not None and at <= seconds:
                    conn.ticked(round(max(at, seconds - GRAIN) * 1e9) + 1000)
                elif conn.held:
                    conn.settle()
                elif at is not None:
                    conn.arm()
            except Exception:
                log.exception("a QUIC connection failed inside the server")
                conn.abort(None)
        if heap and self.alarm is None:
            self.set_alarm(heap[0][0])

    # ---- the end

    def abort(self, why: Any) -> None:
        """The poller found something broken."""
        log.error("listener %s failed on UDP: %s", self.service.name, why)

    def begin_drain(self) -> None:
        """GOAWAY to everybody; handshakes end now."""
        for conn in list(self.tcps):
            conn.conn.draining = True
            if conn.codec is None:
                conn.abort(None)
            else:
                conn.conn.drain()

    async def drain(self, grace: float) -> int:
        """As `Listener.drain`."""
        self.stop()
        self.read_on()
        self.begin_drain()
        await self.ended(grace)
        for conn in list(self.tcps):
            if conn.codec is not None:
                conn.conn.farewell()
        await self.ended(FAREWELL)
        left = list(self.tcps)
        for conn in left:
            conn.abort(FairleadError("the server is shutting down", status=503))
        if not self.conns:
            self.shut()
        return len(left)

    def read_on(self) -> None:
        """While we drain, whoever took the socket over passes on what is ours; when nobody did, we read it ourselves."""
        if self.listening or self.reading or not self.tcps:
            return
        if self.share is None or self.left:
            self.turn = Turn(None) if self.share is None else Turn.take(self.tokens.name, self.udp.name, self.place)
            if self.turn is not None:
                self.reading = True
                self.watch()
                return
        self.left = True
        self.poller.loop.call_later(HEIR, self.read_on)

    async def ended(self, seconds: float) -> None:
        end = self.poller.loop.time() + seconds
        while self.tcps and self.poller.loop.time() < end:
            await asyncio.sleep(0.02)

    def shut(self) -> None:
        """Everything is over."""
        if self.forwarder is not None:
            self.hub.part(self)
            self.forwarder = None
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None
        self.heap.clear()
        if self.turn is not None:
            self.turn.close()
            self.turn = None
        if self.own.fileno() >= 0:
            if self.watched:
                self.poller.unwatch(self.own.fileno())
                self.watched = False
            self.own.close()
