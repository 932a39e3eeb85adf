"""WebSocket echo and idle sockets: ours through ASGI beside picows and `websockets`, both without ASGI.

    scripts/bench --case 'websocket-*'           # as tables
    python bench/websocket.py [--seconds 3] [--rounds 4] [--idle 10000]

CPU microseconds of the server's process tree per 32-byte echo, 32 sockets, server on one core and load on the other, in turn
(A B C A B C ...), medians; then bytes (PSS) of ours per idle WebSocket that has said something once. Ceilings: 1.3 x picows,
0.55 x websockets, 10 KB; 0.3 us for the codec alone, which runs in this interpreter.
"""

import argparse
import os
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import install
from report import Section

ECHO = """
async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            event["type"] = "websocket.send"
            await send(event)
"""
PICOWS = """
import sys, picows, uvloop
class Echo(picows.WSListener):
    def on_ws_frame(self, transport, frame):
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_bytes())
async def main():
    server = await picows.ws_create_server(lambda request: Echo(), "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
uvloop.run(main())
"""
WEBSOCKETS = """
import asyncio, sys, uvloop
from websockets.asyncio.server import serve
async def echo(socket):
    async for message in socket:
        await socket.send(message)
async def main():
    async with serve(echo, "127.0.0.1", int(sys.argv[1]), compression=None):
        await asyncio.get_running_loop().create_future()
uvloop.run(main())
"""
ASK = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
FRAME = b"\x82\xa0\0\0\0\0" + b"x" * 32


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def tree(pid: int) -> list[int]:
    """A process and its children."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    return [pid, *map(int, found)]


def cpu(pid: int) -> float:
    """Seconds of CPU of a process tree."""
    ticks = 0
    for one in tree(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def pss(pid: int) -> int:
    """Bytes of memory of a process tree, shared pages by share."""
    lines = [line for one in tree(pid) for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def opened(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A WebSocket that echoed once."""
    sock = socket.create_connection((host, port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(ASK)
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(4096)
    sock.sendall(FRAME)
    assert len(sock.recv(100)) == 34
    return sock


def echo(pid: int, port: int, seconds: float) -> float:
    """CPU microseconds per echo over 32 sockets."""
    poll = selectors.DefaultSelector()
    socks = [opened(port) for _ in range(32)]
    for sock in socks:
        sock.setblocking(False)
        poll.register(sock, selectors.EVENT_READ)
        sock.send(FRAME)
    before, count, end = cpu(pid), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for key, _ in poll.select():
            assert len(key.fileobj.recv(100)) == 34
            key.fileobj.send(FRAME)
            count += 1
    spent = cpu(pid) - before
    for sock in socks:
        sock.close()
    return spent / count * 1e6


def idle(pid: int, port: int, count: int) -> float:
    """Bytes per idle WebSocket."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    held = [opened(port) for _ in range(100)]
    time.sleep(1)
    before = pss(pid)
    held += [opened(port, f"127.0.0.{1 + number // 15000}") for number in range(count)]
    time.sleep(1)
    each = (pss(pid) - before) / count
    for sock in held[:100] + held[-100:]:
        sock.sendall(FRAME)
        assert len(sock.recv(100)) == 34, "an idle socket does not answer"
    for sock in held:
        sock.close()
    return each


class Servers:
    """The three, each on the server's core; `us` and the memory are asked of them while they run."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.folder = tempfile.TemporaryDirectory()
        home = Path(self.folder.name)
        for name, text in (("wsecho", ECHO), ("by_picows", PICOWS), ("by_websockets", WEBSOCKETS)):
            (home / f"{name}.py").write_text(text)
        self.ports = {name: free_port() for name in names}
        ours = ["-m", "fairlead", "run", "wsecho:app", "--bind", f"127.0.0.1:{self.ports['fairlead']}"]
        ours += ["--workers", "1", "--pattern", "single", "--page", "off", "--access-log", "off"]
        commands = {name: [f"by_{name}.py", str(port)] for name, port in self.ports.items()} | {"fairlead": ours}
        cores = sorted(os.sched_getaffinity(0))
        self.cores = set(cores)
        pin = ["taskset", "-c", str(cores[0]), str(install.PYTHON)]
        env = {**os.environ, "XDG_RUNTIME_DIR": str(home), "PYTHONPATH": f"{install.fairlead()}:{home}"}
        self.running = {
            name: subprocess.Popen(
                [*pin, *commands[name]], cwd=home, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            for name in names
        }
        os.sched_setaffinity(0, {cores[-1]})
        for name, port in self.ports.items():
            self.ready(name, port)

    def ready(self, name: str, port: int) -> None:
        """Wait until it takes connections."""
        for _ in range(200):
            try:
                return socket.create_connection(("127.0.0.1", port)).close()
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"{name} did not start")

    def __enter__(self) -> "Servers":
        return self

    def __exit__(self, *_: object) -> None:
        os.sched_setaffinity(0, self.cores)
        for process in self.running.values():
            process.terminate()
            process.wait()
        self.folder.cleanup()


def echoes(rounds: int, seconds: float) -> Section:
    """32-byte echoes, in turn."""
    found: dict[str, list[float]] = {}
    with Servers(("fairlead", "picows", "websockets")) as servers:
        for _ in range(rounds):
            for name, process in servers.running.items():
                found.setdefault(name, []).append(echo(process.pid, servers.ports[name], seconds))
    us = {name: statistics.median(values) for name, values in found.items()}
    aim = "at most 1.3 of picows, which has no ASGI in between, and 0.55 of websockets"
    return Section("WebSocket echo of 32 bytes through ASGI, 32 sockets", "µs per echo", us, aim)


def idles(rounds: int, seconds: float, count: int = 10000) -> Section:
    """Memory of ours per idle socket."""
    with Servers(("fairlead",)) as servers:
        each = idle(servers.running["fairlead"].pid, servers.ports["fairlead"], count)
    return Section(
        f"Memory of {count:,} idle WebSockets on one worker", "KiB each", {"fairlead": each / 1024}, "at most 10 KB"
    )


def codec(rounds: int, seconds: float) -> Section:
    """One masked frame of 32 bytes in, the same message out, in memory; the best round."""
    sys.path.insert(0, str(install.fairlead()))
    from fairlead.core.limits import WebSocketLimits
    from fairlead.wire.ws import Ear, WebSocket

    class Echo(Ear):
        def binary(self, message: bytes) -> bool:
            self.ws.binary(message)  # type: ignore[attr-defined]
            return True

    best, count, read = 1e9, 200_000, FRAME
    for _ in range(max(rounds, 3)):
        ear = Echo()
        ws = ear.ws = WebSocket(ear, WebSocketLimits())  # type: ignore[attr-defined]
        feed, take = ws.feed, ws.take
        began = time.process_time()
        for _ in range(count):
            feed(read, 1)
            take()
        best = min(best, (time.process_time() - began) / count * 1e6)
    title = "WebSocket codec in memory: an echo of 32 bytes, one a read, through a listener written in Python"
    return Section(title, "µs per echo", {"fairlead": best}, "at most 0.3 µs")


CASES: dict[str, Callable[[int, float], Section]] = {"codec": codec, "echo": echoes, "idle": idles}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], default=list(CASES))
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--idle", type=int, default=10000)
    given = parser.parse_args()
    for name in given.cases or CASES:
        more = (given.idle,) if name == "idle" else ()
        print(CASES[name](given.rounds, given.seconds, *more).markdown(), flush=True)


if __name__ == "__main__":
    main()
