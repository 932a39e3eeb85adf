"""Heads that say the same fields again are not read again: they must mean the same as on a connection of their own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kit
from fairlead.core.errors import WireError
from fairlead.core.limits import Limits
from fairlead.core.message import Response
from fairlead.serve.heads import ANSWER_DROPPED, DROPPED
from fairlead.wire.h1 import H1
from fairlead.wire.h1head import REMEMBERED, Head

LINES = [b"GET / HTTP/1.1", b"GET /other?a=1 HTTP/1.1", b"HEAD / HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET http://b/ HTTP/1.1",
         b"GET / HTTP/1.0", b"CONNECT b:1 HTTP/1.1", b"GET /\x01 HTTP/1.1", b"POST / HTTP/1.1"]  # fmt: skip
ASKED = [b"Host: a", b"host:a\r\nX-One:   1  ", b"Host: a\r\nConnection: keep-alive", b"Host: a\r\nConnection: close",
         b"Host: a\r\nConnection: keep-alive, x-one\r\nX-One: 1", b"Host: a\r\nContent-Length: 0", b"Accept: */*", b"Host: a/b",
         b"Host: a\r\nHost: a", b"Host: a\r\nUpgrade: w\r\nConnection: upgrade", b"Host: a\r\nExpect: 100-continue",
         b"Host: a\r\nContent-Length: x", b"Host: a\r\nTransfer-Encoding: chunked", b"Host: a\r\n" + b"X: 1\r\n" * 50 + b"Y: 2",
         b"Host: a\r\nX-Long: " + b"x" * REMEMBERED]  # fmt: skip
STATUS = [b"HTTP/1.1 200 OK", b"HTTP/1.1 404 Gone", b"HTTP/1.1 204 No", b"HTTP/1.0 200 OK", b"HTTP/1.1 304 Same"]
ANSWERED = [b"Content-Length: 0", b"Content-Length: 3\r\nServer: s", b"content-length:0\r\nConnection: keep-alive",
            b"Content-Length: 0\r\nConnection: close", b"Transfer-Encoding: chunked", b"Content-Length: 0\r\nContent-Length: 0",
            b"X-One: 1", b"Connection: x-one\r\nContent-Length: 0"]  # fmt: skip


def read(head, line, fields):
    """What a parser makes of one head: everything that messages and codecs take from it, or the rule that was broken."""
    data = line + b"\r\n" + fields + b"\r\n\r\n"
    head.start()
    try:
        at = head.read(data, 0, len(data))
        message = head.response(False) if head.client else head.request("http")
    except WireError as error:
        return error.rule
    said = head.whole, at, head.size, head.close, head.keep, head.hosts, head.length, head.chunked, head.upgrading, head.expect
    known = message.block.known if message.block is not None else -1
    own = (message.status, message.reason) if head.client else (message.method, message.target, message.authority, message.expect)
    return said, known, own, message.version, message.length, message.upgrade, message.get(b"x-one"), list(message.headers)


TALKS = [(False, LINES, ASKED), (True, STATUS, ANSWERED)]


@pytest.mark.parametrize(("client", "lines", "fields"), TALKS, ids=["asked", "answered"])
@given(data=st.data())
def test_heads_mean_the_same_after_others_as_alone(client, lines, fields, data):
    limits = Limits(head=2500, line=2000)
    head = Head(limits, client)
    pairs = st.tuples(st.sampled_from(lines), st.sampled_from(fields))
    talk = data.draw(st.lists(pairs, max_size=8))
    for line, own in [pair for pair in talk for _ in range(data.draw(st.integers(1, 3)))]:
        heard = read(head, line, own)
        assert heard == read(Head(limits, client), line, own)
        if isinstance(heard, str):  # a connection ends with its first error
            head = Head(limits, client)


def test_the_same_fields_are_the_same_block():
    head = Head(Limits(), False)
    blocks = []
    for line in (b"GET / HTTP/1.1", b"GET /1 HTTP/1.1", b"GET /2 HTTP/1.1", b"DELETE /3 HTTP/1.1"):
        assert read(head, line, b"Host: a\r\nAccept: b")
        blocks.append(head.block)
    assert blocks[0] is not blocks[1]  # a connection that has asked once may never ask again
    assert blocks[1] is blocks[2] is blocks[3]
    read(head, b"GET / HTTP/1.1", b"Host: a\r\nAccept: c")
    assert head.block is not blocks[0]


def test_what_is_remembered_is_bounded_and_has_no_body():
    head = Head(Limits(), False)
    for _ in range(3):
        read(head, b"GET / HTTP/1.1", b"Host: a\r\nX: " + b"x" * REMEMBERED)
        assert head.last is None
    data = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000
    head.start()
    head.read(data, 0, len(data))
    assert head.whole and head.last is None


def test_a_head_that_comes_in_pieces_is_read_again():
    head = Head(Limits(), False)
    for _ in range(3):
        first = read(head, b"GET / HTTP/1.1", b"Host: a\r\nX-One: 1")
    assert head.last is head.block
    data = b"GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\r\n\r\n"
    for cut in range(1, len(data)):
        head.start()
        at = head.read(data[:cut], 0, cut)
        assert not head.whole
        head.read(data[at:], 0, len(data) - at)
        assert head.whole and head.request("http").headers == first[-1]


def test_a_limit_counts_the_whole_head_again():
    t = kit.Transcript(lambda sink: H1(sink, Limits(head=60)))
    t.sink.on_head = lambda codec, stream, message: codec.head(stream, Response(204, []), True)
    for _ in range(3):
        t.peer(b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n")
    assert t.error is None and len(t.sink.messages) == 3
    t.peer(b"GET /%b HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n" % (b"x" * 40))
    assert t.rule == "head-too-long"


@pytest.mark.parametrize("drop", [DROPPED, ANSWER_DROPPED])
def test_heads_are_passed_on_as_the_same_bytes(drop):
    first = b"Host: a\r\nConnection: keep-alive\r\nACCEPT:x\r\nX-Forwarded-For: 1.2.3.4\r\nY:"
    for before in (b"host: up\r\n", b"host: other\r\n", b"host: up\r\n"):
        again, alone = Head(Limits(), False), []
        for _ in range(4):
            data = b"GET / HTTP/1.1\r\n" + first + b"\r\n\r\n"
            again.start()
            again.read(data, 0, len(data))
            request = again.request("http")
            request.drop, request.before, request.after, request.tail = drop, before, b"x-id: ", b"id"
            leg = H1(kit.Recorder(), Limits(), True)
            leg.head(leg.open_stream(), request, True)
            alone.append(b"".join(leg.take()))
        assert again.block.again and len(set(alone)) == 1
        assert alone[0].startswith(b"GET / HTTP/1.1\r\n" + before) and alone[0].endswith(b"id\r\n\r\n")
        assert b"\r\naccept: x\r\n" in alone[0]
