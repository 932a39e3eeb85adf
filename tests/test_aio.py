"""core.aio: a coroutine function as a Handler."""

import asyncio

from fairlead.core.aio import Async
from fairlead.core.errors import NetError, Refused
from recorder import Peer


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario(), 10))


def serving(fn):
    handler = Async(fn)
    peer = Peer(handler)
    peer.app = handler
    return peer


async def settle(peer):
    for _ in range(50):
        await asyncio.sleep(0)
        if not peer.app.running:
            return


def test_a_call_answers_at_once():
    async def answer(call):
        await call.respond(200, b"hello", [(b"content-type", b"text/plain")])

    async def scenario():
        peer = serving(answer)
        peer.get()
        await settle(peer)
        assert peer.take() == [("head", 200, False), ("data", b"hello", True)]
        assert peer.watcher.finished[0].journey.started
        peer.ask("HEAD", b"/")
        await settle(peer)
        assert peer.take() == [("head", 200, True)]

    run(scenario)


def test_a_call_reads_its_body_with_back_pressure():
    got = []

    async def answer(call):
        while part := await call.read():
            got.append(part)
        await call.respond(204)

    async def scenario():
        peer = serving(answer)
        peer.post(expect=True)
        await settle(peer)
        assert peer.take() == [("consumed", 0)]
        peer.body(b"ab")
        peer.body(b"cd")
        assert peer.codec.credited == 0
        await settle(peer)
        assert (got, peer.codec.credited) == ([b"abcd"], 4)
        peer.conn.end(peer.stream, None)
        await settle(peer)
        assert peer.status == 204

    run(scenario)


def test_a_body_that_is_too_long_is_413():
    async def answer(call):
        await call.body(3)

    async def scenario():
        peer = serving(answer)
        peer.post(length=4)
        peer.body(b"abcd", True)
        await settle(peer)
        assert peer.status == 413

    run(scenario)


def test_write_waits_for_room():
    written = []

    async def answer(call):
        call.start(200, [])
        await call.write(b"a")
        written.append("a")
        await call.write(b"", end=True)

    async def scenario():
        peer = serving(answer)
        peer.codec.full = True
        peer.get()
        await settle(peer)
        assert written == []
        peer.conn.room(peer.stream)
        await settle(peer)
        assert peer.take() == [("head", 200, False), ("data", b"a", False), ("data", b"", True)]

    run(scenario)


def test_a_call_learns_that_the_client_left():
    seen = []

    async def answer(call):
        try:
            await call.read()
        except NetError as error:
            seen.append(error.status)
            raise

    async def scenario():
        peer = serving(answer)
        peer.post()
        await settle(peer)
        peer.leave()
        await settle(peer)
        assert seen == [499]
        assert peer.watcher.broken == []
        assert peer.app.running == 0

    run(scenario)


def test_what_a_call_raises_is_its_status_or_a_logged_500():
    async def refuses(call):
        raise Refused("no such thing", status=404)

    async def breaks(call):
        raise ValueError("secret")

    async def forgets(call):
        pass

    async def scenario():
        for fn, status, broken in ((refuses, 404, 0), (breaks, 500, 1), (forgets, 500, 0)):
            peer = serving(fn)
            peer.get()
            await settle(peer)
            assert (peer.status, len(peer.watcher.broken)) == (status, broken)
            assert b"secret" not in peer.answer

    run(scenario)
