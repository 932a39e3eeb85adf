"""The course of a server connection: pipelining, 100 Continue, unread bodies, tunnels, half-close, deadlines."""

import pytest

import kit
from fairlead.core.errors import WireError
from fairlead.core.limits import Limits
from fairlead.core.message import Request, Response
from fairlead.wire.h1 import H1

SECOND = kit.SECOND


def get(path=b"/", *fields):
    return b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n" + b"".join(f + b"\r\n" for f in fields) + b"\r\n"


def post(length, *fields, body=b""):
    lines = b"".join(f + b"\r\n" for f in fields)
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%b\r\n%b" % (length, lines, body)


CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = get(b"/", b"Connection: Upgrade", b"Upgrade: websocket")


def talk(split="whole", credit=True, **limits):
    return kit.Transcript(lambda sink: H1(sink, Limits(**limits)), split, credit)


def answer_at_once(codec, stream, message):
    codec.head(stream, Response(200, [(b"x-path", message.target)]), True)


def paths(sent):
    return [line[8:] for line in sent.split(b"\r\n") if line.startswith(b"x-path: ")]


# ---- pipelining


@pytest.mark.parametrize("split", kit.SPLITS)
def test_pipelined_requests_are_answered_in_order(split):
    t = talk(split)
    t.sink.on_head = answer_at_once
    t.peer(b"".join(get(b"/%d" % i) for i in range(50)))
    assert paths(t.sent()) == [b"/%d" % i for i in range(50)]
    assert not t.codec.more and not t.codec.finished


def test_one_feed_hears_one_request():
    t = talk()
    t.sink.on_head = answer_at_once
    t.codec.feed(get(b"/1") + get(b"/2") + get(b"/3"), t.now)
    assert len(t.sink.messages) == 1 and t.codec.more
    t.codec.feed(b"", t.now)
    assert len(t.sink.messages) == 2 and t.codec.more
    t.codec.feed(b"", t.now)
    assert len(t.sink.messages) == 3 and not t.codec.more


@pytest.mark.parametrize("split", kit.SPLITS)
def test_the_next_request_waits_until_the_answer_is_said(split):
    t = talk(split).peer(get(b"/1") + get(b"/2"))
    assert [m.target for m in t.sink.messages] == [b"/1"]
    assert not t.codec.more
    t.codec.head(1, Response(200, []), False)
    t.codec.data(1, b"abc", False)
    assert not t.codec.more
    t.codec.end(1, None)
    assert t.codec.more
    t.go_on()
    assert [m.target for m in t.sink.messages] == [b"/1", b"/2"]


@pytest.mark.parametrize("split", kit.SPLITS)
def test_bodies_and_pipelining_together(split):
    t = talk(split)
    t.sink.on_head = answer_at_once
    t.peer(post(3, body=b"abc") + CHUNKED + b"2\r\nde\r\n0\r\n\r\n" + get(b"/last"))
    assert paths(t.sent()) == [b"/", b"/", b"/last"]


def test_look_ahead_is_bounded():
    t = talk(lookahead=100).peer(get())
    assert t.codec.wants_read
    t.peer(get() * 2)
    assert t.codec.wants_read
    t.peer(b"x" * 100)
    assert not t.codec.wants_read
    t.codec.head(1, Response(204, []), True)
    assert t.codec.more
    t.go_on()
    assert len(t.sink.messages) == 2


def test_an_incomplete_next_request_does_not_ask_to_be_fed():
    t = talk()
    t.sink.on_head = answer_at_once
    t.peer(get() + b"GET /x HTT")
    assert not t.codec.more
    t.peer(b"P/1.1\r\nHost: a\r\n\r\n")
    assert paths(t.sent()) == [b"/", b"/x"]


@pytest.mark.parametrize("split", kit.SPLITS)
def test_nothing_behind_a_closing_request_is_ever_a_request(split):
    t = talk(split).peer(get(b"/1", b"Connection: close") + get(b"/2"))
    t.codec.head(1, Response(200, []), True)
    assert t.codec.finished and not t.codec.more
    t.codec.feed(get(b"/3"), t.now)
    assert len(t.sink.messages) == 1


def test_the_limit_of_requests_closes_the_connection_politely():
    t = talk(requests=2)
    t.sink.on_head = answer_at_once
    t.peer(get(b"/1") + get(b"/2") + get(b"/3"))
    first, _, second = t.sent().partition(b"x-path: /2")
    assert b"connection: close" not in first and b"connection: close" in second
    assert t.codec.finished and len(t.sink.messages) == 2


# ---- bodies


@pytest.mark.parametrize("split", kit.SPLITS)
def test_a_body_that_nobody_takes_stops_reading(split):
    t = talk(split, credit=False, window=10).peer(post(100, body=b"x" * 9))
    assert t.codec.wants_read
    t.peer(b"x")
    assert not t.codec.wants_read
    t.codec.consumed(1, 5)
    assert t.codec.wants_read


def test_chunks_of_one_read_are_given_as_one_piece():
    t = talk().peer(CHUNKED + b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n")
    assert t.heard()[1:] == [("body", 1, b"abc")] and t.sink.pieces == 1


@pytest.mark.parametrize("split", kit.SPLITS)
def test_100_continue_is_sent_when_the_body_is_first_wanted(split):
    t = talk(split).peer(post(3, b"Expect: 100-continue"))
    assert t.sink.messages[0].expect and t.sent() == b""
    t.codec.consumed(1, 0)
    assert t.sent() == b"HTTP/1.1 100 Continue\r\n\r\n"
    t.codec.consumed(1, 0)
    t.peer(b"abc")
    assert t.sent() == b""
    t.codec.head(1, Response(204, []), True)
    assert t.sent().startswith(b"HTTP/1.1 204") and not t.codec.finished


def test_a_final_answer_instead_of_100_continue_closes():
    t = talk().peer(post(3, b"Expect: 100-continue"))
    t.codec.head(1, Response(413, []), True)
    sent = t.sent()
    assert sent.startswith(b"HTTP/1.1 413") and b"connection: close" in sent and b"100 Continue" not in sent
    assert t.codec.finished


def test_no_100_continue_when_the_body_came_anyway_or_to_1_0():
    t = talk().peer(post(3, b"Expect: 100-continue", body=b"a"))
    assert t.sent() == b""
    t = talk().peer(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    t.codec.consumed(1, 0)
    assert t.sent() == b"" and not t.sink.messages[0].expect


@pytest.mark.parametrize("split", kit.SPLITS)
def test_an_unread_body_is_dropped_to_keep_the_connection(split):
    t = talk(split)
    t.sink.on_head = answer_at_once
    t.peer(post(1000, body=b"x" * 1000) + get(b"/next"))
    assert paths(t.sent()) == [b"/", b"/next"]
    assert not any(word[0] == "body" for word in t.heard())


def test_an_unread_body_over_the_limit_closes():
    t = talk(drain=100)
    t.sink.on_head = answer_at_once
    t.peer(post(101))
    assert t.codec.finished
    t = talk(drain=100)
    t.sink.on_head = answer_at_once
    t.peer(CHUNKED + b"32\r\n" + b"x" * 50)
    assert not t.codec.finished and t.codec.wants_read
    t.peer(b"\r\n40\r\n" + b"x" * 60)
    assert t.codec.finished


def test_the_rest_of_a_body_is_dropped_when_the_reader_gives_up():
    t = talk(credit=False, window=10).peer(post(100, body=b"x" * 50))
    assert not t.codec.wants_read
    t.codec.reset(1, None, "read")
    assert t.codec.wants_read
    t.heard()
    t.peer(b"x" * 50)
    assert t.heard() == []
    t.codec.head(1, Response(204, []), True)
    assert not t.codec.finished
    t.peer(get(b"/2"))
    assert len(t.sink.messages) == 2


def test_an_answer_may_begin_before_the_request_is_whole():
    t = talk().peer(post(6, body=b"abc"))
    t.codec.head(1, Response(200, []), False)
    t.codec.data(1, b"1", False)
    t.peer(b"def")
    assert t.heard()[1:] == [("body", 1, b"abcdef"), ("end", 1, None)]
    t.codec.data(1, b"2", True)
    assert not t.codec.finished
    assert t.sent().endswith(b"1\r\n1\r\n1\r\n2\r\n0\r\n\r\n")


# ---- tunnels


@pytest.mark.parametrize("split", kit.SPLITS)
def test_bytes_behind_an_upgrade_wait_for_the_101(split):
    t = talk(split).peer(UPGRADE + b"\x81\0early")
    assert t.heard() == [("head", 1, "GET /"), ("end", 1, None)]
    t.codec.head(1, Response(101, [(b"upgrade", b"websocket"), (b"sec-websocket-accept", b"x")]), False)
    assert t.sent() == (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n"
        b"sec-websocket-accept: x\r\nconnection: upgrade\r\n\r\n"
    )
    assert t.codec.tunnel and t.codec.more
    t.go_on()
    t.peer(b" late\r\n")
    assert t.heard() == [("body", 1, b"\x81\0early late\r\n")]
    t.codec.data(1, b"raw", False)
    assert t.sent() == b"raw"
    t.eof()
    assert t.heard() == [("end", 1, None)]
    t.codec.end(1, None)
    assert t.codec.finished


def test_an_upgrade_that_is_declined_is_a_plain_exchange():
    t = talk().peer(UPGRADE + get(b"/2"))
    t.codec.head(1, Response(200, []), True)
    t.go_on()
    assert [m.target for m in t.sink.messages] == [b"/", b"/2"]
    assert b"upgrade" not in t.sent()


def test_426_may_name_what_it_wants():
    t = talk().peer(get())
    t.codec.head(1, Response(426, [(b"upgrade", b"TLS/1.3"), (b"connection", b"Upgrade")]), True)
    assert b"upgrade: TLS/1.3\r\n" in (sent := t.sent()) and b"connection: upgrade\r\n" in sent
    assert not t.codec.tunnel


@pytest.mark.parametrize("split", kit.SPLITS)
def test_a_connect_that_succeeds_opens_a_tunnel_without_framing(split):
    t = talk(split).peer(b"CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\nhello")
    t.codec.head(1, Response(200, [(b"content-length", b"5")]), False)
    assert t.sent() == b"HTTP/1.1 200 OK\r\n\r\n"
    t.go_on()
    assert t.heard()[-1] == ("body", 1, b"hello")


def test_bytes_behind_a_refused_connect_are_never_a_request():
    t = talk().peer(b"CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\n" + get(b"/evil"))
    t.codec.head(1, Response(403, []), True)
    assert t.codec.finished and len(t.sink.messages) == 1


def test_a_tunnel_has_back_pressure():
    t = talk(credit=False, window=5).peer(UPGRADE)
    t.codec.head(1, Response(101, [(b"upgrade", b"websocket")]), False)
    t.peer(b"12345")
    assert not t.codec.wants_read
    t.codec.consumed(1, 5)
    assert t.codec.wants_read


def test_detach_gives_what_was_not_used():
    t = talk().peer(UPGRADE + b"rest")
    assert t.codec.detach() == b"rest"
    assert t.codec.finished


# ---- half-close and goodbyes


@pytest.mark.parametrize("before", [b"", b"\r\n", get()])
def test_eof_between_requests_is_a_goodbye(before):
    t = talk()
    t.sink.on_head = answer_at_once
    t.peer(before).eof()
    assert t.error is None and t.codec.finished


@pytest.mark.parametrize(
    "before, rule", [(b"GET", "eof-in-head"), (get()[:-2], "eof-in-head"), (post(3), "eof-in-body")]
)
def test_eof_inside_a_request_is_an_error(before, rule):
    t = talk().peer(before).eof()
    assert (t.rule, t.error.status) == (rule, 400)


def test_eof_behind_a_request_is_told_and_its_answer_still_said():
    t = talk().peer(get())
    t.heard()
    t.eof()
    assert t.heard() == [("reset", 1, "read")]
    t.codec.head(1, Response(200, []), True)
    assert t.sent().startswith(b"HTTP/1.1 200 OK") and t.codec.finished


def test_pipelined_requests_before_an_eof_are_all_answered():
    t = talk().peer(get(b"/1") + get(b"/2")).eof()
    t.codec.head(1, Response(200, []), True)
    t.go_on()
    assert [m.target for m in t.sink.messages] == [b"/1", b"/2"]
    t.codec.head(2, Response(200, []), True)
    assert t.codec.finished


def test_goaway_while_idle_ends_the_connection():
    t = talk()
    t.codec.goaway(-1)
    assert t.codec.finished


def test_goaway_inside_an_exchange_says_close():
    t = talk().peer(get(b"/1") + get(b"/2"))
    t.codec.goaway(-1)
    t.codec.head(1, Response(200, []), True)
    assert b"connection: close\r\n" in t.sent()
    assert t.codec.finished


def test_a_reset_of_an_unfinished_answer_ends_the_connection():
    t = talk().peer(get())
    t.codec.head(1, Response(200, []), False)
    t.codec.data(1, b"abc", False)
    t.codec.reset(1, None, "both")
    assert t.codec.finished
    assert not t.sent().endswith(b"0\r\n\r\n")


def test_refuse_answers_what_could_not_be_parsed():
    t = talk().peer(b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n")
    t.codec.refuse(400, [(b"content-type", b"text/plain")], b"two-hosts")
    assert t.sent() == (
        b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n"
        b"content-length: 9\r\nconnection: close\r\n\r\ntwo-hosts"
    )
    assert t.codec.finished


def test_refuse_after_a_head_only_ends_the_connection():
    t = talk().peer(post(3))
    t.codec.head(1, Response(200, []), False)
    t.sent()
    t.codec.refuse(408, [], b"slow")
    assert t.sent() == b"" and t.codec.finished


# ---- deadlines


def tick(t, seconds):
    """Time passes; the rule that is broken then, or ""."""
    t.now += int(seconds * SECOND)
    try:
        t.codec.tick(t.now)
    except WireError as error:
        return error.rule, error.status
    return ""


def due(t):
    """Seconds until the deadline, None for never."""
    at = t.codec.deadline()
    return (at - t.now) / SECOND if at else None


def test_a_new_connection_that_says_nothing_is_closed_without_a_word():
    t = talk()
    assert due(t) == 10
    assert tick(t, 9.9) == ""
    assert tick(t, 0.2) == ("idle", 0)
    assert t.codec.finished


def test_a_head_that_does_not_end_is_408():
    t = talk().peer(b"GET / HT")
    tick(t, 5)
    t.peer(b"TP/1.1\r\nX: ")
    assert due(t) == 5
    assert tick(t, 5) == ("slow-head", 408)


def test_a_kept_connection_may_be_idle_longer():
    t = talk()
    t.sink.on_head = answer_at_once
    t.peer(get())
    assert due(t) == 75
    assert tick(t, 60) == ""
    t.peer(b"G")
    assert due(t) == 10
    t.peer(get()[1:])
    assert due(t) == 75
    assert tick(t, 75) == ("idle", 0)


def test_there_is_no_deadline_while_an_answer_is_made():
    t = talk().peer(get())
    assert due(t) is None
    assert tick(t, 1000) == ""


def test_a_body_that_pauses_is_408():
    t = talk(body_rate=0).peer(post(100, body=b"x"))
    assert due(t) == 30
    tick(t, 20)
    t.peer(b"x")
    assert due(t) == 30
    assert tick(t, 30) == ("slow-body", 408)


def test_a_body_that_trickles_is_408_after_a_grace():
    t = talk(body_rate=100, body_grace=5 * SECOND, body_idle=0).peer(post(10000))
    assert due(t) == 5
    for _ in range(4):
        assert tick(t, 1) == ""
        t.peer(b"x" * 200)
    assert due(t) == 4
    assert tick(t, 4) == ("slow-rate", 408)


def test_a_reader_that_holds_back_does_not_make_the_peer_slow():
    t = talk(credit=False, window=10).peer(post(100, body=b"x" * 10))
    assert due(t) is None
    t.now += 100 * SECOND
    t.codec.consumed(1, 10)
    assert tick(t, 0) == ""
    assert due(t) > 0
    assert tick(t, 29) == "" or due(t) is not None


def test_a_peer_that_waits_for_100_continue_is_not_slow():
    t = talk().peer(post(3, b"Expect: 100-continue"))
    assert due(t) is None
    assert tick(t, 100) == ""
    t.codec.consumed(1, 0)
    assert tick(t, 0) == "" and due(t) == 5
    assert tick(t, 5) == ("slow-rate", 408)


def test_limits_of_0_mean_never():
    t = talk(header=0, idle=0, body_idle=0, body_rate=0)
    assert due(t) is None
    t.peer(b"GET")
    assert due(t) is None
    t.peer(get()[3:])
    t.codec.head(1, Response(204, []), True)
    assert due(t) is None
    t.peer(post(3))
    assert due(t) is None


def test_an_idle_client_connection_is_closed_after_a_while_and_a_busy_one_never():
    t = kit.Transcript(lambda sink: H1(sink, Limits(), client=True))
    assert due(t) == 75
    t.codec.open_stream()
    t.codec.head(1, Request("GET", "http", b"a", b"/", []), True)
    assert due(t) is None
    t.now += 20 * SECOND
    t.peer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert due(t) == 75
    assert tick(t, 75) == ("idle", 0)
    assert t.codec.finished and not t.codec.reusable


def test_half_a_pipelined_request_before_an_eof_is_no_request():
    t = talk().peer(get(b"/1") + get(b"/2")[:-1]).eof()
    t.codec.head(1, Response(200, []), True)
    t.go_on()
    assert t.rule == "eof-in-head" and len(t.sink.messages) == 1
