"""Active health checks and sticky sessions: the counts by table, a check against hand-written servers, and choosing."""

import asyncio

import pytest

from fairlead.core.message import Response
from fairlead.run.load import loads
from fairlead.run.probes import Count, Probes
from fairlead.serve.upstream import Settings
from journeys import exchange
from proxyrig import rig, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("results", "changes"),
    [
        ("ggg", []),
        ("bb", []),
        ("bbb", [3]),
        ("bbgbb", []),  # in a row
        ("bbbg", [3]),
        ("bbbgg", [3, 5]),
        ("bbbgbgg", [3, 7]),
        ("bbbggbbb", [3, 5, 8]),
    ],
)
def test_rise_and_fall_count_results_in_a_row(results, changes):
    count = Count(rise=2, fall=3)
    seen = [number for number, one in enumerate(results, 1) if count.feed(one == "g")]
    assert seen == changes
    assert count.healthy == (len(changes) % 2 == 0)


def config(port, **health):
    words = ", ".join(f"{key} = {value}" for key, value in ({"path": '"/healthz"', "every": '"20ms"'} | health).items())
    text = '[[listener]]\nbind = "127.0.0.1:1"\n[[route]]\nproxy = { upstream = "web" }\n[[upstream]]\nname = "web"\n'
    return loads(f'{text}servers = ["127.0.0.1:{port}"]\nhealth = {{ {words} }}\n', "fairlead.toml")


async def watched(answer, use, **health):
    """A server whose check gets `answer[0]` (None: silence), and the probes' words, to `use(port, answer, told, probes, asked)`."""
    asked, told = [], []

    async def serve(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        if answer[0] is not None:
            writer.write(answer[0])
        else:
            await asyncio.sleep(5)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    probes = Probes(told.append)
    probes.serve(config(port, **health))
    try:
        await use(port, answer, told, probes, asked)
    finally:
        await probes.close()
        server.close()


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"HTTP/1.1 503 No\r\n\r\n", "status 503"),
        (b"HTTP/1.1 302 Found\r\n\r\n", "status 302"),
        (b"SSH-2.0-x\r\n", "no HTTP answer"),
        (b"x" * 10000, "limit"),
        (b"", "0 bytes read"),
        (None, "no answer within 0.05 s"),
    ],
)
def test_a_server_that_answers_badly_falls_and_rises_again(bad, why):
    async def use(port, answer, told, probes, asked):
        await until(lambda: len(asked) >= 3, "checks")
        assert told == [] and asked[0].startswith(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % port)
        answer[0] = bad
        await until(lambda: told, "a fall")
        assert told == [{"web": [("127.0.0.1", port)]}]
        (one,) = probes.status()
        assert not one["healthy"] and why in one["why"]
        answer[0] = OK
        await until(lambda: len(told) == 2, "a rise")
        assert told[1] == {}

    asyncio.run(watched([OK], use, timeout='"50ms"'))


def test_a_reload_keeps_what_is_known_and_stops_what_is_not_wanted():
    async def use(port, answer, told, probes, asked):
        await until(lambda: told, "a fall")
        probes.serve(config(port))
        assert probes.sick() == {"web": [("127.0.0.1", port)]}
        probes.serve(config(port, rise=5))  # checked in another way: nothing is known
        assert probes.sick() == {} and len(probes.tasks) == 1
        probes.serve(loads('[[listener]]\nbind = "127.0.0.1:1"\n[[route]]\nrespond = 404\n', "fairlead.toml"))
        assert probes.tasks == {} and probes.status() == []

    asyncio.run(watched([b"HTTP/1.1 500 No\r\n\r\n"], use))


def naming(name):
    """An origin that says its name, over and over."""

    async def script(origin, reader, writer):
        while True:
            await origin.head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name))

    return script


GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"


def test_an_unhealthy_server_is_left_alone_and_when_all_are_all_are_asked():
    async def main():
        async with rig(naming(b"one"), naming(b"two"), settings=Settings(balance="round-robin")) as r:
            one, two = r.upstream.all

            async def names(count=6):
                return {(await r.ask(GET + b"\r\n"))[-3:] for _ in range(count)}

            assert await names() == {b"one", b"two"}
            r.upstream.mark_sick([one.address])
            assert await names() == {b"two"}
            r.upstream.mark_sick([one.address, two.address])
            assert await names() == {b"one", b"two"}
            r.upstream.mark_sick([])
            assert await names() == {b"one", b"two"}

    asyncio.run(main())


def test_a_client_stays_with_the_server_of_its_cookie_while_that_can_be_chosen():
    async def main():
        settings = Settings(balance="round-robin", sticky="lead", sticky_keep=60)
        async with rig(naming(b"one"), naming(b"two"), settings=settings) as r:
            first = await r.ask(GET + b"\r\n")
            (line,) = [line for line in first.split(b"\r\n") if line.lower().startswith(b"set-cookie:")]
            value = line.partition(b": ")[2]
            pair, _, attributes = value.partition(b"; ")
            assert pair.startswith(b"lead=") and len(pair) == 21 and attributes == b"Path=/; HttpOnly; SameSite=Lax; Max-Age=60"
            name, brought = first[-3:], GET + b"Cookie: x=1; " + pair + b"\r\n\r\n"
            again = [await r.ask(brought) for _ in range(5)]
            assert {answer[-3:] for answer in again} == {name}
            assert not any(b"set-cookie" in answer.lower() for answer in again)
            mine = next(target for target in r.upstream.all if target.ident == pair[5:])
            r.upstream.mark_sick([mine.address])
            other = await r.ask(brought)
            assert other[-3:] != name and b"lead=" in other and pair not in other
            forged = await r.ask(GET + b"Cookie: lead=0123456789abcdef\r\n\r\n")
            assert forged.startswith(b"HTTP/1.1 200") and b"set-cookie" in forged.lower()

    asyncio.run(main())


def test_the_cookie_is_secure_where_the_client_came_by_https():
    async def main():
        async with rig(naming(b"one"), settings=Settings(sticky="lead")) as r:
            one, response = exchange(), Response(200, [])
            one.request.scheme = "https"
            r.upstream.stick(one, r.upstream.all[0], response)
            assert response.headers[0][1].endswith(b"; SameSite=Lax; Secure")

    asyncio.run(main())


SECOND = 1_000_000_000


def test_ejection_by_table():
    async def main():
        settings = Settings(balance="round-robin", eject_errors=3, eject_rest=30 * SECOND, eject_most=0.5)
        servers = [("127.0.0.1", port) for port in (1, 2, 3, 4)]
        async with rig(settings=settings, servers=servers) as r:
            a, b, c, _ = r.upstream.all
            steps = [  # (who, what, at second) -> who rests then
                (a, "fail", 0, ""),
                (a, "fail", 0, ""),
                (a, "good", 0, ""),  # in a row
                (a, "fail", 1, ""),
                (a, "fail", 1, ""),
                (a, "fail", 1, "a"),
                (b, "fail", 2, "a"),
                (b, "fail", 2, "a"),
                (b, "fail", 2, "ab"),
                (c, "fail", 3, "ab"),
                (c, "fail", 3, "ab"),
                (c, "fail", 3, "ab"),  # half rest already
                (None, "wait", 30, "ab"),
                (None, "wait", 31, "b"),
                (c, "fail", 31, "bc"),  # there is room again, and it has failed three times and more
                (a, "fail", 31, "bc"),
                (None, "wait", 32, "c"),
                (a, "fail", 32, "ac"),  # one more failure after a rest is enough
                (None, "wait", 90, ""),
            ]
            for number, (who, what, at, rest) in enumerate(steps):
                now = SECOND * (at + 1)
                if what == "fail":
                    who.failed(now)
                elif what == "good":
                    who.succeeded()
                names = zip("abcd", r.upstream.all)
                assert "".join(name for name, one in names if r.upstream.rests(one, now)) == rest, (number, what)

    asyncio.run(main())


def test_requests_above_the_upstreams_limit_are_told_to_come_again():
    async def main():
        go = asyncio.Event()

        async def script(origin, reader, writer):
            await origin.head(reader)
            await go.wait()
            writer.write(OK)

        async with rig(script, settings=Settings(requests=2)) as r:
            waiting = [asyncio.ensure_future(r.ask(GET + b"\r\n")) for _ in range(2)]
            await until(lambda: r.upstream.busy == 2, "two requests")
            refused = await r.ask(GET + b"\r\n")
            assert refused.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in refused.lower()
            go.set()
            assert all(answer.startswith(b"HTTP/1.1 200") for answer in await asyncio.gather(*waiting))
            assert (await r.ask(GET + b"\r\n")).startswith(b"HTTP/1.1 200") and r.upstream.busy == 0

    asyncio.run(main())
