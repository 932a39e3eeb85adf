"""Dispatch: requests through links to workers and back, what waits, what is taken back, and what dies."""

import asyncio

import pytest

from fairlead.core.handler import Handler
from fairlead.core.message import Response
from hoprig import APP, read_answer, rig, until

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def run(test):
    """A test that is a coroutine."""

    def wrapper():
        asyncio.run(asyncio.wait_for(test(), 20))

    wrapper.__name__ = test.__name__
    return wrapper


def saying(text):
    """An app that says this and nothing else; `calls` counts."""

    async def app(scope, receive, send):
        app.calls += 1
        app.scope = scope
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-from", text)]})
        await send({"type": "http.response.body", "body": text})

    app.calls = 0
    return app


async def echo(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def held():
    """An app that answers when `go` is set, and notes whether its client left."""

    async def app(scope, receive, send):
        app.begun += 1
        app.seen.append((await receive())["type"])
        waiting = asyncio.ensure_future(receive())
        going = asyncio.ensure_future(app.go.wait())
        await asyncio.wait([waiting, going], return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            app.seen.append(waiting.result()["type"])
        waiting.cancel()
        going.cancel()
        if app.go.is_set():
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"held"})

    app.begun, app.go, app.seen = 0, asyncio.Event(), []
    return app


@run
async def test_an_application_sees_its_request_as_if_the_client_were_there():
    async with rig() as r:
        app = saying(b"hello")
        r.worker(app)
        _, writer = connection = await r.connect()
        status, head, body = await r.get("/a%20b?c=d", connection, b"X-A: 1\r\n")
        assert (status, body) == (200, b"hello") and b"x-from: hello" in head
        scope = app.scope
        assert scope["client"] == writer.get_extra_info("sockname") and scope["server"] == r.sock.getsockname()
        assert (b"x-a", b"1") in scope["headers"]
        journey = scope["extensions"]["fairlead.journey"]
        assert journey.parsed and journey.routed and journey.started >= journey.routed
        writer.close()


@run
async def test_the_journey_crosses_the_hop_and_comes_back():
    async with rig() as r:

        async def app(scope, receive, send):
            with scope["extensions"]["fairlead.journey"].step("sql"):
                await asyncio.sleep(0.01)
            await saying(b"x")(scope, receive, send)

        r.worker(app)
        await r.get()
        await until(lambda: r.notes.finished)
        status, steps, _, _ = r.notes.finished[0]
        took = {name: ns for name, ns, _ in steps}
        assert status == 200 and took["queue"] > 0 and took["process"] >= 8_000_000
        assert "upstream" not in took


@run
async def test_bodies_of_any_size_pass_both_ways():
    async with rig() as r:
        r.worker(echo)
        reader, writer = await r.connect()
        body = bytes(range(256)) * 4096
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
        writer.write(body)
        status, _, got = await read_answer(reader)
        assert status == 200 and got == body
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert (await read_answer(reader))[2] == b"abcde"
        writer.close()


@run
async def test_a_client_that_asks_whether_to_go_on_is_told_when_the_app_reads():
    async with rig() as r:
        r.worker(echo)
        reader, writer = await r.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.write(b"abc")
        assert (await read_answer(reader))[2] == b"abc"
        writer.close()


@run
async def test_hints_streams_and_trailers_arrive_in_order():
    async def app(scope, receive, send):
        await send({"type": "http.response.early_hint", "links": [b"</a>"]})
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        for part in (b"one", b"two"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await asyncio.sleep(0.001)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"6")]})

    async with rig() as r:
        r.worker(app)
        reader, writer = await r.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
        hints = await reader.readuntil(b"\r\n\r\n")
        assert hints.startswith(b"HTTP/1.1 103") and b"</a>" in hints
        status, _, body = await read_answer(reader)
        assert status == 200 and body == b"onetwo[x-sum: 6]"
        writer.close()


@run
async def test_what_an_app_raises_is_a_500_and_named_in_the_log():
    async def app(scope, receive, send):
        raise ValueError("no")

    async with rig() as r:
        r.worker(app)
        assert (await r.get())[0] == 500
        await until(lambda: r.notes.finished)
        assert r.notes.finished[0][2] == "app-error"
        assert [str(error) for error in r.notes.raised] == ["no"]


@run
async def test_an_answer_cut_short_does_not_look_whole():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("no")

    async with rig() as r:
        r.worker(app)
        reader, writer = await r.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        got = await asyncio.wait_for(reader.read(), 30)
        assert b"half" in got and not got.endswith(b"0\r\n\r\n")
        writer.close()


@run
async def test_a_client_that_leaves_is_a_disconnect_in_the_worker():
    async with rig() as r:
        app = held()
        far = r.worker(app)
        _, writer = await r.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: app.begun)
        writer.transport.abort()
        await until(lambda: app.seen == ["http.request", "http.disconnect"])
        await until(lambda: far.links.running == 0 and far.link.busy == 0)


@run
async def test_a_slow_client_stops_the_app_and_not_the_link():
    sent = []

    async def app(scope, receive, send):
        if scope["path"] == "/small":
            return await saying(b"small")(scope, receive, send)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(400):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            sent.append(65536)
        await send({"type": "http.response.body", "body": b""})

    async with rig() as r:
        r.worker(app)
        slow, writer = await r.connect()
        slow._transport.pause_reading()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        count = -1
        while count != len(sent) or not count:
            count = len(sent)
            await asyncio.sleep(0.1)
        assert 0 < len(sent) < 300
        assert (await r.get("/small"))[2] == b"small"
        slow._transport.resume_reading()
        await read_answer(slow)
        assert len(sent) == 400
        writer.close()


@run
async def test_requests_go_to_the_worker_with_the_least_to_do():
    async with rig() as r:
        busy, idle = held(), saying(b"idle")
        r.worker(busy)
        first = asyncio.ensure_future(r.get())
        await until(lambda: busy.begun)
        r.worker(idle)
        for _ in range(5):
            assert (await r.get())[2] == b"idle"
        busy.go.set()
        assert (await first)[2] == b"held"


@run
async def test_what_a_worker_does_not_begin_is_taken_back_and_run_once():
    async with rig() as r:
        stuck, well = saying(b"stuck"), saying(b"well")
        sleeper = r.worker(stuck, asleep=True)
        asked = asyncio.ensure_future(r.get())
        await until(lambda: sleeper.link.outstanding == 1)
        r.worker(well)
        assert (await asked)[2] == b"well"
        assert r.dispatcher.taken == 1 and sleeper.link.stuck
        sleeper.wake()
        await until(lambda: not sleeper.link.stuck)
        assert stuck.calls == 0 and well.calls == 1
        assert sleeper.link.outstanding == 0 and sleeper.link.busy == 0
        answers = [(await r.get())[2] for _ in range(4)]
        assert set(answers) == {b"stuck", b"well"}


@run
async def test_a_body_goes_along_when_a_request_is_taken_back():
    async with rig() as r:
        sleeper = r.worker(echo, asleep=True)
        reader, writer = await r.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        await until(lambda: sleeper.link.outstanding == 1)
        r.worker(echo)
        await until(lambda: r.dispatcher.taken == 1)
        writer.write(b"def")
        assert (await read_answer(reader))[2] == b"abcdef"
        writer.close()


@run
async def test_without_workers_requests_wait_for_one():
    async with rig() as r:
        asked = asyncio.ensure_future(r.get())
        await until(lambda: r.dispatcher.queue)
        r.worker(saying(b"here"))
        assert (await asked)[2] == b"here"


@run
async def test_a_full_queue_and_a_late_one_say_503_and_when_to_come_again():
    async with rig(most=1, wait=50_000_000) as r:
        waiting = asyncio.ensure_future(r.get())
        await until(lambda: r.dispatcher.queue)
        status, head, _ = await r.get()
        assert status == 503 and b"retry-after: 1" in head
        status, head, _ = await waiting
        assert status == 503 and b"retry-after: 1" in head
        assert (r.dispatcher.refused, r.dispatcher.late) == (1, 1)


@run
async def test_a_health_path_does_not_wait():
    async with rig(most=10, health=(b"/healthz",)) as r:
        app = held()
        r.worker(app)
        r.dispatcher.per_worker = 1
        asked = asyncio.ensure_future(r.get())
        await until(lambda: app.begun)
        waiting = asyncio.ensure_future(r.get())
        await until(lambda: r.dispatcher.queue)
        healthy = asyncio.ensure_future(r.get("/healthz?x=1"))
        await until(lambda: app.begun == 2)
        app.go.set()
        assert {(await one)[0] for one in (asked, healthy, waiting)} == {200}


@run
async def test_a_client_that_leaves_the_queue_is_forgotten():
    async with rig() as r:
        _, writer = await r.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: r.dispatcher.queue)
        writer.transport.abort()
        await until(lambda: not r.dispatcher.queue)
        app = saying(b"x")
        r.worker(app)
        await r.get()
        assert app.calls == 1


@run
async def test_a_get_whose_worker_dies_is_asked_again():
    async with rig() as r:
        dying, well = held(), saying(b"well")
        far = r.worker(dying)
        asked = asyncio.ensure_future(r.get())
        await until(lambda: dying.begun)
        r.worker(well)
        far.die()
        assert (await asked)[2] == b"well"
        assert r.dispatcher.repeated == 1


@run
async def test_a_post_that_was_running_is_a_502_and_the_connection_lives_on():
    async with rig() as r:
        dying, well = held(), saying(b"well")
        far = r.worker(dying)
        reader, writer = connection = await r.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        await until(lambda: dying.seen)
        r.worker(well)
        far.die()
        assert (await read_answer(reader))[0] == 502
        assert (await r.get(connection=connection))[2] == b"well"
        assert well.calls == 1
        writer.close()


@run
async def test_a_post_that_was_not_begun_is_given_to_another():
    async with rig() as r:
        sleeper = r.worker(echo, asleep=True)
        reader, writer = await r.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        await until(lambda: sleeper.link.outstanding == 1)
        sleeper.die()
        r.worker(echo)
        assert (await read_answer(reader))[2] == b"abc"
        writer.close()


@run
async def test_a_worker_that_leaves_finishes_what_it_has_and_gets_nothing_new():
    async with rig() as r:
        old, new = held(), saying(b"new")
        far = r.worker(old)
        asked = asyncio.ensure_future(r.get())
        await until(lambda: old.begun)
        r.worker(new)
        far.links.leave()
        await until(lambda: not far.link.codec.reusable)
        for _ in range(3):
            assert (await r.get())[2] == b"new"
        old.go.set()
        assert (await asked)[2] == b"held"
        await until(lambda: not far.links.tcps and len(r.dispatcher.links) == 1)


@run
async def test_with_a_cookie_a_client_stays_with_its_place_until_that_is_gone():
    async with rig(cookie=b"lead") as r:
        fars = [r.worker(saying(b"%d" % place)) for place in range(2)]
        _, head, place = await r.get()
        assert b"set-cookie: lead=%b; Path=/" % place in head
        for _ in range(4):
            _, head, again = await r.get(more=b"Cookie: a=b; lead=%b\r\n" % place)
            assert again == place and b"set-cookie" not in head
        fars[int(place)].die()
        await until(lambda: len(r.dispatcher.links) == 1)
        _, head, other = await r.get(more=b"Cookie: lead=%b\r\n" % place)
        assert other != place and b"set-cookie: lead=%b" % other in head


@run
async def test_a_handler_that_is_no_asgi_app_has_its_request_from_the_moment_it_is_opened():
    async with rig() as r:
        far = r.worker(saying(b"x"))
        opened = []

        class Slow(Handler):
            def open(self, exchange):
                opened.append(exchange)

        far.links.service.handler.apps = {APP: Slow()}
        asked = asyncio.ensure_future(r.get())
        await until(lambda: opened)
        r.worker(saying(b"other"))
        await asyncio.sleep(0.06)
        assert r.dispatcher.taken == 0
        opened[0].whole(Response(200, [], 4), b"mine")
        assert (await asked)[2] == b"mine"
