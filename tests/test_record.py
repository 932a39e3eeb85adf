"""The recorder: what one request adds to the totals, histograms, routes and rings, and the access log's lines."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import weakref

import pytest

from fairlead.core.errors import AppError, NetError, Refused, WireError
from fairlead.core.handler import Admission
from fairlead.core.lines import Lines
from fairlead.core.record import Recorder, name_of, peer_bytes
from fairlead.core.slab import Region, Slab
from journeys import MS, SECOND, US, connection, exchange, journey

LEFT = NetError("the peer closed the connection", step="receive", status=499)


def record(*exchanges: object, routes: tuple = (), form: str = "") -> tuple[Region, list[bytes]]:
    """A region and the access log after these exchanges."""
    lines: list[bytes] = []
    log = Lines(lambda data: lines.extend(bytes(data).splitlines()), form) if form else None
    region = Slab.create(1).region(0)
    recorder = Recorder(region, routes, log)
    for one in exchanges:
        recorder.done(one)
    recorder.close()
    return region, lines


def one_line(ex: object, form: str = "text", routes: tuple = ()) -> str:
    """The line of one exchange."""
    return record(ex, routes=routes, form=form)[1][0].decode()


def test_totals_count_requests_statuses_and_bytes() -> None:
    region, _ = record(exchange(), exchange(status=404), exchange(status=503), exchange(status=302))
    totals = region.totals()
    assert [
        totals["requests"],
        totals["status_2xx"],
        totals["status_3xx"],
        totals["status_4xx"],
        totals["status_5xx"],
    ] == [4, 1, 1, 1, 1]
    assert (totals["bytes_in"], totals["bytes_out"]) == (80, 4800)


def test_a_client_that_left_without_an_answer_is_499() -> None:
    region, _ = record(exchange(status=0, error=LEFT))
    assert region.totals()["status_4xx"] == 1
    assert region.totals()["client_left"] == 1
    assert region.names() == {"client-left": 1}
    assert region.records("ring")[0]["status"] == 499


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (WireError("two lengths", rule="te-and-cl"), "te-and-cl"),
        (NetError("refused", step="dial", side="upstream"), "upstream-dial"),
        (Refused("no route", status=404), "refused-404"),
        (AppError("raised"), "app-error"),
        ("overloaded", "overloaded"),
    ],
)
def test_early_ends_are_counted_by_name(error: object, name: str) -> None:
    region, _ = record(exchange(status=400, error=error), exchange(status=400, error=error))
    assert region.names() == {name: 2}
    assert region.records("ring")[0]["end"] == name


def test_a_bad_request_is_counted_as_such() -> None:
    region, _ = record(exchange(status=400, error=WireError("x", rule="bare-lf")))
    assert region.totals()["bad_requests"] == 1


def test_steps_go_to_their_histograms_and_to_their_route() -> None:
    route = object()
    region, _ = record(exchange(j=journey(process=5 * MS), route=route), routes=((route, "GET /a"),))
    assert {
        name
        for name in ("buffer", "loop", "read", "parse", "queue", "process", "encode", "send")
        if sum(region.histogram(name)) == 1
    }.__len__() == 8
    assert sum(region.histogram("upstream")) == sum(region.histogram("accept")) == 0
    found = next(i for i in range(8) if region.route_name(i) == "GET /a")
    cells = region.route(found)
    assert cells["requests"] == 1
    assert cells["steps"]["process"] == (5 * MS, 1)
    assert cells["steps"]["buffer"] == (40 * US, 1)
    assert sum(cells["counts"]) == 1


def test_the_idle_time_before_a_first_request_is_nobodys_wait() -> None:
    region, _ = record(exchange(j=journey(first=True, process=5 * MS)))
    (found,) = [region.route(i) for i in range(2) if region.route(i)["requests"]]
    total = found["steps"]["total"][0]
    assert total == 10 * MS + 5 * MS + 80 * US


def test_a_journey_is_read_back_as_it_was() -> None:
    ex = exchange(j=journey(first=True), target=b"/a?b=1", method="POST", tag=b"abc123", status=201)
    ex.journey.add("sql", SECOND + MS, 2 * MS)
    region, _ = record(ex)
    (found,) = region.records("ring")
    points = ex.journey.points()
    assert {name: found[name] for name in points} == points
    assert found["spent_loop"] == 10 * US
    assert [found[k] for k in ("id", "method", "target", "host", "peer", "status", "version")] == [
        "abc123", "POST", "/a?b=1", "shop.example", "192.0.2.7:40000", 201, "1.1",
    ]  # fmt: skip
    assert found["custom"] == [("sql", SECOND + MS, 2 * MS)]
    assert (found["bytes_in"], found["bytes_out"], found["arrived_quality"], found["first"]) == (20, 1200, 1, True)


def test_a_request_without_an_id_gets_its_workers_number() -> None:
    region, lines = record(exchange(), exchange(), form="text")
    assert [r["id"] for r in region.records("ring")] == ["0.2", "0.1"]
    assert b" id=0.2 " in lines[1]


def test_tunnels_are_neither_slow_nor_in_the_percentiles() -> None:
    ex = exchange(j=journey(process=3600 * SECOND), status=101)
    ex.tunnel = True
    region, _ = record(ex)
    assert sum(region.histogram("total")) == 0
    assert region.records("slow") == []
    assert region.totals()["tunnels"] == 1


def test_routes_keep_their_cells_over_a_change_of_plan() -> None:
    region = Slab.create(1).region(0)
    a, b, c = object(), object(), object()
    recorder = Recorder(region, [(a, "/a"), (b, "/b")])
    recorder.done(exchange(route=b))
    recorder.set_routes([(c, "/c"), (b, "/b")])
    recorder.done(exchange(route=b))
    recorder.done(exchange(route=a))  # one that began under the old plan
    used = {region.route_name(i): region.route(i)["requests"] for i in range(8) if region.route(i)["requests"]}
    assert used == {"/b": 2, "/a": 1}


def test_more_routes_than_there_is_room_for_share_a_cell() -> None:
    things = [object() for _ in range(10)]
    region = Slab.create(1, routes=4).region(0)
    recorder = Recorder(region, [(thing, f"/{i}") for i, thing in enumerate(things)])
    for thing in things:
        recorder.done(exchange(route=thing))
    assert {region.route_name(i): region.route(i)["requests"] for i in range(4)} == {
        "(none)": 0,
        "(other)": 8,
        "/0": 1,
        "/1": 1,
    }


def test_no_exchange_is_kept_alive() -> None:
    class Watched:
        pass

    region = Slab.create(1).region(0)
    recorder = Recorder(region)
    ex = exchange()
    ex.handle = Watched()
    ref = weakref.ref(ex.handle)
    recorder.done(ex)
    del ex
    gc.collect()
    assert ref() is None
    assert recorder.number == 1


def test_connections_are_counted_and_forgotten() -> None:
    region = Slab.create(1).region(0)
    recorder = Recorder(region)
    conn = connection()
    recorder.opened(conn)
    recorder.done(exchange(conn))
    assert region.totals()["open"] == 1
    recorder.closed(conn, None)
    assert (region.totals()["opened"], region.totals()["closed"], region.totals()["open"]) == (1, 1, 0)
    assert not recorder.known
    assert not recorder.open


def test_what_runs_long_is_shown_while_it_runs() -> None:
    region = Slab.create(1).region(0)
    recorder = Recorder(region)
    conn = connection()
    ex = exchange(conn, journey(1), target=b"/long", status=0)
    ex.journey.done = ex.journey.sent = ex.journey.finished = 0
    conn.exchanges = {1: ex}
    recorder.opened(conn)
    admission = Admission()
    admission.enter(ex)
    recorder.watch(admission)
    recorder.beat()
    assert [r["target"] for r in region.records("running")] == ["/long"]
    assert region.totals()["in_flight"] == 1
    conn.exchanges = {}
    recorder.beat()
    assert region.records("running") == []


def test_an_exception_is_logged_with_its_traceback_and_without_control_characters(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = Recorder(Slab.create(1).region(0))
    try:
        raise KeyError("colour")
    except KeyError as error:
        with caplog.at_level(logging.ERROR, "fairlead.error"):
            recorder.broke(exchange(target=b"/x\x1b[2J"), error)
    (entry,) = caplog.records
    assert "KeyError" in entry.getMessage()
    assert "\x1b" not in entry.getMessage()
    assert entry.exc_info


# ---- lines


def test_a_text_line_says_all_in_order() -> None:
    line = one_line(exchange(tag=b"r1", target=b"/a?b=c"), routes=((None, "x"),))
    time, client, method, target, version, status, got, sent, total, *rest = line.split(" ")
    assert time[10] == "T" and time.endswith("Z") and len(time) == 24
    assert [client, method, target, version] == ["192.0.2.7:40000", '"GET', "/a?b=c", 'HTTP/1.1"']
    assert [status, got, sent, total] == ["200", "20", "1200", "5.080"]
    assert rest[:3] == ["buffer=0.040", "loop=0.010", "read=0.004"]
    assert "process=5.000" in rest
    assert rest[-3:] == ["T=0/0/0/0/-1/5/0/5", "id=r1", "end=-"]


def test_haproxys_timers_stand_beside_ours() -> None:
    conn = connection()
    lines = record(
        exchange(conn, journey(10 * SECOND, first=True)),
        exchange(conn, journey(12 * SECOND, leg=True, process=30 * MS)),
        form="json",
    )[1]
    first, second = [json.loads(line)["haproxy"] for line in lines]
    assert (first["Th"], first["Ti"]) == (8, 990)
    assert (second["Th"], second["Ti"], second["Tr"], second["Td"], second["Ta"]) == (0, 1994, 30, 1, 31)
    assert (first["Tc"], second["Tc"]) == (-1, 0)


def test_a_json_line_is_json_with_the_steps_by_name() -> None:
    route = object()
    entry = json.loads(one_line(exchange(route=route, host=b"h"), "json", ((route, "GET /a"),)))
    assert entry["steps"]["process"] == 5.0
    assert (entry["status"], entry["host"], entry["route"], entry["end"]) == (200, "h", "GET /a", "")


NASTY = b'/a b\r\n127.0.0.1 "GET /forged" \x1b]0;x\x07 \x00\x7f\x80\xff\\'


def test_no_request_can_forge_a_line() -> None:
    line = one_line(exchange(target=NASTY, tag=b'i"d\n', host=b"\n"))
    assert all(32 <= ord(c) < 127 for c in line)
    assert r"\x0d\x0a" in line
    assert r"\x22GET" in line
    assert r"\x5c" in line


def test_json_lines_stay_json_whatever_comes() -> None:
    lines = record(exchange(target=NASTY, tag=b'i"d\n', host=b'"}\n'), form="json")[1]
    assert len(lines) == 1
    assert json.loads(lines[0])["target"] == NASTY.decode("latin-1")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_long_target_is_cut_and_fits(form: str) -> None:
    lines = record(
        *[exchange(target=b"\xff" * 60_000, host=b"\x00" * 9000, tag=b"\x01" * 9000) for _ in range(20)], form=form
    )[1]
    assert len(lines) == 20
    assert all(len(line) < 40_000 for line in lines)


def test_lines_are_handed_over_in_large_pieces() -> None:
    pieces: list[int] = []
    log = Lines(lambda data: pieces.append(len(data)), hold=4096)
    recorder = Recorder(Slab.create(1).region(0), (), log)
    for _ in range(100):
        recorder.done(exchange())
    assert len(pieces) < 10
    assert all(size >= 4096 for size in pieces)
    recorder.close()
    assert log.used == 0


def test_the_query_can_be_left_out() -> None:
    lines: list[bytes] = []
    recorder = Recorder(Slab.create(1).region(0), (), Lines(lambda data: lines.append(bytes(data)), query=False))
    recorder.done(exchange(target=b"/login?password=x"))
    recorder.close()
    assert b"password" not in lines[0]
    assert b'"GET /login HTTP/1.1"' in lines[0]


def test_a_held_line_is_written_when_its_time_has_come() -> None:
    async def main() -> None:
        written = asyncio.Event()

        class Poller:
            loop = asyncio.get_running_loop()

        recorder = Recorder(Slab.create(1).region(0), (), Lines(lambda _: written.set()), Poller(), flush=0.01)
        recorder.done(exchange())
        await asyncio.wait_for(written.wait(), 10)
        recorder.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        (("::1", 80, 0, 0), b"[::1]:80"),
        (("10.0.0.1", 0), b"10.0.0.1"),
        ("", b"unix:"),
        ("/run/x", b"unix:/run/x"),
        (None, b"unix:"),
    ],
)
def test_peers_are_written_as_people_know_them(peer: object, text: bytes) -> None:
    assert peer_bytes(peer) == text


def test_the_client_that_a_trusted_proxy_names_is_the_one_logged() -> None:
    ex = exchange()
    ex.client = ("203.0.113.9", 0)
    assert one_line(ex).split(" ")[1] == "203.0.113.9"


def test_a_route_is_called_by_its_name_else_by_what_it_matches() -> None:
    class Route:
        name = ""
        methods = ("GET", "POST")
        host = ("shop.example",)
        path = "/api/*"

    assert name_of(Route()) == "GET|POST shop.example/api/*"
    Route.name = "api"
    assert name_of(Route()) == "api"
