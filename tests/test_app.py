"""serve.app: one ASGI application, asked through a connection whose codec records what it is told."""

import asyncio
import gc

import pytest

from fairlead.core.errors import NetError
from fairlead.core.exchange import Exchange
from fairlead.serve.app import App, Cycle, Disconnected
from fairlead.wire.h1 import H1
from recorder import Peer

PLAIN = [(b"content-type", b"text/plain"), (b"content-length", b"5")]


def run(scenario):
    """Run an async test on a fresh loop."""
    return asyncio.run(asyncio.wait_for(scenario(), 10))


def serving(app, **options):
    service_options = {k: options.pop(k) for k in ("limits",) if k in options}
    handler = App(app, asyncio.get_running_loop(), **options)
    peer = Peer(handler, **service_options)
    peer.app = handler
    return peer


async def settle(peer):
    """Let the application run until it is done or waits."""
    for _ in range(50):
        await asyncio.sleep(0)
        if not peer.app.running:
            return


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
    await send({"type": "http.response.body", "body": b"hello"})


def test_a_plain_answer_leaves_as_one_head_and_one_last_chunk():
    async def scenario():
        peer = serving(hello)
        peer.get()
        await settle(peer)
        assert peer.take() == [("head", 200, False), ("data", b"hello", True)]
        assert peer.codec.response.length == 5
        assert peer.app.running == 0
        [done] = peer.watcher.finished
        journey = done.journey
        assert journey.parsed <= journey.started <= journey.answered <= journey.done

    run(scenario)


def test_the_scope_has_what_the_specification_asks_for():
    async def scenario():
        seen = {}

        async def app(scope, receive, send):
            seen.update(scope)
            await hello(scope, receive, send)

        peer = serving(app, state={"pool": 1}, root_path="/outer", strip="/shop")
        request = peer.get(b"/shop/a%20b?x=1", [(b"host", b"shop.example")])
        await settle(peer)
        journey = seen["extensions"].pop("fairlead.journey")
        assert journey is peer.watcher.finished[0].journey
        assert seen["headers"] is request.headers
        assert seen == {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/shop/a%20b",
            "raw_path": b"/shop/a%20b",
            "query_string": b"x=1",
            "root_path": "/outer/shop",
            "headers": [(b"host", b"shop.example")],
            "client": ("192.0.2.7", 4711),
            "server": ("192.0.2.1", 80),
            "state": {"pool": 1},
            "extensions": {
                "http.response.trailers": {},
                "http.response.early_hint": {},
                "http.response.pathsend": {},
                "http.response.zerocopysend": {},
            },
        }
        assert seen["state"] is not peer.app.state

    run(scenario)


def test_a_unix_socket_has_no_client_and_a_server_without_port():
    async def scenario():
        seen = {}

        async def app(scope, receive, send):
            seen.update(scope)

        handler = App(app, asyncio.get_running_loop())
        peer = Peer(handler, peer="", local="/run/app.sock")
        peer.app = handler
        peer.ask("get", b"/")
        await settle(peer)
        assert seen["client"] is None
        assert seen["server"] == ("/run/app.sock", None)
        assert seen["method"] == "GET"

    run(scenario)


def test_a_request_without_a_body_is_one_empty_message_and_then_disconnect_after_the_answer():
    async def scenario():
        got = []

        async def app(scope, receive, send):
            got.append(await receive())
            await hello(scope, receive, send)
            got.append(await receive())

        peer = serving(app)
        peer.get()
        await settle(peer)
        assert got == [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]

    run(scenario)


def test_a_body_that_came_with_the_head_is_one_message():
    async def scenario():
        got = []

        async def app(scope, receive, send):
            got.append(await receive())
            await hello(scope, receive, send)

        peer = serving(app)
        peer.post(length=6)
        peer.body(b"abcdef", True)
        assert peer.codec.credited == 0
        await settle(peer)
        assert got == [{"type": "http.request", "body": b"abcdef", "more_body": False}]
        assert peer.codec.credited == 6

    run(scenario)


def test_body_bytes_are_credited_only_when_the_app_takes_them():
    async def scenario():
        got = []
        gate = asyncio.Event()

        async def app(scope, receive, send):
            await gate.wait()
            more = True
            while more:
                message = await receive()
                got.append(message["body"])
                more = message["more_body"]
            await hello(scope, receive, send)

        peer = serving(app)
        peer.post()
        peer.body(b"one")
        peer.body(b"two")
        await settle(peer)
        assert peer.codec.credited == 0
        gate.set()
        await settle(peer)
        assert (got, peer.codec.credited) == ([b"onetwo"], 6)
        peer.body(b"three")
        await settle(peer)
        peer.conn.end(peer.stream, None)
        await settle(peer)
        assert got == [b"onetwo", b"three", b""]
        assert peer.answer == b"hello"

    run(scenario)


def test_the_first_receive_sends_100_continue_and_an_answer_without_receive_does_not():
    async def scenario():
        async def reads(scope, receive, send):
            await receive()
            await hello(scope, receive, send)

        peer = serving(reads)
        peer.post(length=3, expect=True)
        await settle(peer)
        assert peer.take() == [("consumed", 0)]
        peer.body(b"abc", True)
        await settle(peer)
        assert peer.status == 200
        peer = serving(hello)
        peer.post(length=3, expect=True)
        await settle(peer)
        assert peer.take() == [("head", 200, False), ("data", b"hello", True)]

    run(scenario)


def test_a_streamed_answer_says_its_head_with_the_first_body_message():
    async def scenario():
        gate = asyncio.Event()

        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await gate.wait()
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            await send({"type": "http.response.body", "body": b"b", "more_body": True})
            await send({"type": "http.response.body"})

        peer = serving(app)
        peer.get()
        await settle(peer)
        assert peer.take() == []
        gate.set()
        await settle(peer)
        assert peer.take() == [("head", 200, False), ("data", b"a", False), ("data", b"b", False), ("data", b"", True)]

    run(scenario)


def test_an_answer_without_content_length_gets_one_when_it_is_whole():
    async def scenario():
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"abc"})

        peer = serving(app)
        peer.get()
        await settle(peer)
        assert peer.codec.response.length == 3

    run(scenario)


def test_header_names_are_made_lower_case_and_transfer_encoding_is_ours():
    async def scenario():
        async def app(scope, receive, send):
            headers = [[b"X-One", b"1"], (b"Content-Length", b"2"), (b"transfer-encoding", b"chunked")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"ok"})

        peer = serving(app)
        peer.get()
        await settle(peer)
        assert peer.codec.response.headers == [(b"x-one", b"1"), (b"content-length", b"2")]
        assert peer.codec.response.length == 2

    run(scenario)


@pytest.mark.parametrize("method, status", [("HEAD", 200), ("GET", 304), ("GET", 204)])
def test_answers_that_have_no_body_send_none(method, status):
    async def scenario():
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"hello", "more_body": scope["path"] == "/stream"})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        for path in (b"/", b"/stream"):
            peer = serving(app)
            peer.ask(method, path)
            await settle(peer)
            assert peer.take() == [("head", status, True)]
            assert peer.watcher.broken == []

    run(scenario)


def test_send_waits_while_there_is_no_room():
    async def scenario():
        done = []

        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200})
            for _ in range(2):
                await send({"type": "http.response.body", "body": b"x" * 10, "more_body": True})
                done.append(1)
            await send({"type": "http.response.body"})

        peer = serving(app)
        peer.codec.full = True
        peer.get()
        await settle(peer)
        assert done == []
        peer.conn.room(peer.stream)
        await settle(peer)
        assert done == [1]
        peer.codec.full = False
        peer.conn.room(peer.stream)
        await settle(peer)
        assert done == [1, 1]
        assert peer.app.running == 0

    run(scenario)


def test_a_client_that_leaves_ends_receive_with_disconnect_and_send_with_an_os_error():
    async def scenario():
        seen = []

        async def app(scope, receive, send):
            await receive()
            seen.append(await receive())
            try:
                await send({"type": "http.response.start", "status": 200})
            except OSError as error:
                seen.append(error)
                raise RuntimeError("wrapped as frameworks do") from error

        peer = serving(app)
        peer.get()
        await settle(peer)
        assert seen == []
        peer.leave()
        await settle(peer)
        assert seen[0] == {"type": "http.disconnect"}
        assert isinstance(seen[1], Disconnected) and isinstance(seen[1], NetError)
        assert peer.watcher.broken == []
        assert peer.watcher.finished[0].error.status == 499

    run(scenario)


def test_a_sender_waiting_for_room_learns_that_the_client_left():
    async def scenario():
        seen = []

        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200})
            try:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
            except OSError as error:
                seen.append(type(error))

        peer = serving(app)
        peer.codec.full = True
        peer.get()
        await settle(peer)
        peer.leave()
        await settle(peer)
        assert seen == [Disconnected]

    run(scenario)


def test_a_receive_that_was_cancelled_loses_no_message():
    async def scenario():
        got = []

        async def app(scope, receive, send):
            try:
                await asyncio.wait_for(receive(), 0.001)
            except TimeoutError:
                got.append("late")
            task = asyncio.create_task(receive())
            got.append((await task)["body"])
            await hello(scope, receive, send)

        peer = serving(app)
        peer.post()
        while "late" not in got:
            await asyncio.sleep(0.001)
        peer.body(b"abc", True)
        await settle(peer)
        assert got == ["late", b"abc"]

    run(scenario)


def test_what_is_ready_can_be_made_a_task():
    async def scenario():
        async def app(scope, receive, send):
            message = await asyncio.create_task(receive())
            assert message["type"] == "http.request"
            await hello(scope, receive, send)

        peer = serving(app)
        peer.get()
        await settle(peer)
        assert peer.answer == b"hello"

    run(scenario)


def test_an_app_that_raises_before_the_head_is_a_500_without_the_reason():
    async def scenario():
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
            raise ValueError("secret")

        peer = serving(app)
        peer.get()
        await settle(peer)
        assert peer.status == 500
        assert b"secret" not in peer.answer
        [error] = peer.watcher.broken
        assert str(error) == "secret" and error.__traceback__ is not None

    run(scenario)


def test_with_debug_on_the_page_has_the_traceback():
    async def scenario():
        async def app(scope, receive, send):
            raise ValueError("<secret>")

        peer = serving(app)
        peer.service.debug = True
        peer.get()
        await settle(peer)
        assert peer.status == 500 and b"ValueError: <secret>" in peer.answer and b"Traceback" in peer.answer
        peer = serving(app)
        peer.service.debug = True
        peer.get(headers=[(b"accept", b"text/html")])
        await settle(peer)
        assert b"ValueError: &lt;secret&gt;" in peer.answer and b"<secret>" not in peer.answer

    run(scenario)


def test_an_app_that_raises_after_the_head_resets_the_connection():
    async def scenario():
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            raise ValueError("late")

        peer = serving(app)
        peer.get()
        await settle(peer)
        said = peer.take()
        assert said[:2] == [("head", 200, False), ("data", b"a", False)]
        assert said[2][0] == "reset"
        assert len(peer.watcher.broken) == 1

    run(scenario)


def test_an_app_that_raises_after_its_answer_is_logged_and_the_answer_stands():
    async def scenario():
        async def app(scope, receive, send):
            await hello(scope, receive, send)
            raise ValueError("background task")

        peer = serving(app)
        peer.get()
        await settle(peer)
        assert peer.take() == [("head", 200, False), ("data", b"hello", True)]
        assert len(peer.watcher.broken) == 1

    run(scenario)


START = {"type": "http.response.start", "status": 200}
BAD = {
    "without a response": [],
    "before its response was complete": [{"type": "http.response.start", "status": 200}],
    "http.response.body first": [{"type": "http.response.body"}],
    "http.response.start twice": [{"type": "http.response.start", "status": 200}] * 2,
    "message of type 'http.response.stort'": [{"type": "http.response.stort"}],
    "message of type None": [{}],
    "status '200'": [{"type": "http.response.start", "status": "200"}],
    "status None": [{"type": "http.response.start"}],
    "status 101": [{"type": "http.response.start", "status": 101}],
    "not a pair of bytes": [{"type": "http.response.start", "status": 200, "headers": [("a", "b")]}],
    "content-length b'-1'": [{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"-1")]}],
    "5 bytes with a content-length of 3": [
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]},
        {"type": "http.response.body", "body": b"hello"},
    ],
    "2 bytes with a content-length of 3": [
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]},
        {"type": "http.response.body", "body": b"he"},
    ],
    "body of type str": [START, {"type": "http.response.body", "body": "text"}],
    "http.response.trailers without": [START, {"type": "http.response.trailers"}],
}


@pytest.mark.parametrize("what", BAD)
def test_a_broken_contract_is_a_500_and_the_log_names_it(what):
    async def scenario():
        async def app(scope, receive, send):
            for message in BAD[what]:
                await send(message)

        peer = serving(app)
        peer.get()
        await settle(peer)
        assert peer.status == 500
        [error] = peer.watcher.broken
        assert what in str(error) and error.hint

    run(scenario)


@pytest.mark.parametrize("bodies", [[b"he", b"llo!"], [b"he", b"l"]])
def test_a_stream_that_breaks_its_content_length_is_reset(bodies):
    async def scenario():
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
            for body in bodies:
                await send({"type": "http.response.body", "body": body, "more_body": body == b"he"})

        peer = serving(app)
        peer.get()
        await settle(peer)
        assert peer.take()[-1][0] == "reset"
        assert "content-length" in str(peer.watcher.broken[0])

    run(scenario)


def test_a_head_that_the_codec_refuses_is_a_500():
    async def scenario():
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": [(b"x-evil", b"a\r\nb: c")]})
            await send({"type": "http.response.body", "body": b"x"})

        peer = serving(app)
        peer.conn.codec = H1(peer.conn, peer.service.limits)
        peer.conn.codec.feed(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1)
        peer.carrier.hold = True
        await settle(peer)
        answer = b"".join(peer.conn.codec.take())
        assert answer.startswith(b"HTTP/1.1 500 ") and b"evil" not in answer
        assert "x-evil" in str(peer.watcher.broken[0])

    run(scenario)


def test_messages_after_the_end_are_ignored():
    async def scenario():
        async def app(scope, receive, send):
            await hello(scope, receive, send)
            await send({"type": "http.response.body", "body": b"more"})
            await send({"type": "http.response.start", "status": 500})

        peer = serving(app)
        peer.get()
        await settle(peer)
        assert peer.take() == [("head", 200, False), ("data", b"hello", True)]
        assert peer.watcher.broken == []

    run(scenario)


def test_trailers_end_an_answer_that_announced_them():
    async def scenario():
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "trailers": True})
            await send({"type": "http.response.body", "body": b"abc"})
            await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": True})
            await send({"type": "http.response.trailers", "headers": [(b"x-more", b"2")]})

        peer = serving(app)
        peer.get()
        await settle(peer)
        assert peer.take() == [
            ("head", 200, False),
            ("data", b"abc", False),
            ("end", [(b"x-sum", b"1"), (b"x-more", b"2")]),
        ]

    run(scenario)


def test_an_early_hint_is_an_interim_answer():
    async def scenario():
        async def app(scope, receive, send):
            await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
            await hello(scope, receive, send)

        peer = serving(app)
        peer.get()
        await settle(peer)
        assert peer.take()[0] == ("inform", 103, [(b"link", b"</a.css>; rel=preload")])

    run(scenario)


def test_half_closing_after_the_request_is_disconnect_but_the_answer_is_still_sent():
    async def scenario():
        got = []

        async def app(scope, receive, send):
            got.append((await receive())["type"])
            got.append((await receive())["type"])
            await hello(scope, receive, send)

        peer = serving(app)
        peer.get()
        await settle(peer)
        peer.conn.reset(peer.stream, NetError("half-closed", step="receive"), "read")
        await settle(peer)
        assert got == ["http.request", "http.disconnect"]
        assert peer.answer == b"hello"

    run(scenario)


def test_an_app_that_gives_up_on_disconnect_is_not_to_blame():
    async def scenario():
        async def app(scope, receive, send):
            while (await receive())["type"] != "http.disconnect":
                pass

        peer = serving(app)
        peer.get()
        await settle(peer)
        peer.conn.reset(peer.stream, NetError("half-closed", step="receive"), "read")
        await settle(peer)
        assert peer.status == 499
        assert peer.watcher.broken == []

    run(scenario)


def test_a_cancelled_task_answers_and_is_forgotten():
    async def scenario():
        async def app(scope, receive, send):
            await asyncio.Event().wait()

        peer = serving(app)
        peer.get()
        await settle(peer)
        [cycle] = peer.app.cycles
        cycle.task.cancel()
        await settle(peer)
        assert peer.status == 503
        assert peer.app.running == 0

    run(scenario)


def test_each_request_has_its_own_context():
    from contextvars import ContextVar

    var = ContextVar("var", default=0)

    async def scenario():
        seen = []

        async def app(scope, receive, send):
            seen.append(var.get())
            var.set(1)
            await hello(scope, receive, send)

        peer = serving(app)
        for _ in range(2):
            peer.get()
            await settle(peer)
        assert seen == [0, 0]

    run(scenario)


def test_ten_thousand_requests_leave_nothing_behind_without_the_collector():
    async def scenario():
        async def app(scope, receive, send):
            await receive()
            if scope["path"] == "/raise":
                raise ValueError("x")
            if scope["path"] == "/wrong":
                await send({"type": "http.response.body"})
            await hello(scope, receive, send)

        peer = serving(app)

        async def rounds(count):
            for i in range(count):
                peer.get((b"/", b"/raise", b"/wrong", b"/")[i % 4])
                await settle(peer)
                peer.watcher.finished.clear()
                peer.watcher.broken.clear()
                peer.take()

        await rounds(100)
        gc.collect()
        gc.disable()
        try:
            before = len(gc.get_objects())
            await rounds(10_000)
            grown = [o for o in gc.get_objects() if isinstance(o, (Cycle, Exchange, asyncio.Task))]
            assert len(gc.get_objects()) - before < 100
            assert len(grown) < 10
        finally:
            gc.enable()

    run(scenario)
