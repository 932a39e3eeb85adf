"""How topics live on and end, as their readers see it: compaction by key, and deletion by another worker."""

import json

from fairlead.serve import feed
from topickit import JSON, STREAM, events_of, header, play, says, until


def test_followers_on_another_worker_hear_at_once_that_their_topic_was_deleted(monkeypatch):
    monkeypatch.setattr(feed, "LOOK", 1e9)  # no look may find it

    async def story(one, two):
        await one.publish(1)
        stream, socket = two.ask("GET", "/t/a", b"", STREAM), two.socket("/t/a")
        await until(lambda: two.feed.legs == 2)
        assert (await one.done("DELETE", "/t/a")).status == 204
        assert "gone" in await says(stream, "event: end")
        assert (await socket.next(topic="a", closed=True))["gone"] is True
        await until(lambda: not two.feed.rings and not two.feed.tasks)
        assert not two.hub.topics, "and nobody listens any more"

    play(story, workers=2)


def test_compaction_keeps_the_last_of_each_key_whoever_reads_and_tells_nobody_of_a_gap():
    async def story(server):
        first = await said(server, "a", 1, "x")
        await said(server, "a", 2, "y")
        for value in range(3, 9):
            last = await said(server, "a", value, "x")
        everything = await server.done("GET", "/t/a?offset=-1")
        assert json.loads(everything.answer) == [2, 8]
        later = await server.done("GET", f"/t/a?offset={first}")
        assert later.status == 200 and json.loads(later.answer) == [2, 8]
        stream = server.ask("GET", f"/t/a?offset={first}", b"", STREAM)
        text = await says(stream, "data:", 2)
        assert [one[2] for one in events_of(text)] == ["2", "8"] and events_of(text)[-1][0] == last
        socket = server.socket(f"/t/a?offset={first}")
        assert [one["data"] for one in (await socket.next(topic="a", events=None))["events"]] == [2, 8]

    play(story, compact=True)


async def said(server, topic, value, key):
    """One event under a key."""
    peer = await server.done("POST", f"/t/{topic}", json.dumps(value).encode(), JSON, (b"fairlead-key", key.encode()))
    return header(peer, "stream-next-offset")
