"""RFC 9218 on the wire: which stream's frames leave first, on both engines, seen by a client that decrypts them."""

from __future__ import annotations

import pytest

pytest.importorskip("qh3")
pytest.importorskip("aioquic")

from quicrig import Rig  # noqa: E402
from test_quic import certificate  # noqa: E402, F401

ENGINES = ["qh3", "aioquic"]
SLACK = 3000 + 1500  # what an engine may hold besides, and the packet that two streams share
both = pytest.mark.parametrize("engine", ENGINES)


def foreign(frames, stream):
    """Bytes of other streams between the first and the last frame of one, without its head."""
    mine = [i for i, one in enumerate(frames) if one[1] == stream and one[2] > 100]
    return sum(one[2] for one in frames[mine[0] : mine[-1] + 1] if one[1] != stream)


def firsts(frames):
    """Streams in the order of their first body frames."""
    return list(dict.fromkeys(stream for _, stream, size in frames if size > 500))


@both
def test_answers_that_are_not_incremental_leave_one_after_the_other(engine, certificate):  # noqa: F811
    rig = Rig(engine, certificate)
    streams = [rig.ask("/60000") for _ in range(6)]
    rig.speak()
    rig.finish(*streams)
    frames = rig.fresh()
    assert firsts(frames) == streams
    assert max(foreign(frames, stream) for stream in streams) <= 2 * SLACK
    assert sorted(rig.ended, key=rig.ended.__getitem__) == streams


@both
def test_the_most_urgent_leave_first_whatever_their_numbers(engine, certificate):  # noqa: F811
    rig = Rig(engine, certificate)
    given = [b"u=5", b"u=1", b"", b"u=0", b"u=7", b"u=3"]
    streams = [rig.ask("/50000", one) for one in given]
    rig.speak()
    rig.finish(*streams)
    frames = rig.fresh()
    assert firsts(frames) == [streams[i] for i in (3, 1, 2, 5, 0, 4)]
    assert max(foreign(frames, stream) for stream in streams) <= 2 * SLACK


@both
def test_incremental_ones_share_the_link_evenly(engine, certificate):  # noqa: F811
    rig = Rig(engine, certificate)
    streams = [rig.ask("/200000", b"i") for _ in range(3)]
    rig.speak()
    rig.finish(*streams)
    sent = dict.fromkeys(streams, 0)
    apart = 0
    for _, stream, size in rig.fresh():
        sent[stream] += size
        if max(sent.values()) < 190_000:
            apart = max(apart, max(sent.values()) - min(sent.values()))
    assert apart <= 2 * 16384 + SLACK, "no more than its turn is any of them ahead"


@both
@pytest.mark.parametrize("by", ["request", "update"])
def test_who_becomes_urgent_overtakes_within_a_window(engine, by, certificate):  # noqa: F811
    rig = Rig(engine, certificate)
    slow = [rig.ask("/900000"), rig.ask("/900000")]
    late = rig.ask("/100000", b"u=6") if by == "update" else 0
    rig.speak()
    rig.events.run(lambda: rig.bodies.get(slow[0], 0) > 300_000)
    if by == "update":
        rig.update(late, b"u=0")
    else:
        late = rig.ask("/100000", b"u=0")
    codec = rig.conn.codec
    rig.speak()
    if by == "update":
        rig.events.run(lambda: codec.streams[late].urgency == 0)
    else:
        rig.events.run(lambda: late in codec.streams)
    facts = rig.server.facts()
    sent = facts["in_flight"]
    heard = sum(rig.bodies.values())
    rig.finish(late)
    frames = rig.fresh()
    first = next(i for i, one in enumerate(frames) if one[1] == late and one[2] > 500)
    before = sum(one[2] for one in frames[:first]) - heard
    assert before <= max(facts["window"], sent) + 2 * SLACK, "in flight, and what the window had room for"
    assert foreign(frames[first:], late) <= 2 * SLACK
    assert not any(stream in rig.ended for stream in slow)
    rig.finish(*slow)


@both
def test_a_link_that_loses_packets_keeps_the_order_and_loses_nothing(engine, certificate):  # noqa: F811
    rig = Rig(engine, certificate, loss=0.02, queue=100_000)
    low = rig.ask("/700000", b"u=7")
    rig.speak()
    rig.events.run(lambda: rig.bodies.get(low, 0) > 50_000)
    high = [rig.ask("/100000", b"u=1") for _ in range(2)]
    rig.speak()
    rig.finish(*high)
    assert rig.bodies[low] < 500_000 and rig.lost
    rig.finish(low)
    assert all(rig.bodies[stream] > 100_000 for stream in high) and rig.bodies[low] > 700_000


@both
def test_a_stream_that_its_reader_holds_back_keeps_nobody_else(engine, certificate):  # noqa: F811
    rig = Rig(engine, certificate, stream_window=65_536)
    conn = rig.client.conn
    write = conn._write_stream_limits
    held = rig.ask("/400000", b"u=0")
    conn._write_stream_limits = lambda builder, space, stream: stream.stream_id != held and write(builder, space, stream)
    others = [rig.ask("/150000") for _ in range(3)]
    rig.speak()
    rig.finish(*others)
    assert rig.bodies[held] <= 65_536 and held not in rig.ended
    assert rig.conn.blocked_streams == {held}
    conn._write_stream_limits = write
    late = rig.ask("/150000")
    rig.speak()
    rig.finish(held, late)
    assert rig.ended[held] < rig.ended[late]


@both
def test_a_window_of_all_streams_is_filled_in_their_order(engine, certificate):  # noqa: F811
    rig = Rig(engine, certificate, window=100_000)
    streams = [rig.ask("/80000") for _ in range(4)]
    rig.speak()
    rig.finish(*streams)
    assert sorted(rig.ended, key=rig.ended.__getitem__) == streams


@both
def test_the_link_is_not_idle_for_it(engine, certificate):  # noqa: F811
    rig = Rig(engine, certificate, rate=50.0, delay=10.0)
    began = rig.events.time
    streams = [rig.ask("/600000/piecewise"), rig.ask("/600000")]
    rig.speak()
    rig.finish(*streams)
    took = (rig.events.time - began) / 1e9
    assert took < 1.35 * 1_200_000 * 8 / 50e6 + 0.1, f"{took:.3f} s"


@both
def test_datagrams_wait_for_the_window_beside_a_body_and_the_oldest_are_dropped(engine, certificate):  # noqa: F811
    rig = Rig(engine, certificate, rate=5, datagrams=True)
    stream = rig.ask("/600000/piecewise")
    rig.speak()
    rig.events.run(lambda: stream in rig.bodies)
    codec = rig.conn.codec

    def say(number):
        assert codec.say_datagram(stream + 1, number.to_bytes(4, "big") + bytes(996))
        rig.conn.touch()

    for number in range(20_000):
        say(number)
    assert len(codec.outbox) == 256
    assert codec.say_datagram(stream + 1, bytes(60_000))  # for which there is no packet
    for number in range(20_000, 20_100):
        rig.events.at(rig.events.time + number * 1000, lambda number=number: say(number))
    rig.finish(stream)
    beside = len(rig.heard)
    last = (20_099).to_bytes(4, "big")
    rig.events.run(lambda: rig.heard[-1][1:5] == last)
    numbers = [int.from_bytes(data[1:5], "big") for data in rig.heard]
    assert numbers == sorted(numbers) and numbers[0] >= 20_000 - 256 and numbers[-1] == 20_099
    assert beside > 50 and len(numbers) <= 356  # the body left none of them behind
