"""Reading the slab: sums over workers, windows, percentiles, the verdict, why one request was slow, Prometheus text."""

from __future__ import annotations

import json
import re

import pytest

from fairlead.core.errors import AppError, NetError
from fairlead.core.record import Recorder
from fairlead.core.slab import Slab
from fairlead.run.observe import Observation, page_files
from fairlead.run.prometheus import exposition
from fairlead.run.why import human
from journeys import MS, SECOND, US, connection, exchange, journey


class World:
    """Two workers, one reader, and a clock that is set."""

    def __init__(self, status: object = None) -> None:
        self.slab = Slab.create(3)
        self.route = object()
        self.workers = [Recorder(self.slab.region(i), [(self.route, "GET /a")]) for i in range(2)]
        self.time = 100 * SECOND
        self.beat()
        self.seen = Observation(self.slab, status, clock=lambda: self.time)  # type: ignore[arg-type]
        self.conn = connection()

    def beat(self) -> None:
        """Both workers live."""
        for worker in self.workers:
            worker.region.set("heartbeat", self.time)

    def serve(self, count: int = 1, seconds: float = 1, worker: int = 0, **how: object) -> None:
        """Requests, then time passes, then a sample."""
        fields = {k: how.pop(k) for k in ("status", "error", "target", "tag") if k in how}
        for _ in range(count):
            ex = exchange(self.conn, journey(self.time, **how), route=self.route, **fields)  # type: ignore[arg-type]
            self.workers[worker].done(ex)
        self.time += int(seconds * SECOND)
        self.beat()
        self.seen.sample()


def test_totals_are_added_over_the_workers() -> None:
    world = World()
    world.serve(3)
    world.serve(4, worker=1)
    assert world.seen.totals()["requests"] == 7
    assert sum(world.seen.recent("total")) == 7


def test_the_skew_is_the_busiest_workers_share_over_the_mean() -> None:
    roles = [{"slot": 0, "index": 0, "kind": "worker"}, {"slot": 1, "index": 1, "kind": "worker"}]
    world = World(lambda: {"workers": roles, "listeners": []})
    assert world.seen.skew() == {}
    world.serve(30, seconds=0)
    world.serve(10, worker=1)
    found = world.seen.skew()
    assert found["ratio"] == 1.5 and (found["busiest"]["index"], found["idlest"]["index"]) == (0, 1)
    assert "fairlead_worker_skew 1.5\n" in exposition(world.seen).decode()


def test_a_window_forgets_what_is_older() -> None:
    world = World()
    world.serve(50, process=MS)
    world.serve(0, seconds=20)
    world.serve(5, process=100 * MS)
    assert world.seen.rates(10)["requests"] == pytest.approx(5 / 21, rel=0.01)  # no sample lies between
    world.serve(0, seconds=11)
    assert world.seen.latency()["count"] == 0
    assert world.seen.latency(None)["count"] == 55


def test_percentiles_come_per_step_and_per_route() -> None:
    world = World()
    world.serve(90, process=2 * MS)
    world.serve(10, process=200 * MS)
    steps = {step["name"]: step for step in world.seen.steps()}
    assert steps["process"]["p50_us"] == pytest.approx(2000, rel=0.07)
    assert steps["process"]["p99_us"] == pytest.approx(200_000, rel=0.07)
    assert steps["process"]["share"] > 0.98
    (route,) = world.seen.routes()
    assert (route["name"], route["requests"]) == ("GET /a", 100)
    assert route["p50_us"] == pytest.approx(2080, rel=0.07)


def test_the_shares_of_the_groups_are_the_whole() -> None:
    world = World()
    world.serve(5, first=True)
    world.serve(5, leg=True)
    groups = world.seen.groups()
    assert [group["name"] for group in groups] == ["before", "app", "after"]
    assert sum(group["share"] for group in groups) == pytest.approx(1, abs=0.01)


def test_the_latest_and_the_slowest_are_found_and_so_is_one_by_its_id() -> None:
    world = World()
    for n in range(20):
        world.serve(process=(n % 7 + 1) * MS, tag=b"r%d" % n, worker=n % 2)
    assert [row["id"] for row in world.seen.latest(3)] == ["r19", "r18", "r17"]
    assert {row["id"] for row in world.seen.slowest(2)} == {"r6", "r13"}
    found = world.seen.find("r6")
    assert found is not None and found["worker"] == 0
    assert world.seen.find("nobody") is None


def test_why_names_the_step_that_took_the_time() -> None:
    world = World()
    world.serve(process=42 * MS, tag=b"slow")
    why = world.seen.find("slow")
    assert why is not None
    assert why["sentence"] == "42.1 ms, nearly all of it in process: the application."
    assert "journey.step" in why["advice"]
    assert why["route"] == "GET /a"
    assert {step["name"]: step["quality"] for step in why["steps"]}["buffer"] == "at-least"
    assert why["points"]["woken"] == 40
    world.serve(process=42 * MS, tag=b"far", leg=True)
    assert "in upstream" in world.seen.find("far")["sentence"]  # type: ignore[index]


def test_an_own_step_that_took_most_is_named() -> None:
    world = World()
    ex = exchange(j=journey(SECOND, process=50 * MS), tag=b"x")
    ex.journey.add("sql", SECOND + MS, 45 * MS)
    world.workers[0].done(ex)
    why = world.seen.find("x")
    assert why is not None
    assert "“sql” (45 ms)" in why["sentence"]
    assert why["custom"][0]["name"] == "sql"


def test_the_idle_time_before_a_first_request_is_not_on_its_axis() -> None:
    world = World()
    world.serve(first=True, process=5 * MS, tag=b"f")
    why = world.seen.find("f")
    assert why is not None
    assert why["total_us"] == pytest.approx(15_080, abs=1)
    assert why["pieces"][:3] == [["accept", 0, 2000.0], ["tls", 2000.0, 8000.0], ["buffer", 10_000.0, 40.0]]


def test_time_that_no_step_explains_is_unknown_not_stretched() -> None:
    world = World()
    ex = exchange(j=journey(SECOND, process=MS), tag=b"gap")
    ex.journey.sent += 50 * MS
    ex.journey.done = ex.journey.sent
    world.workers[0].done(ex)
    why = world.seen.find("gap")
    assert why is not None
    assert ["unknown", 1073.0, 50_000.0] in why["pieces"]
    assert "no step explains" in why["sentence"]


# ---- the verdict


def verdict(world: World) -> tuple[str, str]:
    """Its rule and level."""
    found = world.seen.verdict()
    assert found["text"]
    json.dumps(found)
    return found["rule"], found["level"]


def test_nothing_to_do_is_idle() -> None:
    assert verdict(World()) == ("idle", "idle")


def test_all_well_says_where_the_time_goes() -> None:
    world = World()
    world.serve(100)
    assert verdict(world) == ("healthy", "ok")
    text = world.seen.verdict()["text"]
    assert "100 requests a second" in text
    assert "mostly GET /a" in text


def test_a_worker_that_does_not_come_back_is_named() -> None:
    world = World()
    world.serve(100)
    world.time += 5 * SECOND
    world.workers[1].region.set("heartbeat", world.time)
    assert verdict(world) == ("stuck-worker", "bad")
    assert "Worker 0" in world.seen.verdict()["text"]


def test_a_full_accept_queue_is_told_first() -> None:
    world = World(lambda: {"listeners": [{"name": "web", "bind": "127.0.0.1:80", "depth": 9, "limit": 10}]})
    world.serve(100)
    assert verdict(world) == ("accept-queue", "bad")


def test_a_loop_that_comes_late_is_blocked() -> None:
    world = World()
    for _ in range(50):
        world.workers[0].count_lag(50 * MS)
    world.serve(100)
    assert verdict(world) == ("loop-blocked", "bad")
    assert "GET /a" in world.seen.verdict()["text"]


def test_one_late_moment_is_only_worth_a_look() -> None:
    world = World()
    for late in [0] * 80 + [150 * MS]:
        world.workers[0].count_lag(late)
    world.serve(100)
    assert verdict(world) == ("loop-blocked", "watch")


def test_many_errors_are_told_with_their_cause() -> None:
    world = World()
    world.serve(80)
    world.serve(20, status=500, error=AppError("x"))
    assert verdict(world) == ("errors", "bad")
    assert "20%" in world.seen.verdict()["text"] and "app-error" in world.seen.verdict()["text"]


@pytest.mark.parametrize(("field", "rule"), [("spent_pool", "upstream-pool"), ("spent_dial", "upstream-dial")])
def test_waiting_for_an_upstream_is_told(field: str, rule: str) -> None:
    world = World()
    for _ in range(30):
        ex = exchange(world.conn, journey(world.time, leg=True), route=world.route)
        setattr(ex.journey, field, 30 * MS)
        world.workers[0].done(ex)
    world.serve(0)
    assert verdict(world) == (rule, "bad")


def test_slow_clients_are_not_blamed_on_the_server() -> None:
    world = World()
    for _ in range(30):
        ex = exchange(world.conn, journey(world.time), route=world.route)
        ex.journey.spent_client = 300 * MS
        ex.journey.finished += 300 * MS
        world.workers[0].done(ex)
    world.serve(0)
    assert verdict(world) == ("slow-clients", "watch")


def test_a_handshake_for_each_request_is_told() -> None:
    world = World()
    world.serve(40, first=True, process=MS)
    assert verdict(world) == ("tls-setup", "watch")


def test_the_self_check_follows_littles_law() -> None:
    world = World()
    for worker in world.workers:
        worker.region.set("in_flight", 1)
    for _ in range(10):
        world.serve(100, process=20 * MS)
    check = world.seen.check()
    assert check["in_flight_expected"] == pytest.approx(2.0, rel=0.05)
    assert check["in_flight_sampled"] == pytest.approx(2.0, rel=0.11)
    assert check["unstamped"] == 0


def test_requests_without_a_kernel_stamp_are_counted() -> None:
    world = World()
    ex = exchange(j=journey())
    ex.journey.arrived = 0
    world.workers[0].done(ex)
    world.serve(3)
    assert world.seen.check()["unstamped"] == 0.25


# ---- what programs read


def test_a_frame_is_json_and_has_what_the_page_shows() -> None:
    world = World()
    world.serve(3, first=True)
    world.serve(1, status=0, error=NetError("gone", status=499))
    frame = json.loads(json.dumps(world.seen.frame()))
    assert {"verdict", "check", "groups", "routes", "workers", "latest", "slowest", "running", "history"} <= set(frame)
    assert frame["ends"] == {"client-left": 1}
    assert len(frame["latest"]) == 4
    assert sum(frame["history"][0]["heat"]) == 3


def test_prometheus_can_read_the_metrics() -> None:
    world = World()
    world.serve(7, process=3 * MS)
    world.serve(1, status=503)
    text = exposition(world.seen).decode()
    for line in text.splitlines():
        assert line.startswith("# ") or re.fullmatch(r'[a-z_]+(\{([a-z]+="[^"]*",?)+\})? -?[0-9.e+-]+', line), line
    assert 'fairlead_requests_total{class="2xx"} 7' in text
    assert 'fairlead_route_requests_total{route="GET /a"} 8' in text
    assert 'fairlead_step_seconds_count{step="process"} 8' in text
    buckets = [int(n) for n in re.findall(r"fairlead_request_seconds_bucket\{.*\} (\d+)", text)]
    assert buckets == sorted(buckets) and buckets[-1] == 8


def test_the_page_needs_nothing_from_elsewhere() -> None:
    files = page_files()
    assert set(files) == {"/", "/page.css", "/page.js", "/jobs.js"}
    for _, body in files.values():
        outside = set(re.findall(rb"https?://[^'\"\s)%]+", body)) - {b"http://www.w3.org/2000/svg"}
        assert not outside


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1500, "1.5 µs"),
        (42 * MS, "42 ms"),
        (340 * MS, "340 ms"),
        (12 * SECOND, "12 s"),
        (40 * US, "40 µs"),
    ],
)
def test_durations_are_written_for_people(ns: int, text: str) -> None:
    assert human(ns) == text
