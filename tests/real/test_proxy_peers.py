"""The reverse proxy between real programs: nginx and HAProxy in front and behind, a WebSocket server, large bodies."""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from peers import Real
from processes import Process, unavailable

FILE = """
[[listener]]
name = "web"
bind = "127.0.0.1:@PORT@"

[[route]]
path = "/*"
proxy = {{ upstream = "origin"{options} }}

[[upstream]]
name = "origin"
servers = [{servers}]
"""
ORIGIN = """
server {
  listen 127.0.0.1:@PORT@;
  keepalive_requests 1000000;
  location = /hello { return 200 "hello\\n"; }
  location = /empty { return 204; }
  location = /moved { return 302 /hello; }
  location = /who { return 200 "$http_host|$http_x_forwarded_for|$http_x_forwarded_proto|$http_via|$connection\\n"; }
  location /files/ { alias @FOLDER@/; }
}
"""


def proxied(real: Real, *ports: int, options: str = "") -> Process:
    """Ours, in front of these ports."""
    servers = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
    return real.fairlead("--workers", "1", config=FILE.format(servers=servers, options=options))


def resident(process: Process) -> int:
    """KiB in memory of the whole tree."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
            if os.getpgid(int(status.parent.name)) == process.pid:
                total += int(text.partition("VmRSS:")[2].split()[0])
        except (OSError, ValueError, IndexError):
            continue
    return total


@pytest.fixture
def origin(real: Real) -> Process:
    """nginx with a few answers."""
    return real.nginx(ORIGIN)


def test_nginx_as_an_origin(real: Real, origin: Process) -> None:
    server = proxied(real, origin.port)
    assert (answer := real.curl(f"{server.url}/hello")).status == 200 and answer.text == "hello\n"
    assert answer.header("via") == "1.1 fairlead" and answer.header("server").startswith("nginx")
    assert real.curl(f"{server.url}/empty").status == 204
    assert real.curl(f"{server.url}/moved").header("location")
    assert real.curl(f"{server.url}/none").status == 404
    assert real.curl(f"{server.url}/hello", "-I").header("content-length") == "6"
    who = real.curl(f"{server.url}/who", "-H", "Host: shop.example").text.strip().split("|")
    assert who[:4] == ["shop.example", "127.0.0.1", "http", "1.1 fairlead"]


def test_one_connection_to_nginx_carries_many_requests(real: Real, origin: Process) -> None:
    server = proxied(real, origin.port)
    url = f"{server.url}/who"
    seen = {real.curl(url).text.strip().split("|")[4] for _ in range(5)}
    assert len(seen) == 1
    load = real.wrk(f"{server.url}/hello", connections=16)
    assert load.clean, load.text


def test_nginx_in_front_keeps_its_clients_address(real: Real, origin: Process) -> None:
    server = proxied(real, origin.port)
    front = real.nginx(
        f"""upstream us {{ server 127.0.0.1:{server.port}; keepalive 8; }}
        server {{ listen 127.0.0.1:@PORT@; location / {{ proxy_pass http://us; proxy_http_version 1.1;
          proxy_set_header Connection ""; proxy_set_header Host $host; proxy_set_header X-Forwarded-For 203.0.113.7;
          proxy_set_header X-Forwarded-Proto https; }} }}"""
    )
    host, chain, proto, _via, _ = real.curl(f"{front.url}/who", "-H", "Host: shop.example").text.strip().split("|")
    assert (host, chain, proto) == ("shop.example", "203.0.113.7, 127.0.0.1", "https")
    assert (load := real.wrk(f"{front.url}/hello", connections=16)).clean, load.text


def test_haproxy_in_front_and_behind(real: Real, origin: Process) -> None:
    inner = real.haproxy(
        f"""frontend f
  bind 127.0.0.1:@PORT@
  default_backend b
backend b
  http-reuse always
  server o 127.0.0.1:{origin.port}"""
    )
    server = proxied(real, inner.port)
    outer = real.haproxy(
        f"""frontend f
  bind 127.0.0.1:@PORT@
  option forwardfor
  default_backend b
backend b
  http-reuse always
  server o 127.0.0.1:{server.port}"""
    )
    assert real.curl(f"{outer.url}/hello").text == "hello\n"
    assert (load := real.wrk(f"{outer.url}/hello", connections=16)).clean, load.text


def test_the_next_server_answers_when_one_is_gone(real: Real, origin: Process) -> None:
    gone = real.nginx(ORIGIN)
    server = proxied(real, gone.port, origin.port)
    assert {real.curl(f"{server.url}/hello").status for _ in range(4)} == {200}
    gone.stop()
    assert {real.curl(f"{server.url}/hello").status for _ in range(6)} == {200}
    origin.stop()
    assert real.curl(f"{server.url}/hello").status in (502, 503)


def test_a_large_file_comes_through_whole_in_flat_memory(real: Real, origin: Process) -> None:
    size = 200_000_000
    with open(origin.home / "big", "wb") as file:
        file.truncate(size)
    server = proxied(real, origin.port)
    real.curl(f"{server.url}/hello")
    before = resident(server)
    answer = real.curl(f"{server.url}/files/big", "-w", "%{size_download}", "-o", "/dev/null", seconds=60)
    assert answer.exit_code == 0, answer.stderr
    assert resident(server) - before < 16_000


def test_a_large_upload_goes_through_whole_in_flat_memory(real: Real, tmp_path: Path) -> None:
    size = 100_000_000
    for name, length in (("small", size // 10), ("big", size)):
        with open(tmp_path / name, "wb") as file:
            file.truncate(length)
    with swallowing() as port:
        server = proxied(real, port)
        real.curl(f"{server.url}/", "-T", str(tmp_path / "small"), "-H", "Expect:", seconds=60)
        before = resident(server)
        answer = real.curl(f"{server.url}/", "-T", str(tmp_path / "big"), "-H", "Expect:", seconds=60)
        assert (answer.status, answer.text) == (200, str(size)), answer.stderr
        assert resident(server) - before < 16_000


def test_websockets_come_through(real: Real) -> None:
    try:
        import aiohttp
    except ImportError:
        unavailable("aiohttp is not installed")
    with web_sockets() as port:
        server = proxied(real, port)

        async def talk() -> list[Any]:
            async with aiohttp.ClientSession() as session, session.ws_connect(f"{server.url}/ws") as ws:
                heard = []
                for text in ("one", "two", "x" * 300_000):
                    await ws.send_str(text)
                    heard.append((await ws.receive(timeout=10)).data)
                await ws.send_bytes(bytes(range(256)))
                heard.append((await ws.receive(timeout=10)).data)
                assert await ws.close()
                return heard

        heard = asyncio.run(talk())
        assert heard == ["one", "two", "x" * 300_000, bytes(range(256))]


@contextmanager
def serving(start: Any) -> Iterator[int]:
    """A small asyncio server in a thread: `await start()` gives its port and what to await at the end."""
    ready = threading.Event()
    state: dict[str, Any] = {}

    async def main() -> None:
        state["stop"] = asyncio.Event()
        state["loop"] = asyncio.get_running_loop()
        state["port"], end = await start()
        ready.set()
        await state["stop"].wait()
        await end()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(20)
    try:
        yield state["port"]
    finally:
        state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join(20)


def swallowing() -> Any:
    """An origin that counts the bytes of a body and answers with their number."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            left = size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            while left:
                left -= len(await reader.read(1 << 18))
            text = str(size).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def start() -> Any:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)

        async def end() -> None:
            server.close()

        return server.sockets[0].getsockname()[1], end

    return serving(start)


def web_sockets() -> Any:
    """aiohttp as a WebSocket server that says everything back."""

    async def start() -> Any:
        from aiohttp import web

        async def talk(request: Any) -> Any:
            ws = web.WebSocketResponse()
            await ws.prepare(request)
            async for message in ws:
                if message.type.name == "TEXT":
                    await ws.send_str(message.data)
                elif message.type.name == "BINARY":
                    await ws.send_bytes(message.data)
            return ws

        app = web.Application()
        app.router.add_get("/ws", talk)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner.addresses[0][1], runner.cleanup

    return serving(start)


SECURE = """
server {
  listen 127.0.0.1:@PORT@ ssl;
  ssl_certificate @CERT@;
  ssl_certificate_key @KEY@;
  ssl_protocols TLSv1.2 TLSv1.3;
  location / { return 200 "$ssl_protocol $ssl_server_name\\n"; }
}
"""


def test_an_upstream_over_tls_is_verified_and_asked_by_name(real: Real) -> None:
    origin = real.nginx(SECURE, tls=True)
    trusted = f'[upstream.tls]\nca = "{origin.home}/cert.pem"\nname = "localhost"\n'
    server = real.fairlead("--workers", "1", config=FILE.format(servers=f'"127.0.0.1:{origin.port}"', options="") + trusted)
    answers = {real.curl(f"{server.url}/").text for _ in range(3)}
    assert answers == {"TLSv1.3 localhost\n"}


def test_an_upstream_whose_certificate_nobody_vouches_for_is_a_502(real: Real) -> None:
    origin = real.nginx(SECURE, tls=True)
    untrusting = '[upstream.tls]\nname = "localhost"\n'
    server = real.fairlead("--workers", "1", config=FILE.format(servers=f'"127.0.0.1:{origin.port}"', options="") + untrusting)
    assert real.curl(f"{server.url}/").status == 502
