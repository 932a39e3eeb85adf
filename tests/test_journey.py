"""A journey tells durations from points, says how well it knows them, and never invents one."""

import pytest

from fairlead.core.journey import AT_MOST, EXACT, JIFFY, POINTS, SHARED, SPENDS, STEPS, UNKNOWN, Journey

MS = 1_000_000


def journey(**points):
    j = Journey()
    for name, value in points.items():
        setattr(j, name, value)
    return j


def test_a_new_journey_knows_nothing():
    j = Journey()
    assert j.steps() == []
    assert j.total() == 0
    assert j.points() == {}
    assert j.arrived_quality == UNKNOWN
    assert all(getattr(j, name) == 0 for name in POINTS + SPENDS)


def test_steps_come_in_the_order_of_the_journey():
    j = journey(
        connected=1 * MS, accepted=3 * MS, secured=6 * MS, arrived=7 * MS, woken=8 * MS, spent_loop=5, spent_read=6,
        spent_decrypt=7, spent_parse=8, routed=10 * MS, started=12 * MS, answered=20 * MS, finished=20 * MS,
        spent_encode=9, spent_encrypt=10, spent_send=11, spent_client=0, done=21 * MS,
    )  # fmt: skip
    names = [name for name, _, _ in j.steps()]
    assert names == [n for n in STEPS if n in names]
    took = {name: ns for name, ns, _ in j.steps()}
    assert took["accept"] == 2 * MS and took["tls"] == 3 * MS and took["buffer"] == 1 * MS
    assert took["queue"] == 2 * MS and took["process"] == 8 * MS


def test_the_total_leaves_out_the_idle_time_before_the_request():
    j = journey(connected=0, arrived=100 * MS, woken=101 * MS, done=110 * MS)
    assert j.total() == 10 * MS
    first = journey(connected=1 * MS, accepted=2 * MS, secured=5 * MS, arrived=100 * MS, woken=101 * MS, done=110 * MS)
    assert first.total() == 10 * MS + 1 * MS + 3 * MS


def test_process_leaves_out_what_was_not_the_application():
    whole = journey(started=10, answered=110, finished=110, spent_encode=30, spent_send=20)
    assert whole.process_time() == 100  # its answer left after its last word
    streamed = journey(started=10, answered=20, finished=110, spent_encode=5, spent_send=15, spent_client=40)
    assert streamed.process_time() == 100 - 5 - 15 - 40
    assert journey(started=10).process_time() == 0
    assert journey(started=10, finished=11, spent_client=50).process_time() == 0


def test_upstream_runs_from_the_request_out_to_the_answers_end():
    assert journey(leg_sent=10, leg_head=30).upstream_time() == 20
    assert journey(leg_sent=10, leg_head=30, leg_end=50).upstream_time() == 40
    assert journey(leg_head=30).upstream_time() == 0


def test_each_step_says_how_well_it_is_known():
    j = journey(connected=1, accepted=2, arrived=3, woken=4, arrived_quality=AT_MOST, spent_read=5)
    assert {name: quality for name, _, quality in j.steps()} == {"accept": JIFFY, "buffer": AT_MOST, "read": EXACT}
    j.shared = True
    assert j.step_quality("read") == SHARED
    assert Journey().step_quality("accept") == UNKNOWN


def test_a_clock_that_went_back_gives_no_negative_wait():
    assert journey(arrived=50, woken=40).step_time("buffer") == 0
    assert journey(routed=50, started=40).step_time("queue") == 0


def test_server_timing_has_tokens_milliseconds_and_no_small_change():
    j = journey(arrived=1 * MS, woken=2 * MS, spent_parse=9_000, started=3 * MS, answered=13_500_000)
    with j.step("sql"):
        pass
    value = j.server_timing().decode()
    assert value.startswith("buffer;dur=1.000, process;dur=10.500, sql;dur=")
    assert value.endswith("total;dur=12.500")
    assert "parse" not in value


def test_custom_steps_are_counted_even_when_the_block_raises_and_are_bounded():
    j = Journey()
    with pytest.raises(ValueError), j.step("broken"):
        raise ValueError
    assert [name for name, _, _ in j.custom] == ["broken"]
    for n in range(100):
        j.add(f"s{n}", 0, 1)
    assert len(j.custom) == 64
