"""The hub: one listener of the store for many, by topic and queue."""

import asyncio

from fairlead.store.contract import Item, NewEvent, TopicConfig
from fairlead.store.hub import Hub
from fairlead.store.open import open_store
from topickit import settled


def test_who_asked_hears_and_nobody_after_stopping():
    async def story():
        store = await open_store("memory:")
        hub = Hub(store)
        await store.log.create("a", TopicConfig())
        await store.log.create("b", TopicConfig())
        heard = []
        stops = [hub.topic("a", lambda last, events, n=n: heard.append((n, last.seq))) for n in (1, 2)]
        queue = hub.queue("q", lambda: heard.append("q"))
        await store.log.append("a", [NewEvent(b"1")])
        await store.log.append("b", [NewEvent(b"1")])
        await store.leases.put("q", [Item("1", b"")])
        await settled()
        assert sorted(set(map(str, heard))) == ["(1, 1)", "(2, 1)", "q"]
        heard.clear()
        stops[0]()
        stops[0]()
        queue()
        await store.log.append("a", [NewEvent(b"2")])
        await store.leases.put("q", [Item("2", b"")])
        await settled()
        assert heard == [(2, 2)]
        stops[1]()
        assert not hub.topics and not hub.queues
        await store.close()

    asyncio.run(story())


def test_a_listener_may_stop_inside_its_call_and_one_that_raises_harms_nobody():
    async def story():
        store = await open_store("memory:")
        hub = Hub(store)
        await store.log.create("a", TopicConfig())
        heard = []

        def once(last, events):
            heard.append("once")
            stop()

        def broken(last, events):
            raise ValueError

        stop = hub.topic("a", once)
        hub.topic("a", broken)
        hub.topic("a", lambda last, events: heard.append("always"))
        for data in (b"1", b"2"):
            await store.log.append("a", [NewEvent(data)])
            await settled()
        assert heard == ["once", "always", "always"]
        await store.close()

    asyncio.run(story())
