"""Idempotency keys: once for a hundred at once, replay, other requests with the key, clients that leave, holders that die."""

import asyncio
import json

import pytest

from enginesuite import open_here
from fairlead.core.aio import Async
from fairlead.core.errors import NetError, Refused
from fairlead.core.handler import Handler
from fairlead.core.message import Response
from fairlead.serve.idempotent import Idempotent, key_of, settle, unknown
from fairlead.serve.respond import Respond
from recorder import Peer

KEY = (b"idempotency-key", b'"one"')


class Named(Handler):
    def __init__(self, inner, principal):
        self.inner, self.principal = inner, principal

    def open(self, exchange):
        exchange.principal = self.principal
        self.inner.open(exchange)


class Desk:
    """A handler that counts what it did, and a way to ask it."""

    def __init__(self, store, **options):
        self.store = store
        self.calls = []
        self.go = asyncio.Event()
        self.go.set()
        self.answer = (201, b"made", [(b"x-made", b"1"), (b"set-cookie", b"a=b")])
        self.guard = Idempotent(Async(self.handle), store, **options)

    async def handle(self, call):
        body = await call.body(1 << 20)
        self.calls.append(body)
        await self.go.wait()
        status, text, headers = self.answer
        await call.respond(status, text, headers)

    def ask(self, body=b"buy", key=KEY, method="POST", target=b"/buy", principal=None, headers=(), end=True):
        peer = Peer(Named(self.guard, principal))
        fields = [(b"content-type", b"text/plain"), *([key] if key else []), *headers]
        peer.ask(method, target, fields, length=len(body))
        if body:
            peer.body(body, end)
        return peer


async def answered(*peers):
    while any(peer.status is None for peer in peers):
        await asyncio.sleep(0.001)
    await asyncio.sleep(0)
    return [peer.status for peer in peers]


def play(story, **options):
    async def run():
        store = await open_here()
        try:
            async with asyncio.timeout(20):
                await story(Desk(store, **options))
        finally:
            await store.close()

    asyncio.run(run())


def test_a_repeat_is_answered_again_and_not_done_again():
    async def story(desk):
        first, = [desk.ask()]
        assert await answered(first) == [201] and first.answer == b"made"
        again = desk.ask()
        assert await answered(again) == [201] and again.answer == b"made"
        assert again.codec.headers[b"idempotent-replayed"] == b"true" and b"idempotent-replayed" not in first.codec.headers
        assert (again.codec.headers[b"x-made"], again.codec.headers[b"set-cookie"]) == (b"1", b"a=b")
        assert desk.calls == [b"buy"]

    play(story)


def test_a_hundred_at_once_are_one_execution():
    async def story(desk):
        desk.go.clear()
        peers = [desk.ask() for _ in range(100)]
        while sum(peer.status is not None for peer in peers) < 99:
            await asyncio.sleep(0.001)
        refused = [peer for peer in peers if peer.status is not None]
        assert {peer.status for peer in refused} == {409} and refused[0].codec.headers[b"retry-after"] == b"1"
        desk.go.set()
        await answered(*peers)
        assert sorted(peer.status for peer in peers) == [201] + [409] * 99 and len(desk.calls) == 1

    play(story)


@pytest.mark.parametrize(
    "other",
    [{"body": b"sell"}, {"target": b"/buy?x=1"}, {"method": "PATCH"}, {"body": b""}, {"body": b"buy "}],
)
def test_another_request_under_the_same_key_is_refused(other):
    async def story(desk):
        await answered(desk.ask())
        peer = desk.ask(**other)
        assert await answered(peer) == [422] and b"used for another request" in peer.answer
        assert len(desk.calls) == 1

    play(story)


def test_keys_belong_to_a_principal():
    async def story(desk):
        await answered(desk.ask(principal="ann"))
        peer = desk.ask(principal="bob")
        assert await answered(peer) == [201] and b"idempotent-replayed" not in peer.codec.headers
        assert len(desk.calls) == 2

    play(story)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_methods_that_are_idempotent_by_themselves_are_left_alone(method):
    async def story(desk):
        for _ in range(2):
            await answered(desk.ask(method=method, body=b""))
        assert len(desk.calls) == 2

    play(story, required=True)


def test_a_route_may_require_a_key():
    async def story(desk):
        peer = desk.ask(key=None)
        assert await answered(peer) == [400] and b"needs an Idempotency-Key" in peer.answer and not desk.calls
        assert await answered(desk.ask()) == [201]

    play(story, required=True)


@pytest.mark.parametrize(
    ("value", "key"),
    [(b'"a b"', "a b"), (b"8e03978e-40d5", "8e03978e-40d5"), (b' "x" ', "x"), (b'"' + b"k" * 255 + b'"', "k" * 255)],
)
def test_what_a_key_may_be(value, key):
    assert key_of(value) == key


@pytest.mark.parametrize("value", [b"", b'""', b'"a', b'a"b"', b"a b", b'"\x00"', b'"' + b"k" * 256 + b'"', b"\xff", b'"a", "b"'])
def test_what_is_no_key(value):
    with pytest.raises(Refused, match="1 to 255"):
        key_of(value)


def test_a_client_that_leaves_finds_the_answer_when_it_comes_back():
    async def story(desk):
        desk.go.clear()
        gone = desk.ask()
        while not desk.calls:
            await asyncio.sleep(0.001)
        gone.leave()
        desk.go.set()
        while True:
            peer = desk.ask()
            await answered(peer)
            if peer.status != 409:
                break
        assert peer.status == 201 and peer.codec.headers[b"idempotent-replayed"] == b"true" and len(desk.calls) == 1

    play(story)


def test_half_a_request_is_none_and_its_key_may_be_used_again():
    async def story(desk):
        gone = desk.ask(body=b"bu", end=False)
        await asyncio.sleep(0.01)
        gone.leave()
        while True:
            peer = desk.ask()
            await answered(peer)
            if peer.status != 409:
                break
        assert peer.status == 201 and desk.calls == [b"buy"]

    play(story)


async def holder_dies(desk):
    """A record as a process leaves it that was killed in the middle."""
    name = desk.guard.place(Fake(None), "one")
    await desk.store.state.put_if(name, json.dumps({"state": "running", "by": "dead"}).encode(), 0, due=await desk.store.now() - 1)
    return name


class Fake:
    def __init__(self, principal):
        self.principal = principal


def test_when_the_process_died_in_the_middle_the_outcome_is_unknown_until_it_is_settled():
    async def story(desk):
        name = await holder_dies(desk)
        peer = desk.ask()
        assert await answered(peer) == [409] and b"outcome unknown" in peer.answer and not desk.calls
        assert await settle(desk.store.state, name)
        assert await answered(desk.ask()) == [201]

    play(story)


def test_a_handler_that_is_safe_to_run_again_is():
    async def story(desk):
        await holder_dies(desk)
        peers = [desk.ask() for _ in range(20)]
        while sum(peer.status is not None for peer in peers) < 20:
            await asyncio.sleep(0.001)
        assert len(desk.calls) == 1 and sorted({peer.status for peer in peers}) in ([201], [201, 409])

    play(story, safe=True)


def test_a_holder_that_lives_renews_its_record():
    async def story(desk):
        desk.go.clear()
        slow = desk.ask()
        while not desk.calls:
            await asyncio.sleep(0.001)
        ((_, first),) = await desk.store.state.scan("idem/")
        for _ in range(2):
            entry = first
            while entry.version == first.version:  # it was renewed
                await asyncio.sleep(0.001)
                ((_, entry),) = await desk.store.state.scan("idem/")
            peer, first = desk.ask(), entry
            assert await answered(peer) == [409] and b"still being done" in peer.answer
        assert entry.due > await desk.store.now()
        desk.go.set()
        assert await answered(slow) == [201]

    play(story, term=0.9)


def test_an_error_is_an_answer_too():
    async def story(desk):
        desk.answer = (500, b"no", [])
        first, again = desk.ask(), None
        await answered(first)
        again = desk.ask()
        assert await answered(again) == [500] and again.codec.headers[b"idempotent-replayed"] == b"true"
        assert len(desk.calls) == 1

    play(story)


def test_an_answer_too_long_to_keep_is_passed_on_and_said_to_be_so():
    async def story(desk):
        desk.answer = (200, b"x" * 5000, [])

        async def stream(call):
            desk.calls.append(await call.body(100))
            call.start(200, [])
            for _ in range(50):
                await call.write(b"y" * 100)
            await call.write(b"", True)

        desk.guard.handler = Async(stream)
        first = desk.ask()
        await answered(first)
        while not first.watcher.finished:
            await asyncio.sleep(0.001)
        assert first.answer == b"y" * 5000
        again = desk.ask()
        assert await answered(again) == [409] and b"too long, or too slow, to be kept" in again.answer and len(desk.calls) == 1

    play(story, most=1000)


def test_a_handler_that_answers_at_once_and_one_without_a_body():
    async def story(desk):
        desk.guard.handler = Respond(204)
        for replayed in (False, True):
            peer = desk.ask(body=b"")
            assert await answered(peer) == [204] and (b"idempotent-replayed" in peer.codec.headers) is replayed

    play(story)


def test_a_handler_that_raises_gives_an_error_that_is_kept():
    async def story(desk):
        async def broken(call):
            desk.calls.append(1)
            raise ValueError("no")

        desk.guard.handler = Async(broken)
        assert await answered(desk.ask()) == [500]
        assert await answered(desk.ask()) == [500] and desk.calls == [1]

    play(story)


def test_a_store_that_is_away_is_told_and_nothing_is_done():
    async def story(desk):
        from fairlead.store.contract import StoreError

        class Away:
            async def put_if(self, key, value, version, *, ttl=None, due=None):
                raise StoreError("the store is away", status=503)

        desk.guard.state = Away()
        assert await answered(desk.ask()) == [503] and not desk.calls

    play(story)


def test_a_stream_that_does_not_end_is_passed_on_as_it_comes():
    async def story(desk):
        async def stream(call):
            desk.calls.append(await call.body(100))
            call.start(200, [(b"content-type", b"text/event-stream")])
            await call.write(b"data: 1\n\n")
            await desk.go.wait()
            await call.write(b"data: 2\n\n")
            await call.write(b"", True)

        desk.go.clear()
        desk.guard.handler = Async(stream)
        first = desk.ask()
        while b"data: 1" not in first.answer:
            await asyncio.sleep(0.001)
        assert not first.watcher.finished
        desk.go.set()
        while not first.watcher.finished:
            await asyncio.sleep(0.001)
        assert first.answer == b"data: 1\n\ndata: 2\n\n"
        assert await answered(desk.ask()) == [409] and len(desk.calls) == 1

    play(story, stream=0.01)


def test_an_operator_says_that_it_was_done():
    async def story(desk):
        name = await holder_dies(desk)
        (lost,) = await unknown(desk.store.state)
        assert lost["id"] == name.removeprefix("idem/") and await answered(desk.ask()) == [409]
        assert await settle(desk.store.state, lost["id"], 202, b"taken")
        again = desk.ask(b"whatever was sent")
        assert await answered(again) == [202] and again.answer == b"taken" and not desk.calls
        assert not await settle(desk.store.state, name) and await unknown(desk.store.state) == []

    play(story)


@pytest.mark.parametrize(
    ("says", "status", "calls"),
    [((404, b"", []), 201, 1), ((200, b"it was", [(b"x-made", b"2")]), 200, 0), ((503, b"ask later", []), 409, 0)],
)
def test_the_handler_s_own_check_settles_it(says, status, calls):
    asked = []

    async def story(desk):
        class Checked(Async):
            def open(self, exchange):
                if exchange.request.method == "GET":
                    asked.append((exchange.request.path, exchange.request.get(b"idempotency-key"), exchange.principal))
                    exchange.whole(Response(says[0], [*says[2], (b"content-length", b"%d" % len(says[1]))], len(says[1])), says[1])
                else:
                    super().open(exchange)

        await holder_dies(desk)
        desk.guard.handler = Checked(desk.handle)
        peer = desk.ask()
        assert await answered(peer) == [status] and len(desk.calls) == calls
        assert asked[0] == ("/buy/outcome", KEY[1], None)
        if status == 200:
            assert peer.answer == b"it was" and peer.codec.headers[b"x-made"] == b"2"
        if status != 409:
            again = desk.ask()
            assert await answered(again) == [status] and again.answer == peer.answer and len(asked) == 1

    play(story, check="/buy/outcome?by=key")


@pytest.mark.parametrize(
    ("error", "statuses"),
    [
        (NetError("nobody listens there", step="dial", side="upstream", retry="always"), [502, 502]),  # it was not begun
        (NetError("it went away", step="receive", side="upstream", retry="never"), [502, 409]),  # it may have been
    ],
)
def test_what_an_upstream_may_have_done_is_unknown_and_what_it_never_had_is_not_done(error, statuses):
    async def story(desk):
        async def proxied(call):
            desk.calls.append(await call.body(100))
            raise error

        desk.guard.handler = Async(proxied)
        assert [(await answered(desk.ask()))[0] for _ in range(2)] == statuses
        assert len(desk.calls) == statuses.count(502)

    play(story)


def test_an_answer_that_breaks_off_may_have_been_done():
    async def story(desk):
        async def broken(call):
            desk.calls.append(await call.body(100))
            call.start(200, [], 100)
            await call.write(b"half")
            raise ValueError("no")

        desk.guard.handler = Async(broken)
        first = desk.ask()
        while not first.watcher.finished:
            await asyncio.sleep(0.001)
        again = desk.ask()
        assert await answered(again) == [409] and b"outcome unknown" in again.answer and len(desk.calls) == 1

    play(story)
