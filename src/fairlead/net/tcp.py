"""One TCP (or unix stream) socket: reads, decrypts, feeds the codec; takes, encrypts, sends. The carrier of a Connection.

Rules
1. Everything said while the codec is being fed leaves when that feed is over, in one send. Said later (by a task), it
   leaves at once; a multiplexed codec's words leave once per loop turn.
2. `blocked` is true from the first byte the kernel would not take until it took all of them. While blocked nothing is
   taken from the codec and nothing is encrypted: what waits, waits as plain text where flow control sees it.
3. Reading stops while the codec does not want it. A peer that resets is noticed all the same (ERR, HUP).
4. A plain `recv` when the loop came round less than a millisecond ago: what we read cannot have waited longer than that
   (at-most). Otherwise, and on a first read, `recvmsg` with the kernel's stamp of the newest segment. From an upstream,
   and on a link between our own processes (`unasked`), always a plain `recv`: nobody asks when its bytes arrived.
5. Edge-triggered, or the kernel would look at each socket once more after we have emptied it. What a read may have left behind
   (it was full, or the peer has closed its side as well) is asked for again by saying anew what we wait for.
6. Closing: what was said is sent, then close_notify, then close; but when the peer may still be sending (an error
   answer, an unread body) we close our side only, and read on for `limits.linger`, or a reset could overtake the answer.
7. What TLS answers by itself (to KeyUpdate, RFC 8446 4.6.3, or a wish to renegotiate) waits here when the peer does not read, at
   most `limits.control` bytes of it: then the connection goes. The handshake's deadline stands, whatever the kernel takes.
Codec, Connection and engine are used from this loop's thread only.
"""

from __future__ import annotations

import logging

from fairlead.core.connection import Connection
from fairlead.core.errors import AppError, FairleadError, NetError, WireError
from fairlead.net.pieces import drop, next_batch, said_by_kernel, send_some, whole_answer
from fairlead.net.poll import Watcher

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

IN, OUT, ERR, HUP, RDHUP, EDGE = 0x001, 0x004, 0x008, 0x010, 0x2000, 0x80000000
EXACT, AT_LEAST, AT_MOST, UNKNOWN = 0, 1, 2, 5
HELD = 65_536  # bytes: more than this is sent at once
SHORT_TURN = 1_000_000  # ns: a loop turn this short bounds the buffer wait well enough
SMALL_READ, LARGE_READ = 65536, 262144
NEVER = (0, 0, 0)
log = logging.getLogger("fairlead.error")


class Tcp(Watcher):
    """`Tcp(poller, fd, service, peer, local)`, then `start(codec, engine)`. It owns `fd` and closes it.

    `on_close(tcp)` is called once when the socket is closed. With TLS, `make_codec(conn, alpn)` is called when the
    handshake is done; without, `start` is given the codec.
    """

    def __init__(self, poller, fd, service, peer, local, client=False):
        self.poller = poller
        self.fd = fd
        self.conn = Connection(service, self, peer, local, client)
        self.limits = service.limits
        self.codec = self.engine = self.make_codec = self.on_close = self.why = None
        self.out = []
        self.plain = []
        self.start_at = 0
        self.mask = 0
        self.read_size = SMALL_READ
        self.held_at = 0
        self.blocked = self.eof = self.closing = self.closed = self.lingering = self.settling = False
        self.secured = self.owed = self.resuming = False
        self.shut = self.regions = False
        self.unasked = client
        self.drop_after = self.until = self.slot = self.reads = self.owing = 0
        self.looked = NEVER

    # ---- opening

    def start(self, codec, engine=None, make_codec=None):
        """Begin: plain with `codec`, or TLS with `engine` and `make_codec`. Reads at once: data is often there already."""
        now = self.poller.now()
        self.conn.opened = self.conn.last_seen = now
        self.mask = IN | RDHUP | EDGE
        if engine is not None:
            self.engine = engine
            self.conn.tls = engine
            self.conn.scheme = "https"
            self.make_codec = make_codec
            self.until = now + self.limits.handshake if self.limits.handshake else 0
        else:
            self.secured = self.regions = True
            self.use(codec)
        self.poller.watch(self.fd, self, self.mask)
        if engine is not None and self.conn.client:
            self.handshake(b"", now)
        elif not self.conn.client:
            self.readable(now, IN)
        if not self.closed:
            self.settle()

    def use(self, codec):
        """The codec that speaks from now on."""
        self.codec = codec
        self.conn.codec = codec
        codec.now = self.poller.now()

    # ---- readiness

    def ready(self, events):
        if events & ~OUT:
            if self.mask & IN:
                self.readable(self.poller.stepped if self.poller.several else self.poller.now(), events)
            else:
                self.noticed(events)
        if events & OUT and not self.closed:
            self.writable()
        if not self.closed and not self.held_at and not self.quiet() and not self.hold():
            self.settle()

    def hold(self):
        """Leave a small answer of HTTP/1.1 to `release`, which the poller calls soon; False when it must not wait."""
        if not self.poller.holding or not self.conn.said_now or self.conn.unsent > HELD:
            return False
        if self.codec is None or self.codec.multiplexed or self.blocked or self.lingering:
            return False
        self.held_at = self.poller.hold(self)
        return True

    def release(self):
        if self.held_at and not self.closed:
            self.settle()
        self.held_at = 0

    def quiet(self):
        """When nothing was said and nothing changed but the deadline: see to that; True. So most reads end at once."""
        codec = self.codec
        if codec is None or not codec.silent or codec.more or codec.finished or codec.fin or not codec.wants_read:
            return False
        if not self.mask & IN or self.owed or self.blocked or self.lingering or self.conn.waiting or self.conn.said_now:
            return False
        self.arm()
        return True

    def readable(self, start, events):
        """One read, decrypted and fed. `start`: the time now."""
        poller = self.poller
        woken = poller.woken if poller.in_turn else start
        arrived = stamp = 0
        quality = UNKNOWN
        try:
            if self.unasked:
                data = _fast.recv(self.fd, self.read_size)
            elif self.reads and woken - poller.last_woken < SHORT_TURN:
                data = _fast.recv(self.fd, self.read_size)
                arrived = poller.last_woken
                quality = AT_MOST
            else:
                data, stamp = _fast.recv_stamped(self.fd, SMALL_READ)
        except OSError as error:
            self.lost(NetError(f"the connection was reset ({error.strerror})", step="receive", status=499))
            return
        if data is None:
            return
        now = poller.now()
        count = len(data)
        self.reads += 1
        if stamp:
            arrived = now - (_fast.realtime_ns() - stamp)
            quality = EXACT if count <= 1448 else AT_LEAST
            if arrived > woken:
                arrived = woken
        if count == 0:
            self.ended(now)
            return
        if count >= SMALL_READ or events & (RDHUP | HUP | ERR):
            poller.change(self.fd, self.mask)  # there may be more, or the end (rule 5)
            self.read_size = LARGE_READ if count >= SMALL_READ else self.read_size
        if self.lingering:
            self.drop_after -= count
            if self.drop_after <= 0:
                self.lost(self.why)
            return
        self.conn.reading(woken, arrived, quality, start, now, count)  # journey
        if self.engine is not None:
            data = self.decrypt(data, now)
            if not data:
                return
            now = self.conn.mark or now
        self.conn.receive(data, now)

    def noticed(self, events):
        """An event while we do not read: only a reset matters; a FIN waits behind the unread bytes."""
        if events & (ERR | HUP):
            self.lost(NetError("the connection was reset", step="receive", status=499))
        elif events & RDHUP:
            self.watch_for(self.mask & ~RDHUP)

    def ended(self, now):
        """The peer sends no more."""
        self.eof = True
        self.watch_for(self.mask & ~(IN | RDHUP))
        if self.codec is None or self.lingering:
            self.lost(NetError("the peer left during the TLS handshake", step="tls", status=0) if self.codec is None else None)
            return
        self.conn.receive_eof(now)

    def writable(self):
        """The kernel has room again."""
        if not self.send_out() or (self.codec is not None and self.codec.region is not None and not self.send_region()):
            return
        self.blocked = False
        self.owing = 0
        if self.secured:
            self.until = 0
        self.watch_for(self.mask & ~OUT)
        if self.plain:
            self.encrypt_out()
            if self.blocked:
                return
        self.owed = True  # `flush` tells the Connection, once the codec is empty too

    # ---- TLS

    def decrypt(self, data, now):
        """Ciphertext in; plaintext for the codec out, b"" when there is none (yet)."""
        if not self.secured:
            return self.handshake(data, now)
        engine = self.engine
        try:
            plain = engine.feed(data)
        except WireError as error:
            self.broke_tls(error)
            return b""
        done = self.poller.now()
        self.conn.decrypting(now, done)
        self.send_records()
        if self.closed:
            return b""
        if engine.closed_by_peer and not self.eof:
            if plain:
                self.conn.receive(plain, done)
            self.ended(done)
            return b""
        return plain

    def handshake(self, data, now):
        """A step of the handshake; b"" until it is done."""
        engine = self.engine
        try:
            plain = engine.feed(data)
        except WireError as error:
            if getattr(error, "plain_http", False):
                self.refuse_plain(error)
            else:
                self.broke_tls(error)
            return b""
        self.send_records()
        if not engine.done or self.closed:
            return b""
        done = self.poller.now()
        self.secured = True
        self.until = 0
        if self.blocked:
            self.progress()
        self.conn.handshaken(now if plain else 0, done)
        if self.make_codec is not None:
            self.use(self.make_codec(self.conn, engine.alpn))
        return plain

    def broke_tls(self, error):
        """A TLS rule was broken: send the alert, and read on for a moment so that it arrives."""
        self.send_records()
        self.why = error
        if self.blocked:
            self.lost(error)
        else:
            self.linger()

    def refuse_plain(self, error):
        """Somebody spoke plain HTTP to a TLS port: tell them so, readably."""
        self.engine = None
        self.out.append(whole_answer(error))
        self.send_out()
        self.why = error
        self.linger()

    def send_records(self):
        """Send what TLS itself wants to say (handshake, alerts, key updates)."""
        records = self.engine.take()
        if records:
            self.out.append(records)
            if not self.blocked:
                self.send_out()
                return
            self.owing += len(records) if self.blocked else 0
            if self.owing > self.limits.control > 0:
                why = "control-flood: the peer makes TLS answer and does not read"
                self.lost(WireError(why, status=499, rule="control-flood"))

    # ---- saying

    def touch(self):
        if self.settling or self.closed or self.conn.in_feed or self.held_at:
            return
        if self.codec is not None and self.codec.multiplexed:
            self.settling = True
            self.poller.soon(self.settle_later)
        elif not self.hold():
            self.settle()

    def post(self, data):
        if self.engine is not None or self.blocked or self.settling or self.closed or self.lingering or self.held_at:
            return 0
        self.out.append(data)
        return 1 if self.send_out() or self.closed else 2

    def settle_later(self):
        self.settling = False
        if not self.closed:
            self.settle()

    def settle(self):
        """Send what was said, go on with what is buffered, then see to reading, deadlines and closing."""
        codec = self.codec
        if codec is None or self.lingering:
            if not self.closed:
                self.arm()
            return
        self.settling = True
        rounds = 0
        try:
            while True:
                self.flush()
                if self.closed or self.blocked:
                    break
                rounds += 1
                if rounds > 32:  # a peer that takes all we say at once must not keep the loop for itself
                    self.resume_later()
                    break
                if self.conn.waiting:
                    self.conn.drained(self.poller.now())
                elif codec.more and not codec.finished:
                    self.conn.receive(b"", self.poller.now())
                else:
                    break
        finally:
            self.settling = False
        if self.closed:
            return
        if codec.finished and not self.blocked and not self.resuming:
            self.finish()
            return
        if codec.fin and not self.blocked:
            self.half_close()
        wanted = self.mask
        if codec.wants_read and not self.eof:
            wanted |= IN | RDHUP
        else:
            wanted &= ~IN
        if wanted != self.mask:
            self.watch_for(wanted)
        self.arm()

    def resume_later(self):
        if not self.resuming:
            self.resuming = True
            self.poller.loop.call_soon(self.resume)

    def resume(self):
        self.resuming = False
        if not self.closed:
            self.settle()

    def flush(self):
        """Take from the codec, encrypt, send, until the kernel has no room or all is gone."""
        if self.blocked:
            return
        begin = self.poller.now() if self.held_at else 0
        if begin:
            self.conn.waited(begin - self.held_at)
            self.held_at = 0
        chunks = self.codec.take()
        self.conn.unsent = 0
        if chunks is None and self.codec.region is None:
            if self.conn.said_now or self.owed:
                now = self.poller.now()
                self.owed = False
                self.conn.flushed(now, 0, now)
            return
        encrypted = 0
        if begin == 0 and not self.conn.client:  # nobody asks how long a leg took to send
            begin = self.poller.now()
        if self.engine is None:
            self.out = chunks if chunks is not None else []
            self.start_at = 0
            if self.send_out() and self.codec.region is not None:
                self.send_region()
        else:
            self.plain = chunks
            encrypted = self.encrypt_out()
        if not self.blocked and not self.closed:
            self.owed = False
            if self.conn.client and not self.conn.blocked_since:
                self.conn.said_now = 0
            else:
                self.conn.flushed(begin, encrypted, self.poller.now())

    def encrypt_out(self):
        """Encrypt and send `plain`, batch by batch while the kernel takes it. The time the first batch was encrypted."""
        encrypted = 0
        while self.plain and not self.blocked and not self.closed:
            self.engine.write(next_batch(self.plain))
            self.out.append(self.engine.take())
            if not encrypted:
                encrypted = self.poller.now()
            self.send_out()
        return encrypted

    def send_out(self):
        """Send `out`; True when all of it is with the kernel."""
        out = self.out
        while out:
            try:
                if len(out) == 1:
                    chunk = out[0]
                    if self.codec is not None and self.codec.region is not None:
                        sent = _fast.send_more(self.fd, chunk, self.start_at)
                    else:
                        sent = _fast.send(self.fd, chunk, self.start_at)
                    if sent + self.start_at == len(chunk):
                        self.start_at = 0
                        out.clear()
                        return True
                else:
                    sent = _fast.send_many(self.fd, out, self.start_at)
            except OSError as error:
                self.lost(NetError(f"sending failed ({error.strerror})", step="send", status=499))
                return False
            if sent < 0:
                self.block()
                return False
            self.advance(sent)
        return True

    def send_region(self):
        """Send the codec's region, behind `out`; True when all of it is with the kernel."""
        region = self.codec.region
        try:
            while region.left:
                if send_some(self.fd, region) < 0:
                    self.block()
                    return False
                if self.blocked:
                    self.progress()
        except OSError as error:
            self.lost(NetError(f"sending failed ({error.strerror})", step="send", status=499))
            return False
        except AppError as error:
            self.lost(error)
            return False
        self.codec.region_sent()
        return True

    def advance(self, sent):
        """`sent` bytes of `out` are gone."""
        self.start_at = drop(self.out, sent + self.start_at)
        if self.blocked:
            self.progress()

    def progress(self):
        """From now on the peer has `write_idle` to take something; the handshake has its own deadline."""
        if self.limits.write_idle and self.secured:
            self.until = self.poller.now() + self.limits.write_idle

    def block(self):
        """The kernel has no room."""
        if not self.blocked:
            self.blocked = True
            self.progress()
            if not self.conn.blocked_since:
                self.conn.blocked_since = self.poller.now()
            self.watch_for(self.mask | OUT)

    def watch_for(self, wanted):
        if wanted != self.mask and not self.closed:
            self.mask = wanted
            self.poller.change(self.fd, wanted)

    # ---- time

    def rearm(self):
        if not self.closed:
            self.arm()

    def arm(self):
        """See that the wheel looks at us no later than the next deadline."""
        at = self.until
        codec = self.codec
        if codec is not None and not self.lingering:
            conn = self.conn
            if conn.exchanges is not None:
                due = conn.deadline()
            else:  # the same without a call
                due = codec.deadline()
                if conn.current is not None and conn.current.deadline and (due == 0 or conn.current.deadline < due):
                    due = conn.current.deadline
            if due and (at == 0 or due < at):
                at = due
        if at and (self.slot == 0 or (self.slot - 1) * 100_000_000 > at):  # `slot > at // GRAIN + 1`, not divided
            self.poller.wheel.add(at, self)

    def due(self, now):
        if self.closed:
            return
        if self.until and now >= self.until:
            self.overdue()
            return
        if self.codec is not None and not self.lingering:
            at = self.conn.deadline()
            if at and now >= at:
                self.conn.tick(now)
                if not self.closed:
                    self.settle()
                return
        self.arm()

    def overdue(self):
        """Our own deadline: the handshake, a peer that takes nothing, or the end of lingering."""
        if self.lingering:
            self.lost(self.why)
        elif not self.secured:
            self.lost(NetError("the TLS handshake took too long", step="tls", status=0))
        elif self.conn.client:
            self.lost(NetError("the upstream took no bytes for too long", step="stall", side="upstream", status=504))
        else:
            self.lost(NetError("the peer took no bytes for too long", step="send", status=499))

    def ask_kernel(self, journey):
        """What TCP_INFO and SIOCOUTQ say: see core.journey, rule 6. About 2.5 us."""
        found = said_by_kernel(self.fd, self.looked)
        if found is not None:
            self.looked, journey.net = found

    # ---- closing

    def close(self, why):
        """Close once everything said is sent."""
        if self.closed:
            return
        self.why = why
        if self.codec is not None:
            self.codec.finished = True
            self.touch()
        else:
            self.lost(why)

    def abort(self, why):
        """Close at once."""
        self.lost(why if isinstance(why, FairleadError) or why is None else NetError(str(why), step="io", status=499))

    def finish(self):
        """All is said and sent: close politely."""
        if self.engine is not None and not self.closing:
            self.bye()
            if self.blocked or self.closed:
                return
        if self.conn.linger and not self.eof:
            self.linger()
        else:
            self.lost(self.why)

    def bye(self):
        """Queue close_notify."""
        self.closing = True
        try:
            self.engine.close()
            self.send_records()
        except WireError:
            pass

    def half_close(self):
        """A tunnel's direction from us is over, the other one goes on (RFC 9293 section 3.6)."""
        if self.engine is not None and not self.closing:
            self.bye()
        if not self.shut and not self.blocked and not self.closed:
            self.shut = True
            _fast.shutdown_write(self.fd)

    def linger(self):
        """Our side is closed; read on for a while so that no reset overtakes what we sent."""
        if self.lingering or self.closed:
            return
        self.lingering = True
        self.drop_after = self.limits.drain
        _fast.shutdown_write(self.fd)
        self.until = self.poller.now() + self.limits.linger
        self.watch_for(IN)
        self.arm()

    def lost(self, why):
        """The socket goes now."""
        if self.closed:
            return
        self.closed = True
        self.poller.unwatch(self.fd)
        self.poller.wheel.remove(self)
        _fast.close(self.fd)
        self.out = []
        self.plain = []
        if self.codec is not None and self.codec.region is not None:
            self.codec.region.file = self.codec.region = None
        self.conn.gone(why)
        if self.engine is not None:
            self.engine.free()
            self.engine = None
        self.make_codec = None
        if self.on_close is not None:
            self.on_close(self)
            self.on_close = None

    def detach(self):
        """Give the descriptor away: (fd, bytes read but not used). The Tcp is closed without closing it."""
        left = self.codec.detach() if self.codec is not None else b""
        self.closed = True
        self.poller.unwatch(self.fd)
        self.poller.wheel.remove(self)
        return self.fd, left
