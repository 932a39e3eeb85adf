"""Drain and reload as a client sees them: what lives on, what is told to come again, what is cut."""

import json
import os
import re
import signal
import socket
import threading
import time

from clients import under_load, worker_pids
from processes import accepts, eventually

APP = """
import asyncio, os

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    kind = b"text/event-stream" if scope["path"] == "/events" else b"application/octet-stream"
    if scope["path"] in ("/events", "/download"):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        gone = asyncio.ensure_future(receive_end(receive))
        while not gone.done():
            await send({"type": "http.response.body", "body": b"data: x\\n\\n", "more_body": True})
            await asyncio.sleep(0.05)
        return
    body = b"one " + str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})

async def receive_end(receive):
    while (await receive())["type"] != "http.disconnect":
        pass
"""
CONFIG = """
[server]
workers = 2
grace = "1s"
@MORE@
[admin]
bind = "unix:admin.sock"
[log]
access = "off"
[[listener]]
name = "web"
bind = "127.0.0.1:@PORT@"
[[route]]
path = "/fixed"
respond = "before"
[[route]]
path = "/tunnel"
proxy = "echo"
[[route]]
path = "/*"
app = "shop:app"
[[upstream]]
name = "echo"
servers = ["127.0.0.1:@ECHO@"]
"""


class Echo(threading.Thread):
    """An upstream that answers 101 and then says back what it hears."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.ends: list[bytes] = []

    def run(self) -> None:
        while True:
            try:
                taken, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self.talk, args=(taken,), daemon=True).start()

    def talk(self, sock: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(4096)
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        try:
            while data := sock.recv(4096):
                sock.sendall(data)
            self.ends.append(b"end of file")
        except OSError as error:
            self.ends.append(str(error).encode())
        sock.close()


def serve(real, more: str = "", echo: int = 1, **options):
    """Our server with two workers and everything above."""
    config = CONFIG.replace("@MORE@", more).replace("@ECHO@", str(echo))
    server = real.fairlead(config=config, files={"shop.py": APP}, **options)
    server.says("Ctrl-C")
    return server


def stream(port: int, path: str) -> tuple[socket.socket, bytes]:
    """An open stream, and what it brought until its first event."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    seen = b""
    while b"data: x" not in seen:
        seen += sock.recv(4096)
    return sock, seen


def rest(sock: socket.socket) -> bytes:
    """Everything until the end of file, then how it ended."""
    seen = b""
    try:
        while data := sock.recv(65536):
            seen += data
    except OSError as error:
        return seen + f" <{type(error).__name__}>".encode()
    return seen


def tunnel(port: int) -> socket.socket:
    """An upgraded connection through the proxy."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    sock.sendall(b"GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
    seen = b""
    while not seen.endswith(b"\r\n\r\n"):
        seen += sock.recv(4096)
    assert b" 101 " in seen, seen
    return sock


def says_back(sock: socket.socket, data: bytes = b"hello") -> bool:
    """Does the tunnel still carry bytes?"""
    sock.sendall(data)
    seen = b""
    while len(seen) < len(data) and (more := sock.recv(4096)):
        seen += more
    return seen == data


def reload(real, server, *words: str) -> str:
    """`fairlead reload`; what it said."""
    done = real.command("reload", *words, "--admin", f"unix:{server.home}/admin.sock", home=server.home)
    assert done.returncode == 0, done
    return str(done.stdout)


def test_open_streams_survive_a_reload_until_the_grace_and_are_then_told_to_come_again(real):
    server = serve(real)
    events, _ = stream(server.port, "/events")
    download, _ = stream(server.port, "/download")
    before = time.monotonic()
    assert "new workers serve" in reload(real, server, "--workers")
    ended = rest(events)
    assert time.monotonic() - before >= 0.9, "not before the grace is over"
    assert ended.count(b"data: x") >= 5 and ended.endswith(b"\r\n0\r\n\r\n"), "a clean end: EventSource comes again"
    cut = rest(download)
    assert b"data: x" in cut and not cut.endswith(b"\r\n0\r\n\r\n"), "what was cut must not look whole"
    again, _ = stream(server.port, "/events")
    again.close()


WAITING = """
[server]
grace = "120s"
[admin]
bind = "unix:admin.sock"
[store]
url = "memory:"
[[listener]]
bind = "127.0.0.1:@PORT@"
[[route]]
path = "/t/{topic}"
topic = { groups = true }
"""


def test_clients_that_left_in_the_usual_way_hold_up_no_drain(real):
    """Waiting would take as long as the grace, which is longer than the test waits for the end."""
    server = real.fairlead(config=WAITING).ready()
    asked = {
        "stream": b"GET /t/a HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n",
        "several": b"GET /t/a?topic=b&offset=now&live=sse HTTP/1.1\r\nHost: x\r\n\r\n",
        "poll": b"GET /t/a?offset=now&live=long-poll HTTP/1.1\r\nHost: x\r\n\r\n",
        "claim": b'POST /t/a/groups/g:claim HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n{"wait":60}',
    }
    made = real.curl(f"{server.url}/t/a", "-X", "PUT", "-H", "content-type: application/json")
    assert made.status == 201, made.text
    for half, request in [(half, request) for half in (False, True) for request in asked.values()]:
        for pause in (0.0, 0.05):  # it closes while its request is looked at, and when it has waited
            with socket.create_connection(("127.0.0.1", server.port), 20) as conn:
                conn.sendall(request)
                time.sleep(pause)
                if half:
                    conn.shutdown(socket.SHUT_WR)
                    assert rest(conn).startswith((b"HTTP/1.1 200", b"HTTP/1.1 204")), request
    server.signal(signal.SIGTERM)
    server.wait(60)


def test_reloads_under_wrk_and_h2load_refuse_reset_and_lose_nothing(real):
    server = serve(real)
    times, loads = int(os.environ.get("FAIRLEAD_RELOADS", "3")), []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            loads.append(real.wrk(server.url + "/", connections=8, seconds=1))
            loads.append(real.h2load(server.url + "/fixed", "--h1", requests=5000, connections=8, streams=1))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for number in range(1, times + 1):
            server.signal(signal.SIGHUP)
            eventually(lambda n=number: server.text().count("reload: new workers") >= n, what=f"reload {number}")
    finally:
        over.set()
        asking.join()
    assert loads and all(load.clean for load in loads), [load.text for load in loads if not load.clean]


def test_a_tunnel_lives_through_a_swap_and_ends_by_end_of_file_after_the_grace_of_new_workers(real):
    echo = Echo()
    echo.start()
    server = serve(real, echo=echo.port)
    pids = sorted(worker_pids(server.pid))
    with tunnel(server.port) as sock:
        file = server.home / "fairlead.toml"
        for number in range(3):
            file.write_text(re.sub(r'respond = ".*"', f'respond = "{number}"', file.read_text()))
            assert "living workers (routes)" in reload(real, server)
            assert says_back(sock)
        assert "nothing changed" in reload(real, server)
        assert says_back(sock) and sorted(worker_pids(server.pid)) == pids
        server.signal(signal.SIGHUP)
        server.says("reload: new workers serve")
        assert says_back(sock, b"still there")
        assert rest(sock) == b"", "end of file, not a reset"
    eventually(lambda: echo.ends == [b"end of file"], what=f"the upstream hears the end ({echo.ends})")
    echo.sock.close()


def test_a_server_told_to_stop_is_unready_first_and_accepts_meanwhile(real):
    server = serve(real, 'unready = "2s"')
    admin = ("--unix-socket", str(server.home / "admin.sock"))
    assert real.curl("http://x/readyz", *admin).status == 200
    with under_load(server.port, path="/fixed") as load:
        server.signal(signal.SIGTERM)
        server.says("not ready any more")
        assert real.curl("http://x/readyz", *admin).status == 503
        assert real.curl("http://x/livez", *admin).status == 200
        assert accepts(server.port)
        load.answered(50)
        assert not load.failures, load.failures
        server.says("finishing what is open")
        load.over = True
    assert server.wait() == 0


def test_a_kept_connection_gets_its_last_answer_with_connection_close(real):
    server = serve(real)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        sock.sendall(b"GET /fixed HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"connection: close" not in sock.recv(4096)
        server.signal(signal.SIGTERM)
        server.says("finishing what is open")
        sock.sendall(b"GET /fixed HTTP/1.1\r\nHost: x\r\n\r\n")
        last = rest(sock)
        assert last.startswith(b"HTTP/1.1 200") and b"connection: close" in last
    assert server.wait() == 0


def test_status_shows_what_is_draining(real):
    server = serve(real)
    events, _ = stream(server.port, "/events")
    old = set(worker_pids(server.pid))
    reload(real, server, "--workers")
    shown = real.command("status", "--json", "--admin", f"unix:{server.home}/admin.sock", home=server.home)
    states = {one["pid"]: one["state"] for one in json.loads(shown.stdout)["workers"]}
    assert "draining" in {states.get(pid) for pid in old} and sorted(states.values()).count("serving") == 2, states
    rest(events)
