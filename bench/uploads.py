"""How fast a file gets to the disk: an upload over loopback, beside what the disk and the loopback do by themselves.

    .venv/bin/python bench/uploads.py [--mib 512] [--rounds 3] [--tmpfs] [--only h2]

In turn, in each round: `disk`: write the bytes to a file, megabyte by megabyte, then fdatasync. `loopback`: send them to a process
that reads and forgets them. `both`: to one that reads, writes and syncs, which is the plainest server there can be (recv_into,
write). `fairlead`: PUT, and `resumable`: POST and PATCH; the time ends when the answer is here, so all is on the disk. `--tmpfs`
takes /dev/shm in place of the disk: then it is the server itself that is measured. CPU of the server's processes is from /proc.

`h1 reads`, `h2 reads` and `h3 reads`: the same bytes to an ASGI application that only reads them, and `h2 upload`, `h3 upload`: to
the upload route, by h2load (plain text) and by gtlsclient of ngtcp2; `h1 reads` by the same client as `fairlead`. `--only` runs the
cases whose names have that in them.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

CONFIG = """
[server]
workers = 1
[log]
access = "off"
[store]
url = "sqlite:///{folder}/store.db"
[[listener]]
bind = "127.0.0.1:{port}"
[[listener]]
bind = "127.0.0.1:{secure}"
protocols = ["h2", "h3"]
tls = "dev"
[[route]]
path = "/up/*"
upload = "{folder}/files"
[[route]]
path = "/reads/*"
app = {{ target = "reads:app", dir = "{folder}" }}
"""
READS = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
"""
PIECE = bytes(1 << 20)
SINK = """
import os, socket, sys
sock = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    conn, _ = sock.accept()
    fd = os.open(sys.argv[2], os.O_CREAT | os.O_TRUNC | os.O_WRONLY) if len(sys.argv) > 2 else -1
    buffer = memoryview(bytearray(262144))
    left = int.from_bytes(conn.recv(8), "big")
    while left:
        size = conn.recv_into(buffer)
        if fd >= 0:
            os.write(fd, buffer[:size])
        left -= size
    if fd >= 0:
        os.fdatasync(fd)
        os.close(fd)
    conn.sendall(b"k")
    conn.close()
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def connected(port: int) -> socket.socket:
    for _ in range(500):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=300)
        except OSError:
            time.sleep(0.02)
    raise SystemExit("the server does not answer")


def disk(folder: Path, mib: int) -> None:
    """The bytes to a file."""
    fd = os.open(folder / "plain", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    for _ in range(mib):
        os.write(fd, PIECE)
    os.fdatasync(fd)
    os.close(fd)
    os.unlink(folder / "plain")


def sink(port: int, mib: int) -> None:
    """The bytes to a process."""
    with connected(port) as sock:
        sock.sendall((mib << 20).to_bytes(8, "big"))
        for _ in range(mib):
            sock.sendall(PIECE)
        assert sock.recv(1) == b"k"


def asked(port: int, head: str, mib: int) -> bytes:
    """One request; the head of its answer."""
    with connected(port) as sock:
        sock.sendall(f"{head}Host: x\r\nContent-Length: {mib << 20}\r\nConnection: close\r\n\r\n".encode())
        for _ in range(mib):
            sock.sendall(PIECE)
        got = b""
        while part := sock.recv(65536):
            got += part
    assert b" 20" in got[:13], got[:200]
    return got


def plain(port: int, mib: int) -> None:
    """A whole file."""
    asked(port, "PUT /up/file HTTP/1.1\r\n", mib)


def resumable(port: int, mib: int) -> None:
    """By the draft, in two requests."""
    got = asked(port, f"POST /up HTTP/1.1\r\nUpload-Complete: ?0\r\nUpload-Length: {mib << 20}\r\n", 0)
    place = re.search(rb"location: (\S+)", got)[1].decode()  # type: ignore[index]
    words = "Content-Type: application/partial-upload\r\nUpload-Offset: 0\r\nUpload-Complete: ?1\r\n"
    asked(port, f"PATCH {place} HTTP/1.1\r\n{words}", mib)


def reads(port: int, mib: int) -> None:
    """To an application that only reads."""
    asked(port, "PUT /reads/file HTTP/1.1\r\n", mib)


def h2(port: int, data: Path, path: str) -> None:
    """One request of h2load, in plain text."""
    argv = ["h2load", "-n1", "-c1", "-m1", "-d", str(data), f"http://127.0.0.1:{port}{path}"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=600).stdout
    assert "1 2xx" in said, said


def h3(port: int, data: Path, path: str) -> None:
    """One request of gtlsclient."""
    argv = ["gtlsclient", "-q", "--exit-on-all-streams-close", "-m", "POST", "-d", str(data), "127.0.0.1", str(port)]
    done = subprocess.run([*argv, f"https://localhost:{port}{path}"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def cpu_of(group: int) -> float:
    """Seconds of CPU of all processes of a session."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parts = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(parts[3]) == group:
            total += int(parts[11]) + int(parts[12])
    return total / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tmpfs", action="store_true")
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fl-bench-", dir="/dev/shm" if args.tmpfs else None))
    ports = [free_port() for _ in range(4)]
    (folder / "fairlead.toml").write_text(CONFIG.format(folder=folder, port=ports[2], secure=ports[3]))
    (folder / "reads.py").write_text(READS)
    data = folder / "data"
    with data.open("wb") as file:
        for _ in range(args.mib):
            file.write(PIECE)
    commands = [
        [sys.executable, "-c", SINK, str(ports[0])],
        [sys.executable, "-c", SINK, str(ports[1]), str(folder / "sunk")],
        [sys.executable, "-P", "-m", "fairlead", "run", str(folder / "fairlead.toml")],
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = [subprocess.Popen(command, start_new_session=True, **quiet) for command in commands]  # type: ignore[call-overload]
    cases: dict[str, tuple[Callable[[], None], int]] = {
        "disk": (lambda: disk(folder, args.mib), 0),
        "loopback": (lambda: sink(ports[0], args.mib), running[0].pid),
        "both": (lambda: sink(ports[1], args.mib), running[1].pid),
        "fairlead": (lambda: plain(ports[2], args.mib), running[2].pid),
        "resumable": (lambda: resumable(ports[2], args.mib), running[2].pid),
        "h1 reads": (lambda: reads(ports[2], args.mib), running[2].pid),
        "h2 reads": (lambda: h2(ports[2], data, "/reads/x"), running[2].pid),
        "h2 upload": (lambda: h2(ports[2], data, "/up"), running[2].pid),
        "h3 reads": (lambda: h3(ports[3], data, "/reads/x"), running[2].pid),
        "h3 upload": (lambda: h3(ports[3], data, "/up"), running[2].pid),
    }
    cases = {name: case for name, case in cases.items() if args.only in name}
    speeds: dict[str, list[float]] = {name: [] for name in cases}
    spent: dict[str, list[float]] = {name: [] for name in cases}
    try:
        asked(ports[2], "PUT /up/file HTTP/1.1\r\n", 1)
        for _ in range(args.rounds):
            for name, (run, group) in cases.items():
                before, began = cpu_of(group) if group else 0.0, time.perf_counter()
                run()
                speeds[name].append(args.mib / (time.perf_counter() - began))
                spent[name].append((cpu_of(group) - before) if group else 0.0)
                shutil.rmtree(folder / "files", ignore_errors=True)
                (folder / "files" / ".uploads").mkdir(parents=True)
                os.sync()
        for name, found in speeds.items():
            cpu = statistics.median(spent[name]) * 1024 / args.mib
            each = ", ".join(f"{one:.0f}" for one in found)
            print(f"{name:10} {statistics.median(found):7.0f} MiB/s  {each:30} {cpu:5.2f} s of CPU per GiB")
        if args.only:
            return
        least = min(statistics.median(speeds["disk"]), statistics.median(speeds["loopback"]))
        for name in ("both", "fairlead", "resumable"):
            print(f"{name} reaches {statistics.median(speeds[name]) / least:.2f} of the slower of disk and loopback")
    finally:
        for one in running:
            os.killpg(one.pid, signal.SIGTERM)
        for one in running:
            one.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
