"""Storms: all come back at once, all publish at once, very many topics (FAIRLEAD_TOPICS of them; the soak: 100,000)."""

import asyncio
import json
import os
import random
import tracemalloc

from fairlead.serve.topicmatch import pattern
from topickit import STREAM, answered, events_of, header, play, says

TOPICS = int(os.environ.get("FAIRLEAD_TOPICS", "1000"))


def test_all_who_come_back_at_once_share_the_reads_of_the_log():
    async def story(server):
        first = await server.publish(0)
        await server.publish(*range(1, 50))
        streams = [server.ask("GET", "/t/a", b"", STREAM, (b"last-event-id", first.encode())) for _ in range(400)]
        polls = [server.ask("GET", f"/t/a?offset={first}&live=long-poll") for _ in range(100)]
        for one in streams:
            assert [json.loads(data) for _, _, data in events_of(await says(one, "data:49"))] == list(range(1, 50))
        for one in polls:
            assert json.loads((await answered(one)).answer) == list(range(1, 50))
        assert server.feed.cold_reads <= 25, "five hundred readers"
        assert not server.feed.colds and not server.feed.flying
        # when they come, and come again, is spread
        assert len({one.answer.split(b"\n", 1)[0] for one in streams}) > 50
        for one in streams:
            one.conn.find(1).answer.farewell()
        assert len({one.answer.rsplit(b"retry: ", 1)[1] for one in streams}) > 50

    play(story)


def test_a_shared_read_that_fails_fails_for_all_and_one_that_leaves_harms_nobody():
    async def story(server):
        first = await server.publish(0)
        await server.publish(1, 2)
        head = await server.store.log.head("a")
        await server.store.log.trim("a", head.last._replace(seq=2))
        polls = [server.ask("GET", f"/t/a?offset={first}&live=long-poll") for _ in range(20)]
        leaving = server.ask("GET", "/t/a", b"", STREAM, (b"last-event-id", first.encode()))
        for steps in range(6):
            await asyncio.sleep(0)
            if steps == 3:
                leaving.leave()
        for one in polls:
            assert (await answered(one)).status == 410 and header(one, "stream-earliest-offset")

    play(story)


def test_everybody_publishes_at_once_and_everybody_hears_all_of_it_in_one_order():
    async def story(server):
        await server.publish("start")
        ways = ["", "&live=sse"]
        streams = [server.ask("GET", f"/t/a?offset=now{ways[n % 2]}", b"", *([STREAM] if n % 2 == 0 else [])) for n in range(20)]
        for one in streams:
            await says(one, "id: ")
        dice = random.Random(3)

        async def publisher(name):
            for n in range(25):
                await server.publish(f"{name}.{n}")
                for _ in range(dice.randint(0, 3)):
                    await asyncio.sleep(0)

        await asyncio.gather(*(publisher(f"p{n}") for n in range(20)))
        batch = await server.store.log.read("a", None, 10_000)
        told = [json.loads(event.data) for event in batch.events][1:]
        assert len(told) == 500
        for number, one in enumerate(streams):
            text = await says(one, f'"{told[-1]}"')
            heard = []
            for _, name, data in events_of(text):
                heard += json.loads(data) if name == "data" else [json.loads(data)] if not name else []
            assert heard == told, number

    play(story)


def test_very_many_topics_are_made_read_followed_and_let_go():
    async def story(server):
        log, config = server.store.log, server.route.config("application/json")
        tracemalloc.start()
        for n in range(0, TOPICS, 500):
            await asyncio.gather(*(log.create(f"many.{m}", config) for m in range(n, min(n + 500, TOPICS))))
        peers = []
        for n in range(TOPICS):
            peers.append(server.ask("GET", f"/t/many.{n}?offset=now&live=long-poll"))
            if n % 500 == 499:
                while server.route.calls.running:
                    await asyncio.sleep(0)
        while server.feed.legs < TOPICS:
            await asyncio.sleep(0)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert held < 64 * 1024 * TOPICS, "of which most is the test's own client"
        for n in random.Random(5).sample(range(TOPICS), 50):
            await server.publish("hello", topic=f"many.{n}")
            assert (await answered(peers[n])).answer == b'["hello"]'
        found = await server.names.matching(pattern("many.*"), TOPICS)
        assert len(found) == TOPICS
        for one in peers:
            one.leave()
        assert server.feed.legs == 0

    play(story, seconds=60 + TOPICS // 50, wait=3600.0)
