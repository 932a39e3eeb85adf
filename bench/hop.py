"""What a hop costs: `python bench/hop.py`, or `run.py --case hop`.

`single` and `dispatch` with one worker answer the same 12 bytes in turn, at 32 connections and at one. The difference of their
processor time per request, all processes of the server together, is the hop: parsing, routing and the application are in both.
Beside it: how often the server's processes went to sleep per request (voluntary context switches), which is what a hop costs
where requests do not come in crowds, and the same with four workers, where each wake-up brings fewer requests.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import install
import measure
import peers
from install import say

VARIANTS = (("single", 1), ("dispatch", 1), ("dispatch", 4))
CONNECTIONS = {32: 8.0, 1: 45.0}  # and the most microseconds that the hop may cost there


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print; 1 when the hop costs more than it may."""
    parser = argparse.ArgumentParser(prog="bench/hop.py", description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="length of each load")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    install.PYTHON = Path(sys.executable)
    if not shutil.which("wrk"):
        install.programs()
    if measure.CORES is not None:
        os.sched_setaffinity(0, {measure.CORES[measure.LOAD_CORE]})
    found = run(options.rounds, options.seconds)
    if options.json:
        options.json.write_text(json.dumps([[*key, values] for key, values in found.items()]))
    print(table(found))
    return 0 if all(hop(found, count) <= most for count, most in CONNECTIONS.items()) else 1


def run(rounds: int, seconds: float) -> dict[tuple[str, int, int], list[tuple[float, float]]]:
    """{(pattern, workers, connections): [(CPU us, sleeps) per request, per round]}, all servers up and asked in turn."""
    found: dict[tuple[str, int, int], list[tuple[float, float]]] = {}
    servers = [(pattern, workers, start(pattern, workers)) for pattern, workers in VARIANTS]
    try:
        for _ in range(rounds):
            for count in CONNECTIONS:
                for pattern, workers, server in servers:
                    found.setdefault((pattern, workers, count), []).append(sample(server, seconds, count))
    finally:
        for *_, server in servers:
            server.stop()
    return found


def start(pattern: str, workers: int) -> peers.Server:
    """A warm server."""
    words = ("--pattern", pattern, "--workers", str(workers), "--page", "off")
    server = peers.Server("fairlead", peers.Setup("asgi", "plain:app", log=False, words=words))
    if not measure.wait_until(lambda: b"Ctrl-C" in server.output.read_bytes(), 30):
        raise peers.CannotStart(server.said())
    measure.wrk(f"http://127.0.0.1:{server.port}/", 1)
    return server


def sample(server: peers.Server, seconds: float, count: int) -> tuple[float, float]:
    """CPU microseconds and voluntary context switches of all processes, per request."""
    cpu, slept = measure.cpu_seconds(server.pid), sleeps(server.pid)
    load = measure.wrk(f"http://127.0.0.1:{server.port}/", seconds, count)
    cpu, slept = measure.cpu_seconds(server.pid) - cpu, sleeps(server.pid) - slept
    return cpu / load.requests * 1e6, slept / load.requests


def sleeps(pid: int) -> int:
    """How often the processes of a server gave up their core by themselves (proc_pid_status(5))."""
    total = 0
    for one in measure.tree(pid):
        for line in Path(f"/proc/{one}/status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total


def middle(found: dict[tuple[str, int, int], list[tuple[float, float]]], key: tuple[str, int, int], which: int = 0) -> float:
    """A median."""
    values = sorted(one[which] for one in found[key])
    return values[len(values) // 2]


def hop(found: dict[tuple[str, int, int], list[tuple[float, float]]], count: int) -> float:
    """Microseconds that one worker's hop adds, the median of the rounds' differences."""
    pairs = zip(found["dispatch", 1, count], found["single", 1, count])
    ordered = sorted(over[0] - under[0] for over, under in pairs)
    return ordered[len(ordered) // 2]


def table(found: dict[tuple[str, int, int], list[tuple[float, float]]]) -> str:
    """Markdown."""
    lines = ["| connections | pattern | workers | CPU us/request | sleeps/request |", "|---|---|---|---|---|"]
    for count in CONNECTIONS:
        for pattern, workers in VARIANTS:
            key = (pattern, workers, count)
            lines.append(f"| {count} | `{pattern}` | {workers} | {middle(found, key):.1f} | {middle(found, key, 1):.2f} |")
    lines += ["", *(f"The hop at {count}: {hop(found, count):.1f} us (at most {most:g})." for count, most in CONNECTIONS.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (peers.CannotStart, measure.BadRun) as error:
        say(str(error))
        sys.exit(1)
