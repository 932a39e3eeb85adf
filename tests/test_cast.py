"""What many hear alike: framed once, and the same bytes on the wire as each of them said alone; who takes none of it waits."""

import asyncio
import socket
import zlib

import pytest

import kit
from fairlead.core.codec import Cast
from fairlead.core.exchange import Answer
from fairlead.core.handler import Handler, Service
from fairlead.core.limits import Limits
from fairlead.core.message import Response
from fairlead.net.listen import Listener
from fairlead.net.poll import Poller
from fairlead.wire.h1 import H1
from fairlead.wire.wsdeflate import Deflate, Settings
from wskit import Talk

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def asked(request=GET):
    t = kit.Transcript(lambda sink: H1(sink, Limits())).peer(request)
    assert t.error is None
    return t


def test_a_cast_in_a_chunked_body_is_the_chunk_that_its_data_would_be():
    cast = Cast(b"data: 1\n\n")
    ones = [asked(), asked()]
    for t in ones:
        t.codec.head(1, Response(200, []), False)
        assert t.codec.cast(1, cast) is None  # the head waits to be sent, and must leave first
        t.sent()
    first, second = (t.codec.cast(1, cast) for t in ones)
    assert first is second  # made once
    ones[0].codec.data(1, cast.data, False)
    assert ones[0].sent() == first == b"9\r\ndata: 1\n\n\r\n"


def test_a_cast_in_a_body_that_ends_with_the_connection_is_its_data():
    t = asked(b"GET / HTTP/1.0\r\n\r\n")
    t.codec.head(1, Response(200, []), False)
    t.sent()
    assert t.codec.cast(1, Cast(b"x")) == b"x"


def test_a_body_of_known_length_and_one_that_is_over_take_no_cast():
    t = asked()
    t.codec.head(1, Response(200, [(b"content-length", b"3")]), False)
    t.sent()
    assert t.codec.cast(1, Cast(b"abc")) is None
    t.codec.data(1, b"abc", True)
    t.sent()
    assert t.codec.cast(1, Cast(b"abc")) is None


def test_a_message_to_many_sockets_is_framed_once():
    cast = Cast("a message, ü".encode())
    one, other, alone = Talk(), Talk(), Talk()
    assert one.ws.cast(cast, 7) is other.ws.cast(cast, 7)
    alone.ws.text("a message, ü")
    assert alone.ws.take() == [cast.frame.data]
    assert one.ws.messages_out == 1


def test_a_message_to_many_sockets_is_deflated_once_for_each_window():
    text = b"again and again " * 40
    cast = Cast(text)
    talks = [Talk(deflate=Deflate(Settings(), (False, bits), (False, 15))) for bits in (12, 12, 9)]
    frames = [talk.ws.cast(cast, 7) for talk in talks]
    assert frames[0] is frames[1] is not frames[2]
    for frame in frames:
        data = frame.data
        start = 4 if data[1] == 126 else 2
        assert data[0] == 0xC1 and zlib.decompressobj(-15).decompress(data[start:] + b"\x00\x00\xff\xff") == text


def test_a_socket_that_remembers_or_has_something_to_say_frames_for_itself():
    cast = Cast(b"x" * 500)
    assert Talk(deflate=Deflate(Settings(takeover=True), (True, 12), (True, 15))).ws.cast(cast, 7) is None
    busy = Talk()
    busy.ws.ping(b"")
    assert busy.ws.cast(cast, 7) is None
    closing = Talk()
    closing.ws.close(1000, "")
    closing.ws.take()
    assert closing.ws.cast(cast, 7) is None


class Crowd(Handler):
    """Everybody who asks hears what is shouted."""

    def __init__(self):
        self.there = []

    def open(self, exchange):
        exchange.head(Response(200, [], -1), False)
        exchange.conn.flush()
        self.there.append(Member(exchange))


class Member(Answer):
    """One of them: `said` is how often there was room, `rooms` how often it was told of room again."""

    def __init__(self, exchange):
        self.exchange = exchange
        self.rooms = 0
        self.gone = None
        exchange.answer = self

    def room(self):
        self.rooms += 1

    def reset(self, why, side):
        self.gone = why


@pytest.fixture
def crowd():
    """(crowd, port, run): `run` runs a coroutine on the loop that serves it."""
    loop = asyncio.new_event_loop()
    made = Crowd()
    poller = Poller(loop)
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    service = Service(made, clock=poller, limits=Limits())
    listener = Listener(poller, sock, service, lambda conn, _: H1(conn, Limits()))
    listener.start()
    yield made, sock.getsockname()[1], loop.run_until_complete
    for tcp in list(listener.tcps):
        tcp.abort(None)
    listener.stop()
    sock.close()
    poller.close()
    loop.close()


async def join(crowd, port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET)
    await reader.readuntil(b"\r\n\r\n")
    while not crowd.there:
        await asyncio.sleep(0)
    return reader, writer


def test_what_the_kernel_does_not_take_waits_and_arrives_in_order(crowd):
    made, port, run = crowd

    async def story():
        reader, writer = await join(made, port)
        member = made.there[0]
        cast = Cast(b"x" * 60_000)
        said = 0
        while member.exchange.cast(cast):
            said += 1
        said += 1  # the one that was taken with "wait" as its answer
        assert not member.exchange.cast(Cast(b"y" * 1000))  # it may, but ought not: then it stands behind what waits
        body = await asyncio.wait_for(reader.readexactly(said * (60_000 + 8) + 1007), 30)
        assert body == (b"ea60\r\n" + cast.data + b"\r\n") * said + b"3e8\r\n" + b"y" * 1000 + b"\r\n"
        while not member.rooms:
            await asyncio.sleep(0)
        assert member.exchange.cast(Cast(b"z"))
        assert await asyncio.wait_for(reader.readexactly(6), 10) == b"1\r\nz\r\n"
        assert member.exchange.journey.bytes_out == said * 60_000 + 1001
        writer.close()

    run(story())


def test_a_member_who_resets_is_gone_and_the_others_hear_on(crowd):
    made, port, run = crowd

    async def story():
        _, left = await join(made, port)
        reader, writer = await join(made, port)
        while len(made.there) < 2:
            await asyncio.sleep(0)
        left.transport.abort()
        cast = Cast(b"here")
        for _ in range(3):
            for member in made.there:
                member.exchange.cast(cast)
            await asyncio.sleep(0.01)
        assert await asyncio.wait_for(reader.readexactly(9), 10) == b"4\r\nhere\r\n"
        while made.there[0].gone is None:
            await asyncio.sleep(0)
            made.there[0].exchange.cast(cast)
        writer.close()

    run(story())
