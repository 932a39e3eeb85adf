"""Admission: what is over the limit waits in order, for a while; workers count together; health paths and memory."""

import asyncio
import os
import socket
from contextlib import asynccontextmanager

import pytest

from fairlead.core.admission import Queueing
from fairlead.core.exchange import Answer
from fairlead.core.handler import Handler, Service
from fairlead.core.message import Response
from fairlead.core.slab import Slab
from fairlead.net.listen import Listener
from fairlead.net.poll import Poller
from fairlead.run import config as c
from fairlead.run import limiting
from fairlead.wire.h1 import H1
from hoprig import Notes, read_answer, until

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def run(test):
    """A test that is a coroutine."""

    def wrapper():
        asyncio.run(asyncio.wait_for(test(), 20))

    wrapper.__name__ = test.__name__
    return wrapper


class Taken(Answer):
    """One request that a Held was given."""

    def __init__(self, exchange):
        self.exchange, self.body, self.over = exchange, b"", exchange.heard_end

    def data(self, chunk, end):
        self.body += chunk
        self.over = self.over or end
        return True

    def end(self, trailers):
        self.over = True

    def finish(self):
        self.exchange.whole(Response(200, [], len(self.body)), self.body or b"")


class Held(Handler):
    """Answers when told to."""

    def __init__(self):
        self.taken = []

    def open(self, exchange):
        exchange.answer = Taken(exchange)
        self.taken.append(exchange.answer)


class Bench:
    def __init__(self, loop):
        self.poller = Poller(loop)
        self.handler, self.notes = Held(), Notes()
        self.admission = Queueing(self.poller, self.poller.soon, loop.call_later)
        self.admission.queue_most = 10
        self.clients = []
        self.service = Service(
            self.handler, name="web", clock=self.poller, admission=self.admission, observer=self.notes
        )
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.listener = Listener(self.poller, self.sock, self.service, lambda conn, alpn: H1(conn, self.service.limits))
        self.listener.start()

    async def ask(self, path=b"/", method=b"GET", body=b""):
        """A client with its request on the way."""
        reader, writer = await asyncio.open_connection(*self.sock.getsockname())
        length = b"Content-Length: %d\r\n" % len(body) if body else b""
        writer.write(b"%b %b HTTP/1.1\r\nHost: a\r\n%b\r\n%b" % (method, path, length, body))
        self.clients.append((reader, writer))
        return reader, writer


@asynccontextmanager
async def bench():
    made = Bench(asyncio.get_running_loop())
    try:
        yield made
    finally:
        made.listener.stop()
        made.sock.close()
        for tcp in list(made.listener.tcps):
            tcp.abort(None)
        made.poller.close()


@run
async def test_what_is_over_the_limit_waits_and_goes_on_in_order():
    async with bench() as b:
        b.admission.most = 1
        first = await b.ask()
        await until(lambda: b.handler.taken)
        second = await b.ask(b"/2", b"POST", b"body")
        await until(lambda: len(b.admission.waiting) == 1)
        third = await b.ask(b"/3")
        await until(lambda: len(b.admission.waiting) == 2)
        b.handler.taken[0].finish()
        assert (await read_answer(first[0]))[0] == 200
        await until(lambda: len(b.handler.taken) == 2)
        await until(lambda: b.handler.taken[1].over)
        assert b.handler.taken[1].exchange.request.target == b"/2" and b.admission.busy == 1
        b.handler.taken[1].finish()
        assert (await read_answer(second[0]))[2] == b"body"
        await until(lambda: len(b.handler.taken) == 3)
        b.handler.taken[2].finish()
        assert (await read_answer(third[0]))[0] == 200
        await until(lambda: b.admission.busy == 0)
        waited = dict((name, took) for name, took, _ in b.notes.finished[1][1])
        assert waited["queue"] > 0


@run
async def test_a_full_queue_and_one_too_slow_are_503_with_retry_after():
    async with bench() as b:
        b.admission.most, b.admission.queue_most, b.admission.wait = 1, 1, 50_000_000
        await b.ask()
        await until(lambda: b.handler.taken)
        waiting = await b.ask()
        await until(lambda: b.admission.waiting)
        full = await b.ask()
        for reader, _ in (full, waiting):
            status, head, _ = await read_answer(reader)
            assert status == 503 and b"retry-after: 1" in head
        assert (b.admission.full, b.admission.late, b.admission.refused) == (1, 1, 2)
        await until(lambda: b.admission.busy == 1)


@run
async def test_a_client_that_leaves_the_queue_counts_no_more():
    async with bench() as b:
        b.admission.most = 1
        await b.ask()
        await until(lambda: b.handler.taken)
        _, writer = await b.ask()
        await until(lambda: b.admission.waiting)
        writer.transport.abort()
        await until(lambda: not b.admission.waiting)
        b.handler.taken[0].finish()
        await until(lambda: b.admission.busy == 0)


@run
async def test_health_paths_are_always_admitted_also_while_memory_is_short():
    async with bench() as b:
        b.admission.most, b.admission.queue_most, b.admission.health = 1, 0, frozenset([b"/healthz"])
        await b.ask()
        await until(lambda: b.handler.taken)
        await b.ask(b"/healthz?verbose")
        await until(lambda: len(b.handler.taken) == 2)
        b.admission.shedding = True
        await b.ask(b"/healthz")
        await until(lambda: len(b.handler.taken) == 3)
        status, _, body = await read_answer((await b.ask())[0])
        assert status == 503 and b"memory" in body and b.admission.shed == 1
        for one in b.handler.taken:
            one.finish()
        await until(lambda: b.admission.busy == 0)


@run
async def test_workers_count_together_and_one_that_is_free_lets_the_other_go_on():
    slab = Slab.create(3)
    async with bench() as one, bench() as other:
        for slot, side in enumerate((one, other)):
            limiting.share(side.admission, slab, slot)
            side.admission.most = 2
        await one.ask()
        await one.ask()
        await until(lambda: len(one.handler.taken) == 2)
        await other.ask()
        await until(lambda: other.admission.waiting)
        assert other.admission.total() == 2 and slab.region(0).get("admitted") == 2
        one.handler.taken[0].finish()
        await until(lambda: other.handler.taken)
        assert other.admission.total() == 2


@run
async def test_the_longest_idle_connection_is_closed_first():
    async with bench() as b:
        idle = limiting.Idle(b.admission)
        idle.settle(c.Server(workers=1, limits=c.ServerLimits(idle=2)), [b.listener])
        b.listener.idle = idle
        busy = await b.ask()
        await until(lambda: b.handler.taken)
        clients = []
        for count in range(2):
            clients.append(await b.ask())
            await until(lambda count=count: len(b.handler.taken) == 2 + count)
            b.handler.taken[-1].finish()
            await read_answer(clients[-1][0])
        assert idle.closed == 0
        clients.append(await b.ask())
        assert await clients[0][0].read() == b"" and idle.closed == 1
        await until(lambda: len(b.handler.taken) == 4)
        for one, client in ((b.handler.taken[0], busy), (b.handler.taken[3], clients[2])):
            one.finish()
            assert (await read_answer(client[0]))[0] == 200


def test_memory_pressure_is_told_in_words_and_eases_late():
    mib = 1 << 20
    assert limiting.pressure(100 * mib, 99 * mib, (0, 0), 0.0, False) == ""
    assert "101 MiB of 100 MiB" in limiting.pressure(100 * mib, 101 * mib, (0, 0), 0.0, False)
    assert limiting.pressure(100 * mib, 96 * mib, (0, 0), 0.0, True)
    assert not limiting.pressure(100 * mib, 94 * mib, (0, 0), 0.0, True)
    assert "control group" in limiting.pressure(100 * mib, 0, (96 * mib, 100 * mib), 0.0, False)
    assert "waited for memory" in limiting.pressure(100 * mib, 0, (0, 0), 30.0, False)


def test_what_the_system_says_of_memory_is_read(tmp_path):
    (tmp_path / "own").write_text("0::/a.slice/b\n")
    folder = tmp_path / "a.slice" / "b"
    folder.mkdir(parents=True)
    (folder / "memory.current").write_text("5\n")
    (folder / "memory.max").write_text("9\n")
    assert limiting.group_memory(tmp_path, tmp_path / "own") == (5, 9)
    (folder / "memory.max").write_text("max\n")
    assert limiting.group_memory(tmp_path, tmp_path / "own") == (0, 0)
    assert limiting.group_memory(tmp_path, tmp_path / "none") == (0, 0)
    (tmp_path / "psi").write_text("some avg10=1.00 avg60=0\nfull avg10=12.50 avg60=0.00\n")
    assert limiting.stalled(tmp_path / "psi") == 12.5 and limiting.stalled(tmp_path / "none") == 0.0
    assert limiting.memory_of(os.getpid()) > 1 << 20 and limiting.memory_of(2**22 + 1) == 0
