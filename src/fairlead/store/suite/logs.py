"""Topics: what `contract.Log` promises, a check for each sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..contract import (
    Closed,
    Conflict,
    Event,
    Gap,
    NewEvent,
    NoTopic,
    Offset,
    Producer,
    ProducerGap,
    StaleProducer,
    TopicConfig,
    TopicExists,
)
from .kit import SOON, Bench, Failed, check, data, everything, numbers, raises, same, soon, true


@check("log")
async def events_come_back_whole_and_in_order(it: Bench) -> None:
    """Order, and every field."""
    topic = await it.topic()
    sent = [
        NewEvent(b"\x00\xff binary", "a.type", "k", {"h": "v", "größe": "ü\n"}),
        NewEvent(b""),
        NewEvent(b"x" * 100_000, headers={"only": ""}),
    ]
    before = await it.engine.now()
    done = await it.log.append(topic, sent)
    same((done.count, done.duplicate, done.closed), (3, False, False))
    batch = await it.log.read(topic, None)
    for got, want in zip(batch.events, sent, strict=True):
        same((got.data, got.type, got.key, dict(got.headers)), (want.data, want.type, want.key, dict(want.headers)))
        true(before - 1 <= got.at <= await it.engine.now() + 1, f"an event's time is {got.at}, now is {before}")
    same([event.seq for event in batch.events], sorted({event.seq for event in batch.events}), "seqs grow")
    same((batch.next, batch.up_to_date, batch.closed), (done.last, True, False))


@check("log")
async def reading_goes_on_where_it_stopped(it: Bench) -> None:
    """Offsets, limits, and the end."""
    topic = await it.topic(n=10)
    got: list[bytes] = []
    after: Offset | None = None
    for _ in range(5):
        batch = await it.log.read(topic, after, 2)
        same(len(batch.events), 2, "max_events")
        same(batch.up_to_date, len(got) == 8, "up_to_date")
        got += data(batch)
        after = batch.next
    same(got, [b"%d" % n for n in range(1, 11)])
    rest = await it.log.read(topic, after)
    same((data(rest), rest.next, rest.up_to_date), ([], after, True), "nothing newer")
    again = await it.log.read(topic, Offset(rest.next.epoch, rest.next.seq))
    same(again.next, after)
    start = (await it.log.head(topic)).first
    same(data(await it.log.read(topic, start, 3)), [b"1", b"2", b"3"], "from the first offset")


@check("log")
async def max_bytes_bounds_a_read_but_one_event_always_comes(it: Bench) -> None:
    """Memory of a reader is bounded, and it never hangs on a large event."""
    topic = await it.topic()
    await it.log.append(topic, [NewEvent(b"x" * 1000) for _ in range(10)])
    batch = await it.log.read(topic, None, 100, 3500)
    true(1 <= len(batch.events) <= 3, f"{len(batch.events)} events of 1000 bytes in 3500")
    same(len((await it.log.read(topic, None, 100, 10)).events), 1, "an event larger than max_bytes")
    same(len(await everything(it.log, topic)), 10)


@check("log")
async def offsets_are_texts_that_sort_and_parse(it: Bench) -> None:
    """What is given to clients."""
    topic = await it.topic()
    texts = []
    for n in range(1, 13):
        last = (await it.log.append(topic, numbers(n, n))).last
        same(Offset.parse(str(last)), last)
        texts.append(str(last))
    same(texts, sorted(set(texts)), "the texts sort as the offsets do")


@check("log")
async def an_unknown_topic_is_said_so(it: Bench) -> None:
    """NoTopic, everywhere."""
    name = it.name()
    await raises(NoTopic, it.log.read(name, None), "read")
    await raises(NoTopic, it.log.read(name, Offset(1, 1)), "read at an offset")
    await raises(NoTopic, it.log.head(name), "head")
    await raises(NoTopic, it.log.append(name, numbers(1, 1)), "append")
    await raises(NoTopic, it.log.trim(name, Offset(1, 1)), "trim")
    same(await it.log.delete(name), False, "delete")


@check("log")
async def creating_says_made_there_or_other(it: Bench) -> None:
    """Create is idempotent for the same configuration only."""
    name = it.name()
    config = TopicConfig("application/json", keep=3600.0, max_events=1000, max_bytes=1 << 20)
    head, made = await it.log.create(name, config, numbers(1, 2))
    true(made, "the first creation must say that it made it")
    same((head.topic, head.config, head.closed), (name, config, False))
    head, made = await it.log.create(name, config, numbers(3, 4))
    true(not made, "the second creation must say that it was there")
    same(data(await everything(it.log, name)), [b"1", b"2"], "events of a second creation are not appended")
    await raises(TopicExists, it.log.create(name, TopicConfig("text/plain")), "another configuration")
    same((await it.log.head(name)).config, config)


@check("log")
async def creating_at_once_makes_one(it: Bench) -> None:
    """A race of creators has one winner."""
    name, other = it.name(), await it.more()
    assert other.log is not None
    logs = [it.log, other.log] * 4
    made = await asyncio.gather(*(log.create(name, TopicConfig(), numbers(1, 1)) for log in logs))
    same(sum(new for _, new in made), 1, "creators who were told that they made it")
    same(len({head.last for head, _ in made}), 1, "all see the same topic")
    same(data(await everything(it.log, name)), [b"1"])


@check("log")
async def a_topic_can_be_born_closed(it: Bench) -> None:
    """Create with close."""
    name = it.name()
    head, _ = await it.log.create(name, TopicConfig(), numbers(1, 1), close=True)
    true(head.closed, "head.closed")
    batch = await it.log.read(name, None)
    same((data(batch), batch.closed), ([b"1"], True))


@check("log")
async def an_append_may_create(it: Bench) -> None:
    """`create=`, which leaves an existing topic's configuration alone."""
    name, config = it.name(), TopicConfig("text/plain", keep=60.0)
    await it.log.append(name, numbers(1, 1), create=config)
    await it.log.append(name, numbers(2, 2), create=TopicConfig("other/type"))
    same((await it.log.head(name)).config, config)
    same(data(await everything(it.log, name)), [b"1", b"2"])


@check("log")
async def a_closed_topic_takes_no_more(it: Bench) -> None:
    """Closed, its last offset, and that closing again is no error."""
    topic = await it.topic(n=1)
    done = await it.log.append(topic, numbers(2, 3), close=True)
    true(done.closed, "the answer to a closing append says closed")
    error = await raises(Closed, it.log.append(topic, numbers(4, 4)), "append to a closed topic")
    same(error.last, done.last)
    again = await it.log.append(topic, (), close=True)
    same((again.last, again.count, again.duplicate, again.closed), (done.last, 0, True, True), "closing again")
    await raises(Closed, it.log.append(topic, numbers(5, 5), close=True), "closing again with events")
    batch = await it.log.read(topic, None, 2)
    same((batch.up_to_date, batch.closed), (False, False), "closed is said at the end only")
    batch = await it.log.read(topic, batch.next)
    same((data(batch), batch.up_to_date, batch.closed), ([b"3"], True, True))
    true((await it.log.head(topic)).closed, "head.closed")


@check("log")
async def closing_alone_is_an_append_without_events(it: Bench) -> None:
    """And an append of nothing is nothing."""
    topic = await it.topic(n=2)
    end = (await it.log.head(topic)).last
    nothing = await it.log.append(topic, ())
    same((nothing.last, nothing.count, nothing.closed), (end, 0, False))
    done = await it.log.append(topic, (), close=True)
    same((done.last, done.count, done.duplicate, done.closed), (end, 0, False, True))


@check("log")
async def a_producers_repeat_is_no_second_event(it: Bench) -> None:
    """Exact dedupe by (id, epoch, seq)."""
    topic = await it.topic()
    first = await it.log.append(topic, numbers(1, 2), producer=Producer("p", 0, 0))
    second = await it.log.append(topic, numbers(3, 3), producer=Producer("p", 0, 1))
    repeat = await it.log.append(topic, numbers(3, 3), producer=Producer("p", 0, 1))
    same((repeat.last, repeat.count, repeat.duplicate), (second.last, 0, True))
    old = await it.log.append(topic, numbers(1, 2), producer=Producer("p", 0, 0))
    same((old.duplicate, old.last), (True, second.last), "an older one")
    await it.log.append(topic, numbers(4, 4), producer=Producer("q", 0, 0))
    same(data(await everything(it.log, topic)), [b"1", b"2", b"3", b"4"])
    true(first.last < second.last, "offsets grow")


@check("log")
async def a_producers_hole_and_an_old_epoch_are_refused(it: Bench) -> None:
    """ProducerGap, StaleProducer, a new epoch from 0."""
    topic = await it.topic()
    error = await raises(
        ProducerGap, it.log.append(topic, numbers(1, 1), producer=Producer("p", 0, 1)), "first seq is 1"
    )
    same((error.expected, error.received, error.known), (0, 1, None))
    await it.log.append(topic, numbers(1, 1), producer=Producer("p", 3, 0))
    error = await raises(
        ProducerGap, it.log.append(topic, numbers(3, 3), producer=Producer("p", 3, 2)), "a seq skipped"
    )
    same((error.expected, error.received, error.known), (1, 2, 3))
    error = await raises(
        ProducerGap, it.log.append(topic, numbers(3, 3), producer=Producer("p", 4, 1)), "new epoch at 1"
    )
    same((error.expected, error.received, error.known), (0, 1, 3))
    await it.log.append(topic, numbers(2, 2), producer=Producer("p", 5, 0))
    stale = await raises(StaleProducer, it.log.append(topic, numbers(9, 9), producer=Producer("p", 3, 1)), "old epoch")
    same(stale.epoch, 5)
    same(data(await everything(it.log, topic)), [b"1", b"2"], "what was refused left nothing")


@check("log")
async def a_closing_append_repeated_is_a_duplicate(it: Bench) -> None:
    """Duplicate wins over Closed, Closed over a producer's gap."""
    topic = await it.topic()
    done = await it.log.append(topic, numbers(1, 1), producer=Producer("p", 0, 0), close=True)
    repeat = await it.log.append(topic, numbers(1, 1), producer=Producer("p", 0, 0), close=True)
    same((repeat.last, repeat.duplicate, repeat.closed), (done.last, True, True))
    await raises(Closed, it.log.append(topic, numbers(2, 2), producer=Producer("p", 0, 1)), "the next seq")
    await raises(Closed, it.log.append(topic, numbers(2, 2), producer=Producer("p", 0, 7)), "a hole")
    same(data(await everything(it.log, topic)), [b"1"])


@check("log")
async def a_dedupe_key_counts_once(it: Bench) -> None:
    """Dedupe by key, per topic, and under a race."""
    topic, other = await it.topic(), await it.topic()
    first = await it.log.append(topic, numbers(1, 1), dedupe="key/ä")
    await it.log.append(topic, numbers(2, 2), dedupe="another")
    repeat = await it.log.append(topic, numbers(9, 9), dedupe="key/ä")
    same((repeat.last, repeat.count, repeat.duplicate), (first.last, 0, True))
    same((await it.log.append(other, numbers(1, 1), dedupe="key/ä")).duplicate, False, "the same key in another topic")
    engine = await it.more()
    assert engine.log is not None
    logs = [it.log, engine.log] * 8
    done = await asyncio.gather(*(log.append(topic, numbers(3, 3), dedupe="race") for log in logs))
    same(sum(not one.duplicate for one in done), 1, "how many of a race were no duplicates")
    same(len({one.last for one in done}), 1, "all get the same offset")
    same(data(await everything(it.log, topic)), [b"1", b"2", b"3"])


@check("log")
async def an_append_can_ask_for_the_end_it_knows(it: Bench) -> None:
    """`after=`: compare and append."""
    topic = await it.topic(n=1)
    end = (await it.log.head(topic)).last
    done = await it.log.append(topic, numbers(2, 2), after=end)
    error = await raises(Conflict, it.log.append(topic, numbers(3, 3), after=end), "an old end")
    same(error.last, done.last)
    same(data(await everything(it.log, topic)), [b"1", b"2"])


@check("log")
async def appends_at_once_are_all_there_once_and_in_one_order(it: Bench) -> None:
    """Concurrency, from two connections, in batches that stay in one piece."""
    topic, other = await it.topic(), await it.more()
    assert other.log is not None
    logs: list = [it.log, other.log]

    async def writer(w: int) -> None:
        for n in range(10):
            batch = [NewEvent(b"%d.%d.%d" % (w, n, part)) for part in range(3)]
            await logs[w % 2].append(topic, batch)

    await asyncio.gather(*(writer(w) for w in range(8)))
    got = data(await everything(other.log, topic, step=7))
    same(len(got), 240)
    same(len(set(got)), 240, "each once")
    for w in range(8):
        mine = [one for one in got if one.startswith(b"%d." % w)]
        same(mine, [b"%d.%d.%d" % (w, n, part) for n in range(10) for part in range(3)], f"writer {w}'s order")
    for at in range(0, 240, 3):
        true(got[at].endswith(b".0") and got[at + 2].endswith(b".2"), f"a batch was torn at {got[at : at + 3]}")
    same(got, data(await everything(it.log, topic)), "two readers, one order")


@check("log")
async def what_was_acknowledged_is_read_at_once_by_anybody(it: Bench) -> None:
    """Read your writes, on another connection."""
    topic, other = await it.topic(), await it.more()
    assert other.log is not None
    for n in range(1, 21):
        done = await it.log.append(topic, numbers(n, n))
        batch = await other.log.read(topic, Offset(done.last.epoch, done.last.seq))
        same((data(batch), batch.next), ([], done.last), "the offset just acknowledged is known")
        same((await other.log.head(topic)).last, done.last)
    same(len(await everything(other.log, topic)), 20)


@check("log")
async def a_trimmed_offset_is_a_gap(it: Bench) -> None:
    """Trim, and where to go on."""
    topic = await it.topic(n=10)
    start = (await it.log.head(topic)).first
    third = (await it.log.read(topic, None, 3)).next
    head = await it.log.trim(topic, third)
    same(head.first, third)
    gap = await raises(Gap, it.log.read(topic, start), "before what is kept")
    same((gap.earliest, gap.latest), (head.first, head.last))
    same(data(await it.log.read(topic, gap.earliest, 2)), [b"4", b"5"], "earliest is where reading goes on")
    same(data(await it.log.read(topic, None, 1)), [b"4"], "None starts at what is kept")
    same((await it.log.trim(topic, start)).first, third, "an earlier trim changes nothing")
    head = await it.log.trim(topic, head.last)
    same(data(await it.log.read(topic, None)), [], "all trimmed")
    same((await it.log.append(topic, numbers(11, 11))).last > head.last, True, "offsets go on growing")


@check("log")
async def the_future_and_other_epochs_are_gaps(it: Bench) -> None:
    """Never silently the wrong events."""
    topic = await it.topic(n=3)
    head = await it.log.head(topic)
    for offset in (
        Offset(head.last.epoch, head.last.seq + 1),
        Offset(head.last.epoch, 10**15),
        Offset(head.last.epoch - 1, head.last.seq),
        Offset(head.last.epoch + 1, 0),
        Offset(0, 0),
    ):
        gap = await raises(Gap, it.log.read(topic, offset), f"read after {offset}")
        same((gap.earliest, gap.latest), (head.first, head.last))
        await raises(Gap, it.log.trim(topic, offset), f"trim {offset}") if offset.epoch != head.last.epoch else None


@check("log")
async def a_topic_made_anew_has_a_higher_epoch(it: Bench) -> None:
    """Delete and recreate, quickly and several times."""
    name, epochs = it.name(), []
    old = None
    for round_ in range(4):
        await it.log.create(name, TopicConfig(), numbers(1, 5), close=round_ == 2)
        head = await it.log.head(name)
        epochs.append(head.last.epoch)
        if old is not None:
            await raises(Gap, it.log.read(name, old), "an offset of the deleted topic")
        old = head.last
        same(len(await everything(it.log, name)), 5, "nothing of the deleted topic comes back")
        same(await it.log.delete(name), True)
        await raises(NoTopic, it.log.head(name), "after deletion")
    same(epochs, sorted(set(epochs)), "epochs grow")
    await it.log.create(name, TopicConfig())
    done = await it.log.append(name, numbers(1, 1), producer=Producer("p", 0, 0), dedupe="k")
    await it.log.delete(name)
    await it.log.create(name, TopicConfig())
    new = await it.log.append(name, numbers(1, 1), producer=Producer("p", 0, 0))
    same(new.duplicate, False, "a deleted topic's producers are forgotten")
    true(new.last > done.last, "offsets sort across a deletion")


@check("log")
async def no_two_topics_have_the_same_epoch(it: Bench) -> None:
    """Made in the same millisecond, by a creation or an append, through two connections; an offset of one is a gap in the other."""
    logs = [it.log, (await it.more()).log]
    names = [it.name() for _ in range(60)]

    async def make(n: int, name: str) -> Offset:
        log = logs[n % 2]
        assert log is not None
        if n % 3:
            return (await log.create(name, TopicConfig(), numbers(1, 2)))[0].last
        return (await log.append(name, numbers(1, 2), create=TopicConfig())).last

    lasts = await asyncio.gather(*(make(n, name) for n, name in enumerate(names)))
    same(len({last.epoch for last in lasts}), len(names), "epochs of topics made at once")
    await raises(Gap, it.log.read(names[0], lasts[1]), "an offset of another topic")


@check("log")
async def old_events_go_by_age(it: Bench) -> None:
    """`keep`."""
    topic = await it.topic(TopicConfig(keep=1.0), 5)
    head = await it.log.head(topic)
    await soon(lambda: it.log.head(topic), lambda now: now.first == head.last, "events older than keep")
    await raises(Gap, it.log.read(topic, head.first), "an offset that is too old")
    same((await it.log.append(topic, numbers(6, 6))).last.seq > head.last.seq, True, "offsets go on growing")


@check("log")
async def too_many_events_go_by_count(it: Bench) -> None:
    """`max_events`: never fewer than asked for."""
    topic = await it.topic(TopicConfig(max_events=10))
    for n in range(1, 35):
        await it.log.append(topic, numbers(n, n))
        true(len((await it.log.read(topic, None)).events) >= min(n, 10), "fewer are kept than max_events")

    async def kept() -> list[Event]:
        return await everything(it.log, topic)

    events = await soon(kept, lambda got: len(got) == 10, "more events than max_events")
    same(data(events), [b"%d" % n for n in range(25, 35)])


@check("log")
async def too_many_bytes_go_by_size(it: Bench) -> None:
    """`max_bytes`: the newest that fit, and always the newest."""
    topic = await it.topic(TopicConfig(max_bytes=5000))
    for _ in range(20):
        await it.log.append(topic, [NewEvent(b"x" * 1000)])

    async def kept() -> int:
        return len(await everything(it.log, topic))

    await soon(kept, lambda n: n <= 5, "more bytes than max_bytes")
    true(await kept() >= 4, "fewer bytes are kept than max_bytes")
    await it.log.append(topic, [NewEvent(b"y" * 9000)])
    got = await soon(kept, lambda n: n == 1, "the newest alone is larger than max_bytes")
    same(got, 1)


@check("log")
async def compaction_keeps_the_last_of_each_key(it: Bench) -> None:
    """`compact`, with holes and without gaps."""
    topic = await it.topic(TopicConfig(compact=True, keep=0.5))
    start = (await it.log.head(topic)).first
    for n in range(1, 31):
        await it.log.append(topic, [NewEvent(b"%d" % n, key=f"k{n % 3}")])
    end = (await it.log.head(topic)).last

    async def kept() -> list[bytes]:
        return data(await everything(it.log, topic, start, step=1))

    await soon(kept, lambda got: got == [b"28", b"29", b"30"], "superseded events")
    await asyncio.sleep(0.6)
    same(await kept(), [b"28", b"29", b"30"], "the last of a key stays whatever its age")
    same((await it.log.read(topic, end)).up_to_date, True)
    await it.log.append(topic, [NewEvent(b"31", key="k0")])
    same(data(await it.log.read(topic, end)), [b"31"])


@check("log")
async def a_topic_expires(it: Bench) -> None:
    """`expires` and `ttl`: gone, with its name free."""
    now = await it.engine.now()
    fixed, idle = it.name(), it.name()
    last = (await it.log.create(fixed, TopicConfig(expires=now + 1.0), numbers(1, 1)))[0].last
    await it.log.create(idle, TopicConfig(ttl=1.0), numbers(1, 1))

    async def there(name: str) -> bool:
        try:
            await it.log.head(name)
        except NoTopic:
            return False
        return True

    await soon(lambda: there(fixed), lambda yes: not yes, "a topic after its expiry")
    await soon(lambda: there(idle), lambda yes: not yes, "a topic that nobody used for its ttl")
    _, made = await it.log.create(fixed, TopicConfig(), numbers(2, 2))
    true(made, "an expired topic can be made again")
    await raises(Gap, it.log.read(fixed, last), "an offset of the expired topic")
    same(data(await everything(it.log, fixed)), [b"2"])


@check("log")
async def reading_keeps_a_topic_alive(it: Bench) -> None:
    """`ttl` counts from the last append or read."""
    topic = await it.topic(TopicConfig(ttl=3.0), 1)
    made = read = await it.engine.now()
    while (now := await it.engine.now()) < made + 4.5:
        if now - read > 2.0:  # we were held up: that proves nothing
            topic = await it.topic(TopicConfig(ttl=3.0), 1)
            made = await it.engine.now()
        read = await it.engine.now()
        same(len((await it.log.read(topic, None)).events), 1, "a topic that is read")
        await asyncio.sleep(0.4)


@check("log")
async def topics_are_listed_by_prefix_in_pages(it: Bench) -> None:
    """`topics`."""
    prefix = it.name("list") + "/"
    names = [f"{prefix}{n:02d}" for n in range(12)] + [f"{prefix}ü%_*?[x]"]
    for name in names:
        await it.log.create(name, TopicConfig(), numbers(1, 2))
    await it.log.create(prefix[:-1] + "0", TopicConfig())
    found: list[str] = []
    while page := await it.log.topics(prefix, found[-1] if found else "", 5):
        true(len(page) <= 5, "a page is longer than its limit")
        true(all(head.last > head.first for head in page), "listed topics have their ends")
        found += [head.topic for head in page]
    same(found, sorted(names, key=lambda name: name.encode()))
    await it.log.delete(names[0])
    same((await it.log.topics(names[0])), [])


@check("log")
async def hints_come_and_reading_finds_what_they_say(it: Bench) -> None:
    """`watch`: lossy in theory, alive in practice; from this connection and from another."""
    topic, silent, other = await it.topic(), await it.topic(), await it.more()
    assert other.log is not None
    heard: list[tuple[str, Offset | None, Sequence[Event]]] = []
    it.log.watch(lambda name, last, events: heard.append((name, last, events)))
    it.log.interest(topic, True)
    await it.log.append(silent, numbers(1, 1))
    loop = asyncio.get_running_loop()
    for log in (it.log, other.log):
        del heard[:]
        deadline, n = loop.time() + SOON, 0
        while not any(name == topic for name, _, _ in heard):
            if loop.time() > deadline:
                raise Failed(f"no hint about {n} appends in {SOON:.0f} s")
            n += 1
            last = (await log.append(topic, numbers(n, n))).last
            await asyncio.sleep(0.05)
        for name, said, events in heard:
            if name == topic and said is not None and events:
                true(said <= last, "a hint is from the future")
                same(events[-1].seq, said.seq, "the events of a hint end at its offset")
                before = Offset(said.epoch, events[0].seq - 1)
                read = await it.log.read(topic, before, len(events))
                same(
                    [tuple(event)[:2] for event in read.events], [tuple(e)[:2] for e in events], "what the hint carried"
                )
    it.log.interest(topic, False)


@check("log")
async def strange_names_are_names(it: Bench) -> None:
    """No character of a name means anything to the engine."""
    base = it.name()
    names = [
        f"{base}{tail}"
        for tail in ("", "'", '"; --', "%", "_", "*", "/a/../b", " ", "\u00e9", "e\u0301", "\U0001f6f3", ":", "{x}")
    ]
    for n, name in enumerate(names):
        await it.log.append(name, numbers(n, n), create=TopicConfig())
    for n, name in enumerate(names):
        same(data(await everything(it.log, name)), [b"%d" % n], repr(name))
    for name in names:
        await it.log.delete(name)


@check("log")
async def a_cancelled_append_harms_nobody(it: Bench) -> None:
    """It happened whole or not at all, and the topic goes on."""
    topic = await it.topic()
    tasks = [asyncio.ensure_future(it.log.append(topic, [NewEvent(b"c"), NewEvent(b"d")])) for _ in range(10)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await it.log.append(topic, numbers(1, 1))
    got = data(await everything(it.log, topic))
    true(len(got) % 2 == 1, f"{len(got)} events: a cancelled append of two was torn")
    same(got[0::2], [b"c"] * (len(got) // 2) + [b"1"])
