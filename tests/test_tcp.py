"""The TCP carrier over real sockets: what is said arrives, what is not taken waits, and every way to leave is noticed."""

import asyncio
import contextlib
import socket
import struct

import pytest

from fairlead.core.codec import Codec
from fairlead.core.errors import NetError, WireError
from fairlead.core.exchange import Answer
from fairlead.core.handler import Handler, Observer, Service
from fairlead.core.limits import SECOND, Limits
from fairlead.core.message import Request, Response
from fairlead.net.listen import Listener
from fairlead.net.poll import HOLD, IN, Poller
from fairlead.net.tcp import Tcp
from fairlead.net.tls import Engine


class Lines(Codec):
    """A protocol of lines, small enough to see through: `get\\n` is a request, `put N\\n` one with N bytes of body."""

    def __init__(self, sink, limits):
        super().__init__(sink, limits)
        self.held = b""
        self.left = 0
        self.stream = 0
        self.open = False
        self.uncredited = 0
        self.said = []
        self.ended_at = 0
        self.eofed = self.leaving = False

    def feed(self, data, now, stream=0, fin=False):
        self.held += data
        if self.left and self.held:
            chunk, self.held = self.held[: self.left], self.held[self.left :]
            self.left -= len(chunk)
            self.uncredited += len(chunk)
            self.wants_read = self.uncredited < 65536
            self.sink.data(self.stream, chunk, self.left == 0)
        elif not self.open and b"\n" in self.held:
            line, self.held = self.held.split(b"\n", 1)
            if line.startswith(b"bad"):
                raise WireError("that is not a request", rule="bad")
            self.stream += 1
            self.open = True
            self.left = int(line[4:]) if line.startswith(b"put") else 0
            self.sink.head(self.stream, Request(line.decode(), "x", b"", b"/", [], "1.1", self.left), self.left == 0)
        self.more = bool(self.left and self.held) or (not self.open and b"\n" in self.held)

    def eof(self, now, stream=0):
        if self.left:
            raise WireError("cut short", status=0, rule="cut")
        self.eofed = True
        if not self.open:
            self.finished = True

    def take(self):
        said, self.said = self.said, []
        return said or None

    def head(self, stream, message, end):
        self.said.append(b"%d\n" % message.status)
        self.over(end)

    def data(self, stream, chunk, end):
        self.said.append(chunk)
        self.over(end)
        return True

    def over(self, end):
        if end:
            self.open = False
            self.more = b"\n" in self.held and not self.left
            self.finished = self.finished or (self.eofed and not self.more) or self.leaving

    def drained(self, now):
        if self.open:
            self.sink.room(self.stream)

    def consumed(self, stream, count):
        self.uncredited -= count
        self.wants_read = self.uncredited < 65536

    def reset(self, stream, why, side):
        self.finished = True

    def refuse(self, status, headers, body):
        self.said.append(b"%d refused\n" % status)
        self.finished = True

    def goaway(self, last):
        self.leaving = True
        self.finished = not self.open

    def deadline(self):
        return self.limits.idle and (self.ended_at or self.now) + self.limits.idle

    def tick(self, now):
        raise WireError("idle", status=0, rule="idle")


class Recorded(Observer):
    def __init__(self):
        self.over = []
        self.closes = []
        self.errors = []

    def done(self, exchange):
        self.over.append(exchange)

    def closed(self, conn, why):
        self.closes.append(why)

    def broke(self, exchange, error):
        self.errors.append(error)


class Whole(Handler):
    def open(self, exchange):
        exchange.whole(Response(200, [], -1), b"body of " + exchange.request.method.encode())


class Flood(Handler):
    """Answers with `total` bytes, as fast as there is room."""

    def __init__(self, total):
        self.total = total
        self.writers = []

    def open(self, exchange):
        writer = Writer(exchange, self.total)
        self.writers.append(writer)
        exchange.answer = writer
        exchange.head(Response(200, [], -1), False)
        writer.room()


class Writer(Answer):
    def __init__(self, exchange, left):
        self.exchange = exchange
        self.left = left
        self.why = None
        self.waits = 0

    def room(self):
        while self.left > 0:
            self.left -= 65536
            if not self.exchange.data(b"x" * 65536, self.left <= 0):
                self.waits += 1
                return

    def reset(self, why, side):
        self.why = why


class Hold(Answer):
    """Takes nothing until told."""

    def __init__(self, exchange):
        self.exchange = exchange
        self.held = 0
        self.why = None

    def data(self, chunk, end):
        self.held += len(chunk)
        return False

    def reset(self, why, side):
        self.why = why


class Held(Handler):
    def __init__(self):
        self.answers = []

    def open(self, exchange):
        exchange.answer = Hold(exchange)
        self.answers.append(exchange.answer)


class Count(Answer):
    """Says how many bytes came."""

    def __init__(self, exchange):
        self.exchange = exchange
        self.heard = 0

    def data(self, chunk, end):
        self.heard += len(chunk)
        if end:
            self.exchange.whole(Response(200, [], -1), b"%d" % self.heard)
        return True


class Counted(Handler):
    def open(self, exchange):
        exchange.answer = Count(exchange)


async def until(condition, seconds=30.0):
    """Wait for a condition that another task or the kernel brings about."""
    end = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < end, "never happened"
        await asyncio.sleep(0.005)


class Bench:
    def __init__(self, poller, listener, observer):
        self.poller, self.listener, self.observer = poller, listener, observer
        self.port = listener.sock.getsockname()[1]

    async def connect(self, **options):
        return await asyncio.open_connection("127.0.0.1", self.port, **options)


@contextlib.asynccontextmanager
async def serving(handler, **limits):
    loop = asyncio.get_running_loop()
    poller = Poller(loop)
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    observer = Recorded()
    service = Service(handler, name="t", clock=poller, limits=Limits(**limits), observer=observer)
    listener = Listener(poller, sock, service, lambda conn, alpn: Lines(conn, service.limits))
    listener.start()
    try:
        yield Bench(poller, listener, observer)
    finally:
        await listener.drain(0)
        poller.close()
        sock.close()


def run(test):
    """Run an async test on the plain asyncio loop, with a deadline."""

    def wrapped(*args, **kwargs):
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 20))

    wrapped.__name__ = test.__name__
    return wrapped


@run
async def test_pipelined_requests_are_answered_in_order():
    async with serving(Whole()) as bench:
        reader, writer = await bench.connect()
        writer.write(b"a\nb\nc\n")
        writer.write_eof()
        assert await reader.read() == b"200\nbody of a200\nbody of b200\nbody of c"
        await until(lambda: len(bench.observer.over) == 3)
        assert not bench.listener.tcps


class Order(Handler):
    """Answers, and notes each time how many of the answers before it had left."""

    def __init__(self, poller_of, slow=0):
        self.poller_of, self.slow, self.seen = poller_of, slow, []

    def open(self, exchange):
        poller = self.poller_of()
        self.seen.append((poller.holding, len(poller.held)))
        if self.slow:
            poller.step += self.slow  # as if this step had taken that long, eight times over
        exchange.whole(Response(200, [], -1), b"x")


async def burst(order, count, **limits):
    """Requests on `count` connections that are all ready in one turn of the loop; the answers."""
    holder = []
    order.poller_of = lambda: holder[0].poller
    async with serving(order, **limits) as bench:
        holder.append(bench)
        peers = [await bench.connect() for _ in range(count)]
        await until(lambda: len(bench.listener.tcps) == count)
        for _, writer in peers:
            writer.write(b"get\n")  # the loop runs no reader before we wait
        answers = [await reader.readexactly(5) for reader, _ in peers]
        await until(lambda: len(bench.observer.over) == count)
        journeys = [ex.journey for ex in bench.observer.over]
        for _, writer in peers:
            writer.close()
        assert not bench.poller.held and not bench.poller.holding
        return answers, journeys


@run
async def test_answers_of_one_turn_are_sent_together_and_the_wait_is_part_of_sending():
    order = Order(None)
    for _ in range(100):  # a busy machine may stop us for longer than an answer is held
        answers, journeys = await burst(order, 4)
        assert answers == [b"200\nx"] * 4
        if any(held for _, held in order.seen):
            break
    assert any(held for _, held in order.seen)  # one answered while another's answer was held
    assert all(j.sent >= j.answered and j.spent_send >= 0 and j.spent_encode >= 0 for j in journeys)


@run
async def test_while_steps_are_long_no_answer_waits_for_another():
    order = Order(None, slow=HOLD * 16)
    answers, _ = await burst(order, 6)
    assert answers == [b"200\nx"] * 6
    assert not any(held for _, held in order.seen[1:])
    assert not any(holding for holding, _ in order.seen[1:])


@run
async def test_one_ready_socket_alone_is_answered_at_once():
    order = Order(None)
    holder = []
    order.poller_of = lambda: holder[0].poller
    async with serving(order) as bench:
        holder.append(bench)
        reader, writer = await bench.connect()
        for _ in range(3):
            writer.write(b"get\n")
            assert await reader.readexactly(5) == b"200\nx"
        assert order.seen == [(False, 0)] * 3
        writer.close()


@run
async def test_a_journey_has_its_points_in_order():
    async with serving(Whole()) as bench:
        reader, writer = await bench.connect()
        writer.write(b"get\n")
        await reader.readexactly(15)
        await until(lambda: bench.observer.over)
        j = bench.observer.over[0].journey
        points = [j.accepted, j.woken, j.read, j.parsed, j.routed, j.answered, j.encoded, j.sent, j.done]
        assert all(points) and points[1:] == sorted(points[1:])
        assert j.connected and j.connected <= j.accepted
        writer.write(b"get\n")
        await reader.readexactly(15)
        await until(lambda: len(bench.observer.over) == 2)
        assert bench.observer.over[1].journey.accepted == 0
        writer.close()


@run
async def test_a_slow_reader_stops_the_writer_and_memory_stays_flat():
    flood = Flood(64 << 20)
    async with serving(flood) as bench:
        reader, writer = await bench.connect(limit=65536)
        writer.write(b"get\n")
        await until(lambda: flood.writers and flood.writers[0].waits)
        tcp = next(iter(bench.listener.tcps))
        assert tcp.blocked
        assert sum(map(len, tcp.out)) <= 2 * 65536
        assert flood.writers[0].left > 32 << 20
        got = 0
        while got < (64 << 20) + 4:
            got += len(await reader.read(1 << 20))
        await until(lambda: bench.observer.over)
        assert bench.observer.over[0].journey.spent_client > 0
        writer.close()


@run
async def test_a_reader_that_takes_nothing_at_all_is_given_up():
    flood = Flood(64 << 20)
    async with serving(flood, write_idle=SECOND // 5) as bench:
        _, writer = await bench.connect(limit=1024)
        writer.write(b"get\n")
        await until(lambda: bench.observer.closes)
        assert isinstance(bench.observer.closes[0], NetError)
        assert "took no bytes" in str(flood.writers[0].why)
        writer.close()


@run
async def test_what_a_full_read_left_behind_is_read_and_so_is_the_end_behind_it():
    async with serving(Counted()) as bench:
        loop = asyncio.get_running_loop()
        for size in (65536, 65537, 3 * 65536, 700_000):  # as large as our reads, and larger
            with socket.create_connection(("127.0.0.1", bench.port)) as sock:
                sock.setblocking(False)
                await loop.sock_sendall(sock, b"put %010d\n" % (size - 15) + b"x" * (size - 15))
                sock.shutdown(socket.SHUT_WR)
                answer = b""
                while data := await asyncio.wait_for(loop.sock_recv(sock, 100), 30):
                    answer += data
                assert answer == b"200\n%d" % (size - 15)


@run
async def test_a_last_request_and_the_goodbye_behind_it_are_both_heard():
    async with serving(Whole()) as bench:
        loop = asyncio.get_running_loop()
        with socket.create_connection(("127.0.0.1", bench.port)) as sock:
            sock.setblocking(False)
            for _ in range(3):
                sock.send(b"a\n")
                assert await asyncio.wait_for(loop.sock_recv(sock, 100), 30) == b"200\nbody of a"
            sock.send(b"b\n")
            sock.shutdown(socket.SHUT_WR)  # both are there at our next look
            answer = b""
            while data := await asyncio.wait_for(loop.sock_recv(sock, 100), 30):
                answer += data
            assert answer == b"200\nbody of b"
            await until(lambda: bench.observer.closes)


@run
async def test_a_body_nobody_takes_stops_the_reading():
    held = Held()
    async with serving(held) as bench:
        _, writer = await bench.connect()
        writer.write(b"put 9000000\n" + b"x" * 1_000_000)
        await until(lambda: held.answers and held.answers[0].held >= 65536)
        tcp = next(iter(bench.listener.tcps))
        await until(lambda: not tcp.mask & IN)
        assert held.answers[0].held < 400_000
        before = held.answers[0].held
        held.answers[0].exchange.room()
        await until(lambda: held.answers[0].held > before)
        writer.close()


@run
async def test_a_client_that_resets_is_noticed_while_we_do_not_read():
    held = Held()
    async with serving(held) as bench:
        sock = socket.create_connection(("127.0.0.1", bench.port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await asyncio.get_running_loop().run_in_executor(None, sock.sendall, b"put 9000000\n" + b"x" * 200_000)
        await until(lambda: held.answers and held.answers[0].held >= 65536)
        sock.close()
        await until(lambda: held.answers[0].why is not None)
        assert held.answers[0].why.status == 499


@run
async def test_a_client_that_leaves_while_we_answer_still_gets_its_answer():
    class Late(Handler):
        def open(self, exchange):
            loop = asyncio.get_running_loop()
            loop.call_later(0.05, exchange.whole, Response(200, [], -1), b"late")

    async with serving(Late()) as bench:
        reader, writer = await bench.connect()
        writer.write(b"get\n")
        writer.write_eof()
        assert await reader.read() == b"200\nlate"


@run
async def test_a_refused_request_is_answered_before_the_socket_closes_though_more_is_coming():
    async with serving(Whole(), drain=1 << 20) as bench:
        reader, writer = await bench.connect()
        writer.write(b"bad\n" + b"x" * 300_000)
        assert await reader.read() == b"400 refused\n"
        writer.close()
        await until(lambda: not bench.listener.tcps)
        assert bench.observer.over[0].error.rule == "bad"


@run
async def test_a_handler_that_raises_becomes_a_500_and_the_connection_lives():
    class Broken(Handler):
        def open(self, exchange):
            if exchange.request.method == "one":
                raise ValueError("a defect")
            exchange.whole(Response(200, [], -1), b"fine")

    async with serving(Broken()) as bench:
        reader, writer = await bench.connect()
        writer.write(b"one\ntwo\n")
        writer.write_eof()
        got = await reader.read()
        assert got.startswith(b"500\n") and got.endswith(b"200\nfine")
        assert b"a defect" not in got
        assert [str(error) for error in bench.observer.errors] == ["a defect"]


@run
async def test_an_idle_connection_is_closed_at_its_deadline():
    async with serving(Whole(), idle=SECOND // 5) as bench:
        reader, writer = await bench.connect()
        assert await reader.read() == b""
        writer.close()


@run
async def test_over_the_admission_limit_the_answer_is_503_and_the_count_returns():
    held = Held()
    async with serving(held) as bench:
        admission = bench.listener.service.admission
        admission.most = 1
        first = await bench.connect()
        first[1].write(b"get\n")
        await until(lambda: held.answers)
        second = await bench.connect()
        second[1].write(b"get\n")
        assert await second[0].readline() == b"503\n"
        await until(lambda: admission.busy == 1)
        held.answers[0].exchange.whole(Response(200, [], -1), b"x")
        assert await first[0].readline() == b"200\n"
        await until(lambda: admission.busy == 0)
        first[1].close()
        second[1].close()


@run
async def test_draining_closes_idle_connections_at_once_and_busy_ones_after_their_answer():
    held = Held()
    async with serving(held) as bench:
        idle = await bench.connect()
        busy = await bench.connect()
        busy[1].write(b"get\n")
        await until(lambda: held.answers and len(bench.listener.tcps) == 2)
        draining = asyncio.ensure_future(bench.listener.drain(5))
        assert await idle[0].read() == b""
        held.answers[0].exchange.whole(Response(200, [], -1), b"last")
        assert (await busy[0].read()).startswith(b"200\nlast")
        assert await draining == 0
        idle[1].close()
        busy[1].close()


@run
async def test_closed_connections_leave_nothing_behind_in_the_wheel():
    async with serving(Whole()) as bench:
        for _ in range(50):
            reader, writer = await bench.connect()
            writer.write(b"get\n")
            await reader.readexactly(15)
            writer.close()
        await until(lambda: not bench.listener.tcps)
        assert not any(bench.poller.wheel.slots.values())
        assert not [w for w in bench.poller.watchers.values() if w is not bench.listener]


@pytest.mark.parametrize("number", [24])
def test_out_of_descriptors_pauses_and_recovers(number):
    import errno

    from fairlead.net import listen

    @run
    async def scenario():
        async with serving(Whole()) as bench:
            bench.listener.pause(OSError(errno.EMFILE, "Too many open files"))
            reader, writer = await bench.connect()
            writer.write(b"get\n")
            assert await reader.readexactly(15) == b"200\nbody of get"
            writer.close()
            assert listen.PAUSE < 1

    scenario()


class Chatty(Engine):
    """TLS that says a KILOBYTE to whatever it reads, as to a peer that wants new keys all the time."""

    def __init__(self, done):
        Engine.__init__(self, None)
        self.done, self.said = done, 0

    def feed(self, data):
        self.said += 1
        return b""

    def take(self):
        said, self.said = self.said, 0
        return bytes(1024 * said)


async def deaf(done, limits):
    """A peer that writes and does not read, before or after the handshake: (the carrier, the most bytes that waited)."""
    poller = Poller(asyncio.get_running_loop())
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    service = Service(Whole(), name="t", clock=poller, limits=limits)
    tcp = Tcp(poller, ours.detach(), service, "unix", "unix")
    engine, most = Chatty(done), 0
    tcp.start(None, engine, lambda conn, alpn: Lines(conn, limits))
    end = asyncio.get_running_loop().time() + 10
    while not tcp.closed and asyncio.get_running_loop().time() < end:
        with contextlib.suppress(OSError):
            theirs.send(b"x")
        await asyncio.sleep(0)
        most = max(most, sum(map(len, tcp.out)))
    theirs.close()
    poller.close()
    return tcp, most


@run
async def test_what_tls_answers_to_a_peer_that_does_not_read_is_bounded():
    tcp, most = await deaf(True, Limits(control=8192))
    assert tcp.closed and 8192 <= most <= 8192 + 65536 + 1024


@run
async def test_the_handshake_s_deadline_stands_though_the_peer_does_not_read():
    tcp, _ = await deaf(False, Limits(control=0, handshake=SECOND // 5, write_idle=60 * SECOND))
    assert tcp.closed
