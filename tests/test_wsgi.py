"""serve.wsgi: one WSGI application (PEP 3333), asked through a connection whose codec records what it is told."""

import asyncio
import gc
import io
import threading
import weakref
from wsgiref.validate import validator

import pytest

from fairlead.core.errors import AppError
from fairlead.core.exchange import Exchange
from fairlead.core.handler import Handler
from fairlead.net.poll import Poller
from fairlead.serve.app import Disconnected
from fairlead.serve.blocking import Pool
from fairlead.serve.wsgi import WINDOW, FileWrapper, Wsgi
from recorder import Peer

HEADERS = [("Content-Type", "text/plain"), ("Content-Length", "5")]


def serving(scenario, app, most=4, room=100, **options):
    """Run `scenario(peer)` with an application; `options` are Wsgi's."""

    async def main():
        poller = Poller(asyncio.get_running_loop())
        pool = Pool(poller)
        handler = Wsgi(app, pool.lane("app", most, room), pool=pool, **options)
        peer = Peer(handler, clock=poller)
        peer.app = handler
        try:
            await asyncio.wait_for(scenario(peer), 20)
        finally:
            pool.close()
            poller.close()

    asyncio.run(main())


async def until(condition):
    """Let the loop turn until something holds."""
    while not condition():
        await asyncio.sleep(0.001)


async def over(peer, count=1):
    """Until so many requests are over."""
    await until(lambda: len(peer.watcher.finished) >= count)


def hello(environ, start_response):
    start_response("200 OK", HEADERS)
    return [b"hello"]


def answered(app, ask=lambda peer: peer.get(), **options):
    """What one request is answered, as the codec's words; and the peer."""
    found = []

    async def scenario(peer):
        ask(peer)
        await over(peer)
        found.extend([peer.take(), peer])

    serving(scenario, app, **options)
    return found


# ---- answers


def test_a_whole_answer_leaves_as_one_head_and_one_last_chunk_with_its_time_in_the_queue():
    said, peer = answered(hello)
    assert said == [("head", 200, False), ("data", b"hello", True)]
    assert peer.codec.response.length == 5 and peer.codec.response.reason == b"OK"
    assert peer.codec.headers[b"content-type"] == b"text/plain"
    [done] = peer.watcher.finished
    assert done.journey.routed <= done.journey.started <= done.journey.answered
    assert peer.app.running == 0


@pytest.mark.parametrize("result", [[b"a" * 9], (b"a" * 9,), [b"aaa", b"", b"aaaaaa"]])
def test_a_length_is_found_where_it_can_be(result):
    def app(environ, start_response):
        start_response("201 Made", [])
        return result

    said, peer = answered(app)
    assert peer.answer == b"" and b"".join(word[1] for word in said if word[0] == "data") == b"a" * 9
    assert (peer.codec.response.status, peer.codec.response.reason) == (201, b"Made")
    assert peer.codec.response.length == (9 if len(result) == 1 else -1)


def test_an_iterable_whose_first_block_is_all_that_was_promised_is_a_whole_answer():
    def app(environ, start_response):
        start_response("200 OK", HEADERS)
        yield b""
        yield b"hello"

    said, _ = answered(app)
    assert said == [("head", 200, False), ("data", b"hello", True)]


def test_the_head_waits_for_the_first_block_that_is_not_empty():
    gate = threading.Event()

    def app(environ, start_response):
        start_response("200 OK", [])
        yield b""
        gate.wait()
        yield b"x"
        yield b"y"

    async def scenario(peer):
        peer.get()
        await until(lambda: peer.app.lane.busy == 1)
        assert peer.take() == []
        gate.set()
        await over(peer)
        assert peer.take() == [("head", 200, False), ("data", b"x", False), ("data", b"y", False), ("end", None)]

    serving(scenario, app)


def test_write_sends_at_once_and_the_iterable_goes_on_behind_it():
    def app(environ, start_response):
        write = start_response("200 OK", [])
        write(b"written ")
        write(b"twice ")
        return [b"returned"]

    said, _ = answered(app)
    assert b"".join(word[1] for word in said if word[0] == "data") == b"written twice returned"
    assert said[0] == ("head", 200, False) and said[-1] == ("end", None)


@pytest.mark.parametrize(
    "method, status, length", [("HEAD", "200 OK", 5), ("GET", "204 No Content", None), ("GET", "304 Not Modified", 5)]
)
def test_an_answer_without_a_body_has_none(method, status, length):
    def app(environ, start_response):
        start_response(status, HEADERS if length else [])
        return [b"hello"]

    said, peer = answered(app, lambda peer: peer.ask(method, b"/"))
    assert said == [("head", int(status[:3]), True)]
    assert peer.codec.headers.get(b"content-length") == (b"5" if length else None)


def test_a_head_request_to_a_streaming_application_ends_with_its_head():
    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"a"
        yield b"b"

    said, _ = answered(app, lambda peer: peer.ask("HEAD", b"/"))
    assert said == [("head", 200, True)]


def test_a_file_is_read_in_blocks_and_closed():
    file = io.BytesIO(b"z" * 200_000)

    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "200000")])
        return environ["wsgi.file_wrapper"](file)

    said, _ = answered(app)
    blocks = [word[1] for word in said if word[0] == "data"]
    assert b"".join(blocks) == b"z" * 200_000 and max(map(len, blocks)) == 65536
    assert file.closed
    assert list(FileWrapper(io.BytesIO(b"ab"), 100_000)) == [b"ab"]


def test_framing_is_the_connection_s_and_not_the_application_s():
    def app(environ, start_response):
        start_response("200 OK", [("Transfer-Encoding", "chunked"), ("Keep-Alive", "timeout=5"), ("X-A", "b\xe9")])
        return [b"x"]

    _, peer = answered(app)
    assert peer.codec.response.headers == [(b"x-a", b"b\xe9")]


# ---- the environment


def test_the_environment_has_what_pep_3333_asks_for():
    seen = {}

    def app(environ, start_response):
        seen.update(environ)
        return hello(environ, start_response)

    fields = [
        (b"host", b"shop.example"), (b"x-tag", b"one"), (b"x-tag", b"two"), (b"cookie", b"a=1"), (b"cookie", b"b=2"),
        (b"content-type", b"text/plain"), (b"content-length", b"0"), (b"x_tag", b"forged"), (b"proxy", b"http://evil"),
    ]  # fmt: skip
    answered(app, lambda peer: peer.get(b"/shop/a%20b%C3%A9?x=1&y", fields), strip="/shop", multiprocess=False)
    assert seen["REQUEST_METHOD"] == "GET" and seen["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("/shop", "/a b\xc3\xa9")
    assert seen["QUERY_STRING"] == "x=1&y"
    assert seen["RAW_URI"] == seen["REQUEST_URI"] == "/shop/a%20b%C3%A9?x=1&y"
    assert (seen["REMOTE_ADDR"], seen["REMOTE_PORT"]) == ("192.0.2.7", "4711")
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"]) == ("192.0.2.1", "80")
    assert (seen["HTTP_HOST"], seen["HTTP_X_TAG"], seen["HTTP_COOKIE"]) == ("shop.example", "one,two", "a=1;b=2")
    assert (seen["CONTENT_TYPE"], seen["CONTENT_LENGTH"]) == ("text/plain", "0")
    assert "HTTP_PROXY" not in seen and "HTTP_CONTENT_TYPE" not in seen
    assert seen["wsgi.version"] == (1, 0) and seen["wsgi.url_scheme"] == "http" and seen["wsgi.input_terminated"]
    assert seen["wsgi.multithread"] and not seen["wsgi.multiprocess"] and not seen["wsgi.run_once"]
    assert type(seen) is dict and seen["wsgi.input"].read() == b""


def test_a_client_named_by_a_trusted_peer_and_https_are_told():
    seen = {}

    def app(environ, start_response):
        seen.update(environ)
        return hello(environ, start_response)

    class Front(Handler):
        def __init__(self, inner):
            self.inner = inner

        def open(self, exchange):
            exchange.client = ("198.51.100.9", 555)
            exchange.request.scheme = "https"
            self.inner.open(exchange)

    async def scenario(peer):
        peer.service.handler = Front(peer.app)
        peer.get()
        await over(peer)

    serving(scenario, app)
    assert (seen["REMOTE_ADDR"], seen["REMOTE_PORT"]) == ("198.51.100.9", "555")
    assert seen["wsgi.url_scheme"] == "https" and seen["HTTPS"] == "on"


def test_the_validator_of_wsgiref_finds_nothing_to_complain_about():
    def app(environ, start_response):
        body = environ["wsgi.input"].read(100)
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    def ask(peer):
        peer.post(b"/a?b", [(b"content-type", b"text/plain"), (b"content-length", b"3")], length=3)
        peer.body(b"abc", True)

    said, peer = answered(validator(app), ask)
    assert not peer.watcher.broken, peer.watcher.broken
    assert said[-1][:2] == ("data", b"abc") or said[-2][:2] == ("data", b"abc")


# ---- bodies


def reading(how):
    """An application that reads in one way and answers what it got."""

    def app(environ, start_response):
        body = how(environ["wsgi.input"])
        start_response("200 OK", [])
        return [body]

    return app


def test_no_thread_is_taken_before_a_small_body_is_whole():
    async def scenario(peer):
        peer.post(length=6)
        peer.body(b"abc")
        assert peer.app.lane.jobs == 0 and peer.app.lane.threads == 0
        peer.body(b"def", True)
        await over(peer)
        assert peer.answer == b"abcdef" and peer.codec.credited == 6

    serving(scenario, reading(lambda stream: stream.read()))


def test_a_chunked_body_ends_by_itself():
    async def scenario(peer):
        peer.post(length=-1)
        peer.body(b"one\ntwo\n")
        peer.conn.end(peer.stream, None)
        await over(peer)
        assert peer.answer == b"two\none\n"

    serving(scenario, reading(lambda stream: b"".join(reversed(list(stream)))))


def test_a_large_body_is_read_as_it_comes_and_credited_as_it_is_read():
    gate = threading.Event()

    def app(environ, start_response):
        stream = environ["wsgi.input"]
        first = stream.read(10)
        gate.wait()
        total = len(first) + sum(len(line) for line in iter(lambda: stream.read(50_000), b""))
        start_response("200 OK", [])
        return [b"%d" % total]

    async def scenario(peer):
        peer.post(length=300_000)
        for _ in range(5):
            peer.body(b"x" * 50_000)
        await until(lambda: peer.app.lane.busy == 1)
        assert peer.codec.credited < 250_000, "what nobody read is not credited"
        gate.set()
        peer.body(b"x" * 50_000, True)
        await over(peer)
        assert peer.answer == b"300000"

    serving(scenario, app)


def test_a_client_that_waits_for_100_continue_gets_it_by_the_first_read():
    async def scenario(peer):
        peer.post(length=3, expect=True)
        await until(lambda: ("consumed", 0) in peer.codec.said)
        peer.body(b"abc", True)
        await over(peer)
        assert peer.answer == b"abc"

    serving(scenario, reading(lambda stream: stream.read()))


def test_a_head_that_promises_much_takes_no_thread_before_something_came():
    async def scenario(peer):
        peer.post(length=300_000)
        peer.body(b"x" * 1000)
        assert peer.app.lane.jobs == 0 and peer.app.lane.threads == 0 and peer.codec.credited == 1000
        peer.body(b"x" * 299_000, True)
        await over(peer)
        assert peer.answer == b"x" * 300_000

    serving(scenario, reading(lambda stream: stream.read()))


def test_clients_that_wait_for_100_continue_get_no_more_than_half_of_the_threads():
    async def scenario(peer):
        lane = peer.app.lane
        peer.post(length=3, expect=True)
        await until(lambda: lane.busy == 1)
        other = Peer(peer.app, peer.service)
        other.post(length=3, expect=True)
        assert ("consumed", 0) in other.codec.said and lane.waiting == 0
        other.body(b"def", True)
        peer.body(b"abc", True)
        await over(peer, 2)
        assert (peer.answer, other.answer) == (b"abc", b"def")

    serving(scenario, reading(lambda stream: stream.read()), most=2)


def test_a_client_that_leaves_in_its_body_makes_the_read_raise():
    seen = []

    def app(environ, start_response):
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            seen.append(error)
            raise

    async def scenario(peer):
        peer.post(length=300_000)
        peer.body(b"x" * 100_000)
        await until(lambda: peer.app.lane.busy == 1)
        peer.leave()
        await until(lambda: seen)
        await until(lambda: peer.app.lane.busy == 0)
        assert isinstance(seen[0], Disconnected) and not peer.watcher.broken

    serving(scenario, app)


# ---- slow and gone clients


def test_an_application_waits_while_the_client_does_not_take_its_answer():
    given = []

    def app(environ, start_response):
        start_response("200 OK", [])
        for _ in range(20):
            given.append(1)
            yield b"x" * 65536

    async def scenario(peer):
        peer.codec.full = True
        peer.get()
        await until(lambda: len(given) * 65536 > WINDOW)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert len(given) * 65536 <= WINDOW + 2 * 65536
        peer.codec.full = False
        while not peer.watcher.finished:
            peer.conn.room(peer.stream)
            await asyncio.sleep(0.001)
        assert len(peer.answer) == 20 * 65536

    serving(scenario, app)


def test_a_client_that_leaves_makes_the_next_write_raise_and_close_is_called():
    closed, gate = threading.Event(), threading.Event()

    class Endless:
        def __iter__(self):
            return self

        def __next__(self):
            gate.wait(0.001)
            return b"more"

        def close(self):
            closed.set()

    def app(environ, start_response):
        start_response("200 OK", [])
        return Endless()

    async def scenario(peer):
        peer.get()
        await until(lambda: peer.answer)
        peer.leave()
        await until(closed.is_set)
        await until(lambda: peer.app.lane.busy == 0)
        assert not peer.watcher.broken and peer.app.running == 0

    serving(scenario, app)


def test_a_request_whose_client_left_while_it_waited_is_not_begun():
    gate, begun = threading.Event(), []

    def app(environ, start_response):
        begun.append(environ["PATH_INFO"])
        gate.wait()
        return hello(environ, start_response)

    async def scenario(peer):
        peer.get(b"/first")
        await until(lambda: begun)
        other = Peer(peer.app)
        other.get(b"/second")
        other.leave()
        gate.set()
        await over(peer)
        await until(lambda: peer.app.lane.jobs == 2 and peer.app.lane.busy == 0)
        assert begun == ["/first"]

    serving(scenario, app, most=1)


def test_when_all_threads_are_busy_and_the_queue_is_full_the_answer_is_503():
    gate = threading.Event()

    def app(environ, start_response):
        gate.wait()
        return hello(environ, start_response)

    async def scenario(peer):
        peers = [peer] + [Peer(peer.app) for _ in range(2)]
        peer.get()
        await until(lambda: peer.app.lane.busy == 1)
        for one in peers[1:]:
            one.get()
        assert peers[2].status == 503 and peers[2].codec.headers[b"retry-after"] == b"1"
        gate.set()
        await over(peers[1])
        assert peers[1].status == 200

    serving(scenario, app, most=1, room=1)


def test_an_event_stream_ends_cleanly_when_the_server_says_farewell():
    closed = threading.Event()

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        try:
            while True:
                closed.wait(0.001)
                yield b"data: x\n\n"
        finally:
            closed.set()

    async def scenario(peer):
        peer.get()
        await until(lambda: peer.answer)
        peer.conn.farewell()
        await over(peer)
        assert peer.codec.said[-1] == ("end", None)
        await until(closed.is_set)

    serving(scenario, app)


# ---- what an application gets wrong


def bad(*, status="200 OK", headers=(), body=(b"x",)):
    def app(environ, start_response):
        start_response(status, list(headers))
        return list(body)

    return app


@pytest.mark.parametrize(
    "app, message",
    [
        (lambda environ, start_response: [b"x"], "without calling start_response"),
        (lambda environ, start_response: [], "without calling start_response"),
        (lambda environ, start_response: None, "TypeError"),
        (bad(status="OK"), "the status 'OK'"),
        (bad(status="100 Continue"), "the status '100 Continue'"),
        (bad(status=200), "a status of type int"),
        (bad(headers=[(b"a", "b")]), "a header name of type bytes"),
        (bad(headers=[("a", b"b")]), "a value of type bytes"),
        (bad(headers=[("\u00e4", "b")]), "the header name"),
        (bad(headers=[("Content-Length", "five")]), "content-length 'five'"),
        (bad(headers=HEADERS), "1 bytes with a content-length of 5"),
        (bad(headers=HEADERS, body=(b"he", b"llo!")), "more than its content-length of 5"),
        (bad(headers=HEADERS, body=(b"he", b"l")), "3 bytes of its content-length of 5"),
        (bad(headers=HEADERS, body=(b"", b"hello", b"!")), "more than its content-length of 5"),
        (bad(body=("text",)), "a block of type str"),
    ],
)
def test_a_broken_contract_is_named(app, message):
    async def scenario(peer):
        peer.get()
        await until(lambda: peer.watcher.broken)
        [error] = peer.watcher.broken
        assert message in f"{type(error).__name__} {error}"

    serving(scenario, app)


def test_an_exception_before_the_head_is_a_500_and_after_it_a_reset():
    def early(environ, start_response):
        start_response("200 OK", [])
        raise RuntimeError("early")
        yield b""

    def late(environ, start_response):
        start_response("200 OK", [])
        yield b"half"
        raise RuntimeError("late")

    said, peer = answered(early)
    assert said[0][:2] == ("head", 500) and str(peer.watcher.broken[0]) == "early"
    said, peer = answered(late)
    assert said[0] == ("head", 200, False) and said[-1][0] == "reset"


def test_an_answer_that_is_whole_does_not_wait_for_what_close_still_does():
    gate, closing = threading.Event(), threading.Event()

    class Result(list):
        def close(self):
            closing.set()
            gate.wait()

    def app(environ, start_response):
        start_response("200 OK", HEADERS)
        return Result([b"hello"])

    async def scenario(peer):
        others = [Peer(peer.app, clock=peer.service.clock) for _ in range(3)]
        for one in (peer, *others):
            one.get()
        for one in (peer, *others):
            await over(one)
        assert closing.is_set() and peer.answer == b"hello"
        gate.set()

    serving(scenario, app, most=4)
    gate.clear()
    serving(scenario, app, most=5)


def test_start_response_twice_needs_exc_info_and_raises_it_when_the_head_is_out():
    def twice(environ, start_response):
        start_response("200 OK", [])
        start_response("200 OK", [])
        return [b""]

    def recovering(environ, start_response):
        start_response("200 OK", [])
        try:
            raise RuntimeError("first")
        except RuntimeError:
            import sys

            start_response("500 Oops", [("X-E", "1")], sys.exc_info())
        return [b"sorry"]

    def too_late(environ, start_response):
        import sys

        write = start_response("200 OK", [])
        write(b"half")
        try:
            raise RuntimeError("too late")
        except RuntimeError:
            start_response("500 Oops", [], sys.exc_info())
        return [b""]

    _, peer = answered(twice)
    assert isinstance(peer.watcher.broken[0], AppError) and "twice" in str(peer.watcher.broken[0])
    said, peer = answered(recovering)
    assert said == [("head", 500, False), ("data", b"sorry", True)] and peer.codec.headers == {b"x-e": b"1"}
    said, peer = answered(too_late)
    assert said[-1][0] == "reset" and str(peer.watcher.broken[0]) == "too late"


def test_close_is_called_also_when_the_iteration_raises_and_what_it_raises_is_logged():
    closed = []

    class Result:
        def __iter__(self):
            raise RuntimeError("iteration")

        def close(self):
            closed.append(1)
            raise RuntimeError("close")

    def app(environ, start_response):
        start_response("200 OK", [])
        return Result()

    async def scenario(peer):
        peer.get()
        await until(lambda: len(peer.watcher.broken) == 2)
        assert closed == [1] and peer.status == 500

    serving(scenario, app)


def test_an_application_that_exits_ends_its_request_and_not_its_thread():
    def app(environ, start_response):
        if environ["PATH_INFO"] == "/exit":
            raise SystemExit(3)
        return hello(environ, start_response)

    async def scenario(peer):
        peer.get(b"/exit")
        await over(peer)
        assert peer.status == 500
        peer.take()
        peer.get()
        await over(peer, 2)
        assert peer.answer == b"hello"

    serving(scenario, app)


def test_nothing_of_a_finished_request_stays():
    kept = []

    class Result(list):
        pass

    def app(environ, start_response):
        start_response("200 OK", [])
        result = Result([b"x"])
        kept.append(weakref.ref(result))
        return result

    async def scenario(peer):
        gc.collect()
        gc.disable()
        try:
            for count in range(1, 6):
                peer.get()
                await over(peer, count)
            peer.watcher.finished.clear()
            await until(lambda: peer.app.lane.busy == 0)
            assert all(ref() is None for ref in kept)
            left = [thing for thing in gc.get_objects() if type(thing) is Exchange]
            assert len(left) <= 1, "the thread's last job may still be in its hands"
        finally:
            gc.enable()

    serving(scenario, app)
