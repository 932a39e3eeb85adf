"""When a worker has served long enough: [server] max_requests, max_age and max_memory.

Rules
1. Each worker draws its own share, 90 to 110 %, of each limit, so that workers which began together do not end together.
2. It only asks: the master puts a successor beside it and drains it when that one serves.
3. In `dispatch` requests and age wear out workers only: a front runs no application, and holds the clients' connections.
4. A limit of memory that a fresh worker is above already would replace workers for ever: it is said once and ignored.
"""

from __future__ import annotations

import logging
import os
import random
import sys
from typing import Any

from fairlead.run import units as u

log = logging.getLogger("fairlead")
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Wear:
    """One worker's. `born` is the loop's time when it began to serve."""

    def __init__(self, born: float, jitter: float | None = None) -> None:
        self.born = born
        self.jitter = jitter if jitter is not None else random.uniform(0.9, 1.1)
        self.fresh = resident()
        self.told = False

    def why(self, server: Any, now: float, answered: int, memory: int | None = None) -> str:
        """Why this worker should be replaced; "" while it need not be."""
        if server.max_requests and answered > server.max_requests * self.jitter:
            return f"it has answered {answered} requests"
        if server.max_age and now - self.born > server.max_age * self.jitter:
            return f"it is {now - self.born:.0f} s old"
        if server.max_memory:
            return self.heavy(server.max_memory, resident() if memory is None else memory)
        return ""

    def heavy(self, most: int, memory: int) -> str:
        """The same for memory: a limit is never below what a fresh worker takes (rule 4)."""
        if self.fresh >= most:
            if not self.told:
                self.told = True
                log.error(
                    "server.max_memory = %s is ignored: a fresh worker takes %s already",
                    u.show_size(most),
                    u.show_size(self.fresh // 2**20 * 2**20),
                )
            return ""
        return f"it takes {memory / 2**20:.0f} MiB" if memory > most * min(self.jitter, 1.0) else ""


def resident() -> int:
    """Bytes of memory that this process has in RAM; 0 where it cannot be known."""
    if sys.platform == "linux":
        try:
            with open("/proc/self/statm", "rb") as file:
                return int(file.read().split()[1]) * PAGE
        except OSError:
            return 0
    return 0
