"""Presence: who is there, over workers; joins and leaves by every way a topic is read; a killed worker's members vanish."""

import asyncio
import json

from fairlead.serve import presence
from topickit import STREAM, events_of, header, play, says, until


async def members(server, topic="a"):
    status, said = await server.act(f"/t/{topic}/presence", None, "GET")
    assert status == 200, said
    return sorted(one["member"] for one in said["members"]), said


async def there(server, *names):
    """Until these and no others are there."""
    while (await members(server))[0] != sorted(names):
        await asyncio.sleep(0.01)


def test_members_come_and_go_over_workers_and_are_told_of_once():
    async def story(one, two):
        await one.publish(0)
        watch = one.ask("GET", "/t/a/presence", b"", STREAM)
        await says(watch, "event: here")
        ann = one.ask("GET", "/t/a?member=ann", b"", STREAM)
        await there(two, "ann")
        tab = two.ask("GET", "/t/a?member=ann", b"", STREAM)  # a second tab, elsewhere
        bob = two.ask("GET", "/t/a?member=bob&offset=-1&live=sse")
        await there(one, "ann", "bob")
        said = await says(watch, "event: join", 2)
        ann.leave()
        await asyncio.sleep(0.1)
        assert (await members(one))[0] == ["ann", "bob"], "she has another tab"
        bob.leave()
        said = await says(watch, "event: leave")
        tab.leave()
        said = await says(watch, "event: leave", 2)
        await there(one)
        told = [(name, json.loads(data).get("member")) for _, name, data in events_of(said)]
        assert told == [("here", None), ("join", "ann"), ("join", "bob"), ("leave", "bob"), ("leave", "ann")]

    play(story, workers=2, presence=True, linger=0.02)


def test_who_comes_back_at_once_was_never_gone():
    async def story(server):
        await server.publish(0)
        peer = server.ask("GET", "/t/a?member=ann", b"", STREAM)
        await there(server, "ann")
        next_ = (await members(server))[1]["next"]
        for _ in range(3):
            peer.leave()
            peer = server.ask("GET", "/t/a?member=ann", b"", STREAM)
            await says(peer, "retry")
        await asyncio.sleep(0.1)
        poll = await server.done("GET", f"/t/a/presence?offset={next_}")
        assert poll.answer == b"[]"

    play(story, presence=True, linger=20.0)


def test_joins_and_leaves_are_read_by_poll_long_poll_and_resumed_streams():
    async def story(server):
        await server.publish(0)
        _, said = await members(server)
        long = server.ask("GET", f"/t/a/presence?offset={said['next']}&live=long-poll")
        ann = server.ask("GET", "/t/a?member=ann", b"", STREAM)
        while long.status is None:
            await asyncio.sleep(0.01)
        assert json.loads(long.answer) == [{"member": "ann"}]
        ann.leave()
        resumed = server.ask("GET", "/t/a/presence", b"", STREAM, (b"last-event-id", said["next"].encode()))
        text = await says(resumed, "event: leave")
        assert "event: here" not in text and "event: join" in text
        poll = await server.done("GET", f"/t/a/presence?offset={header(long, 'stream-next-offset')}")
        assert json.loads(poll.answer) == [{"member": "ann"}]  # the leave

    play(story, presence=True, linger=0.0)


def test_presence_on_a_socket():
    async def story(server):
        await server.publish(0)
        watcher = server.socket("/t/a?sub=0")
        said = await watcher.asks(1, sub={"presence": "a"})
        assert said["members"] == [] and said["presence"] == "a"
        ann = server.socket("/t/a?sub=0")
        await ann.asks(1, sub={"topic": "a", "member": "ann", "info": {"colour": "red"}})
        frame = await watcher.next(presence="a", events=None)
        assert [(e["type"], e["data"]) for e in frame["events"]] == [("join", {"member": "ann", "info": {"colour": "red"}})]
        assert (await watcher.asks(2, sub={"presence": "a"}))["members"][0]["info"] == {"colour": "red"}
        await ann.asks(2, unsub="a")
        frame = await watcher.next(presence="a", events=None)
        assert frame["events"][0]["type"] == "leave"
        assert (await watcher.asks(3, unsub={"presence": "a"}))["ok"]
        assert (await watcher.asks(4, unsub={"presence": "a"}))["error"]["status"] == 404

    play(story, presence=True, linger=0.0)


def test_the_members_of_a_killed_worker_vanish_and_are_told_of():
    async def story(one, two):
        await one.publish(0)
        watch = two.ask("GET", "/t/a/presence", b"", STREAM)
        await says(watch, "event: here")
        one.ask("GET", "/t/a?member=ann", b"", STREAM)
        stays = two.ask("GET", "/t/a?member=bob", b"", STREAM)
        await there(two, "ann", "bob")
        await one.presence.close()  # as kill -9 leaves it: nothing is renewed, nothing is said
        two.presence.start()
        said = await says(watch, "event: leave")
        assert json.loads(events_of(said)[-1][2]) == {"member": "ann"}
        await there(two, "bob")
        stays.leave()

    play(story, workers=2, presence=True, lease=1.5, linger=0.0)


def test_a_principal_is_who_it_is_and_nobody_else():
    async def story(server):
        await server.publish(0)
        server.principal = {"sub": "ann"}
        server.ask("GET", "/t/a?member=boss", b"", STREAM)
        await there(server, "ann")

    play(story, presence=True)


def test_members_are_bounded_and_the_rest_counted(monkeypatch):
    monkeypatch.setattr(presence, "MOST", 3)

    async def story(server):
        await server.publish(0)
        peers = [server.ask("GET", f"/t/a?member=m{n}", b"", STREAM) for n in range(5)]
        await there(server, "m0", "m1", "m2")
        _, said = await members(server)
        while said.get("more") != 2:
            server.presence.changed("a", server.presence.tables["a"])
            await asyncio.sleep(0.01)
            _, said = await members(server)
        assert said["count"] == 5
        for peer in peers:
            peer.leave()
        await there(server)
        await until(lambda: not server.presence.tables)

    play(story, presence=True, linger=0.0)


def test_a_route_without_presence_has_none():
    async def story(server):
        await server.publish(0)
        server.ask("GET", "/t/a?member=ann", b"", STREAM)
        assert (await server.done("GET", "/t/a/presence")).status in (404, 405)
        socket = server.socket("/t/a?sub=0")
        assert (await socket.asks(1, sub={"presence": "a"}))["error"]["status"] == 403
        assert not server.presence.tables

    play(story)
