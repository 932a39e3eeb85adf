"""The admin API over real sockets: what it answers, and whom it refuses."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fairlead.core.handler import Service
from fairlead.core.record import Recorder
from fairlead.core.slab import Slab
from fairlead.net.listen import Listener
from fairlead.net.poll import Poller
from fairlead.run.observe import Observation, page_files
from fairlead.run.prometheus import exposition
from fairlead.serve.admin import Admin
from fairlead.wire.h1 import H1
from journeys import MS, connection, exchange, journey


class Control:
    """What the master offers."""

    def __init__(self) -> None:
        self.state = "ready"
        self.done: list[object] = []

    def status(self) -> dict[str, Any]:
        return {"state": self.state, "version": "1", "workers": [], "listeners": []}

    async def reload(self, force: bool) -> dict[str, Any]:
        self.done.append(("reload", force))
        return {"did": "failed", "error": "bad file"} if force else {"did": "swap", "message": "done"}

    async def drain(self) -> dict[str, Any]:
        self.done.append("drain")
        return {"did": "drain"}


class Server:
    """The admin on a loopback port, in a thread with its own loop."""

    def __init__(self, **how: Any) -> None:
        self.control = Control()
        self.how = how
        self.ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.main()))
        self.thread.start()
        assert self.ready.wait(20)

    async def main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.over = asyncio.Event()
        slab = Slab.create(1)
        self.recorder = Recorder(slab.region(0), [(None, "GET /a")])
        observation = Observation(slab, self.control.status)
        self.admin = Admin(
            observation, control=self.control, exposition=exposition, page=page_files(), every=0.05,
            diagram=lambda: b"<svg/>", **self.how,
        )  # fmt: skip
        poller = Poller(self.loop)
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        self.port = sock.getsockname()[1]
        service = Service(self.admin, name="admin", clock=poller)
        listener = Listener(poller, sock, service, lambda conn, _: H1(conn, service.limits, common=service.common))
        listener.start()
        self.ready.set()
        await self.over.wait()
        self.admin.close()
        listener.stop()
        for tcp in list(listener.tcps):
            tcp.abort(None)
        await asyncio.sleep(0)
        sock.close()
        poller.close()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join(20)

    def ask(self, path: str, method: str = "GET", host: str = "", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) of one request."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as sock:
            fields = {"host": host or f"127.0.0.1:{self.port}", "connection": "close"}
            fields |= {name.replace("_", "-"): value for name, value in headers.items()}
            lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            sock.sendall(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode())
            raw = b""
            while more := sock.recv(65536):
                raw += more
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body

    def json(self, path: str, **how: str) -> Any:
        """The JSON of a 200."""
        status, _, body = self.ask(path, **how)
        assert status == 200, body
        return json.loads(body)


@pytest.fixture
def tcp() -> Iterator[Server]:
    """On TCP: hosts and a token."""
    server = Server(hosts=("page.example",), token="secret")
    yield server
    server.close()


@pytest.fixture
def unix() -> Iterator[Server]:
    """As on the trusted unix socket."""
    server = Server()
    yield server
    server.close()


def test_the_page_comes_with_a_policy_that_lets_nothing_else_in(tcp: Server) -> None:
    status, headers, body = tcp.ask("/")
    assert status == 200
    assert b"<title>Fairlead</title>" in body
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    for path, kind in (("/page.js", "text/javascript"), ("/page.css", "text/css")):
        status, headers, body = tcp.ask(path)
        assert status == 200 and headers["content-type"].startswith(kind) and body


def test_the_running_configuration_is_drawn_without_scripts(tcp: Server) -> None:
    status, headers, body = tcp.ask("/diagram.svg?1")
    assert (status, headers["content-type"], body) == (200, "image/svg+xml; charset=utf-8", b"<svg/>")
    assert "script" not in headers["content-security-policy"] and "default-src 'none'" in headers["content-security-policy"]


def test_requests_are_listed_and_explained(tcp: Server) -> None:
    tcp.recorder.done(exchange(connection(), journey(process=42 * MS), tag=b"abc", target=b"/slow"))
    assert [row["id"] for row in tcp.json("/api/requests?latest")] == ["abc"]
    assert [row["target"] for row in tcp.json("/api/requests?slowest&n=5")] == ["/slow"]
    assert tcp.json("/api/requests?running") == []
    assert "the application" in tcp.json("/api/requests/abc")["sentence"]
    assert tcp.ask("/api/requests/nobody")[0] == 404


def test_status_steps_routes_and_metrics(tcp: Server) -> None:
    status = tcp.json("/api/status")
    assert (status["state"], status["verdict"]["rule"]) == ("ready", "idle")
    assert [group["name"] for group in tcp.json("/api/steps")["window"]] == ["before", "app", "after"]
    assert tcp.json("/api/routes") == []
    assert b"fairlead_requests_total" in tcp.ask("/metrics")[2]


def test_its_own_requests_are_not_counted(tcp: Server) -> None:
    for _ in range(3):
        tcp.json("/api/status")
    assert tcp.recorder.region.totals()["requests"] == 0


def test_liveness_is_not_readiness(tcp: Server) -> None:
    assert tcp.ask("/readyz")[0] == 200
    tcp.control.state = "draining"
    assert tcp.ask("/readyz")[0] == 503
    assert tcp.ask("/healthz")[0] == 200


def test_a_foreign_host_name_learns_nothing(tcp: Server) -> None:
    for path in ("/", "/api/status", "/api/stream", "/metrics"):
        status, _, body = tcp.ask(path, host="evil.example")
        assert status == 421
        assert b"requests" not in body
    for good in ("localhost:1234", "127.0.0.1", "[::1]:99", "PAGE.example"):
        assert tcp.ask("/healthz", host=good)[0] == 200


def test_another_site_may_not_ask(tcp: Server) -> None:
    here = f"127.0.0.1:{tcp.port}"
    assert tcp.ask("/api/status", origin="https://evil.example")[0] == 403
    assert tcp.ask("/api/status", origin="null")[0] == 403
    assert tcp.ask("/api/status", sec_fetch_site="cross-site")[0] == 403
    assert tcp.ask("/api/status", origin=f"http://{here}", sec_fetch_site="same-origin")[0] == 200
    assert tcp.ask("/", sec_fetch_site="none")[0] == 200


def test_changes_need_the_token(tcp: Server) -> None:
    assert tcp.ask("/api/reload", "POST")[0] == 403
    assert tcp.ask("/api/reload", "POST", x_fairlead_token="wrong")[0] == 403
    assert tcp.ask("/api/drain", "POST", authorization="Bearer wrong")[0] == 403
    assert tcp.control.done == []
    assert tcp.ask("/api/reload", "POST", x_fairlead_token="secret")[0] == 200
    assert tcp.ask("/api/drain", "POST", authorization="Bearer secret")[0] == 200
    assert tcp.control.done == [("reload", False), "drain"]


def test_a_reload_that_failed_is_no_success(tcp: Server) -> None:
    status, _, body = tcp.ask("/api/reload?workers", "POST", x_fairlead_token="secret")
    assert status == 409
    assert json.loads(body)["error"] == "bad file"


def test_without_a_token_nothing_can_be_changed_on_tcp() -> None:
    server = Server(hosts=())
    try:
        assert server.ask("/api/drain", "POST", x_fairlead_token="")[0] == 403
        assert server.control.done == []
    finally:
        server.close()


def test_a_change_is_a_post_and_the_rest_is_not(tcp: Server) -> None:
    assert tcp.ask("/api/drain", x_fairlead_token="secret")[0] == 405
    assert tcp.ask("/api/status", "POST", x_fairlead_token="secret")[0] == 405
    assert tcp.control.done == []


def test_what_is_not_there_is_404(tcp: Server) -> None:
    assert tcp.ask("/api/nothing")[0] == 404
    assert tcp.ask("/../etc/passwd")[0] == 404


def test_the_unix_socket_trusts_its_file_mode(unix: Server) -> None:
    assert unix.ask("/api/status", host="whatever")[0] == 200
    assert unix.ask("/api/reload", "POST")[0] == 200


def test_the_stream_tells_what_is_new_until_the_reader_leaves(tcp: Server) -> None:
    with socket.create_connection(("127.0.0.1", tcp.port), 10) as sock:
        sock.sendall(b"GET /api/stream HTTP/1.1\r\nhost: localhost\r\n\r\n")
        file = sock.makefile("rb")
        assert b" 200 " in file.readline()
        frames = 0
        for line in file:
            if b"data: {" in line:
                frame = json.loads(line[line.index(b"{") :])
                assert frame["server"]["state"] == "ready"
                frames += 1
                if frames == 3:
                    break
        file.close()
    for _ in range(200):
        if tcp.admin.streams == 0:
            break
        tcp.ask("/healthz")
        threading.Event().wait(0.02)
    assert tcp.admin.streams == 0
