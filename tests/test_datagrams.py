"""HTTP datagrams for applications: what waits is bounded, and who gives up waiting leaves nothing behind and loses nothing."""

import asyncio
from types import SimpleNamespace

from fairlead.serve.datagrams import BYTES, MOST, Datagrams


def made():
    """Those of a request; its connection hands over nothing by itself."""
    conn = SimpleNamespace(codec=SimpleNamespace(on_datagram=None))
    return Datagrams(SimpleNamespace(conn=conn, stream=5), b"connect-udp", True)


def test_the_oldest_go_when_nobody_receives():
    given = made()
    for n in range(MOST + 10):
        given.heard(b"%d" % n)
    assert (len(given.waiting), given.waiting[0], given.dropped) == (MOST, b"10", 10)
    given.heard(bytes(BYTES))
    assert list(given.waiting) == [bytes(BYTES)] and given.size == BYTES


def test_who_gives_up_waiting_leaves_nothing_behind():
    async def main():
        given = made()
        for _ in range(20):
            waiting = asyncio.create_task(given.receive())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        assert not given.receivers
        given.heard(b"x")
        assert await given.receive() == b"x" and not given.receivers

    asyncio.run(main())


def test_what_one_was_woken_for_and_gave_up_is_for_the_next():
    async def main():
        given = made()
        first, second = (asyncio.create_task(given.receive()) for _ in range(2))
        await asyncio.sleep(0)
        given.heard(b"x")
        first.cancel()
        assert await asyncio.wait_for(second, 10) == b"x" and not given.receivers

    asyncio.run(main())
