"""HTTP/2 through the whole server on real sockets: proxied both ways, smuggling, retries, resets, work that goes on, drain.

The client and the origin are the `h2` library's, driven by hand.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.errors
import h2.events
import pytest

import h2kit
from fairlead.core.handler import Service
from fairlead.core.limits import Limits
from fairlead.net.listen import Listener
from fairlead.net.poll import Poller
from fairlead.run.protocols import client_codec, server_codec
from fairlead.serve.app import App
from proxyrig import DEADLINE, Notes, rig, until

GET = [(":method", "GET"), (":scheme", "http"), (":authority", "shop.example"), (":path", "/")]
POST = [(":method", "POST"), *GET[1:]]


class Peer:
    """One end of an h2 connection by the `h2` library. `on(event)` is called for each event."""

    def __init__(self, reader, writer, client):
        self.reader, self.writer = reader, writer
        config = h2.config.H2Configuration(
            client_side=client,
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.conn = h2.connection.H2Connection(config)
        self.conn.initiate_connection()
        self.events = []
        self.on = lambda event: None
        self.flush()
        self.task = asyncio.get_running_loop().create_task(self.read())

    def flush(self):
        self.writer.write(self.conn.data_to_send())

    async def read(self):
        while data := await self.reader.read(65536):
            for event in self.conn.receive_data(data):
                self.events.append(event)
                if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                    self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self.on(event)
            self.flush()

    def ask(self, head=GET, body=None, trailers=None):
        stream = self.conn.get_next_available_stream_id()
        self.conn.send_headers(stream, head, end_stream=body is None)
        if body is not None:
            self.conn.send_data(stream, body, end_stream=trailers is None)
        if trailers is not None:
            self.conn.send_headers(stream, trailers, end_stream=True)
        self.flush()
        return stream

    def of(self, stream, kind):
        return [event for event in self.events if isinstance(event, kind) and event.stream_id == stream]

    async def answer(self, stream):
        """(status, headers, body) of a stream that ended well."""
        await until(
            lambda: self.of(stream, h2.events.StreamEnded) or self.of(stream, h2.events.StreamReset), "an answer"
        )
        assert not self.of(stream, h2.events.StreamReset), self.of(stream, h2.events.StreamReset)
        headers = dict(self.of(stream, h2.events.ResponseReceived)[0].headers)
        return int(headers[":status"]), headers, b"".join(one.data for one in self.of(stream, h2.events.DataReceived))

    def close(self):
        self.task.cancel()
        self.writer.close()


async def connect(port):
    return Peer(*await asyncio.open_connection("127.0.0.1", port), True)


@asynccontextmanager
async def front(*scripts, protocol="h1", **given):
    """A proxy that takes h1 and h2, in front of origins that speak `protocol`."""
    async with rig(*scripts, **given) as it:
        it.listener.make_codec = server_codec(["h1", "h2"], it.listener.service.limits, it.poller.common)
        for target in it.upstream.all:
            target.pool.make_codec = client_codec(protocol)
            target.pool.streams = 1 if protocol == "h1" else 100
        yield it


def h2_origin(answer):
    """A script of an h2 origin: `answer(peer, stream, headers)` for each request's end."""

    async def script(origin, reader, writer):
        peer = Peer(reader, writer, False)
        heads = {}

        def on(event):
            if isinstance(event, h2.events.RequestReceived):
                heads[event.stream_id] = dict(event.headers)
                origin.heads.append(event.headers)
            if isinstance(event, h2.events.StreamEnded):
                answer(peer, event.stream_id, heads[event.stream_id])

        peer.on = on
        await peer.task

    return script


def ok(peer, stream, headers):
    body = b"".join(one.data for one in peer.of(stream, h2.events.DataReceived))
    peer.conn.send_headers(stream, [(":status", "200"), ("x-path", headers[":path"])])
    peer.conn.send_data(stream, b"got " + body, end_stream=True)


async def h1_origin(origin, reader, writer):
    """Answers every request with its head and body."""
    while True:
        head = await origin.head(reader)
        body = b""
        if b"chunked" in head:
            while True:
                size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
                body += (await reader.readexactly(size + 2))[:-2] if size else b""
                if not size:
                    rest = await reader.readuntil(b"\r\n")
                    while rest != b"\r\n":
                        rest = await reader.readuntil(b"\r\n")
                    break
        elif b"content-length: " in head:
            body = await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: keep-alive\r\n\r\ngot %b" % (len(body) + 4, body)
        )


def test_three_requests_on_one_connection_leave_on_three_connections():
    async def go():
        gate = asyncio.Event()

        async def slow(origin, reader, writer):
            while True:
                await origin.head(reader)
                await asyncio.wait_for(gate.wait(), DEADLINE)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

        async with front(slow) as it:
            peer = await connect(it.port)
            streams = [peer.ask() for _ in range(3)]
            await until(lambda: len(it.origins[0].heads) == 3, "three requests at the origin")
            assert it.origins[0].connections == 3
            gate.set()
            assert [(await peer.answer(stream))[2] for stream in streams] == [b"ok"] * 3
            await until(lambda: len(it.notes.finished) == 3)
            assert all(one.journey.spent_dial for one in it.notes.finished)
            assert all(b"host: shop.example" in head for head in it.origins[0].heads)
            peer.close()

    asyncio.run(go())


def test_a_wait_for_a_pooled_connection_is_in_the_journey():
    async def go():
        async def slow(origin, reader, writer):
            while True:
                await origin.head(reader)
                await asyncio.sleep(0.02)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

        async with front(slow) as it:
            it.upstream.all[0].pool.most = 1
            peer = await connect(it.port)
            for stream in [peer.ask() for _ in range(4)]:
                assert (await peer.answer(stream))[0] == 200
            await until(lambda: len(it.notes.finished) == 4)
            assert it.origins[0].connections == 1
            assert sum(1 for one in it.notes.finished if one.journey.spent_pool > 10_000_000) == 3
            peer.close()

    asyncio.run(go())


def test_requests_of_many_h1_clients_share_one_connection():
    async def go():
        async with front(h2_origin(ok), protocol="h2c") as it:
            asked = [
                it.ask(b"POST /%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc" % i)
                for i in range(8)
            ]
            for i, answer in enumerate(await asyncio.gather(*asked)):
                assert (
                    answer.startswith(b"HTTP/1.1 200 OK\r\n") and b"x-path: /%d" % i in answer and b"got abc" in answer
                )
            assert it.origins[0].connections == 1
            names = [name for head in it.origins[0].heads for name, _ in head]
            assert "connection" not in names and "host" not in names and names.count(":authority") == 8

    asyncio.run(go())


def test_bodies_trailers_and_cookies_are_translated():
    async def go():
        async with front(h1_origin) as it:
            peer = await connect(it.port)
            stream = peer.ask([*POST, ("cookie", "a=1"), ("cookie", "b=2")], b"body", [("x-sum", "1")])
            assert (await peer.answer(stream))[2] == b"got body"
            head = it.origins[0].heads[0]
            assert (
                b"transfer-encoding: chunked" in head
                and b"cookie: a=1; b=2\r\n" in head
                and b"content-length" not in head
            )
            stream = peer.ask([*POST, ("content-length", "4")], b"body")
            assert (await peer.answer(stream))[1].get("connection") is None
            assert b"content-length: 4" in it.origins[0].heads[1] and b"chunked" not in it.origins[0].heads[1]
            peer.close()

    asyncio.run(go())


SMUGGLED = {
    "chunked": [*h2kit.POST, (b"transfer-encoding", b"chunked")],
    "CR LF in a value": [*h2kit.GET, (b"x", b"y\r\n\r\nGET /admin HTTP/1.1\r\nHost: b")],
    "CR LF in a name": [*h2kit.GET, (b"x: y\r\nz", b"w")],
    "a method with a request line": [(b":method", b"GET / HTTP/1.1\r\nX:"), *h2kit.GET[1:]],
    "a path with a request line": [*h2kit.GET[:2], (b":path", b"/ HTTP/1.1\r\nHost: b\r\n\r\n"), h2kit.GET[3]],
    "an authority with a line": [*h2kit.GET[:3], (b":authority", b"a\r\nx: y")],
    "two hosts": [*h2kit.GET, (b"host", b"b.example")],
    "connection names a field": [*h2kit.GET, (b"connection", b"content-length")],
    "upgrade": [*h2kit.GET, (b"upgrade", b"h2c")],
    "two lengths": [*h2kit.POST, (b"content-length", b"0"), (b"content-length", b"44")],
    "a length with a body that is none": [*h2kit.POST, (b"content-length", b"44")],
}


@pytest.mark.parametrize("name", SMUGGLED)
def test_nothing_of_what_would_smuggle_reaches_the_origin(name):
    async def go():
        async with front(h1_origin) as it:
            reader, writer = await it.connect()
            writer.write(h2kit.PREFACE + h2kit.settings() + h2kit.head(1, SMUGGLED[name]) + h2kit.head(3))
            peer = b""
            while b"got " not in peer:
                peer += await asyncio.wait_for(reader.read(65536), DEADLINE)
            resets = [one for one in h2kit.frames(peer) if one[0] == h2kit.RST]
            assert resets[0][2] == 1
            assert len(it.origins[0].heads) == 1 and b"admin" not in it.origins[0].heads[0]
            refused = [one for one in it.notes.finished if one.error is not None]
            assert len(refused) == 1 and refused[0].error.rule
            writer.close()

    asyncio.run(go())


def test_a_body_shorter_than_promised_never_looks_whole_behind():
    async def go():
        async with front(h1_origin) as it:
            _, writer = await it.connect()
            writer.write(
                h2kit.PREFACE + h2kit.settings() + h2kit.head(1, [*h2kit.POST, (b"content-length", b"10")], h2kit.EH)
            )
            writer.write(h2kit.data(1, b"abc"))
            await until(lambda: it.origins[0].heads)
            writer.write(h2kit.data(1, b"short", h2kit.ES))
            await until(lambda: it.origins[0].errors, "the origin's connection to be cut")
            assert it.notes.finished[0].error.rule == "wrong-length"
            writer.close()

    asyncio.run(go())


@pytest.mark.parametrize(
    "field",
    [
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("x", "y\r\nset-cookie: a=b"),
        ("content-length", "9x"),
    ],
)
def test_an_upstreams_answer_that_would_smuggle_is_a_502(field):
    async def go():
        def bad(peer, stream, headers):
            peer.conn.send_headers(stream, [(":status", "200"), field], end_stream=True)

        async with front(h2_origin(bad), protocol="h2c") as it:
            answer = await it.ask(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 502 ") and b"a=b" not in answer

    asyncio.run(go())


@pytest.mark.parametrize("how", ["goaway", "refused"])
def test_what_the_upstream_did_not_look_at_is_asked_once_more(how):
    async def go():
        times = []

        def first_not(peer, stream, headers):
            times.append(stream)
            if len(times) > 1:
                ok(peer, stream, headers)
            elif how == "refused":
                peer.conn.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
            else:
                peer.conn.close_connection(last_stream_id=0)

        async with front(h2_origin(first_not), protocol="h2c") as it:
            answer = await it.ask(b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and len(times) == 2

    asyncio.run(go())


def test_a_reset_by_the_client_resets_the_leg_and_only_that():
    async def go():
        origins = []

        def later(peer, stream, headers):
            origins.append(peer)
            if headers[":path"] == "/":
                ok(peer, stream, headers)

        async with front(h2_origin(later), protocol="h2c") as it:
            peer = await connect(it.port)
            stream = peer.ask([*GET[:3], (":path", "/never")])
            await until(lambda: origins)
            peer.conn.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
            peer.flush()
            await until(
                lambda: [one for one in origins[0].events if isinstance(one, h2.events.StreamReset)], "the leg's reset"
            )
            assert (await peer.answer(peer.ask()))[0] == 200
            assert it.origins[0].connections == 1 and it.upstream.busy == 0
            peer.close()

    asyncio.run(go())


@asynccontextmanager
async def application(app, **limits):
    """An ASGI application on a listener that takes h1 and h2."""
    loop = asyncio.get_running_loop()
    poller = Poller(loop)
    notes = Notes()
    service = Service(App(app, loop), name="test", clock=poller, limits=Limits(**limits), observer=notes)
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(100)
    sock.setblocking(False)
    listener = Listener(poller, sock, service, server_codec(["h1", "h2"], service.limits, poller.common))
    listener.start()
    try:
        yield listener, sock.getsockname()[1], notes
    finally:
        for tcp in list(listener.tcps):
            tcp.abort(None)
        listener.stop()
        sock.close()
        poller.close()


def test_a_stream_is_free_only_when_its_application_has_ended():
    async def go():
        gate, running = asyncio.Event(), []

        async def app(scope, receive, send):
            running.append(scope["path"])
            await gate.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"late"})

        async with application(app, streams=3) as (_, port, _notes):
            peer = await connect(port)
            await until(lambda: [one for one in peer.events if isinstance(one, h2.events.RemoteSettingsChanged)])
            for _ in range(3):
                stream = peer.ask()
                await until(lambda: running)
                peer.conn.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
                peer.flush()
            await until(lambda: len(running) == 3)
            stream = peer.ask()
            await until(lambda: peer.of(stream, h2.events.StreamReset), "a refusal")
            assert peer.of(stream, h2.events.StreamReset)[0].error_code == h2.errors.ErrorCodes.REFUSED_STREAM
            assert len(running) == 3
            gate.set()
            await asyncio.sleep(0)
            await until(lambda: True)
            status, _, body = await peer.answer(peer.ask())
            assert (status, body) == (200, b"late")
            peer.close()

    asyncio.run(go())


def test_a_drain_answers_what_was_on_its_way_and_closes():
    async def go():
        gate = asyncio.Event()

        async def app(scope, receive, send):
            await gate.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"done"})

        async with application(app) as (listener, port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(h2kit.PREFACE + h2kit.settings() + h2kit.head(1))
            await until(lambda: listener.tcps and next(iter(listener.tcps)).conn.requests == 1)
            drain = asyncio.get_running_loop().create_task(listener.drain(3))
            got = b""
            while b"fairdrop" not in got:
                got += await asyncio.wait_for(reader.read(65536), DEADLINE)
            writer.write(h2kit.head(3) + h2kit.frame(h2kit.PING, h2kit.ACK, 0, b"fairdrop") + h2kit.head(5))
            gate.set()
            got += await asyncio.wait_for(reader.read(), DEADLINE)
            assert await asyncio.wait_for(drain, DEADLINE) == 0
            frames = h2kit.frames(got)
            goodbyes = [int.from_bytes(one[3][:4], "big") for one in frames if one[0] == h2kit.GOAWAY]
            assert goodbyes == [0x7FFFFFFF, 3]
            assert sorted(one[2] for one in frames if one[0] == h2kit.DATA) == [1, 3]  # and 5 came too late
            writer.close()

    asyncio.run(go())


def test_the_scope_and_the_log_say_2():
    async def go():
        seen = []

        async def app(scope, receive, send):
            seen.append((scope["http_version"], scope["headers"][0], scope["scheme"]))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        async with application(app) as (_, port, notes):
            peer = await connect(port)
            await peer.answer(peer.ask())
            assert seen == [("2", (b"host", b"shop.example"), "http")]
            await until(lambda: notes.finished)
            journey = notes.finished[0].journey
            assert journey.spent_parse > 0 and journey.sent >= journey.encoded > 0
            peer.close()

    asyncio.run(go())


def test_several_requests_of_one_read_say_that_they_shared_it():
    async def go():
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x"})

        async with application(app) as (_, port, notes):
            peer = await connect(port)
            for _ in range(2):
                stream = peer.conn.get_next_available_stream_id()
                peer.conn.send_headers(stream, GET, end_stream=True)
            peer.flush()
            await peer.answer(3)
            await until(lambda: len(notes.finished) == 2)
            assert any(one.journey.shared for one in notes.finished)
            peer.close()

    asyncio.run(go())


def test_what_a_window_kept_waiting_is_named_in_the_journey():
    async def go():
        read = asyncio.Event()

        async def app(scope, receive, send):
            if scope["method"] == "POST":
                await asyncio.wait_for(read.wait(), DEADLINE)
                while (await receive()).get("more_body"):
                    pass
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * (1 if scope["method"] == "POST" else 70000)})

        async with application(app) as (_, port, notes):
            peer = await connect(port)
            credit = peer.conn.acknowledge_received_data
            held = []
            peer.conn.acknowledge_received_data = lambda size, stream: held.append((size, stream))
            stream = peer.ask()
            await until(lambda: sum(size for size, _ in held) == 65535, "a full window")
            for size, stream in held:
                credit(size, stream)
            peer.conn.acknowledge_received_data = credit
            peer.flush()
            assert len((await peer.answer(stream))[2]) == 70000
            up = peer.conn.get_next_available_stream_id()
            peer.conn.send_headers(up, POST)
            await until(lambda: peer.conn.local_flow_control_window(up) >= 65536, "our SETTINGS")
            while window := peer.conn.local_flow_control_window(up):
                peer.conn.send_data(up, b"x" * min(window, 16384))
            peer.flush()
            peer.conn.ping(b"are here")
            peer.flush()
            await until(lambda: any(isinstance(one, h2.events.PingAckReceived) for one in peer.events), "all of it")
            read.set()
            await until(lambda: peer.conn.local_flow_control_window(up) > 0, "our window")
            peer.conn.send_data(up, b"", end_stream=True)
            peer.flush()
            assert (await peer.answer(up))[0] == 200
            await until(lambda: len(notes.finished) == 2)
            down, uploaded = (one.journey for one in notes.finished)
            assert [name for name, _, took in down.custom if took > 0] == ["window-peer"]
            assert down.spent_client >= down.custom[0][2] and b"window-peer;dur=" in down.server_timing()
            assert [name for name, _, took in uploaded.custom if took > 0] == ["window-ours"]
            peer.close()

    asyncio.run(go())


def test_via_says_by_which_version_a_message_came():
    async def go():
        async with front(h1_origin) as it:
            peer = await connect(it.port)
            _, headers, _ = await peer.answer(peer.ask())
            assert b"\r\nvia: 2 fairlead\r\n" in it.origins[0].heads[0] and headers["via"] == "1.1 fairlead"
            await peer.answer(peer.ask([*GET, ("via", "1.0 a, 2 b")]))
            assert b"\r\nvia: 1.0 a, 2 b, 2 fairlead\r\n" in it.origins[0].heads[1]
            peer.close()
        async with front(h2_origin(ok), protocol="h2c") as it:
            answer = await it.ask(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            assert ("via", "1.0 fairlead") in it.origins[0].heads[0]
            assert b"\r\nvia: 2 fairlead\r\n" in answer

    asyncio.run(go())


def test_the_first_request_was_not_there_when_the_connection_s_settings_came():
    """A browser connects ahead: what it waits with its first request is not time that the request took."""

    async def go():
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        async with application(app) as (_, port, notes):
            peer = await connect(port)
            await until(lambda: [e for e in peer.events if isinstance(e, h2.events.SettingsAcknowledged)], "settings")
            asked = time.monotonic_ns()
            await peer.answer(peer.ask())
            await until(lambda: notes.finished, "the end")
            j = notes.finished[0].journey
            assert j.woken >= asked and (j.arrived == 0 or j.arrived >= asked)
            peer.close()

    asyncio.run(go())
