"""What a role asks of the operating system about itself: to die with its master, a core, a name. Linux; nothing elsewhere."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress


def die_with_master() -> None:
    """Linux: SIGTERM for us when the master dies, in case the channel's end is not looked at (prctl(2))."""
    if sys.platform == "linux":
        with suppress(Exception):
            import ctypes

            ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def pin(index: int) -> None:
    """[server] affinity: one core of those we may use."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[index % len(cores)]})


def name_thread(title: str) -> None:
    """Linux: what `ps -L`, `top -H` and /proc/PID/task/*/comm call this thread (prctl(2), 15 bytes)."""
    if sys.platform == "linux":
        with suppress(Exception):
            import ctypes

            ctypes.CDLL(None).prctl(15, f"fl {title}".encode()[:15], 0, 0, 0)
