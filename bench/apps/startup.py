"""Notes when it is imported, and what its process and the one above had used by then, in the file that BENCH_STARTUP names."""

import os
import time
from pathlib import Path

from plain import app, wsgi  # noqa: F401

TICK = os.sysconf("SC_CLK_TCK")


def used(pid: int) -> float:
    """Seconds of CPU of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


with open(os.environ["BENCH_STARTUP"], "a") as note:
    note.write(f"{time.monotonic_ns()} {time.process_time() + (used(os.getppid()) if os.getppid() > 1 else 0)}\n")
