"""What a client accepts and refuses of an upstream: as strict as for requests, and a 502 from side upstream."""

import pytest

import kit
from fairlead.core.limits import Limits
from fairlead.core.message import Request
from fairlead.wire.h1 import H1

OK = b"HTTP/1.1 200 OK\r\n"
TE = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LIMITS = Limits(line=2000, head=6000, headers=20, name=40, chunk_line=100, chunk_ext=150, trailer=200, informational=3)


def client(sink):
    return H1(sink, LIMITS, client=True)


def asked(split="whole", method="GET", headers=(), make=client):
    """A client that has sent one request and waits for its answer."""
    t = kit.Transcript(make, split)
    assert t.codec.open_stream() == 1
    t.codec.head(1, Request(method, "http", b"a", b"b:1" if method == "CONNECT" else b"/", list(headers)), True)
    t.sent()
    return t


REFUSED = {
    "length and chunked": (OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "te-and-cl"),
    "the same length twice": (OK + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "two-cl"),
    "two lengths": (OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", "two-cl"),
    "a list of lengths": (OK + b"Content-Length: 3, 3\r\n\r\nabc", "bad-cl"),
    "a signed length": (OK + b"Content-Length: +3\r\n\r\nabc", "bad-cl"),
    "gzip, chunked": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "te-not-chunked"),
    "identity": (OK + b"Transfer-Encoding: identity\r\n\r\n", "te-not-chunked"),
    "chunked twice": (OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "two-te"),
    "chunked in 1.0": (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "te-in-1.0"),
    "chunked in a 204": (b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", "te-without-body"),
    "chunked in a 100": (b"HTTP/1.1 100 Go\r\nTransfer-Encoding: chunked\r\n\r\n", "te-without-body"),
    "a length in a 204": (b"HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n", "cl-without-body"),
    "a length in a 103": (b"HTTP/1.1 103 Hints\r\nContent-Length: 3\r\n\r\n", "cl-without-body"),
    "a space before the colon": (OK + b"X : a\r\n\r\n", "space-before-colon"),
    "obs-fold": (OK + b"X: a\r\n b\r\n\r\n", "obs-fold"),
    "a field that begins with a space": (OK + b" X: a\r\n\r\n", "obs-fold"),
    "bare LF": (b"HTTP/1.1 200 OK\nX: a\n\n", "bare-lf"),
    "bare LF in the head": (OK + b"X: a\nY: b\r\n\r\n", "bare-lf"),
    "bare CR": (OK + b"X: a\rb\r\n\r\n", "bare-cr"),
    "NUL": (OK + b"X: a\0b\r\n\r\n", "bad-field-value"),
    "no colon": (OK + b"Xfoo\r\n\r\n", "bad-field-name"),
    "an empty line first": (b"\r\n" + OK + b"\r\n", "bad-version"),
    "HTTP/2.0": (b"HTTP/2.0 200 OK\r\n\r\n", "version"),
    "HTTP/1.2": (b"HTTP/1.2 200 OK\r\n\r\n", "version"),
    "no version": (b"200 OK\r\n\r\n", "bad-version"),
    "ICY": (b"ICY 200 OK\r\n\r\n", "bad-version"),
    "an HTTP/0.9 page": (b"<html>", "bad-version"),
    "a status of two digits": (b"HTTP/1.1 20 OK\r\n\r\n", "bad-status-line"),
    "a status of four digits": (b"HTTP/1.1 2000 OK\r\n\r\n", "bad-status-line"),
    "a status that is no number": (b"HTTP/1.1 2x0 OK\r\n\r\n", "bad-status-line"),
    "a status below 100": (b"HTTP/1.1 099 OK\r\n\r\n", "bad-status-line"),
    "two spaces": (b"HTTP/1.1  200 OK\r\n\r\n", "bad-status-line"),
    "a tab": (b"HTTP/1.1\t200 OK\r\n\r\n", "bad-status-line"),
    "a control byte in the reason": (b"HTTP/1.1 200 O\x01K\r\n\r\n", "bad-status-line"),
    "a bare CR in the reason": (b"HTTP/1.1 200 O\rK\r\n\r\n", "bare-cr"),
    "a 101 nobody asked for": (b"HTTP/1.1 101 Go\r\nUpgrade: x\r\n\r\n", "unasked-upgrade"),
    "an interim answer in 1.0": (b"HTTP/1.0 100 Go\r\n\r\n", "interim-in-1.0"),
    "an endless row of 1xx": (b"HTTP/1.1 100 Go\r\n\r\n" * 4, "too-many-interim"),
    "a size ended by LF": (TE + b"3\nabc\r\n0\r\n\r\n", "bare-lf"),
    "no CRLF behind chunk data": (TE + b"3\r\nabcXX0\r\n\r\n", "chunk-end"),
    "an overlong size": (TE + b"10000000000000003\r\nabc\r\n0\r\n\r\n", "bad-chunk-size"),
    "a length in the trailer": (TE + b"0\r\nContent-Length: 1\r\n\r\n", "bad-trailer"),
    "a status line that is too long": (b"HTTP/1.1 200 " + b"a" * 2001 + b"\r\n\r\n", "line-too-long"),
    "a field that is too long": (OK + b"X: " + b"a" * 2001 + b"\r\n\r\n", "field-too-long"),
    "too many fields": (OK + b"X: a\r\n" * 21 + b"\r\n", "too-many-fields"),
}

ACCEPTED = {
    "length": (OK + b"Content-Length: 3\r\n\r\nabc", 200, b"abc", None),
    "length 0": (OK + b"Content-Length: 0\r\n\r\n", 200, b"", None),
    "chunked": (TE + b"3\r\nabc\r\n0\r\n\r\n", 200, b"abc", None),
    "a trailer": (TE + b"3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n", 200, b"abc", [(b"x-t", b"1")]),
    "no reason": (b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", 200, b"", None),
    "no reason and no space": (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, b"", None),
    "an odd reason": (b"HTTP/1.1 200 \xe9 b\tc\r\nContent-Length: 0\r\n\r\n", 200, b"", None),
    "204": (b"HTTP/1.1 204 No\r\n\r\n", 204, b"", None),
    "204 with length 0": (b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", 204, b"", None),
    "304 with a length": (b"HTTP/1.1 304 Same\r\nContent-Length: 7\r\n\r\n", 304, b"", None),
    "304 with chunked": (b"HTTP/1.1 304 Same\r\nTransfer-Encoding: chunked\r\n\r\n", 304, b"", None),
    "a status without a meaning": (b"HTTP/1.1 799 Huh\r\nContent-Length: 0\r\n\r\n", 799, b"", None),
    "1.0 with keep-alive": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
        200,
        b"abc",
        None,
    ),
    "two Hosts mean nothing here": (OK + b"Host: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n", 200, b"", None),
}


@pytest.mark.parametrize("split", kit.SPLITS)
@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_response_is_refused_by_the_name_of_its_rule(name, split):
    data, rule = REFUSED[name]
    t = asked(split).peer(data)
    assert t.rule == rule
    assert (t.error.status, t.error.side, t.error.retry) == (502, "upstream", "never")
    assert not t.codec.reusable


@pytest.mark.parametrize("split", kit.SPLITS)
@pytest.mark.parametrize("name", ACCEPTED)
def test_a_good_response_is_heard_and_the_connection_used_again(name, split):
    data, status, body, trailers = ACCEPTED[name]
    t = asked(split).peer(data)
    assert t.error is None
    middle = [("body", 1, body)] if body else []
    assert t.heard() == [("head", 1, status), *middle, ("end", 1, trailers)]
    assert t.codec.reusable
    assert t.codec.open_stream() == 2
    assert not t.codec.reusable


@pytest.mark.parametrize("name", ACCEPTED)
def test_bytes_behind_a_response_are_never_the_next_answer(name):
    data, _status, _body, trailers = ACCEPTED[name]
    t = asked().peer(data + OK + b"Content-Length: 4\r\n\r\nevil")
    assert t.heard()[-1] == ("end", 1, trailers)
    assert not t.codec.reusable and t.codec.finished
    assert t.codec.open_stream() == 0


@pytest.mark.parametrize("name", ACCEPTED)
def test_bytes_while_idle_end_the_connection(name):
    t = asked().peer(ACCEPTED[name][0])
    assert t.codec.reusable
    t.peer(OK + b"Content-Length: 0\r\n\r\n")
    assert (t.rule, t.error.status) == ("unasked-bytes", 0)
    assert not t.codec.reusable and t.codec.finished


def test_bytes_before_the_first_request_end_the_connection():
    t = kit.Transcript(client).peer(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert (t.rule, t.codec.reusable, t.codec.open_stream()) == ("unasked-bytes", False, 0)


@pytest.mark.parametrize("split", kit.SPLITS)
@pytest.mark.parametrize(
    "head",
    [OK + b"\r\n", OK + b"Connection: close\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"],
)
def test_a_body_may_last_until_the_connection_closes(head, split):
    t = asked(split).peer(head + b"abc\r\n\r\ndef")
    assert t.heard() == [("head", 1, 200), ("body", 1, b"abc\r\n\r\ndef")]
    t.eof()
    assert t.error is None
    assert t.heard() == [("end", 1, None)]
    assert t.codec.finished and not t.codec.reusable


@pytest.mark.parametrize(
    "head",
    [OK + b"Connection: close\r\nContent-Length: 3\r\n\r\nabc", b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc"],
)
def test_a_connection_that_closes_is_not_used_again(head):
    t = asked().peer(head)
    assert t.heard()[-1] == ("end", 1, None)
    assert not t.codec.reusable and t.codec.finished


@pytest.mark.parametrize("split", kit.SPLITS)
def test_head_has_no_body_whatever_it_says(split):
    t = asked(split, "HEAD").peer(OK + b"Content-Length: 300\r\n\r\n")
    assert t.heard() == [("head", 1, 200), ("end", 1, None)]
    assert t.codec.reusable
    t = asked(split, "HEAD").peer(TE)
    assert t.heard() == [("head", 1, 200), ("end", 1, None)]


@pytest.mark.parametrize("split", kit.SPLITS)
def test_interim_answers_come_before_the_final_one(split):
    t = asked(split).peer(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        + OK
        + b"Content-Length: 2\r\n\r\nhi"
    )
    assert t.heard() == [("inform", 1, 100), ("inform", 1, 103), ("head", 1, 200), ("body", 1, b"hi"), ("end", 1, None)]
    assert t.codec.reusable


@pytest.mark.parametrize("split", kit.SPLITS)
def test_an_upgrade_that_was_asked_for_opens_a_tunnel(split):
    t = asked(split, headers=[(b"connection", b"Upgrade"), (b"upgrade", b"websocket")])
    t.peer(b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\x81\x00raw")
    assert t.codec.tunnel
    assert t.heard() == [("head", 1, 101), ("body", 1, b"\x81\x00raw")]
    t.codec.data(1, b"\0\r\n", False)
    assert t.sent() == b"\0\r\n"
    t.eof()
    assert t.heard() == [("end", 1, None)]


@pytest.mark.parametrize("split", kit.SPLITS)
def test_connect_opens_a_tunnel(split):
    t = asked(split, "CONNECT").peer(OK + b"Content-Length: 3\r\n\r\nabcdef")
    assert t.codec.tunnel
    assert t.heard() == [("head", 1, 200), ("body", 1, b"abcdef")]


def test_connect_that_fails_is_an_answer_like_any_other():
    t = asked(method="CONNECT").peer(b"HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\nabc")
    assert not t.codec.tunnel and t.codec.reusable
    assert t.heard() == [("head", 1, 403), ("body", 1, b"abc"), ("end", 1, None)]


def test_eof_without_an_answer_may_be_tried_again():
    t = asked().eof()
    assert (t.rule, t.error.status, t.error.side, t.error.retry) == ("no-answer", 502, "upstream", "fresh")


@pytest.mark.parametrize("part", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Go\r\n\r\n"])
def test_eof_inside_a_head_may_not(part):
    t = asked().peer(part).eof()
    assert (t.rule, t.error.status, t.error.retry) == ("eof-in-head", 502, "never")


@pytest.mark.parametrize("data", [OK + b"Content-Length: 3\r\n\r\nab", TE + b"3\r\nabc\r\n", TE + b"3\r\nabc\r\n0\r\n"])
def test_eof_inside_a_body_is_an_error(data):
    t = asked().peer(data).eof()
    assert (t.rule, t.error.status, t.error.side, t.error.retry) == ("eof-in-body", 502, "upstream", "never")


def test_eof_while_idle_just_ends_it():
    t = asked().peer(OK + b"Content-Length: 0\r\n\r\n")
    t.eof()
    assert t.error is None and t.codec.finished and not t.codec.reusable


def test_an_answer_before_the_request_is_whole_is_heard_and_the_rest_may_be_said():
    t = kit.Transcript(client)
    t.codec.open_stream()
    t.codec.head(1, Request("POST", "http", b"a", b"/", [], length=4), False)
    t.peer(OK + b"Content-Length: 0\r\n\r\n")
    assert t.heard() == [("head", 1, 200), ("end", 1, None)]
    assert not t.codec.reusable and t.codec.open_stream() == 0
    t.codec.data(1, b"abcd", True)
    assert t.codec.reusable


def test_a_slow_reader_stops_reading():
    t = asked(make=lambda sink: H1(sink, Limits(window=10), client=True))
    t.sink.credit = False
    t.peer(OK + b"Content-Length: 100\r\n\r\n" + b"x" * 9)
    assert t.codec.wants_read
    t.peer(b"x")
    assert not t.codec.wants_read
    t.codec.consumed(1, 1)
    assert t.codec.wants_read
