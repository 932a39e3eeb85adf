"""A peer that wants us to work, hold or stumble: what a small cause may not do to one HTTP/2 connection or its neighbours.

Floods, which are counted, are in test_h2_floods; these are single frames and small talks whose cost or effect was larger
than they are.
"""

from __future__ import annotations

import pytest

from fairlead.core.message import Request, Response
from h2kit import (
    ACK,
    CALM,
    CANCEL,
    EH,
    ES,
    GET,
    HEADERS,
    NO_ERROR,
    PING,
    POST,
    PRIORITY_UPDATE,
    RST,
    UPDATE,
    Talk,
    block,
    data,
    frame,
    head,
    settings,
    word,
)  # fmt: skip
from kit import SPLITS

SECOND = 1_000_000_000


def answering(body: bytes, end: bool = True):
    """A handler that answers everything with this body in one piece."""

    def on_head(codec, stream, message):
        codec.head(stream, Response(200, [], -1), False)
        codec.data(stream, body, end)

    return on_head


def sizes(said: list[tuple]) -> list[tuple[int, int]]:
    """(stream, bytes) of the DATA frames."""
    return [(one[1], len(one[2])) for one in said if one[0] == "DATA"]


# ---- windows and what waits for them


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("least", "more"), [(0, 4465), (100, 4565), (65535, 0)])
def test_a_window_taken_away_from_a_stream_whose_turn_it_is_sends_nothing_until_it_is_back(split, least, more):
    talk = Talk(split, on_head=answering(b"x" * 70000))
    talk.peer(head(1))
    assert sum(size for _, size in sizes(talk.say())) == 65535
    talk.peer(frame(UPDATE, 0, 1, word(4465)))  # the stream may go on; the connection's window holds it
    talk.peer(settings((4, least)) + frame(UPDATE, 0, 0, word(1 << 20)))  # and now the stream's is gone, or below zero
    said = talk.say()
    if more:
        assert sizes(said) == []
        talk.peer(settings((4, 65535)))
        said = talk.say()
    assert sizes(said) == [(1, 4465)] and said[-1][3]


def test_an_end_that_waits_its_turn_needs_no_window_either():
    talk = Talk(on_head=answering(b"x" * 65535, end=False))
    talk.peer(settings((4, 70000)) + head(1) + head(3))
    talk.say()
    talk.codec.data(1, b"", True)  # it is out, but for its end; stream 3 waits for the connection's window
    talk.peer(settings((4, 0)) + frame(UPDATE, 0, 0, word(100)))
    assert ("DATA", 1, b"", True) in talk.say() and talk.error is None


def test_trailers_behind_a_body_that_waited_are_said_once_by_a_client():
    talk = Talk(client=True)
    stream = talk.ask(Request("POST", "http", b"a", b"/", [], "1.1", -1), end=False)
    talk.codec.data(stream, b"x" * 70000, False)
    talk.codec.end(stream, [(b"x-sum", b"1")])
    talk.say()
    talk.peer(frame(UPDATE, 0, 0, word(1 << 20)) + frame(UPDATE, 0, stream, word(1 << 20)))
    assert talk.say()[-1] == ("HEADERS", stream, [(b"x-sum", b"1")], True)
    talk.peer(frame(PING, 0, 0, b"12345678"))  # and the next time there is nothing left to take
    assert talk.say() == [("PING", "ack")]
    talk.peer(head(stream, [(b":status", b"200")]))
    assert talk.codec.streams == {}


def test_a_large_body_is_not_copied_for_every_small_window():
    body = b"x" * 1_000_000
    talk = Talk(on_head=answering(body))
    talk.peer(head(1))
    talk.say()
    for _ in range(10):
        talk.peer(frame(UPDATE, 0, 0, word(1)) + frame(UPDATE, 0, 1, word(1)))
        assert sizes(talk.say()) == [(1, 1)]
    stream = talk.codec.streams[1]
    assert stream.queue[0] is body and (stream.skip, stream.queued) == (65545, 1_000_000 - 65545)


def test_a_body_fetched_byte_by_byte_is_a_flood_and_small_pieces_of_ours_are_none():
    talk = Talk(on_head=answering(b"x" * 100_000))
    talk.peer(head(1) + frame(UPDATE, 0, 0, word(1 << 20)))
    talk.say()
    for _ in range(3000):
        talk.peer(frame(UPDATE, 0, 1, word(1)))
        talk.sent()
        if talk.error is not None:
            break
    assert talk.rule == "window-flood"
    talk = Talk(on_head=answering(b"x", end=False))
    talk.peer(head(1))
    for _ in range(5000):
        talk.codec.data(1, b"x", False)
        talk.sent()
        talk.peer(frame(UPDATE, 0, 0, word(1)) + frame(UPDATE, 0, 1, word(1)))
    assert talk.error is None


def test_a_frame_full_of_settings_moves_the_windows_once():
    talk = Talk(on_head=answering(b"x", end=False))
    talk.peer(head(1) + frame(UPDATE, 0, 1, word(9)))
    talk.say()
    # one by one the first would take the stream's window beyond 2^31-1
    talk.peer(settings((4, 0x7FFFFFFF), (4, 65535)))
    assert talk.error is None and talk.codec.first_window == 65535
    talk.peer(settings((4, 0x7FFFFFFF)))
    assert talk.rule == "window-overflow"


def test_windows_do_not_grow_for_bodies_that_nobody_reads():
    def filled(credit: bool) -> Talk:
        talk = Talk(credit=credit)
        for stream in range(1, 33, 2):
            talk.peer(head(stream, POST, EH))
            for _ in range(4):
                talk.peer(data(stream, b"x" * 16000))
        talk.now += SECOND  # the peer held its answer back until all of that was here
        talk.peer(frame(PING, ACK, 0, b"fairband"))
        return talk

    assert filled(credit=False).codec.stream_window == 65536
    assert filled(credit=True).codec.stream_window > 65536


# ---- priorities


@pytest.mark.parametrize("value", [b"u=0," + b"i," * 100, b"i," * 2000 + b"u=0"])
def test_a_priority_longer_than_any_honest_one_is_not_read(value):
    talk = Talk()
    talk.peer(head(1, [*GET, (b"priority", value)], EH))
    stream = talk.codec.streams[1]
    assert (stream.urgency, stream.incremental) == (3, False)
    talk.peer(frame(PRIORITY_UPDATE, 0, 0, word(1) + value))
    assert (stream.urgency, stream.incremental) == (3, False)
    talk.peer(frame(PRIORITY_UPDATE, 0, 0, word(1) + b"u=1, i"))
    assert (stream.urgency, stream.incremental) == (1, True)


def test_only_so_many_priority_fields_are_read():
    talk = Talk()
    talk.peer(head(1, [*GET, *[(b"priority", b"u=1")] * 8, (b"priority", b"u=7")], EH))
    assert talk.codec.streams[1].urgency == 1


def test_priorities_for_streams_that_never_come_are_bounded():
    talk = Talk(priorities=0)
    for stream in range(1, 1001, 2):
        talk.peer(frame(PRIORITY_UPDATE, 0, 0, word(stream) + b"u=1"))
    talk.peer(head(1, POST, EH) + head(999, POST, EH))
    assert talk.codec.streams[1].urgency == 1 and talk.codec.streams[999].urgency == 3


# ---- goodbye


def test_the_last_stream_of_a_goaway_never_goes_up():
    talk = Talk()
    talk.peer(head(1))
    talk.codec.now = talk.now
    talk.codec.goaway(-1)
    talk.peer(frame(PING, ACK, 0, b"fairdrop"))
    assert talk.say()[-1] == ("GOAWAY", 1, NO_ERROR)
    talk.peer(head(3) + head(5) + frame(UPDATE, 0, 0, word(0)))  # ignored, ignored, and an error
    said = [one for one in talk.say() if one[0] == "GOAWAY"]
    assert said == [("GOAWAY", 1, 1)]


# ---- one stream and another


def test_frames_for_a_stream_that_ended_reach_no_other():
    talk = Talk()
    talk.peer(head(1, POST, EH) + head(3, POST, EH))
    talk.heard()
    talk.codec.reset(1, None, "both")
    talk.peer(
        data(1, b"late") + frame(UPDATE, 0, 1, word(10)) + head(1, [(b"x", b"y")]) + frame(RST, 0, 1, word(CANCEL))
    )
    assert talk.heard() == [] and talk.error is None
    talk.peer(data(3, b"mine", ES))
    assert talk.heard() == [("body", 3, b"mine"), ("end", 3, None)]


def test_a_bad_field_of_one_request_is_not_blamed_on_the_next():
    talk = Talk(answer=True)
    talk.peer(
        head(1, [*GET, (b"X", b"y")]) + head(3) + frame(HEADERS, EH | ES, 5, block(GET) + b"\x90" * 5000) + head(7)
    )
    resets = [one for one in talk.say() if one[0] == "RST_STREAM"]
    assert resets == [("RST_STREAM", 1, 1), ("RST_STREAM", 5, CALM)]
    assert [one[1] for one in talk.heard() if one[0] == "head"] == [3, 7]
