"""Bad peers, bad applications, bad upstreams, a bad machine: a clear status, its cause in the log, no leak.

One server with short limits serves all of it; after every test its worker is the same process, has the same open files
as before, and answers. The access log's `end=` names who ended what.
"""
# ruff: noqa: E501

import os
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from peers import Real
from prober import CLOSE, RESET, STALL, Origin, connect, finals, rest, talk, until
from processes import Process, eventually, free_port

APP = """
import asyncio, gc, json, os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    path = scope["path"]
    start = {"type": "http.response.start", "status": 200, "headers": []}
    if path == "/app/raise":
        raise ValueError("before the head")
    if path == "/app/none":
        return
    if path == "/app/never":
        await asyncio.sleep(3600)
    if path == "/app/unread":
        await asyncio.sleep(0.2)
    if path in ("/app/more", "/app/less", "/app/lessend"):
        start["headers"] = [(b"content-length", b"5")]
        await send(start)
        await send({"type": "http.response.body", "body": b"123", "more_body": path != "/app/less"})
        if path == "/app/more":
            await send({"type": "http.response.body", "body": b"4567890", "more_body": False})
        return
    if path == "/app/after":
        await send(start)
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("after the head")
    if path == "/app/endless":
        await send(start)
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
    if path == "/app/objects":
        gc.collect()
        body = json.dumps({"objects": len(gc.get_objects()), "pid": os.getpid()}).encode()
        await send(start)
        await send({"type": "http.response.body", "body": body})
        return
    size, more = 0, path == "/app/read"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    await send(start)
    await send({"type": "http.response.body", "body": str(size).encode()})
"""
CONFIG = """
[server]
pattern = "single"
grace = "1s"
[log]
access = "@FOLDER@/access.log"
flush = "50ms"
[[listener]]
name = "web"
bind = "127.0.0.1:@PORT@"
[listener.limits]
header = "400ms"
body_idle = "400ms"
body_grace = "600ms"
write_idle = "500ms"
idle = "1s"
linger = "200ms"
request = "3s"
max_body = "1MiB"
[[listener]]
name = "secure"
bind = "127.0.0.1:TLSPORT"
tls = { certificate = "@CERT@", key = "@KEY@" }
limits = { handshake = "500ms", header = "400ms", linger = "200ms" }
[[route]]
path = "/app/*"
app = "faulty:app"
[[route]]
path = "/proxy/*"
proxy = { upstream = "origin" }
[[route]]
path = "/gone"
proxy = { upstream = "gone" }
[[route]]
path = "/*"
respond = "fixed"
[[upstream]]
name = "origin"
servers = ["127.0.0.1:ORIGIN"]
timeouts = { dial = "1s", head = "500ms", idle = "500ms" }
eject = { errors = 1000000 }
pool = { max = 32, idle = "1s" }
[[upstream]]
name = "gone"
servers = ["127.0.0.1:DEAD"]
eject = { errors = 1000000 }
"""
LAST = b"Host: x\r\nConnection: close\r\n\r\n"


class Server:
    """Our server, its one worker, and what it must not lose."""

    def __init__(self, process: Process, origin: Origin, secure: int) -> None:
        self.process, self.origin, self.port, self.secure = process, origin, process.port, secure
        process.says("Ctrl-C")
        self.pid = self.worker()
        self.get(b"/app/read")
        self.get(b"/proxy/warm")
        eventually(lambda: self.sockets() <= 1, what="idle connections end")
        self.files = self.open_files()

    def worker(self) -> int:
        """The pid of the worker."""
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, IndexError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == self.process.pid:
                    return int(entry.name)
        raise AssertionError("no worker")

    def open_files(self) -> int:
        """How many descriptors the worker has."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def sockets(self) -> int:
        """How many established connections our port has."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        ours = {f"{self.port:04X}", f"{self.secure:04X}"}
        return sum(row[3] in ("01", "08") and row[1].split(":")[1] in ours for row in rows)

    def rss(self) -> int:
        """Resident KiB of the worker."""
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())
        assert found
        return int(found[1])

    def get(self, path: bytes) -> list[int]:
        """Statuses of one GET."""
        return [one.status for one in finals(talk(self.port, b"GET %b HTTP/1.1\r\n" % path + LAST))]

    def ends(self, path: str, status: int) -> str:
        """The `end=` of the last log line of a path with a status."""
        log = self.process.home / "access.log"
        pattern = rf'"[^"]* {re.escape(path)} [^"]*" {status} .*end=(\S+)'
        eventually(
            lambda: re.search(pattern, log.read_text()),
            5,
            f"a line of {path} with {status} in {log.read_text()[-400:]}",
        )
        return re.findall(pattern, log.read_text())[-1]

    def well(self) -> None:
        """It serves, with the same worker and the same open files."""
        assert self.get(b"/well") == [200]
        assert self.worker() == self.pid
        spare = 2  # connections to the origin that are kept
        eventually(
            lambda: self.open_files() <= self.files + spare, what=f"{self.open_files()} open files, {self.files} before"
        )


@pytest.fixture(scope="module")
def faulty() -> Iterator[Server]:
    """The server of all tests."""
    origin, secure, dead = Origin(), free_port(), free_port()
    config = CONFIG.replace("ORIGIN", str(origin.port)).replace("TLSPORT", str(secure)).replace("DEAD", str(dead))
    with Real() as real:
        yield Server(real.fairlead(config=config, files={"faulty.py": APP}), origin, secure)
    origin.close()


@pytest.fixture
def server(faulty: Server) -> Iterator[Server]:
    """The same, and well after the test."""
    yield faulty
    faulty.well()


def status_of(raw: bytes) -> list[int]:
    return [one.status for one in finals(raw)]


# ---- slow peers


def test_a_head_that_does_not_end_is_408(server: Server):
    assert status_of(talk(server.port, b"GET /slowhead HTTP/1.1\r\nHost: x\r\n")) == [408]


def test_a_head_that_drips_is_408_however_lively_it_is(server: Server):
    with connect(server.port) as sock:
        sock.settimeout(0.05)
        found = b""
        deadline = time.monotonic() + 20
        sock.sendall(b"GET / HTTP/1.1\r\n")
        while not found and time.monotonic() < deadline:
            with suppress(TimeoutError):
                sock.sendall(b"X: y\r\n")
                found = sock.recv(65536)
        assert b" 408 " in found


@pytest.mark.parametrize("path", ["/app/read", "/proxy/slow"])
def test_a_body_that_stops_is_408_in_the_log_too(path: str, server: Server):
    raw = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12" % path.encode()
    assert status_of(talk(server.port, raw)) == [408]
    assert server.ends(path, 408) != "-"


def test_a_body_that_drips_is_408(server: Server):
    with connect(server.port) as sock:
        sock.settimeout(0.05)
        sock.sendall(b"POST /app/read HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        found = b""
        deadline = time.monotonic() + 20
        while not found and time.monotonic() < deadline:
            with suppress(TimeoutError):
                sock.sendall(b"1")
                found = sock.recv(65536)
        assert b" 408 " in found


def test_a_client_that_reads_nothing_is_let_go_and_costs_no_memory(server: Server):
    before = server.rss()
    held = []
    for _ in range(10):
        sock = connect(server.port)
        sock.sendall(b"GET /app/endless HTTP/1.1\r\nHost: x\r\n\r\n")
        held.append(sock)
    server.ends("/app/endless", 200)
    eventually(lambda: server.sockets() <= 1, what="the slow readers are let go")
    assert server.rss() - before < 20_000
    for sock in held:
        sock.close()


def test_a_silent_connection_is_closed_without_a_word(server: Server):
    assert talk(server.port, b"") == b""
    with connect(server.port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status_of(rest(sock)) == [200]


def test_a_body_over_the_limit_is_413(server: Server):
    assert status_of(talk(server.port, b"POST /app/read HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n")) == [
        413
    ]
    with connect(server.port) as sock:
        with suppress(OSError):
            sock.sendall(b"POST /app/read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(30):
                sock.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        assert status_of(rest(sock)) == [413]


# ---- resets in every state

STATES = {
    "connected": b"",
    "in the start line": b"GET /re",
    "in the head": b"GET /app/read HTTP/1.1\r\nHost: x",
    "after the head": b"GET /app/unread HTTP/1.1\r\nHost: x\r\n\r\n",
    "in a body": b"POST /app/read HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf",
    "in a chunk": b"POST /app/read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
    "waiting for an application": b"GET /app/never HTTP/1.1\r\nHost: x\r\n\r\n",
    "waiting for an origin": b"GET /proxy/stall HTTP/1.1\r\nHost: x\r\n\r\n",
    "in a body for an origin": b"POST /proxy/stall HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf",
    "in an answer": b"GET /app/endless HTTP/1.1\r\nHost: x\r\n\r\n",
    "with requests behind it": b"GET /app/unread HTTP/1.1\r\nHost: x\r\n\r\n" * 5,
}


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("state", STATES)
def test_a_client_that_leaves_in_any_state_leaves_nothing_behind(state: str, how: str, server: Server):
    server.origin.scripts[b"/proxy/stall"] = [STALL]
    for count in range(20):
        sock = connect(server.port)
        sock.sendall(STATES[state])
        if state == "in an answer":
            until(sock, lambda found: len(found) > 1000)
        elif count % 2:
            server.get(b"/between")
        if how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()


def test_a_client_that_leaves_is_499_in_the_log(server: Server):
    with connect(server.port) as sock:
        sock.sendall(b"GET /app/never?leaves HTTP/1.1\r\nHost: x\r\n\r\n")
        server.get(b"/between")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    server.ends("/app/never?leaves", 499)


# ---- TLS and plain, mixed up


def test_tls_on_a_plain_port_is_refused_in_plain_words(server: Server):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for _ in range(10):
        with connect(server.port) as sock, pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(sock)
    assert talk(server.port, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(200)).startswith(
        b"HTTP/1.1 400 "
    )


def test_plain_http_on_a_tls_port_is_told_so(server: Server):
    got = talk(server.secure, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 400 ") and b"https" in got.lower()


def test_garbage_on_a_tls_port_ends_with_an_alert_or_a_close(server: Server):
    hello = b"\x16\x03\x01\x00\x2e\x01\x00\x00\x2a\x03\x03"
    for garbage in (
        os.urandom(300),
        hello + b"\0" * 500,
        b"\x80\x2e\x01\x00\x02",
        b"\x16\x03\x01\xff\xff" + b"\0" * 70000,
        b"\0" * 50,
    ):
        assert b"HTTP" not in talk(server.secure, garbage, half_close=True)
    for _ in range(20):
        sock = connect(server.secure)
        sock.sendall(hello)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()


def test_a_handshake_that_never_ends_is_closed(server: Server):
    talk(server.secure, b"")
    talk(server.secure, b"\x16\x03\x01")


# ---- applications


@pytest.mark.parametrize("path", ["/app/raise", "/app/none"])
def test_an_application_that_fails_before_its_head_is_a_500_and_the_connection_goes_on(path: str, server: Server):
    raw = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode()
    assert status_of(talk(server.port, raw + raw + b"GET / HTTP/1.1\r\n" + LAST)) == [500, 500, 200]
    assert server.ends(path, 500) != "-"


@pytest.mark.parametrize("path", ["/app/after", "/app/more", "/app/less", "/app/lessend"])
def test_an_application_that_fails_after_its_head_never_looks_whole(path: str, server: Server):
    (got,) = finals(talk(server.port, b"GET %b HTTP/1.1\r\n" % path.encode() + LAST))
    assert got.status == 500 or not got.whole, got
    assert server.ends(path, got.status) != "-"


def test_an_application_that_never_answers_is_504(server: Server):
    assert server.get(b"/app/never") == [504]
    assert server.ends("/app/never", 504) != "-"


def test_an_application_that_never_reads_holds_no_memory(server: Server):
    before = server.rss()
    socks = []
    for _ in range(10):
        sock = connect(server.port)
        sock.setblocking(False)
        sock.sendall(b"POST /app/never HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        with suppress(BlockingIOError):
            while True:
                sock.send(b"x" * 65536)
        socks.append(sock)
    server.get(b"/between")
    assert server.rss() - before < 20_000
    for sock in socks:
        sock.close()


# ---- upstreams


def test_an_upstream_that_refuses_is_502_or_503(server: Server):
    assert server.get(b"/gone")[0] in (502, 503)
    assert server.ends("/gone", server.get(b"/gone")[0]) != "-"


def test_an_upstream_that_stalls_is_504(server: Server):
    server.origin.scripts[b"/proxy/stall"] = [STALL]
    assert server.get(b"/proxy/stall") == [504]
    assert server.ends("/proxy/stall", 504) != "-"


@pytest.mark.parametrize("script", [[CLOSE], [RESET], [b"HTTP/1.1 20", CLOSE], [b"junk\r\n\r\n", CLOSE]], ids=str)
def test_an_upstream_that_breaks_off_is_502(script: list[bytes], server: Server):
    server.origin.scripts[b"/proxy/broken"] = script
    for _ in range(10):
        assert status_of(talk(server.port, b"POST /proxy/broken HTTP/1.1\r\nContent-Length: 0\r\n" + LAST)) == [502]
    assert server.ends("/proxy/broken", 502) != "-"


@pytest.mark.parametrize("end", [CLOSE, RESET, STALL], ids=str)
def test_an_upstream_that_stops_in_its_body_never_looks_whole(end: bytes, server: Server):
    server.origin.scripts[b"/proxy/half"] = [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", end]
    (got,) = finals(talk(server.port, b"GET /proxy/half HTTP/1.1\r\n" + LAST))
    assert not got.whole or got.status in (502, 504)
    assert server.ends("/proxy/half", got.status) != "-"


# ---- the machine


def test_a_full_disk_costs_the_log_and_nothing_else(real: Real):
    server = real.fairlead(
        "faulty:app", "--page", "off", "--access-log", "/dev/full", "--workers", "1", files={"faulty.py": APP}
    )
    for _ in range(50):
        assert status_of(talk(server.port, b"GET /app/read HTTP/1.1\r\n" + LAST)) == [200]
    server.says("(?i)No space left|full")
    assert status_of(talk(server.port, b"GET /app/read HTTP/1.1\r\n" + LAST)) == [200]


def test_an_unreadable_configuration_is_one_line(real: Real):
    home = real.home()
    (home / "folder.toml").mkdir()
    for name, text in (
        ("broken.toml", b"[server\n"),
        ("bytes.toml", b"\xff\xfe\0"),
        ("folder.toml", None),
        ("none.toml", None),
    ):
        if text is not None:
            (home / name).write_bytes(text)
        done = real.command("run", str(home / name), home=home)
        assert done.returncode in (1, 2) and "Traceback" not in done.stderr, done.stderr
        assert name in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


# ---- leaks


def objects(server: Server) -> int:
    (got,) = finals(talk(server.port, b"GET /app/objects HTTP/1.1\r\n" + LAST))
    found = re.search(rb'"objects": (\d+)', got.body)
    assert found
    return int(found[1])


def round_of(server: Server, requests: int, connections: int, aborted: int) -> None:
    """Pipelined requests, short connections, uploads cut off."""
    paths = [b"/app/read", b"/fixed", b"/proxy/x", b"/app/raise", b"/nowhere"]
    batch = b"".join(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % paths[n % 5] for n in range(100))
    for _ in range(requests // 100):
        assert len(finals(talk(server.port, batch + b"GET / HTTP/1.1\r\n" + LAST), *["GET"] * 101)) == 101
    for _ in range(connections):
        with connect(server.port) as sock:
            sock.sendall(b"GET /fixed HTTP/1.1\r\nHost: x\r\n\r\n")
            sock.recv(1000)
    for n in range(aborted):
        with connect(server.port) as sock:
            sock.sendall(b"POST /app/read HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 30000)
            if n % 2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_thousands_of_requests_leave_no_memory_behind(server: Server):
    round_of(server, 5000, 300, 100)
    eventually(lambda: server.sockets() <= 1, what="the connections are over")
    rss, count = server.rss(), objects(server)
    round_of(server, int(os.environ.get("FAIRLEAD_LEAK_REQUESTS", "10000")), 2000, 500)
    eventually(lambda: server.sockets() <= 1, what="the connections are over")
    assert objects(server) - count < 500
    assert server.rss() - rss < 6_000
