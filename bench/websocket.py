"""WebSocket echo and idle sockets: ours through ASGI beside picows and `websockets`, both without ASGI.

    python bench/websocket.py [--seconds 3] [--rounds 4] [--idle 10000]

CPU microseconds of the server's process tree per 32-byte echo, 32 sockets, server on one core and load on the other, in turn
(A B C A B C ...), medians; then bytes (PSS) of ours per idle WebSocket that has said something once. Ceilings: 1.3 x picows,
0.55 x websockets, 10 KB. Needs picows, websockets and uvloop beside Fairlead in this Python.
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
from pathlib import Path

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--idle", type=int, default=10000)
    given = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name, text in (("wsecho", ECHO), ("by_picows", PICOWS), ("by_websockets", WEBSOCKETS)):
            (home / f"{name}.py").write_text(text)
        ports = {name: free_port() for name in ("fairlead", "picows", "websockets")}
        ours = [sys.executable, "-m", "fairlead", "run", "wsecho:app", "--bind", f"127.0.0.1:{ports['fairlead']}"]
        ours += ["--workers", "1", "--pattern", "single", "--page", "off", "--access-log", "off"]
        commands = {
            "fairlead": ours,
            "picows": [sys.executable, "by_picows.py", str(ports["picows"])],
            "websockets": [sys.executable, "by_websockets.py", str(ports["websockets"])],
        }
        pin = ["taskset", "-c", str(cores[0])]
        env = {**os.environ, "XDG_RUNTIME_DIR": folder, "PYTHONPATH": folder}
        running = {
            name: subprocess.Popen([*pin, *command], cwd=home, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for name, command in commands.items()
        }
        os.sched_setaffinity(0, {cores[-1]})
        try:
            time.sleep(3)
            found: dict[str, list[float]] = {name: [] for name in running}
            for _ in range(given.rounds):
                for name, process in running.items():
                    found[name].append(echo(process.pid, ports[name], given.seconds))
            us = {name: statistics.median(values) for name, values in found.items()}
            for name, value in us.items():
                print(f"echo  {name:10} {value:6.2f} us  {us['fairlead'] / value:5.2f} x")
            if given.idle:
                each = idle(running["fairlead"].pid, ports["fairlead"], given.idle)
                print(f"idle  fairlead   {each:6.0f} bytes each of {given.idle}")
        finally:
            for process in running.values():
                process.terminate()
                process.wait()


if __name__ == "__main__":
    main()
