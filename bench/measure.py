"""What is measured, and how.

The figure is CPU microseconds per request: user and system time of the server's whole process tree, read from
``/proc/PID/stat`` before and after, over the requests the load generator saw completed. Wall-clock rates on a shared
machine move by a factor of two within a minute; this figure moves by a few per cent. Rules:

* exited children count: a process's ``cutime``/``cstime`` are read too, so a worker that was replaced is not free;
* the server's tree lives on one core and the load generator (and the origin) on another, or neither is pinned;
* a run in which an answer was not a 2xx, or a connection broke, is not a figure: it raises `BadRun`.
"""

import os
import re
import socket
import ssl
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
SERVER_CORE, LOAD_CORE = 0, 1


class BadRun(Exception):
    """The answers were wrong, so there is no figure."""


def cores() -> tuple[int, int] | None:
    """The core for the server and the core for the rest, or None when there is only one to use."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (allowed[SERVER_CORE], allowed[LOAD_CORE]) if len(allowed) > 1 else None


CORES = cores()


def pinned(core: int, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` on `core` (SERVER_CORE or LOAD_CORE); children inherit it."""
    return list(argv) if CORES is None else ["taskset", "-c", str(CORES[core]), *argv]


def fields(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` from the state on (the command's name may hold spaces and brackets)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def tree(root: int) -> list[int]:
    """`root` and its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                children.setdefault(int(fields(int(entry))[1]), []).append(int(entry))
            except (OSError, IndexError):
                continue
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def cpu_seconds(root: int, user_only: bool = False) -> float:
    """User and system seconds of the tree, exited and reaped children included."""
    ticks, step = 0, 2 if user_only else 1  # utime stime cutime cstime
    for pid in tree(root):
        try:
            ticks += sum(int(value) for value in fields(pid)[11:15:step])
        except OSError:
            continue
    return ticks / TICK


@dataclass(frozen=True)
class Memory:
    """Bytes of the tree: resident, and proportional (a page shared by n processes counts 1/n)."""

    rss: int
    pss: int


def memory(root: int) -> Memory:
    """What the tree holds now."""
    totals = {"Rss": 0, "Pss": 0}
    for pid in tree(root):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        for key in totals:
            found = re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE)
            totals[key] += int(found.group(1)) * 1024 if found else 0
    return Memory(totals["Rss"], totals["Pss"])


def peak_rss(root: int, work: Callable[[], None], every: float = 0.02) -> int:
    """Run `work` and answer the largest resident size of the tree that was seen meanwhile."""
    done, seen = threading.Event(), [rss(root)]

    def watch() -> None:
        while not done.wait(every):
            seen.append(rss(root))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return max(seen)


def rss(root: int) -> int:
    """Resident bytes of the tree, by the cheap counter (shared pages count in full)."""
    total = 0
    for pid in tree(root):
        try:
            total += int(fields(pid)[21])
        except OSError:
            continue
    return total * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Load:
    """What the load generator saw."""

    requests: int
    seconds: float


SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def wrk(url: str, seconds: float, connections: int = 32, script: Path | None = None, close: bool = False) -> Load:
    """Drive `url` for `seconds` with one thread; raise `BadRun` unless every answer was a 2xx on a whole connection."""
    options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
    options += ["-s", str(script)] if script else []
    options += ["-H", "Connection: close"] if close else []
    argv = pinned(LOAD_CORE, ["wrk", *options, url])
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 60)
    return parse_wrk(done.stdout + done.stderr)


def parse_wrk(text: str) -> Load:
    """The figures of wrk's report, or `BadRun` with its complaint."""
    for complaint in (r"Non-2xx.*", r"Socket errors.*", r"unable to.*"):
        if found := re.search(complaint, text):
            raise BadRun(f"wrk: {found.group(0)}")
    found = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)\b", text)
    if not found or not int(found.group(1)):
        raise BadRun(f"wrk completed nothing: {text.strip()[-200:]!r}")
    return Load(int(found.group(1)), float(found.group(2)) * SECONDS[found.group(3)])


def handshakes(port: int, seconds: float, at_once: int = 8) -> Load:
    """One HTTP/1.0 request per connection, each with a full TLS 1.3 handshake.

    wrk resumes sessions, so this is ``openssl s_time -new``, several at a time.
    """
    argv = ["openssl", "s_time", "-connect", f"127.0.0.1:{port}", "-new", "-tls1_3", "-www", "/", "-time"]
    argv = pinned(LOAD_CORE, [*argv, str(max(1, round(seconds)))])
    out = subprocess.PIPE
    running = [
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, text=True) for _ in range(at_once)
    ]
    total = 0
    for process in running:
        said, complaint = process.communicate(timeout=seconds + 60)
        found = re.search(r"(\d+) connections in \d+ real seconds, (\d+) bytes", said)
        if process.returncode or not found or not int(found.group(2)):
            raise BadRun(f"openssl s_time: {(said + complaint).strip()[-200:]!r}")
        total += int(found.group(1))
    return Load(total, seconds)


def cpu_per_request(root: int, load: Callable[[], Load]) -> float:
    """CPU microseconds of the tree per request while `load` ran."""
    before = cpu_seconds(root)
    requests = load().requests
    return (cpu_seconds(root) - before) / requests * 1e6


@dataclass(frozen=True)
class Spread:
    """The median of several runs, and how far they lay apart."""

    median: float
    low: float
    high: float
    runs: int

    @staticmethod
    def of(values: Iterable[float]) -> "Spread":
        """Summarise; there must be at least one value."""
        found = list(values)
        return Spread(statistics.median(found), min(found), max(found), len(found))


@cache
def unverified() -> ssl.SSLContext:
    """A client context that takes any certificate: the servers here use throw-away ones."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def connect(port: int, tls: bool, timeout: float = 20.0) -> socket.socket:
    """A connection to a local server, after the handshake if `tls`."""
    plain = socket.create_connection(("127.0.0.1", port), timeout)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return unverified().wrap_socket(plain, server_hostname="localhost") if tls else plain


def get(sock: socket.socket, path: str = "/", length: int | None = None) -> bytes:
    """One keep-alive GET by hand; answers the body, raises `BadRun` on anything but a 200 with its whole body."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    data = read_until(sock, b"\r\n\r\n")
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise BadRun(f"GET {path} answered {head[:60]!r}")
    return read_body(sock, head.lower(), body)


def read_until(sock: socket.socket, mark: bytes) -> bytes:
    """Everything up to and past `mark`."""
    data = b""
    while mark not in data:
        piece = sock.recv(65536)
        if not piece:
            raise BadRun(f"closed after {data[-80:]!r}")
        data += piece
    return data


def read_body(sock: socket.socket, head: bytes, body: bytes) -> bytes:
    """The rest of a body framed by Content-Length or chunks (returned with its chunk framing)."""
    sized = re.search(rb"content-length: *(\d+)", head)
    while len(body) < int(sized.group(1)) if sized else not body.endswith(b"0\r\n\r\n"):
        piece = sock.recv(65536)
        if not piece:
            raise BadRun("closed inside a body")
        body += piece
    return body


def wait_until(condition: Callable[[], bool], seconds: float, every: float = 0.02) -> bool:
    """Poll until it holds; False when the time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
