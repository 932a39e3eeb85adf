"""The verdict: what is wrong right now, in words, with the numbers and the rule that said so.

Rules are tried in order, worst first, on the last ten seconds; the first that fires speaks. Thresholds stand in the
table below and in the text of the verdict, so nobody has to guess why it says what it says. The form follows
Clinic.js Doctor: a named finding, its evidence, and what to do next. "Event loop" limits (median 10 ms, worst 100 ms)
are Doctor's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fairlead.core import histogram as h
from fairlead.run.why import ADVICE, MEANING, human

MS = 1_000_000
FEW = 20  # with fewer requests than this in the window, percentiles say little
STUCK = 3.0  # seconds without a heartbeat
QUEUE_FULL = 0.8  # of the accept queue's limit
WAIT = 10 * MS
TURN_MEDIAN, TURN_WORST = 10 * MS, 100 * MS
ERRORS = 0.05
CLIENTS = 0.3
TLS_SHARE, TLS_FIRST = 0.3, 0.5
Finding = dict[str, Any]


def finding(level: str, rule: str, text: str, advice: str = "", **numbers: Any) -> Finding:
    """One verdict. `level` is bad, watch, ok or idle."""
    return {"level": level, "rule": rule, "text": text, "advice": advice, "numbers": numbers}


def judge(seen: Any) -> Finding:
    """The first finding that fires; see `RULES` for their order."""
    for rule in RULES:
        found = rule(seen)
        if found is not None:
            return found
    return healthy(seen)


def stuck(seen: Any) -> Finding | None:
    """A worker that has not come back to its loop."""
    for one in seen.workers():
        if one["beat_age"] > STUCK and one["pid"]:
            pid, age = one["pid"], one["beat_age"]
            text = (
                f"Worker {one['slot']} (pid {pid}) has not come back to its event loop for {age:.1f} s: something "
                "blocks it."
            )
            advice = f"its Python stack is in the server's log (server.stuck); or: py-spy dump --pid {pid}"
            return finding("bad", "stuck-worker", text, advice, pid=pid, seconds=round(age, 1))
    return None


def turned_away(seen: Any) -> Finding | None:
    """Clients met a full accept queue."""
    path = (seen.status() if seen.status is not None else {}).get("accept_path") or {}
    if not path.get("overflowing"):
        return None
    count, bind = path["of_late"]["overflows"], path["overflowing"]
    text = f"The accept queue of {bind} is full: {count} connections were turned away in ten seconds."
    return finding("bad", "accept-overflow", text, "more workers, or a larger backlog", overflows=count)


def strangers(seen: Any) -> Finding | None:
    """Somebody else listens on our port."""
    path = (seen.status() if seen.status is not None else {}).get("accept_path") or {}
    for one in path.get("foreign", ()):
        who = one["who"] or f"a process of uid {one['uid']}"
        text = f"Another socket listens on {one['bind']} beside ours: {who} gets a share of the connections."
        return finding("bad", "foreign-socket", text, "stop it, or see who may run as this user", uid=one["uid"])
    return None


def queue_full(seen: Any) -> Finding | None:
    """An accept queue near its limit."""
    for one in (seen.status() if seen.status is not None else {}).get("listeners", ()):
        depth, limit = depth_of(one)
        if limit and depth >= QUEUE_FULL * limit:
            name = one.get("bind") or one.get("name")
            text = f"The accept queue of {name} holds {depth} of {limit}: new clients will wait 1 s or more."
            return finding("bad", "accept-queue", text, "more workers, or a larger backlog", depth=depth, limit=limit)
    return None


def depth_of(listener: dict[str, Any]) -> tuple[int, int]:
    """(depth, limit) of a listener's accept queue, however many sockets it has."""
    found = listener.get("queue") or listener.get("accept_queue") or listener
    if isinstance(found, dict):
        return int(found.get("depth") or 0), int(found.get("limit") or 0)
    return 0, 0


def accepting(seen: Any) -> Finding | None:
    """Connections wait to be accepted."""
    counts = seen.recent("accept")
    p90 = h.percentile(counts, 0.9)
    if sum(counts) >= FEW and p90 >= WAIT:
        text = f"Connections wait {human(p90)} (p90) to be accepted: the workers do not come to it."
        return finding("bad", "accept-wait", text, ADVICE["accept"], p90_ns=p90)
    return None


def blocked(seen: Any) -> Finding | None:
    """The event loop comes late to its timers."""
    turns = seen.recent("turn")
    if not sum(turns):
        return None
    p50, p90, worst = h.percentiles(turns, (0.5, 0.9, 1.0))
    if p50 < TURN_MEDIAN and worst < TURN_WORST:
        return None
    guilty = busiest(seen)
    who = f" Most time is spent in route {guilty['name']}." if guilty else ""
    blocked_often = p50 >= TURN_MEDIAN or p90 >= TURN_WORST  # once in ten seconds is worth a look, no more
    how = "is blocked" if blocked_often else "was late"
    text = f"The event loop {how}: {human(p50)} late in the median, {human(worst)} at worst.{who}"
    advice = "move blocking work to a thread, or run the app as WSGI; or the machine is short of CPU"
    return finding("bad" if blocked_often else "watch", "loop-blocked", text, advice, p50_ns=p50, worst_ns=worst)


def failing(seen: Any) -> Finding | None:
    """Many answers are errors of ours."""
    rates = seen.rates()
    if rates["requests"] * rates["seconds"] < FEW or rates["status_5xx"] < ERRORS * rates["requests"]:
        return None
    share = rates["status_5xx"] / rates["requests"]
    causes = sorted(seen.now().names.items(), key=lambda kv: -kv[1])
    most = f" The most frequent cause since the start: {causes[0][0]}." if causes else ""
    text = f"{share:.0%} of the answers are errors (5xx).{most}"
    return finding("bad", "errors", text, "see the error log", share=round(share, 4))


def waiting(step: str, rule: str, text: str) -> Callable[[Any], Finding | None]:
    """A rule: the p90 of a waiting step is 10 ms or more."""

    def found(seen: Any) -> Finding | None:
        counts = seen.recent(step)
        p90 = h.percentile(counts, 0.9)
        if sum(counts) < FEW or p90 < WAIT:
            return None
        return finding("bad", rule, text.format(human(p90)), ADVICE[step], p90_ns=p90)

    return found


def slow_clients(seen: Any) -> Finding | None:
    """Most of the time goes to clients that read slowly."""
    share = next((step["share"] for step in seen.steps() if step["name"] == "client"), 0)
    if share < CLIENTS:
        return None
    text = f"Clients read slowly: {share:.0%} of all time is spent waiting for them."
    return finding("watch", "slow-clients", text, ADVICE["client"], share=share)


def handshakes(seen: Any) -> Finding | None:
    """Every request pays a TLS set-up."""
    share = next((step["share"] for step in seen.steps() if step["name"] == "tls"), 0)
    new, old = seen.now().totals, seen.before().totals
    requests = new.get("requests", 0) - old.get("requests", 0)
    first = new.get("first_requests", 0) - old.get("first_requests", 0)
    if share < TLS_SHARE or requests < FEW or first < TLS_FIRST * requests:
        return None
    text = f"TLS set-up takes {share:.0%} of the time: {first} of {requests} requests came on new connections."
    return finding("watch", "tls-setup", text, ADVICE["tls"], share=share, first=first, requests=requests)


def rate(value: float) -> str:
    """A rate for people."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def busiest(seen: Any) -> dict[str, Any] | None:
    """The route whose application time is largest, of late."""
    routes = [route for route in seen.routes() if route["rate"] and route["name"] != "(none)"]
    return max(routes, key=lambda r: r["rate"] * r["p90_us"] * r["shares"].get("process", 0.01), default=None)


def healthy(seen: Any) -> Finding:
    """Nothing fired: say how it goes."""
    rates, latency = seen.rates(), seen.latency()
    if not latency["count"]:
        return finding("idle", "idle", "No request was finished in the last ten seconds.")
    steps = seen.steps()
    most = max(steps, key=lambda step: step["share"], default=None)
    where = f" {most['share']:.0%} of the time is {MEANING[most['name']]} ({most['name']})." if most else ""
    guilty = busiest(seen)
    if most and most["name"] == "process" and guilty:
        where = where[:-1] + f", mostly {guilty['name']}."
    p50, p99 = human(latency["p50_us"] * 1000), human(latency["p99_us"] * 1000)
    text = f"All is well: {rate(rates['requests'])} requests a second, half within {p50}, 99 % within {p99}.{where}"
    return finding("ok", "healthy", text, "", **latency)


RULES: tuple[Callable[[Any], Finding | None], ...] = (
    stuck,
    turned_away,
    strangers,
    queue_full,
    accepting,
    blocked,
    failing,
    waiting("buffer", "buffer-wait", "Requests wait {} (p90) in the kernel until a worker reads them."),
    waiting("queue", "thread-pool", "Requests wait {} (p90) for a thread or worker: all are busy."),
    waiting("pool", "upstream-pool", "Requests wait {} (p90) for a connection to their upstream: the pool is used up."),
    waiting("dial", "upstream-dial", "Connecting to an upstream takes {} (p90)."),
    slow_clients,
    handshakes,
)


def self_check(seen: Any) -> dict[str, Any]:
    """Whether the numbers agree with each other: Little's law, requests without a kernel stamp, clocks set back."""
    new, old = seen.now(), seen.before()
    seconds = (new.at - old.at) / 1e9
    counted = ("requests", "unstamped", "clamped", "total_ns")
    diff = {name: max(0, new.totals.get(name, 0) - old.totals.get(name, 0)) for name in counted}
    window = [s.totals.get("in_flight", 0) for s in seen.samples if s.at >= old.at]
    expected = diff["total_ns"] / 1e9 / seconds if seconds else 0.0
    sampled = sum(window) / len(window) if window else 0.0
    requests = diff["requests"] or 1
    return {
        "in_flight_expected": round(expected, 2),  # Little's law: rate x mean time
        "in_flight_sampled": round(sampled, 2),
        "unstamped": round(diff["unstamped"] / requests, 4),
        "clamped": diff["clamped"],
        "log_lost": new.totals.get("log_lost", 0),
        "requests": diff["requests"],
    }
