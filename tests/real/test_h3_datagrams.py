"""HTTP datagrams over HTTP/3: CONNECT-UDP by an ASGI application (`examples/udptunnel`), with the client of aioquic, on both
engines."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
from h3client import PATIENCE, Answer, Client
from peers import Real
from processes import free_port

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "udptunnel" / "app.py"
CONFIG = """
[server]
workers = 1
pattern = "single"
[admin]
page = "off"
[log]
access = "off"
[[listener]]
name = "qh3"
bind = "127.0.0.1:@PORT@"
protocols = ["h1", "h2", "h3"]
tls = "dev"
[[listener]]
name = "aioquic"
bind = "127.0.0.1:{other}"
protocols = ["h1", "h2", "h3"]
tls = "dev"
quic = {{ engine = "aioquic" }}
[[route]]
app = "tunnel:app"
"""


@pytest.fixture(scope="module")
def ports():
    with Real() as real:
        other = free_port()
        config = CONFIG.format(other=other)
        server = real.fairlead(config=config, files={"tunnel.py": EXAMPLE.read_text()}, port=free_port(), tls=True)
        yield {"qh3": server.port, "aioquic": other}


class Taking(Client):
    """A client that takes datagrams."""

    def __init__(self, port: int) -> None:
        super().__init__("aioquic", port, max_datagram_frame_size=65536)
        made = self.h3.H3Connection
        self.h3 = SimpleNamespace(H3Connection=lambda quic: made(quic, enable_webtransport=True))
        self.came: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()

    def heard(self, told) -> None:
        if type(told).__name__ == "DatagramReceived":
            self.came.put_nowait((told.stream_id, told.data))
        else:
            super().heard(told)

    def connect(self, path: str, protocol: bytes = b"connect-udp", authority: bytes = b"localhost") -> Answer:
        """An extended CONNECT."""
        stream = self.quic.get_next_available_stream_id()
        answer = self.answers[stream] = Answer()
        answer.stream = stream
        head = [(b":method", b"CONNECT"), (b":protocol", protocol), (b":scheme", b"https"), (b":authority", authority)]
        self.http.send_headers(stream, [*head, (b":path", path.encode()), (b"capsule-protocol", b"?1")])
        self.transmit()
        return answer

    async def exchange(self, stream: int, data: bytes) -> tuple[int, bytes]:
        """Said until something comes: a datagram may be lost."""
        for _ in range(100):
            self.http.send_datagram(stream, data)
            self.transmit()
            try:
                return await asyncio.wait_for(self.came.get(), PATIENCE / 100)
            except TimeoutError:
                continue
        raise AssertionError("no datagram came back")


@pytest.mark.parametrize("engine", ["qh3", "aioquic"])
def test_udp_goes_through_a_request(ports, engine):
    async def main() -> None:
        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, addr):
                self.transport.sendto(data.upper(), addr)

        loop = asyncio.get_running_loop()
        echo, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
        port = echo.get_extra_info("sockname")[1]
        async with Taking(ports[engine]) as client:
            tunnels = [client.connect(f"/.well-known/masque/udp/127.0.0.1/{port}/") for _ in range(2)]
            for tunnel in tunnels:
                await asyncio.wait_for(tunnel.begun, PATIENCE)
                assert tunnel.status == 200 and tunnel.headers["capsule-protocol"] == "?1"
            for tunnel in reversed(tunnels):
                while not client.came.empty():
                    client.came.get_nowait()
                words = b"\0tunnel %d " % tunnel.stream + b"x" * 900
                assert await client.exchange(tunnel.stream, words) == (tunnel.stream, words.upper())
            client.http.send_datagram(tunnels[0].stream, b"\x05another context")
            client.http.send_datagram(400, b"\0nobody's stream")
            client.http.send_data(tunnels[0].stream, b"", True)
            client.transmit()
            await asyncio.wait_for(tunnels[0].done, PATIENCE)
            assert (await client.exchange(tunnels[1].stream, b"\0still"))[1] in (b"\0STILL", words.upper())
        echo.close()

    asyncio.run(main())


@pytest.mark.parametrize("engine", ["qh3", "aioquic"])
def test_what_is_no_tunnel_is_refused(ports, engine):
    async def main() -> None:
        async with Taking(ports[engine]) as client:
            for path, protocol, status in (
                ("/.well-known/masque/udp/192.0.2.1/53/", b"connect-udp", 403),
                ("/.well-known/masque/udp/127.0.0.1/0/", b"connect-udp", 403),
                ("/.well-known/masque/udp/127.0.0.1/53/", b"connect-ip", 501),
            ):
                answer = client.connect(path, protocol)
                await asyncio.wait_for(answer.begun, PATIENCE)
                assert answer.status == status
            answer = await client.get("/.well-known/masque/udp/127.0.0.1/53/")
            assert answer.status == 501
        async with Client("aioquic", ports[engine]) as client:  # one that takes no datagrams: they are capsules then
            answer = Taking.connect(client, "/.well-known/masque/udp/127.0.0.1/53/")
            await asyncio.wait_for(answer.begun, PATIENCE)
            assert answer.status == 200

    asyncio.run(main())


def test_what_nobody_receives_is_bounded():
    from fairlead.serve import datagrams

    codec = SimpleNamespace(on_datagram=None, datagrams=True, say_datagram=lambda stream, data: False)
    request = SimpleNamespace(protocol=b"connect-udp", upgrade=b"", listed=list)
    exchange = SimpleNamespace(conn=SimpleNamespace(codec=codec), stream=5, request=request)
    found = {}
    datagrams.attach(exchange, found)
    made = found.pop("fairlead.datagram")
    for number in range(1000):
        codec.on_datagram(5, b"%d" % number)
    assert len(made.waiting) == datagrams.MOST and made.dropped == 1000 - datagrams.MOST
    assert asyncio.run(made.receive()) == b"744"
    codec.on_datagram(5, bytes(datagrams.BYTES))
    assert made.size <= datagrams.BYTES and len(made.waiting) == 1 and not made.send(b"late")
    codec.on_datagram(9, b"nobody's")
    exchange.intake = None
    del made
    codec.on_datagram(5, b"over")
    assert not codec.on_datagram.streams
