"""HTTP/2's windows, turns, goodbyes and deadlines, in both roles."""

from __future__ import annotations

import pytest

from fairlead.core.errors import AppError, NetError
from fairlead.core.message import Request, Response
from h2kit import (
    ACK,
    CANCEL,
    EH,
    ES,
    GET,
    GOAWAY,
    NO_ERROR,
    PING,
    POST,
    RST,
    UPDATE,
    Talk,
    data,
    frame,
    head,
    settings,
    word,
)
from kit import SECOND, SPLITS

BIG = Response(200, [], -1)


def bodies(said: list[tuple]) -> list[tuple[int, int]]:
    """(stream, bytes) of each DATA frame."""
    return [(one[1], len(one[2])) for one in said if one[0] == "DATA"]


def answering(body: bytes, end: bool = True):
    def on_head(codec, stream, message):
        codec.head(stream, Response(200, [], -1), False)
        codec.data(stream, body, end)

    return on_head


# ---- what we may send


@pytest.mark.parametrize("split", SPLITS)
def test_a_window_of_one_byte_sends_one_byte(split):
    talk = Talk(split, on_head=answering(b"ok"))
    talk.peer(settings((4, 1)) + head(1))
    assert bodies(talk.say()) == [(1, 1)]
    talk.peer(frame(UPDATE, 0, 1, word(1)))
    assert talk.say()[-1] == ("DATA", 1, b"k", True)


def test_settings_move_the_windows_of_open_streams_also_below_zero():
    talk = Talk(on_head=answering(b"x" * 100))
    talk.peer(settings((4, 60)) + head(1))
    assert bodies(talk.say()) == [(1, 60)]
    talk.peer(settings((4, 50)))
    talk.peer(frame(UPDATE, 0, 1, word(10)))
    assert bodies(talk.say()) == []
    talk.peer(frame(UPDATE, 0, 1, word(5)))
    assert bodies(talk.say()) == [(1, 5)]
    talk.peer(settings((4, 100)))
    assert talk.say()[-1] == ("DATA", 1, b"x" * 35, True)


def test_the_connections_window_is_shared_and_goes_on_where_it_stood():
    talk = Talk(on_head=answering(b"x" * 40000))
    talk.peer(head(1) + head(3))
    assert sum(size for _, size in bodies(talk.say())) == 65535
    talk.peer(frame(UPDATE, 0, 0, word(100_000)))
    said = talk.say()
    assert sum(size for _, size in bodies(said)) == 80000 - 65535 and said[-1][3]


def test_an_end_needs_no_window():
    talk = Talk()
    talk.peer(settings((4, 0)) + head(1) + head(3))
    talk.say()
    for stream in (1, 3):
        talk.codec.head(stream, Response(200, [], -1), False)
    talk.codec.data(1, b"", True)
    talk.codec.end(3, [(b"x-sum", b"1")])
    assert talk.say()[-2:] == [("DATA", 1, b"", True), ("HEADERS", 3, [(b"x-sum", b"1")], True)]


def test_a_writer_is_told_to_wait_and_hears_room():
    talk = Talk(outgoing=1000)
    talk.peer(settings((4, 100)) + head(1))
    talk.codec.head(1, Response(200, [], -1), False)
    assert talk.codec.data(1, b"x" * 600, False) is True
    assert talk.codec.data(1, b"x" * 600, False) is False
    talk.heard()
    talk.say()
    assert talk.heard() == []
    talk.peer(frame(UPDATE, 0, 1, word(2000)))
    talk.say()
    talk.go_on()
    assert talk.heard() == [("room", 1)]


def test_a_window_wait_is_the_peers_and_is_kept_for_the_journey():
    talk = Talk(on_head=answering(b"x" * 50))
    talk.peer(settings((4, 10)) + head(1))
    talk.say()
    talk.now += 3 * SECOND
    talk.peer(frame(UPDATE, 0, 1, word(100)))
    talk.say()
    assert talk.codec.waits == {1: (3 * SECOND, 0)}


# ---- turns (RFC 9218)


def turns(*priorities: bytes | None, updates: bytes = b"") -> list[int]:
    """The streams' DATA frames in the order in which they leave, once the connection's window opens."""
    talk = Talk(on_head=answering(b"x" * 40000))
    talk.peer(settings((4, 1 << 20)))
    talk.peer(head(1, [*GET, (b"priority", b"u=0")]))  # uses the connection's window up
    talk.codec.data(1, b"", False)
    talk.peer(head(3, [*GET, (b"priority", b"u=0")]))
    talk.say()
    for i, value in enumerate(priorities):
        talk.peer(head(5 + 2 * i, GET if value is None else [*GET, (b"priority", value)]))
    talk.peer(updates)
    talk.peer(frame(UPDATE, 0, 0, word(1 << 20)))
    said: list[tuple] = []
    for _ in range(10):
        said += talk.say()
        talk.go_on()
    return [stream for stream, _ in bodies(said) if stream > 3]


def test_without_priorities_the_first_goes_first():
    assert turns(None, None) == [5, 5, 5, 7, 7, 7]


def test_what_is_urgent_overtakes():
    assert turns(b"u=5", b"u=1", b"u=3") == [7, 7, 7, 9, 9, 9, 5, 5, 5]


def test_incremental_streams_take_turns():
    assert turns(b"i", b"u=3, i") == [5, 7, 5, 7, 5, 7]


def test_a_priority_update_changes_the_order():
    update = frame(16, 0, 0, word(7) + b"u=0")
    assert turns(None, None, updates=update) == [7, 7, 7, 5, 5, 5]


@pytest.mark.parametrize("value", [b"u=9", b"u=", b"x=1", b"u=-1", b"=;,", b"i=?0", b"u=3;foo"])
def test_a_priority_that_is_not_understood_is_the_usual_one(value):
    assert turns(value, None) == [5, 5, 5, 7, 7, 7]


def test_an_answer_may_say_its_own_priority():
    def on_head(codec, stream, message):
        codec.head(stream, Response(200, [(b"priority", b"u=0" if stream == 7 else b"u=6")], -1), False)
        codec.data(stream, b"x" * 40000, True)

    talk = Talk(on_head=on_head)
    talk.peer(settings((4, 1 << 20)) + head(1) + head(3))
    talk.say()
    talk.peer(head(5) + head(7) + frame(UPDATE, 0, 0, word(1 << 20)))
    order = [stream for stream, _ in bodies(talk.say())]
    assert order.index(7) < order.index(5)


# ---- what the peer may send


def test_the_window_is_given_back_when_the_reader_takes():
    talk = Talk(credit=False)
    talk.peer(head(1, POST, EH))
    for _ in range(3):
        talk.peer(data(1, b"x" * 16000))
    assert talk.say() == [("PING", b"fairband")]
    talk.codec.consumed(1, 20000)
    assert talk.say() == []
    talk.codec.consumed(1, 20000)
    assert talk.say() == [("WINDOW_UPDATE", 1, 40000)]


def test_a_reader_that_does_not_take_stops_the_peer_and_no_byte_more_is_allowed():
    talk = Talk(credit=False)
    talk.peer(head(1, POST, EH) + data(1, b"x" * 16384) * 4)
    assert talk.error is None
    talk.peer(data(1, b"x"))
    assert ("RST_STREAM", 1, 3) in talk.say()


def test_the_connections_window_bounds_all_streams_together():
    talk = Talk(credit=False, connection_window=131072)
    for stream in (1, 3, 5):
        talk.peer(head(stream, POST, EH) + data(stream, b"x" * 16384) * 3)
    assert talk.rule == "window-exceeded"


def test_what_a_reader_left_behind_goes_back_to_the_others():
    talk = Talk(credit=False, connection_window=131072)
    for stream in range(1, 41, 2):
        talk.peer(head(stream, POST, EH) + data(stream, b"x" * 16384) * 3 + frame(RST, 0, stream, word(CANCEL)))
    assert talk.error is None
    assert talk.codec.window >= 65536


def test_padding_is_charged_and_given_back():
    talk = Talk()
    talk.peer(head(1, POST, EH))
    for _ in range(200):
        talk.peer(frame(0, 8, 1, b"\xff" + b"y" + b"\0" * 255))
    assert talk.error is None
    assert sum(one[2] for one in talk.say() if one[0] == "WINDOW_UPDATE" and one[1] == 1) >= 32768


def test_windows_grow_with_what_comes_in_a_round_trip():
    talk = Talk()
    talk.peer(head(1, POST, EH) + data(1, b"x" * 16384) * 2)
    assert ("PING", b"fairband") in talk.say()
    talk.now += SECOND // 20
    talk.peer(data(1, b"x" * 16384) * 3)
    talk.peer(frame(PING, ACK, 0, b"fairband"))
    said = talk.say()
    assert ("SETTINGS", b"\0\4" + word(131072)) in said
    assert talk.codec.stream_window == 131072 and talk.codec.rtt == SECOND // 20
    for _ in range(8):
        talk.peer(data(1, b"x" * 16384) * (talk.codec.stream_window // 16384 + 2))
        talk.peer(frame(PING, ACK, 0, b"fairband"))
        talk.say()
    assert talk.error is None
    assert talk.codec.stream_window == 4 << 20 and talk.codec.target <= 16 << 20


def test_a_peer_that_stands_before_its_window_has_half_of_it_under_way_and_gets_more():
    talk = Talk()
    talk.peer(head(1, POST, EH) + data(1, b"x" * 16384) * 2)  # half a window: a PING, and the half is given back
    talk.peer(data(1, b"x" * 16384) * 2)  # the other half was on its way
    talk.peer(frame(PING, ACK, 0, b"fairband"))
    assert talk.codec.stream_window == 131072
    talk.say()
    talk.peer(data(1, b"x" * 16384) * 2)
    talk.peer(frame(PING, ACK, 0, b"fairband"))
    assert talk.codec.stream_window == 131072  # a quarter of it or less: it does not stand


def test_small_requests_cost_no_ping():
    talk = Talk(answer=True)
    for i in range(20):
        talk.peer(head(1 + 2 * i, POST, EH) + data(1 + 2 * i, b"x" * 1000, ES))
    assert not [one for one in talk.say() if one[0] == "PING"]


def test_a_hundred_continue_is_said_when_the_reader_wants_the_body():
    talk = Talk()
    talk.peer(head(1, [*POST, (b"expect", b"100-continue")], EH))
    assert talk.say() == []
    talk.codec.consumed(1, 0)
    talk.codec.consumed(1, 0)
    assert talk.say() == [("HEADERS", 1, [(b":status", b"100")], False)]


def test_an_answer_before_the_end_of_its_request_resets_it_without_an_error():
    talk = Talk(answer=True)
    talk.peer(head(1, POST, EH))
    assert talk.say()[-2:] == [("DATA", 1, b"ok", True), ("RST_STREAM", 1, NO_ERROR)]
    talk.peer(data(1, b"x" * 1000) + data(1, b"", ES))
    assert talk.error is None and talk.say() == []


# ---- what a handler may not say


def test_a_body_longer_than_promised_costs_its_stream_only():
    talk = Talk()
    talk.peer(head(1) + head(3))
    talk.codec.head(1, Response(200, [(b"content-length", b"3")], 3), False)
    with pytest.raises(AppError):
        talk.codec.data(1, b"four", True)
    talk.codec.head(3, Response(200, [], -1), False)
    talk.codec.data(3, b"fine", True)
    said = talk.say()
    assert ("RST_STREAM", 1, 2) in said and said[-1] == ("DATA", 3, b"fine", True)


@pytest.mark.parametrize("field", [(b"x", b"a\r\nb"), (b"x\n", b"a"), (b"", b"a"), (b"x", b"\0")])
def test_a_head_with_a_bad_field_says_nothing_and_another_can_be_said(field):
    talk = Talk()
    talk.peer(head(1))
    with pytest.raises(AppError):
        talk.codec.head(1, Response(200, [(b"a", b"b"), field], -1), False)
    assert talk.say() == []
    talk.codec.head(1, Response(500, [(b"a", b"b")], -1), True)
    assert talk.say()[0][2][:2] == [(b":status", b"500"), (b"a", b"b")]


def test_fields_of_a_connection_are_dropped_and_names_made_small():
    talk = Talk()
    talk.peer(head(1))
    given = [(b"Connection", b"close"), (b"Transfer-Encoding", b"chunked"), (b"Keep-Alive", b"5"), (b"X-Big", b" v ")]
    talk.codec.head(1, Response(200, given, -1), True)
    names = [
        (b":status", b"200"),
        (b"x-big", b"v"),
        (b"content-length", b"0"),
        (b"date", b"now"),
        (b"server", b"fairlead"),
    ]
    assert talk.say() == [("HEADERS", 1, names, True)]


@pytest.mark.parametrize(
    ("status", "method", "wanted"), [(204, b"GET", None), (304, b"GET", b"5"), (200, b"HEAD", b"5")]
)
def test_answers_without_a_body_keep_their_promise(status, method, wanted):
    talk = Talk()
    talk.peer(head(1, [(b":method", method), *GET[1:]]))
    talk.codec.head(1, Response(status, [(b"content-length", b"5")], 5), True)
    (said,) = talk.say()
    assert dict(said[2]).get(b"content-length") == wanted and said[3]


def test_a_long_head_takes_several_frames():
    talk = Talk()
    talk.peer(head(1))
    talk.codec.head(1, Response(200, [(b"x-%d" % i, b"\xff" * 900) for i in range(40)], -1), True)
    sent = talk.codec.take()[0]
    assert sent[3] == 1 and sent[4] == 1  # END_STREAM, and no END_HEADERS yet
    assert sent[9 + 16384 + 3] == 9


# ---- goodbye


def test_goodbye_takes_two_steps_and_what_was_on_its_way_is_answered():
    talk = Talk(answer=True)
    talk.codec.now = talk.now
    talk.codec.goaway(-1)
    assert talk.say() == [("GOAWAY", 0x7FFFFFFF, NO_ERROR), ("PING", b"fairdrop")]
    talk.peer(head(1))
    assert talk.say()[-1] == ("DATA", 1, b"ok", True) and not talk.codec.finished
    talk.peer(frame(PING, ACK, 0, b"fairdrop"))
    assert talk.say() == [("GOAWAY", 1, NO_ERROR)] and talk.codec.finished


def test_after_the_second_step_new_streams_are_ignored_and_open_ones_end():
    talk = Talk()
    talk.peer(head(1))
    talk.codec.goaway(-1)
    talk.peer(frame(PING, ACK, 0, b"fairdrop") + head(3))
    assert [word[1] for word in talk.heard() if word[0] == "head"] == [1] and not talk.codec.finished
    Talk.ok(talk.codec, 1, None)
    assert talk.say()[-1] == ("DATA", 1, b"ok", True) and talk.codec.finished


def test_a_peer_that_does_not_answer_the_ping_gets_the_second_step_after_a_second():
    talk = Talk()
    talk.codec.now = talk.now
    talk.codec.goaway(-1)
    talk.say()
    assert talk.codec.deadline() == talk.now + SECOND
    talk.codec.tick(talk.now + SECOND)
    assert talk.say() == [("GOAWAY", 0, NO_ERROR)] and talk.codec.finished


# ---- deadlines


def due(talk: Talk, seconds: float) -> str:
    """Let time pass, as a carrier would; the rule that breaks the connection, or ""."""
    end = talk.now + int(seconds * SECOND)
    while 0 < talk.codec.deadline() <= end and not talk.codec.finished and talk.error is None:
        talk.now = max(talk.codec.deadline(), talk.now)
        try:
            talk.codec.tick(talk.now)
        except Exception as error:
            talk.error = error  # type: ignore[assignment]
    talk.now = end
    return talk.rule


def test_a_connection_that_says_nothing_ends():
    talk = Talk(greet=False)
    talk.peer(b"PRI * HT")
    assert due(talk, 9) == "" and due(talk, 2) == "slow-preface"


def test_a_header_block_that_does_not_end_ends_the_connection():
    talk = Talk()
    talk.peer(head(1, flags=ES))
    assert due(talk, 9) == "" and due(talk, 2) == "slow-head"


def test_an_idle_connection_ends_politely():
    talk = Talk(answer=True)
    talk.peer(head(1))
    talk.say()
    assert due(talk, 74) == "" and due(talk, 2) == "idle"
    assert talk.error is not None and talk.error.status == 0
    assert talk.say() == [("GOAWAY", 1, NO_ERROR)]


def test_pings_do_not_keep_an_idle_connection():
    talk = Talk()
    for _ in range(8):
        due(talk, 9.9)
        talk.peer(frame(PING, 0, 0, b"12345678"))
    assert talk.rule == "idle"


def test_work_that_goes_on_keeps_a_connection():
    talk = Talk()
    talk.peer(head(1))
    assert due(talk, 1000) == ""


@pytest.mark.parametrize(("pieces", "every", "rule"), [(1, 31, "slow-body"), (20, 5, "slow-rate")])
def test_a_slow_body_costs_its_stream(pieces, every, rule):
    talk = Talk()
    talk.peer(head(1, POST, EH) + head(3))
    for _ in range(pieces):
        talk.peer(data(1, b"x"))
        due(talk, every)
    assert talk.error is None
    assert ("RST_STREAM", 1, CANCEL) in talk.say()
    assert ("reset", 1, "both") in talk.heard()


def test_a_patient_streams_body_may_pause():
    talk = Talk(on_head=lambda codec, stream, message: codec.patient(stream))
    talk.peer(head(1, POST, EH) + data(1, b"x"))
    due(talk, 3600)
    talk.peer(data(1, b"y", ES))
    assert talk.heard()[1:] == [("body", 1, b"xy"), ("end", 1, None)]


def test_a_silent_peer_with_streams_open_is_asked_whether_it_lives():
    talk = Talk(ping=20 * SECOND, on_head=lambda codec, stream, message: codec.patient(stream))
    talk.peer(head(1, POST, EH))
    due(talk, 19)
    assert talk.say() == []
    due(talk, 1)
    assert talk.say() == [("PING", b"fairping")]
    talk.peer(frame(PING, ACK, 0, b"fairping"))
    due(talk, 20)
    assert talk.say() == [("PING", b"fairping")]
    due(talk, 5)
    assert talk.rule == "no-pong"


def test_a_connection_of_age_says_goodbye_and_finishes_what_is_open():
    talk = Talk(age=100 * SECOND, body_idle=0, body_rate=0)
    talk.peer(head(1, POST, EH))
    due(talk, 90)  # a tenth less or more
    assert talk.say() == []
    due(talk, 23)
    said = talk.say()
    assert [one for one in said if one[0] == "GOAWAY"] == [("GOAWAY", 0x7FFFFFFF, NO_ERROR), ("GOAWAY", 1, NO_ERROR)]
    talk.peer(data(1, b"x", ES))
    Talk.ok(talk.codec, 1, None)
    talk.say()
    assert talk.codec.finished


def test_an_idle_connection_of_age_ends():
    talk = Talk(age=10 * SECOND)
    due(talk, 12)
    due(talk, 2)
    assert ("GOAWAY", 0, NO_ERROR) in talk.say() and talk.codec.finished


def test_our_own_full_window_does_not_count_against_the_peer():
    talk = Talk(credit=False)
    talk.peer(head(1, POST, EH) + data(1, b"x" * 16384) * 4)
    due(talk, 500)
    assert talk.say() == [("PING", b"fairband")]
    talk.codec.now = talk.now
    talk.codec.consumed(1, 65536)
    due(talk, 29)
    talk.peer(data(1, b"x", ES))
    assert ("end", 1, None) in talk.heard()
    Talk.ok(talk.codec, 1, None)
    talk.say()
    assert talk.codec.waits == {1: (0, 500 * SECOND)}


def test_a_peer_that_opens_no_window_is_a_slow_reader():
    talk = Talk(on_head=answering(b"x" * 50))
    talk.peer(settings((4, 10)) + head(1))
    talk.say()
    due(talk, 61)
    assert ("RST_STREAM", 1, CANCEL) in talk.say() and talk.error is None


# ---- client role


def test_a_request_is_said_and_its_answer_heard():
    talk = Talk(client=True)
    stream = talk.ask(
        Request("POST", "https", b"a.example", b"/x", [(b"host", b"ignored"), (b"Accept", b"*/*")], "1.1", 5), False
    )
    talk.codec.data(stream, b"hello", True)
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", b"a.example"),
        (b":path", b"/x"),
        (b"accept", b"*/*"),
    ]
    assert talk.say() == [("HEADERS", 1, [*fields, (b"content-length", b"5")], False), ("DATA", 1, b"hello", True)]
    talk.peer(head(1, [(b":status", b"103"), (b"link", b"</a>")], EH) + head(1, [(b":status", b"200")], EH))
    talk.peer(data(1, b"body") + head(1, [(b"x-sum", b"1")]))
    assert talk.heard() == [("inform", 1, 103), ("head", 1, 200), ("body", 1, b"body"), ("end", 1, [(b"x-sum", b"1")])]
    assert talk.codec.streams == {} and talk.codec.reusable


def test_no_more_streams_than_the_server_allows():
    talk = Talk(client=True)
    talk.peer(settings((3, 2)))
    assert [talk.codec.open_stream() for _ in range(3)] == [1, 3, 0]
    assert not talk.codec.reusable
    talk.codec.reset(1, NetError("gone"), "both")
    assert talk.codec.reusable and talk.codec.open_stream() == 5


def test_what_a_goaway_did_not_look_at_may_be_asked_again():
    reasons = {}
    talk = Talk(client=True)
    talk.sink.reset = lambda stream, why, side: reasons.__setitem__(stream, why.retry)  # type: ignore[method-assign]
    for _ in range(3):
        talk.ask()
    talk.peer(frame(GOAWAY, 0, 0, word(3) + word(NO_ERROR)))
    assert reasons == {5: "always"} and not talk.codec.reusable and not talk.codec.finished
    talk.peer(head(1, [(b":status", b"200")]) + head(3, [(b":status", b"200")]))
    assert talk.codec.finished


def test_a_refused_stream_may_be_asked_again_and_another_reset_not():
    reasons = {}
    talk = Talk(client=True)
    talk.sink.reset = lambda stream, why, side: reasons.__setitem__(stream, why.retry)  # type: ignore[method-assign]
    talk.ask()
    talk.ask()
    talk.peer(frame(RST, 0, 1, word(7)) + frame(RST, 0, 3, word(2)))
    assert reasons == {1: "always", 3: "never"}


ANSWERS = [
    ("no status", [(b"x", b"y")]),
    ("two", [(b":status", b"200"), (b":status", b"200")]),
    ("101", [(b":status", b"101")]),
    ("not a number", [(b":status", b"2x0")]),
    ("four digits", [(b":status", b"0200")]),
    ("a request's field", [(b":status", b"200"), (b":path", b"/")]),
    ("connection", [(b":status", b"200"), (b"connection", b"close")]),
    ("transfer-encoding", [(b":status", b"200"), (b"transfer-encoding", b"chunked")]),
    ("upper case", [(b":status", b"200"), (b"X", b"y")]),
    ("CR LF", [(b":status", b"200"), (b"x", b"y\r\nset-cookie: a=b")]),
    ("length without a body", [(b":status", b"200"), (b"content-length", b"5")]),
    ("two lengths", [(b":status", b"200"), (b"content-length", b"0"), (b"content-length", b"0")]),
]


@pytest.mark.parametrize(("name", "fields"), ANSWERS, ids=[one[0] for one in ANSWERS])
def test_a_broken_answer_resets_its_stream_only(name, fields):
    talk = Talk(client=True)
    talk.ask()
    talk.ask()
    talk.say()
    talk.peer(head(1, fields))
    assert talk.heard() == [("reset", 1, "both")] and talk.say() == [("RST_STREAM", 1, 1)]
    talk.peer(head(3, [(b":status", b"200")]))
    assert talk.heard() == [("head", 3, 200), ("end", 3, None)]


def test_a_push_or_a_setting_that_allows_it_breaks_the_connection():
    talk = Talk(client=True)
    talk.ask()
    talk.peer(frame(5, EH, 1, word(2)))
    assert talk.rule == "push"
    talk = Talk(client=True)
    talk.peer(settings((2, 1)))
    assert talk.rule == "bad-setting"


def test_data_before_the_head_or_on_a_stream_never_opened():
    talk = Talk(client=True)
    talk.ask()
    talk.peer(data(1, b"x"))
    assert talk.heard() == [("reset", 1, "both")]
    talk.peer(data(7, b"x"))
    assert talk.rule == "idle-stream"


def test_too_many_interim_answers_are_calmed():
    talk = Talk(client=True)
    talk.ask()
    talk.peer(head(1, [(b":status", b"103")], EH) * 20)
    assert talk.heard()[-1] == ("reset", 1, "both")


def test_a_request_that_may_not_be_said_leaves_nothing_behind():
    talk = Talk(client=True)
    talk.say()
    stream = talk.codec.open_stream()
    with pytest.raises(AppError):
        talk.codec.head(stream, Request("GET", "http", b"a\r\nb", b"/", []), True)
    with pytest.raises(AppError):
        talk.codec.head(stream, Request("GET", "http", b"a", b"/ HTTP/1.1\r\n", []), True)
    assert talk.say() == []


# ---- extended CONNECT (RFC 8441)


def test_an_extended_connect_becomes_a_tunnel():
    talk = Talk()
    fields = [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        (b":scheme", b"https"),
        (b":path", b"/chat"),
        (b":authority", b"a"),
    ]
    talk.peer(head(1, [*fields, (b"sec-websocket-version", b"13")], EH))
    request = talk.sink.messages[0]
    assert (request.method, request.protocol, request.target, request.length) == ("CONNECT", b"websocket", b"/chat", -1)
    talk.codec.head(1, Response(200, [], -1), False)
    talk.peer(data(1, b"up"))
    talk.codec.data(1, b"down", False)
    assert talk.heard()[1:] == [("body", 1, b"up")]
    assert talk.say()[1:] == [("DATA", 1, b"down", False)]
    assert due(talk, 1000) == ""
    talk.codec.end(1, None)
    talk.peer(data(1, b"last", ES))
    assert talk.heard() == [("body", 1, b"last"), ("end", 1, None)] and talk.codec.streams == {}


def test_a_client_says_extended_connect_only_to_who_takes_it():
    request = Request("CONNECT", "https", b"a", b"/chat", [(b"sec-websocket-version", b"13")], "2", -1)
    request.protocol = b"websocket"
    talk = Talk(client=True)
    with pytest.raises(AppError):
        talk.ask(request, False)
    talk.peer(settings((8, 1)))
    talk.say()
    stream = talk.ask(request, False)
    assert talk.say()[0][2][:5] == [
        (b":method", b"CONNECT"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/chat"), (b":protocol", b"websocket"),
    ]  # fmt: skip
    talk.peer(head(stream, [(b":status", b"200")], EH) + data(stream, b"hi"))
    assert talk.heard() == [("head", 3, 200), ("body", 3, b"hi")]


def test_a_server_that_answers_no_ping_is_given_up_and_any_byte_saves_it():
    talk = Talk(client=True)
    talk.ask()
    talk.codec.now = talk.now
    talk.codec.ping()
    assert not talk.codec.reusable and talk.codec.open_stream() == 0
    talk.peer(head(1, [(b":status", b"200")]))
    assert talk.codec.reusable
    talk.codec.ping()
    assert due(talk, 4) == "" and due(talk, 2) == "no-pong"


def test_a_connection_that_had_its_requests_says_goodbye():
    talk = Talk(answer=True, requests=2)
    talk.peer(head(1) + head(3))
    said = talk.say()
    assert ("GOAWAY", 0x7FFFFFFF, NO_ERROR) in said and said[-1] == ("DATA", 3, b"ok", True)
