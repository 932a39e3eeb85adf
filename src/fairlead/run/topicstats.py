"""What the page, /metrics, StatsD and `GET /api/topics` show of topics: followers, deliveries, who is slow, groups, webhooks, and
the dead letters of both.

A role counts in its own feed; the master asks all that serve and adds. One that has the store says how groups and webhooks
stand. What is told is bounded: the `TOP` topics with the most followers, the `SLOW` followers that are late the longest, `GROUPS`
groups and as many webhooks, `DEAD` dead letters of each. A role that is stuck is left out and counted. Of a webhook's URL the query
is not shown: it may be a secret.

Rules
1. Counters only grow: what a worker had counted when it went is kept here and added for ever.
2. A topic's events pass through every role that follows it, so its `events` are the most that one has seen; deliveries are added.
3. Questions go one at a time, and an answer serves everybody who asks within `FRESH` seconds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from time import monotonic
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from fairlead.core.errors import FairleadError, Refused
from fairlead.run.prometheus import escape, head
from fairlead.run.role import SERVING

PATIENCE = 2.0  # seconds
FRESH = 0.5
TOP = 50
SLOW = 20
GROUPS = 100
DEAD = 20
PREFIX = "group/"
HOOKS = "hook/"  # where `serve.hooks` has them
COUNTS = ("events", "delivered", "gaps", "conflated", "left_out", "hooks_sent", "hooks_failed")
OTHER = "(other)"
Many = dict[str, Any]


# ---- in a role


async def answer(realtime: Any, asked: Many) -> Many:
    """One question of the master: {"do": "numbers" | "groups" | "redrive", "topic", "group" or "webhook", "id"}."""
    if realtime is None:
        return {"none": True}
    try:
        if asked["do"] == "numbers":
            return numbers(realtime.feed, realtime.deliveries)
        if asked["do"] == "groups":
            return {"groups": await groups_of(realtime.store), "webhooks": await hooks_of(realtime.store)}
        if not asked["webhook"]:
            return await redriven(realtime.store.leases, PREFIX, asked["topic"], asked["group"], asked["id"])
        done = await redriven(realtime.store.leases, HOOKS, asked["topic"], asked["webhook"], asked["id"])
        if realtime.deliveries is not None:
            await realtime.deliveries.hooks.tell()
        return done
    except FairleadError as error:
        return {"error": str(error), "status": error.status or 500}


def numbers(feed: Any, deliveries: Any = None) -> Many:
    """What one feed has counted, and who delivers webhooks here."""
    rings = sorted(feed.rings.values(), key=lambda ring: (-ring.followers, ring.topic))[:TOP]
    late = sorted(feed.late.items(), key=lambda one: one[0].late)
    slow_by: Counter[tuple[str, str]] = Counter((ring.topic, out.transport) for out, ring in late)
    now = monotonic()
    return {
        "topics": len(feed.rings),
        "events": feed.events_in,
        "delivered": feed.delivered,
        "gaps": feed.gaps,
        "conflated": feed.conflated,
        "left_out": feed.left_out,
        "hooks_sent": deliveries.sent if deliveries is not None else 0,
        "hooks_failed": deliveries.failed if deliveries is not None else 0,
        "slow": dict(feed.slow),
        "followers": present(feed.by_transport),
        "late": dict(Counter(out.transport for out, _ in late)),
        "late_by": [[topic, transport, count] for (topic, transport), count in slow_by.most_common(TOP)],
        "top": [
            {"topic": ring.topic, "events": ring.events_in, "delivered": ring.delivered, "followers": present(ring.by_transport)}
            for ring in rings
        ],
        "named": [
            {"topic": ring.topic, "who": out.title(), "transport": out.transport, "policy": out.slow, "missed": out.missed,
             "seconds": round(now - out.late, 1)}
            for out, ring in late[:SLOW]
        ],
    }  # fmt: skip


def present(table: dict[str, int]) -> dict[str, int]:
    """Without those that nobody uses."""
    return {name: count for name, count in table.items() if count}


async def groups_of(store: Any) -> list[Many]:
    """The consumer groups there are, and their dead letters."""
    found = []
    for queue in (await store.leases.queues(PREFIX))[:GROUPS]:
        topic, _, group = queue.removeprefix(PREFIX).rpartition("/")
        found.append({"topic": topic, "group": group, **await standing(store, queue)})
    return found


async def hooks_of(store: Any) -> list[Many]:
    """The webhooks there are, how far each is, and their dead letters."""
    from fairlead.serve.hooks import loaded  # the master, which asks, has no need of it

    found = []
    for key, entry in await store.state.scan(HOOKS, limit=GROUPS):
        hook = loaded(entry.value, entry.version)
        said = {name: getattr(hook, name) for name in ("topic", "id", "state", "reason", "succeeded", "failing", "paused")}
        found.append({**said, "url": public(hook.url), **await standing(store, key)})
    return found


def public(url: str) -> str:
    """A URL without what may be a secret in it."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "…" if parts.query else "", ""))


async def standing(store: Any, queue: str) -> Many:
    """A queue in numbers, and its dead letters."""
    depth = await store.leases.depth(queue)
    dead = await store.leases.dead(queue, limit=DEAD) if depth.dead else []
    letters = [{"id": one.id, "attempts": one.attempts, "reason": one.reason, "at": one.at} for one in dead]
    said = {name: getattr(depth, name) for name in ("lag", "ready", "delayed", "leased", "dead", "oldest")}
    return {**said, "letters": letters}


async def redriven(leases: Any, root: str, topic: str, group: str, name: str) -> Many:
    """Dead letters of a group or a webhook live again: one, or all."""
    count = await leases.redrive(f"{root}{topic}/{group}", [name] if name else None)
    if name and not count:
        raise Refused(f"{group} of {topic} has no dead letter {name}", status=404)
    return {"did": "redrive", "count": count, "message": f"{count} of {group} on {topic} to be delivered again"}


# ---- in the master


class Topics:
    """The sums of all roles of a master."""

    def __init__(self, master: Any) -> None:
        self.master = master
        self.lock = asyncio.Lock()
        self.last: Many = {}
        self.asked = -FRESH
        self.seen: dict[int, Many] = {}  # by role: what it had counted when it was last heard
        self.past: Many = {"slow": Counter(), **dict.fromkeys(COUNTS, 0)}  # of roles that are gone

    def roles(self) -> list[Any]:
        """Who may know."""
        return [role for role in self.master.roles if role.state == SERVING]

    async def numbers(self) -> Many:
        """Followers, deliveries and who is slow: counted in all roles."""
        async with self.lock:
            if monotonic() - self.asked < FRESH:
                return self.last
            roles = self.roles()
            answers = await asyncio.gather(
                *(role.ask("topics", timeout=PATIENCE, do="numbers") for role in roles), return_exceptions=True
            )
            heard = {r.number: a for r, a in zip(roles, answers) if isinstance(a, dict) and "top" in a}
            self.keep(heard, {role.number for role in self.master.roles})
            self.last = summed(list(heard.values()), self.past) | {"silent": sum(not isinstance(a, dict) for a in answers)}
            self.asked = monotonic()
            return self.last

    def keep(self, heard: dict[int, Many], living: set[int]) -> None:
        """Rule 1."""
        self.seen |= heard
        for key in set(self.seen) - living:
            gone = self.seen.pop(key)
            for name in COUNTS:
                self.past[name] += gone[name]
            self.past["slow"].update(gone["slow"])

    async def show(self) -> Many:
        """The numbers, and how the groups stand."""
        found = await self.numbers()
        try:
            return found | await self.ask(do="groups")
        except FairleadError:
            return found | {"groups": [], "webhooks": []}

    async def ask(self, **what: Any) -> Many:
        """Have one role do it: the first that has the store and answers. FairleadError."""
        async with self.lock:
            for role in self.roles():
                try:
                    answer: Many = await role.ask("topics", timeout=PATIENCE, **what)
                except (TimeoutError, EOFError):
                    continue
                if answer.get("error"):
                    raise Refused(answer["error"], status=answer["status"])
                if not answer.get("none"):
                    return answer
        raise Refused("no process of this server has topics, or none answers", status=404, hint="a topic route makes some")

    async def redrive(self, path: str, query: dict[str, list[str]]) -> Many:
        """POST /api/topics/redrive?topic=&group=&id=, or webhook= in place of group=: without an id all of it."""
        topic, group, hook, name = (query.get(word, [""])[0] for word in ("topic", "group", "webhook", "id"))
        if not topic or bool(group) == bool(hook):
            raise Refused("say which: ?topic=…&group=… or &webhook=…, and &id=… for one letter", status=400)
        return await self.ask(do="redrive", topic=topic, group=group, webhook=hook, id=name)

    async def exposition(self) -> bytes:
        """The lines of /metrics; none while nothing of topics was ever served."""
        found = await self.numbers()
        return ("\n".join(lines(found)) + "\n").encode() if found["served"] else b""


def summed(heard: Sequence[Many], past: Many) -> Many:
    """Several roles' numbers as one."""
    total: Many = {name: past[name] + sum(one[name] for one in heard) for name in COUNTS}
    total["slow"] = dict(sum((Counter(one["slow"]) for one in heard), Counter(past["slow"])))
    for name in ("followers", "late"):
        total[name] = dict(sum((Counter(one[name]) for one in heard), Counter()))
    top: dict[str, Many] = {}
    for one in heard:
        for row in one["top"]:
            into = top.setdefault(row["topic"], {"topic": row["topic"], "events": 0, "delivered": 0, "followers": Counter()})
            into["events"] = max(into["events"], row["events"])
            into["delivered"] += row["delivered"]
            into["followers"].update(row["followers"])
    rows = sorted(top.values(), key=lambda row: (-row["followers"].total(), row["topic"]))[:TOP]
    slow_by: Counter[tuple[str, str]] = Counter()
    for one in heard:
        for topic, transport, count in one["late_by"]:
            slow_by[topic, transport] += count
    for row in rows:
        row["followers"] = dict(row["followers"])
        row["late"] = {transport: count for (topic, transport), count in slow_by.items() if topic == row["topic"]}
    named = sorted((row for one in heard for row in one["named"]), key=lambda row: -row["seconds"])[:SLOW]
    topics = max((one["topics"] for one in heard), default=0)  # each role has its own: at least so many
    return total | {"topics": topics, "top": rows, "named": named, "served": bool(heard) or any(past[n] for n in COUNTS)}


# ---- for Prometheus and StatsD

TOTALS = (
    ("fairlead_topic_events_total", "events", "Events that came to topics somebody follows, by process."),
    ("fairlead_topic_deliveries_total", "delivered", "Events given to followers that were up to date."),
    ("fairlead_topic_gaps_total", "gaps", "Times that a follower was told of events it can no longer have."),
    ("fairlead_topic_conflated_total", "conflated", "Events that a newer one of their key replaced for a slow follower."),
    ("fairlead_topic_dropped_total", "left_out", "Events that a slow follower was not given, and told so."),
    ("fairlead_webhook_delivered_total", "hooks_sent", "Attempts of webhooks that the receiver took."),
    ("fairlead_webhook_failed_total", "hooks_failed", "Attempts of webhooks that it did not."),
)


def lines(found: Many) -> list[str]:
    """Prometheus lines. Topics beyond the `TOP` are one, `(other)`."""
    out: list[str] = []
    for name, key, text in TOTALS:
        head(out, name, "counter", text)
        out.append(f"{name} {found[key]}")
    head(out, "fairlead_topic_slow_total", "counter", "Times that a follower had no room when events came, by what becomes of it.")
    out.extend(f'fairlead_topic_slow_total{{policy="{policy}"}} {found["slow"].get(policy, 0)}' for policy in POLICIES)
    for name, key, text in (
        ("fairlead_topic_followers", "followers", "Who follows topics now, by transport."),
        ("fairlead_topic_slow", "late", "Followers without room that missed something, by transport."),
    ):
        head(out, name, "gauge", text)
        for topic, table in spread(found, key):
            out.extend(f'{name}{{topic="{escape(topic)}",transport="{kind}"}} {count}' for kind, count in sorted(table.items()))
    return out


POLICIES = ("cursor", "latest", "drop", "close")


def spread(found: Many, key: str) -> list[tuple[str, dict[str, int]]]:
    """(topic, by transport), what is not of the top ones last."""
    rest: Counter[str] = Counter(found[key])
    shown = []
    for row in found["top"]:
        if row[key]:
            shown.append((row["topic"], row[key]))
            rest.subtract(row[key])
    other = {kind: count for kind, count in rest.items() if count > 0}
    return [*shown, (OTHER, other)] if other else shown


def flat(found: Many) -> tuple[dict[str, int], dict[str, int]]:
    """(counters, gauges) for StatsD."""
    counters = {f"topics.{name}": found[name] for name in COUNTS}
    counters |= {f"topics.slow.{policy}": found["slow"].get(policy, 0) for policy in POLICIES}
    gauges = {f"topics.followers.{kind}": count for kind, count in found["followers"].items()}
    return counters, gauges | {"topics.slow_now": sum(found["late"].values())}
