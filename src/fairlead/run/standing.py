"""What the process is, for the admin socket and the page: version, uptime, workers, listeners with their accept queues."""

from __future__ import annotations

import os
import sys
from time import monotonic, time
from typing import Any

from fairlead.net import diag
from fairlead.run import version
from fairlead.run.plan import JOBS

SEEN = ("in_flight", "queued", "queue_most", "queue_full", "queue_late", "refused", "shed", "idle_closed", "taken_back", "repeated")


def of(master: Any) -> dict[str, Any]:
    """The state of a `Master`, as plain values."""
    return {
        "version": version.__version__,
        "compiled": version.compiled(),
        "loop": version.loop_name(master.config.server.loop),
        "tls": version.tls_engine(True) if any(one.tls for one in master.plan.listeners) else "",
        "python": sys.version.split()[0],
        "pid": os.getpid(),
        "config": master.config.source,
        "pattern": master.plan.pattern.name,
        "unit": master.config.server.unit,
        "state": "draining" if master.stopping else "ready" if master.ready else "starting",
        "uptime": monotonic() - master.since,
        "reloads": master.reloads,
        "workers": [
            {
                "index": r.index,
                "kind": "jobs" if r.index >= JOBS else "worker" if r.index >= 0 else master.plan.pattern.title,
                "pid": r.pid,
                "thread": r.thread,
                "state": r.state,
                "slot": r.slot,
                "starts": r.number,
                "uptime": time() - r.since,
                "threads": threads(master.slab.region(r.slot)),
            }
            for r in sorted(master.roles, key=lambda one: (one.index, one.number))
        ],
        "health": master.probes.status(),
        "listeners": [
            {**one, "peak": master.accept_path.peak(one["bind"])[0], **datagrams(master, one["name"], one["bind"])}
            for one in master.holder.status()
        ],
        "store": master.keepers.status(),
        "accept_path": master.accept_path.report(),
        "limits": limits(master),
    }


def datagrams(master: Any, name: str, bind: str) -> dict[str, Any]:
    """{"udp": what waits to be read and what was dropped} of a listener with HTTP/3; {} of another."""
    if not any(one.name == name and "h3" in one.protocols for one in master.plan.listeners):
        return {}
    host, _, port = bind.rpartition(":")
    waiting, dropped = diag.datagrams(host.strip("[]"), int(port))
    return {"udp": {"waiting_bytes": waiting, "dropped": dropped}}


def limits(master: Any) -> dict[str, Any]:
    """Admission: what is allowed, and what is."""
    given = master.config.server.limits
    totals = [region.totals() for region in master.slab.regions()]
    seen = {name: sum(one[name] for one in totals) for name in SEEN}
    memory = {"limit": given.memory, "used": master.memory.used, "shedding": master.memory.why}
    return {"requests": given.requests, "queue": given.queue, "idle": given.idle, "memory": memory, **seen}


def threads(region: Any) -> dict[str, int]:
    """The threads for blocking work of one worker, a second old at most."""
    names = {"all": "threads", "busy": "threads_busy", "waiting": "threads_waiting"}
    return {name: region.get(cell) for name, cell in names.items()}


def words(master: Any) -> str:
    """The same in one line, for `systemctl status`."""
    bound = ", ".join(str(address) for _, address in master.holder.bound())
    jobs = master.config.jobs.workers
    if not bound:
        return f"working on jobs with {jobs} processes"
    return f"serving {bound} with {master.plan.workers} workers" + (f" and {jobs} for jobs" if jobs else "")
