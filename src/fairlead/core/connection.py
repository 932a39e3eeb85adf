"""Connection: one peer, its codec, and the exchanges open on it. Both roles, all protocols.

It hears its codec (it is the Sink), makes an Exchange of each head, has it admitted and opened by the listener's handler,
and passes every later word to that exchange's answer. What exchanges say goes to the codec. The socket is a Carrier, which
reads, feeds, flushes and closes; this file knows none.

Rules
1. Whatever a handler or an answer raises stops here: an error answer if the head is not out, else a reset.
2. An exchange of role SERVER is over when its answer's last byte was handed to the kernel (`flushed`), a leg when both of
   its directions ended. Then `Observer.done` or `Owner.released` is told, references are dropped, and words are ignored.
3. The marks of a read belong to the head that it completes; while an exchange is open, to that exchange.
4. Whoever hears a word may be let go inside it, so it is held in a local while it is called: compiled code holds no other.
5. A head alone is not flushed: it waits for the first body bytes, the end, or `flush()`, so small answers leave as one.
"""

from __future__ import annotations

from fairlead.core.errors import AppError, FairleadError, NetError, Refused, WireError
from fairlead.core.exchange import Channel, Exchange
from fairlead.core.handler import error_response
from fairlead.core.journey import Journey
from fairlead.core.message import Request


class Carrier:
    """What carries a connection's bytes: net.tcp.Tcp, or a stream of another connection. `regions`: it can send a Region."""

    def __init__(self):
        self.blocked = self.regions = False

    def touch(self):
        """Something was said or credited: flush, resume reading, feed what is buffered. Now, or after the current feed."""

    def close(self, why):
        """Close when everything said is sent; `why` is None or a FairleadError."""

    def abort(self, why):
        """Close at once, unsent bytes dropped."""

    def post(self, data):
        """Send these bytes at once, past the codec, which has nothing to say: 0 when that cannot be now, 1 when the kernel has
        all of them, 2 when it had no room for all: they are as if the codec had said them, and wait.
        """
        return 0

    def rearm(self):
        """A deadline became earlier: look at `Connection.deadline()` again."""

    def ask_kernel(self, journey):
        """Set `journey.net`, where the kernel tells."""


class Owner:
    """Who owns a client-role connection: a pool."""

    def released(self, conn):
        """A leg is over and the connection may take another (`conn.codec.reusable`), or not."""

    def gone(self, conn, why):
        """The connection is closed."""


class Connection(Channel):
    """See the module. peer and local are (host, port) tuples, or a path for AF_UNIX ("" if unnamed).

    `scene` is a dict that a handler, `scene_of`, keeps here from request to request; another handler begins anew.
    """

    def __init__(self, service, carrier, peer=None, local=None, client=False):
        self.service = service
        self.clock = service.clock
        self.carrier = carrier
        self.codec = None
        self.owner = None
        self.peer = peer
        self.local = local
        self.tls = None
        self.client = client
        self.scheme = service.scheme
        self.current = None
        self.exchanges = None
        self.recent = None  # of many: the one that was found last
        self.target = None
        self.scene = self.scene_of = None
        self.in_feed = self.draining = self.closed = self.linger = False
        self.opened = self.connected = self.accepted = self.secured = self.last_seen = 0
        self.requests = 0
        self.said_now = self.blocked_since = self.unsent = 0
        self.waiting = self.told = False
        self.telling = -1
        self.held = []
        self.ending = []
        self.ruled = None
        self.outgoing = service.limits.outgoing
        self.request_limit = service.limits.request
        self.forget_reads()

    # ---- the carrier's side

    def reading(self, woken, arrived, quality, start, done, count):
        """A read happened: loop woken, kernel stamp (or 0) with its quality, read start and end, bytes."""
        if self.current is not None:
            j = self.current.journey  # journey
            j.spent_read += done - start  # journey
            return
        if self.exchanges is not None or (self.woken != 0 and self.codec is not None and self.codec.multiplexed):
            self.forget_reads()  # what an earlier read brought was no head, but settings of the connection
        if self.woken == 0:
            self.woken = woken  # journey
            self.arrived = arrived  # journey
            self.arrived_quality = quality  # journey
            self.loop_ns = start - woken  # journey
        self.read_ns += done - start  # journey
        self.read_done = done  # journey
        self.mark = done  # journey

    def decrypting(self, start, done):
        """TLS records were opened."""
        if self.current is not None:
            self.current.journey.spent_decrypt += done - start  # journey
            return
        self.decrypt_ns += done - start  # journey
        self.decrypted = done  # journey
        self.mark = done  # journey

    def handshaken(self, read, done):
        """TLS is up. `read`: the last handshake read also brought application bytes, at this time (else 0)."""
        self.forget_reads()
        self.secured = self.mark = done
        if read:
            self.woken = self.read_done = read
            self.decrypted = done

    def receive(self, data, now):
        """Bytes from the peer (b"" to go on with what is buffered)."""
        self.last_seen = now
        self.in_feed = True
        try:
            self.codec.feed(data, now)
        except WireError as error:
            self.broken(error)
        finally:
            self.in_feed = False

    def receive_eof(self, now):
        """The peer sends no more."""
        self.in_feed = True
        try:
            self.codec.eof(now)
        except WireError as error:
            self.broken(error)
        finally:
            self.in_feed = False

    def deadline(self):
        """The next moment (monotonic ns) `tick` must be called at, 0 for never."""
        due = self.codec.deadline()
        if self.current is not None and self.current.deadline:
            if due == 0 or self.current.deadline < due:
                due = self.current.deadline
        if self.exchanges:
            for ex in self.exchanges.values():
                if ex.deadline and (due == 0 or ex.deadline < due):
                    due = ex.deadline
        return due

    def tick(self, now):
        """A deadline has come."""
        ex = self.current
        self.in_feed = True
        try:
            if ex is not None and ex.deadline and now >= ex.deadline:
                self.overdue(ex)
            else:
                if self.exchanges:
                    for ex in list(self.exchanges.values()):
                        if ex.deadline and now >= ex.deadline:
                            self.overdue(ex)
                self.codec.tick(now)
        except WireError as error:
            self.broken(error)
        finally:
            self.in_feed = False

    def flushed(self, begin, encrypted, sent):
        """All that was said is with the kernel. Clock: before encryption, after it, after the send."""
        ex = self.current
        if self.blocked_since:
            self.unblocked(sent)
            self.said_now = 0  # since then it was the client's time, not ours
        if self.exchanges is not None:
            self.flushed_many(begin, encrypted, sent)
        elif ex is not None:
            j = ex.journey
            if ex.role == 0:
                if self.said_now:
                    j.spent_encode += begin - self.said_now  # journey
                j.encoded = begin  # journey
                if encrypted:
                    j.spent_encrypt += encrypted - begin  # journey
                    j.encrypted = encrypted  # journey
                    j.spent_send += sent - encrypted  # journey
                else:
                    j.spent_send += sent - begin  # journey
                if ex.said_end and (not ex.tunnel or ex.heard_end or not self.codec.fin):
                    self.done(ex, sent)
        self.said_now = 0

    def waited(self, spent):
        """What was said waited `spent` ns for other answers, to be sent with them: part of sending."""
        ex = self.current
        if ex is not None and ex.role == 0 and self.said_now:
            self.said_now += spent
            ex.journey.spent_send += spent  # journey

    def drained(self, now):
        """All that was said is with the kernel, and somebody was told to wait: writers may go on."""
        self.waiting = False
        self.codec.now = now
        self.in_feed = True
        try:
            self.codec.drained(now)
            if self.held:
                held = self.held
                self.held = []
                for stream in held:
                    self.room(stream)
        finally:
            self.in_feed = False

    def unblocked(self, now):
        """The peer took what it had kept waiting."""
        for ex in self.open_exchanges():
            ex.journey.spent_client += now - self.blocked_since  # journey
        self.blocked_since = 0

    def gone(self, why):
        """The socket is closed. Every open exchange hears it once."""
        if self.closed:
            return
        self.closed = True
        if why is None:
            why = self.ruled
        if why is None:
            why = NetError("the peer closed the connection", step="receive", status=499)
        self.lost(why)
        if self.owner is not None:
            self.owner.gone(self, why)
        self.service.observer.closed(self, why)
        if self.codec is not None:
            self.codec.finished = True

    # ---- hear

    def head(self, stream, message, end):
        now = self.clock.now()
        if self.client:
            self.leg_head(stream, message, end, now)
            return
        j = Journey.__new__(Journey)
        j.begin()
        self.stamp(j, now)
        ex = Exchange.__new__(Exchange)
        ex.begin(self, stream, 0, message, j)
        ex.heard_end = end
        self.requests += 1
        if self.codec.multiplexed:
            if self.exchanges is None:
                self.exchanges = {}
            self.exchanges[stream] = self.recent = ex
        else:
            self.current = ex
        service = self.service
        if self.request_limit:
            ex.deadline = now + self.request_limit
        try:
            entered = service.admission.enter(ex)
            j.routed = now  # journey
            if entered == 1:
                service.handler.open(ex)
            elif entered == 0:
                self.overloaded(ex)
        except Exception as error:
            self.raised(ex, error)
        if self.exchanges is not None:
            self.mark = self.clock.now()  # the next head's parsing begins now  # journey

    def refused(self, stream, why):
        now = self.clock.now()
        request = Request("-", self.scheme, b"", b"-", [], getattr(self.codec, "version", "2"), 0)
        j = Journey()
        self.stamp(j, now)
        j.done = now  # journey
        ex = Exchange(self, stream, 0, request, j)
        ex.error = why
        self.requests += 1
        self.service.admission.busy += 1
        self.release(ex)

    def inform(self, stream, status, headers):
        ex = self.find(stream)
        answer = ex.answer if ex is not None else None
        if answer is not None:
            try:
                answer.inform(status, headers)
            except Exception as error:
                self.raised(ex, error)

    def at_once(self, stream, message, body):
        ex = self.find(stream)
        if ex is None:
            return
        ex.journey.leg_head = self.codec.now  # journey
        ex.response = message
        ex.heard_end = True
        answer = ex.answer
        if answer is not None:
            try:
                if not answer.at_once(message, body):
                    answer.head(message, False)
                    answer = ex.answer  # it may be another by now
                    if answer is not None and not ex.over:
                        answer.data(body, True)
            except Exception as error:
                self.raised(ex, error)
        if ex.said_end and not ex.over:
            self.leg_over(ex)

    def data(self, stream, chunk, end):
        ex = self.find(stream)
        count = len(chunk)
        if ex is None:
            self.codec.consumed(stream, count)
            return
        j = ex.journey
        if ex.role == 0:
            j.bytes_in += count
            if ex.body_limit and j.bytes_in > ex.body_limit and not ex.said_head:
                self.raised(ex, Refused(f"the request's body is larger than {ex.body_limit} bytes", status=413))
            if end:
                j.body_end = self.mark or self.clock.now()  # journey
        if end:
            ex.heard_end = True
        ex.withheld += count
        took = True
        answer = ex.answer if ex.intake is None else ex.intake
        if answer is not None:
            try:
                took = answer.data(chunk, end)
            except Exception as error:
                self.raised(ex, error)
        if took and not ex.over and ex.withheld >= count:
            ex.withheld -= count
            self.codec.consumed(stream, count)
        elif ex.over:
            self.codec.consumed(stream, count)
        if end and ex.role and ex.said_end and not ex.over:
            self.leg_over(ex)

    def end(self, stream, trailers):
        ex = self.find(stream)
        if ex is None:
            return
        ex.heard_end = True
        if ex.role == 0:
            ex.journey.body_end = self.mark or self.clock.now()  # journey
            ex.request.trailers = trailers
        elif ex.response is not None:
            ex.response.trailers = trailers
        answer = ex.answer if ex.intake is None else ex.intake
        if answer is not None:
            try:
                answer.end(trailers)
            except Exception as error:
                self.raised(ex, error)
        if ex.said_end and not ex.over:
            if ex.role:
                self.leg_over(ex)
            elif self.codec.fin:  # a tunnel's second direction
                self.done(ex, self.clock.now())

    def reset(self, stream, why, side):
        ex = self.find(stream)
        if ex is not None:
            ex.left = True
            self.tell_reset(ex, why, side)
            if side == "both":
                self.drop(ex, why)

    def room(self, stream):
        if stream == self.telling:
            self.told = True
            return
        ex = self.find(stream)
        answer = ex.answer if ex is not None else None
        if answer is not None:
            try:
                answer.room()
            except Exception as error:
                self.raised(ex, error)

    def goaway(self, last):
        self.draining = True

    def lost(self, why):
        for ex in self.open_exchanges():
            self.tell_reset(ex, why, "both")
            self.drop(ex, why)

    # ---- say

    def say_head(self, ex, message, end):
        if ex.over or ex.said_head:
            return
        while ex.hooks is not None:
            hook = ex.hooks[0]
            ex.hooks = ex.hooks[1:] or None  # each once: the error answer to one that raised must get out
            hook.after(ex, message)
            if ex.over:  # it handed the stream over to another handler
                return
        now = self.clock.now()
        codec = self.codec
        codec.now = now
        j = ex.journey
        if ex.role == 0:
            ex.response = message
            if j.answered == 0:
                j.answered = now  # journey
            if self.service.server_timing:
                message.headers.append((b"server-timing", j.server_timing()))
            if self.service.alt_svc is not None:
                message.headers.append((b"alt-svc", self.service.alt_svc))
        else:
            j.leg_sent = now  # journey
        self.said_now = now
        codec.head(ex.stream, message, end)
        ex.said_head = True  # not before: a head the codec refuses is not out, and its error answer can still be
        if codec.tunnel or (codec.multiplexed and ex.role == 0 and ex.request.method == "CONNECT" and message.status < 300):
            ex.tunnel = True
        if end:
            self.ended(ex)

    def say_whole(self, ex, message, body):
        if ex.over or ex.said_head:
            return
        codec = self.codec
        if ex.hooks is not None or ex.stage is not None or ex.role or codec.multiplexed:
            self.say_head(ex, message, False)
            self.say_data(ex, body, True)
            return
        now = self.clock.now()
        codec.now = now
        j = ex.journey
        ex.response = message
        if j.answered == 0:
            j.answered = now  # journey
        if self.service.server_timing:
            message.headers.append((b"server-timing", j.server_timing()))
        if self.service.alt_svc is not None:
            message.headers.append((b"alt-svc", self.service.alt_svc))
        self.said_now = now
        whole = codec.whole(ex.stream, message, body)
        ex.said_head = True  # as in say_head, not before
        if whole:
            self.unsent += len(body)
            j.bytes_out += len(body)
            self.ended(ex)
            return
        if codec.tunnel:
            ex.tunnel = True
        self.say_data(ex, body, True)

    def say_inform(self, ex, status, headers):
        if ex.over or ex.said_head:
            return
        self.codec.now = self.clock.now()
        self.codec.inform(ex.stream, status, headers)
        self.carrier.touch()

    def say_data(self, ex, chunk, end):
        if ex.over or ex.said_end:
            return True
        if ex.stage is not None:
            return self.staged(ex, chunk, end)
        if not self.said_now:
            self.said_now = self.clock.now()
        codec = self.codec
        codec.now = self.said_now
        room = codec.data(ex.stream, chunk, end)
        self.unsent += len(chunk)
        if ex.role == 0:
            ex.journey.bytes_out += len(chunk)
        if end:
            self.ended(ex)
            return True
        self.telling = ex.stream
        self.carrier.touch()
        self.telling = -1
        if self.told:  # room came while we were still saying: it is the answer of this call
            self.told = False
            room = True
        if room and not self.carrier.blocked and self.unsent <= self.outgoing:
            return True
        self.waiting = True
        if room and ex.stream not in self.held:  # the codec had room, so it is we who tell when there is some again
            self.held.append(ex.stream)
        return False

    def say_region(self, ex, region, end):
        """Have bytes of a file sent; see `Exchange.region`."""
        if ex.over or ex.said_end:
            return 1
        codec = self.codec
        count = region.left
        if not self.carrier.regions or ex.stage is not None or codec.multiplexed:
            return 0
        if not self.said_now:
            self.said_now = self.clock.now()
        codec.now = self.said_now
        if not codec.put_region(ex.stream, region, end):
            return 0
        self.unsent += count
        ex.journey.bytes_out += count
        if end:
            self.ended(ex)
            return 1
        self.telling = ex.stream
        self.carrier.touch()
        self.telling = -1
        self.told = False
        if codec.region is None and not self.carrier.blocked:
            return 1
        self.waiting = True
        if ex.stream not in self.held:
            self.held.append(ex.stream)
        return 2

    def say_cast(self, ex, cast):
        if ex.over or ex.said_end:
            return True
        codec = self.codec
        if ex.stage is not None or ex.role or self.said_now or codec.multiplexed or self.in_feed:
            return self.say_data(ex, cast.data, False)
        framed = codec.cast(ex.stream, cast)
        if framed is None:
            return self.say_data(ex, cast.data, False)
        begin = self.clock.now()
        posted = self.carrier.post(framed)
        if posted == 0:
            return self.say_data(ex, cast.data, False)
        j = ex.journey
        j.bytes_out += len(cast.data)
        if posted == 1:
            j.spent_send += self.clock.now() - begin  # journey
            return True
        self.carrier.rearm()
        self.waiting = True
        if ex.stream not in self.held:
            self.held.append(ex.stream)
        return False

    def say_end(self, ex, trailers):
        if ex.over or ex.said_end:
            return
        if ex.stage is not None:
            stage = ex.stage
            ex.stage = None
            stage.end(ex, trailers)
            return
        self.codec.now = self.clock.now()
        if not self.said_now:
            self.said_now = self.codec.now
        self.codec.end(ex.stream, trailers)
        self.ended(ex)

    def staged(self, ex, chunk, end):
        """What a body stage makes of `chunk` is said in its place."""
        stage = ex.stage
        ex.stage = None  # what it says goes on to the codec
        room = stage.data(ex, chunk, end)
        if not end:
            ex.stage = stage
        return room

    def hand_over(self, ex, handler):
        """Let `handler` answer in the place of who has answered so far, before a head is out; its words are ignored then.

        The stream gets a new Exchange with the same request and journey. What was held of the body is credited; what is still to
        come goes to the new handler's answer.
        """
        if ex.over or ex.said_head:
            return
        new = Exchange.__new__(Exchange)
        new.begin(self, ex.stream, ex.role, ex.request, ex.journey)
        new.route, new.params, new.client, new.principal, new.tag = ex.route, ex.params, ex.client, ex.principal, ex.tag
        new.ends, new.deadline, new.heard_end, new.left = ex.ends, ex.deadline, ex.heard_end, ex.left
        new.hooks, new.body_limit = ex.hooks, ex.body_limit
        if ex.withheld:
            self.codec.consumed(ex.stream, ex.withheld)
        ex.over = True
        ex.answer = ex.intake = ex.stage = ex.ends = None
        if self.exchanges is not None:
            self.exchanges[ex.stream] = new
        else:
            self.current = new
        try:
            handler.open(new)
        except Exception as error:
            self.raised(new, error)

    def say_reset(self, ex, why, side):
        if ex.over:
            return
        if ex.role and side == "read":  # a client that closed its side after a whole request may still want the answer
            answer = ex.answer
            if answer is not None:
                answer.reset(why, side)
            return
        self.codec.now = self.clock.now()
        if ex.error is None:
            ex.error = why
        if ex.role == 0 and not ex.said_head and side == "both":
            response, body = error_response(why, self.service.debug)
            ex.whole(response, body)
            return
        self.codec.reset(ex.stream, why, side)
        if side == "both":
            self.drop(ex, why)
        self.carrier.touch()

    def credit(self, ex, count):
        if ex.over:
            return
        self.codec.consumed(ex.stream, count)
        self.carrier.touch()

    def admitted(self, ex):
        """It waited for admission, and may go on."""
        self.codec.now = self.clock.now()
        try:
            self.service.handler.open(ex)
        except Exception as error:
            self.raised(ex, error)

    def begin(self, ex):
        return not self.codec.multiplexed or self.codec.start(ex.stream)  # one stream cannot be somebody else's

    def flush(self):
        self.carrier.touch()

    def open_leg(self, request, journey):
        """Client role: a new Exchange to say `request` on, or None when this connection takes none now."""
        stream = self.codec.open_stream()
        if stream == 0 or self.closed:
            return None
        ex = Exchange.__new__(Exchange)
        ex.begin(self, stream, 1, request, journey)
        if self.codec.multiplexed:
            if self.exchanges is None:
                self.exchanges = {}
            self.exchanges[stream] = self.recent = ex
        else:
            self.current = ex
        self.requests += 1
        return ex

    def drain(self):
        """Finish what is open, take nothing new, then close."""
        self.draining = True
        self.codec.now = self.clock.now()
        self.codec.goaway(-1)
        if self.idle() and not self.codec.multiplexed:
            self.carrier.close(None)
        else:
            self.carrier.touch()

    def farewell(self):
        """The grace of a drain is over: each answer that is still open may end politely."""
        for ex in self.open_exchanges():
            ex.left = True
            answer = ex.answer
            if answer is not None and ex.role == 0:
                try:
                    answer.farewell()
                except Exception as error:
                    self.raised(ex, error)

    def idle(self):
        """True when no exchange is open."""
        return self.current is None and not self.exchanges

    def find(self, stream):
        """The open exchange of a stream, or None."""
        if self.exchanges is not None:
            ex = self.recent
            if ex is None or ex.stream != stream or ex.over:
                ex = self.recent = self.exchanges.get(stream)
            return ex
        ex = self.current
        if ex is not None and ex.stream == stream:
            return ex
        return None

    def open_exchanges(self):
        """All open exchanges, as a list of its own."""
        if self.exchanges is not None:
            return list(self.exchanges.values())
        return [self.current] if self.current is not None else []

    # ---- inside

    def forget_reads(self):
        self.woken = self.arrived = self.loop_ns = self.read_ns = self.read_done = 0  # journey
        self.decrypt_ns = self.decrypted = self.mark = 0  # journey
        self.arrived_quality = 5  # journey

    def stamp(self, j, now):
        """Give a new journey the marks of the reads that brought its head."""
        if self.requests == 0:
            j.connected = self.connected  # journey
            j.accepted = self.accepted  # journey
            j.secured = self.secured  # journey
        if self.woken:
            j.woken = self.woken  # journey
            j.arrived = self.arrived  # journey
            j.arrived_quality = self.arrived_quality  # journey
            j.spent_loop = self.loop_ns  # journey
            j.read = self.read_done  # journey
            j.spent_read = self.read_ns  # journey
            j.decrypted = self.decrypted  # journey
            j.spent_decrypt = self.decrypt_ns  # journey
        else:
            j.shared = True  # journey
        if self.mark:
            j.spent_parse = now - self.mark  # journey
        j.parsed = now  # journey
        self.forget_reads()  # journey
        self.mark = now  # journey

    def ended(self, ex):
        """We said the last word of this direction."""
        ex.said_end = True
        if ex.role == 0:
            if ex.journey.finished == 0:  # a worker's mark came with its answer's end (hop)
                ex.journey.finished = self.said_now  # journey
            if self.exchanges is not None:
                self.ending.append(ex)
        elif ex.heard_end:
            self.leg_over(ex)
        self.carrier.touch()

    def done(self, ex, now):
        """A server exchange is over and with the kernel."""
        j = ex.journey
        j.sent = now  # journey
        j.done = now  # journey
        service = self.service
        if j.spent_client or (service.sample_every and service.sampled()):  # its client kept us waiting, or it is its turn
            self.carrier.ask_kernel(j)  # journey
        if not ex.heard_end:
            self.linger = True
        self.release(ex)

    def release(self, ex):
        ex.over = True
        if self.exchanges is not None:
            self.exchanges.pop(ex.stream, None)
            self.recent = None
        else:
            self.current = None
            self.mark = 0  # journey; all else was forgotten when the head was stamped
        if ex.role == 0:
            service = self.service
            service.observer.done(ex)
            service.admission.leave(ex)
            if ex.ends is not None:
                for one in ex.ends:
                    one.over(ex)
        ex.answer = None
        ex.intake = None
        ex.stage = None
        ex.handle = None

    def drop(self, ex, why):
        """An exchange ended early."""
        if ex.over:
            return
        if ex.error is None:
            ex.error = why
        if ex.role:
            self.leg_over(ex)
            return
        ex.journey.done = self.clock.now()  # journey
        if ex.working and self.codec.multiplexed:
            ex.abandoned = True
            self.codec.abandoned += 1
        self.release(ex)

    def leg_head(self, stream, message, end, now):
        ex = self.find(stream)
        if ex is None:
            return
        ex.journey.leg_head = now  # journey
        ex.response = message
        ex.heard_end = end
        if self.codec.tunnel or (self.codec.multiplexed and ex.request.method == "CONNECT" and message.status < 300):
            ex.tunnel = True
        answer = ex.answer
        if answer is not None:
            try:
                answer.head(message, end)
            except Exception as error:
                self.raised(ex, error)
        if end and ex.said_end and not ex.over:
            self.leg_over(ex)

    def leg_over(self, ex):
        ex.over = True
        if self.exchanges is not None:
            self.exchanges.pop(ex.stream, None)
            self.recent = None
        else:
            self.current = None
            self.forget_reads()
        ex.answer = None
        ex.handle = None
        if self.owner is not None:
            self.owner.released(self)

    def flushed_many(self, begin, encrypted, sent):
        """All that was taken is with the kernel: the answers that were in it to their last byte are done."""
        ending = self.ending
        if not ending:
            return
        self.ending = []
        codec = self.codec
        shared = len(ending) > 1
        for ex in ending:
            if ex.over:
                continue
            if codec.unsent(ex.stream):
                self.ending.append(ex)
                continue
            j = ex.journey
            if self.said_now and begin > j.finished:
                j.spent_encode += begin - j.finished  # journey
            j.encoded = begin  # journey
            if encrypted:
                j.spent_encrypt += encrypted - begin  # journey
                j.encrypted = encrypted  # journey
                j.spent_send += sent - encrypted  # journey
            else:
                j.spent_send += sent - begin  # journey
            if shared:
                j.shared = True  # journey
            if codec.waits is not None:
                self.note_waits(ex)
            self.done(ex, sent)

    def note_waits(self, ex):
        """What a stream waited for windows: the peer's was the client's time, ours a step of its own name."""
        waits = self.codec.waits.pop(ex.stream, None)
        if waits is None:
            return
        j = ex.journey
        peer, ours = waits
        j.spent_client += peer  # journey
        if peer:
            j.add("window-peer", j.parsed, peer)
        if ours:
            j.add("window-ours", j.parsed, ours)

    def tell_reset(self, ex, why, side):
        if ex.error is None:
            ex.error = why
        answer = ex.answer
        if answer is not None:
            try:
                answer.reset(why, side)
            except Exception as error:
                self.service.observer.broke(ex, error)

    def overloaded(self, ex):
        ex.error = "overloaded"
        admission = self.service.admission
        error = FairleadError(admission.why, side="peer", status=503)
        error.after = admission.retry_after
        response, body = error_response(error)
        admission.busy += 1
        ex.whole(response, body)

    def overdue(self, ex):
        ex.deadline = 0
        if self.client and self.codec.multiplexed:
            self.codec.now = self.clock.now()
            self.codec.ping()  # is it this request, or is nobody there any more?
        error = FairleadError("the request took longer than its limit", side="upstream", status=504)
        self.tell_reset(ex, error, "both")
        self.say_reset(ex, error, "both")

    def raised(self, ex, error):
        """A handler or answer raised `error`: answer it, or reset."""
        if not isinstance(error, FairleadError):
            self.service.observer.broke(ex, error)
            error = AppError(f"{type(error).__name__} was raised while answering")
        if ex.over:
            return
        self.tell_reset(ex, error, "both")
        self.say_reset(ex, error, "both")

    def broken(self, error):
        """The peer broke a rule of the protocol, or a deadline passed: say what we can, then close."""
        codec = self.codec
        ex = self.current
        self.linger = True
        if self.client or codec.multiplexed or error.status == 0:
            codec.finished = True
            self.lost(error)
            if codec.multiplexed and error.status:
                self.ruled = error
                if not self.client:
                    self.refused(0, error)
            return
        if ex is not None and ex.said_head:
            codec.finished = True
            self.lost(error)
            return
        response, body = error_response(error)
        if ex is None:
            ex = self.unparsed(error)
        else:
            self.tell_reset(ex, error, "both")
        ex.error = error
        ex.response = response
        ex.said_head = ex.said_end = True
        now = self.clock.now()
        codec.now = now
        ex.journey.answered = ex.journey.finished = now  # journey
        ex.journey.bytes_out += len(body)
        codec.refuse(response.status, response.headers, body)

    def unparsed(self, error):
        """An exchange for the log, of a request whose head never became one."""
        j = Journey()
        self.stamp(j, self.clock.now())
        ex = Exchange(self, 0, 0, Request("-", self.scheme, b"", b"-", [], "1.1", 0), j)
        self.current = ex
        self.service.admission.busy += 1
        self.requests += 1
        return ex
