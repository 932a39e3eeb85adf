"""WebSockets of real frameworks, unchanged, asked by `websockets`, aiohttp and Chromium; the log, a drain, a kill."""

import asyncio
import json
import re
import ssl
from collections.abc import Iterator

import pytest
from browser import Browser
from peers import Real
from processes import Process, eventually
from wsclient import Client

websockets = pytest.importorskip("websockets")
aiohttp = pytest.importorskip("aiohttp")
pytest.importorskip("channels")
pytest.importorskip("fastapi")
FRAMEWORKS = ["starlette", "fastapi", "channels"]
MESSAGES = ["", "hi", "é" * 40000, b"", bytes(range(256)) * 1000]


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    with Real() as peers:
        args = ("--workers", "1", "--page", "off", "--access-log", "access.log")
        yield peers.fairlead("websockets_all:app", *args)


def run(server: Process, path: str, scenario, **options):
    """`scenario(websocket)` with a client of `websockets`."""

    async def talk():
        url = f"ws://127.0.0.1:{server.port}{path}"
        async with websockets.connect(url, max_size=None, proxy=None, **options) as websocket:
            return await scenario(websocket)

    return asyncio.run(asyncio.wait_for(talk(), 30))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("compression", ["deflate", None])
def test_messages_come_back_and_subprotocol_and_headers_are_there(server: Process, framework: str, compression: str) -> None:
    async def scenario(websocket):
        assert websocket.subprotocol == "v1"
        assert websocket.response.headers["x-framework"] == framework
        assert ("permessage-deflate" in websocket.response.headers.get("sec-websocket-extensions", "")) == bool(compression)
        for message in MESSAGES:
            await websocket.send(message)
            assert await websocket.recv() == message
        await websocket.send(["in ", "three ", "parts"])
        assert await websocket.recv() == "in three parts"
        await (await websocket.ping(b"?"))
        await websocket.send("who")
        assert await websocket.recv() == "127.0.0.1"

    run(server, f"/{framework}/room", scenario, subprotocols=["v2", "v1"], compression=compression)
    server.says(f"{framework}: 1000")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_application_closes_raises_and_floods(server: Process, framework: str) -> None:
    async def closing(websocket):
        await websocket.send("close")
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            await websocket.recv()
        return websocket.close_code, websocket.close_reason

    async def raising(websocket):
        await websocket.send("raise")
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            await websocket.recv()
        return websocket.close_code

    async def flooding(websocket):
        await websocket.send("flood")
        await asyncio.sleep(0.2)  # nobody reads: the application has to wait
        return [int((await websocket.recv()).split()[0]) for _ in range(2000)]

    assert run(server, f"/{framework}/room", closing) == (4001, "as asked")
    assert run(server, f"/{framework}/room", raising) == 1011
    assert run(server, f"/{framework}/room", flooding, max_queue=1) == list(range(2000))
    server.says("ValueError: as asked")


@pytest.mark.parametrize(("framework", "status"), [("starlette", 401), ("fastapi", 403), ("channels", 403)])
def test_a_refusal_is_an_http_answer(server: Process, framework: str, status: int) -> None:
    async def never(websocket):
        raise AssertionError("it was let in")

    with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
        run(server, f"/{framework}/deny", never)
    assert caught.value.response.status_code == status
    if framework == "starlette":
        assert caught.value.response.body == b"members only"


def test_a_blocking_consumer_answers_from_its_thread(server: Process) -> None:
    async def scenario(websocket):
        await websocket.send("hi")
        return await websocket.recv()

    assert run(server, "/channels/sync", scenario) == "from a thread: hi"


def test_aiohttp_is_served_with_and_without_compression(server: Process) -> None:
    async def talk() -> None:
        url = f"http://127.0.0.1:{server.port}/fastapi/x"
        async with aiohttp.ClientSession() as session:
            for compress in (0, 9, 15):
                async with session.ws_connect(url, compress=compress, max_msg_size=0) as websocket:
                    for message in MESSAGES:
                        await (websocket.send_str if isinstance(message, str) else websocket.send_bytes)(message)
                        assert (await websocket.receive(10)).data == message

    asyncio.run(talk())


def test_a_lost_client_is_1006_and_in_the_log_one_line_counts_the_messages(server: Process) -> None:
    with Client(server.port, "/starlette/counted", compress=True) as client:
        client.say("a", b"b", "c")
        assert [client.receive() for _ in range(3)] == ["a", b"b", "c"]
        assert client.close(3000, "enough") == (3000, "")
    server.says("starlette: 3000")
    with Client(server.port, "/starlette/lost") as client:
        client.say("x")
        client.receive()
    server.says("starlette: 1006")
    log = server.home / "access.log"
    eventually(lambda: "/starlette/counted" in log.read_text() and "/starlette/lost" in log.read_text())
    [line] = [line for line in log.read_text().splitlines() if "/starlette/counted" in line]
    assert re.search(r'"GET /starlette/counted HTTP/1.1" 101 .* end=- messages=3/3', line)


PAGE = """
<script>
const said = [];
const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws", ["v1"]);
socket.binaryType = "arraybuffer";
socket.onopen = () => { socket.send("x".repeat(5000)); socket.send(new Uint8Array([1, 2, 3])); };
socket.onmessage = (event) => {
  said.push(typeof event.data === "string" ? event.data.length : [...new Uint8Array(event.data)].join());
  if (said.length === 2) socket.close(3001, "done");
};
socket.onclose = (event) => {
  said.push([event.code, event.reason, event.wasClean, socket.protocol, socket.extensions].join("|"));
};
function other(url) {
  return new Promise((resolve) => {
    const socket = new WebSocket(url);
    socket.onopen = () => resolve("open");
    socket.onclose = (event) => resolve("closed " + event.code);
  });
}
</script>
"""
BROWSED = """
PAGE = %r

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": PAGE.encode()})
        return
    await receive()
    await send({"type": "websocket.accept", "subprotocol": (scope["subprotocols"] or [None])[0]})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})
    print(f"{scope['http_version']} {scope['scheme']} {event['code']} {event['reason']}", flush=True)
"""
FILE = """
[[listener]]
bind = "127.0.0.1:@PORT@"
[[route]]
app = "browsed:app"
[route.websocket]
origins = ["self"]
"""


def test_chromium_talks_and_another_sites_page_is_kept_out(real: Real) -> None:
    server = real.fairlead(config=FILE, files={"browsed.py": BROWSED % PAGE})
    other = real.fairlead("browsed:app", "--page", "off", files={"browsed.py": BROWSED % PAGE})
    with Browser() as browser:
        browser.goto(server.url + "/")
        browser.wait("typeof said !== 'undefined' && said.length === 3")
        first, second, last = browser.run("said")
        assert (first, second) == (5000, "1,2,3")
        code, reason, clean, protocol, extensions = last.split("|")
        assert (code, reason, clean, protocol) == ("3001", "", "true", "v1")
        assert "permessage-deflate" in extensions
        server.says("1.1 ws 3001 done")
        browser.goto(other.url + "/")
        browser.wait("typeof other === 'function'")
        hijack = f"other('ws://127.0.0.1:{server.port}/ws')"
        assert browser.run(hijack) == "closed 1006"
        assert browser.run(f"other('ws://127.0.0.1:{other.port}/ws')") == "open"


def test_a_drain_tells_clients_that_the_server_restarts(real: Real) -> None:
    config = FILE.replace("[[listener]]", '[server]\ngrace = "0.2s"\n[[listener]]', 1)
    server = real.fairlead(config=config, files={"browsed.py": BROWSED % PAGE})
    with Client(server.port, "/ws") as client:
        client.say("still there?")
        assert client.receive() == "still there?"
        server.signal(15)
        client.echo()
        assert client.ended is not None
        assert client.ended[0] == 1012
    assert server.wait() == 0
    server.says("1.1 ws 1012")


def test_over_tls_the_scheme_is_wss(real: Real) -> None:
    server = real.fairlead("browsed:app", "--tls", "dev", "--page", "off", files={"browsed.py": BROWSED % PAGE})
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    async def talk() -> None:
        async with websockets.connect(f"wss://127.0.0.1:{server.port}/", ssl=context, proxy=None) as websocket:
            await websocket.send(json.dumps({"a": "€" * 5000}))
            assert json.loads(await websocket.recv()) == {"a": "€" * 5000}

    asyncio.run(talk())
    server.says("1.1 wss 1000")


SECURE = """
[[listener]]
bind = "127.0.0.1:@PORT@"
protocols = ["h1", "h2"]
tls = "dev"
"""
OURS = """
[[route]]
app = "browsed:app"
[route.websocket]
origins = ["self"]
"""


def test_chromium_talks_over_http_2(real: Real) -> None:
    server = real.fairlead(config=SECURE + OURS, files={"browsed.py": BROWSED % PAGE}, tls=True)
    with Browser() as browser:
        browser.call("Security.enable")
        browser.call("Security.setIgnoreCertificateErrors", ignore=True)
        browser.goto(server.url + "/")
        browser.wait("typeof said !== 'undefined' && said.length === 3")
        first, second, last = browser.run("said")
        assert (first, second) == (5000, "1,2,3")
        assert last.startswith("3001||true|v1|permessage-deflate")
    server.says("2 wss 3001 done")


THROUGH = """
[[route]]
proxy = "behind"
[[upstream]]
name = "behind"
protocol = "VERSION"
servers = ["127.0.0.1:BEHIND"]
"""
PLAIN = SECURE.replace('tls = "dev"\n', "")


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize(("version", "behind_says"), [("h1", "1.1"), ("h2c", "2")])
def test_a_websocket_crosses_from_either_version_to_either(real: Real, version: str, behind_says: str) -> None:
    behind = real.fairlead(config=PLAIN + OURS.replace('["self"]', '["*"]'), files={"browsed.py": BROWSED % PAGE})
    through = THROUGH.replace("VERSION", version).replace("BEHIND", str(behind.port))
    front = real.fairlead(config=SECURE + through, tls=True)

    async def talk() -> None:
        url = f"wss://127.0.0.1:{front.port}/ws"
        async with websockets.connect(url, ssl=trusting(), proxy=None, subprotocols=["v1"], max_size=None) as websocket:
            assert websocket.subprotocol == "v1"
            for message in MESSAGES:
                await websocket.send(message)
                assert await websocket.recv() == message
            await websocket.close(4000, "over")
            assert websocket.close_code == 4000

    asyncio.run(talk())  # HTTP/1.1 in front
    behind.says(f"{re.escape(behind_says)} wss 4000 over")  # it believes what the front says of the client
    with Browser() as browser:  # HTTP/2 in front
        browser.call("Security.enable")
        browser.call("Security.setIgnoreCertificateErrors", ignore=True)
        browser.goto(front.url + "/")
        browser.wait("typeof said !== 'undefined' && said.length === 3")
        assert browser.run("said")[2].startswith("3001||true|v1|permessage-deflate")
    behind.says(f"{re.escape(behind_says)} wss 3001 done")
    front.says('"CONNECT /ws HTTP/2" 200')


def test_an_upstream_that_does_not_switch_opens_no_tunnel(real: Real) -> None:
    origin = real.nginx('server { listen 127.0.0.1:@PORT@; location / { return 200 "hi"; } }')
    through = THROUGH.replace("VERSION", "h1").replace("BEHIND", str(origin.port))
    front = real.fairlead(config=SECURE + through + "[log]\naccess = \"-\"\n", tls=True)
    with Browser() as browser:
        browser.call("Security.enable")
        browser.call("Security.setIgnoreCertificateErrors", ignore=True)
        browser.goto(front.url + "/")
        browser.wait("document.body && document.body.textContent.includes('hi')")
        script = f"""new Promise((resolve) => {{
            const socket = new WebSocket("wss://127.0.0.1:{front.port}/ws");
            socket.onclose = (event) => resolve(event.code);
            socket.onopen = () => resolve("open");
        }})"""
        assert browser.run(script) == 1006
    front.says('/ws HTTP/2" 502')
