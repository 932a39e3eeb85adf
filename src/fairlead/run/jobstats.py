"""What the page, `fairlead job` and `GET /api/jobs` show of jobs, and what an operator may do to them: redrive and cancel.

The master has no store: it asks its roles. One that has the store says how full the queues are, which jobs are dead and when each
schedule is due; everybody that works adds what it runs, what it tried in vain of late, and how much it did. A role that is stuck is
left out and counted.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Any

from fairlead.core.errors import FairleadError, Refused
from fairlead.run.role import SERVING
from fairlead.serve.cron import ROOT
from fairlead.serve.idempotent import settle, unknown
from fairlead.serve.jobs import Row

PATIENCE = 2.0  # seconds
DEAD = 50  # dead letters shown of one kind
QUEUES = "jobs/"
Many = dict[str, Any]


# ---- in a role


async def answer(realtime: Any, asked: Many) -> Many:
    """One question of the master: {"do": "show" | "redrive" | "cancel", "kind", "id"}."""
    if realtime is None:
        return {"none": True}
    try:
        if asked["do"] == "show":
            return await shown(realtime, asked["whole"])
        if asked["do"] == "unknown":
            return {"keys": await unknown(realtime.store.state)}
        if asked["do"] == "settle":
            return await settled(realtime.store.state, **{word: asked[word] for word in ("id", "status", "body")})
        return await done(realtime.jobs, asked["do"], asked["kind"], asked["id"])
    except FairleadError as error:
        return {"error": str(error), "status": error.status or 500}


async def shown(realtime: Any, whole: bool) -> Many:
    """What runs here; with `whole`, what is so for all."""
    work = realtime.work
    found: Many = {
        "running": [brief(run.row) for run in list(work.runs.values())],
        "tried": [asdict(one) for one in work.tried],
        "counts": {kind: dict(count) for kind, count in work.counts.items()},
        "slots": dict(work.slots),
        "worker": work.me,
    }
    if whole:
        store = realtime.store
        found["kinds"] = await kinds_of(realtime)
        found["now"] = await store.now()
        found["cron"] = [told(key, json.loads(entry.value)) for key, entry in await store.state.scan(ROOT)]
    return found


async def kinds_of(realtime: Any) -> list[Many]:
    """Every kind that has a queue: how full it is, and its dead letters."""
    leases = realtime.store.leases
    names = {name.removeprefix(QUEUES) for name in await leases.queues(QUEUES)} | set(realtime.jobs.kinds)
    found = []
    for name in sorted(names):
        depth, dead = await asyncio.gather(leases.depth(QUEUES + name), leases.dead(QUEUES + name, limit=DEAD))
        options = await realtime.jobs.options_of(name)
        letters = [{"id": one.id, "attempts": one.attempts, "reason": one.reason, "at": one.at} for one in dead]
        numbers = {word: getattr(depth, word) for word in ("ready", "delayed", "leased", "dead", "oldest")}
        limits = {word: getattr(options, word) for word in ("concurrency", "rate", "retries", "priority")}
        found.append({"kind": name, **numbers, **limits, "letters": letters})
    return found


def told(key: str, entry: Many) -> Many:
    """A schedule."""
    return {"kind": key.removeprefix(ROOT), "cron": entry["cron"], "zone": entry["zone"], "next": entry["at"]}


def brief(row: Row) -> Many:
    """A job that runs, without its arguments: they may be secret."""
    return {
        "kind": row.kind, "id": row.id, "attempt": row.attempt, "started": row.started, "worker": row.worker,
        "progress": row.progress, "cancelling": row.cancel,
    }  # fmt: skip


async def done(jobs: Any, what: str, kind: str, name: str) -> Many:
    """Redrive one dead letter, or all of a kind; cancel one job."""
    if what == "redrive":
        count = await jobs.redrive(kind, [name] if name else None)
        if name and not count:
            raise Refused(f"there is no job {name} of {kind} that failed", status=404)
        return {"did": "redrive", "count": count, "message": f"{count} of {kind} queued again"}
    row = await jobs.cancel(kind, name)
    return {"did": "cancel", "state": row.state, "message": f"job {name} is {row.state if row.over else 'told to end'}"}


async def settled(state: Any, id: str, status: int, body: str) -> Many:
    """An Idempotency-Key's outcome, as the operator says."""
    if not await settle(state, id, status, body.encode()):
        raise Refused(f"{id[:64]} is no key whose outcome is unknown", status=404, hint="fairlead idempotency lists them")
    return {"did": "settle", "message": f"{id}: {'it was done' if status else 'it was not done; the key may be used again'}"}


# ---- in the master


async def ask(master: Any, **what: Any) -> Many:
    """Have one role do it: the first that has the store and answers. FairleadError."""
    for role in serving(master):
        try:
            answer: Many = await role.ask("jobs", timeout=PATIENCE, **what)
        except (TimeoutError, EOFError):
            continue
        if answer.get("none"):
            continue
        if answer.get("error"):
            raise Refused(answer["error"], status=answer["status"])
        return answer
    raise Refused("no process of this server has a store, or none answers", status=404, hint="a job route or [store] makes one")


async def show(master: Any) -> Many:
    """Everything, from all roles: {kinds, running, tried, cron, now, silent}."""
    roles = serving(master)
    questions = [role.ask("jobs", timeout=PATIENCE, do="show", whole=n == 0) for n, role in enumerate(roles)]
    answers = await asyncio.gather(*questions, return_exceptions=True)
    heard = [one for one in answers if isinstance(one, dict) and not one.get("none") and not one.get("error")]
    silent = sum(not isinstance(one, dict) for one in answers)
    whole = next((one for one in heard if "kinds" in one), None)
    if whole is None and heard:  # the first is stuck: another tells
        whole = await ask(master, do="show", whole=True)
    if whole is None:
        return {"kinds": [], "running": [], "tried": [], "cron": [], "now": 0.0, "silent": silent, "workers": 0}
    for kind in whole["kinds"]:
        for word in ("done", "failed"):
            kind[word] = sum(one["counts"].get(kind["kind"], {}).get(word, 0) for one in heard)
        kind["slots"] = sum(one["slots"].get(kind["kind"], 0) for one in heard)
    return {
        "kinds": whole["kinds"],
        "running": sorted((run for one in heard for run in one["running"]), key=lambda run: run["started"]),
        "tried": sorted((t for one in heard for t in one["tried"]), key=lambda t: -t["at"])[:DEAD],
        "cron": sorted(whole["cron"], key=lambda one: one["next"]),
        "now": whole["now"],
        "silent": silent,
        "workers": sum(bool(one["slots"]) for one in heard),
    }


def serving(master: Any) -> list[Any]:
    """Who may know: jobs processes first, then workers, then who stands before them."""
    roles = [role for role in master.roles if role.state == SERVING]
    return sorted(roles, key=lambda role: (role.index < 0, -role.index))
