"""The proxy when one direction ends, stalls or brings trailers: who is told what, and what goes on."""

import asyncio
import socket
import struct
from functools import wraps

from fairlead.serve.proxy import Options
from fairlead.serve.upstream import Settings
from proxyrig import rig, until

MS = 1_000_000
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: own\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: own\r\n\r\n"


def run(test):
    """An async test in a loop of its own, with a limit."""

    @wraps(test)
    def started():
        asyncio.run(asyncio.wait_for(test(), 20))

    return started


# ---- trailers


async def trailing(origin, reader, writer):
    """Reads a chunked body with trailers, answers with one."""
    await origin.head(reader)
    origin.heads.append(await reader.readuntil(b"x-sum: 1\r\n\r\n"))
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Status\r\n\r\n2\r\nok\r\n0\r\nX-Status: 0\r\n\r\n")
    await reader.read()


@run
async def test_te_trailers_is_passed_on_and_so_are_trailers_both_ways():
    async with rig(trailing) as r:
        reader, writer = await r.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTE: gzip;q=0.5, Trailers\r\nConnection: TE\r\n")
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"\r\ntrailer: X-Status\r\n" in head and b"\r\nte:" not in head
        assert await reader.readuntil(b"\r\n0\r\nx-status: 0\r\n\r\n")
        sent, body = r.origins[0].heads
        assert b"\r\nte: trailers\r\n" in sent and b"\r\nconnection: te\r\n" in sent and b"gzip" not in sent
        assert body == b"3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"
        writer.close()


@run
async def test_another_te_is_for_us_only():
    async def script(origin, reader, writer):
        await origin.head(reader)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await reader.read()

    async with rig(script) as r:
        await r.ask(b"GET / HTTP/1.1\r\nHost: a\r\nTE: gzip\r\nConnection: TE, close\r\n\r\n")
        assert b"\r\nte:" not in r.origins[0].heads[0] and b"\r\nconnection:" not in r.origins[0].heads[0]


# ---- a server that stops reading


@run
async def test_a_body_that_the_server_takes_no_more_of_is_a_504_that_says_so():
    stopped = asyncio.Event()

    async def script(origin, reader, writer):
        await origin.head(reader)
        reader._transport.pause_reading()
        await stopped.wait()

    async with rig(script, settings=Settings(balance="first", idle=200 * MS, outgoing=16384)) as r:
        reader, writer = await r.connect()
        writer.write(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n" + b"x" * 20_000_000)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 504")
        error = r.notes.finished[0].error
        assert (error.side, error.step) == ("upstream", "stall") and "took no bytes" in str(error)
        await until(lambda: not r.upstream.all[0].pool.slots)
        assert r.upstream.busy == 0
        writer.transport.abort()
        stopped.set()


# ---- tunnels keep half-close


async def echo_at_the_end(origin, reader, writer):
    """Says nothing before the client's side is over."""
    await origin.head(reader)
    writer.write(SWITCH)
    got = await reader.read()
    writer.write(b"all: " + got)


@run
async def test_a_client_that_ends_its_direction_of_a_tunnel_still_hears_the_server():
    async with rig(echo_at_the_end) as r:
        reader, writer = await r.connect()
        writer.write(UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"question")
        writer.write_eof()
        assert await reader.read() == b"all: question"
        writer.close()
        await until(lambda: r.notes.finished and not r.upstream.all[0].pool.slots)
        assert r.notes.finished[0].error is None and r.upstream.busy == 0


@run
async def test_a_server_that_ends_its_direction_of_a_tunnel_still_hears_the_client():
    heard = []

    async def script(origin, reader, writer):
        await origin.head(reader)
        writer.write(SWITCH + b"bye")
        writer.write_eof()
        heard.append(await reader.read())

    async with rig(script) as r:
        reader, writer = await r.connect()
        writer.write(UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.read() == b"bye"
        assert not r.notes.finished
        writer.write(b"so long")
        writer.write_eof()
        await until(lambda: heard and r.notes.finished)
        assert heard == [b"so long"]
        writer.close()
        await until(lambda: not r.upstream.all[0].pool.slots)
        assert r.notes.finished[0].error is None and r.upstream.busy == 0


@run
async def test_a_tunnel_that_is_reset_ends_on_the_other_side_too():
    async with rig(echo_at_the_end) as r:
        reader, writer = await r.connect()
        writer.write(UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        reset(writer)
        await until(lambda: not r.upstream.all[0].pool.slots and r.notes.finished)
        assert r.upstream.busy == 0


def reset(writer):
    """Leave with an RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# ---- a client that closed its side after a whole request


def waiting(go):
    """An origin that answers when it is told to."""

    async def script(origin, reader, writer):
        await origin.head(reader)
        await go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.read()

    return script


@run
async def test_a_client_that_closed_its_side_gets_its_answer():
    go = asyncio.Event()
    async with rig(waiting(go)) as r:
        reader, writer = await r.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        writer.write_eof()
        await until(lambda: r.origins[0].heads)
        go.set()
        assert (await reader.read()).endswith(b"\r\n\r\nok")
        writer.close()
        await until(lambda: r.notes.finished)
        assert r.notes.finished[0].response.status == 200 and len(r.upstream.all[0].pool.slots) == 1


@run
async def test_who_only_closed_a_side_is_asked_whether_it_is_there_and_gets_its_answer():
    go = asyncio.Event()
    async with rig(waiting(go)) as r:
        reader, writer = await r.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        writer.write_eof()
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        go.set()
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"\r\n\r\nok")
        writer.close()


@run
async def test_who_left_with_a_fin_is_found_out_when_asked():
    async with rig(waiting(asyncio.Event())) as r:
        _, writer = await r.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: r.origins[0].heads)
        writer.close()
        await until(lambda: r.notes.finished and not r.upstream.all[0].pool.slots)
        assert r.notes.finished[0].error.status == 499 and r.upstream.busy == 0


@run
async def test_a_client_that_resets_after_its_fin_ends_the_leg():
    async with rig(waiting(asyncio.Event())) as r:
        _, writer = await r.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        writer.write_eof()
        await until(lambda: r.origins[0].heads)
        reset(writer)
        await until(lambda: r.notes.finished and not r.upstream.all[0].pool.slots)
        assert r.notes.finished[0].error.status == 499 and r.upstream.busy == 0


@run
async def test_how_long_such_a_client_is_waited_for_can_be_limited():
    async with rig(waiting(asyncio.Event()), options=Options(half_close=100 * MS)) as r:
        _, writer = await r.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        writer.write_eof()
        await until(lambda: r.notes.finished and not r.upstream.all[0].pool.slots)
        assert r.notes.finished[0].error.status == 499 and r.upstream.busy == 0
        writer.close()
