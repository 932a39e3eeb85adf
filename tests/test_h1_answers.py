"""What a server says: framing decided by us, headers that cannot break the head, bodies held to their word."""

import pytest

import kit
from fairlead.core.errors import AppError
from fairlead.core.limits import Limits
from fairlead.core.message import Common, Request, Response
from fairlead.wire.h1 import H1

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"
OLD_KEEP = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
TYPE = (b"content-type", b"text/plain")


def server(sink):
    return H1(sink, Limits())


def asked(request=GET, make=server):
    t = kit.Transcript(make).peer(request)
    assert t.error is None
    return t


def answer(request, headers, *body, status=200, end=True):
    """The bytes of an answer: head, then the pieces of a body."""
    t = asked(request)
    t.codec.head(1, Response(status, list(headers)), not body)
    for number, chunk in enumerate(body, 1):
        t.codec.data(1, chunk, number == len(body) and end)
    return t.sent(), t.codec


def test_a_body_of_known_length():
    sent, codec = answer(GET, [TYPE, (b"Content-Length", b"5")], b"hel", b"lo")
    assert sent == b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"
    assert not codec.finished


def test_a_body_of_unknown_length_is_chunked():
    sent, _codec = answer(GET, [TYPE], b"hello", b"", b" world, how")
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
    assert sent == head + b"5\r\nhello\r\nb\r\n world, how\r\n0\r\n\r\n"


def test_an_empty_last_piece_ends_a_chunked_body():
    assert answer(GET, [], b"a", b"")[0].endswith(b"\r\n\r\n1\r\na\r\n0\r\n\r\n")


def test_to_1_0_a_body_of_unknown_length_ends_with_the_connection():
    sent, codec = answer(OLD_KEEP, [], b"abc")
    assert sent == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"
    assert codec.finished


def test_to_1_0_a_connection_is_kept_only_when_asked():
    sent, codec = answer(OLD, [(b"content-length", b"3")], b"abc")
    assert b"connection: close\r\n" in sent and codec.finished
    sent, codec = answer(OLD_KEEP, [(b"content-length", b"3")], b"abc")
    assert b"connection: keep-alive\r\n" in sent and not codec.finished


def test_no_body_is_length_0():
    assert answer(GET, [])[0] == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize("status", [204, 304])
def test_204_and_304_have_no_body_and_no_framing(status):
    sent, codec = answer(GET, [], b"oops", status=status)
    assert sent.endswith(b"\r\n\r\n") and b"length" not in sent and b"chunked" not in sent
    assert not codec.finished


def test_a_204_loses_its_length_and_a_304_keeps_it():
    assert b"length" not in answer(GET, [(b"content-length", b"0")], status=204)[0]
    assert b"content-length: 7\r\n" in answer(GET, [(b"content-length", b"7")], status=304)[0]


def test_head_gets_the_head_only():
    sent, codec = answer(HEAD, [(b"content-length", b"5")], b"hello")
    assert sent == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
    assert not codec.finished
    assert answer(HEAD, [(b"content-length", b"5")])[0] == sent
    assert answer(HEAD, [])[0] == b"HTTP/1.1 200 OK\r\n\r\n"
    assert answer(HEAD, [], b"hello")[0] == b"HTTP/1.1 200 OK\r\n\r\n"


def test_connection_close_is_said_when_the_peer_wants_it():
    sent, codec = answer(CLOSE, [])
    assert b"connection: close\r\n" in sent and codec.finished


def test_connection_close_of_a_handler_is_honoured():
    sent, codec = answer(GET, [(b"Connection", b"Close")])
    assert b"connection: close\r\n" in sent and sent.lower().count(b"connection") == 1
    assert codec.finished


def test_hop_by_hop_fields_of_a_handler_are_dropped():
    sent, _codec = answer(
        GET,
        [(b"Transfer-Encoding", b"gzip"), (b"Connection", b"x-a"), (b"Keep-Alive", b"1"), (b"Proxy-Connection", b"x")],
        b"abc",
    )
    assert sent == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"


def test_date_and_server_are_added_unless_given():
    common = Common(b"srv")
    common.set(b"today")
    make = lambda sink: H1(sink, Limits(), False, common)  # noqa: E731
    t = asked(GET, make)
    t.codec.head(1, Response(200, []), True)
    assert t.sent() == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ndate: today\r\nserver: srv\r\n\r\n"
    t = asked(GET, make)
    t.codec.head(1, Response(200, [(b"Date", b"x"), (b"Server", b"y")]), True)
    assert t.sent() == b"HTTP/1.1 200 OK\r\nDate: x\r\nServer: y\r\ncontent-length: 0\r\n\r\n"


def test_a_reason_of_ones_own_and_a_status_without_one():
    t = asked()
    t.codec.head(1, Response(200, [], reason=b"Fine"), True)
    assert t.sent().startswith(b"HTTP/1.1 200 Fine\r\n")
    assert answer(GET, [], status=599)[0].startswith(b"HTTP/1.1 599 \r\n")


@pytest.mark.parametrize(
    "field",
    [
        (b"x", b"a\r\nset-cookie: b"),
        (b"x", b"a\nb"),
        (b"x", b"a\rb"),
        (b"x", b"a\0b"),
        (b"x", b"\x7f"),
        (b"x\r\ny", b"a"),
        (b"x y", b"a"),
        (b"x:", b"a"),
        (b"", b"a"),
        (b"x\xe9", b"a"),
        (b"content-length", b"3\r\n"),
        (b"connection", b"close\r\nx: y"),
        (b"content-length", b"abc"),
        (b"content-length", b"-1"),
        (b"content-length", b""),
    ],
)
def test_a_field_that_would_break_the_head_raises_before_anything_is_written(field):
    t = asked()
    with pytest.raises(AppError):
        t.codec.head(1, Response(200, [TYPE, field]), True)
    assert t.sent() == b""
    t.codec.head(1, Response(500, []), True)
    assert t.sent().startswith(b"HTTP/1.1 500")


def test_fields_that_are_not_bytes_raise():
    for field in (("x", b"a"), (b"x", "a"), (b"x", None)):
        with pytest.raises((TypeError, AppError, AttributeError)):
            asked().codec.head(1, Response(200, [field]), True)


def test_two_lengths_that_differ_raise_and_equal_ones_are_one():
    with pytest.raises(AppError):
        answer(GET, [(b"content-length", b"1"), (b"content-length", b"2")], b"a")
    assert answer(GET, [(b"content-length", b"1")] * 2, b"a")[0].count(b"content-length") == 1


def test_a_reason_with_a_line_break_raises():
    with pytest.raises(AppError):
        asked().codec.head(1, Response(200, [], reason=b"a\r\nb"), True)


@pytest.mark.parametrize("status", [0, 99, 100, 103, 199, 1000, -1])
def test_a_status_that_is_not_final_raises(status):
    with pytest.raises(AppError):
        asked().codec.head(1, Response(status, []), True)


def test_a_length_without_a_body_raises_before_anything_is_written():
    t = asked()
    with pytest.raises(AppError):
        t.codec.head(1, Response(200, [(b"content-length", b"3")]), True)
    assert t.sent() == b""


def test_a_body_longer_than_its_length_never_leaves():
    t = asked()
    t.codec.head(1, Response(200, [(b"content-length", b"3")]), False)
    with pytest.raises(AppError):
        t.codec.data(1, b"abcd", True)
    assert b"abcd" not in t.sent()
    assert t.codec.finished


def test_a_body_shorter_than_its_length_ends_the_connection():
    t = asked()
    t.codec.head(1, Response(200, [(b"content-length", b"3")]), False)
    with pytest.raises(AppError):
        t.codec.data(1, b"ab", True)
    assert t.codec.finished


def test_trailers_go_behind_a_chunked_body():
    t = asked()
    t.codec.head(1, Response(200, []), False)
    t.codec.data(1, b"abc", False)
    t.codec.end(1, [(b"x-sum", b"1"), (b"content-length", b"9"), (b"grpc-status", b"0")])
    assert t.sent().endswith(b"\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\ngrpc-status: 0\r\n\r\n")


def test_trailers_that_would_break_the_message_raise():
    t = asked()
    t.codec.head(1, Response(200, []), False)
    with pytest.raises(AppError):
        t.codec.end(1, [(b"x", b"a\r\n\r\nHTTP/1.1 200 OK")])


def test_trailers_are_dropped_where_they_cannot_be_said():
    t = asked()
    t.codec.head(1, Response(200, [(b"content-length", b"1")]), False)
    t.codec.data(1, b"a", False)
    t.codec.end(1, [(b"x", b"y")])
    assert t.sent().endswith(b"\r\n\r\na")


def test_a_small_answer_leaves_as_one_piece_and_a_large_body_is_not_copied():
    t = asked()
    t.codec.head(1, Response(200, [(b"content-length", b"5")]), False)
    t.codec.data(1, b"hello", True)
    assert len(t.codec.take()) == 1
    assert t.codec.take() is None
    body = b"x" * 20000
    t = asked()
    t.codec.head(1, Response(200, [(b"content-length", b"20000")]), False)
    t.codec.data(1, body, True)
    _head, piece = t.codec.take()
    assert piece is body


def test_an_interim_answer_comes_before_the_final_one_and_never_to_1_0():
    t = asked()
    t.codec.inform(1, 103, [(b"link", b"</a>")])
    t.codec.head(1, Response(204, []), True)
    t.codec.inform(1, 103, [])
    assert t.sent() == b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
    t = asked(OLD)
    t.codec.inform(1, 103, [])
    assert t.sent() == b""


def test_words_for_another_stream_are_ignored():
    t = asked()
    t.codec.head(2, Response(200, []), True)
    t.codec.data(7, b"x", True)
    t.codec.end(0, None)
    t.codec.reset(9, None, "both")
    assert t.sent() == b"" and not t.codec.finished
    t.codec.head(1, Response(204, []), True)
    t.sent()
    t.codec.head(1, Response(204, []), True)
    t.codec.data(1, b"x", True)
    assert t.sent() == b""


def test_a_writer_waits_when_much_is_unsent_and_hears_when_it_may_go_on():
    t = asked(make=lambda sink: H1(sink, Limits(outgoing=10)))
    t.codec.head(1, Response(200, [(b"content-length", b"300")]), False)
    assert t.codec.data(1, b"x" * 100, False) is False
    assert t.codec.data(1, b"x" * 100, False) is False
    assert not t.codec.more
    t.sent()
    assert t.codec.more
    t.heard()
    t.feed(b"")
    assert t.heard() == [("room", 1)]
    assert t.codec.data(1, b"x" * 100, True) is True


def test_drained_also_lets_a_writer_go_on():
    t = asked(make=lambda sink: H1(sink, Limits(outgoing=10)))
    t.codec.head(1, Response(200, []), False)
    t.codec.data(1, b"x" * 100, False)
    t.sent()
    t.heard()
    t.codec.drained(t.now)
    t.codec.drained(t.now)
    assert t.heard() == [("room", 1)]


class TestRequestsWeSend:
    def said(self, request, end=True, *body):
        t = kit.Transcript(lambda sink: H1(sink, Limits(), client=True))
        assert t.codec.open_stream() == 1
        t.codec.head(1, request, end)
        for number, chunk in enumerate(body, 1):
            t.codec.data(1, chunk, number == len(body))
        return t.sent()

    def test_host_comes_first(self):
        sent = self.said(Request("GET", "http", b"a:1", b"/x?y", [(b"accept", b"*/*")]))
        assert sent == b"GET /x?y HTTP/1.1\r\nhost: a:1\r\naccept: */*\r\n\r\n"

    def test_a_given_host_stays_where_it_is(self):
        sent = self.said(Request("GET", "http", b"a", b"/", [(b"accept", b"*/*"), (b"host", b"b")]))
        assert sent == b"GET / HTTP/1.1\r\naccept: */*\r\nhost: b\r\n\r\n"

    def test_bodies_by_length_and_in_chunks(self):
        sent = self.said(Request("POST", "http", b"a", b"/", [], length=3), False, b"a", b"bc")
        assert sent == b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"
        sent = self.said(Request("POST", "http", b"a", b"/", [], length=-1), False, b"a", b"bc")
        assert sent == b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"

    def test_a_post_without_a_body_says_so_and_a_get_does_not(self):
        assert b"content-length: 0\r\n" in self.said(Request("POST", "http", b"a", b"/", []))
        assert b"content-length" not in self.said(Request("GET", "http", b"a", b"/", []))

    def test_hop_by_hop_fields_are_ours(self):
        fields = [(b"connection", b"x"), (b"x", b"1"), (b"keep-alive", b"2"), (b"transfer-encoding", b"gzip")]
        sent = self.said(Request("GET", "http", b"a", b"/", fields))
        assert sent == b"GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n\r\n"

    def test_upgrade_goes_through(self):
        sent = self.said(Request("GET", "http", b"a", b"/", [(b"Upgrade", b"websocket"), (b"connection", b"Upgrade")]))
        assert sent == b"GET / HTTP/1.1\r\nhost: a\r\nUpgrade: websocket\r\nconnection: upgrade\r\n\r\n"

    @pytest.mark.parametrize(
        "request_",
        [
            Request("GET", "http", b"a", b"/ HTTP/1.1\r\nx: y", []),
            Request("GET", "http", b"a", b"/a b", []),
            Request("GET", "http", b"a", b"", []),
            Request("G ET", "http", b"a", b"/", []),
            Request("", "http", b"a", b"/", []),
            Request("GET", "http", b"a\r\nx: y", b"/", []),
            Request("GET", "http", b"a", b"/", [(b"x", b"a\nb")]),
            Request("GET", "http", b"a", b"/", [(b"x y", b"a")]),
        ],
    )
    def test_what_would_break_the_head_raises(self, request_):
        t = kit.Transcript(lambda sink: H1(sink, Limits(), client=True))
        t.codec.open_stream()
        with pytest.raises(AppError):
            t.codec.head(1, request_, True)
        assert t.sent() == b""

    def test_a_body_that_lies_about_its_length_ends_the_connection(self):
        for chunk in (b"ab", b"abcd"):
            t = kit.Transcript(lambda sink: H1(sink, Limits(), client=True))
            t.codec.open_stream()
            t.codec.head(1, Request("POST", "http", b"a", b"/", [], length=3), False)
            with pytest.raises(AppError):
                t.codec.data(1, chunk, True)
            assert t.codec.finished and not t.codec.reusable
