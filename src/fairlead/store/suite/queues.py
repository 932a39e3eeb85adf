"""Queues: what `contract.Leases` promises, a check for each sentence. Fenced means that an old holder can change nothing."""

from __future__ import annotations

import asyncio

from ..contract import Conflict, Fenced, Gap, Item, Lease, Leases, NewEvent, NoTopic, Offset, TopicConfig
from .kit import SOON, Bench, Failed, check, numbers, raises, same, soon, true


def items(*ids: str, priority: int = 0) -> list[Item]:
    """Items whose body is their id."""
    return [Item(one, one.encode(), priority=priority) for one in ids]


def ids(leases: list[Lease]) -> list[str]:
    """Their ids."""
    return [lease.id for lease in leases]


async def take(leases: Leases, queue: str, n: int = 1, ttl: float = 60.0) -> list[Lease]:
    """Claims until something is there."""
    return await soon(lambda: leases.claim(queue, n, ttl), bool, "nothing to claim")


@check("leases")
async def items_are_claimed_in_the_order_they_were_put(it: Bench) -> None:
    """Age."""
    queue = it.name("q")
    same(await it.leases.put(queue, items("a", "b", "c")), [True] * 3)
    await it.leases.put(queue, items("d"))
    first = await it.leases.claim(queue, 2, 60.0, "me")
    rest = await it.leases.claim(queue, 10, 60.0)
    same((ids(first), ids(rest)), (["a", "b"], ["c", "d"]))
    lease = first[0]
    same((lease.queue, lease.body, lease.attempt), (queue, b"a", 1))
    true(await it.engine.now() < lease.until <= await it.engine.now() + 61, "a lease ends its ttl after the claim")
    same(await it.leases.claim(queue, 10, 60.0), [], "everything is leased")
    same(await it.leases.claim(it.name("q"), 1, 60.0), [], "a queue that nobody made")


@check("leases")
async def higher_priority_goes_first(it: Bench) -> None:
    """Then age."""
    queue = it.name("q")
    await it.leases.put(queue, items("low", priority=-5) + items("a", "b") + items("high", priority=9))
    await it.leases.put(queue, items("high2", priority=9))
    same(ids(await it.leases.claim(queue, 9, 60.0)), ["high", "high2", "a", "b", "low"])


@check("leases")
async def an_item_is_not_claimed_before_it_is_due(it: Bench) -> None:
    """Due times, and `next_due`."""
    while True:
        queue, now = it.name("q"), await it.engine.now()
        later = [Item("later", b"", due=now + 2.0), Item("never", b"", due=now + 9999)]
        await it.leases.put(queue, [*later, Item("now", b"")])
        got = await it.leases.claim(queue, 9, 60.0)
        due = await it.leases.next_due(queue)
        if await it.engine.now() < now + 2.0:  # else we were held up: that proves nothing
            break
    same(ids(got), ["now"])
    true(due is not None and abs(due - now - 2.0) < 0.01, f"next_due is {due}, right would be {now + 2.0}")
    got = await take(it.leases, queue, 9)
    same(ids(got), ["later"])
    true(await it.engine.now() >= now + 2.0, "claimed before it was due")
    same((await it.leases.depth(queue)).delayed, 1)
    same(await it.leases.next_due(it.name("q")), None)


@check("leases")
async def an_id_is_in_a_queue_once(it: Bench) -> None:
    """Waiting, leased or dead; free again when it is done."""
    queue = it.name("q")
    same(await it.leases.put(queue, items("a", "a", "b")), [True, False, True], "twice in one put")
    same(await it.leases.put(queue, [Item("a", b"other")]), [False], "waiting")
    lease = (await it.leases.claim(queue, 1, 60.0))[0]
    same(lease.body, b"a")
    same(await it.leases.put(queue, items("a")), [False], "leased")
    await it.leases.term(lease, "why")
    same(await it.leases.put(queue, items("a")), [False], "dead")
    await it.leases.remove(queue, ["a"])
    same(await it.leases.put(queue, items("a")), [True], "removed")
    same(await it.leases.put(it.name("q"), items("a")), [True], "another queue")


@check("leases")
async def an_acknowledged_item_is_gone(it: Bench) -> None:
    """Ack, once."""
    queue = it.name("q")
    await it.leases.put(queue, items("a", "b"))
    leases = await it.leases.claim(queue, 2, 60.0)
    same(await it.leases.ack(leases), [True, True])
    same(await it.leases.ack(leases), [False, False], "again")
    same(await it.leases.claim(queue, 2, 60.0), [])
    same((await it.leases.depth(queue)).leased, 0)
    same(await it.leases.put(queue, items("a")), [True], "the id is free again")
    same(await it.leases.ack(leases), [False, False], "an old lease of the same id")
    same(ids(await it.leases.claim(queue, 2, 60.0)), ["a"])


@check("leases")
async def a_lease_that_runs_out_is_claimed_again_with_a_higher_fence(it: Bench) -> None:
    """At least once, and the old holder can change nothing."""
    queue = it.name("q")
    await it.leases.put(queue, items("a"))
    old = (await it.leases.claim(queue, 1, 0.3))[0]
    new = (await take(it.leases, queue))[0]
    same((new.id, new.attempt), ("a", 2))
    true(new.fence > old.fence, f"the fence went from {old.fence} to {new.fence}")
    same(await it.leases.extend([old], 60.0), [False], "extend by the old holder")
    same(await it.leases.ack([old]), [False], "ack by the old holder")
    await raises(Fenced, it.leases.nack(old), "nack by the old holder")
    await raises(Fenced, it.leases.term(old, "x"), "term by the old holder")
    same(await it.leases.ack([new]), [True])


@check("leases")
async def a_lease_nobody_took_over_is_still_its_holders(it: Bench) -> None:
    """Late is not lost."""
    queue = it.name("q")
    await it.leases.put(queue, items("a"))
    lease = (await it.leases.claim(queue, 1, 0.1))[0]
    await asyncio.sleep(0.3)
    same(await it.leases.extend([lease], 60.0), [True])
    same(await it.leases.claim(queue, 1, 60.0), [])
    same(await it.leases.ack([lease]), [True])


@check("leases")
async def extending_holds_on(it: Bench) -> None:
    """A heartbeat."""
    queue = it.name("q")
    await it.leases.put(queue, items("a"))
    lease = (await it.leases.claim(queue, 1, 2.0))[0]
    begun = await it.engine.now()
    while await it.engine.now() < begun + 3.0:
        before = await it.engine.now()
        same(await it.leases.extend([lease], 2.0), [True])
        got = await it.leases.claim(queue, 1, 2.0)
        if got and await it.engine.now() - before < 2.0:
            raise Failed("a lease that is extended was claimed by another")
        lease = got[0] if got else lease
        await asyncio.sleep(0.3)
    same(await it.leases.ack([lease]), [True])


@check("leases")
async def what_is_given_back_comes_again_after_its_delay(it: Bench) -> None:
    """Nack, with another body if wanted."""
    queue = it.name("q")
    await it.leases.put(queue, items("a"))
    lease = (await it.leases.claim(queue, 1, 60.0))[0]
    await it.leases.nack(lease)
    await raises(Fenced, it.leases.nack(lease), "nack twice")
    same(await it.leases.ack([lease]), [False], "ack after nack")
    again = (await it.leases.claim(queue, 1, 60.0))[0]
    same((again.id, again.attempt, again.body), ("a", 2, b"a"))
    now = await it.engine.now()
    await it.leases.nack(again, 2.0, "busy", b"new body")
    same(await it.leases.claim(queue, 1, 60.0), [], "before its delay is over")
    third = (await take(it.leases, queue))[0]
    true(await it.engine.now() >= now + 2.0, "claimed before its delay was over")
    same((third.attempt, third.body), (3, b"new body"))


@check("leases")
async def the_dead_are_kept_and_driven_back(it: Bench) -> None:
    """Term, dead, redrive."""
    queue = it.name("q")
    await it.leases.put(queue, items("a", "b", "c"))
    for lease in await it.leases.claim(queue, 3, 60.0):
        await it.leases.term(lease, f"bad {lease.id}")
    letters = await it.leases.dead(queue)
    same(
        [(one.id, one.body, one.attempts, one.reason) for one in letters],
        [(x, x.encode(), 1, f"bad {x}") for x in "abc"],
    )
    same([one.id for one in await it.leases.dead(queue, after="a", limit=1)], ["b"], "a page")
    same(await it.leases.claim(queue, 3, 60.0), [])
    same(await it.leases.redrive(queue, ["b", "nobody"]), 1)
    lease = (await it.leases.claim(queue, 3, 60.0))[0]
    same((lease.id, lease.attempt, lease.body), ("b", 1, b"b"), "attempts are counted anew")
    same(await it.leases.redrive(queue), 2)
    same(ids(await it.leases.claim(queue, 3, 60.0)), ["a", "c"])
    same(await it.leases.dead(queue), [])
    same(await it.leases.redrive(queue), 0)


@check("leases")
async def removing_forgets_whatever_it_is(it: Bench) -> None:
    """Waiting, leased (the holder is fenced), dead."""
    queue = it.name("q")
    await it.leases.put(queue, items("dead", "leased", "waiting"))
    dead, leased = await it.leases.claim(queue, 2, 60.0)
    await it.leases.term(dead, "")
    same(await it.leases.remove(queue, ["dead", "leased", "waiting", "nobody"]), [True, True, True, False])
    same(await it.leases.ack([leased]), [False], "the holder of a removed item")
    same((await it.leases.claim(queue, 9, 60.0), await it.leases.dead(queue)), ([], []))


@check("leases")
async def a_queue_in_numbers(it: Bench) -> None:
    """Depth, queues, drop."""
    queue, now = it.name("q"), await it.engine.now()
    await it.leases.put(queue, items("a", "b", "c", "d") + [Item("later", b"", due=now + 999)])
    first = (await it.leases.claim(queue, 2, 60.0))[0]
    await it.leases.term(first, "")
    depth = await it.leases.depth(queue)
    same((depth.queue, depth.ready, depth.delayed, depth.leased, depth.dead), (queue, 2, 1, 1, 1))
    true(depth.oldest is not None and now - 1 <= depth.oldest <= now + SOON, f"oldest is {depth.oldest}, now is {now}")
    same(await it.leases.queues(queue), [queue])
    same((await it.leases.drop(queue), await it.leases.drop(queue)), (True, False))
    same(await it.leases.queues(queue), [])
    empty = await it.leases.depth(queue)
    same((empty.ready, empty.leased, empty.dead, empty.oldest), (0, 0, 0, None))
    same(await it.leases.put(queue, items("a")), [True], "a dropped queue's ids are free")


@check("leases")
async def claimers_at_once_never_share_an_item(it: Bench) -> None:
    """Concurrency, from two connections."""
    queue, other = it.name("q"), await it.more()
    assert other.leases is not None
    names = [f"{n:03d}" for n in range(120)]
    await it.leases.put(queue, items(*names))
    got: list[str] = []

    async def worker(leases: Leases) -> None:
        while found := await leases.claim(queue, 3, 60.0):
            got.extend(ids(found))
            same(await leases.ack(found), [True] * len(found))

    await asyncio.gather(*(worker([it.leases, other.leases][w % 2]) for w in range(8)))
    same(sorted(got), names)


@check("leases")
async def a_queue_stirs_whoever_watches(it: Bench) -> None:
    """Hints: on a put, on a nack, and when something becomes due or is left behind."""
    queue, other = it.name("q"), await it.more()
    assert other.leases is not None
    heard = asyncio.Event()
    it.leases.watch(lambda name: heard.set() if name == queue else None)
    it.leases.interest(queue, True)

    async def told(what: str) -> None:
        try:
            await asyncio.wait_for(heard.wait(), SOON)
        except TimeoutError:
            raise Failed(f"no hint {what}") from None
        heard.clear()

    await it.leases.put(queue, items("a"))
    await told("of a put")
    await other.leases.put(queue, items("b"))
    await told("of a put on another connection")
    lease = (await it.leases.claim(queue, 1, 60.0))[0]
    heard.clear()
    await it.leases.nack(lease)
    await told("of a nack")
    it.leases.interest(queue, False)


@check("log leases")
async def a_topic_feeds_a_queue(it: Bench) -> None:
    """A consumer group: from now on, or from an offset; two groups do not disturb each other."""
    topic = await it.topic(n=2)
    start = (await it.log.head(topic)).first
    new, old = it.name("g"), it.name("g")
    await it.leases.feed(new, topic)
    await it.leases.feed(old, topic, start)
    await it.leases.feed(old, topic, start)
    done = await it.log.append(topic, [NewEvent(b"3", "type", "key", {"h": "v"})])
    got = await it.leases.claim(old, 2, 60.0) + await it.leases.claim(old, 9, 60.0)
    same([lease.body for lease in got], [b"1", b"2", b"3"])
    last = got[2]
    same((last.id, last.offset, last.attempt), (str(done.last), done.last, 1))
    event = last.event
    assert event is not None
    same(
        (event.seq, event.data, event.type, event.key, dict(event.headers)),
        (done.last.seq, b"3", "type", "key", {"h": "v"}),
    )
    same([lease.body for lease in await it.leases.claim(new, 9, 60.0)], [b"3"])
    same((await it.leases.depth(old)).lag, 3, "what is not acknowledged")
    same(await it.leases.ack(got[1:]), [True, True], "out of order")
    same((await it.leases.depth(old)).lag, 1)
    await it.leases.nack(got[0])
    again = await it.leases.claim(old, 9, 60.0)
    same([(lease.body, lease.attempt) for lease in again], [(b"1", 2)], "only what was not acknowledged comes again")
    await raises(NoTopic, it.leases.feed(it.name("g"), it.name()), "a topic that is not there")
    await raises(Conflict, it.leases.feed(old, await it.topic()), "another topic")
    await it.leases.term(again[0], "bad")
    letter = (await it.leases.dead(old))[0]
    same((letter.body, letter.offset), (b"1", Offset(done.last.epoch, start.seq + 1)))
    await it.leases.redrive(old)
    same([lease.body for lease in await it.leases.claim(old, 9, 60.0)], [b"1"])


@check("log leases")
async def a_group_that_fell_behind_is_told_once(it: Bench) -> None:
    """Gap: trimmed away, or the topic made anew."""
    topic, group = await it.topic(n=5), it.name("g")
    start = (await it.log.head(topic)).first
    await it.leases.feed(group, topic, start)
    third = (await it.log.read(topic, None, 3)).next
    await it.log.trim(topic, third)
    gap = await raises(Gap, it.leases.claim(group, 9, 60.0), "a claim after a trim")
    same(gap.earliest, third)
    got = await it.leases.claim(group, 9, 60.0)
    same([lease.body for lease in got], [b"4", b"5"], "told once, and it goes on")
    await it.leases.ack(got)
    await it.log.delete(topic)
    same(await it.leases.claim(group, 9, 60.0), [], "while there is no topic")
    await it.log.create(topic, TopicConfig(), numbers(1, 2))
    await raises(Gap, it.leases.claim(group, 9, 60.0), "a claim after the topic was made anew")
    same([lease.body for lease in await it.leases.claim(group, 9, 60.0)], [b"1", b"2"])


@check("log leases")
async def a_group_can_begin_again(it: Bench) -> None:
    """Seek: replay, and the leases that were out are fenced."""
    topic, group = await it.topic(n=3), it.name("g")
    start = (await it.log.head(topic)).first
    await it.leases.feed(group, topic, start)
    old = await it.leases.claim(group, 9, 60.0)
    await it.leases.ack(old[:1])
    await it.leases.seek(group, start)
    same(await it.leases.ack(old[1:]), [False, False], "leases from before")
    same([(one.body, one.attempt) for one in await it.leases.claim(group, 9, 60.0)], [(b"1", 1), (b"2", 1), (b"3", 1)])


@check("log leases")
async def a_fed_queue_stirs_on_an_append(it: Bench) -> None:
    """A group's consumers wake up."""
    topic, group = await it.topic(), it.name("g")
    await it.leases.feed(group, topic)
    heard = asyncio.Event()
    it.leases.watch(lambda name: heard.set() if name == group else None)
    it.leases.interest(group, True)
    await it.log.append(topic, numbers(1, 1))
    try:
        await asyncio.wait_for(heard.wait(), SOON)
    except TimeoutError:
        raise Failed("no hint of an append to the topic that feeds the queue") from None
    same(len(await it.leases.claim(group, 9, 60.0)), 1)
    it.leases.interest(group, False)
