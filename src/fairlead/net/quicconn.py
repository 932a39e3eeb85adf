# cython: annotation_typing=False
"""One QUIC connection of ours: its engine on one side, Connection and codec on the other. The carrier of a Connection.

Rules
1. Datagrams go into the engine; what the engine tells is fed to the codec; what the codec says is given to the engine; what the
   engine makes of it is sent. All that a loop turn brought is answered at the end of that turn, in one go.
2. Bodies stay with the codec, in the order of their priority (RFC 9218), until the engine can send them: it is handed what its
   congestion window has room for and two packets besides, and nothing while more than those wait in it; for of what it holds of
   several streams it sends a packet of each in turn. The two keep packets full, and the window from counting as unused (RFC 9002
   section 7.8). So what is urgent overtakes all but that, and what was lost goes out again beside no more new bytes than those.
   A stream that was handed more than the peer's flow control takes (RFC 9000 section 4) is `blocked` for the codec until that is
   gone; and all together get no more than the window of the connection takes, and two packets.
3. What the codec was given and has not credited may be `Limits.connection_window` bytes; beyond that the engine is paused, and
   so, by flow control, the peer. It is one budget for all streams: an engine credits what is taken from it.
4. An exchange is over when its last byte left the engine for the first time and is with the kernel.
5. Deadlines: the engine's own (loss, acknowledgements, pacing, idle) are exact to the millisecond; ours (handshake, codec,
   keep-alive) sit in the wheel.
6. A connection with requests open is kept alive by a PING in each `KEEP_ALIVE` of silence (RFC 9000 section 10.1.2): an event
   stream may be silent longer than either side's idle time.
7. A client may move as often as it likes; where it is, the engine finds out (RFC 9000 section 9).
8. While bytes wait for the congestion window or the pacer, what acknowledgements alone make room for is sent in portions: at most
   one each `PORTION`, as TCP sends its segments (RFC 9002 section 7.7 lets a burst be so short). A portion is one system call;
   without it each acknowledgement would be answered with the two packets that it makes room for.
9. Closing: "when all is acknowledged" is what a codec means by H3_NO_ERROR, for at most `limits.linger`; any other code
   goes at once.
10. In the client's role, a server that acknowledges nothing for `patience` while requests are open and packets under way is gone,
   or UDP has come to be blocked: no ICMP and no kernel tells so, and the engines wait for their idle time. A server that only
   thinks acknowledges.
11. Who goes on though we have closed is told again while `home` has us linger, ever more rarely (RFC 9000 section 10.2.1).
12. Datagrams wait with the codec, too, and are handed over as the window has room for them, for half of it while bodies want to
   leave as well: an engine keeps what it was handed, however much it is.
"""

from __future__ import annotations

from typing import Any

from fairlead.core.connection import Connection
from fairlead.core.errors import NetError, WireError
from fairlead.net.quicends import INTERNAL, NO_ERROR, Ending
from fairlead.net.quicverbs import AROUND

PACKETS, TURN = 2, 131_072
LEAST, FEW = 1_024, 4_096  # bytes: worth handing over; so few are soon used up
KEEP_ALIVE = 10_000_000_000  # ns
EXACT, UNKNOWN = 0, 5
NEAR = 0.5  # seconds: the engine's deadlines beyond are rough, and sit in the wheel
ROUNDS = 32
NOTHING = b"\0\0"  # a DATA frame without bytes (RFC 9114 section 7.2.1), for an end alone: see `Engine.bare_fin`
PORTION = 1_000_000  # ns


class QuicTls:
    """What the rest asks a connection's TLS."""

    version = "TLSv1.3"
    closed_by_peer = False

    def __init__(self, engine: Any) -> None:
        self.scope: Any = None
        self.alpn = engine.protocol()
        self.cipher = engine.cipher
        self.server_name = engine.asked_name or None
        self.resumed = engine.resumed
        self.early = engine.early
        self.peer_cert = engine.peer_cert
        self.done = True


class QuicConn(Ending):
    """`QuicConn(home, engine, service, peer, local)`. `home` has `udp`, `poller`, `wake(conn, at)`, `leave(conn)` and `push(conn)`.

    `make_codec(conn, alpn)` is called when the handshake is done, or when early data comes. `early` is true until then.
    """

    def __init__(self, home: Any, engine: Any, service: Any, peer: Any, local: Any, client: bool = False) -> None:
        super().__init__()
        self.home = home
        self.poller = home.poller
        self.engine = engine
        engine.way = home.udp.room
        self.limits = service.limits
        self.peer = peer
        self.packed = b""
        self.conn = Connection(service, self, peer, local, client)
        self.conn.scheme = "https"
        self.codec: Any = None
        self.make_codec: Any = None
        self.on_close: Any = None
        self.cids: set[bytes] = set()
        self.shared: set[bytes] = set()  # of them, those that siblings look up
        self.first_ids: tuple[bytes, ...] = ()
        self.closed = self.closing = self.settling = self.gone = False
        self.early = True
        self.why: Any = None
        self.until = 0
        self.last_heard = 0
        self.uncredited = 0
        self.blocked_streams: set[int] = set()
        self.inbox: list[bytes] = []
        self.inbox_from: Any = None
        self.inbox_ecn = 0
        self.timer_at = 0.0  # seconds: what `home` was asked to wake us at
        self.parting: list[tuple[bytes, Any]] = []
        self.asked = 0
        self.outbox: list[tuple[bytes, Any]] = []
        self.stuck = False
        self.sent_at = 0  # when we last sent, ns
        self.held = False  # rule 8: `home` wakes us for the next portion
        self.first = self.read_at = 0
        self.stamped = (0, UNKNOWN)
        self.facts_seen: dict[str, Any] = {}
        self.asked_streams = False
        self.patience = self.waiting = 0  # rule 10: ns, and since when

    # ---- opening

    def start(self, now: int) -> None:
        """Begin: the handshake's deadline runs."""
        self.conn.opened = self.conn.last_seen = self.last_heard = now
        self.until = now + self.limits.handshake if self.limits.handshake else 0
        self.arm()

    def use(self, codec: Any) -> None:
        """The codec that speaks from now on."""
        self.codec = codec
        self.conn.codec = codec
        codec.now = self.poller.now()
        codec.opener = self.open_stream
        codec.allowance = self.allow()

    def open_stream(self, unidirectional: bool) -> int:
        """A new stream of ours, -1 when the peer allows none now."""
        found: int = self.engine.opener(bool(unidirectional))
        if found < 0:
            self.asked_streams = True
        return found

    # ---- in

    def arrived(self, data: bytes, peer: Any, stamp: int, now: int, ecn: int = 0) -> None:
        """A datagram for us, to be taken in when the batch is over (`pull`). `stamp`: monotonic ns by the kernel, or 0."""
        if ecn != self.inbox_ecn or (self.inbox and peer != self.inbox_from):
            self.take_in(now)
            self.inbox_ecn = ecn
        if not self.inbox:
            self.inbox_from = peer
            self.stamped = (stamp, EXACT) if stamp else (0, UNKNOWN)
        self.inbox.append(data)

    def take_in(self, now: int) -> None:
        inbox, self.inbox = self.inbox, []
        if inbox:
            self.last_heard = now
            self.waiting = 0
            self.engine.receive(inbox, self.inbox_from, now / 1e9, self.inbox_ecn)

    def pull(self, woken: int, start: int) -> None:
        """The batch is over: hear what the engine has to tell, and answer."""
        now = self.poller.now()
        if self.parting:
            self.inbox = []
            self.part_again()
            return
        count = sum([len(one) for one in self.inbox])
        self.take_in(now)
        done = self.poller.now()
        if self.codec is not None and not self.closed:
            if self.inbox_from != self.peer:
                self.moved()
            self.conn.reading(woken, self.stamped[0], self.stamped[1], start, now, count)
            self.conn.decrypting(now, done)
        if not self.engine.events() and self.hold(done):
            return
        self.hear(done)
        if not self.gone:
            self.settle()

    def hold(self, now: int) -> bool:
        """Rule 8: nothing but acknowledgements came, and the next portion is not due."""
        if self.codec is None or self.closed or self.closing or now - self.sent_at >= PORTION:
            return False
        if not self.codec.ready and not self.engine.unsent():
            return False
        self.held = True
        self.home.wake(self, (self.sent_at + PORTION) / 1e9)
        return True

    def moved(self) -> None:
        """The client may have another address; it counts once the engine has validated the path (RFC 9000 section 9)."""
        peer = self.engine.peer()
        if peer is not None and peer != self.peer:
            self.peer = self.conn.peer = peer

    def hear(self, now: int) -> None:
        """The engine's events, to the codec."""
        events = self.engine.events()
        while events:
            event = events.popleft()
            kind = event[0]
            if kind == "data":
                self.heard_data(event, now)
            elif kind == "done":
                self.handshaken(now)
            elif kind == "issued":
                self.home.issued(self, event[1])
            elif kind == "retired":
                self.home.retired(self, event[1])
            elif kind == "closed":
                self.heard_close(event[1], event[2])
            elif self.ready_codec(now):
                self.heard_word(event, now)
        if self.asked_streams and self.codec is not None and not self.closed:
            self.asked_streams = False
            self.codec.opened()

    def heard_data(self, event: Any, now: int) -> None:
        """Stream bytes."""
        if not self.ready_codec(now):
            return
        _, stream, data, fin = event
        conn = self.conn
        self.uncredited += len(data)
        if self.uncredited > self.limits.connection_window:
            self.engine.paused = True
        conn.last_seen = now
        conn.in_feed = True
        try:
            self.codec.feed(data, now, stream, fin)
        except WireError as error:
            self.broken(error)
        finally:
            conn.in_feed = False

    def heard_word(self, event: Any, now: int) -> None:
        """A reset, STOP_SENDING, or a DATAGRAM."""
        conn, codec, kind = self.conn, self.codec, event[0]
        conn.last_seen = now
        conn.in_feed = True
        try:
            if kind == "reset":
                codec.stream_reset(event[1], event[2], now)
            elif kind == "stop":
                self.engine.reset(event[1], event[2])
                self.blocked_streams.discard(event[1])
                codec.stop_sending(event[1], event[2], now)
            elif kind == "datagram":
                codec.datagram(event[1], now)
        except WireError as error:
            self.broken(error)
        finally:
            conn.in_feed = False

    def ready_codec(self, now: int) -> bool:
        """There is a codec to hear it; early data makes one before the handshake is done."""
        if self.closed:
            return False
        if self.codec is None and self.make_codec is not None:
            self.conn.tls = QuicTls(self.engine)
            self.use(self.make_codec(self.conn, self.engine.protocol()))
            self.conn.mark = now
        return self.codec is not None

    def handshaken(self, now: int) -> None:
        """The handshake is over."""
        self.early = False
        self.until = 0
        conn = self.conn
        if self.codec is None:
            conn.handshaken(0, now)
            self.ready_codec(now)
        else:
            conn.secured = now
            conn.tls = QuicTls(self.engine)
        self.home.secured(self)

    def broken(self, error: WireError) -> None:
        """The codec will not go on."""
        self.conn.broken(error)
        self.why = error
        self.carry_out(self.codec.orders() if self.codec is not None else [])
        self.shut(getattr(error, "code", 0) or INTERNAL, str(error))

    def heard_close(self, code: int, reason: str) -> None:
        """The connection is over: the peer closed it, it timed out, or a rule of QUIC was broken."""
        if self.closed:
            return
        if code in (0, NO_ERROR) and self.engine.done:
            self.lost(self.why)
            return
        step = "receive" if self.engine.done else "tls"
        status = 499 if self.engine.done else 0
        what = reason or ("the peer closed the connection" if self.engine.done else "the QUIC handshake failed")
        self.lost(self.why or NetError(f"{what} (QUIC error {code:#x})", step=step, status=status))

    # ---- out

    def touch(self) -> None:
        if self.settling or self.closed or self.conn.in_feed:
            return
        self.settling = True
        self.poller.soon(self.settle_later)

    def settle_later(self) -> None:
        self.settling = False
        if not self.gone:
            self.settle()

    def settle(self) -> None:
        """Give the engine what was said, send what it made of it, and let writers go on."""
        self.held = False
        codec = self.codec
        if codec is None or self.closed:
            self.transmit()
            self.arm()
            return
        self.settling = True
        conn = self.conn
        rounds = 0
        try:
            while not self.closed:
                rounds += 1
                begin = self.poller.now()
                self.say(codec)
                if self.closed:
                    break
                encrypted = self.transmit()
                self.flushed(begin, encrypted)
                if self.blocked_streams:
                    self.unblock(codec)
                if rounds > ROUNDS:
                    self.home.again(self)
                    break
                if self.stuck:
                    break
                if codec.roomy or conn.held:
                    conn.drained(self.poller.now())
                elif not codec.ready or codec.finished or not self.allow():
                    break
        finally:
            self.settling = False
        if not self.closed and codec.finished and not self.closing:
            self.close_when_told()
        if self.engine.events() and not self.gone:  # an id that it issued: the next packet may be called by it
            self.poller.soon(self.go_on)
        self.arm()

    def say(self, codec: Any) -> None:
        """What the codec has for the engine."""
        engine = self.engine
        if codec.outbox:
            self.tell(codec)
        if codec.ready or codec.allowance < FEW:
            codec.allowance = self.allow()
        given = 0
        for stream, data, fin in codec.take() or ():
            if fin and not data and not engine.bare_fin:
                data = NOTHING
            engine.send(stream, data, fin)
            if engine.flow(stream) < 0 and stream not in self.blocked_streams:
                self.blocked_streams.add(stream)
                codec.blocked(stream)
            given += len(data)
        codec.allowance -= given
        self.carry_out(codec.orders())
        credits = codec.credit()
        if credits:
            for _, count in credits:
                self.uncredited -= count
            if engine.paused and self.uncredited <= self.limits.connection_window // 2:
                engine.resume()
                if engine.events():
                    self.poller.soon(self.go_on)

    def tell(self, codec: Any) -> None:
        """Rule 12: datagrams."""
        engine = self.engine
        room = max(engine.window(self.poller.now() / 1e9), 0)
        for data in codec.messages(room // 2 if codec.ready else room, engine.size(), AROUND):
            engine.datagram(data)

    def allow(self) -> int:
        """Rule 2: body bytes that the engine may be handed now."""
        engine = self.engine
        waiting = engine.unsent() + sum([engine.flow(stream) for stream in self.blocked_streams])
        slack = PACKETS * engine.size()
        if waiting > slack:
            return 0
        found = max(min(engine.window(self.poller.now() / 1e9), engine.flow(), TURN), 0) + slack - waiting
        return int(found) if found >= LEAST else 0

    def go_on(self) -> None:
        """The engine had more for us while it was paused, or tells of what it has sent."""
        if not self.gone:
            self.hear(self.poller.now())
            self.settle()

    def carry_out(self, orders: Any) -> None:
        """The codec's orders."""
        engine = self.engine
        for order in orders:
            kind = order[0]
            if kind == "reset":
                engine.reset(order[1], order[2])
                self.blocked_streams.discard(order[1])
            elif kind == "stop":
                engine.stop(order[1], order[2])
            elif kind == "close":
                if order[1] == NO_ERROR:
                    self.close_when_told()
                else:
                    self.shut(order[1], order[2])

    def transmit(self) -> int:
        """Send what the engine has; when it had made it."""
        engine, udp = self.engine, self.home.udp
        now = self.poller.now()
        if not self.outbox:
            self.outbox = engine.take(now / 1e9)
        made = self.poller.now()
        self.stuck = False
        if self.outbox:
            self.sent_at = made
        while self.outbox:
            peer = self.outbox[0][1]
            run = []
            for one in self.outbox:
                if one[1] != peer:
                    break
                run.append(one[0])
            sent = udp.send(run, peer, self.packed, engine.mark)
            del self.outbox[:sent]
            if sent < len(run):
                self.stuck = True
                self.home.push(self)
                break
            if not self.outbox:
                self.outbox = engine.take(now / 1e9)
        if engine.events() and not self.settling and not self.gone:
            self.hear(self.poller.now())
        if engine.over and not self.gone:
            self.lost(self.why)
        return made

    def backlog(self) -> int:
        """Bytes that wait in the engine, or 1 for datagrams that the kernel did not take."""
        return 1 if self.stuck else int(self.engine.unsent())

    def flushed(self, begin: int, encrypted: int) -> None:
        """Rule 4: tell the Connection what is done."""
        conn = self.conn
        conn.unsent = 0
        backlog = self.backlog()
        sent = self.poller.now()
        if not backlog:
            if conn.client and not conn.blocked_since:
                conn.said_now = 0
            else:
                conn.flushed(begin, encrypted, sent)
            return
        since = conn.blocked_since or sent
        if conn.ending and not self.stuck:
            left = [ex for ex in conn.ending if self.engine.unsent(ex.stream - 1)]
            conn.ending = [ex for ex in conn.ending if ex not in left]
            conn.blocked_since = 0
            conn.flushed(begin, encrypted, sent)
            conn.ending = [*conn.ending, *left]
        conn.blocked_since = since

    def unblock(self, codec: Any) -> None:
        """Rule 2: streams that go on."""
        engine = self.engine
        for stream in list(self.blocked_streams):
            if engine.flow(stream) >= 0 or not engine.unsent(stream):
                self.blocked_streams.discard(stream)
                codec.unblocked(stream)

    # ---- time

    def rearm(self) -> None:
        self.arm()

    def arm(self) -> None:
        """The engine's deadline to `home`, ours to the wheel."""
        if self.gone:
            return
        due = self.until
        at = self.engine.timer()
        if at is not None:
            if at - self.poller.now() / 1e9 < NEAR:
                self.home.wake(self, at)
            elif due == 0 or at * 1e9 < due:
                due = round(at * 1e9)
        if self.codec is not None and not self.closed:
            soon = self.conn.deadline()
            if soon and (due == 0 or soon < due):
                due = soon
            if not self.conn.idle():
                soon = self.last_heard + KEEP_ALIVE
                if due == 0 or soon < due:
                    due = soon
                if self.patience:
                    self.waiting = self.waiting or self.poller.now()
                    due = min(due, self.waiting + self.patience)
        if due and (self.slot == 0 or self.slot > due // 100_000_000 + 1):
            self.poller.wheel.add(due, self)

    def due(self, now: int) -> None:
        """The wheel: a deadline of ours."""
        if self.gone:
            return
        if self.until and now >= self.until:
            self.until = 0
            if self.closing:
                self.shut(NO_ERROR, "")
            elif not self.engine.done:
                self.why = NetError("the QUIC handshake took too long", step="tls", status=0)
                self.shut(0, "handshake timeout", application=False)
            return
        timer = self.engine.timer()
        if timer is not None and timer * 1e9 <= now:
            self.ticked(now)
            return
        if self.codec is not None and not self.closed:
            at = self.conn.deadline()
            if at and now >= at:
                self.conn.tick(now)
                if not self.gone:
                    self.settle()
                return
            if self.waiting and now >= self.waiting + self.patience:
                self.waiting = 0
                if not self.engine.idle() and not self.conn.idle():
                    text = f"{self.peer[0]}:{self.peer[1]} was not heard for {self.patience / 1e9:g} s:"
                    text += " it is gone, or UDP is blocked"
                    self.abort(NetError(text, step="io", status=504, side="upstream", retry="fresh"))
                    return
            if not self.conn.idle() and now >= self.last_heard + KEEP_ALIVE:
                self.last_heard = now
                self.engine.ping()
                self.settle()
                return
        self.arm()

    def ticked(self, now: int) -> None:
        """The engine's deadline."""
        self.engine.tick(now / 1e9)
        self.hear(self.poller.now())
        if not self.gone:
            self.settle()

    def ask_kernel(self, journey: Any) -> None:
        """What TCP_INFO tells of TCP, the engine tells of QUIC: (-, -, rtt in us, bytes in flight, packets lost)."""
        found = self.engine.facts()
        before, self.facts_seen = self.facts_seen, found
        lost = found.get("lost", 0) - before.get("lost", 0)
        journey.net = (0, 0, found.get("rtt_us", 0), found.get("in_flight", 0), lost)
