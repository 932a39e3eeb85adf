"""How fast a file gets to the disk: an upload over loopback, beside what the disk and the loopback do by themselves.

    .venv/bin/python bench/uploads.py [--mib 512] [--rounds 3] [--tmpfs]

In turn, in each round: `disk`: write the bytes to a file, megabyte by megabyte, then fdatasync. `loopback`: send them to a process
that reads and forgets them. `both`: to one that reads, writes and syncs, which is the plainest server there can be (recv_into,
write). `fairlead`: PUT, and `resumable`: POST and PATCH; the time ends when the answer is here, so all is on the disk. `--tmpfs`
takes /dev/shm in place of the disk: then it is the server itself that is measured. CPU of the server's processes is from /proc.
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
[[route]]
path = "/up/*"
upload = "{folder}/files"
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
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fl-bench-", dir="/dev/shm" if args.tmpfs else None))
    ports = [free_port() for _ in range(3)]
    (folder / "fairlead.toml").write_text(CONFIG.format(folder=folder, port=ports[2]))
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
    }
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
