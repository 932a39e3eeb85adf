"""What the page, /metrics and `GET /api/uploads` show of uploads: begun, ended and how, bytes, and how many come in now, by route.

A role counts by itself (`serve.uploadcounts`); the master asks all that serve and adds. Counters only grow: what a role had counted
when it went is kept here. A role that is stuck is left out and counted; an answer serves who asks within `FRESH` seconds.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from fairlead.run.prometheus import escape, head
from fairlead.run.role import SERVING
from fairlead.serve.uploadcounts import COUNTS

PATIENCE = 2.0  # seconds
FRESH = 0.5
Many = dict[str, Any]
Table = dict[str, dict[str, int]]  # by route


def answer(realtime: Any) -> Many:
    """In a role: what its routes have counted."""
    return {"routes": {route: counts.told() for route, counts in realtime.uploads.items()} if realtime is not None else {}}


class UploadStats:
    """The sums of all roles of a master."""

    def __init__(self, master: Any) -> None:
        self.master = master
        self.lock = asyncio.Lock()
        self.last: Many = {}
        self.asked = -FRESH
        self.seen: dict[int, Table] = {}  # by role: what it had counted when it was last heard
        self.past: Table = {}  # of roles that are gone

    async def numbers(self) -> Many:
        """{routes: by name, silent: how many roles did not answer}."""
        async with self.lock:
            if monotonic() - self.asked < FRESH:
                return self.last
            roles = [role for role in self.master.roles if role.state == SERVING]
            answers = await asyncio.gather(*(role.ask("uploads", timeout=PATIENCE) for role in roles), return_exceptions=True)
            heard = {role.number: one.get("routes", {}) for role, one in zip(roles, answers) if isinstance(one, dict)}
            self.keep(heard, {role.number for role in self.master.roles})
            found: Table = {}
            for table in (self.past, *heard.values()):
                add(found, table)
            self.last = {"routes": found, "silent": len(roles) - len(heard)}
            self.asked = monotonic()
            return self.last

    def keep(self, heard: dict[int, Table], living: set[int]) -> None:
        """What was counted by roles that are gone counts on; nothing comes in there any more."""
        self.seen |= heard
        for key in set(self.seen) - living:
            add(self.past, {route: counts | {"active": 0} for route, counts in self.seen.pop(key).items()})

    async def exposition(self) -> bytes:
        """The lines of /metrics; none where there are no uploads."""
        routes = (await self.numbers())["routes"]
        return ("\n".join(lines(routes)) + "\n").encode() if routes else b""


def add(into: Table, table: Table) -> None:
    """One table to another."""
    for route, counts in table.items():
        row = into.setdefault(route, dict.fromkeys((*COUNTS, "active"), 0))
        for name, count in counts.items():
            row[name] += count


METRICS = (
    ("fairlead_uploads_started_total", "started", "Uploads begun."),
    ("fairlead_uploads_completed_total", "completed", "Uploads that are whole, and were taken."),
    ("fairlead_uploads_rejected_total", "rejected", "Uploads that were whole, and refused: by what they feed, or their digest."),
    ("fairlead_uploads_resumed_total", "resumed", "Requests that went on with an upload behind its first byte."),
    ("fairlead_uploads_aborted_total", "aborted", "Requests that ended before their body did."),
    ("fairlead_uploads_cancelled_total", "cancelled", "Uploads that their client wanted no more."),
    ("fairlead_uploads_expired_total", "expired", "Unfinished uploads whose time was over."),
    ("fairlead_upload_bytes_total", "bytes", "Bytes written to the storage."),
    ("fairlead_uploads_active", "active", "Requests that bring bytes now."),
)  # fmt: skip


def lines(routes: Table) -> list[str]:
    """Prometheus lines."""
    out: list[str] = []
    for name, key, text in METRICS:
        head(out, name, "counter" if name.endswith("_total") else "gauge", text)
        out.extend(f'{name}{{route="{escape(route)}"}} {counts[key]}' for route, counts in sorted(routes.items()))
    return out
