"""serve.websocket: ASGI websocket scopes, asked through a connection whose codec records what it is told."""

import asyncio
import gc

import pytest

from fairlead.core.errors import NetError
from fairlead.core.limits import WebSocketLimits
from fairlead.serve.app import App, Disconnected
from fairlead.serve.waiter import Waiter
from fairlead.serve.websocket import Socket, WebSockets
from fairlead.wire import _plain
from fairlead.wire.wsdeflate import Settings
from recorder import Peer
from wskit import close, frames_of

HEADERS = [
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    (b"sec-websocket-version", b"13"),
]
KEY = 0x01020304


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario(), 10))


class Client(Peer):
    """A browser: `open()` asks, `say()` sends frames, `heard()` gives those it got."""

    def __init__(self, app, *, limits=None, deflate=None, origins=None, **options):
        handler = App(app, asyncio.get_running_loop(), **options)
        handler.sockets = WebSockets(handler, limits, deflate=deflate, origins=origins)
        super().__init__(handler)
        self.app = handler

    async def open(self, headers=(), protocol=b"", **more):
        self.stream += 1
        self.conn.in_feed = True
        request = self.request(headers, protocol, **more)
        self.conn.head(self.stream, request, not protocol)
        self.conn.in_feed = False
        await self.settle()
        return request

    def request(self, headers, protocol, target=b"/chat?room=1", method="GET", key=HEADERS):
        from fairlead.core.message import Request

        request = Request(method, "http", b"shop.example", target, [*key, *headers], "2" if protocol else "1.1", 0)
        request.upgrade = b"" if protocol else b"websocket"
        request.protocol = protocol
        request.path, _, query = target.decode().partition("?")
        request.raw_path, request.query = request.path.encode(), query.encode()
        return request

    async def settle(self):
        for _ in range(20):
            await asyncio.sleep(0)

    async def say(self, *frames):
        """Frames (first byte, payload), in one read."""
        data = b"".join(_plain.frame(first, payload, KEY) for first, payload in frames)
        self.conn.in_feed = True
        self.body(data)
        self.conn.in_feed = False
        await self.settle()

    def heard(self):
        """Frames that were sent since the last look."""
        data = b"".join(word[1] for word in self.codec.said if word[0] == "data")
        self.codec.said = [word for word in self.codec.said if word[0] != "data"]
        return list(frames_of(data))

    @property
    def socket(self):
        return self.conn.find(self.stream).answer


async def echo(scope, receive, send):
    assert (await receive()) == {"type": "websocket.connect"}
    await send({"type": "websocket.accept"})
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            scope["state"]["ends"].append((event["code"], event["reason"]))
            return
        await send({**event, "type": "websocket.send"})


def test_messages_go_through_the_application_and_back_in_the_same_read():
    async def scenario():
        client = Client(echo, state={"ends": (ends := [])})
        await client.open()
        assert client.codec.headers[b"sec-websocket-accept"] == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        at_once = []

        def read():
            client.body(_plain.frame(0x81, b"hi", KEY) + _plain.frame(0x82, b"\0", KEY))
            at_once.extend(client.heard())

        asyncio.get_running_loop().call_soon(read)
        await client.settle()
        assert at_once == [(0x81, b"hi"), (0x82, b"\0")], "no further turn of the loop was needed"
        await client.say((0x88, close(1000, "done")))
        assert client.heard() == [(0x88, close(1000))]
        assert client.codec.said[-1] == ("end", None)
        assert ends == [(1000, "done")]
        assert client.app.running == 0
        [done] = client.watcher.finished
        assert (done.journey.messages_in, done.journey.messages_out) == (2, 2)
        assert done.tunnel and done.error is None

    run(scenario)


def test_the_scope_has_what_the_specification_asks_for():
    async def scenario():
        seen = {}

        async def app(scope, receive, send):
            seen.update(scope)

        client = Client(app, state={"pool": 1}, root_path="/outer", strip="/chat")
        request = await client.open([(b"sec-websocket-protocol", b"v2, v1")])
        seen["extensions"].pop("fairlead.journey")
        assert seen == {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": "/chat",
            "raw_path": b"/chat",
            "query_string": b"room=1",
            "root_path": "/outer/chat",
            "headers": request.headers,
            "client": ("192.0.2.7", 4711),
            "server": ("192.0.2.1", 80),
            "subprotocols": ["v2", "v1"],
            "state": {"pool": 1},
            "extensions": {"websocket.http.response": {}},
        }

    run(scenario)


def test_over_an_extended_connect_the_handshake_is_200_and_the_rest_the_same():
    async def scenario():
        client = Client(echo, state={"ends": []})
        await client.open(protocol=b"websocket", method="CONNECT", key=HEADERS[1:])
        assert client.status == 200
        assert b"sec-websocket-accept" not in client.codec.headers
        await client.say((0x81, b"over h2"))
        assert client.heard() == [(0x81, b"over h2")]

    run(scenario)


def answering(*messages):
    async def app(scope, receive, send):
        await receive()
        for message in messages:
            await send(message)
        scope["state"]["after"].append(await receive())

    return app


def test_subprotocol_and_headers_of_the_accept_are_in_the_handshake():
    async def scenario():
        accept = {"type": "websocket.accept", "subprotocol": "v1", "headers": [(b"X-Room", b"7")]}
        client = Client(answering(accept), state={"after": []})
        await client.open([(b"sec-websocket-protocol", b"v2, v1")])
        assert client.status == 101
        assert client.codec.headers[b"sec-websocket-protocol"] == b"v1"
        assert client.codec.headers[b"x-room"] == b"7"

    run(scenario)


def test_a_close_before_the_accept_is_403():
    async def scenario():
        client = Client(answering({"type": "websocket.close"}), state={"after": (after := [])})
        await client.open()
        assert client.status == 403
        assert after == [{"type": "websocket.disconnect", "code": 1006, "reason": "refused"}]

    run(scenario)


def test_the_application_may_deny_with_an_answer_of_its_own():
    async def scenario():
        start = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"WWW-Authenticate", b"Basic")]}
        first = {"type": "websocket.http.response.body", "body": b"who ", "more_body": True}
        last = {"type": "websocket.http.response.body", "body": b"are you?"}

        async def app(scope, receive, send):
            await receive()
            for message in (start, first, last):
                await send(message)

        client = Client(app)
        await client.open()
        assert client.status == 401
        assert client.codec.headers[b"www-authenticate"] == b"Basic"
        assert client.answer == b"who are you?"
        client = Client(answering(start, last), state={"after": []})
        await client.open()
        assert (client.status, client.answer, client.codec.response.length) == (401, b"are you?", 8)

    run(scenario)


@pytest.mark.parametrize("origin", [b"https://evil.example", b"null", b"http://shop.example.evil.example"])
def test_another_sites_page_gets_403_before_the_application_is_asked(origin):
    async def scenario():
        asked = []

        async def app(scope, receive, send):
            asked.append(scope)

        client = Client(app, origins=["self", "https://admin.example"])
        await client.open([(b"origin", origin), (b"cookie", b"session=secret")])
        assert client.status == 403
        assert not asked

    run(scenario)


@pytest.mark.parametrize("origin", [b"http://shop.example", b"https://admin.example", None])
def test_our_own_pages_and_programs_pass(origin):
    async def scenario():
        client = Client(echo, state={"ends": []}, origins=["self", "https://admin.example"])
        await client.open([(b"origin", origin)] if origin else [])
        assert client.status == 101

    run(scenario)


def test_another_version_is_426_and_a_bad_key_400():
    async def scenario():
        client = Client(echo)
        await client.open(key=[HEADERS[0], (b"sec-websocket-version", b"8")])
        assert client.status == 426
        assert client.codec.headers[b"sec-websocket-version"] == b"13"
        client = Client(echo)
        await client.open(key=HEADERS[1:])
        assert client.status == 400

    run(scenario)


# ---- ends


ENDS = {
    "a close without a code": ([(0x88, b"")], (1005, "")),
    "the peer goes away": ([(0x88, close(1001))], (1001, "")),
    "a code of its own": ([(0x88, close(4321, "häm"))], (4321, "häm")),
    "a broken rule": ([(0x83, b"")], (1006, "a reserved opcode")),
    "text that is not UTF-8": ([(0x81, b"\xff")], (1006, "text that is not UTF-8")),
    "too big": ([(0x82, b"x" * 1001)], (1006, "the message is too big")),
}


@pytest.mark.parametrize("name", ENDS)
def test_disconnect_says_how_it_ended(name):
    async def scenario():
        frames, want = ENDS[name]
        client = Client(echo, state={"ends": (ends := [])}, limits=WebSocketLimits(message=1000))
        await client.open()
        await client.say(*frames)
        assert ends == [want]
        [done] = client.watcher.finished
        assert (getattr(done.error, "rule", "") != "") == (want[0] == 1006)

    run(scenario)


def test_a_lost_connection_is_1006_and_send_raises_an_oserror():
    async def scenario():
        caught = []

        async def app(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})
            caught.append(await receive())
            try:
                await send({"type": "websocket.send", "text": "?"})
            except OSError as error:
                caught.append(error)
                raise

        client = Client(app)
        await client.open()
        client.leave()
        await client.settle()
        assert caught[0]["code"] == 1006
        assert isinstance(caught[1], Disconnected)
        assert client.watcher.broken == [], "an application that only passes the news on is not broken"
        assert client.app.running == 0

    run(scenario)


def test_a_client_that_leaves_before_the_answer_is_told_to_the_application():
    async def scenario():
        got = []

        async def app(scope, receive, send):
            got.append(await receive())
            got.append(await receive())

        client = Client(app)
        await client.open()
        client.leave()
        await client.settle()
        assert [event["type"] for event in got] == ["websocket.connect", "websocket.disconnect"]

    run(scenario)


def test_the_end_of_the_tunnel_without_a_close_is_1006():
    async def scenario():
        client = Client(echo, state={"ends": (ends := [])})
        await client.open()
        client.conn.end(client.stream, None)
        await client.settle()
        assert ends == [(1006, "")]
        assert client.watcher.finished

    run(scenario)


def test_the_application_closes_with_code_and_reason_and_hears_the_answer():
    async def scenario():
        accept, end = {"type": "websocket.accept"}, {"type": "websocket.close", "code": 4000, "reason": "full"}
        client = Client(answering(accept, end), state={"after": (after := [])})
        await client.open()
        assert client.heard() == [(0x88, close(4000, "full"))]
        assert client.app.running == 1
        await client.say((0x82, b"still sending"), (0x88, close(4000)))
        assert after == [{"type": "websocket.disconnect", "code": 4000, "reason": ""}]
        assert client.codec.said[-1] == ("end", None)

    run(scenario)


def test_a_drain_closes_with_1012():
    async def scenario():
        client = Client(echo, state={"ends": (ends := [])})
        await client.open()
        client.conn.farewell()
        assert client.heard()[0][1][:2] == (1012).to_bytes(2, "big")
        await client.say((0x88, close(1012)))
        assert ends == [(1012, "")]

    run(scenario)


def test_an_application_that_returns_closes_with_1000():
    async def scenario():
        async def app(scope, receive, send):
            await send({"type": "websocket.accept"})

        client = Client(app)
        await client.open()
        assert client.heard() == [(0x88, close(1000))]

    run(scenario)


WRONG = {
    "nothing at all": ([], 500, "returned without"),
    "a send before the accept": ([{"type": "websocket.send", "text": "x"}], 500, "out of place"),
    "an unknown message": ([{"type": "websocket.dance"}], 500, "out of place"),
    "another subprotocol": ([{"type": "websocket.accept", "subprotocol": "v9"}], 500, "not offered"),
    "a header of text": ([{"type": "websocket.accept", "headers": [("a", "b")]}], 500, "not a pair of bytes"),
    "a header of ours": ([{"type": "websocket.accept", "headers": [(b"upgrade", b"x")]}], 500, "the server's"),
    "a second accept": ([{"type": "websocket.accept"}, {"type": "websocket.accept"}], 1011, "out of place"),
    "an empty send": ([{"type": "websocket.accept"}, {"type": "websocket.send"}], 1011, "neither text nor bytes"),
    "bytes as text": ([{"type": "websocket.accept"}, {"type": "websocket.send", "text": b"x"}], 1011, "text of type"),
    "a bad code": ([{"type": "websocket.accept"}, {"type": "websocket.close", "code": 99}], 1011, "code 99"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_an_application_gets_wrong_is_named(name):
    async def scenario():
        messages, code, words = WRONG[name]

        async def app(scope, receive, send):
            for message in messages:
                await send(message)

        client = Client(app)
        await client.open()
        assert words in str(client.watcher.broken[0])
        if code == 500:
            assert client.status == 500
        else:
            assert client.heard()[-1][1][:2] == code.to_bytes(2, "big")

    run(scenario)


def test_an_application_that_raises_closes_with_1011():
    async def scenario():
        async def app(scope, receive, send):
            await send({"type": "websocket.accept"})
            await receive()
            await receive()
            raise ValueError("oops")

        client = Client(app)
        await client.open()
        await client.say((0x81, b"x"))
        assert client.heard() == [(0x88, close(1011))]
        assert [str(error) for error in client.watcher.broken] == ["oops"]

    run(scenario)


# ---- back-pressure


def test_messages_nobody_receives_withhold_credit_and_are_bounded():
    async def scenario():
        go = asyncio.Event()
        got = []

        async def app(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})
            await go.wait()
            while (event := await receive())["type"] == "websocket.receive":
                got.append(event["bytes"])

        client = Client(app, limits=WebSocketLimits(queue=1000))
        await client.open()
        for i in range(40):
            await client.say((0x82, bytes([i]) * 100))
        exchange = client.conn.find(client.stream)
        assert exchange.withheld >= 30 * 100
        assert client.socket.ws.messages_in < 10
        go.set()
        await client.settle()
        assert got == [bytes([i]) * 100 for i in range(40)]
        assert exchange.withheld == 0

    run(scenario)


def test_send_waits_while_the_peer_takes_nothing():
    async def scenario():
        sent = []

        async def app(scope, receive, send):
            await send({"type": "websocket.accept"})
            for i in range(5):
                await send({"type": "websocket.send", "text": str(i)})
                sent.append(i)
            await receive()
            await receive()

        client = Client(app)
        client.codec.full = True
        await client.open()
        assert sent == []
        client.codec.full = False
        client.conn.room(client.stream)
        await client.settle()
        assert sent == [0, 1, 2, 3, 4]
        assert client.heard() == [(0x81, b"%d" % i) for i in range(5)]

    run(scenario)


def test_tasks_that_all_send_to_a_slow_peer_wait_in_turn():
    async def scenario():
        async def app(scope, receive, send):
            await send({"type": "websocket.accept"})
            await asyncio.gather(*(send({"type": "websocket.send", "text": str(i)}) for i in range(5)))

        client = Client(app)
        client.codec.full = True
        await client.open()
        for count in range(1, 6):
            assert len([word for word in client.codec.said if word[0] == "data"]) == count
            client.conn.room(client.stream)
            client.codec.full = count < 4
            await client.settle()
            if count == 4:
                break
        assert client.heard() == [(0x81, b"%d" % i) for i in range(5)] + [(0x88, close(1000))]

    run(scenario)


def test_pings_of_a_peer_that_takes_nothing_withhold_credit():
    async def scenario():
        client = Client(echo, state={"ends": []})
        await client.open()
        client.codec.full = True
        await client.say((0x89, b"?"))
        assert client.conn.find(client.stream).withheld > 0
        client.codec.full = False
        client.conn.room(client.stream)
        assert client.conn.find(client.stream).withheld == 0

    run(scenario)


# ---- waiting


def test_a_cancelled_receive_loses_no_message():
    async def scenario():
        got = []

        async def app(scope, receive, send):
            await send({"type": "websocket.accept"})
            await receive()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(receive(), 0.001)
            got.append("timed out")
            got.append(await receive())

        client = Client(app)
        await client.open()
        while not got:
            await asyncio.sleep(0)
        assert got == ["timed out"]
        await client.say((0x81, b"kept"))
        assert got[1]["text"] == "kept"

    run(scenario)


def test_several_tasks_may_receive_and_each_message_goes_to_one():
    async def scenario():
        got = []

        async def app(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})

            async def reader(name):
                while (event := await receive())["type"] == "websocket.receive":
                    got.append((name, event["text"]))

            await asyncio.gather(reader("a"), reader("b"))

        client = Client(app)
        await client.open()
        await client.say((0x81, b"1"), (0x81, b"2"), (0x81, b"3"))
        await client.say((0x88, b""))
        assert sorted(text for _, text in got) == ["1", "2", "3"]
        assert client.app.running == 0

    run(scenario)


def test_a_message_that_comes_while_a_task_runs_wakes_through_the_loop():
    async def scenario():
        order = []
        loop = asyncio.get_running_loop()
        waiter = Waiter.__new__(Waiter)
        waiter.begin(loop)

        async def waiting():
            await waiter
            order.append("woken")

        task = loop.create_task(waiting())
        await asyncio.sleep(0)
        waiter.wake()  # from inside this task
        order.append("went on")
        await task
        assert order == ["went on", "woken"]

    run(scenario)


def test_context_variables_are_the_tasks_own():
    async def scenario():
        from contextvars import ContextVar

        name = ContextVar("name", default="none")

        async def app(scope, receive, send):
            name.set("task")
            await send({"type": "websocket.accept"})
            await receive()
            await receive()
            await send({"type": "websocket.send", "text": name.get()})
            await receive()

        client = Client(app)
        await client.open()
        name.set("outside")
        await client.say((0x81, b"x"))
        assert client.heard() == [(0x81, b"task")]
        assert name.get() == "outside"

    run(scenario)


def test_compression_is_agreed_and_used():
    async def scenario():
        client = Client(echo, state={"ends": []}, deflate=Settings(least=10))
        await client.open([(b"sec-websocket-extensions", b"permessage-deflate; client_max_window_bits")])
        assert b"server_no_context_takeover" in client.codec.headers[b"sec-websocket-extensions"]
        await client.say((0x81, b"y" * 500))
        [(first, payload)] = client.heard()
        assert first == 0xC1 and len(payload) < 20

    run(scenario)


def test_a_finished_websocket_leaves_nothing_behind():
    async def scenario():
        client = Client(echo, state={"ends": []})
        for _ in range(3):
            await client.open()
            await client.say((0x81, b"x"), (0x88, b""))
        client.take()
        client.watcher.finished.clear()
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                await client.open()
                await client.say((0x81, b"x"), (0x88, b""))
                client.take()
                client.watcher.finished.clear()
            kinds = {Socket}
            assert sum(type(one) in kinds for one in gc.get_objects()) <= 1
        finally:
            gc.enable()

    run(scenario)


def test_a_plain_request_of_the_same_application_is_http():
    async def scenario():
        seen = []

        async def app(scope, receive, send):
            seen.append(scope["type"])

        client = Client(app)
        client.get()
        await client.settle()
        client.ask("GET", b"/", [(b"upgrade", b"h2c")])
        await client.settle()
        assert seen == ["http", "http"]

    run(scenario)


def test_the_reason_of_a_reset_reaches_the_application():
    async def scenario():
        client = Client(echo, state={"ends": (ends := [])})
        await client.open()
        client.conn.gone(NetError("the connection was reset", step="receive", status=499))
        await client.settle()
        assert ends[0][0] == 1006

    run(scenario)
