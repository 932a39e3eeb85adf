"""Upstreams over HTTP/3, WebSockets and gRPC over it: with the clients of aioquic and qh3, curl, websockets and grpcio, and a
server of aioquic's as origin.

One process of ours has two listeners: `edge` proxies everything to `web` over HTTP/3, and what is below /aioquic/ to the
other origin.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import aioquic.asyncio
import aioquic.h3.connection
import aioquic.h3.events
import aioquic.quic.configuration
import pytest
import websockets
from h3client import Answer, Client
from peers import Real
from processes import free_port

from fairlead.net import certs
from fairlead.wire import _plain

ROOT = Path(__file__).resolve().parents[2]
TODO = ROOT / "examples" / "todo"
APPS = Path(__file__).resolve().parent / "apps"
CONFIG = """
[server]
workers = 1
pattern = "single"
[admin]
page = "off"
[log]
access = "off"
[[listener]]
name = "edge"
bind = "127.0.0.1:@PORT@"
protocols = ["h1", "h2", "h3"]
tls = "dev"
[[listener]]
name = "web"
bind = "127.0.0.1:{web}"
protocols = ["h1", "h2", "h3"]
tls = "dev"
[[route]]
listener = "edge"
path = "/aioquic/*"
proxy = "aioquic"
[[route]]
listener = "edge"
path = "/nobody/*"
proxy = "nobody"
[[route]]
listener = "edge"
path = "/stranger/*"
proxy = "stranger"
[[route]]
listener = "edge"
proxy = "web"
[[route]]
listener = "web"
path = "/todo.v1.Todo/*"
grpc = "server:server"
[[route]]
listener = "web"
app = "h3back:app"
[[upstream]]
name = "web"
servers = ["127.0.0.1:{web}"]
protocol = "h3"
tls = {{ verify = false }}
[[upstream]]
name = "aioquic"
servers = ["localhost:{origin}"]
protocol = "h3"
tls = {{ ca = "{ca}" }}
[[upstream]]
name = "stranger"
servers = ["localhost:{origin}"]
protocol = "h3"
tls = true
[[upstream]]
name = "nobody"
servers = ["127.0.0.1:{nobody}"]
protocol = "h3"
tls = {{ verify = false }}
"""


class Origin(aioquic.asyncio.QuicConnectionProtocol):
    """aioquic's server: answers a request's body in capitals, and rejects what it is asked to."""

    def __init__(self, *args: object, **given: object) -> None:
        super().__init__(*args, **given)
        self.http = aioquic.h3.connection.H3Connection(self._quic)
        self.bodies: dict[int, bytearray] = {}
        self.heads: dict[int, dict[bytes, bytes]] = {}
        Seen.connections += 1

    def quic_event_received(self, event: object) -> None:
        for told in self.http.handle_event(event):
            stream = told.stream_id
            if isinstance(told, aioquic.h3.events.HeadersReceived) and stream not in self.heads:
                self.heads[stream] = dict(told.headers)
                self.bodies[stream] = bytearray()
            elif isinstance(told, aioquic.h3.events.DataReceived):
                self.bodies[stream] += told.data
            if told.stream_ended:
                self.answer(stream)
        self.transmit()

    def answer(self, stream: int) -> None:
        path = self.heads[stream][b":path"]
        Seen.asked.append(path)
        if path == b"/aioquic/rejected" and Seen.asked.count(path) == 1:
            self._quic.reset_stream(stream, 0x10B)
            return
        head = [(b":status", b"200"), (b"x-authority", self.heads[stream][b":authority"])]
        self.http.send_headers(stream, head)
        self.http.send_data(stream, bytes(self.bodies[stream]).upper(), False)
        self.http.send_headers(stream, [(b"x-tail", b"yes")], True)


class Seen:
    """What the origin saw."""

    connections = 0
    asked: list[bytes] = []


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """aioquic's server in a thread."""
    home = tmp_path_factory.mktemp("origin")
    authority = certs.dev_ca(home)
    cert, key = authority.leaf()
    configuration = aioquic.quic.configuration.QuicConfiguration(is_client=False, alpn_protocols=["h3"])
    configuration.load_cert_chain(cert, key)
    loop = asyncio.new_event_loop()
    port = free_port()

    async def start() -> object:
        return await aioquic.asyncio.serve("127.0.0.1", port, configuration=configuration, create_protocol=Origin)

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    yield SimpleNamespace(port=port, ca=authority.ca_path)
    loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture(scope="module")
def real() -> Iterator[Real]:
    with Real() as peers:
        yield peers


@pytest.fixture(scope="module")
def server(real: Real, origin: SimpleNamespace) -> SimpleNamespace:
    web = free_port()
    config = CONFIG.format(web=web, origin=origin.port, ca=origin.ca, nobody=free_port())
    home = real.home()
    shutil.copytree(TODO, home, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "node", "fairlead.toml"))
    files = {name: (APPS / name).read_text() for name in ("h3app.py", "h3back.py")}
    started = real.fairlead(config=config, files=files, home=home, port=free_port(), tls=True)
    return SimpleNamespace(port=started.port, web=web, process=started)


@pytest.mark.parametrize("library", ["aioquic", "qh3"])
def test_over_http_3_in_front_and_behind(server, library):
    async def main() -> None:
        async with Client(library, server.port) as client:
            answer = await client.get("/who")
            assert answer.body.startswith(b"http/3 GET "), answer.body
            assert answer.headers["via"] == "3 fairlead"
            answer = await client.post("/digest", b"\x01\x02" * 150_000)
            assert answer.body.startswith(b"300000 ")
            answer = await client.get("/large/700000")
            assert len(answer.body) == 700_000
            answers = await asyncio.gather(*(client.get("/who") for _ in range(40)))
            assert {one.status for one in answers} == {200}
            answer = await client.get("/events")
            assert answer.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
            answer = await client.get("/trailers")
            assert (answer.body, answer.headers["x-sum"]) == (b"with trailers", "17")
            assert answer.headers["link"] == "</style.css>; rel=preload"

    asyncio.run(main())


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_older_versions_in_front(server, real, version):
    answer = real.curl(f"https://127.0.0.1:{server.port}/who", version, "-k")
    assert answer.text.startswith("http/3 GET "), answer.text
    answer = real.curl(f"https://127.0.0.1:{server.port}/digest", version, "-k", "--data-binary", "x" * 100_000)
    assert answer.text.startswith("100000 ")


def test_aioquic_as_the_origin(server, origin):
    async def main() -> None:
        async with Client("aioquic", server.port) as client:
            body = b"hello " * 30_000
            answer = await client.post("/aioquic/echo", body)
            assert (answer.status, bytes(answer.body)) == (200, body.upper())
            assert answer.headers["x-tail"] == "yes"
            before = Seen.connections
            await asyncio.gather(*(client.post("/aioquic/echo", b"x") for _ in range(30)))
            assert Seen.connections == before, "they share one connection"
            answer = await client.get("/aioquic/rejected")
            assert answer.status == 200, "what was rejected was asked once more"
            assert Seen.asked.count(b"/aioquic/rejected") == 2

    asyncio.run(main())


def test_an_origin_that_is_not_there_or_not_who_it_says(server):
    async def main() -> None:
        async with Client("qh3", server.port) as client:
            answer = await client.get("/nobody/home")
            assert answer.status == 502
            answer = await client.get("/stranger/danger")
            assert answer.status == 502, "its certificate is nobody's whom we trust"

    asyncio.run(main())


def test_a_websocket_of_http_1_goes_over_an_upstream_of_http_3(server):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    async def main() -> None:
        async with websockets.connect(f"wss://127.0.0.1:{server.port}/ws", ssl=context, proxy=None) as socket:
            assert socket.response.headers["x-version"] == "3"
            await socket.send("hello")
            assert await socket.recv() == "hello"
            await socket.send(b"\0" * 200_000)
            assert await socket.recv() == b"\0" * 200_000

    asyncio.run(main())


@pytest.mark.parametrize("library", ["aioquic", "qh3"])
@pytest.mark.parametrize("where", ["port", "web"])
def test_a_websocket_over_http_3(server, library, where):
    key = 0x01020304

    async def main() -> None:
        async with Client(library, getattr(server, where)) as client:
            fields = [(b":protocol", b"websocket"), (b"sec-websocket-version", b"13")]
            answer = ask_connect(client, fields)
            await asyncio.wait_for(answer.begun, 30)
            assert answer.status == 200
            said = [(0x81, b"over http/3"), (0x82, b"x" * 70_000), (0x88, b"\x03\xe8")]
            client.http.send_data(answer.stream, b"".join(_plain.frame(*one, key) for one in said), True)
            client.transmit()
            await asyncio.wait_for(answer.done, 30)
            assert bytes(answer.body) == b"".join(_plain.frame(*one, -1) for one in said)

    asyncio.run(main())


def ask_connect(client: Client, fields: list[tuple[bytes, bytes]]):
    """An extended CONNECT; pseudo-header fields come first."""
    stream = client.quic.get_next_available_stream_id()
    answer = client.answers[stream] = Answer()
    answer.stream = stream
    head = [(b":method", b"CONNECT"), fields[0], (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/ws")]
    client.http.send_headers(stream, head + fields[1:])
    client.transmit()
    return answer


@pytest.mark.parametrize("where", ["port", "web"])
def test_a_grpc_call_over_http_3(server, where):
    pytest.importorskip("grpc")
    sys.path.insert(0, str(TODO))
    import todo_pb2 as pb

    async def main() -> None:
        async with Client("aioquic", getattr(server, where)) as client:
            message = pb.Item(text="over http/3").SerializeToString()
            fields = [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
            body = b"\0" + len(message).to_bytes(4, "big") + message
            answer = await client.get("/todo.v1.Todo/CreateTodo", method="POST", body=body, fields=fields)
            assert (answer.headers["grpc-status"], answer.headers["content-type"]) == ("0", "application/grpc")
            assert pb.Item.FromString(bytes(answer.body[5:])).text == "over http/3"
            answer = await client.get("/todo.v1.Todo/CreateTodo", method="POST", body=b"\0\0\0\0\0", fields=fields)
            assert answer.headers["grpc-status"] == "3", "an item needs a text"

    asyncio.run(main())


def test_grpcio_in_front_and_http_3_behind(server, real):
    grpc = pytest.importorskip("grpc")
    sys.path.insert(0, str(TODO))
    import todo_pb2 as pb
    import todo_pb2_grpc as rpc

    ca = ssl.get_server_certificate(("127.0.0.1", server.port)).encode()
    credentials = grpc.ssl_channel_credentials(ca)
    options = [("grpc.ssl_target_name_override", "localhost")]
    with grpc.secure_channel(f"127.0.0.1:{server.port}", credentials, options) as channel:
        todo = rpc.TodoStub(channel)
        assert todo.CreateTodo(pb.Item(text="by grpcio"), timeout=30).text == "by grpcio"
        with pytest.raises(grpc.RpcError) as raised:
            todo.CreateTodo(pb.Item(), timeout=30)
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_stop_lets_what_is_open_finish(real):
    config = CONFIG.format(web=free_port(), origin=1, ca="", nobody=1).partition("[[listener]]")[0]
    config += '[[listener]]\nbind = "127.0.0.1:@PORT@"\nprotocols = ["h1", "h3"]\ntls = "dev"\n[[route]]\napp = "h3app:app"\n'
    server = real.fairlead(config=config, files={"h3app.py": (APPS / "h3app.py").read_text()}, port=free_port(), tls=True)

    async def main() -> None:
        async with Client("aioquic", server.port) as client:
            upload = client.ask("/digest", method="POST", body=b"x" * 1000, end=False)
            ticks = client.ask("/ticks/8")
            await asyncio.wait_for(ticks.begun, 30)
            server.signal(signal.SIGTERM)
            await asyncio.to_thread(server.says, "finishing what is open")
            client.http.send_data(upload.stream, b"y" * 200_000, True)
            client.transmit()
            await asyncio.wait_for(asyncio.gather(upload.done, ticks.done), 30)
            assert upload.body.startswith(b"201000 ")
            assert ticks.body == b"0 1 2 3 4 5 6 7 "

    asyncio.run(main())
