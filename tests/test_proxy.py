"""The reverse proxy against hand-written origins on real sockets: heads, bodies, faults, tunnels."""
# ruff: noqa: E501

import asyncio
import re

import pytest

from fairlead.core.limits import SECOND, Limits
from fairlead.serve.heads import options_of
from fairlead.serve.proxy import Options, Proxy, Split
from fairlead.serve.upstream import Server, Settings
from proxyrig import DEADLINE, closed_port, rig, until

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
GET = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"
QUICK = Settings(balance="first", head=SECOND // 5, idle=SECOND // 5, dial=SECOND // 2)


def run(test):
    """A test that is a coroutine."""

    def wrapper():
        asyncio.run(asyncio.wait_for(test(), 10))

    wrapper.__name__ = test.__name__
    wrapper.__doc__ = test.__doc__
    return wrapper


def answering(text):
    """An origin that gives the same answer to every request, and reads no bodies."""

    async def script(origin, reader, writer):
        while True:
            await origin.head(reader)
            writer.write(text)

    return script


def once(text, then="close"):
    """An origin that answers one request with these bytes and then closes, or stays silent."""

    async def script(origin, reader, writer):
        await origin.head(reader)
        writer.write(text)
        await writer.drain()
        if then == "stay":
            await reader.read()

    return script


hello = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


async def silent(origin, reader, writer):
    await origin.head(reader)
    await reader.read()


async def echo(origin, reader, writer):
    """Answers with the body it got: fixed or chunked."""
    while True:
        head = await origin.head(reader)
        length = re.search(rb"content-length: (\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else await read_chunks(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()


async def read_chunks(reader):
    body = b""
    while True:
        size = int(await reader.readline(), 16)
        if size == 0:
            while await reader.readline() != b"\r\n":
                pass
            return body
        body += await reader.readexactly(size)
        await reader.readline()


def fields(head):
    """Header fields of raw bytes, as a list of lower-case pairs."""
    lines = head.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return [(line.partition(b":")[0].lower(), line.partition(b":")[2].strip()) for line in lines]


def field(head, name):
    return [value for key, value in fields(head) if key == name]


# ---- heads


@run
async def test_the_second_request_uses_the_first_ones_connection():
    async with rig(hello) as r:
        reader, writer = await r.connect()
        for _ in range(3):
            writer.write(GET)
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 OK\r\n")
        assert r.origins[0].connections == 1
        j = r.notes.finished[-1].journey
        assert j.picked and j.leg_sent and j.leg_head and j.leg_end and j.attempts == 1 and not j.spent_dial
        assert r.notes.finished[0].journey.spent_dial > 0 and r.notes.finished[0].journey.dialed
        writer.close()


@run
async def test_fields_of_the_connection_stay_on_it():
    request = (
        b"GET /x HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, X-Secret, TE\r\nX-Secret: 1\r\nKeep-Alive: 5\r\n"
        b"TE: trailers\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\nX-Other: 2\r\n\r\n"
    )
    async with rig(answering(b"HTTP/1.1 200 OK\r\nConnection: X-Mine, keep-alive\r\nX-Mine: 1\r\nKeep-Alive: 3\r\nX-Yours: 2\r\nContent-Length: 0\r\n\r\n")) as r:
        reader, writer = await r.connect()
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        sent = r.origins[0].heads[0]
        names = {name for name, _ in fields(sent)}
        assert names.isdisjoint({b"x-secret", b"keep-alive", b"proxy-connection", b"upgrade", b"http2-settings"})
        assert field(sent, b"te") == [b"trailers"] and field(sent, b"connection") == [b"te"]  # ours, for the leg's connection
        assert field(sent, b"x-other") == [b"2"] and field(sent, b"host") == [b"a.example"]
        names = {name for name, _ in fields(answer)}
        assert b"x-mine" not in names and b"keep-alive" not in names and field(answer, b"x-yours") == [b"2"]
        writer.close()


@run
async def test_connection_cannot_name_away_host_or_the_forwarded_fields():
    async with rig(hello) as r:
        await r.ask(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, host, x-forwarded-for, content-length\r\n\r\n")
        sent = r.origins[0].heads[0]
        assert field(sent, b"host") == [b"a"] and field(sent, b"x-forwarded-for") == [b"127.0.0.1"]


@run
async def test_via_and_forwarded_are_written_anew_for_strangers():
    async with rig(hello) as r:
        await r.ask(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nVia: 1.0 squid\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Request-Id: mine\r\n\r\n")
        sent = r.origins[0].heads[0]
        assert field(sent, b"via") == [b"1.0 squid, 1.1 fairlead"]
        assert field(sent, b"x-forwarded-for") == [b"127.0.0.1"]
        assert field(sent, b"forwarded") == [b"for=127.0.0.1;host=a;proto=http"]
        assert field(sent, b"x-forwarded-proto") == [b"http"] and field(sent, b"x-forwarded-host") == [b"a"]
        assert len(field(sent, b"x-request-id")) == 1 and field(sent, b"x-request-id") != [b"mine"]


@run
async def test_a_trusted_peers_chain_and_request_id_are_kept():
    async with rig(hello, trusted=["127.0.0.0/8"]) as r:
        await r.ask(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Request-Id: mine\r\n\r\n")
        sent = r.origins[0].heads[0]
        assert field(sent, b"x-forwarded-for") == [b"203.0.113.9, 127.0.0.1"]
        assert field(sent, b"x-forwarded-proto") == [b"https"]
        assert field(sent, b"forwarded") == [b"for=203.0.113.9, for=127.0.0.1;host=a;proto=http"]
        assert field(sent, b"x-request-id") == [b"mine"]
        assert r.notes.finished[0].tag == b"mine"


@pytest.mark.parametrize(("host", "expected"), [("preserve", b"shop.example"), ("inner.example", b"inner.example")])
def test_host_is_kept_or_set(host, expected):
    async def test():
        async with rig(hello, options=Options(host=host)) as r:
            await r.ask(LAST)
            assert field(r.origins[0].heads[0], b"host") == [expected]

    asyncio.run(test())


@run
async def test_host_can_be_the_servers_address():
    async with rig(hello, options=Options(host="upstream")) as r:
        await r.ask(LAST)
        assert field(r.origins[0].heads[0], b"host") == [b"127.0.0.1:%d" % r.origins[0].port]


@run
async def test_fields_are_set_added_and_removed():
    options = Options(
        set_request=((b"x-set", b"new"),), add_request=((b"x-add", b"2"),), remove_request=(b"x-gone",),
        set_response=((b"server", b"mine"),), remove_response=(b"x-powered-by",), add_response=((b"x-more", b"1"),),
    )  # fmt: skip
    origin = answering(b"HTTP/1.1 200 OK\r\nServer: theirs\r\nX-Powered-By: php\r\nContent-Length: 0\r\n\r\n")
    async with rig(origin, options=options) as r:
        answer = await r.ask(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Set: old\r\nX-Add: 1\r\nX-Gone: 1\r\n\r\n")
        sent = r.origins[0].heads[0]
        assert field(sent, b"x-set") == [b"new"] and field(sent, b"x-add") == [b"1", b"2"] and not field(sent, b"x-gone")
        assert field(answer, b"server") == [b"mine"] and not field(answer, b"x-powered-by") and field(answer, b"x-more") == [b"1"]


@pytest.mark.parametrize(("target", "strip", "expected"), [
    ("/api/users?x=1", "/api", "/users?x=1"), ("/api", "/api", "/"), ("/api?q", "/api", "/?q"), ("/apis", "/api", "/apis"),
    ("/a%2Fb?", "", "/a%2Fb?"), ("*", "", "*"),
])  # fmt: skip
def test_the_target_goes_on_as_it_came_less_what_is_stripped(target, strip, expected):
    async def test():
        async with rig(hello, options=Options(strip=strip)) as r:
            method = "OPTIONS" if target == "*" else "GET"
            await r.ask(f"{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            assert r.origins[0].heads[0].split(b" ")[1] == expected.encode()

    asyncio.run(test())


@run
async def test_status_reason_and_cookies_come_through():
    async with rig(answering(b"HTTP/1.1 299 Quite Fine\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok")) as r:
        answer = await r.ask(LAST)
        assert answer.startswith(b"HTTP/1.1 299 Quite Fine\r\n")
        assert field(answer, b"set-cookie") == [b"a=1", b"b=2"] and field(answer, b"via") == [b"1.1 fairlead"]


@run
async def test_early_hints_pass_and_continue_does_not():
    text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: close\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    async with rig(answering(text)) as r:
        answer = await r.ask(LAST)
        assert answer.startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>") and b" 100 " not in answer and answer.endswith(b"ok")
        assert b"HTTP/1.1 103" not in await r.ask(b"GET / HTTP/1.0\r\n\r\n")


@pytest.mark.parametrize("head", [
    b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 99\r\n\r\n",
])  # fmt: skip
def test_answers_without_a_body_leave_the_connection_usable(head):
    async def test():
        async with rig(answering(head)) as r:
            reader, writer = await r.connect()
            for _ in range(2):
                writer.write(GET)
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(head[:12])
            assert r.origins[0].connections == 1
            writer.close()

    asyncio.run(test())


@run
async def test_an_answer_to_head_keeps_its_length_and_has_no_body():
    async with rig(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")) as r:
        reader, writer = await r.connect()
        for _ in range(2):
            writer.write(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert field(await reader.readuntil(b"\r\n\r\n"), b"content-length") == [b"1000"]
        assert r.origins[0].connections == 1
        writer.close()


@run
async def test_connect_is_refused():
    async with rig(hello) as r:
        answer = await r.ask(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 405") and not r.origins[0].heads


@run
async def test_max_forwards_counts_down_and_stops_here():
    async with rig(hello) as r:
        await r.ask(b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 2\r\nConnection: close\r\n\r\n")
        assert field(r.origins[0].heads[0], b"max-forwards") == [b"1"]
        answer = await r.ask(b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200") and len(r.origins[0].heads) == 1


@run
async def test_pipelined_requests_are_answered_in_order():
    async def script(origin, reader, writer):
        while True:
            head = await origin.head(reader)
            body = head.split(b" ")[1]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with rig(script) as r:
        wanted = [b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(5)]
        answer = await r.ask(b"".join(wanted) + b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert re.findall(rb"\r\n\r\n/(\d|last)", answer) == [b"0", b"1", b"2", b"3", b"4", b"last"]


# ---- bodies


@run
async def test_bodies_go_through_with_a_length_and_in_chunks():
    async with rig(echo) as r:
        reader, writer = await r.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde")
        assert (await reader.readuntil(b"abcde")).endswith(b"\r\n\r\nabcde")
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n")
        await asyncio.sleep(0)
        writer.write(b"2\r\nuv\r\n0\r\n\r\n")
        assert (await reader.readuntil(b"xyzuv")).endswith(b"\r\n\r\nxyzuv")
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert b"content-length: 0" in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        assert b"content-length: 0" in await reader.readuntil(b"\r\n\r\n")
        assert field(r.origins[0].heads[1], b"transfer-encoding") == [b"chunked"]
        assert r.origins[0].connections == 1
        writer.close()


@run
async def test_trailers_go_through_both_ways():
    seen = []

    async def script(origin, reader, writer):
        await origin.head(reader)
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 9\r\n\r\n")

    async with rig(script) as r:
        answer = await r.ask(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nz\r\n0\r\nX-Check: 7\r\n\r\n")
        assert answer.lower().endswith(b"0\r\nx-sum: 9\r\n\r\n") and seen == [b"1\r\nz\r\n0\r\nx-check: 7\r\n\r\n"]


@run
async def test_a_body_that_ends_with_the_connection_goes_through():
    async with rig(once(b"HTTP/1.0 200 OK\r\n\r\nall of it")) as r:
        reader, writer = await r.connect()
        writer.write(GET)
        answer = await reader.readuntil(b"0\r\n\r\n")
        assert b"transfer-encoding: chunked" in answer and b"all of it" in answer
        writer.close()
        assert (await r.ask(b"GET / HTTP/1.0\r\n\r\n")).endswith(b"all of it")


SIZE = 8_000_000


@run
async def test_a_slow_client_holds_the_upstream_back():
    """The origin cannot hand over more than the buffers on the way hold, until the client reads."""
    written = 0

    async def script(origin, reader, writer):
        nonlocal written
        await origin.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (SIZE * 4))
        for _ in range(SIZE * 4 // 100_000):
            writer.write(b"x" * 100_000)
            await writer.drain()
            written += 100_000

    async with rig(script) as r:
        reader, writer = await asyncio.open_connection("127.0.0.1", r.port, limit=1024)
        writer.write(LAST)
        await until(lambda: written > 0)
        last = -1
        while last != written:
            last = written
            await asyncio.sleep(0.1)
        assert written < SIZE * 4
        got = 0
        while chunk := await reader.read(1 << 20):
            got += len(chunk)
        assert got > SIZE * 4
        writer.close()


@run
async def test_a_slow_upstream_holds_the_client_back():
    go = asyncio.Event()

    async def script(origin, reader, writer):
        await origin.head(reader)
        await go.wait()
        left = SIZE * 4
        while left:
            left -= len(await reader.read(1 << 20))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with rig(script) as r:
        r.origins[0].server.close()
        r.origins[0].server = await asyncio.start_server(r.origins[0].serve, "127.0.0.1", r.origins[0].port, limit=1024)
        reader, writer = await r.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (SIZE * 4))
        sent = 0

        async def send():
            nonlocal sent
            for _ in range(SIZE * 4 // 100_000):
                writer.write(b"x" * 100_000)
                await writer.drain()
                sent += 100_000

        sending = asyncio.ensure_future(send())
        await until(lambda: sent > 0)
        last = -1
        while last != sent:
            last = sent
            await asyncio.sleep(0.1)
        assert sent < SIZE * 4
        go.set()
        await sending
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.close()


@run
async def test_expect_is_passed_on_and_the_upstreams_100_lets_the_client_go_on():
    async def script(origin, reader, writer):
        await origin.head(reader)
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(5)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body)

    async with rig(script) as r:
        reader, writer = await r.connect()
        writer.write(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert field(r.origins[0].heads[0], b"expect") == [b"100-continue"]
        writer.write(b"abcde")
        assert (await reader.readuntil(b"abcde")).startswith(b"HTTP/1.1 200")
        writer.close()


@run
async def test_a_refused_expectation_saves_the_client_its_body():
    async with rig(once(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", "stay")) as r:
        answer = await r.ask(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 500000000\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 413") and b" 100 " not in answer


@run
async def test_an_upstream_that_says_no_100_gets_the_body_after_a_while():
    async def script(origin, reader, writer):
        await origin.head(reader)
        body = await reader.readexactly(5)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body)

    async with rig(script) as r:
        reader, writer = await r.connect()
        writer.write(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abcde")
        assert (await reader.readuntil(b"abcde")).startswith(b"HTTP/1.1 200")
        writer.close()


@run
async def test_an_answer_before_the_body_is_over_is_passed_and_the_leg_is_closed():
    async with rig(once(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", "stay")) as r:
        reader, writer = await r.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 1000)
        assert (await reader.readuntil(b"no")).startswith(b"HTTP/1.1 403")
        await until(lambda: not r.upstream.all[0].pool.slots)
        writer.close()


# ---- faults


@run
async def test_nobody_listening_is_a_502():
    async with rig(servers=[("127.0.0.1", closed_port())]) as r:
        answer = await r.ask(LAST)
        assert answer.startswith(b"HTTP/1.1 502") and b"refused" in answer
        assert r.notes.finished[0].error.step == "dial"


@run
async def test_the_next_server_is_tried_when_one_cannot_be_reached():
    async with rig(hello, settings=Settings(balance="first")) as r:
        r.upstream.all.insert(0, r.upstream.make_target(Server(("127.0.0.1", closed_port()))))
        r.upstream.arrange()
        answer = await r.ask(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        assert answer.endswith(b"hello") and r.notes.finished[0].journey.attempts == 2


@run
async def test_a_server_that_keeps_failing_rests():
    async with rig(hello, settings=Settings(balance="first", eject_errors=2)) as r:
        bad = r.upstream.make_target(Server(("127.0.0.1", closed_port())))
        r.upstream.all.insert(0, bad)
        r.upstream.arrange()
        attempts = [(await r.ask(LAST)).endswith(b"hello") and r.notes.finished[-1].journey.attempts for _ in range(4)]
        assert attempts == [2, 2, 1, 1] and bad.resting_until


@run
async def test_a_name_without_an_address_is_a_502():
    async with rig(servers=[("no-such-host.invalid", 80)]) as r:
        answer = await r.ask(LAST)
        assert answer.startswith(b"HTTP/1.1 502") and r.notes.finished[0].error.step == "resolve"


FAULTS = [
    ("closes at once", b"", "close", b"502"),
    ("closes in the head", b"HTTP/1.1 200 OK\r\nContent-", "close", b"502"),
    ("garbage", b"SSH-2.0-OpenSSH_9\r\n\r\n", "stay", b"502"),
    ("bare LF", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "stay", b"502"),
    ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", "stay", b"502"),
    ("length and chunked", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "stay", b"502"),
    ("gzip, chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "stay", b"502"),
    ("unasked 101", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "stay", b"502"),
    ("1xx flood", b"HTTP/1.1 102 Processing\r\n\r\n" * 1000, "stay", b"502"),
    ("endless head", b"HTTP/1.1 200 OK\r\n" + b"X-Filler: %b\r\n" % (b"x" * 1000) * 200, "stay", b"502"),
    ("endless line", b"HTTP/1.1 200 " + b"x" * 200_000, "stay", b"502"),
    ("status 42", b"HTTP/1.1 42 What\r\n\r\n", "stay", b"502"),
    ("header injection", b"HTTP/1.1 200 OK\r\nX-A: b\rc\r\nContent-Length: 0\r\n\r\n", "stay", b"502"),
    ("says nothing", b"", "stay", b"504"),
    ("stalls in the head", b"HTTP/1.1 200 OK\r\n", "stay", b"504"),
]


@pytest.mark.parametrize(("text", "then", "status"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_what_an_upstream_does_wrong_before_its_answer(text, then, status):
    async def test():
        async with rig(once(text, then), settings=QUICK) as r:
            answer = await r.ask(LAST)
            assert b"HTTP/1.1 %b " % status in answer and answer.count(b"HTTP/1.1 200") == 0
            assert r.notes.finished[0].error.side == "upstream"
            await until(lambda: not r.upstream.all[0].pool.slots)
            assert r.upstream.busy == 0 and r.upstream.all[0].busy == 0

    asyncio.run(test())


CUTS = [
    ("closes early", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "close"),
    ("stalls", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "stay"),
    ("cuts a chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "close"),
    ("ends without the last chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "close"),
    ("bad chunk size", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", "stay"),
    ("chunk without its end", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n", "stay"),
]


@pytest.mark.parametrize(("text", "then"), [c[1:] for c in CUTS], ids=[c[0] for c in CUTS])
def test_a_cut_answer_never_looks_whole(text, then):
    async def test():
        async with rig(once(text, then), settings=QUICK) as r:
            answer = await r.ask(GET)
            assert answer.startswith(b"HTTP/1.1 200")
            if b"transfer-encoding: chunked" in answer:
                assert not answer.endswith(b"0\r\n\r\n")
            else:
                assert len(answer.partition(b"\r\n\r\n")[2]) < 10
            assert r.upstream.busy == 0

    asyncio.run(test())


@run
async def test_bytes_behind_an_answer_spoil_the_connection_but_not_the_answer():
    async with rig(once(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "stay")) as r:
        reader, writer = await r.connect()
        for _ in range(2):
            writer.write(GET)
            assert (await reader.readuntil(b"ok")).endswith(b"\r\n\r\nok")
        assert r.origins[0].connections == 2
        writer.close()


@run
async def test_an_idle_connection_that_the_server_closes_is_not_used_again():
    async with rig(once(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as r:
        reader, writer = await r.connect()
        writer.write(GET)
        await reader.readuntil(b"ok")
        await until(lambda: not r.upstream.all[0].pool.slots)
        writer.write(GET)
        await reader.readuntil(b"ok")
        assert r.notes.finished[-1].journey.attempts <= 1 or r.origins[0].connections == 2
        writer.close()


def dying(bodies):
    """Answers the first request of each connection, and closes without a word on the second."""

    async def script(origin, reader, writer):
        await origin.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await origin.head(reader)

    return script


@run
async def test_an_idempotent_request_is_sent_again_when_a_reused_connection_dies():
    async with rig(dying(0)) as r:
        reader, writer = await r.connect()
        for _ in range(2):
            writer.write(GET)
            await reader.readuntil(b"ok")
        await until(lambda: len(r.notes.finished) == 2)
        assert [ex.journey.attempts for ex in r.notes.finished] == [1, 2] and len(r.origins[0].heads) == 3
        writer.close()


@run
async def test_a_post_is_never_sent_twice():
    async with rig(dying(0)) as r:
        reader, writer = await r.connect()
        writer.write(GET)
        await reader.readuntil(b"ok")
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 502")
        assert len(r.origins[0].heads) == 2
        writer.close()


@run
async def test_a_fresh_connection_that_dies_is_not_tried_again():
    async with rig(once(b"")) as r:
        assert (await r.ask(LAST)).startswith(b"HTTP/1.1 502")
        assert r.origins[0].connections == 1


@run
async def test_the_budget_stops_a_storm_of_retries():
    async with rig(dying(0), options=Options(retry_budget=0.0)) as r:
        r.proxy.budget = 1.0
        statuses = [(await r.ask(LAST))[9:12] for _ in range(3)]
        assert statuses == [b"200", b"200", b"502"]


@run
async def test_a_client_that_leaves_closes_the_leg():
    async with rig(silent) as r:
        _, writer = await r.connect()
        writer.write(GET)
        await until(lambda: r.origins[0].heads)
        writer.transport.abort()
        await until(lambda: not r.upstream.all[0].pool.slots)
        assert r.upstream.busy == 0
        assert r.notes.finished[0].error.status == 499


@run
async def test_a_client_that_leaves_while_it_waits_leaves_the_queue():
    async with rig(silent, settings=Settings(balance="first", most=1)) as r:
        first = await r.connect()
        first[1].write(GET)
        await until(lambda: r.origins[0].heads)
        second = await r.connect()
        second[1].write(GET)
        pool = r.upstream.all[0].pool
        await until(lambda: pool.waiting)
        second[1].transport.abort()
        await until(lambda: not pool.waiting)
        assert r.upstream.busy == 1
        first[1].close()


@run
async def test_a_full_pool_serves_the_queue_in_order_and_refuses_above_it():
    gates = []

    async def script(origin, reader, writer):
        while True:
            head = await origin.head(reader)
            gate = asyncio.Event()
            gates.append(gate)
            await gate.wait()
            path = head.split(b" ")[1]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    async with rig(script, settings=Settings(balance="first", most=1, queue=1, queue_wait=5 * SECOND)) as r:
        pool = r.upstream.all[0].pool
        first = asyncio.ensure_future(r.ask(b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
        await until(lambda: len(gates) == 1)
        second = asyncio.ensure_future(r.ask(b"GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
        await until(lambda: pool.waiting)
        answer = await r.ask(LAST)
        assert answer.startswith(b"HTTP/1.1 503") and field(answer, b"retry-after")
        gates[0].set()
        assert (await first).endswith(b"/1")
        await until(lambda: len(gates) == 2)
        gates[1].set()
        assert (await second).endswith(b"/2")
        assert r.origins[0].connections == 1
        assert r.notes.finished[-1].journey.spent_pool > 0


@run
async def test_waiting_for_a_connection_ends_with_503():
    async with rig(silent, settings=Settings(balance="first", most=1, queue_wait=SECOND // 5)) as r:
        _, writer = await r.connect()
        writer.write(GET)
        await until(lambda: r.origins[0].heads)
        assert (await r.ask(LAST)).startswith(b"HTTP/1.1 503")
        writer.close()


@run
async def test_a_body_that_comes_while_we_dial_is_held_and_sent():
    async with rig(echo) as r:
        answer = await r.ask(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nabcde")
        assert answer.endswith(b"abcde")
        answer = await r.ask(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n")
        assert answer.endswith(b"abcde")


# ---- tunnels

UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"


async def shout(origin, reader, writer):
    """Switches protocols and says everything back in capitals."""
    await origin.head(reader)
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-A: 1\r\n\r\nready ")
    while data := await reader.read(65536):
        writer.write(data.upper())
        await writer.drain()


@run
async def test_an_upgrade_becomes_a_tunnel():
    async with rig(shout) as r:
        reader, writer = await r.connect()
        writer.write(UPGRADE)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101") and field(head, b"upgrade") == [b"websocket"] and field(head, b"x-a") == [b"1"]
        assert field(head, b"connection") == [b"upgrade"]
        sent = r.origins[0].heads[0]
        assert field(sent, b"upgrade") == [b"websocket"] and field(sent, b"connection") == [b"upgrade"]
        assert await reader.readexactly(6) == b"ready "
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"HELLO"
        writer.close()
        await until(lambda: not r.upstream.all[0].pool.slots and r.notes.finished)
        assert r.upstream.busy == 0


@run
async def test_bytes_behind_an_upgrade_wait_for_the_101():
    seen = []

    async def script(origin, reader, writer):
        await origin.head(reader)
        await asyncio.sleep(0.05)
        seen.append(bytes(reader._buffer))
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        writer.write((await reader.readexactly(5)).upper())

    async with rig(script) as r:
        reader, writer = await r.connect()
        writer.write(UPGRADE + b"hello")
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(5) == b"HELLO" and seen == [b""]
        writer.close()


@run
async def test_a_refused_upgrade_is_an_ordinary_answer():
    async with rig(answering(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")) as r:
        reader, writer = await r.connect()
        for _ in range(2):
            writer.write(UPGRADE)
            assert (await reader.readuntil(b"no")).startswith(b"HTTP/1.1 403")
        assert r.origins[0].connections == 1
        writer.close()


@run
async def test_a_tunnel_ends_when_the_upstream_leaves():
    async def script(origin, reader, writer):
        await origin.head(reader)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nbye")

    async with rig(script) as r:
        assert (await r.ask(UPGRADE)).endswith(b"\r\n\r\nbye")
        await until(lambda: not r.upstream.all[0].pool.slots)
        assert r.upstream.busy == 0


@run
async def test_a_tunnel_holds_a_fast_side_back():
    async def script(origin, reader, writer):
        await origin.head(reader)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        for _ in range(SIZE // 100_000):
            writer.write(b"y" * 100_000)
            await writer.drain()

    async with rig(script) as r:
        reader, writer = await r.connect()
        writer.write(UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(SIZE) == b"y" * SIZE
        writer.close()


# ---- the rest


@run
async def test_connections_are_dialed_in_advance():
    async with rig(hello, settings=Settings(balance="first", warm=3)) as r:
        r.upstream.start()
        await until(lambda: r.origins[0].connections == 3)
        await r.ask(LAST)
        assert r.notes.finished[0].journey.spent_dial == 0 and r.origins[0].connections == 3


@run
async def test_an_unused_connection_is_closed_after_a_while():
    async with rig(hello, settings=Settings(balance="first", keep=SECOND // 10)) as r:
        await r.ask(LAST)
        assert r.upstream.all[0].pool.slots
        await until(lambda: not r.upstream.all[0].pool.slots)


@run
async def test_a_reload_keeps_warm_connections_and_what_was_learnt():
    async with rig(hello) as r:
        await r.ask(LAST)
        old, target = r.upstream, r.upstream.all[0]
        target.fails = 2
        new = type(old)(r.poller, "web", [Server(target.address, 5), ("127.0.0.1", closed_port())], Settings(balance="first"))
        new.adopt(old)
        assert new.all[0] is target and target.weight == 5 and target.fails == 2 and target.upstream is new
        r.listener.service.handler = r.proxy = Proxy(new)
        await r.ask(LAST)
        assert r.origins[0].connections == 1
        r.upstream = new
        new.retire()


@run
async def test_a_retired_upstream_closes_idle_connections_and_finishes_the_busy_one():
    gate = asyncio.Event()

    async def script(origin, reader, writer):
        await origin.head(reader)
        await gate.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with rig(script) as r:
        asking = asyncio.ensure_future(r.ask(LAST))
        await until(lambda: r.origins[0].heads)
        r.upstream.retire()
        gate.set()
        assert (await asking).endswith(b"ok")
        await until(lambda: not r.upstream.all[0].pool.slots)


@run
async def test_a_split_follows_the_weights():
    async with rig(hello, answering(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ncanary")) as r:
        one, two = (type(r.upstream)(r.poller, "u", [("127.0.0.1", origin.port)]) for origin in r.origins)
        r.listener.service.handler = Split([(Proxy(one), 0), (Proxy(two), 1)])
        assert (await r.ask(LAST)).endswith(b"canary")
        one.retire()
        two.retire()


@run
async def test_a_request_has_a_limit_in_all():
    async with rig(silent, settings=Settings(balance="first", total=SECOND // 5)) as r:
        assert (await r.ask(LAST)).startswith(b"HTTP/1.1 504")
        assert r.upstream.busy == 0


@run
async def test_the_body_limit_of_the_listener_holds():
    async with rig(echo, limits=Limits(body=10)) as r:
        assert (await r.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello worldx")).startswith(b"HTTP/1.1 413")
        chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n" + b"x" * 20 + b"\r\n0\r\n\r\n"
        assert (await r.ask(chunked)).startswith(b"HTTP/1.1 413")
        await until(lambda: r.upstream.busy == 0)


@pytest.mark.parametrize(("value", "named"), [
    (b"close", {b"close"}), (b"X-A , x-b", {b"x-a", b"x-b"}), (b"host, content-length", set()), (b",,", set()),
])  # fmt: skip
def test_options_of_a_connection_field(value, named):
    assert options_of(value, None) == named
