"""A process that works on jobs and serves nobody: what `[jobs] workers` asks for, and `fairlead job workers` runs alone.

Rules
1. It builds the `job` routes (for their code) and the routes with `respond-async` (for their handlers), imports the modules of all
   applications (for the `@fairlead.job` functions in them), and has no listener. An application's lifespan runs only where
   requests that became jobs may come to it.
2. It is replaced, drained and reloaded as a worker is. A drain claims nothing more, waits for what runs, and hands the rest back.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from fairlead.run import config as c
from fairlead.run import plan as plans
from fairlead.run.storing import Works
from fairlead.run.units import show_size
from fairlead.run.wear import Wear
from fairlead.run.worker import Worker
from fairlead.serve.loader import import_from


class JobWorker(Worker):
    """The role."""

    def works(self) -> Works:
        """Everything of jobs."""
        return Works()

    def plan(self, config: c.Config) -> plans.Plan:
        """See rule 1."""
        routes = []
        for route in (*config.routes, *config.fed):
            later = tuple(one for one in route.filters if one.name == "respond-async")
            if route.answer == "job" or later:
                routes.append(replace(route, filters=later))
        return replace(plans.make(config), config=replace(config, listeners=(), routes=tuple(routes)))

    def equip(self) -> None:
        """Import what defines jobs."""
        for name, folder in modules(self.config):
            import_from(name, folder)

    def lifetime(self) -> c.Server:
        """Nobody asks anything of it; memory wears it out."""
        most = self.config.jobs.max_memory or self.config.server.max_memory
        return replace(self.config.server, max_requests=0, max_memory=most)

    def grow_old(self, wear: Wear) -> None:
        """One that outgrew its memory says so to the jobs that it runs."""
        realtime, most = self.builder.realtime, self.lifetime().max_memory
        why = wear.why(replace(self.lifetime(), max_age=0.0), self.loop.time(), 0) if most else ""
        if realtime is not None and why:
            realtime.blame = f"its process grew above {show_size(most or 0)}"
        super().grow_old(wear)

    def open(self, socks: Any) -> None:
        """There is nothing to accept on."""
        super().open([])

    async def drain(self, grace: float, settle: float) -> None:
        """See rule 2."""
        self.draining = True
        self.builder.region.set("draining", 1)
        await self.builder.close(max(0.0, grace))
        await asyncio.sleep(0)


def modules(config: c.Config) -> list[tuple[str, str]]:
    """(module, folder) of everything that may define jobs."""
    found = [(name, config.jobs.dir) for name in config.jobs.modules]
    for route in config.routes:
        given = route.application or route.grpc
        if given is not None and given.target != "embedded:app":
            found.append((given.target.partition(":")[0], given.dir))
    return list(dict.fromkeys(found))
