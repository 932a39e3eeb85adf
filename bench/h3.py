"""What HTTP/3 costs: the layer in memory, ASGI, downloads and handshakes beside Hypercorn (aioquic), idle connections.

    scripts/bench --case 'h3-*'              # all of it, as tables
    python bench/h3.py engine asgi --rounds 5 --requests 20000

The load is our own client (`h3load.py`) on the other core, the same for both servers; the figure is CPU of the server's process
tree. A case is a function from (rounds, requests) to a `Section`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h2
import install
import measure
import peers
from report import Section

HERE = Path(__file__).resolve().parent
CONFIG = """[server]
workers = 1
[admin]
page = "off"
[log]
access = "off"
[journey]
server_timing = "off"
[[listener]]
bind = "127.0.0.1:{port}"
protocols = ["h1", "h2", "h3"]
quic = {{ {quic} }}
[listener.tls]
certificate = "{cert}"
key = "{key}"
[[route]]
app = {{ target = "{app}", dir = "{dir}" }}
"""


def load(port: int, *more: str) -> int:
    """Answers that were good; all must be."""
    env = {**os.environ, "PYTHONPATH": str(install.fairlead())}
    argv = measure.pinned(measure.LOAD_CORE, [str(install.PYTHON), "-P", str(HERE / "h3load.py"), str(port), *more])
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, env=env)
    if done.returncode:
        raise SystemExit(f"the load failed: {done.stderr[-800:]}")
    return int(done.stdout.split()[1])


def ours(folder: Path, app: str, directory: Path, quic: str = "") -> h2.Server:
    """Fairlead with an HTTP/3 listener, and settings of its `quic`."""
    cert, key = peers.certificate()
    port = peers.free_port()
    (folder / "fairlead.toml").write_text(CONFIG.format(port=port, cert=cert, key=key, app=app, dir=directory, quic=quic))
    return h2.fairlead(folder, str(folder / "fairlead.toml"), port=port)


def hypercorn(folder: Path, app: str, directory: Path) -> h2.Server:
    """Hypercorn with one; its TCP side says that it is up."""
    cert, key = peers.certificate()
    port = peers.free_port()
    argv = peers.python("hypercorn", "--bind", f"127.0.0.1:{port}", "--quic-bind", f"127.0.0.1:{port}")
    argv += ["--workers", "1", "--worker-class", "uvloop", "--certfile", str(cert), "--keyfile", str(key), app]
    return h2.Server(argv, port, folder, {**os.environ, "PYTHONPATH": str(directory)})


def both(folder: Path, app: str, directory: Path, rounds: int, work: Callable[[h2.Server], float]) -> dict[str, float]:
    servers = {"fairlead": (ours(folder, app, directory), work), "hypercorn": (hypercorn(folder, app, directory), work)}
    return h2.in_turn(servers, rounds)


# ---- the cases


def engine(rounds: int, requests: int) -> Section:
    """Frames and QPACK in memory: 8 fields in, 4 out and 13 bytes, 10 streams before each `take`; without QUIC."""
    sys.path.insert(0, str(install.fairlead()))
    from fairlead.core.codec import Sink
    from fairlead.core.limits import Limits
    from fairlead.core.message import Common, Response
    from fairlead.wire.h3 import H3
    from fairlead.wire.h3frames import varint
    from fairlead.wire.qpack import Encoder

    class Handling(Sink):
        def head(self, stream, message, end):  # type: ignore[no-untyped-def]
            answer = Response(200, [(b"content-type", b"text/plain"), (b"x-a", b"b")], 13)
            self.codec.head(stream, answer, False)
            self.codec.data(stream, b"Hello, world!", True)

    fields = [
        (b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"www.example.com"), (b":path", b"/api/items/1"),
        (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64)"), (b"accept", b"*/*"), (b"accept-encoding", b"gzip, deflate, br"),
        (b"x-session", b"0123456789abcdef"),
    ]  # fmt: skip
    block = bytearray(b"\0\0")
    encoder, count, best = Encoder(), 100_000, 1e9
    for field in fields:
        encoder.add(block, field)
    raw = b"\1" + varint(len(block)) + bytes(block)
    for _ in range(rounds):
        sink = Handling()
        codec = sink.codec = H3(sink, Limits(), common=Common())  # type: ignore[attr-defined]
        codec.opener = lambda unidirectional: 3
        codec.feed(b"\0\4\0", 1, 2)
        began, now = time.process_time(), 1_000_000_000
        for i in range(count):
            codec.feed(raw, now, 4 * i, True)
            if i % 10 == 9:
                now += 100_000
                codec.take()
                codec.orders()
                codec.credit()
        best = min(best, (time.process_time() - began) / count * 1e6)
    title = "HTTP/3 in memory, without QUIC: 8 literal fields in, 4 out and 13 bytes, 10 streams a turn"
    return Section(title, "µs per request", {"fairlead": best}, "at most 5 µs")


def asgi(rounds: int, requests: int) -> Section:
    """A 12-byte ASGI answer."""
    folder = Path(tempfile.mkdtemp())
    requests = min(requests, 10000)

    def work(server: h2.Server) -> float:
        return load(server.port, "--requests", str(requests)) / 1e6

    figures = both(folder, "plain:app", peers.APPS, rounds, work)
    title = "ASGI over HTTP/3, 12-byte answer, 10 streams on each of 10 connections"
    return Section(title, "µs per request", figures, "at most 0.2 of hypercorn")


def bulk(rounds: int, requests: int) -> Section:
    """64 MiB answers, with datagrams as path MTU discovery finds them on loopback and of 1,280 bytes; Hypercorn sends 1,200."""
    folder = Path(tempfile.mkdtemp())
    small = Path(tempfile.mkdtemp())
    (folder / "bulk.py").write_text(h2.BULK)

    def work(server: h2.Server) -> float:
        count = 1
        load(server.port, "--requests", str(count), "--connections", "1", "--streams", "1")
        return count * 64 / 1024

    servers = {
        "fairlead": (ours(folder, "bulk:app", folder), work),
        "fairlead, 1,280 bytes": (ours(small, "bulk:app", folder, "largest = 0"), work),
        "hypercorn": (hypercorn(folder, "bulk:app", folder), work),
    }
    figures = h2.in_turn(servers, rounds)
    return Section("64 MiB answers over HTTP/3, ASGI", "CPU s per GiB", figures, "at most 1/12 of hypercorn")


def handshakes(rounds: int, requests: int) -> Section:
    """A connection, one request, and its end, all of them with a full handshake and a signature."""
    folder = Path(tempfile.mkdtemp())

    def work(server: h2.Server) -> float:
        return load(server.port, "--handshakes", "400", "--fresh") / 1e3

    figures = both(folder, "plain:app", peers.APPS, rounds, work)
    return Section("A QUIC connection with one request", "CPU ms each", figures, "at most 1/3 of hypercorn")


def resumed(rounds: int, requests: int) -> Section:
    """The same with tickets, from those who give them out: aioquic can, Hypercorn does not."""
    folder = Path(tempfile.mkdtemp())

    def work(server: h2.Server) -> float:
        return load(server.port, "--handshakes", "400") / 1e3

    figures = both(folder, "plain:app", peers.APPS, rounds, work)
    return Section("A QUIC connection with one request, tickets used where there are any", "CPU ms each", figures, "")


def idle(rounds: int, requests: int) -> Section:
    """Memory of an idle connection after one request."""
    folder = Path(tempfile.mkdtemp())
    figures = {}
    for name, start in (("fairlead", ours), ("hypercorn", hypercorn)):
        server = start(folder, "plain:app", peers.APPS)
        load(server.port, "--handshakes", "50")
        time.sleep(1)
        before = measure.rss(server.process.pid)
        env = {**os.environ, "PYTHONPATH": str(install.fairlead())}
        argv = [str(install.PYTHON), "-P", str(HERE / "h3load.py"), str(server.port), "--hold", "300"]
        holder = subprocess.Popen(
            measure.pinned(measure.LOAD_CORE, argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
        said = holder.stdout.readline()  # type: ignore[union-attr]
        if not said:
            raise SystemExit("the load failed")
        time.sleep(1)
        figures[name] = (measure.rss(server.process.pid) - before) / 300 / 1024
        holder.communicate("\n", timeout=30)
        server.stop()
    return Section("Memory of an idle HTTP/3 connection after one ASGI request", "KiB", figures, "at most 60 KiB")


CASES: dict[str, Callable[[int, int], Section]] = {
    "engine": engine,
    "asgi": asgi,
    "bulk": bulk,
    "handshakes": handshakes,
    "resumed": resumed,
    "idle": idle,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=10000)
    options = parser.parse_args()
    for name in options.cases or CASES:
        print(CASES[name](options.rounds, options.requests).markdown(), flush=True)
