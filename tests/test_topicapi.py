"""`fairlead.topic(name)` inside a worker: publishing, reading, following, and what is said where no server runs."""

import asyncio
import gc
import threading

import pytest

import fairlead
from fairlead.core.errors import AppError
from fairlead.serve import topicapi
from fairlead.serve.topicapi import Topic
from fairlead.store.contract import Closed, Gap, NewEvent, NoTopic, Offset, TopicConfig
from topickit import play as played
from topickit import until


def play(story, **options):
    async def inside(server):
        topicapi.attach(server.feed)
        try:
            await story(server)
        finally:
            topicapi.attach(None)

    played(inside, **options)


async def data(server, name="a"):
    return [event.data for event in (await server.store.log.read(name, None)).events]


async def take(following, count):
    return [await anext(following) for _ in range(count)]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"n": 1, "ü": "grün"}, '{"n":1,"ü":"grün"}'.encode()),
        ([1, 2], b"[1,2]"),
        ("text", b'"text"'),
        (None, b"null"),
        (b'{"as": "it is"}', b'{"as": "it is"}'),
        (b"", b""),
    ],
)
def test_what_is_published_to_a_json_topic(value, kept):
    async def story(server):
        await fairlead.topic("a").publish(value)
        assert await data(server) == [kept]

    play(story)


def test_text_and_bytes_of_other_topics_are_as_they_are():
    async def story(server):
        topic = Topic("a", "text/plain")
        await topic.publish("grün")
        await topic.publish(b"\xff")
        await topic.publish({"n": 1})
        assert await data(server) == ["grün".encode(), b"\xff", b'{"n":1}']
        assert (await server.store.log.head("a")).config.content_type == "text/plain"

    play(story)


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), {"n": float("inf")}, {(1, 2): 3}])
def test_what_is_no_json_is_refused_and_makes_no_topic(value):
    async def story(server):
        with pytest.raises(AppError, match="JSON"):
            await fairlead.topic("a").publish(value)
        with pytest.raises(NoTopic):
            await server.store.log.head("a")

    play(story)


def test_a_circle_is_refused():
    async def story(server):
        circle = []
        circle.append(circle)
        with pytest.raises(AppError, match="JSON"):
            await fairlead.topic("a").publish(circle)

    play(story)


def test_publish_gives_the_offset_and_a_repeat_under_its_key_the_same():
    async def story(server):
        topic = fairlead.topic("a")
        first = await topic.publish(1, type="made", key="k", dedupe="once")
        assert await topic.publish(1, dedupe="once") == first
        second = await topic.publish(2)
        assert Offset.parse(second).seq == Offset.parse(first).seq + 1
        messages = await topic.read()
        assert [(one.json(), one.offset, one.type, one.key) for one in messages] == [(1, first, "made", "k"), (2, second, "", "")]
        assert messages[0].at > 0

    play(story)


def test_the_first_publish_makes_the_topic_as_it_says_and_tells_who_follows_patterns():
    async def story(server):
        seen = []
        server.feed.made = seen.append
        topic = Topic("a", keep=60.0, max=5)
        await topic.publish(1)
        await topic.publish(2)
        config = (await server.store.log.head("a")).config
        assert (config.keep, config.max_events, seen) == (60.0, 5, ["a"])

    play(story)


def test_reading_goes_on_after_an_offset_as_far_as_it_may():
    async def story(server):
        topic = fairlead.topic("a")
        offsets = [await topic.publish(n) for n in range(6)]
        assert [one.json() for one in await topic.read(offsets[1])] == [2, 3, 4, 5]
        assert [one.json() for one in await topic.read(limit=2)] == [0, 1]
        assert await topic.read(offsets[-1]) == []
        with pytest.raises(ValueError, match="not an offset"):
            await topic.read("yesterday")

    play(story)


def test_reading_a_topic_that_is_not_there_or_no_longer_whole():
    async def story(server):
        topic = fairlead.topic("a")
        with pytest.raises(NoTopic):
            await topic.read()
        first = await topic.publish(0)
        for n in range(1, 5):
            await topic.publish(n)
        await server.store.log.trim("a", Offset.parse(first)._replace(seq=4))
        with pytest.raises(Gap):
            await topic.read(first)

    play(story)


def test_following_from_now_from_the_start_and_after_an_offset():
    async def story(server):
        topic = fairlead.topic("a")
        first = await topic.publish(0)
        await topic.publish(1)
        ways = {"now": [2, 3], "-1": [0, 1, 2, 3], first: [1, 2, 3]}
        following = {after: topic.follow(after) for after in ways}
        waiting = {after: asyncio.create_task(take(one, len(ways[after]))) for after, one in following.items()}
        await until(lambda: server.feed.legs == 3)
        await topic.publish(2)
        await topic.publish(3)
        for after, wanted in ways.items():
            got = await waiting[after]
            assert [one.json() for one in got] == wanted, after
            assert [one.offset for one in got] == sorted(one.offset for one in got)
            await following[after].aclose()

    play(story)


def test_following_makes_the_topic():
    async def story(server):
        seen = []
        server.feed.made = seen.append
        following = fairlead.topic("a").follow()
        waiting = asyncio.create_task(take(following, 1))
        await until(lambda: server.feed.legs == 1)
        assert seen == ["a"]
        await server.store.log.append("a", [NewEvent(b"1")])
        assert [one.json() for one in await waiting] == [1]
        await following.aclose()

    play(story)


def test_who_stops_following_leaves_nothing():
    async def story(server):
        topic = fairlead.topic("a")
        await topic.publish(0)
        async for one in topic.follow("-1"):
            assert one.json() == 0
            break
        waiting = asyncio.create_task(take(topic.follow(), 1))
        await until(lambda: server.feed.legs >= 1 and server.feed.rings["a"].live)
        waiting.cancel()
        await asyncio.wait([waiting])
        gc.collect()  # of the loop that was left by `break`
        await until(lambda: (server.feed.legs, server.feed.outs) == (0, 0))
        ring = server.feed.rings["a"]
        assert (ring.followers, len(ring.live)) == (0, 0)

    play(story)


@pytest.mark.parametrize("how", ["closed", "deleted"])
def test_following_ends_with_its_topic(how):
    async def story(server):
        topic = fairlead.topic("a")
        await topic.publish(0)
        waiting = asyncio.create_task(all_of(topic.follow("-1")))
        await until(lambda: "a" in server.feed.rings and server.feed.rings["a"].live)
        if how == "closed":
            await server.store.log.append("a", [NewEvent(b"1")], close=True)
            assert await waiting == [0, 1]
            with pytest.raises(Closed):
                await topic.publish(2)
            assert await all_of(topic.follow("-1")) == [0, 1]
        else:
            assert (await server.done("DELETE", "/t/a")).status == 204
            assert await waiting == [0]
        assert server.feed.legs == 0

    async def all_of(following):
        return [one.json() async for one in following]

    play(story)


def test_lost_events_are_told():
    async def story(server):
        topic = fairlead.topic("a")
        first = await topic.publish(0)
        for n in range(1, 6):
            await topic.publish(n)
        await server.store.log.trim("a", Offset.parse(first)._replace(seq=4))
        following = topic.follow(first)
        with pytest.raises(Gap) as gap:
            await anext(following)
        assert server.feed.legs == 0
        going_on = topic.follow(str(gap.value.earliest))
        rest = await take(going_on, 6 - gap.value.earliest.seq)
        assert [one.json() for one in rest] == list(range(gap.value.earliest.seq, 6))
        await going_on.aclose()

    play(story)


def test_who_reads_slowly_holds_one_piece_and_misses_nothing():
    async def story(server):
        topic = fairlead.topic("a")
        await topic.publish(0)
        following = topic.follow("-1")
        assert (await anext(following)).json() == 0
        (listening,) = {out for wheel in server.feed.wheels.values() for bucket in wheel for out in bucket}
        for n in range(1, 3001):
            await topic.publish(n)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(listening.waiting) <= 1, "the rest is read from the log when it is wanted"
        assert [one.json() for one in await take(following, 3000)] == list(range(1, 3001))
        await following.aclose()

    play(story)


def test_two_follow_at_their_own_pace():
    async def story(server):
        topic = fairlead.topic("a")
        slow, fast = topic.follow("-1"), topic.follow("-1")
        first = asyncio.create_task(take(fast, 10))
        begun = asyncio.create_task(take(slow, 1))
        await until(lambda: server.feed.legs == 2)
        for n in range(10):
            await topic.publish(n)
        assert [one.json() for one in await first] == list(range(10))
        assert [one.json() for one in await begun + await take(slow, 9)] == list(range(10))
        await slow.aclose()
        await fast.aclose()

    play(story)


def test_without_a_server_it_says_what_is_missing():
    async def story():
        for use in (fairlead.topic("a").publish(1), fairlead.topic("a").read(), anext(fairlead.topic("a").follow())):
            with pytest.raises(AppError, match="no server runs here") as error:
                await use
            assert "[store]" in error.value.hint

    topicapi.attach(None)
    asyncio.run(story())


def test_each_thread_has_its_own_worker():
    """`server.unit = "thread"`: a feed lives on its own loop, and no other thread may touch it."""

    async def story(server):
        seen = []

        def other():
            async def publish():
                await fairlead.topic("a").publish(1)

            try:
                asyncio.run(publish())
            except AppError as error:
                seen.append(str(error))

        thread = threading.Thread(target=other)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert seen and "no server runs here" in seen[0]
        await fairlead.topic("a").publish(2)
        assert await data(server) == [b"2"]

    play(story)


def test_a_topic_that_is_there_already_keeps_its_own_kind():
    async def story(server):
        await server.store.log.create("a", TopicConfig("text/plain", 60.0))
        await fairlead.topic("a").publish({"n": 1})
        assert (await server.store.log.head("a")).config.content_type == "text/plain"
        assert await data(server) == [b'{"n":1}']

    play(story)
