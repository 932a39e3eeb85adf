"""Where a server's CPU goes: runs it under load, records with perf, prints the dearest symbols.

    python bench/profile.py asgi                 Fairlead, the 12-byte application
    python bench/profile.py proxy --tls          Fairlead as a proxy before nginx
    python bench/profile.py asgi --peer uvicorn --seconds 3 --callers
    python bench/profile.py proxy --count        instructions per request under callgrind, by function

perf samples by the clock where the machine has no hardware counters; that is enough for a list like this. Callgrind counts
user instructions, which is repeatable; `--inclusive` counts what a function calls as its own.
"""

import argparse
import re
import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import install
import measure
import peers
import work
from cases import CASES

CASE_OF = {"asgi": "asgi-plain", "proxy": "proxy-12b", "respond": "respond", "wsgi": "wsgi-plain"}

CALLGRIND = ("valgrind", "--tool=callgrind", "--instr-atstart=no", "--trace-children=yes", "--callgrind-out-file=callgrind.%p")


def main() -> int:
    """Start, load, record, report."""
    options = arguments()
    if not shutil.which("valgrind" if options.count else "perf"):
        print("missing: perf (Debian package linux-perf), or valgrind for --count", file=sys.stderr)
        return 1
    case = next(case for case in CASES if case.name == CASE_OF[options.what])
    case = replace(case, path=options.path or case.path, length=None)
    with ExitStack() as stack:
        port = 0
        if case.kind == "proxy":
            origin = peers.origin()
            stack.callback(origin.stop)
            port = origin.port
        wrapper = CALLGRIND if options.count else ()
        setup = peers.Setup(case.kind, options.app or case.target, options.tls, not options.no_log, port, wrapper=wrapper)
        server = peers.Server(options.peer, setup)
        stack.callback(server.stop)
        work.check(case, server)
        print((count if options.count else record)(options, case, server))
    return 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench/profile.py", description="the dearest symbols under load")
    parser.add_argument("what", choices=sorted(CASE_OF), help="what the server does")
    parser.add_argument("--peer", default="fairlead", choices=sorted(peers.COMMANDS), help="which server")
    parser.add_argument("--app", default="", help="module:attribute in bench/apps instead of the plain one")
    parser.add_argument("--path", default="", help="what to ask for")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--no-log", action="store_true", help="without an access log")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--top", type=int, default=60, help="lines to print")
    parser.add_argument("--callers", action="store_true", help="show who calls them")
    parser.add_argument("--count", action="store_true", help="count instructions under callgrind in place of sampling")
    parser.add_argument("--inclusive", action="store_true", help="with --count: a function and all it calls")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="keep perf's recording")
    return parser.parse_args()


def record(options: argparse.Namespace, case: work.Case, server: peers.Server) -> str:
    """The report of perf over a run of the load generator, with the cost of a request above it."""
    data = options.keep or server.folder / "perf.data"
    cost: list[float] = []
    load = threading.Thread(target=lambda: cost.append(drive(options, case, server)))
    load.start()
    pids = ",".join(map(str, measure.tree(server.pid)))
    command = [
        "perf",
        "record",
        "-q",
        "-g",
        "-F",
        "1999",
        "-o",
        str(data),
        "-p",
        pids,
        "--",
        "sleep",
        str(options.seconds),
    ]
    recorded = subprocess.run(measure.pinned(measure.LOAD_CORE, command), capture_output=True, text=True)
    load.join()
    if recorded.returncode:
        return f"perf record: {recorded.stderr.strip()}"
    head = (
        f"{options.peer} {options.what}: {cost[0]:.1f} µs of CPU per request (perf running)"
        if cost
        else "the load failed"
    )
    return f"{head}\n{top(options, data)}"


def count(options: argparse.Namespace, case: work.Case, server: peers.Server) -> str:
    """Instructions per request of the busiest process, counted only while the load generator runs."""
    work.load(case, server, 1)
    pids = measure.tree(server.pid)
    switch(pids, "-i", "on")
    requests = work.load(case, server, options.seconds).requests
    switch(pids, "-i", "off")
    switch(pids, "-d")
    counted = max(server.folder.glob("callgrind.*.1"), key=lambda file: file.stat().st_size)
    command = ["callgrind_annotate", "--auto=no", "--threshold=99", f"--inclusive={'yes' if options.inclusive else 'no'}"]
    said = subprocess.run([*command, str(counted)], capture_output=True, text=True).stdout
    rows = re.findall(r"^\s*([\d,]+) \(\s*[\d.]+%\)\s+(.+)$", said, re.MULTILINE)
    lines = []
    for number, name in rows[: options.top]:
        name = re.sub(r"\S*/|\[.*|\?\?\?:", "", name).strip()
        lines.append(f"{int(number.replace(',', '')) / requests:10.0f}  {name}")
    return "\n".join([f"{options.peer} {options.what}: instructions per request, over {requests} requests", *lines])


def switch(pids: list[int], *words: str) -> None:
    """Tell callgrind in each process."""
    for pid in pids:
        subprocess.run(["callgrind_control", *words, str(pid)], capture_output=True)


def drive(options: argparse.Namespace, case: work.Case, server: peers.Server) -> float:
    """A little longer than perf records."""
    return measure.cpu_per_request(server.pid, lambda: work.load(case, server, options.seconds + 1))


def top(options: argparse.Namespace, data: Path) -> str:
    """The shares of the shared objects, then the symbols by their own share."""
    graph = ["-g", "caller,0.5,callee,function,percent"] if options.callers else ["-g", "none"]
    objects = perf_report(data, "--sort", "dso", "-g", "none")
    symbols = perf_report(data, "--sort", "symbol,dso", "--percent-limit", "0.3", *graph)
    return "\n".join([*objects[:8], "", *symbols[: options.top]]).replace(f"{install.ROOT}/", "")


def perf_report(data: Path, *options: str) -> list[str]:
    """The lines of one report, without its comments and its two empty columns."""
    command = ["perf", "report", "--stdio", "--no-children", *options, "-i", str(data)]
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return [re.sub(r"[\s-]+$", "", line) for line in lines if line.strip() and not line.startswith("#")]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (peers.CannotStart, measure.BadRun) as error:
        sys.exit(f"bench/profile.py: {error}")
