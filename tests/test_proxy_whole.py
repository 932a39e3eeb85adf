"""Short answers pass the proxy in one piece, head and body as one word: what must not change by that, and not leak."""

import asyncio
import socket
import struct

import pytest

from fairlead.core.limits import Limits
from fairlead.core.message import Request, Response
from fairlead.wire.h1 import H1
from kit import Recorder
from proxyrig import DEADLINE, rig, until
from test_proxy_ends import run

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Of: %b\r\n\r\nhello"


async def answer(reader, size=5):
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE)
    return head, await asyncio.wait_for(reader.readexactly(size), DEADLINE)


def named(origin):
    """The path that the last request asked for."""
    return origin.heads[-1].split(b" ", 2)[1]


@run
async def test_an_answer_is_the_same_whole_and_byte_by_byte():
    async def script(origin, reader, writer):
        while True:
            await origin.head(reader)
            text = HELLO % b"x"
            if named(origin) == b"/1":
                writer.write(text)
                continue
            for i in range(len(text)):
                writer.write(text[i : i + 1])
                await asyncio.sleep(0)

    async with rig(script) as r:
        reader, writer = await r.connect()
        heard = []
        for number in (1, 2):
            writer.write(GET % number)
            heard.append(await answer(reader))
        assert heard[0] == heard[1] and heard[0][1] == b"hello" and b"\r\ncontent-length: 5\r\n" in heard[0][0]
        assert r.origins[0].connections == 1 and r.upstream.busy == 0
        assert [(ex.response.status, ex.journey.bytes_out) for ex in r.notes.finished] == [(200, 5), (200, 5)]
        for ex in r.notes.finished:
            j = ex.journey
            assert j.leg_sent <= j.leg_head <= j.leg_end <= j.done and j.answered <= j.finished <= j.sent
        writer.close()


@run
async def test_pipelined_requests_get_their_own_answers_in_order():
    async def script(origin, reader, writer):
        while True:
            await origin.head(reader)
            writer.write(HELLO % named(origin))

    async with rig(script) as r:
        reader, writer = await r.connect()
        writer.write(b"".join([GET % number for number in range(9)]))
        for number in range(9):
            head, body = await answer(reader)
            assert b"x-of: /%d\r\n" % number in head and body == b"hello"
        writer.close()


@run
async def test_a_short_answer_before_the_request_is_over_ends_the_leg():
    async def script(origin, reader, writer):
        await origin.head(reader)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await reader.read()

    async with rig(script) as r:
        reader, writer = await r.connect()
        writer.write(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n" + b"x" * 1000)
        head, body = await answer(reader, 2)
        assert head.startswith(b"HTTP/1.1 413") and body == b"no"
        await until(lambda: not r.upstream.all[0].pool.slots and r.notes.finished)
        assert r.upstream.busy == 0 and r.notes.finished[0].error is None
        writer.close()


@pytest.mark.parametrize("junk", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"])
def test_what_follows_an_answer_unasked_reaches_nobody(junk):
    async def script(origin, reader, writer):
        await origin.head(reader)
        writer.write(HELLO % named(origin) + junk)
        await reader.read()

    @run
    async def test():
        async with rig(script) as r:
            reader, writer = await r.connect()
            for number in (1, 2):
                writer.write(GET % number)
                head, body = await answer(reader)
                assert b"x-of: /%d\r\n" % number in head and body == b"hello"
            assert r.origins[0].connections == 2
            await until(lambda: not r.upstream.all[0].pool.slots)
            writer.close()

    test()


@run
async def test_a_client_that_resets_while_it_waits_leaves_nothing_for_the_next():
    go = asyncio.Event()

    async def script(origin, reader, writer):
        while True:
            await origin.head(reader)
            path = named(origin)
            if path == b"/1":
                await go.wait()
            writer.write(HELLO % path)

    async with rig(script) as r:
        reader, writer = await r.connect()
        writer.write(GET % 0)
        await answer(reader)  # so that the leg's connection is a used one
        writer.write(GET % 1)
        await until(lambda: len(r.origins[0].heads) == 2)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        await until(lambda: len(r.notes.finished) == 2)
        go.set()
        assert r.notes.finished[1].response is None and r.upstream.busy == 0
        reader, writer = await r.connect()
        for number in (2, 3):
            writer.write(GET % number)
            head, body = await answer(reader)
            assert b"x-of: /%d\r\n" % number in head and body == b"hello"
        writer.close()


@run
async def test_a_leg_that_dies_behind_its_answer_is_not_asked_again():
    async def script(origin, reader, writer):
        await origin.head(reader)
        writer.write(HELLO % named(origin))
        await writer.drain()

    async with rig(script) as r:
        reader, writer = await r.connect()
        for number in range(4):
            writer.write(GET % number)
            head, body = await answer(reader)
            assert b"x-of: /%d\r\n" % number in head and body == b"hello"
        assert len(r.origins[0].heads) == 4
        writer.close()


# ---- the word itself


def talk(request):
    """A server codec that heard one request."""
    sink = Recorder(True)
    codec = H1(sink, Limits())
    sink.codec = codec
    codec.feed(request, 1)
    return codec


ASKED = {
    "1.1": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "1.0": b"GET / HTTP/1.0\r\n\r\n",
    "close": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "HEAD": b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    "pipelined": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2,
    "with a body": b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
}


def block(codec_fields, length):
    """A Response as an upstream's codec tells it, to be passed on."""
    sink = Recorder(True)
    codec = H1(sink, Limits(), client=True)
    sink.codec = codec
    codec.open_stream()
    codec.head(1, Request("GET", "http", b"a", b"/", []), True)
    found = []
    sink.on_head = lambda codec, stream, message: found.append(message)
    codec.feed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n" % (length, codec_fields), 1)
    found[0].drop = 1 << 40
    return found[0]


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize(
    "make",
    [
        lambda: Response(200, [(b"content-length", b"5"), (b"x", b"y")]),
        lambda: Response(200, [(b"x", b"y")], 5),
        lambda: Response(200, [(b"x", b"y")]),
        lambda: Response(204, []),
        lambda: Response(304, [(b"content-length", b"5")]),
        lambda: block(b"X: y\r\n", 5),
    ],
    ids=["list", "length", "chunked", "204", "304", "block"],
)
def test_said_as_one_or_as_two_the_bytes_are_the_same(asked, make):
    one, two = talk(ASKED[asked]), talk(ASKED[asked])
    if not one.whole(1, make(), b"hello"):
        one.data(1, b"hello", True)
    two.head(1, make(), False)
    two.data(1, b"hello", True)
    assert b"".join(one.take() or ()) == b"".join(two.take() or ())
    assert (one.finished, one.more, one.wants_read, one.hearing, one.saying) == (
        two.finished, two.more, two.wants_read, two.hearing, two.saying,
    )  # fmt: skip


@pytest.mark.parametrize("make", [lambda: Response(200, [(b"content-length", b"4")]), lambda: block(b"", 4)])
def test_a_body_that_is_not_as_long_as_promised_is_not_said_with_its_head(make):
    codec = talk(ASKED["1.1"])
    assert not codec.whole(1, make(), b"hello")
    assert b"".join(codec.take()).endswith(b"\r\n\r\n")
