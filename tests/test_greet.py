"""net.greet: a listener whose peers owe a PROXY header, over real sockets."""

import json
import socket
import ssl

import pytest

import fairlead
from fairlead.wire.hello import told

CONFIG = """
[[listener]]
bind = "127.0.0.1:0"
proxy_protocol = ["{networks}"]
{tls}
limits = {{ header = "200ms" }}

[[route]]
app = "embedded:app"
"""
GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
V1 = b"PROXY TCP4 198.51.100.7 192.0.2.2 4711 443\r\n"
V2 = told(("198.51.100.7", 4711), ("192.0.2.2", 443))


async def app(scope, receive, send):
    if scope["type"] == "http":
        body = json.dumps([scope["client"], scope["server"]]).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Starts a server: `served(networks, tls)`."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    servers = []

    def start(networks="127.0.0.0/8", tls=""):
        file = tmp_path / "fairlead.toml"
        file.write_text(CONFIG.format(networks=networks, tls=tls))
        server = fairlead.Server(str(file))
        server.given = app
        servers.append(server.__enter__())
        return server

    yield start
    for server in servers:
        server.__exit__()


def said(server, *pieces, wrap=None):
    """What comes back for these pieces, each sent by itself."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        got = b""
        try:
            for piece in pieces[:-1]:
                sock.sendall(piece)
            talk = wrap.wrap_socket(sock, server_hostname="localhost") if wrap else sock
            if pieces[-1]:
                talk.sendall(pieces[-1])
            while piece := talk.recv(65536):
                got += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
        return got


TOLD = [["198.51.100.7", 4711], ["192.0.2.2", 443]]


@pytest.mark.parametrize("header", [V1, V2])
@pytest.mark.parametrize("split", ["whole", "bytes", "with the request"])
def test_the_header_names_client_and_server(served, header, split):
    server = served()
    pieces = {"whole": [header, GET], "bytes": [*(bytes([b]) for b in header), GET], "with the request": [header + GET]}
    body = said(server, *pieces[split]).partition(b"\r\n\r\n")[2]
    assert json.loads(body) == TOLD


def test_tls_begins_behind_the_header(served):
    server = served(tls='tls = "dev"')
    trust = ssl.create_default_context(cafile=server.ca)
    assert json.loads(said(server, V2, GET, wrap=trust).partition(b"\r\n\r\n")[2]) == TOLD


def test_a_health_check_of_the_balancer_has_the_addresses_of_the_socket(served):
    server = served()
    local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0"
    client, address = json.loads(said(server, local, GET).partition(b"\r\n\r\n")[2])
    assert client[0] == "127.0.0.1" and address == ["127.0.0.1", server.port]


@pytest.mark.parametrize("pieces", [[GET], [b"PROXY TCP4 nonsense\r\n", GET], [b"PROXY TCP4 1", b""], [b"", b""]])
def test_without_a_good_header_the_connection_is_closed_without_a_word(served, pieces):
    server = served()
    assert said(server, *pieces) == b""
    assert json.loads(said(server, V1, GET).partition(b"\r\n\r\n")[2]) == TOLD


def test_a_peer_that_owes_no_header_is_not_believed(served):
    server = served("10.0.0.0/8")
    assert said(server, GET).startswith(b"HTTP/1.1 200")
    assert said(server, V1 + GET).startswith(b"HTTP/1.1 400")
