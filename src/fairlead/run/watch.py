"""The master's second look at its workers: those whose heartbeat stands still, and our own sign of life to systemd.

Rules
1. A worker reports its own stalls (run/watchdog). One that cannot, because the stuck code holds the interpreter lock, is
   told to write its stack from C (SIGUSR2), once per stall, and what it was answering is read from the slab.
2. A worker that stands still for `server.stuck_limit` is replaced: a successor is put beside it first. In development
   (`server.reload`) it is not, for somebody may be at a breakpoint.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from fairlead.run import systemd
from fairlead.run.role import SERVING, Role

if TYPE_CHECKING:
    from fairlead.run.master import Master

log = logging.getLogger("fairlead")

LOOK = 1.0  # seconds
BEAT = 2.0  # seconds a healthy worker's heartbeat may be old: it beats once a second, and may be late


class Watch:
    """Looks at every worker once a second."""

    def __init__(self, master: Master) -> None:
        self.master = master
        self.dumped: dict[int, int] = {}
        self.given_up: set[int] = set()

    async def run(self) -> None:
        """Until cancelled."""
        pause = min(LOOK, systemd.watchdog_pause() or LOOK)
        while True:
            systemd.alive()
            for role in self.master.roles:
                if role.state == SERVING and role.pid != os.getpid():
                    self.look(role)
            await asyncio.sleep(pause)

    def look(self, role: Role) -> None:
        """One worker."""
        region = self.master.slab.region(role.slot)
        beat = region.get("heartbeat")
        if region.get("pid") != role.pid or not beat:
            return
        age = (monotonic_ns() - beat) / 1e9
        server = self.master.config.server
        if server.stuck is not None and age > server.stuck + BEAT and not region.get("stalled"):
            if self.dumped.get(role.number) != beat:
                self.dumped = {role.number: beat}
                self.dump(role, region, age)
        limit = server.stuck_limit
        if limit is not None and not server.reload and age > limit + BEAT and role.number not in self.given_up:
            self.given_up.add(role.number)
            log.error("worker %d (pid %d) has stood still for %.0f s and is replaced", role.index, role.pid, age)
            self.master.spawn(self.master.replace(role))

    def dump(self, role: Role, region: Any, age: float) -> None:
        """Rule 1."""
        running = [f"{one['method']} {one['target']} (id {one['id']})" for one in region.records("running")]
        log.error(
            "worker %d (pid %d) has stood still for %.1f s and lets no other Python code run, so it holds the "
            "interpreter lock or is stopped; its stacks follow%s",
            role.index,
            role.pid,
            age,
            f". It was answering {', '.join(running)}" if running else "",
        )
        role.kill(signal.SIGUSR2)
