"""One HTTP/3 connection of ours to aioquic's client over a link of a given rate and delay, in memory and on a clock of its own: so
the order in which STREAM frames are on the wire is a fact, and a second of it is milliseconds of ours.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from types import SimpleNamespace

from aioquic.h3.connection import H3Connection

import kit
from fairlead.core.exchange import Answer
from fairlead.core.handler import Handler, Service
from fairlead.core.limits import Limits
from fairlead.core.message import Response
from fairlead.net import quicengine
from fairlead.net.quicconn import QuicConn
from fairlead.net.quicsettings import QuicSettings
from fairlead.net.quictoken import Tokens
from fairlead.wire import quic as packets
from fairlead.wire.h3 import H3
from fairlead.wire.quicint import varint

SERVER, CLIENT = ("127.0.0.1", 443), ("127.0.0.1", 1000)
CID = b"01234567"


class Events(kit.Clock):
    """A clock, a loop and a wheel: what is due is done, and time leaps to the next of it."""

    def __init__(self) -> None:
        super().__init__()
        self.heap: list[tuple[int, int, Callable[[], None]]] = []
        self.count = 0
        self.in_turn, self.woken = False, 0
        self.loop = SimpleNamespace(call_later=lambda delay, call: self.at(self.time + int(delay * 1e9), call))
        self.wheel = self  # our own deadlines, in whole steps, are not this rig's concern

    def at(self, time: int, call: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.heap, (max(time, self.time), self.count, call))

    def soon(self, call: Callable[[], None]) -> None:
        self.at(self.time, call)

    def add(self, due: int, watcher: object) -> None:
        pass

    def remove(self, watcher: object) -> None:
        pass

    def run(self, until: Callable[[], bool], seconds: float = 60.0) -> None:
        """Until something is so; fails when that takes more than so many seconds of this clock."""
        end = self.time + int(seconds * 1e9)
        while not until():
            assert self.heap, "nothing is left to be done"
            self.time, _, call = heapq.heappop(self.heap)
            assert self.time < end, "it took too long"
            call()


class Sized(Handler):
    """`/N`: N bytes, all said at once. `/N/piecewise`: as there is room."""

    def open(self, exchange):
        size, _, piecewise = exchange.request.target[1:].partition(b"/")
        exchange.head(Response(200, []), False)
        if not piecewise:
            exchange.data(bytes(int(size)), True)
            return
        exchange.answer = Piecewise(exchange, int(size))
        exchange.answer.room()


class Piecewise(Answer):
    def __init__(self, exchange, left):
        self.exchange, self.left = exchange, left

    def room(self):
        while self.left:
            size = min(self.left, 16384)
            self.left -= size
            if not self.exchange.data(bytes(size), not self.left):
                break


class Rig:
    """`rate` in Mbit/s, `delay` in ms each way, `loss`: part of the server's packets; `queue`: bytes that wait for the link.

    `frames`: (time, stream, offset, size) of each STREAM frame that the client decrypted, in the order of the wire; `bodies`: how
    many bytes came on a stream; `ended`: when its last did.
    """

    def __init__(self, engine: str, certificate, rate: float = 20.0, delay: float = 20.0, loss: float = 0.0, queue: int = 1 << 30,
                 datagrams: bool = False, **options) -> None:  # fmt: skip
        self.events, self.udp = Events(), self
        self.poller = self.events
        self.rate, self.delay, self.loss, self.queue = rate / 8000, int(delay * 1e6), loss, queue  # bytes a ns, ns, part, bytes
        self.chance = random.Random(7)
        self.free_at = 0
        self.frames: list[tuple[int, int, int, int]] = []
        self.bodies: dict[int, int] = {}
        self.ended: dict[int, int] = {}
        self.began: dict[int, int] = {}
        self.pending: list[bytes] = []
        self.heard: list[bytes] = []  # datagrams
        self.lost = 0
        theirs = QuicSettings("aioquic", client=True)
        theirs.name, theirs.verify = "localhost", False
        theirs.window = theirs.stream_window = 16 << 20
        for name, value in options.items():
            setattr(theirs, name, value)
        self.client = quicengine.client(theirs, SERVER, self.seconds())
        self.spy(self.client.conn)
        flight = self.client.take(self.seconds())
        ours = QuicSettings(engine)
        ours.add(*certificate, None)
        tokens = Tokens(b"k" * 32)
        made = iter(range(100, 200))

        def further():
            cid = b"further" + bytes((next(made),))
            return cid, tokens.reset(cid)

        original = packets.head(flight[0][0]).destination
        self.server = quicengine.server(ours, CID, tokens.reset(CID), original, None, further)
        service = Service(Sized(), name="rig", clock=self.events, limits=Limits())
        self.conn = QuicConn(self, self.server, service, CLIENT, SERVER)
        self.conn.make_codec = lambda conn, alpn: H3(conn, service.limits)
        self.conn.start(self.events.time)
        self.carry(flight)
        self.client_timer()
        self.http = None
        self.events.run(lambda: self.client.done and not self.conn.early)
        self.http = H3Connection(self.client.conn, enable_webtransport=datagrams)  # which announces datagrams
        self.speak()
        self.events.run(lambda: self.conn.codec is not None and self.conn.codec.settled)
        self.frames.clear()

    def seconds(self) -> float:
        return self.events.time / 1e9

    # ---- the client

    def spy(self, conn) -> None:
        original = conn._handle_stream_frame

        def handle(context, kind, buf):
            at = buf.tell()
            stream, offset = buf.pull_uint_var(), buf.pull_uint_var() if kind & 4 else 0
            size = buf.pull_uint_var() if kind & 2 else buf.capacity - buf.tell()
            buf.seek(at)
            self.frames.append((self.events.time, stream, offset, size))
            original(context, kind, buf)

        conn._QuicConnection__frame_handlers = {
            kind: (handle if 8 <= kind <= 15 else one[0], *one[1:]) for kind, one in conn._QuicConnection__frame_handlers.items()
        }

    def ask(self, path: str, priority: bytes = b"") -> int:
        """Say a request; its stream."""
        stream = self.client.conn.get_next_available_stream_id()
        head = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path.encode())]
        self.http.send_headers(stream, [*head, (b"priority", priority)] if priority else head, end_stream=True)
        return stream

    def update(self, stream: int, priority: bytes) -> None:
        """PRIORITY_UPDATE (RFC 9218 section 7.2)."""
        payload = varint(stream) + priority
        raw = varint(0xF0700) + varint(len(payload)) + payload
        self.client.conn.send_stream_data(self.http._local_control_stream_id, raw)

    def speak(self) -> None:
        """What the client has to send, to the server."""
        self.carry(self.client.take(self.seconds()))
        self.client_timer()

    def carry(self, datagrams) -> None:
        for data, _ in datagrams:
            self.events.at(self.events.time + self.delay, lambda data=data: self.reach(data))

    def reach(self, data: bytes) -> None:
        self.conn.arrived(data, CLIENT, 0, self.events.time)
        self.conn.pull(self.events.time, self.events.time)

    def hear(self, data: bytes) -> None:
        self.client.receive([data], SERVER, self.seconds())
        queue = self.client.events()
        while queue:
            event = queue.popleft()
            if event[0] == "datagram":
                self.heard.append(event[1])
            elif event[0] == "data" and event[1] & 3 == 0:
                self.bodies[event[1]] = self.bodies.get(event[1], 0) + len(event[2])
                if event[3]:
                    self.ended[event[1]] = self.events.time
        self.speak()

    def client_timer(self) -> None:
        at = self.client.timer()
        if at is not None:
            self.events.at(int(at * 1e9) + 1, self.client_tick)

    def client_tick(self) -> None:
        at = self.client.timer()
        if at is not None and at <= self.seconds():
            self.client.tick(self.seconds())
            self.speak()

    # ---- the server's home

    def send(self, run, peer, packed, mark=0) -> int:
        for data in run:
            now = self.events.time
            if self.chance.random() < self.loss or (self.free_at - now) * self.rate > self.queue:
                self.lost += 1
                continue
            self.free_at = max(self.free_at, now) + int(len(data) / self.rate)
            self.events.at(self.free_at + self.delay, lambda data=data: self.hear(data))
        return len(run)

    def wake(self, conn, at: float) -> None:
        self.events.at(int(at * 1e9) + 1, self.server_tick)

    def server_tick(self) -> None:
        conn = self.conn
        if conn.gone:
            return
        at = self.server.timer()
        if at is not None and at <= self.seconds():
            conn.ticked(self.events.time)
        elif conn.held:
            conn.settle()
        elif at is not None:
            conn.arm()

    def again(self, conn) -> None:
        self.events.soon(conn.settle_later)

    def nothing(self, *_) -> None:
        """What this rig does not care about."""

    def room(self, peer) -> int:
        return 0

    issued = retired = secured = linger = leave = push = nothing

    # ---- what a test looks at

    def finish(self, *streams: int) -> None:
        self.events.run(lambda: all(stream in self.ended for stream in streams))

    def fresh(self) -> list[tuple[int, int, int]]:
        """(time, stream, bytes) of each frame of a request's stream that was not a repetition."""
        top: dict[int, int] = {}
        found = []
        for time, stream, offset, size in self.frames:
            if stream & 3 == 0 and offset + size > top.get(stream, 0):
                found.append((time, stream, offset + size - top.get(stream, 0)))
                top[stream] = offset + size
        return found
