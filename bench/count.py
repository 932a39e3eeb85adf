"""How many user-mode instructions a request takes, function by function: counts that repeat, on any machine.

    python bench/count.py asgi                   Fairlead, the 12-byte application, without an access log
    python bench/count.py respond --log          a fixed answer, with one
    python bench/count.py asgi --inclusive       with what each function calls
    python bench/count.py hop                    the application behind a front (pattern `dispatch`), front and worker added

callgrind counts in the worker between two moments in which it is warm; sixteen connections ask in lock-step, so a turn of
the loop is shared as it is under load. What the kernel does is not counted.
"""

import argparse
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import install
import measure
import peers
from cases import CASES

CASE_OF = {"asgi": "asgi-plain", "hop": "asgi-plain", "proxy": "proxy-12b", "respond": "respond"}
WORDS = {"hop": ("--workers", "1", "--pattern", "dispatch")}
COUNTED = {"hop": 2}  # processes, the newest of the tree; one where nothing is said
CONNECTIONS = 16
WARM, ROUNDS = 150, 60
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
VALGRIND = ("valgrind", "-q", "--tool=callgrind", "--trace-children=yes", "--instr-atstart=no")


def main() -> int:
    """Start, warm, count, report."""
    options = arguments()
    for program in ("valgrind", "callgrind_annotate"):
        if not shutil.which(program):
            print(f"{program} is not installed (Debian package valgrind)", file=sys.stderr)
            return 1
    case = next(case for case in CASES if case.name == CASE_OF[options.what])
    with ExitStack() as stack:
        port = 0
        if case.kind == "proxy":
            origin = peers.origin()
            stack.callback(origin.stop)
            port = origin.port
        wrapper = (*VALGRIND, "--callgrind-out-file=callgrind.%p")
        setup = peers.Setup(case.kind, options.app or case.target, log=options.log, origin=port, wrapper=wrapper)
        setup = replace(setup, words=WORDS.get(options.what, setup.words))
        server = peers.Server("fairlead", setup)
        stack.callback(shutil.rmtree, server.folder, ignore_errors=True)
        counts = [server.folder / f"callgrind.{pid}" for pid in drive(server, COUNTED.get(options.what, 1))]
        print(report(counts, options))
        if options.keep:
            for path in counts:
                shutil.copy(path, options.keep)
    return 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench/count.py", description="instructions per request")
    parser.add_argument("what", choices=sorted(CASE_OF), help="what the server does")
    parser.add_argument("--log", action="store_true", help="with an access log")
    parser.add_argument("--inclusive", action="store_true", help="count what a function calls as its own")
    parser.add_argument("--top", type=int, default=60, help="lines to print")
    parser.add_argument("--keep", type=Path, metavar="PATH", help="keep callgrind's file, or files, there")
    parser.add_argument("--app", default="", help="module:attribute in bench/apps instead of the plain one")
    return parser.parse_args()


def drive(server: peers.Server, processes: int) -> list[int]:
    """Warm the server, count while it answers, stop it; the ids of the processes that were counted."""
    try:
        socks = [measure.connect(server.port, False, timeout=120) for _ in range(CONNECTIONS)]
        for _ in range(WARM):
            ask(socks)
        pids = sorted(measure.tree(server.pid))[-processes:]
        control("on", pids)
        time.sleep(0.3)
        for _ in range(ROUNDS):
            ask(socks)
        control("off", pids)
        for sock in socks:
            sock.close()
    finally:
        server.stop(keep=True)
    return pids


def control(state: str, pids: list[int]) -> None:
    """Have callgrind begin or stop counting."""
    for pid in pids:
        subprocess.run(["callgrind_control", "-i", state, str(pid)], check=True, capture_output=True)


def ask(socks: list[socket.socket]) -> None:
    """One request on each connection, then all answers."""
    for sock in socks:
        sock.sendall(REQUEST)
    for sock in socks:
        head, _, body = measure.read_until(sock, b"\r\n\r\n").partition(b"\r\n\r\n")
        measure.read_body(sock, head.lower(), body)


def report(counts: list[Path], options: argparse.Namespace) -> str:
    """The total, then the dearest functions, per request."""
    flags = ["--threshold=100", f"--inclusive={'yes' if options.inclusive else 'no'}"]
    text = subprocess.run(["callgrind_annotate", *flags, *map(str, counts)], capture_output=True, text=True).stdout
    requests = CONNECTIONS * ROUNDS
    lines = []
    for line in text.splitlines():
        if not (found := re.match(r"\s*([\d,]+) \(\s*[\d.]+%\)\s+(.*)$", line)):
            continue
        each = int(found.group(1).replace(",", "")) / requests
        name = re.sub(r"\[.*/|\.cpython[^\]]*|\.so[^\]]*|\]$|^\S*:(?=\S)", " ", found.group(2))
        lines.append(f"{each:9.0f}  {' '.join(name.split()).replace('__pyx_f_8fairlead_', '')}")
    return "\n".join(lines[: options.top]).replace(f"{install.ROOT}/", "")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (peers.CannotStart, measure.BadRun) as error:
        sys.exit(f"bench/count.py: {error}")
