"""CONNECT-UDP (RFC 9298) over all three versions, behind each way there is to an application: in its own worker, behind a front,
and through a proxy that speaks each version to its upstream. Clients: aioquic's, the h2 package, and a TLS socket.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from pathlib import Path

import pytest
from h3client import PATIENCE
from peers import Real
from processes import free_port
from test_h3_datagrams import Taking

from fairlead.wire.capsules import Split, capsule

h2_connection = pytest.importorskip("h2.connection")
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "udptunnel" / "app.py"
APP = """
[server]
workers = 1
pattern = "{pattern}"
[admin]
page = "off"
[log]
access = "off"
[[listener]]
bind = "127.0.0.1:@PORT@"
protocols = ["h1", "h2", "h3"]
tls = "dev"
[[route]]
app = "tunnel:app"
"""
PROXY = """
[server]
workers = 1
[admin]
page = "off"
[log]
access = "off"
[[listener]]
bind = "127.0.0.1:@PORT@"
protocols = ["h1", "h2", "h3"]
tls = "dev"
"""
BEHIND = """
[[upstream]]
name = "{name}"
servers = ["localhost:{port}"]
protocol = "{name}"
[upstream.tls]
verify = false
[[route]]
host = "{name}.test"
proxy = "{name}"
"""


@pytest.fixture(scope="module")
def ports():
    with Real() as real:
        files = {"tunnel.py": EXAMPLE.read_text()}
        made = {}
        for pattern in ("single", "dispatch"):
            server = real.fairlead(config=APP.format(pattern=pattern), files=files, port=free_port(), tls=True)
            made[pattern] = server.port
        behind = "".join(BEHIND.format(name=name, port=made["single"]) for name in ("h1", "h2", "h3"))
        made["proxy"] = real.fairlead(config=PROXY + behind, port=free_port(), tls=True).port
        yield made


@pytest.fixture(scope="module")
def echo():
    """The port of a UDP echo that answers in capitals."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))

    def run() -> None:
        while True:
            data, peer = sock.recvfrom(65536)
            if data == b"end":
                return
            sock.sendto(data.upper(), peer)

    thread = threading.Thread(target=run)
    thread.start()
    yield sock.getsockname()[1]
    sock.sendto(b"end", sock.getsockname())
    thread.join()
    sock.close()


class Wire:
    """A tunnel over TCP: `send` and `read` its bytes."""

    def __init__(self, port: int, alpn: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols([alpn])
        self.sock = context.wrap_socket(socket.create_connection(("127.0.0.1", port), PATIENCE), server_hostname="localhost")
        self.split = Split()
        self.waiting: list[bytes] = []

    def datagram(self) -> bytes:
        while not self.waiting:
            self.waiting += self.split.feed(self.read())[0]
        return self.waiting.pop(0)


class One(Wire):
    """HTTP/1.1 (RFC 9298 section 3.2)."""

    def __init__(self, port: int, host: str, path: str, protocol: str = "connect-udp") -> None:
        super().__init__(port, "http/1.1")
        head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\nCapsule-Protocol: ?1\r\n\r\n"
        self.sock.sendall(head.encode())
        raw = b""
        while b"\r\n\r\n" not in raw:
            raw += self.sock.recv(1)
        self.head = raw.decode().lower()
        self.status = int(self.head.split()[1])

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self) -> bytes:
        found = self.sock.recv(65536)
        assert found, "the tunnel was closed"
        return found

    def end(self) -> None:
        self.sock.close()


class Two(Wire):
    """HTTP/2 (RFC 9298 section 3.4)."""

    def __init__(self, port: int, host: str, path: str, protocol: str = "connect-udp") -> None:
        super().__init__(port, "h2")
        self.h2 = h2_connection.H2Connection()
        self.h2.initiate_connection()
        self.status, self.body, self.reset, self.ended = 0, b"", None, False
        head = [(":method", "CONNECT"), (":protocol", protocol), (":scheme", "https"), (":authority", host), (":path", path)]
        self.h2.send_headers(1, [*head, ("capsule-protocol", "?1")])
        while not self.status:
            self.turn()

    def turn(self) -> None:
        self.sock.sendall(self.h2.data_to_send())
        raw = self.sock.recv(65536)
        assert raw, "the connection was closed"
        for event in self.h2.receive_data(raw):
            kind = type(event).__name__
            if kind == "ResponseReceived":
                self.status = int(dict(event.headers)[b":status"])
            elif kind == "DataReceived":
                self.body += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, 1)
            elif kind == "StreamReset":
                self.reset = event.error_code
            elif kind == "StreamEnded":
                self.ended = True
        self.sock.sendall(self.h2.data_to_send())

    def send(self, data: bytes) -> None:
        self.h2.send_data(1, data)
        self.sock.sendall(self.h2.data_to_send())

    def read(self) -> bytes:
        while not self.body:
            self.turn()
        found, self.body = self.body, b""
        return found

    def end(self) -> None:
        self.h2.send_data(1, b"", end_stream=True)
        while not self.ended and self.reset is None:
            self.turn()
        self.sock.close()


WAYS = [("single", "localhost"), ("dispatch", "localhost"), *(("proxy", f"{name}.test") for name in ("h1", "h2", "h3"))]
ways = pytest.mark.parametrize(("way", "host"), WAYS, ids=["single", "dispatch", "to-h1", "to-h2", "to-h3"])
versions = pytest.mark.parametrize("version", [One, Two], ids=["h1", "h2"])


@ways
@versions
def test_udp_goes_through_capsules(ports, echo, version, way, host):
    tunnel = version(ports[way], host, f"/.well-known/masque/udp/127.0.0.1/{echo}/")
    assert tunnel.status == (101 if version is One else 200)
    if version is One:
        assert "upgrade: connect-udp" in tunnel.head and "capsule-protocol: ?1" in tunnel.head
    large = b"\0" + b"x" * (1000 if host == "h3.test" else 9000)  # a QUIC packet has to hold it
    raw = capsule(0, b"\0one") + capsule(0x2B, b"who knows" * 20) + capsule(0, b"\5other context") + capsule(0, large)
    for at in range(0, len(raw), 1000):
        tunnel.send(raw[at : at + 1000])
    assert {tunnel.datagram(), tunnel.datagram()} == {b"\0ONE", large.upper()}
    for number in range(20):
        tunnel.send(capsule(0, b"\0%d" % number))
        assert tunnel.datagram() == b"\0%d" % number
    tunnel.end()


@versions
@pytest.mark.parametrize("way", ["single", "dispatch"])
def test_what_is_no_tunnel_is_refused(ports, version, way):
    for path, protocol, status in (
        ("/.well-known/masque/udp/192.0.2.1/53/", "connect-udp", 403),
        ("/.well-known/masque/udp/127.0.0.1/53/", "connect-ip", 501),
    ):
        assert version(ports[way], "localhost", path, protocol).status == status


@pytest.mark.parametrize("way", ["single", "dispatch"])
def test_a_tunnel_that_ends_inside_a_capsule_is_reset(ports, echo, way):
    tunnel = Two(ports[way], "localhost", f"/.well-known/masque/udp/127.0.0.1/{echo}/")
    tunnel.send(capsule(0, b"\0half")[:-2])
    tunnel.end()
    assert tunnel.reset is not None


@ways
def test_datagrams_of_quic_go_the_same_ways(ports, echo, way, host):
    async def main() -> None:
        async with Taking(ports[way]) as client:
            tunnel = client.connect(f"/.well-known/masque/udp/127.0.0.1/{echo}/", authority=host.encode())
            await asyncio.wait_for(tunnel.begun, PATIENCE)
            assert tunnel.status == 200
            for words in (b"\0first", b"\0" + b"y" * 1000):
                assert await client.exchange(tunnel.stream, words) == (tunnel.stream, words.upper())
            while not client.came.empty():
                client.came.get_nowait()
            client.http.send_data(tunnel.stream, capsule(0, b"\0by capsule"), False)
            client.transmit()
            assert await asyncio.wait_for(client.came.get(), PATIENCE) == (tunnel.stream, b"\0BY CAPSULE")
            client.http.send_data(tunnel.stream, b"", True)
            client.transmit()
            await asyncio.wait_for(tunnel.done, PATIENCE)

    asyncio.run(main())
