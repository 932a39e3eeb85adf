"""How each kind of case is measured on a running server; each function answers figures by name.

``cpu`` CPU microseconds per request · ``connect`` the same per connection · ``idle`` bytes per idle connection ·
``body`` CPU seconds per GiB and growth while a large body passes · ``instructions`` counted per request.
"""

import json
import re
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

import measure
import peers
from cases import Case

MIB, GIB = 1 << 20, 1 << 30
CONNECTIONS = 32
Figures = dict[str, float]


@dataclass(frozen=True)
class Effort:
    """How long and how much; `quick` values only show that the harness works."""

    rounds: int = 5
    seconds: float = 3
    idle: int = 2000
    body: int = GIB
    few: int = 200
    many: int = 1200


def check(case: Case, server: peers.Server) -> None:
    """One request by hand: status, length, and that a reused connection works; raises `BadRun`."""
    with measure.connect(server.port, server.setup.tls) as sock:
        for _ in range(2):
            body = measure.get(sock, case.path if not case.upload else "/")
            if case.length is not None and len(body) != case.length:
                raise measure.BadRun(f"answered {len(body)} bytes instead of {case.length}")


def url(server: peers.Server, path: str) -> str:
    """Where the load generator goes."""
    return f"{'https' if server.setup.tls else 'http'}://127.0.0.1:{server.port}{path}"


def upload_script(server: peers.Server, size: int) -> Path:
    """wrk takes its method and body from Lua."""
    script = server.folder / "upload.lua"
    script.write_text(f'wrk.method = "POST"\nwrk.body = string.rep("x", {size})\n')
    return script


def load(case: Case, server: peers.Server, seconds: float) -> measure.Load:
    """Drive one server the way its case says."""
    connect = case.measure == "connect"
    if connect and server.setup.tls:
        return measure.handshakes(server.port, seconds)
    script = upload_script(server, case.upload) if case.upload else None
    return measure.wrk(url(server, case.path), seconds, CONNECTIONS, script, close=connect)


def cpu(case: Case, server: peers.Server, effort: Effort) -> Figures:
    """CPU microseconds per request, or per connection when every request opens one."""
    before = server.logged() if server.setup.log else 0
    done = 0

    def drive() -> measure.Load:
        nonlocal done
        found = load(case, server, effort.seconds)
        done = found.requests
        return found

    figure = measure.cpu_per_request(server.pid, drive)
    if server.setup.log and not measure.wait_until(lambda: server.logged() - before >= done, 5):
        raise measure.BadRun(f"{server.logged() - before} lines in the access log for {done} requests")
    return {"us": figure}


def idle(case: Case, server: peers.Server, effort: Effort) -> Figures:
    """Bytes per connection that had one request and now waits; a few connections before it warm the server up."""
    held = [opened(case, server) for _ in range(32)]
    before = settled(server)
    try:
        held += [opened(case, server) for _ in range(effort.idle)]
        after = settled(server)
        measure.get(held[32], case.path, case.length)  # still alive
    finally:
        for sock in held:
            sock.close()
    return {"rss": (after.rss - before.rss) / effort.idle, "pss": (after.pss - before.pss) / effort.idle}


def opened(case: Case, server: peers.Server) -> socket.socket:
    """A connection after one request."""
    sock = measure.connect(server.port, server.setup.tls)
    measure.get(sock, case.path, case.length)
    return sock


def settled(server: peers.Server) -> measure.Memory:
    """The tree's memory once it stays the same for half a second (five seconds at most)."""
    last, same, deadline = measure.memory(server.pid), 0, time.monotonic() + 5
    while same < 5 and time.monotonic() < deadline:
        time.sleep(0.1)
        now = measure.memory(server.pid)
        same, last = (same + 1 if now.rss == last.rss else 0), now
    return last


def body(case: Case, server: peers.Server, effort: Effort) -> Figures:
    """CPU seconds per GiB each way, and how far the tree's resident size rose above where it stood before."""
    check_small(server)
    before = measure.rss(server.pid)
    figures: Figures = {}
    for way in ("down", "up"):
        start = measure.cpu_seconds(server.pid)
        peak = measure.peak_rss(server.pid, lambda way=way: curl(server, way, effort.body))  # type: ignore[misc]
        figures[f"{way}_cpu"] = (measure.cpu_seconds(server.pid) - start) * GIB / effort.body
        figures[f"{way}_growth"] = float(peak - before)
    return figures


def check_small(server: peers.Server) -> None:
    """Warm up both ways with one MiB."""
    for way in ("down", "up"):
        curl(server, way, MIB)


def curl(server: peers.Server, way: str, size: int) -> None:
    """Move `size` bytes with curl; raises `BadRun` unless all of them arrived."""
    base = ["curl", "-sS", "-k", "--max-time", "300", "-o", "/dev/null" if way == "down" else "-"]
    if way == "down":
        argv = [*base, "-w", "%{http_code} %{size_download}", url(server, f"/big/{size}")]
        wanted = f"200 {size}"
    else:
        source = server.folder / "upload.bin"
        with source.open("wb") as sparse:
            sparse.truncate(size)
        argv = [*base, "-X", "POST", "-H", "Expect:", "-T", str(source), url(server, "/count")]
        wanted = str(size)
    done = subprocess.run(measure.pinned(measure.LOAD_CORE, argv), capture_output=True, text=True)
    if done.stdout.strip() != wanted:
        raise measure.BadRun(f"curl {way}: {done.stdout.strip()!r} instead of {wanted!r} {done.stderr.strip()}")


def perf_counts() -> bool:
    """Whether this machine lets us count instructions in hardware."""
    if not shutil.which("perf"):
        return False
    done = subprocess.run(["perf", "stat", "-x,", "-e", "instructions:u", "true"], capture_output=True, text=True)
    return re.search(r"^\d+,", done.stderr, re.MULTILINE) is not None


def instructions(case: Case, server: peers.Server, effort: Effort) -> Figures:
    """User instructions per request, by `perf stat` where the machine can count, else under valgrind's cachegrind."""
    if perf_counts():
        return {**by_perf(case, server, effort), **user_time(case, server, effort)}
    if not shutil.which("valgrind"):
        raise measure.BadRun("instructions cannot be counted: perf has no counter here and valgrind is not installed")
    return {**by_valgrind(case, server, effort), **user_time(case, server, effort)}


def user_time(case: Case, server: peers.Server, effort: Effort) -> Figures:
    """User microseconds per request, to turn a share of the instructions into time."""
    before = measure.cpu_seconds(server.pid, user_only=True)
    requests = load(case, server, effort.seconds).requests
    return {"user_us": (measure.cpu_seconds(server.pid, user_only=True) - before) / requests * 1e6}


def by_perf(case: Case, server: peers.Server, effort: Effort) -> Figures:
    """Hardware count over a run of the load generator."""
    pids = ",".join(map(str, measure.tree(server.pid)))
    counter = ["perf", "stat", "-x,", "-e", "instructions:u", "-p", pids, "--"]
    argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(effort.seconds))}s", url(server, case.path)]
    done = subprocess.run(counter + measure.pinned(measure.LOAD_CORE, argv), capture_output=True, text=True)
    found = re.search(r"^(\d+),", done.stderr, re.MULTILINE)
    if not found:
        raise measure.BadRun(f"perf stat said {done.stderr.strip()[-200:]}")
    return {"instructions": int(found.group(1)) / measure.parse_wrk(done.stdout).requests}


def by_valgrind(case: Case, server: peers.Server, effort: Effort) -> Figures:
    """The difference between a long and a short run of a fresh server, so that starting and stopping cancel out."""
    short, long = (counted(case, server, n) for n in (effort.few, effort.many))
    return {"instructions": (long - short) / (effort.many - effort.few)}


def counted(case: Case, server: peers.Server, requests: int) -> int:
    """All instructions of a server's life in which it answered `requests` on one connection."""
    wrapper = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--trace-children=yes", "--cachegrind-out-file=cg.%p")
    watched = peers.Server(server.name, replace(server.setup, wrapper=wrapper))
    try:
        with measure.connect(watched.port, watched.setup.tls, timeout=120) as sock:
            for _ in range(requests):
                measure.get(sock, case.path)
    finally:
        watched.stop(keep=True)
    total = sum(summary(file) for file in watched.folder.glob("cg.*"))
    shutil.rmtree(watched.folder, ignore_errors=True)
    if not total:
        raise measure.BadRun("cachegrind wrote no count")
    return total


def summary(file: Path) -> int:
    """The total in one of cachegrind's files."""
    found = re.search(r"^summary: (\d+)", file.read_text(errors="replace"), re.MULTILINE)
    return int(found.group(1)) if found else 0


MEASURES = {"cpu": cpu, "connect": cpu, "idle": idle, "body": body, "instructions": instructions}
FRESH = {"idle"}  # a server that already held connections would reuse their memory


def dump(data: object, file: Path) -> None:
    """Write the raw figures."""
    file.write_text(json.dumps(data, indent=1) + "\n")
