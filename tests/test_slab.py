"""The slab: shared memory with one writer per cell, records that a reader believes only whole, histograms."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap

import pytest

from fairlead.core import histogram as h
from fairlead.core.record import Recorder
from fairlead.core.slab import RECORD_WORDS, Slab, read_record
from journeys import MS, SECOND, exchange, journey

WRITER = """
    import sys
    sys.path[:0] = {path!r}
    from journeys import MS, connection, exchange, journey
    from fairlead.core.record import Recorder
    from fairlead.core.slab import Slab
    slab = Slab.attach({fd})
    recorder = Recorder(slab.region(1), [("route", "/a")])
    conn = connection()
    n = 0
    print("writing", flush=True)
    while True:
        n += 1
        letter = b"abcdefgh"[n % 8 : n % 8 + 1]
        size = 1 + n % 120
        recorder.done(exchange(conn, journey(n * MS, n % 8 * MS), target=letter * size, tag=letter * (n % 40 + 1)))
"""


def test_a_slab_is_found_again_through_its_descriptor() -> None:
    made = Slab.create(3, keep=8)
    made.region(2).set("requests", 41)
    found = Slab.attach(made.fd)
    assert (found.slots, found.created) == (3, made.created)
    assert found.region(2).get("requests") == 41
    assert found.layout["keep"] == 8


def test_the_header_names_what_is_where() -> None:
    plan = Slab.attach(Slab.create(1).fd).layout
    assert plan["totals"][:2] == ["pid", "epoch"]
    assert plan["histograms"][-2:] == ["total", "turn"]
    assert plan["offsets"]["ring"] > plan["offsets"]["histograms"]


def test_something_else_is_refused() -> None:
    fd = os.memfd_create("other")
    with pytest.raises(ValueError, match="too short"):
        Slab.attach(fd)
    os.ftruncate(fd, 1 << 20)
    with pytest.raises(ValueError, match="no Fairlead slab"):
        Slab.attach(fd)
    os.close(fd)


def test_a_region_out_of_range_is_refused() -> None:
    with pytest.raises(IndexError, match="2 regions"):
        Slab.create(2).region(2)


def test_only_claimed_regions_are_read() -> None:
    slab = Slab.create(4)
    Recorder(slab.region(2))
    assert [region.index for region in slab.regions()] == [2]


def test_a_new_worker_goes_on_counting_but_begins_with_no_connections() -> None:
    region = Slab.create(1).region(0)
    old = Recorder(region)
    old.opened(exchange().conn)
    old.done(exchange())
    Recorder(region)
    totals = region.totals()
    assert (totals["requests"], totals["opened"], totals["open"], totals["epoch"]) == (1, 1, 0, 2)


def test_every_byte_of_a_record_is_checked() -> None:
    slab = Slab.create(1, keep=1)
    region = slab.region(0)
    ex = exchange(tag=b"id", target=b"/some/where?x=1")
    ex.journey.add("sql", SECOND, MS)
    Recorder(region).done(ex)
    at = region.offsets["ring"]
    raw = bytes(region.bytes[at * 8 : (at + RECORD_WORDS) * 8])
    assert read_record(raw)["target"] == "/some/where?x=1"
    used = [*range(0, 43 * 8 + 16), *range(83 * 8, 88 * 8)]
    for place in used:
        torn = bytearray(raw)
        torn[place] ^= 0xFF
        assert read_record(bytes(torn)) is None, place


def test_a_reader_in_another_process_never_sees_a_torn_record() -> None:
    slab = Slab.create(2, keep=4)
    source = textwrap.dedent(WRITER).format(path=sys.path, fd=slab.fd)
    writer = subprocess.Popen([sys.executable, "-c", source], pass_fds=(slab.fd,), stdout=subprocess.PIPE)
    try:
        assert writer.stdout and writer.stdout.readline() == b"writing\n"
        region, seen, last = slab.region(1), 0, 0
        while seen < 3000:
            assert writer.poll() is None
            for record in region.records("ring"):
                number = record["number"]
                letter = "abcdefgh"[number % 8]
                assert record["target"] == letter * (1 + number % 120)
                assert record["id"] == letter * (number % 40 + 1)
                assert record["answered"] - record["started"] == number % 8 * MS
                seen += 1
            count = region.get("requests")
            assert count >= last
            last = count
    finally:
        writer.kill()
        writer.wait()
        if writer.stdout:
            writer.stdout.close()


def test_the_slowest_are_kept_when_the_ring_has_moved_on() -> None:
    region = Slab.create(1, keep=4, slow=3).region(0)
    recorder = Recorder(region)
    for n, took in enumerate([1, 90, 2, 70, 3, 80, 4, 60, 1, 1, 1, 1]):
        recorder.done(exchange(j=journey((n + 1) * SECOND, took * MS)))
    slow = sorted((record["answered"] - record["started"]) // MS for record in region.records("slow"))
    assert slow == [70, 80, 90]
    assert len(region.records("ring")) == 4


# ---- histograms


@pytest.mark.parametrize("ns", [0, 1, 127, 128, 1023, 1024, 1025, 5_000, 123_456, 7_654_321, 10**9, 59 * 10**9])
def test_a_duration_lies_within_its_bucket(ns: int) -> None:
    index = h.bucket(ns)
    assert h.bound(index) <= ns < h.bound(index + 1)


def test_buckets_are_in_order_and_without_gaps() -> None:
    bounds = [h.bound(i) for i in range(h.BUCKETS)]
    assert bounds == sorted(set(bounds))
    assert all(h.bucket(b) == i and (i == 0 or h.bucket(b - 1) == i - 1) for i, b in enumerate(bounds))


def test_what_is_negative_or_too_long_is_not_lost() -> None:
    assert h.bucket(-5) == 0
    assert h.bucket(10**15) == h.BUCKETS - 1


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_within_the_bound_of_the_exact_ones(seed: int) -> None:
    rnd = random.Random(seed)
    values = sorted(int(rnd.lognormvariate(13, 1.5)) + 1024 for _ in range(20_000))
    counts = [0] * h.BUCKETS
    for value in values:
        counts[h.bucket(value)] += 1
    for share in (0.01, 0.1, 0.5, 0.9, 0.99, 0.999):
        exact = values[max(0, -int(-share * len(values) // 1) - 1)]
        assert abs(h.percentile(counts, share) - exact) <= 0.0625 * exact + 1
    assert h.percentiles(counts, (0.5, 0.99)) == [h.percentile(counts, 0.5), h.percentile(counts, 0.99)]


def test_nothing_counted_has_no_percentile() -> None:
    assert h.percentile([0] * h.BUCKETS, 0.5) == 0
    assert h.percentiles([0] * h.BUCKETS, (0.5, 0.9)) == [0, 0]


def test_a_window_is_the_difference_of_two_readings() -> None:
    assert h.difference([5, 3, 1], [2, 3, 0]) == [3, 0, 1]
    assert h.difference([1, 0, 0], [9, 9, 9]) == [1, 0, 0]
    assert h.add([1, 2], [3, 4]) == [4, 6]
