"""What the idempotency filter adds to a request: CPU microseconds of the whole server, SQLite included, at 100 concurrent clients.

    python bench/idempotency.py [--seconds 3] [--rounds 3] [--concurrent 100]

One worker and the store's keeper; POSTs with a body of 20 bytes, each with a new key; the same application without the filter
beside it. Shown: CPU (utime + stime of the server's processes) and wall time per request at that concurrency, and what the filter
adds to each.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
APP = """
async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""
FILE = """
[server]
workers = 1
pattern = "single"
[store]
url = "sqlite:///{folder}/store.db"
[log]
access = "off"
[admin]
bind = "off"
[[listener]]
bind = "127.0.0.1:{port}"
[[route]]
path = "/keyed"
app = {{ target = "app:app", dir = "{folder}", lifespan = "off" }}
filters = ["idempotency"]
[[route]]
path = "/plain"
app = {{ target = "app:app", dir = "{folder}", lifespan = "off" }}
"""
KEYS = itertools.count()


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += family(int(one))
    return found


def spent(pid: int) -> float:
    """Seconds of CPU of a process and all below it."""
    total = 0
    for one in family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


async def load(port: int, path: str, concurrent: int, seconds: float) -> int:
    """How many requests were answered 201."""
    ends = time.monotonic() + seconds
    done = 0

    async def client() -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < ends:
            key = b'idempotency-key: "bench-%d"\r\n' % next(KEYS)
            writer.write(b"POST " + path.encode() + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 20\r\n" + key + b"\r\n" + b"x" * 20)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2)
            assert head.startswith(b"HTTP/1.1 201"), head
            done += 1
        writer.close()

    await asyncio.gather(*(client() for _ in range(concurrent)))
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrent", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fl-bench-") as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        Path(folder, "app.py").write_text(APP)
        Path(folder, "f.toml").write_text(FILE.format(folder=folder, port=port))
        command = [sys.executable, "-P", "-m", "fairlead", "run", f"{folder}/f.toml"]
        server = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE)
        try:
            assert server.stderr is not None
            while b"Ctrl-C" not in server.stderr.readline():
                pass
            found: dict[str, list[tuple[float, float]]] = {}
            for _ in range(given.rounds):
                for path in ("/plain", "/keyed"):
                    before, began = spent(server.pid), time.monotonic()
                    done = asyncio.run(load(port, path, given.concurrent, given.seconds))
                    took = time.monotonic() - began
                    found.setdefault(path, []).append((1e6 * (spent(server.pid) - before) / done, 1e6 * took / done))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
    plain, keyed = ([statistics.median(column) for column in zip(*found[path])] for path in ("/plain", "/keyed"))
    print(f"| | CPU, us | wall, us at {given.concurrent} concurrent |\n| --- | ---: | ---: |")
    print(f"| without | {plain[0]:.0f} | {plain[1]:.0f} |\n| with a new key each | {keyed[0]:.0f} | {keyed[1]:.0f} |")
    print(f"| the filter adds | {keyed[0] - plain[0]:.0f} | {keyed[1] - plain[1]:.0f} |")


if __name__ == "__main__":
    main()
