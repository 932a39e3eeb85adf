"""An item and a key at once, on one engine: whole or not at all, and only for who holds the item."""

import asyncio

import pytest

from enginesuite import open_here
from fairlead.store.contract import Conflict, Fenced, Item
from fairlead.store.pairs import Together, pairs_of


def play(story):
    """Runs `story(store, pairs)`."""

    async def run():
        store = await open_here()
        try:
            async with asyncio.timeout(20):
                pairs = pairs_of(store)
                assert isinstance(pairs, Together) and pairs.whole
                await story(store, pairs)
        finally:
            await store.close()

    asyncio.run(run())


def item(name, **more):
    return Item(name, b"", **more)


def test_what_is_enqueued_in_one_turn_is_each_answered_for_itself():
    async def story(store, pairs):
        first = await pairs.enqueue("q", item("a"), "k/a", b"1", None)
        calls = [pairs.enqueue("q", item(n), f"k/{n}", n.encode(), None) for n in ("b", "a", "c", "c")]
        b, a, c, again = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(a, Conflict) and a.entry.value == b"1" and a.entry.version == first.version
        assert b.value == b"b" and c.value == b"c" and isinstance(again, Conflict) and again.entry.version == c.version
        drawn = await pairs.draw("q", 9, 30.0, "me", "k/")
        shown = [(lease.id, entry.value, lease.attempt) for lease, entry in drawn]
        assert shown == [("a", b"1", 1), ("b", b"b", 1), ("c", b"c", 1)]
        assert drawn[1][1].version == b.version

    play(story)


def test_a_key_whose_time_is_over_may_be_made_again():
    async def story(store, pairs):
        await store.state.put_if("k/a", b"old", 0, ttl=0.001)
        while await store.state.get("k/a") is not None:
            await asyncio.sleep(0.001)
        made = await pairs.enqueue("q", item("a"), "k/a", b"new", None)
        ((lease, entry),) = await pairs.draw("q", 1, 30.0, "me", "k/")
        assert (lease.id, entry.value, entry.version, entry.expires) == ("a", b"new", made.version, None)

    play(story)


def test_priority_and_due_time_count_as_with_put():
    async def story(store, pairs):
        now = await store.now()
        later = item("later", due=now + 1000.0)
        await asyncio.gather(
            *(pairs.enqueue("q", one, f"k/{one.id}", b"", None) for one in (item("low"), later, item("high", priority=5)))
        )
        assert [lease.id for lease, _ in await pairs.draw("q", 9, 30.0, "me", "k/")] == ["high", "low"]
        depth = await store.leases.depth("q")
        assert (depth.ready, depth.delayed, depth.leased) == (0, 1, 2)

    play(story)


def test_only_who_holds_the_item_settles_and_only_over_the_version_it_read():
    async def story(store, pairs):
        await pairs.enqueue("q", item("a"), "k/a", b"1", None)
        ((old, entry),) = await pairs.draw("q", 1, 30.0, "me", "k/")
        await store.leases.nack(old)
        ((lease, entry),) = await pairs.draw("q", 1, 30.0, "other", "k/")
        assert lease.attempt == 2 and lease.fence > old.fence
        with pytest.raises(Fenced):
            await pairs.settle(old, "k/a", b"stale", entry.version, 60.0, True)
        marked = await pairs.settle(lease, "k/a", b"2", entry.version, None, False)
        with pytest.raises(Conflict) as conflict:
            await pairs.settle(lease, "k/a", b"3", entry.version, 60.0, True)
        assert conflict.value.entry.value == b"2" and conflict.value.entry.version == marked.version
        assert (await store.leases.depth("q")).leased == 1
        done = await pairs.settle(lease, "k/a", b"4", marked.version, 60.0, True)
        now = await store.state.get("k/a")
        assert (now.value, now.version) == (b"4", done.version) and now.expires is not None
        depth = await store.leases.depth("q")
        assert (depth.ready, depth.delayed, depth.leased) == (0, 0, 0)
        with pytest.raises(Fenced):
            await pairs.settle(lease, "k/a", b"5", done.version, 60.0, True)

    play(story)


def test_a_lease_that_ran_out_and_that_nobody_took_still_settles():
    async def story(store, pairs):
        await pairs.enqueue("q", item("a"), "k/a", b"1", None)
        ((lease, entry),) = await pairs.draw("q", 1, 0.001, "me", "k/")
        while (await store.leases.depth("q")).leased:
            await asyncio.sleep(0.001)
        await pairs.settle(lease, "k/a", b"2", entry.version, None, True)
        assert (await store.leases.depth("q")).ready == 0 and not await pairs.draw("q", 1, 30.0, "other", "k/")

    play(story)


def test_what_somebody_holds_is_not_withdrawn():
    async def story(store, pairs):
        await asyncio.gather(*(pairs.enqueue("q", item(n), f"k/{n}", b"1", None) for n in "ab"))
        ((lease, held),) = await pairs.draw("q", 1, 30.0, "me", "k/")
        waits = await store.state.get("k/b")
        with pytest.raises(Fenced):
            await pairs.withdraw("q", "a", "k/a", b"gone", held.version, 60.0)
        with pytest.raises(Conflict):
            await pairs.withdraw("q", "b", "k/b", b"gone", held.version, 60.0)
        await pairs.withdraw("q", "b", "k/b", b"gone", waits.version, 60.0)
        assert (await store.state.get("k/b")).value == b"gone" and (await store.state.get("k/a")).value == b"1"
        assert not await pairs.draw("q", 1, 30.0, "me", "k/")
        assert await store.leases.ack([lease]) == [True]

    play(story)
