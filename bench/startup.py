"""How long a server takes until it imports the application: wall clock and CPU of its processes, the median of some starts.

    python bench/startup.py                      Fairlead, uvicorn, Granian, gunicorn
    python bench/startup.py --rounds 9 fairlead

One worker, no TLS, no log. What an application costs to import is its own; this is what comes before. Fairlead's bytecode is made
first, as pip does it when it installs the others.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import install
import measure
import peers

SERVERS = {"fairlead": "asgi", "uvicorn": "asgi", "granian": "asgi", "gunicorn": "wsgi"}


def main() -> int:
    """Start each server in turn, print one row for each."""
    parser = argparse.ArgumentParser(prog="bench/startup.py", description="time until the application is imported")
    parser.add_argument("servers", nargs="*", default=list(SERVERS), help=f"of {', '.join(SERVERS)}")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    install.servers()
    subprocess.run([install.PYTHON, "-m", "compileall", "-q", install.fairlead() / "fairlead"], check=True)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in options.servers}
    for _ in range(options.rounds):
        for name, rows in found.items():
            rows.append(once(name))
    print("| server | until the app's import, ms (least to most) | CPU, ms |\n| --- | ---: | ---: |")
    for name, rows in found.items():
        walls, cpus = sorted(wall for wall, _ in rows), [cpu for _, cpu in rows]
        print(f"| {name} | {statistics.median(walls):.0f} ({walls[0]:.0f} to {walls[-1]:.0f}) | {statistics.median(cpus):.0f} |")
    return 0


def once(name: str) -> tuple[float, float]:
    """(milliseconds, milliseconds of CPU) of one start."""
    note = install.CACHE / f"startup-{os.getpid()}"
    note.unlink(missing_ok=True)
    os.environ["BENCH_STARTUP"] = str(note)
    begin = time.monotonic_ns()
    kind = SERVERS[name]
    server = peers.Server(name, peers.Setup(kind, "startup:app" if kind == "asgi" else "startup:wsgi", log=False))
    try:
        measure.wait_until(lambda: note.exists() and note.read_text().endswith("\n"), 30)
        at, cpu = Path(note).read_text().splitlines()[0].split()
    finally:
        server.stop()
        note.unlink(missing_ok=True)
    return (int(at) - begin) / 1e6, float(cpu) * 1e3


if __name__ == "__main__":
    sys.exit(main())
