"""The reading side of the slab: sums over workers, percentiles, rates over a window, and the requests remembered.

Rules
1. Counters only grow, so everything "per second" or "of late" is the difference of two samples. `sample` is called
   once a second (by the admin's timer); who asks without one gets a fresh sample.
2. Reading disturbs nobody: no lock, no message to a worker; a worker that stands still is read like any other.
3. What is kept here is bounded: two minutes of samples.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from importlib import resources
from time import monotonic_ns
from typing import Any

from fairlead.core import histogram as h
from fairlead.core.journey import STEPS
from fairlead.core.slab import HISTOGRAMS, Slab
from fairlead.run import tail, why
from fairlead.run.log import access_log
from fairlead.run.verdict import judge, self_check

WINDOW = 10.0
KEPT = 120
SECOND = 1_000_000_000
SHARES = (0.5, 0.9, 0.99)
PAGE = {
    "/": ("index.html", b"text/html; charset=utf-8"),
    "/page.css": ("page.css", b"text/css; charset=utf-8"),
    "/page.js": ("page.js", b"text/javascript; charset=utf-8"),
    "/jobs.js": ("jobs.js", b"text/javascript; charset=utf-8"),
}


class Sample:
    """All counters at one moment, added over the workers."""

    def __init__(self, slab: Slab, now: int) -> None:
        self.at = now
        self.totals: dict[str, int] = {}
        self.names: dict[str, int] = {}
        self.histograms = {name: [0] * h.BUCKETS for name in HISTOGRAMS}
        self.routes: dict[str, dict[str, Any]] = {}
        self.route_names: dict[tuple[int, int], str] = {}
        self.workers: list[dict[str, Any]] = []
        for region in slab.regions():
            self.add(region, now)

    def add(self, region: Any, now: int) -> None:
        """One worker's counters."""
        totals = region.totals()
        for name, value in totals.items():
            self.totals[name] = self.totals.get(name, 0) + value
        for name, count in region.names().items():
            self.names[name] = self.names.get(name, 0) + count
        for name in HISTOGRAMS:
            counts = region.histogram(name)
            if any(counts):
                self.histograms[name] = h.add(self.histograms[name], counts)
        for number in range(region.layout["routes"]):
            name = region.route_name(number)
            if not name:
                break
            self.route_names[region.index, number] = name
            self.add_route(name, region.route(number))
        self.workers.append(worker(region.index, totals, now))

    def add_route(self, name: str, route: dict[str, Any]) -> None:
        """One route of one worker."""
        there = self.routes.get(name)
        if there is None:
            self.routes[name] = route
            return
        for key in ("requests", "errors", "bytes_out"):
            there[key] += route[key]
        there["counts"] = h.add(there["counts"], route["counts"])
        for step, (ns, count) in route["steps"].items():
            before = there["steps"].get(step, (0, 0))
            there["steps"][step] = (before[0] + ns, before[1] + count)

    def step_sums(self) -> dict[str, int]:
        """{step: ns spent in it}, over all routes; "total" too."""
        sums = dict.fromkeys((*STEPS, "total"), 0)
        for route in self.routes.values():
            for step, (ns, _) in route["steps"].items():
                sums[step] += ns
        return sums


def worker(index: int, totals: dict[str, int], now: int) -> dict[str, Any]:
    """What the page shows of one worker."""
    return {
        "slot": index,
        "pid": totals["pid"],
        "beat_age": (now - totals["heartbeat"]) / 1e9,
        "requests": totals["requests"] + totals["hopped"],
        "in_flight": totals["in_flight"],
        "open": totals["open"],
        "opened": totals["opened"],
        "running": totals["running"],
        "lag_us": totals["turn_max"] / 1000,
        "threads": {"all": totals["threads"], "busy": totals["threads_busy"], "waiting": totals["threads_waiting"]},
    }


class Observation:
    """Reads one slab. `status` gives the master's own facts (listeners, workers) for the verdict, or is None."""

    def __init__(
        self,
        slab: Slab,
        status: Callable[[], dict[str, Any]] | None = None,
        clock: Callable[[], int] = monotonic_ns,
        living: Callable[[], set[int]] | None = None,
    ) -> None:
        self.slab = slab
        self.status = status
        self.clock = clock
        self.living = living
        self.samples: deque[Sample] = deque(maxlen=KEPT + 1)
        self.history: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self.framed: dict[str, Any] | None = None
        self.framed_at = 0
        self.sample()

    # ---- samples and windows

    def sample(self) -> Sample:
        """Read the counters now and keep them."""
        new = Sample(self.slab, self.clock())
        if self.samples:
            self.history.append(moment(self.samples[-1], new))
        self.samples.append(new)
        return new

    def now(self) -> Sample:
        """The counters, at most a second and a half old."""
        newest = self.samples[-1]
        return newest if self.clock() - newest.at < 1.5 * SECOND else self.sample()

    def before(self, window: float = WINDOW) -> Sample:
        """The sample that begins a window of this many seconds, or the oldest there is."""
        newest = self.now()
        for old in reversed(self.samples):
            if newest.at - old.at >= window * SECOND:
                return old
        return self.samples[0]

    def recent(self, name: str, window: float | None = WINDOW) -> list[int]:
        """A histogram's counts in the window; None is since the start."""
        newest = self.now().histograms[name]
        return newest if window is None else h.difference(newest, self.before(window).histograms[name])

    # ---- what there is to know

    def totals(self) -> dict[str, int]:
        """All totals since the start."""
        return self.now().totals

    def rates(self, window: float = WINDOW) -> dict[str, float]:
        """Per second, in the window: requests, answers 4xx and 5xx, refusals, bytes, connections; and its length."""
        new, old = self.now(), self.before(window)
        seconds = max((new.at - old.at) / 1e9, 1e-9)
        found = {}
        for name in (
            "requests",
            "bytes_in",
            "bytes_out",
            "opened",
            "client_left",
            "status_5xx",
            "status_4xx",
            "refused",
        ):
            found[name] = max(0, new.totals.get(name, 0) - old.totals.get(name, 0)) / seconds if new is not old else 0.0
        found["seconds"] = (new.at - old.at) / 1e9
        return found

    def steps(self, window: float | None = WINDOW) -> list[dict[str, Any]]:
        """Each step that happened, in journey order: count, share of all time, mean and percentiles in microseconds."""
        new, old = self.now().step_sums(), self.before(window).step_sums() if window is not None else {}
        spent = {name: max(0, ns - old.get(name, 0)) for name, ns in new.items()}
        whole = max(sum(spent[name] for name in STEPS), 1)
        found = []
        for name in STEPS:
            counts = self.recent(name, window)
            count = sum(counts)
            if count:
                entry = {"name": name, "group": group_of(name), "count": count, "share": round(spent[name] / whole, 4)}
                entry["mean_us"] = why.micros(spent[name] // count)
                found.append(entry | timing(counts))
        return found

    def groups(self, window: float | None = WINDOW) -> list[dict[str, Any]]:
        """The three groups (before, app, after) with their steps."""
        steps = self.steps(window)
        found = []
        for name in why.GROUPS:
            mine = [step for step in steps if step["group"] == name]
            found.append({"name": name, "share": round(sum(step["share"] for step in mine), 4), "steps": mine})
        return found

    def latency(self, window: float | None = WINDOW) -> dict[str, Any]:
        """Percentiles of whole requests."""
        counts = self.recent("total", window)
        return {"count": sum(counts), **timing(counts)}

    def routes(self, window: float | None = WINDOW) -> list[dict[str, Any]]:
        """Each route used: requests since the start; of late: rate, errors, percentiles, where its time went."""
        new, old = self.now(), self.before(window) if window is not None else None
        seconds = max((new.at - old.at) / 1e9, 1e-9) if old is not None else 0
        found = []
        for name, route in new.routes.items():
            if not route["requests"]:
                continue
            was = old.routes.get(name, EMPTY) if old is not None else EMPTY
            counts = h.difference(route["counts"], was["counts"])
            spent = {s: ns - was["steps"].get(s, (0, 0))[0] for s, (ns, _) in route["steps"].items() if s != "total"}
            whole = max(sum(spent.values()), 1)
            found.append(
                {
                    "name": name,
                    "requests": route["requests"],
                    "rate": round((route["requests"] - was["requests"]) / seconds, 2) if seconds else 0,
                    "errors": route["errors"] - was["errors"],
                    "bytes_out": route["bytes_out"] - was["bytes_out"],
                    "shares": {s: round(ns / whole, 4) for s, ns in spent.items() if ns > 0},
                    **timing(counts),
                    "ever": timing(route["counts"]),
                }
            )
        return sorted(found, key=lambda r: -r["requests"])

    def workers(self) -> list[dict[str, Any]]:
        """Each worker that wrote to the slab and lives; with what it did of late."""
        new, old = self.now(), {w["slot"]: w for w in self.before().workers}
        seconds = max((new.at - self.before().at) / 1e9, 1e-9)
        living = self.living() if self.living is not None else None
        found = []
        for one in new.workers:
            if living is not None and one["slot"] not in living:
                continue
            was = old.get(one["slot"], {"requests": 0})
            found.append({**one, "rate": round(max(0, one["requests"] - was["requests"]) / seconds, 2)})
        return found

    def skew(self, window: float = WINDOW) -> dict[str, Any]:
        """How evenly the workers share the requests, of late: {busiest, idlest: {index, rate}, mean, ratio}; {} without
        requests or with one worker. `ratio` is busiest over mean: 1 is even, the number of workers is all on one.
        """
        roles = (self.status() if self.status is not None else {}).get("workers", ())
        index = {one["slot"]: one["index"] for one in roles if one.get("kind", "worker") == "worker"}
        rates = sorted((one["rate"], index[one["slot"]]) for one in self.workers() if one["slot"] in index)
        mean = sum(rate for rate, _ in rates) / max(1, len(rates))
        if len(rates) < 2 or not mean:
            return {}
        low, high = rates[0], rates[-1]
        return {
            "busiest": {"index": high[1], "rate": high[0]},
            "idlest": {"index": low[1], "rate": low[0]},
            "mean": round(mean, 2),
            "ratio": round(high[0] / mean, 3),
        }

    # ---- requests

    def records(self, part: str, most: int = 0) -> list[dict[str, Any]]:
        """The believable records of a part of the slab; at most `most` of each worker."""
        return [record for region in self.slab.regions() for record in region.records(part, most)]

    def latest(self, n: int = 50) -> list[dict[str, Any]]:
        """The last requests, newest first, as rows (see run.why)."""
        found = sorted(self.records("ring", n), key=lambda r: -r["done"])[:n]
        return [why.row(record, self.now().route_names) for record in found]

    def slowest(self, n: int = 50) -> list[dict[str, Any]]:
        """The slowest of the last ten minutes, slowest first."""
        rows = [why.row(record, self.now().route_names) for record in self.records("slow")]
        return sorted(rows, key=lambda r: -r["total_us"])[:n]

    def running(self, n: int = 50) -> list[dict[str, Any]]:
        """What has been running for a while, oldest first. Looked at by each worker once a second."""
        now = self.clock()
        rows = [why.row(record, self.now().route_names, now) for record in self.records("running")]
        return sorted(rows, key=lambda r: -r["total_us"])[:n]

    def find(self, ident: str) -> dict[str, Any] | None:
        """One request by its id, in full; None when it is not remembered (any more)."""
        for part in ("ring", "slow", "running"):
            for record in self.records(part):
                if record["id"] == ident:
                    pid = next((w["pid"] for w in self.now().workers if w["slot"] == record["worker"]), 0)
                    return why.why(record, self.now().route_names, pid, self.clock() if part == "running" else 0)
        return None

    def tail(self) -> dict[str, Any] | None:
        """The slowest requests remembered against the middle ones, step by step (run.tail)."""
        return tail.compare(self.records("ring", tail.EACH))

    # ---- judgement

    def verdict(self) -> dict[str, Any]:
        """What is wrong, in words: {level, rule, text, numbers, advice}."""
        return judge(self)

    def check(self) -> dict[str, Any]:
        """How far these numbers can be trusted."""
        return self_check(self)

    def frame(self, rows: int = 60) -> dict[str, Any]:
        """Everything the page shows, as one object; made at most twice a second, however many look."""
        if self.framed is not None and self.clock() - self.framed_at < SECOND // 2:
            return self.framed
        self.framed_at = self.clock()
        self.framed = self.make_frame(rows)
        return self.framed

    def make_frame(self, rows: int) -> dict[str, Any]:
        """See `frame`."""
        return {
            "window": WINDOW,
            "verdict": self.verdict(),
            "check": self.check(),
            "latency": self.latency(),
            "rates": self.rates(),
            "totals": self.totals(),
            "ends": self.now().names,
            "groups": self.groups(),
            "tail": self.tail(),
            "routes": self.routes(),
            "workers": self.workers(),
            "history": list(self.history),
            "running": self.running(rows),
            "latest": self.latest(rows),
            "slowest": self.slowest(rows),
        }


EMPTY: dict[str, Any] = {"requests": 0, "errors": 0, "bytes_out": 0, "steps": {}, "counts": [0] * h.BUCKETS}


def group_of(step: str) -> str:
    """The group a step belongs to."""
    return next(name for name, steps in why.GROUPS.items() if step in steps)


def timing(counts: list[int]) -> dict[str, float]:
    """p50, p90, p99 in microseconds."""
    return {f"p{share * 100:.0f}_us": why.micros(ns) for share, ns in zip(SHARES, h.percentiles(counts, SHARES))}


def moment(old: Sample, new: Sample) -> dict[str, Any]:
    """One second of the past: how many, how slow, and the counts per octave for the heat map."""
    counts = h.difference(new.histograms["total"], old.histograms["total"])
    errors = new.totals.get("status_5xx", 0) - old.totals.get("status_5xx", 0)
    return {
        "seconds": round((new.at - old.at) / 1e9, 3),
        "requests": max(0, new.totals.get("requests", 0) - old.totals.get("requests", 0)),
        "errors": max(0, errors),
        "in_flight": new.totals.get("in_flight", 0),
        "open": new.totals.get("open", 0),
        "heat": [sum(counts[i : i + 8]) for i in range(0, h.BUCKETS, 8)],
        **timing(counts),
    }


def page_files() -> dict[str, tuple[bytes, bytes]]:
    """{path: (content type, bytes)} of the admin page."""
    folder = resources.files("fairlead.run") / "page"
    return {path: (kind, (folder / name).read_bytes()) for path, (name, kind) in PAGE.items()}


__all__ = ["Observation", "Sample", "access_log", "page_files"]
