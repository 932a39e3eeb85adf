"""The course of HTTP/3 connections: what is said and heard, credited, ordered and waited for; floods and deadlines."""

from __future__ import annotations

import pytest

from fairlead.core.errors import AppError, WireError
from fairlead.core.message import Request, Response
from h3kit import (
    CANCELLED,
    CONTROL,
    DECOMPRESSION,
    GET,
    GOAWAY,
    HEADERS,
    INCOMPLETE,
    INTERNAL,
    LOAD,
    NO_ERROR,
    POST,
    REJECTED,
    SETTINGS,
    UPDATE,
    Talk,
    data,
    frame,
    frames,
    head,
    number,
    prefixed,
    settings,
    varint,
)
from kit import SECOND, SPLITS

TABLE = b"\2\x3f\xe1\x1f"  # an encoder stream that asks for 4096 bytes
INSERT = b"\x41a\1b"  # a: b
NAMED = frame(HEADERS, b"\2\0" + b"\xd1\xd7\xc1\x50\1a" + b"\x80")  # GET https / a, and the first entry of the table


@pytest.mark.parametrize("split", SPLITS)
def test_a_request_is_heard_and_answered(split):
    talk = Talk(split).on(0, head(POST) + data(b"abc"), False).on(0, data(b"de"), True)
    assert talk.heard() == [("head", 1, "POST /"), ("body", 1, b"abcde"), ("end", 1, None)]
    assert talk.sink.messages[0].version == "3"
    talk.ok(talk.codec, 1, None)
    talk.collect()
    assert talk.said(0) == [
        ("HEADERS", [(b":status", b"200"), (b"content-length", b"2"), (b"date", b"now"), (b"server", b"fairlead")]),
        ("DATA", b"ok"),
        ("end",),
    ]


def test_a_small_answer_is_one_piece():
    talk = Talk()
    talk.codec.feed(head(), talk.now, 0, True)
    talk.codec.head(1, Response(200, []), False)
    talk.codec.data(1, b"ok", True)
    assert [(stream, fin) for stream, _, fin in talk.codec.take()] == [(0, True)]


def test_settings_come_first_on_the_control_stream():
    for client in (False, True):
        raw = Talk(client=client).out[2 if client else 3]
        assert raw[0] == CONTROL
        (kind, payload), *_ = frames(raw[1:])
        assert kind == SETTINGS
        found = {}
        at = 0
        while at < len(payload):
            name, at = number(payload, at)
            found[name], at = number(payload, at)
        assert (found[1], found[7], found[6], found[0x33]) == (4096, 16, 65536, 1)
        assert found.get(8) == (None if client else 1)


def test_a_table_of_nothing_is_not_asked_for():
    talk = Talk(qpack_table=0).on(6, TABLE)
    assert talk.outcome() == ("close", 0x201)


def test_no_stream_no_settings_yet():
    talk = Talk(greet=False)
    talk.room = [1000, 0]
    talk.on(0, head(), True)
    assert talk.out == {}
    talk.room = [1000, 1]
    talk.do(talk.codec.opened)
    assert talk.out[3][0] == CONTROL


# ---- QPACK's table


@pytest.mark.parametrize("split", SPLITS)
def test_a_head_waits_for_the_table_and_is_acknowledged(split):
    talk = Talk(split).on(0, NAMED, False).on(0, data(b"x"), True).on(4, head(), True)
    assert talk.heard() == [("head", 5, "GET /"), ("end", 5, None)], "what does not wait is not held up"
    assert talk.credited.get(0) == len(NAMED), "what came behind the head is not credited yet"
    talk.on(6, TABLE + INSERT)
    assert talk.heard() == [("head", 1, "GET /"), ("body", 1, b"x"), ("end", 1, None)]
    assert talk.sink.messages[1].headers[1:] == [(b"a", b"b")]
    assert talk.credited[0] == len(NAMED) + len(data(b"x"))
    assert talk.out[7] == b"\3" + prefixed(0, 0x80, 127), "a decoder stream with an acknowledgement"


def test_a_whole_request_that_waits_has_no_body():
    talk = Talk().on(0, NAMED, True).on(6, TABLE + INSERT)
    assert talk.heard() == [("head", 1, "GET /"), ("end", 1, None)]


def test_inserts_that_nothing_names_are_told_together():
    talk = Talk().on(6, TABLE + INSERT * 3)
    assert talk.out[7] == b"\3\3"


def test_no_more_heads_may_wait_than_we_said():
    talk = Talk(qpack_blocked=2).on(0, NAMED).on(4, NAMED)
    assert talk.error is None
    assert talk.on(8, NAMED).outcome() == ("close", DECOMPRESSION)


def test_a_stream_that_goes_while_it_waits_is_cancelled():
    talk = Talk().on(6, TABLE + INSERT)
    talk.on(0, frame(HEADERS, b"\3\0\x80"))
    talk.do(talk.codec.stream_reset, 0, CANCELLED, talk.now)
    assert talk.out[7] == b"\3\1" + prefixed(0, 0x40, 63)
    talk.on(6, INSERT)
    assert [word[:2] for word in talk.heard()] == [("reset", 1)], "it is gone, and its head is never heard"


def test_a_head_of_one_large_entry_over_and_over_is_too_long():
    entry = b"\x43big" + prefixed(4000, 0, 127) + b"x" * 4000
    talk = Talk(answer=True).on(6, TABLE + entry)
    talk.on(0, frame(HEADERS, b"\2\0" + b"\x80" * 60000), True)
    assert talk.outcome() == ("reset", 0, LOAD)
    assert [word[:2] for word in talk.heard()] == [("refused", 1)]


def test_a_head_that_is_too_long_is_refused_before_it_has_come():
    talk = Talk(head=1000).on(0, varint(HEADERS) + varint(100_000_000))
    assert talk.orders[:2] == [("reset", 0, LOAD), ("stop", 0, LOAD)]
    talk.on(0, b"x" * 5000)
    assert talk.credited[0] == 5005


# ---- bodies and credit


def test_a_body_is_credited_when_its_reader_took_it():
    talk = Talk(credit=False).on(0, head(POST) + data(b"x" * 1000))
    before = talk.credited[0]
    assert before == len(head(POST)) + 3
    talk.codec.consumed(1, 400)
    talk.collect()
    assert talk.credited[0] == before + 400
    talk.codec.consumed(1, 10_000)
    talk.collect()
    assert talk.credited[0] == before + 1000


def test_what_nobody_took_is_credited_when_the_stream_goes():
    talk = Talk(credit=False).on(0, head(POST) + data(b"x" * 1000))
    talk.codec.reset(1, AppError("no"), "both")
    talk.collect()
    assert talk.credited[0] == len(head(POST)) + 1003
    assert talk.orders == [("reset", 0, INTERNAL), ("stop", 0, INTERNAL)]


def test_the_first_credit_says_continue():
    talk = Talk().on(0, head([*POST, (b"expect", b"100-continue")]))
    talk.codec.consumed(1, 0)
    talk.collect()
    assert talk.said(0) == [("HEADERS", [(b":status", b"100")])]


def test_an_answer_that_is_over_first_stops_its_request():
    talk = Talk(answer=True).on(0, head(POST) + data(b"x"))
    assert talk.orders == [("stop", 0, NO_ERROR)]
    talk.on(0, data(b"more"))
    assert talk.error is None
    assert ("body", 1, b"more") not in talk.heard()
    talk.do(talk.codec.stream_reset, 0, NO_ERROR, talk.now)
    assert talk.error is None


def test_trailers_and_interim_answers():
    talk = Talk().on(0, head() + b"", True)
    talk.codec.inform(1, 103, [(b"Link", b"</a>")])
    talk.codec.head(1, Response(200, []), False)
    talk.codec.data(1, b"x", False)
    talk.codec.end(1, [(b"X-Sum", b"1"), (b"content-length", b"9")])
    talk.collect()
    said = talk.said(0)
    assert said[0] == ("HEADERS", [(b":status", b"103"), (b"link", b"</a>")])
    assert said[2:] == [("DATA", b"x"), ("HEADERS", [(b"x-sum", b"1")]), ("end",)]


def test_the_promise_of_a_length_is_held_to():
    talk = Talk().on(0, head(), True)
    talk.codec.head(1, Response(200, [(b"content-length", b"3")]), False)
    with pytest.raises(AppError, match="2 bytes more"):
        talk.codec.data(1, b"12345", False)
    talk.collect()
    assert talk.orders == [("reset", 0, INTERNAL)]


def test_a_head_request_gets_no_body():
    talk = Talk().on(0, head([(b":method", b"HEAD"), *GET[1:]]), True)
    talk.codec.head(1, Response(200, [(b"content-length", b"3")]), False)
    talk.codec.data(1, b"123", True)
    talk.collect()
    assert [one[0] for one in talk.said(0)] == ["HEADERS", "end"]


# ---- turns and room


def answer(talk: Talk, stream: int, priority: bytes = b"") -> None:
    fields = [*GET, (b"priority", priority)] if priority else GET
    talk.codec.feed(head(fields), talk.now, stream, True)
    talk.codec.head(stream + 1, Response(200, []), False)


def order_of(talk: Talk) -> list[int]:
    """The streams of what `take` gives until nothing waits, without repetition."""
    order: list[int] = []
    while True:
        for stream, raw, _ in talk.codec.take() or []:
            if len(raw) > 100 and order[-1:] != [stream]:
                order.append(stream)
        if not talk.codec.ready:
            return order


def test_who_is_urgent_goes_first():
    talk = Talk()
    for stream, priority in ((0, b"u=5"), (4, b""), (8, b"u=0"), (12, b"u=5, i")):
        answer(talk, stream, priority)
        talk.codec.blocked(stream)
        talk.codec.data(stream + 1, b"x" * 20000, True)
    talk.codec.take()
    for stream in (0, 4, 8, 12):
        talk.codec.unblocked(stream)
    assert order_of(talk) == [8, 4, 0, 12]


def test_a_priority_update_moves_a_stream_also_before_it_comes():
    talk = Talk().on(2, frame(UPDATE, varint(4) + b"u=1"))
    for stream in (0, 4, 8):
        answer(talk, stream)
        talk.codec.blocked(stream)
        talk.codec.data(stream + 1, b"x" * 20000, True)
    talk.codec.take()
    talk.codec.feed(frame(UPDATE, varint(8) + b"u=0"), talk.now, 2)
    for stream in (0, 4, 8):
        talk.codec.unblocked(stream)
    assert order_of(talk) == [8, 4, 0]


def test_incremental_ones_take_turns():
    talk = Talk()
    for stream in (0, 4):
        answer(talk, stream, b"i")
        talk.codec.blocked(stream)
        talk.codec.data(stream + 1, b"x" * 40000, True)
    talk.codec.take()
    talk.codec.unblocked(0)
    talk.codec.unblocked(4)
    assert order_of(talk) == [0, 4, 0, 4, 0, 4]


def test_a_blocked_stream_has_no_room_until_it_goes_on():
    talk = Talk()
    answer(talk, 0)
    assert talk.codec.data(1, b"x" * 1000, False)
    talk.codec.take()
    talk.codec.blocked(0)
    assert not talk.codec.data(1, b"x", False)
    assert talk.codec.take() is None
    talk.codec.drained(talk.now)
    assert ("room", 1) not in talk.heard()
    talk.codec.unblocked(0)
    assert talk.codec.more
    assert b"".join(raw for _, raw, _ in talk.codec.take()) == data(b"x")
    talk.codec.drained(talk.now)
    assert ("room", 1) in talk.heard()
    assert not talk.codec.more
    talk.codec.blocked(0)
    talk.codec.unblocked(0)
    assert talk.codec.take() is None
    assert not talk.codec.more, "nothing waits and nobody is to be told"


def test_a_large_body_is_given_in_turns_and_its_writer_waits():
    talk = Talk(outgoing=100_000)
    answer(talk, 0)
    room = True
    said = 0
    while room:
        room = talk.codec.data(1, b"x" * 50_000, False)
        said += 50_000
    assert said <= 400_000
    talk.codec.take()
    while talk.codec.more:
        talk.codec.feed(b"", talk.now)
        talk.codec.take()
    assert ("room", 1) in talk.heard()


def test_an_end_alone_needs_no_room():
    talk = Talk()
    answer(talk, 0)
    talk.codec.take()
    talk.codec.blocked(0)
    talk.codec.data(1, b"", True)
    assert talk.codec.take() == [(0, b"", True)]


# ---- ends


def test_a_peer_that_resets_is_heard_once_and_its_answer_is_reset():
    talk = Talk().on(0, head(POST))
    talk.do(talk.codec.stream_reset, 0, CANCELLED, talk.now)
    assert [word[:2] for word in talk.heard()] == [("head", 1), ("reset", 1)]
    assert talk.orders == [("reset", 0, CANCELLED)]
    talk.codec.head(1, Response(200, []), True)
    assert talk.codec.take() is None


def test_a_peer_that_stops_reading_ends_the_exchange():
    talk = Talk().on(0, head(POST))
    talk.do(talk.codec.stop_sending, 0, CANCELLED, talk.now)
    assert [word[:2] for word in talk.heard()] == [("head", 1), ("reset", 1)]
    assert talk.orders == [("stop", 0, CANCELLED)]


def test_a_request_that_was_rejected_may_be_asked_again():
    talk = Talk(client=True)
    talk.ask()
    why = []
    talk.sink.reset = lambda stream, error, side: why.append(error)
    talk.do(talk.codec.stream_reset, 0, REJECTED, talk.now)
    assert why[0].retry == "always"


def test_a_server_that_wants_no_more_body_still_answers():
    talk = Talk(client=True)
    assert talk.ask(Request("POST", "https", b"a", b"/", []), False) == 1
    talk.do(talk.codec.stop_sending, 0, NO_ERROR, talk.now)
    assert talk.codec.data(1, b"more", False)
    talk.on(0, head([(b":status", b"200")]) + data(b"ok"), True)
    words = talk.heard()
    assert words[0][:2] == ("reset", 1)
    assert words[0][-1] == "write"
    assert words[1:] == [("head", 1, 200), ("body", 1, b"ok"), ("end", 1, None)]
    assert not talk.codec.streams


def test_goodbye_has_two_steps():
    talk = Talk().on(0, head())
    talk.out.clear()
    talk.codec.goaway(-1)
    talk.collect()
    assert frames(talk.out.pop(3)) == [(GOAWAY, varint((1 << 62) - 4))]
    talk.on(4, head(), True)
    talk.now = talk.codec.deadline()
    talk.do(talk.codec.tick, talk.now)
    assert frames(talk.out.pop(3)) == [(GOAWAY, varint(8))]
    talk.on(8, head(), True)
    assert talk.orders == [("reset", 8, REJECTED)]
    for stream in (1, 5):
        talk.codec.head(stream, Response(204, []), True)
    talk.collect()
    assert talk.orders[-1] == ("close", NO_ERROR, "")
    assert talk.codec.finished


def test_a_goodbye_of_the_server_gives_back_what_it_did_not_look_at():
    talk = Talk(client=True)
    assert [talk.ask(), talk.ask(), talk.ask()] == [1, 5, 9]
    why = {}
    talk.sink.reset = lambda stream, error, side: why.update({stream: error.retry})
    talk.on(3, frame(GOAWAY, varint(4)))
    assert why == {5: "always", 9: "always"}
    assert talk.codec.open_stream() == 0
    assert not talk.codec.reusable
    talk.on(0, head([(b":status", b"204")]), True)
    assert talk.codec.finished


def test_the_end_of_the_connection_ends_every_stream():
    talk = Talk().on(0, head(POST)).on(4, head(POST))
    talk.codec.eof(talk.now)
    assert [word[:2] for word in talk.heard() if word[0] == "reset"] == [("reset", 1), ("reset", 5)]


def test_streams_are_opened_as_the_transport_allows():
    talk = Talk(client=True)
    talk.room[0] = 1
    assert talk.ask() == 1
    assert talk.codec.open_stream() == 0
    assert talk.codec.reusable, "that may change at any moment"
    talk.room[0] = 1
    talk.codec.opened()
    assert talk.ask() == 5


# ---- floods and deadlines


def test_more_streams_than_allowed_are_rejected():
    talk = Talk(streams=2).on(0, head()).on(4, head()).on(8, head(), True)
    assert talk.orders == [("reset", 8, REJECTED)]


def test_abandoned_work_counts_as_a_stream():
    talk = Talk(streams=1)
    talk.codec.abandoned = 1
    talk.on(0, head(), True)
    assert talk.orders == [("reset", 0, REJECTED)]


@pytest.mark.parametrize(("limit", "what"), [
    ("resets", "reset"), ("resets", "refused"), ("pings", "push"), ("empties", "empty"), ("empties", "unknown"),
    ("empties", "unknown control"), ("priorities", "priority"), ("settings", "stream"),
])  # fmt: skip
def test_a_flood_ends_the_connection(limit, what):
    talk = Talk(**{limit: 20, "streams": 1000})
    talk.on(4000, head(POST))
    for i in range(24):
        stream = 4 * i
        if what == "reset":
            talk.on(stream, head(POST))
            talk.do(talk.codec.stream_reset, stream, CANCELLED, talk.now)
        elif what == "refused":
            talk.on(stream, head([*GET, (b"A", b"b")]), True)
        elif what == "push":
            talk.on(2, frame(13, varint(i)))
        elif what == "empty":
            talk.on(4000, data(b""))
        elif what == "unknown":
            talk.on(4000, frame(0x21, b"x"))
        elif what == "unknown control":
            talk.on(2, frame(0x21, b"x"))
        elif what == "priority":
            talk.on(2, frame(UPDATE, varint(stream) + b"u=1"))
        else:
            talk.on(6 + stream, varint(0x21 + 0x1F * i))
    assert talk.outcome()[0:1] != ("fine",)
    assert ("close", LOAD) in [order[:2] for order in talk.orders]


def test_an_empty_frame_at_each_end_is_no_flood():
    talk = Talk(client=True)
    for _ in range(300):
        stream = talk.ask() - 1
        talk.on(stream, head([(b":status", b"200")]) + data(b"ok") + frame(0x21) + data(b""), True)
    assert talk.error is None
    assert not talk.codec.streams


def test_priorities_of_requests_that_never_come_are_few():
    talk = Talk(priorities=0)
    for i in range(5000):
        talk.on(2, frame(UPDATE, varint(4 * i + 4) + b"u=1"))
    assert talk.error is None


def test_a_head_that_does_not_come_is_refused_in_time():
    talk = Talk().on(0, head()[:-3])
    talk.now += 10 * SECOND
    assert talk.codec.deadline() <= talk.now
    talk.do(talk.codec.tick, talk.now)
    assert talk.orders == [("reset", 0, INCOMPLETE), ("stop", 0, INCOMPLETE)]
    assert [word[:2] for word in talk.heard()] == [("refused", 1)]


def test_a_body_that_pauses_is_given_up_unless_we_hold_it():
    for credit in (True, False):
        talk = Talk(credit=credit).on(0, head(POST) + data(b"x" * 100_000))
        talk.now += 31 * SECOND
        talk.do(talk.codec.tick, talk.now)
        assert bool(talk.orders) == credit


def test_a_reader_that_takes_nothing_is_given_up():
    talk = Talk()
    answer(talk, 0)
    talk.codec.blocked(0)
    talk.now += 61 * SECOND
    talk.do(talk.codec.tick, talk.now)
    assert talk.orders == [("reset", 0, CANCELLED)]
    assert talk.codec.waits[1][0] == 61 * SECOND


def test_an_idle_connection_is_closed():
    talk = Talk(idle=5 * SECOND)
    talk.now = talk.codec.deadline()
    with pytest.raises(WireError) as raised:
        talk.codec.tick(talk.now)
    assert raised.value.status == 0
    assert talk.codec.orders()[-1][:2] == ("close", NO_ERROR)


def test_an_old_connection_says_goodbye():
    talk = Talk(age=100 * SECOND, idle=0).on(0, head())
    talk.now += 120 * SECOND
    talk.out.clear()
    talk.do(talk.codec.tick, talk.now)
    assert frames(talk.out[3])[0][0] == GOAWAY


def test_a_tunnel_is_bytes_both_ways():
    talk = Talk().on(0, head([(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]))
    assert talk.sink.messages[0].protocol == b"websocket"
    talk.codec.head(1, Response(200, []), False)
    talk.on(0, data(b"up"))
    talk.codec.data(1, b"down", False)
    talk.collect()
    assert talk.said(0)[1:] == [("DATA", b"down")]
    assert ("body", 1, b"up") in talk.heard()
    talk.on(0, b"", True)
    assert talk.orders == []
    talk.codec.end(1, None)
    talk.collect()
    assert talk.ends == [0]
    assert not talk.codec.streams


def test_the_peer_of_a_client_must_say_that_it_takes_websockets():
    talk = Talk(client=True)
    request = Request("CONNECT", "https", b"a", b"/", [])
    request.protocol = b"websocket"
    stream = talk.codec.open_stream()
    with pytest.raises(AppError):
        talk.codec.head(stream, request, False)
    called = []
    talk = Talk(client=True, greet=False)
    talk.codec.on_settled = [lambda: called.append(talk.codec.connect_protocol)]
    talk.on(3, settings((8, 1)))
    assert called == [True]


@pytest.mark.parametrize("split", SPLITS)
def test_who_waits_for_an_entry_gets_it_before_it_is_gone(split):
    talk = Talk(split).on(0, NAMED, True).on(6, TABLE + INSERT + b"\x20" + TABLE[1:] + INSERT)
    assert talk.heard() == [("head", 1, "GET /"), ("end", 1, None)]
    assert talk.error is None
