"""`journey.slow` and `journey.sample`: the line of a slow request, and what the kernel is asked for."""

import logging
import socket

import pytest

from fairlead.core.handler import Handler, Service
from fairlead.core.record import Recorder
from fairlead.core.slab import Slab
from fairlead.run import tail, why
from fairlead.run.slow import MOST, Slow
from journeys import MS, SECOND, exchange, journey


class Clock:
    def __init__(self):
        self.at = 10 * SECOND

    def __call__(self):
        return self.at


@pytest.fixture
def rig(caplog):
    """(region, recorder, clock, lines): requests over 100 ms are slow."""
    region, clock = Slab.create(1).region(0), Clock()
    recorder = Recorder(region)
    recorder.slow_after, recorder.on_slow = 100 * MS, Slow(clock)
    logger = logging.getLogger("fairlead")
    before, logger.propagate = logger.propagate, True
    with caplog.at_level(logging.WARNING, "fairlead"):
        yield region, recorder, clock, lambda: [record.getMessage() for record in caplog.records]
    logger.propagate = before
    recorder.close()


def slow(process=800 * MS, **more):
    j = journey(process=process)
    j.spent_loop, j.woken = 200 * MS, j.arrived
    j.done = j.sent = j.sent + 200 * MS
    return exchange(j=j, **more)


def test_a_slow_request_is_one_line_with_its_waterfall(rig):
    region, recorder, _, lines = rig
    recorder.done(slow(target=b"/report?x=1", tag=b"abc"))
    recorder.done(exchange())
    assert lines() == [
        "slow: GET /report?x=1 200 in 1 s, 80% of it process: loop 200 ms ####, process 800 ms ################ id=abc"
    ]
    assert region.totals()["slow"] == 1


def test_when_everything_is_slow_the_log_is_not_flooded(rig):
    region, recorder, clock, lines = rig
    for _ in range(MOST + 7):
        recorder.done(slow())
    assert len(lines()) == MOST
    clock.at += SECOND
    recorder.done(slow())
    assert lines()[-1].endswith("(and 7 others)") and region.totals()["slow"] == MOST + 8


def test_an_event_stream_and_a_tunnel_are_not_slow(rig):
    _, recorder, _, lines = rig
    stream, tunnel = slow(), slow()
    stream.response.headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
    tunnel.tunnel = True
    recorder.done(stream)
    recorder.done(tunnel)
    assert lines() == []


def test_what_a_peer_sent_cannot_forge_a_line(rig):
    _, recorder, _, lines = rig
    recorder.done(slow(target=b"/a\x1b[31m", method="G\nT"))
    assert "\n" not in lines()[0] and "\x1b" not in lines()[0]


def test_one_in_so_many_is_sampled():
    service = Service(Handler())
    if not hasattr(service, "sampled"):
        pytest.skip("compiled: not reachable from here; tests/test_tcp.py sees its effect")
    assert not any(service.sampled() for _ in range(10))
    service.sample_every = 4
    assert [service.sampled() for _ in range(8)] == [True, False, False, False] * 2


def test_what_the_kernel_told_is_kept_counted_and_said():
    region = Slab.create(1).region(0)
    recorder = Recorder(region)
    j = journey(process=MS)
    j.spent_client = 300 * MS
    j.done = j.sent = j.sent + 300 * MS
    j.net = (250_000, 1_000, 40_000, 1234, 3)
    recorder.done(exchange(j=j))
    recorder.done(exchange())
    plain, looked = region.records("ring")
    assert plain["net"] is None
    assert looked["net"] == {"window_us": 250_000, "sndbuf_us": 1_000, "rtt_us": 40_000, "unacked": 1234, "retransmits": 3}
    totals = region.totals()
    assert [totals[name] for name in ("looked", "window_us", "sndbuf_us", "retransmits")] == [1, 250_000, 1_000, 3]
    words = why.why(looked, {})["sentence"]
    assert "receive window was full for 250 ms" in words and "3 segments were sent again" in words and "40 ms" in words
    recorder.close()
    words = why.why(looked | {"version": "3", "tls": True}, {})  # the same of a QUIC connection
    assert words["protocol"] == "HTTP/3 over QUIC" and "3 packets were lost" in words["sentence"]
    assert "its stream waiting for the client's credit or for the path" in words["sentence"]
    assert {"name": "client", "also": "stream waits"}.items() <= next(s for s in words["steps"] if s["name"] == "client").items()
    assert why.quality({"version": "3"}, "accept") == "exact" and why.quality({"version": "2"}, "accept") == "jiffy"


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="no TCP_INFO here")
def test_the_kernel_tells_of_a_real_socket():
    from fairlead.wire import _plain

    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as one:
        one.sendall(b"hello")
        info = _plain.tcp_info(one.fileno())
    assert info is not None and len(info) == 10


def test_the_step_that_makes_the_tail_slow_is_not_the_one_where_most_time_goes():
    region = Slab.create(1).region(0)
    recorder = Recorder(region)
    for number in range(97):
        recorder.done(exchange(j=journey(process=50 * MS + number * 1000)))
    assert len(region.records("ring")) == 97
    for _ in range(3):
        j = journey(process=51 * MS)
        j.routed, j.started = j.parsed, j.started + 400 * MS  # waited for a thread
        j.answered, j.finished, j.encoded = (at + 400 * MS for at in (j.answered, j.finished, j.encoded))
        j.sent = j.done = j.done + 400 * MS
        recorder.done(exchange(j=j))
    found = tail.compare(region.records("ring"))
    assert found["step"] == "queue" and found["tail"] == 3 and found["requests"] == 100
    assert "99% of the difference is queue" in found["sentence"] or "100% of the difference is queue" in found["sentence"]
    process = next(one for one in found["steps"] if one["name"] == "process")
    assert 50_000 <= process["median_us"] <= 51_500 and abs(process["tail_us"] - 51_000) < 500
    recorder.close()


def test_a_few_requests_have_no_tail():
    assert tail.compare([]) is None
