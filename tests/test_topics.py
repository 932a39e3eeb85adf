"""Topics over the memory store: one URL by poll, long poll and both event streams; one offset; gaps, ends, slow readers."""

import asyncio
import itertools
import json
import re

import pytest

from fairlead.core.errors import NetError
from fairlead.core.handler import Handler
from fairlead.serve.feed import Feed, FeedLimits
from fairlead.serve.topicforms import EventFrames
from fairlead.serve.topics import TopicOptions, TopicRoute
from fairlead.store.contract import Gap, NewEvent, Offset, TopicConfig
from fairlead.store.open import open_store
from recorder import Peer
from topickit import JSON, STREAM, answered, header, says, settled


class Server(Handler):
    """A topic route at /t/{topic}, and clients of it."""

    def __init__(self, store, limits=None, **options):
        self.store = store
        self.feed = Feed(store, limits=limits)
        self.route = TopicRoute(self.feed, TopicOptions(**{"wait": 5.0, **options}))

    def open(self, exchange):
        exchange.params = {"topic": exchange.request.path.split("/")[2]}
        self.route.open(exchange)

    def ask(self, method, target="/t/a", body=b"", *headers):
        peer = Peer(self)
        peer.ask(method, target.encode(), list(headers), length=len(body))
        if body:
            peer.body(body, True)
        return peer

    async def done(self, method, target="/t/a", body=b"", *headers):
        return await answered(self.ask(method, target, body, *headers))

    async def publish(self, *values, topic="a"):
        peer = await self.done("POST", f"/t/{topic}", json.dumps(list(values)).encode(), JSON)
        assert peer.status == 204, peer.answer
        return header(peer, "stream-next-offset")


def play(story, limits=None, **options):
    async def run():
        store = await open_store("memory:")
        server = Server(store, limits, **options)
        try:
            async with asyncio.timeout(20):
                await story(server)
        finally:
            await server.feed.close()
            await store.close()

    asyncio.run(run())


def test_the_same_offset_goes_on_by_every_way_of_reading():
    async def story(server):
        first = await server.publish(1, 2)
        await server.publish(3)
        poll = await server.done("GET", f"/t/a?offset={first}")
        assert poll.answer == b"[3]" and header(poll, "stream-up-to-date") == "true"
        long = await server.done("GET", f"/t/a?offset={first}&live=long-poll")
        assert (long.status, long.answer) == (200, b"[3]")
        waited = await server.done("GET", f"/t/a?offset={first}", b"", (b"prefer", b"wait=5"))
        assert waited.answer == b"[3]"
        durable = server.ask("GET", f"/t/a?offset={first}&live=sse")
        assert "event: data\ndata:[3]\n" in await says(durable, "streamNextOffset")
        plain = server.ask("GET", "/t/a", b"", STREAM, (b"last-event-id", first.encode()))
        said = await says(plain, "data:3")
        last = header(poll, "stream-next-offset")
        assert f"id: {last}\ndata:3\n" in said and "data:2" not in said
        assert re.match(rf"retry: 1\d\d\d\nid: {first}\n\n", said)  # not all at the same moment

    play(story)


def test_live_readers_hear_what_comes_encoded_once():
    async def story(server):
        await server.publish(0)
        peers = [server.ask("GET", "/t/a?offset=now&live=sse") for _ in range(20)]
        for peer in peers:
            await says(peer, "upToDate")
        ring = server.feed.rings["a"]
        while len(ring.live) < 20:
            await asyncio.sleep(0)
        assert not [task for task in server.feed.tasks if not task.done()]  # nobody holds a task while it waits
        await server.publish({"a": 1}, {"a": 2})
        for peer in peers:
            said = await says(peer, "event: data")
            assert 'data:[{"a":1},{"a":2}]' in said

    play(story)


def test_a_long_poll_waits_for_what_comes_and_204_when_nothing_does():
    async def story(server):
        await server.publish(0)
        polls = [server.ask("GET", "/t/a?offset=now&live=long-poll") for _ in range(5)]
        while "a" not in server.feed.rings or len(server.feed.rings["a"].polls) < 5:
            await asyncio.sleep(0)
        while server.route.calls.running:  # no task waits
            await asyncio.sleep(0)
        assert len(server.feed.rings["a"].polls) == 5
        await server.publish(7)
        for poll in polls:
            assert (await answered(poll)).answer == b"[7]"
        nothing = await server.done("GET", "/t/a?offset=now", b"", (b"prefer", b"wait=0"))
        assert nothing.status == 204 and header(nothing, "stream-up-to-date") == "true"
        timed = await server.done("GET", "/t/a?offset=now&live=long-poll")
        assert timed.status == 204 and header(timed, "stream-next-offset") == header(polls[0], "stream-next-offset")

    play(story, wait=0.05)


@pytest.mark.parametrize("order", list(itertools.permutations("PPAA", 4))[:12] + [tuple("APAP"), tuple("PAPA")])
def test_no_append_falls_between_looking_and_waiting(order):
    """A poll takes several steps of the loop to register; an append is placed after every number of steps."""

    async def story(server):
        await server.publish(0)
        for steps in range(14):
            after = (await server.store.log.head("a")).last
            poll = server.ask("GET", f"/t/a?offset={after}&live=long-poll")
            for word in order:
                if word == "P":
                    for _ in range(steps):
                        await asyncio.sleep(0)
                else:
                    await server.store.log.append("a", [NewEvent(b"1")])
            got = await answered(poll)
            assert got.status == 200 and got.answer in (b"[1]", b"[1,1]")

    play(story)


def test_a_client_that_leaves_while_it_waits_leaves_nothing():
    async def story(server):
        await server.publish(0)
        peers = [server.ask("GET", f"/t/a?offset=now&live={live}") for live in ("sse", "long-poll")]
        while "a" not in server.feed.rings or server.feed.rings["a"].followers < 2:
            await asyncio.sleep(0)
        for peer in peers:
            peer.leave()
        ring = server.feed.rings["a"]
        assert (ring.followers, len(ring.live), len(ring.polls), server.feed.outs, server.feed.legs) == (0, 0, 0, 0, 0)
        await server.publish(1)

    play(story)


@pytest.mark.parametrize("at_once", [False, True])
def test_a_client_that_closes_its_side_follows_no_more(at_once):
    async def story(server):
        await server.publish(0)
        targets = ["/t/a?offset=now&live=sse", "/t/a?topic=b&offset=now&live=sse", "/t/a?offset=now&live=long-poll"]
        targets.append("/t/a?topic=b&offset=now&live=long-poll")
        peers = [server.ask("GET", target) for target in targets]
        while not at_once and ("b" not in server.feed.rings or server.feed.legs < 6):
            await asyncio.sleep(0)
        for peer in peers:  # as a socket that is closed in the usual way looks: its end of file, and nothing more
            peer.conn.reset(1, NetError("the client closed its side", step="receive", status=499), "read")
        assert [(await answered(peer)).status for peer in peers] == [200, 200, 204, 204]
        while server.feed.legs or server.feed.outs:
            await asyncio.sleep(0)

    play(story)


def test_what_is_no_longer_kept_is_said_on_every_way():
    async def story(server):
        await server.publish(*range(10))
        first = (await server.store.log.head("a")).first
        await server.store.log.trim("a", Offset(first.epoch, 5))
        poll = await server.done("GET", f"/t/a?offset={first}")
        assert poll.status == 410 and header(poll, "stream-earliest-offset") == str(Offset(first.epoch, 5))
        plain = server.ask("GET", "/t/a", b"", STREAM, (b"last-event-id", str(first).encode()))
        said = await says(plain, "data:9")
        assert f'event: gap\ndata:{{"earliest": "{Offset(first.epoch, 5)}"' in said and "data:4\n" not in said
        durable = server.ask("GET", f"/t/a?offset={first}&live=sse")
        assert '"gap":{"earliest"' in await says(durable, "data:[5")
        for token in (Offset(first.epoch, 99), Offset(first.epoch - 1, 1)):
            assert (await server.done("GET", f"/t/a?offset={token}")).status == 410

    play(story)


def test_the_end_of_a_topic_ends_its_streams_and_an_eventsource_stops():
    async def story(server):
        await server.publish(1)
        plain = server.ask("GET", "/t/a?offset=-1", b"", STREAM)
        durable = server.ask("GET", "/t/a?offset=-1&live=sse")
        poll = server.ask("GET", "/t/a?offset=now&live=long-poll")
        await says(plain, "data:1")
        await says(durable, "upToDate")
        end = await server.done("POST", "/t/a", b"[2]", JSON, (b"stream-closed", b"true"))
        assert end.status == 204 and header(end, "stream-closed") == "true"
        said = await says(plain, "event: end")
        assert "data:2" in said and '"closed"' in said
        assert '"streamClosed":true' in await says(durable, "streamClosed")
        assert (await answered(poll)).answer == b"[2]"
        again = await server.done("GET", "/t/a", b"", STREAM, (b"last-event-id", header(end, "stream-next-offset").encode()))
        assert again.status == 204
        late = await server.done("POST", "/t/a", b"[3]", JSON)
        assert late.status == 409 and header(late, "stream-closed") == "true"

    play(story)


def test_a_topic_that_is_deleted_ends_its_streams():
    async def story(server):
        await server.publish(1)
        plain = server.ask("GET", "/t/a?offset=-1", b"", STREAM)
        await says(plain, "data:1")
        assert (await server.done("DELETE")).status == 204
        assert '"gone"' in await says(plain, "event: end")
        assert (await server.done("DELETE")).status == 404

    play(story)


@pytest.mark.parametrize(
    ("create", "post", "get"), [("put", 404, 404), ("publish", 204, 404), ("subscribe", 204, 200)]
)
def test_what_makes_a_topic_is_the_routes_choice(create, post, get):
    async def story(server):
        assert (await server.done("GET", "/t/read")).status == get
        assert (await server.done("POST", "/t/posted", b"[1]", JSON)).status == post
        assert (await server.done("PUT", "/t/put", b"", JSON)).status == 201

    play(story, create=create)


# ---- slow readers


def stalled(server, slow):
    """A stream whose client takes nothing, and events that come meanwhile."""

    async def story():
        peer = server.ask("GET", "/t/a?offset=-1", b"", STREAM)
        await says(peer, "data:0")
        while not server.feed.rings["a"].live:
            await asyncio.sleep(0)
        peer.codec.full = True
        await server.publish("first unread")
        await says(peer, "first unread")
        return peer

    return story()


def resume(peer):
    peer.codec.full = False
    peer.conn.in_feed = True
    peer.conn.room(1)
    peer.conn.in_feed = False


def test_a_slow_reader_goes_on_from_where_it_was_and_holds_nothing_meanwhile():
    async def story(server):
        await server.publish(0)
        peer = await stalled(server, "cursor")
        before = len(peer.answer)
        for n in range(50):
            await server.publish(f"while away {n}")
        assert len(peer.answer) == before and not server.feed.rings["a"].live
        resume(peer)
        said = await says(peer, "while away 49")
        assert [said.index(f"while away {n}\"") for n in range(50)] == sorted(said.index(f"while away {n}\"") for n in range(50))

    play(story, FeedLimits(ring_events=5))


def test_a_slow_reader_may_be_told_how_much_was_left_out():
    async def story(server):
        await server.publish(0)
        peer = await stalled(server, "drop")
        for n in range(3):
            await server.publish(f"left out {n}")
        while server.feed.left_out < 3:
            await asyncio.sleep(0)
        resume(peer)
        assert '"dropped": 3' in await says(peer, "event: gap")
        await server.publish("after")
        assert "left out" not in await says(peer, "after")

    play(story, slow="drop")


def test_a_slow_reader_may_get_the_last_of_each_key():
    async def story(server):
        await server.publish(0)
        peer = await stalled(server, "latest")
        for key, value in (("x", 1), ("y", 2), ("x", 3)):
            await server.store.log.append("a", [NewEvent(b'"%s%d"' % (key.encode(), value), key=key)])
        await settled()
        resume(peer)
        said = await says(peer, '"x3"')
        assert '"y2"' in said and '"x1"' not in said

    play(story, slow="latest")


def test_a_slow_reader_may_be_let_go():
    async def story(server):
        await server.publish(0)
        peer = await stalled(server, "close")
        await server.publish("one more")
        while not server.feed.slow or server.feed.outs:
            await asyncio.sleep(0)
        assert "event: slow" in peer.answer.decode()

    play(story, slow="close")


# ---- what is refused


@pytest.mark.parametrize(
    ("method", "target", "body", "headers", "status"),
    [
        ("GET", "/t/a?offset=yesterday", b"", (), 400),
        ("GET", "/t/a?offset=", b"", (), 400),
        ("GET", "/t/a?offset=-1&offset=-1", b"", (), 400),
        ("GET", "/t/a?live=sse", b"", (), 400),
        ("GET", "/t/a?live=carrier-pigeon&offset=-1", b"", (), 400),
        ("POST", "/t/a", b"", (JSON,), 400),
        ("POST", "/t/a", b"{", (JSON,), 400),
        ("POST", "/t/a", b"[]", (JSON,), 400),
        ("POST", "/t/a", b"x", (), 400),
        ("POST", "/t/a", b"x", ((b"content-type", b"text/plain"),), 409),
        ("POST", "/t/a", b"[" + b"1," * 40000 + b"1]", (JSON,), 413),
        ("POST", "/t/a", b"[1]", (JSON, (b"producer-id", b"p")), 400),
        ("POST", "/t/a", b"[1]", (JSON, (b"producer-id", b"p"), (b"producer-epoch", b"0"), (b"producer-seq", b"7")), 409),
        ("PUT", "/t/a", b"", ((b"content-type", b"text/plain"),), 409),
        ("PUT", "/t/b", b"", (JSON, (b"stream-ttl", b"01")), 400),
        ("PUT", "/t/b", b"", (JSON, (b"stream-expires-at", b"tomorrow")), 400),
        ("PATCH", "/t/a", b"", (), 405),
        ("GET", "/t/$jobs", b"", (), 403),
        ("GET", "/t/a/nothing", b"", (), 404),
    ],
)
def test_what_is_refused(method, target, body, headers, status):
    async def story(server):
        await server.publish(1)
        peer = await server.done(method, target, body, *headers)
        assert peer.status == status and header(peer, "x-content-type-options") == "nosniff"

    play(story, message=65536)


def test_followers_are_bounded():
    async def story(server):
        await server.publish(0)
        streams = [server.ask("GET", "/t/a?offset=-1", b"", STREAM) for _ in range(2)]
        for stream in streams:
            await says(stream, "data:0")
        one_more = await server.done("GET", "/t/a?offset=-1", b"", STREAM)
        assert one_more.status == 503 and b"more than 2 followers" in one_more.answer
        streams[0].leave()
        assert (await server.done("GET", "/t/a?offset=-1", b"", STREAM)).status == 200

    play(story, FeedLimits(legs=2))


def test_text_and_bytes_have_their_own_forms():
    async def story(server):
        await server.done("PUT", "/t/text", b"", (b"content-type", b"text/plain"))
        await server.done("PUT", "/t/bytes", b"\x00\xff", (b"content-type", b"application/x-b"))
        await server.done("POST", "/t/text", b"a\r\ndata: b\n\nevent: x", (b"content-type", b"text/plain"))
        text = server.ask("GET", "/t/text?offset=-1", b"", STREAM)
        assert "data:a\ndata:data: b\ndata:\ndata:event: x\n\n" in await says(text, "event: x")
        binary = server.ask("GET", "/t/bytes?offset=-1&live=sse")
        assert "data:AP8=\n" in await says(binary, "AP8=")
        assert header(binary, "stream-sse-data-encoding") == "base64"
        assert (await server.done("GET", "/t/bytes")).answer == b"\x00\xff"

    play(story)


def test_a_ring_that_nobody_follows_is_let_go(monkeypatch):
    from fairlead.serve import feed

    monkeypatch.setattr(feed, "LINGER", 0.0)

    async def story(server):
        await server.publish(0)
        poll = server.ask("GET", "/t/a?offset=now&live=long-poll")
        while "a" not in server.feed.rings or not server.feed.rings["a"].polls:
            await asyncio.sleep(0)
        poll.leave()
        while server.feed.rings:
            await asyncio.sleep(0.001)
        assert not server.feed.hub.topics

    play(story)


def test_a_stream_goes_on_when_the_topic_is_made_anew():
    async def story(server):
        await server.publish(1)
        plain = server.ask("GET", "/t/a?offset=-1", b"", STREAM)
        last = (await says(plain, "data:1")).rpartition("id: ")[2].split("\n")[0]
        await server.store.log.delete("a")
        await server.store.log.create("a", TopicConfig("application/json"), [NewEvent(b"9")])
        again = server.ask("GET", "/t/a", b"", STREAM, (b"last-event-id", last.encode()))
        said = await says(again, "data:9")
        assert "event: gap" in said

    play(story)


def test_each_stream_has_the_heartbeat_of_its_route():
    async def story(server):
        await server.publish(1)
        often = server.ask("GET", "/t/a?offset=now", b"", STREAM)
        await says(often, "retry")
        server.route.options = TopicOptions(heartbeat=3.0)
        rarely = server.ask("GET", "/t/a?offset=now", b"", STREAM)
        await says(rarely, "retry")
        for _ in range(7):
            server.feed.ticking.cancel()
            server.feed.tick()
        beats = [peer.answer.count(b":\n\n") for peer in (often, rarely)]
        assert beats == [6, 1]  # the first turn of each finds that it had events

    play(story, heartbeat=1.0)


def test_frames_tell_all_of_an_event_by_every_way_of_reading():
    async def story(server):
        headers = [JSON, (b"fairlead-type", b"gap"), (b"fairlead-key", b"k")]
        await server.done("POST", "/t/a", b"[1]", *headers)
        poll = await server.done("GET", "/t/a?offset=-1&form=frames")
        frame = json.loads(poll.answer)
        (event,) = frame["events"]
        assert frame["topic"] == "a" and frame["next"] == event["o"] and frame["up_to_date"] and "closed" not in frame
        assert (event["type"], event["key"], event["data"]) == ("gap", "k", 1) and event["at"] > 0
        assert header(poll, "content-type") == "application/json"
        plain = await server.done("GET", "/t/a?offset=-1")
        assert header(poll, "etag") != header(plain, "etag")
        stream = server.ask("GET", "/t/a?offset=-1&form=frames", b"", STREAM)
        text = await says(stream, "data:")
        assert "event:" not in text and f"id: {event['o']}\ndata:" in text  # unnamed: EventSource's onmessage hears it
        waiting = server.ask("GET", f"/t/a?offset={event['o']}&live=long-poll&form=frames")
        await server.done("POST", "/t/a", b"2", JSON)
        assert [one["data"] for one in json.loads((await answered(waiting)).answer)["events"]] == [2]
        await server.done("POST", "/t/a", b"", (b"stream-closed", b"true"))
        await says(stream, '"closed":true')
        assert json.loads((await server.done("GET", "/t/a?offset=-1&form=frames")).answer)["closed"]
        for target in ("/t/a?offset=-1&form=xml", "/t/a?offset=-1&live=sse&form=frames"):
            assert (await server.done("GET", target)).status == 400

    play(story)


def test_gaps_and_what_was_left_out_as_frames_of_a_stream():
    form = EventFrames("a", "json")
    gap = Gap("a", Offset(1, 5), Offset(1, 9))
    lost = {"earliest": "0000000000001_0000000000000005", "next": "0000000000001_0000000000000009"}
    assert json.loads(form.gap(gap).decode().split("data:")[1]) == {"topic": "a", "gap": lost}
    assert '"dropped": 3' in form.dropped(3, Offset(1, 9)).decode()
    assert form.ended("a", "slow", Offset(1, 9), False) == b"" == form.ended("a", "closed", Offset(1, 9), True)
    assert b'"gone":true' in form.ended("a", "gone", Offset(1, 9), True)


def test_the_javascript_client_is_behind_every_topic_route():
    async def story(server):
        got = await server.done("GET", "/t/$client.js")
        assert got.status == 200 and b"export class Topics" in got.answer
        assert header(got, "content-type") == "text/javascript; charset=utf-8"
        tag = header(got, "etag").encode()
        assert (await server.done("GET", "/t/$client.js", b"", (b"if-none-match", tag))).status == 304
        assert b"export class Topics" in (await server.done("GET", "/t/$client.d.ts")).answer
        assert (await server.done("POST", "/t/$client.js", b"1", JSON)).status == 403
        assert (await server.done("GET", "/t/$other.js")).status == 403

    play(story)
