"""What HTTP/2 costs: the engine in memory, ASGI over TLS beside Granian, the proxy beside nginx, bulk, idle connections.

    scripts/bench --case 'h2-*'              # all of it, as tables
    python bench/h2.py engine asgi --rounds 5 --requests 40000

The engine runs in this interpreter, with the fairlead that `install` built or was given; servers run as processes, in turn
(A B A B …), and the figure is CPU microseconds of the process tree per request that h2load saw answered with 2xx, medians of
the rounds. A case is a function from (rounds, requests) to a `Section`.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import install
import measure
import peers
from report import Section

STREAMS, CONNECTIONS = 10, 10
NGINX = """daemon off; worker_processes 1; pid {folder}/pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{ access_log {log}; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e; keepalive_requests 100000000;
  ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;
  upstream u {{ server 127.0.0.1:{origin}; keepalive 64; keepalive_requests 100000000; }}
  server {{ {listen}
    location / {{ proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_buffering off; }}
    location /files/ {{ alias {folder}/; }}
    {more} }} }}
"""
TOML = """[server]
workers = 1
[admin]
page = "off"
[log]
access = "off"
[journey]
server_timing = "off"
[[listener]]
bind = "127.0.0.1:{port}"
[listener.tls]
certificate = "{cert}"
key = "{key}"
[[route]]
path = "/*"
proxy = {{ upstream = "u" }}
[[upstream]]
name = "u"
servers = ["127.0.0.1:{origin}"]
"""
BULK = """
BODY = b"x" * 65536
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(16 * 64):
        await send({"type": "http.response.body", "body": BODY, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
"""


class Server:
    """A process on the server's core, and its port."""

    def __init__(self, argv: list[str], port: int, folder: Path, env: dict[str, str] | None = None) -> None:
        self.port = port
        self.log = (folder / "log").open("ab")
        self.process = subprocess.Popen(
            measure.pinned(measure.SERVER_CORE, argv),
            cwd=folder,
            stdout=self.log,
            stderr=self.log,
            env=env,
            start_new_session=True,
        )
        if not measure.wait_until(lambda: peers.accepts(port), 60):
            raise SystemExit(f"{argv[:4]} did not start; see {folder}/log")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


def fairlead(folder: Path, *arguments: str, port: int = 0) -> Server:
    """Ours, with `@PORT@` in its arguments or a port of their own."""
    port = port or peers.free_port()
    argv = peers.python("fairlead", "run", *[one.replace("@PORT@", str(port)) for one in arguments])
    env = {**os.environ, "PYTHONPATH": str(install.fairlead()), "XDG_RUNTIME_DIR": str(folder)}
    return Server(argv, port, folder, env)


def h2load(url: str, requests: int, *more: str) -> int:
    """Requests answered well."""
    argv = measure.pinned(
        measure.LOAD_CORE, ["h2load", f"-n{requests}", f"-c{CONNECTIONS}", f"-m{STREAMS}", *more, url]
    )
    text = subprocess.run(argv, capture_output=True, text=True, timeout=600).stdout
    done = re.search(r"status codes: (\d+) 2xx", text)
    if not done or int(done[1]) != requests:
        raise SystemExit(f"{url}: {text[-600:]}")
    return requests


def in_turn(servers: dict[str, tuple[Server, Callable[[Server], float]]], rounds: int) -> dict[str, float]:
    """The median CPU seconds per unit of each server, taken in turn; a first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in servers}
    for turn in range(rounds + 1):
        for name, (server, work) in servers.items():
            before = measure.cpu_seconds(server.process.pid)
            units = work(server)
            if turn:
                found[name].append((measure.cpu_seconds(server.process.pid) - before) / units)
    for server, _ in servers.values():
        server.stop()
    return {name: statistics.median(values) for name, values in found.items()}


# ---- the cases


def engine(rounds: int, requests: int) -> Section:
    """Frames and HPACK in memory: 8 fields in, 4 out and 13 bytes, 10 streams a read."""
    sys.path.insert(0, str(install.fairlead()))
    from fairlead.core.codec import Sink
    from fairlead.core.limits import Limits
    from fairlead.core.message import Common, Response
    from fairlead.wire.h2 import H2
    from fairlead.wire.hpack import Encoder

    class Handler(Sink):
        def head(self, stream, message, end):  # type: ignore[no-untyped-def]
            answer = Response(200, [(b"content-type", b"text/plain"), (b"x-a", b"b")], 13)
            self.codec.head(stream, answer, False)
            self.codec.data(stream, b"Hello, world!", True)

    fields = [
        (b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"www.example.com"), (b":path", b"/api/items/1"),
        (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64)"), (b"accept", b"*/*"), (b"accept-encoding", b"gzip, deflate, br"),
        (b"x-session", b"0123456789abcdef"),
    ]  # fmt: skip
    encoder, reads, stream, count = Encoder(), [], 1, 100_000
    for _ in range(count // 10):
        out = b""
        for _ in range(10):
            block = bytearray()
            for field in fields:
                encoder.add(block, field)
            out += len(block).to_bytes(3, "big") + b"\1\5" + stream.to_bytes(4, "big") + block
            stream += 2
        reads.append(out + b"\0\0\4\x08\0\0\0\0\0" + (130).to_bytes(4, "big"))
    best = 1e9
    for _ in range(rounds):
        sink = Handler()
        codec = sink.codec = H2(sink, Limits(), common=Common())  # type: ignore[attr-defined]
        codec.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 1)
        began, now = time.process_time(), 1_000_000_000
        for read in reads:
            now += 100_000
            codec.feed(read, now)
            codec.take()
        best = min(best, (time.process_time() - began) / count * 1e6)
    return Section(
        "HTTP/2 in memory: 8 fields in, 4 out and 13 bytes, 10 streams a read",
        "µs per request",
        {"fairlead": best},
        "at most 4 µs",
    )


def asgi(rounds: int, requests: int) -> Section:
    """A 12-byte ASGI answer over h2 and TLS."""
    folder = Path(tempfile.mkdtemp())
    app = str(peers.APPS)
    cert, key = peers.certificate()
    flags = (
        "--dir",
        app,
        "--workers",
        "1",
        "--access-log",
        "off",
        "--page",
        "off",
        "--server-timing",
        "off",
        "--tls",
        "dev",
    )
    ours = fairlead(folder, "plain:app", "--bind", "127.0.0.1:@PORT@", *flags)
    port = peers.free_port()
    argv = peers.python("granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    argv += ["--http", "2", "--runtime-threads", "1", "--no-ws", "--loop", "uvloop", "--no-access-log"]
    argv += ["--ssl-certificate", str(cert), "--ssl-keyfile", str(key), "--working-dir", app, "plain:app"]
    theirs = Server(argv, port, folder)

    def work(server: Server) -> float:
        return h2load(f"https://127.0.0.1:{server.port}/", requests) / 1e6

    figures = in_turn({"fairlead": (ours, work), "granian": (theirs, work)}, rounds)
    return Section(
        "ASGI over HTTP/2 and TLS, 12-byte answer, 10 streams on each of 10 connections",
        "µs per request",
        figures,
        "at most 0.5 of granian",
    )


def nginx(folder: Path, listen: str, origin: int = 1, more: str = "") -> Server:
    port = peers.free_port()
    folder = Path(tempfile.mkdtemp(dir=folder))
    folder.chmod(0o755)
    (folder / "big").write_bytes(b"x" * (64 << 20))
    cert, key = peers.certificate()
    listen = listen.replace("@PORT@", str(port))
    (folder / "conf").write_text(
        NGINX.format(folder=folder, log="off", cert=cert, key=key, origin=origin, listen=listen, more=more)
    )
    return Server([peers.need("nginx"), "-p", str(folder), "-e", "stderr", "-c", str(folder / "conf")], port, folder)


def proxy(rounds: int, requests: int) -> Section:
    """h2 and TLS in front, h1 behind."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    origin = nginx(folder, "listen 127.0.0.1:@PORT@;", more='location = /hello { return 200 "hello world\\n"; }')
    cert, key = peers.certificate()
    port = peers.free_port()
    (folder / "fairlead.toml").write_text(TOML.format(port=port, cert=cert, key=key, origin=origin.port))
    ours = fairlead(folder, str(folder / "fairlead.toml"), port=port)
    theirs = nginx(folder, "listen 127.0.0.1:@PORT@ ssl http2;", origin.port)

    def work(server: Server) -> float:
        return h2load(f"https://127.0.0.1:{server.port}/hello", requests) / 1e6

    figures = in_turn({"fairlead": (ours, work), "nginx": (theirs, work)}, rounds)
    origin.stop()
    return Section(
        "Proxy, HTTP/2 and TLS in front, HTTP/1.1 behind, 12-byte answer",
        "µs per request",
        figures,
        "at most 1.0 of nginx",
    )


def bulk(rounds: int, requests: int) -> Section:
    """64 MiB answers over h2 and TLS: ASGI beside nginx's file."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "bulk.py").write_text(BULK)
    flags = ("--dir", str(folder), "--workers", "1", "--access-log", "off", "--page", "off", "--tls", "dev")
    ours = fairlead(folder, "bulk:app", "--bind", "127.0.0.1:@PORT@", *flags)
    theirs = nginx(folder, "listen 127.0.0.1:@PORT@ ssl http2;")

    def work(server: Server) -> float:
        path = "/" if server is ours else "/files/big"
        h2load(f"https://127.0.0.1:{server.port}{path}", 20)
        return 20 * 64 / 1024

    figures = in_turn({"fairlead": (ours, work), "nginx": (theirs, work)}, rounds)
    return Section(
        "64 MiB answers over HTTP/2 and TLS: ASGI, and nginx's file", "CPU s per GiB", figures, "at most 1.5 of nginx"
    )


def idle(rounds: int, requests: int) -> Section:
    """Memory of an idle h2 connection after one request, plain and over TLS 1.3, in KiB."""
    return Section(
        "Memory of an idle HTTP/2 connection after one ASGI request", "KiB",
        {"fairlead": held_by_each(False), "fairlead, TLS 1.3": held_by_each(True)}, "at most 25 KB",
    )  # fmt: skip


def held_by_each(tls: bool) -> float:
    """KiB that each of 1,000 idle connections adds."""
    folder = Path(tempfile.mkdtemp())
    flags = ["--dir", str(peers.APPS), "--workers", "1", "--access-log", "off", "--page", "off"]
    ours = fairlead(folder, "plain:app", "--bind", "127.0.0.1:@PORT@", *flags, *(["--tls", "dev"] if tls else []))
    sys.path.insert(0, str(install.fairlead()))
    from fairlead.wire.hpack import Encoder

    block = bytearray()
    encoder = Encoder()
    scheme = b"https" if tls else b"http"
    for field in ((b":method", b"GET"), (b":scheme", scheme), (b":authority", b"127.0.0.1"), (b":path", b"/"),
                  (b"user-agent", b"Mozilla/5.0"), (b"accept", b"*/*")):  # fmt: skip
        encoder.add(block, field)
    hello = (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0" + len(block).to_bytes(3, "big") + b"\1\5\0\0\0\1" + block
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    held = []

    def more(count: int) -> int:
        for _ in range(count):
            sock = measure.connect(ours.port, False)
            if tls:
                sock = context.wrap_socket(sock)
            sock.sendall(hello)
            got = b""
            while b"hello" not in got.lower():
                got += sock.recv(4096)
            held.append(sock)
        return measure.rss(ours.process.pid)

    before = more(200)
    each = (more(1000) - before) / 1000 / 1024
    for sock in held:
        sock.close()
    ours.stop()
    return each


CASES: dict[str, Callable[[int, int], Section]] = {
    "engine": engine,
    "asgi": asgi,
    "proxy": proxy,
    "bulk": bulk,
    "idle": idle,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=30000)
    options = parser.parse_args()
    for name in options.cases or CASES:
        print(CASES[name](options.rounds, options.requests).markdown(), flush=True)
