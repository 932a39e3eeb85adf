"""[server] limits in a running process: what admission may take, how many idle connections stay, when memory is short.

Rules
1. Requests: `core.admission`, each process's count in its own cell of the slab. A cell of a process that died is set to nought by
   the master, who is its writer then.
2. Idle connections: each process that accepts keeps its share. When there are more, the one that has been silent longest is
   closed, one for each that comes; the oldest are looked for a batch at a time, so a flood costs no sorting each.
3. Memory: the master adds up the proportional set sizes of all processes once a second (Linux: smaps_rollup; elsewhere the
   limit says nothing), and tells them to refuse new requests above the limit, until it is under 95 % of it again. The end of
   the control group's own memory (95 % of memory.max), and stalls of the whole system for want of memory (PSI, `full` above
   20 % of ten seconds), count as much. None of this is looked at while `limits.memory` is "none".
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fairlead.core.admission import Queueing
from fairlead.core.slab import HEADER, Slab
from fairlead.run import config as c

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

BATCH = 256  # idle connections that one look finds
CALM = 0.95  # share of the limit below which shedding ends
STALLED = 20.0  # percent of ten seconds in which nothing ran for want of memory (PSI full avg10)
log = logging.getLogger("fairlead")


def limit(admission: Queueing, server: c.Server) -> None:
    """Take the limits of a plan."""
    limits = server.limits
    admission.most = limits.requests or 0
    admission.own_most = limits.requests_per_worker or 0
    accepting = server.fronts if server.chosen_pattern == "dispatch" else server.worker_count
    if server.chosen_pattern == "dispatch":
        admission.own_most = 0  # the front's dispatcher holds each worker to it
    admission.queue_most = -(-limits.queue // max(1, accepting))
    admission.wait = round(limits.queue_wait * 1e9)
    admission.health = frozenset(path.encode() for path in limits.health)


def share(admission: Queueing, slab: Slab, slot: int) -> None:
    """Count together with the other processes."""
    words = _fast.Words(slab.memory, slab.fd)
    place = slab.region(0).slot("admitted")
    size = slab.layout["region"]
    admission.share(words, [HEADER // 8 + i * size + place for i in range(slab.slots)], HEADER // 8 + slot * size + place)


def gauge(admission: Queueing) -> Any:
    """What the page sees of an admission, once a second."""

    def write(region: Any) -> None:
        region.set("queued", len(admission.waiting))
        region.set("queue_most", admission.deepest)
        region.set("queue_full", admission.full)
        region.set("queue_late", admission.late)
        region.set("shed", admission.shed)

    return write


class Idle:
    """The budget of idle connections of one process. `most`: 0 is none."""

    def __init__(self, admission: Queueing) -> None:
        self.admission = admission
        self.most = 0
        self.listeners: list[Any] = []
        self.victims: list[tuple[int, int, Any]] = []
        self.closed = 0

    def settle(self, server: c.Server, listeners: Iterable[Any]) -> None:
        """The limits and the listeners of the served plan."""
        accepting = server.fronts if server.chosen_pattern == "dispatch" else server.worker_count
        self.most = -(-server.limits.idle // max(1, accepting)) if server.limits.idle else 0
        self.listeners = list(listeners)

    def opened(self) -> None:
        """One connection more: is it one too many?"""
        if self.most and sum([len(one.tcps) for one in self.listeners]) - self.admission.busy > self.most:
            self.close_one()

    def close_one(self) -> None:
        """Close the connection that has been idle longest."""
        fresh = False
        while True:
            if not self.victims:
                if fresh:
                    return
                fresh, self.victims = True, self.oldest()
                continue
            seen, _, tcp = self.victims.pop()
            if not tcp.closed and tcp.conn.idle() and tcp.conn.last_seen == seen:
                self.closed += 1
                tcp.conn.drain()
                return

    def oldest(self) -> list[tuple[int, int, Any]]:
        """Some of the idle, the longest idle last."""
        idle = (
            (tcp.conn.last_seen, id(tcp), tcp)
            for one in self.listeners
            for tcp in one.tcps
            if tcp.codec is not None and tcp.conn.idle()
        )
        return sorted(heapq.nsmallest(BATCH, idle), reverse=True)

    def gauge(self, region: Any) -> None:
        """Once a second."""
        region.set("idle_closed", self.closed)


# ---- memory: the master's


def memory_of(pid: int) -> int:
    """The proportional set size of a process in bytes; 0 when it cannot be told."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    with suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    return 0


def group_memory(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> tuple[int, int]:
    """(used, limit) of our control group (version 2), (0, 0) when there is no limit or no such group."""
    with suppress(OSError, ValueError):
        name = next(line[3:] for line in own.read_text().splitlines() if line.startswith("0::"))
        folder = root / name.lstrip("/")
        most = (folder / "memory.max").read_text().strip()
        if most.isdigit():
            return int((folder / "memory.current").read_text()), int(most)
    return 0, 0


def stalled(path: Path = Path("/proc/pressure/memory")) -> float:
    """Percent of the last ten seconds in which everything waited for memory; 0 when it cannot be told."""
    with suppress(OSError, ValueError, IndexError):
        for line in path.read_text().splitlines():
            if line.startswith("full "):
                return float(line.split()[1].partition("=")[2])
    return 0.0


def pressure(limit: int, used: int, group: tuple[int, int], stall: float, shedding: bool) -> str:
    """Why new requests should be refused, "" when they should not. Once shedding, it goes on until things are better."""
    ease = CALM if shedding else 1.0
    if used > limit * ease:
        return f"the workers use {used >> 20} MiB of {limit >> 20} MiB"
    if group[1] and group[0] > group[1] * CALM * ease:
        return f"the control group uses {group[0] >> 20} MiB of {group[1] >> 20} MiB"
    if stall > STALLED * ease:
        return f"everything waited for memory {stall:.0f} % of the last ten seconds"
    return ""


class Memory:
    """The master's watch over `limits.memory`."""

    def __init__(self) -> None:
        self.used = 0
        self.why = ""

    async def watch(self, master: Any) -> None:
        """Once a second, as long as the server runs."""
        while True:
            await asyncio.sleep(1.0)
            most = master.config.server.limits.memory
            if most is not None or self.why:
                self.look(master, most)

    def look(self, master: Any, most: int | None) -> None:
        """Add up, decide, and tell everybody."""
        why = ""
        if most is not None:
            self.used = sum(memory_of(pid) for pid in {role.pid for role in master.roles if role.pid})
            why = pressure(most, self.used, group_memory(), stalled(), bool(self.why))
        if bool(why) != bool(self.why):
            log.warning("new requests are %s: %s", "refused" if why else "taken again", why or "memory is free again")
        changed, self.why = why or self.why, why
        if changed:
            for role in master.roles:
                role.say("shed", on=bool(why))
