"""HTTP/3 with programs we did not write: the clients of aioquic and qh3, over both of our engines. Others: test_h3_matrix.py."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from h3client import Client
from peers import Real
from processes import free_port

APP = Path(__file__).resolve().parent / "apps" / "h3app.py"
CONFIG = """
[server]
workers = 2
pattern = "{pattern}"
grace = "5s"
[admin]
page = "off"
[log]
access = "{access}"
[[listener]]
name = "web"
bind = "127.0.0.1:@PORT@"
protocols = ["h1", "h2", "h3"]
early_data = true
tls = "dev"
quic = {{ engine = "{engine}", datagram = 1452 }}
[[route]]
app = "h3app:app"
"""
LIBRARIES = ("aioquic", "qh3")


def start(real: Real, engine: str = "qh3", pattern: str = "reuseport", access: str = "off"):
    """A server on a port that TCP and UDP have free."""
    config = CONFIG.format(engine=engine, pattern=pattern, access=access)
    return real.fairlead(config=config, files={"h3app.py": APP.read_text()}, port=free_port(), tls=True)


@pytest.fixture(scope="module")
def servers():
    with Real() as real:
        yield {engine: start(real, engine) for engine in ("qh3", "aioquic")}


@pytest.mark.parametrize("engine", ["qh3", "aioquic"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_each_client_gets_pages_uploads_and_streams_from_each_engine(servers, library, engine):
    async def main() -> None:
        async with Client(library, servers[engine].port) as client:
            answer = await client.get("/who")
            assert answer.status == 200 and answer.body.startswith(b"http/3 GET ")
            answer = await client.post("/digest", b"\x01\x02" * 150_000)
            assert answer.body.startswith(b"300000 ")
            answer = await client.get("/large/700000")
            assert len(answer.body) == 700_000
            answers = await asyncio.gather(*(client.get("/who") for _ in range(20)))
            assert {one.status for one in answers} == {200}
            answer = await client.get("/events")
            assert answer.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"

    asyncio.run(main())


@pytest.fixture(scope="module")
def url(servers):
    return f"https://localhost:{servers['qh3'].port}"


def test_answers_over_tcp_tell_of_http3(real, url):
    for version in ("--http1.1", "--http2"):
        answer = real.curl(f"{url}/who", version, "-k", "--ipv4")
        assert answer.header("alt-svc") == f'h3=":{url.rpartition(":")[2]}"; ma=86400'
