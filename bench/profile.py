"""Where a server's CPU goes: runs it under load, records with perf, prints the dearest symbols.

    python bench/profile.py asgi                 Fairlead, the 12-byte application
    python bench/profile.py proxy --tls          Fairlead as a proxy before nginx
    python bench/profile.py asgi --peer uvicorn --seconds 3 --callers

perf samples by the clock where the machine has no hardware counters; that is enough for a list like this.
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


def main() -> int:
    """Start, load, record, report."""
    options = arguments()
    if not shutil.which("perf"):
        print("perf is not installed (Debian package linux-perf)", file=sys.stderr)
        return 1
    case = next(case for case in CASES if case.name == CASE_OF[options.what])
    case = replace(case, path=options.path or case.path, length=None)
    with ExitStack() as stack:
        port = 0
        if case.kind == "proxy":
            origin = peers.origin()
            stack.callback(origin.stop)
            port = origin.port
        setup = peers.Setup(case.kind, options.app or case.target, options.tls, not options.no_log, port)
        server = peers.Server(options.peer, setup)
        stack.callback(server.stop)
        work.check(case, server)
        print(record(options, case, server))
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
