"""The execution patterns against each other on one machine: `python bench/patterns.py`, or `run.py --case patterns`.

Three loads, every server in turn, round by round:
- plain: wrk, 32 keep-alive connections, an answer at once: rate and CPU microseconds per request;
- mixed: an open loop (see openloop.py) over 64 keep-alive connections at 60 % of the knee, where one request in twenty
  blocks its worker for 50 ms: the time of the *other* requests;
- fresh: the same with a connection for each request, so that the accept queue is part of the way.

The knee is what the workers can do together when none of them idles: workers / mean time of a request. `single` has one
worker, and gets the load of one. Blocking is a sleep, so the processor is not what limits the two open loops, and their
figures hold on a small machine. Skew is the busiest worker's share over the idlest's, in the mixed load.
"""

import argparse
import json
import os
import resource
import shutil
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import install
import measure
import openloop
import peers
from install import say

WORKERS = 4
BLOCK, SHARE, FAST = 0.05, 1 / 20, 0.0001  # seconds of a blocking request, how many are, seconds of another
LOAD = 0.6
PATTERNS = ("single", "handoff", "dispatch", "shared", "reuseport")
UNITS = ("process", "thread")
SHARES = (0.5, 0.99, 0.999)
COLOURS = {"single": "#888888", "handoff": "#1b9e77", "dispatch": "#d95f02", "shared": "#7570b3", "reuseport": "#e7298a"}
IDLE = 10_000


class Server:
    """Fairlead with one pattern and unit."""

    def __init__(self, pattern: str, unit: str, workers: int = WORKERS) -> None:
        self.workers = 1 if pattern == "single" else workers
        words = ("--pattern", pattern, "--unit", unit, "--workers", str(self.workers), "--page", "off")
        self.server = peers.Server("fairlead", peers.Setup("asgi", "mixed:app", log=False, words=words))
        if not measure.wait_until(lambda: b"Ctrl-C" in self.server.output.read_bytes(), 30):
            raise peers.CannotStart(self.server.said())

    @property
    def knee(self) -> float:
        """Requests a second that all workers together can do."""
        return self.workers / (SHARE * BLOCK + (1 - SHARE) * FAST)

    def plain(self, seconds: float) -> dict[str, float]:
        """wrk."""
        before = measure.cpu_seconds(self.server.pid)
        load = measure.wrk(f"http://127.0.0.1:{self.server.port}/", seconds)
        cpu = measure.cpu_seconds(self.server.pid) - before
        return {"rate": load.requests / load.seconds, "cpu_us": cpu / load.requests * 1e6}

    def open_loop(self, seconds: float, connections: int) -> dict[str, object]:
        """The times of the fast requests, in milliseconds, and who answered how many."""
        wanted = openloop.schedule(LOAD * self.knee, seconds, {"/": 1 - SHARE, "/block": SHARE})
        generator = openloop.Generator(self.server.port, connections)
        done = generator.run(wanted)
        if generator.errors:
            raise measure.BadRun(f"{generator.errors} requests failed")
        fast = [one.took * 1e3 for one in done if one.path == "/"]
        answered = Counter(one.who for one in done)
        counts = [*answered.values(), *[0] * (self.workers - len(answered))]
        return {"times": fast, "skew": max(counts) / max(1, min(counts))}

    def memory(self) -> float:
        """MiB of the whole tree, shared pages counted once."""
        return measure.memory(self.server.pid).pss / (1 << 20)


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(prog="bench/patterns.py", description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6, help="length of each load")
    parser.add_argument("--only", default="", help="patterns, comma-separated")
    parser.add_argument("--units", default=",".join(UNITS))
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--write", action="store_true", help="write docs/guide/patterns-bench.md and the plots")
    parser.add_argument("--idle", type=int, nargs="?", const=IDLE, help="only: memory of this many idle connections")
    options = parser.parse_args(argv)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    install.PYTHON = Path(sys.executable)  # no peers: whoever runs this has what it takes
    if not shutil.which("wrk"):
        install.programs()
    if measure.CORES is not None:
        os.sched_setaffinity(0, {measure.CORES[measure.LOAD_CORE]})
    if options.idle:
        return idle(options.idle)
    chosen = [p for p in PATTERNS if not options.only or p in options.only.split(",")]
    found = run([(p, u) for u in options.units.split(",") for p in chosen], options.rounds, options.seconds)
    if options.json:
        options.json.write_text(json.dumps(found))
    print(table(found))
    if options.write:
        write(found, f"{options.rounds} rounds of {options.seconds:g} s")
    return 0 if found else 1


def run(wanted: list[tuple[str, str]], rounds: int, seconds: float) -> dict[str, dict[str, list]]:
    """Every server in turn; {"pattern unit": {figure: one value per round}}. Times of all rounds are put together."""
    found: dict[str, dict[str, list]] = {}
    for _ in range(rounds):
        for pattern, unit in wanted:
            key = f"{pattern} {unit}"
            try:
                server = Server(pattern, unit)
                try:
                    add(found.setdefault(key, {}), measured(server, seconds))
                finally:
                    server.server.stop()
            except (peers.CannotStart, measure.BadRun, OSError) as error:
                say(f"  {key:20} {error}")
                continue
            last = found[key]
            say(f"  {key:20} {last['rate'][-1]:8.0f}/s  skew {last['skew'][-1]:.2f}  {last['mib'][-1]:.0f} MiB")
    return found


def measured(server: Server, seconds: float) -> dict[str, object]:
    """The three loads on one server."""
    server.plain(1)
    figures: dict[str, object] = dict(server.plain(max(1, seconds / 2)))
    mixed, fresh = server.open_loop(seconds, 64), server.open_loop(seconds, 0)
    figures |= {"mixed": mixed["times"], "skew": mixed["skew"], "fresh": fresh["times"], "mib": server.memory()}
    return figures


def add(into: dict[str, list], figures: dict[str, object]) -> None:
    """One round's figures to those before."""
    for name, value in figures.items():
        into.setdefault(name, []).extend(value if isinstance(value, list) else [value])


def middle(values: list[float]) -> float:
    """The median."""
    return sorted(values)[len(values) // 2]


def table(found: dict[str, dict[str, list]]) -> str:
    """Markdown."""
    lines = [
        "| pattern | unit | plain: requests/s | CPU us/request | mixed: p50 ms | p99 | p99.9 | skew "
        "| fresh: p50 ms | p99 | p99.9 | MiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key, one in found.items():
        pattern, unit = key.split()
        cells = [f"`{pattern}`", unit, f"{middle(one['rate']):,.0f}", f"{middle(one['cpu_us']):.1f}"]
        cells += [f"{openloop.percentile(one['mixed'], share):.2f}" for share in SHARES]
        cells += [f"{middle(one['skew']):.2f}"]
        cells += [f"{openloop.percentile(one['fresh'], share):.2f}" for share in SHARES]
        lines.append("| " + " | ".join([*cells, f"{middle(one['mib']):.0f}"]) + " |")
    return "\n".join(lines)


def write(found: dict[str, dict[str, list]], effort: str) -> None:
    """The tables and one plot per load, into the guide."""
    guide = install.ROOT / "docs" / "guide"
    for load, title in (
        ("mixed", "64 kept connections; 1 request in 20 blocks its worker for 50 ms, these are the others"),
        ("fresh", "A connection per request; 1 in 20 blocks its worker for 50 ms, these are the others"),
    ):
        lines = {k.split()[0]: v[load] for k, v in found.items() if k.endswith(" process")}
        (guide / f"patterns-{load}.svg").write_text(plot(lines, title))
    facts = ", ".join(f"{name} {value}" for name, value in list(install.versions().items())[:4])
    (guide / "patterns-bench.md").write_text(
        f"# Patterns, measured\n\nMade by `python bench/patterns.py --write`: {effort} each, in turn, {WORKERS} workers "
        f"(`single`: one, with a quarter of the load). {facts}.\n\n{table(found)}\n"
    )
    say("wrote docs/guide/patterns-*.svg and patterns-bench.md")


def plot(lines: dict[str, list[float]], title: str) -> str:
    """An SVG: percentiles (each nine is as wide as the one before) against milliseconds (logarithmic)."""
    from math import log10

    wide, high, left, top = 720, 400, 60, 44
    shares = [1 - 10 ** (-step / 20) for step in range(62)]  # 0 … 99.92 %
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500]
    low, most = log10(0.1), log10(500)

    def x(share: float) -> float:
        return left + -log10(1 - share) / 3.05 * (wide - left - 110)

    def y(ms: float) -> float:
        return top + (most - min(max(log10(max(ms, 1e-9)), low), most)) / (most - low) * (high - top - 46)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-family="sans-serif" font-size="12">',
        f'<rect width="{wide}" height="{high}" fill="white"/>',
        f'<text x="{left}" y="22" font-size="14">{title}</text>',
    ]
    for ms in ticks:
        out.append(f'<line x1="{left}" x2="{wide - 110}" y1="{y(ms):.1f}" y2="{y(ms):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{left - 6}" y="{y(ms) + 4:.1f}" text-anchor="end">{ms:g} ms</text>')
    for share, name in ((0.0, "0"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %")):
        out.append(f'<line x1="{x(share):.1f}" x2="{x(share):.1f}" y1="{top}" y2="{high - 46}" stroke="#ddd"/>')
        out.append(f'<text x="{x(share):.1f}" y="{high - 28}" text-anchor="middle">{name}</text>')
    out.append(f'<text x="{(left + wide - 110) / 2}" y="{high - 8}" text-anchor="middle">of the requests took at most</text>')
    ends = []
    for name, times in lines.items():
        ordered = sorted(times)
        points = [(x(share), y(ordered[int(share * len(ordered))])) for share in shares if ordered]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"/>')
        ends.append((points[-1][1], name))
    at = 0.0
    for end, name in sorted(ends):
        at = max(end, at + 15)
        out.append(f'<text x="{wide - 104}" y="{at + 4:.1f}" fill="{COLOURS[name]}" font-weight="bold">{name}</text>')
    return "\n".join([*out, "</svg>", ""])


def idle(count: int) -> int:
    """Bytes of the server per connection that had one request and then waits; 1 when over the budget."""
    server = Server("single", "process")
    try:
        held = [ask(server.server.port, number) for number in range(64)]
        time.sleep(1)
        before = measure.memory(server.server.pid)
        held += [ask(server.server.port, number) for number in range(count)]
        time.sleep(1)
        after = measure.memory(server.server.pid)
        each = (after.pss - before.pss) / count
        say(f"{count} idle connections on one worker: {each:.0f} bytes each (budget 6144)")
        for sock in held:
            sock.close()
    finally:
        server.server.stop()
    return 0 if each <= 6144 else 1


def ask(port: int, number: int) -> socket.socket:
    """A connection after one request; from several local addresses, for one has 28,000 ports."""
    sock = socket.create_connection(("127.0.0.1", port), 20, (f"127.0.0.{1 + number // 20000}", 0))
    measure.get(sock)
    return sock


if __name__ == "__main__":
    sys.exit(main())
