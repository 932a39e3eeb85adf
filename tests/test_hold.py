"""Hold: an application hands its connection to a topic and returns; by every way of reading, and over the hop of `dispatch`."""

import asyncio
import json

import pytest

import fairlead
from fairlead.core.errors import AppError
from fairlead.serve.app import App
from fairlead.serve.hold import Holding, made, of_field, read
from fairlead.serve.websocket import WebSockets
from hoprig import read_answer, rig
from topickit import STREAM, SocketPeer, answered, events_of, header, play, says, until


def held(server, said, seen=None):
    """An application that checks a cookie and hands its connection over."""

    async def app(scope, receive, send):
        if seen is not None:
            seen.append(scope)
        if (b"cookie", b"user=ann") not in scope["headers"]:
            await send({"type": "http.response.start", "status": 403})
            await send({"type": "http.response.body", "body": b"no"})
            return
        assert scope["extensions"]["fairlead.hold"] == {}
        await send({"type": "fairlead.hold", **said})
        assert (await receive())["type"] in ("http.request", "http.disconnect", "websocket.connect")

    return serving(server, app)


def serving(server, app):
    handler = App(app, asyncio.get_running_loop())
    handler.holds(Holding(server.feed, server.names, server.presence))
    handler.sockets = WebSockets(handler)
    return handler


ANN = (b"cookie", b"user=ann")


def test_a_held_stream_is_the_topics_and_the_application_has_returned():
    async def story(server):
        first = await server.publish("before")
        app = held(server, {"topic": "a", "headers": [(b"X-Who", b"ann")], "after": "-1"}, seen := [])
        refused = await server.done("GET", "/feed", b"", STREAM, handler=app)
        assert (refused.status, refused.answer) == (403, b"no")
        peer = server.ask("GET", "/feed", b"", STREAM, ANN, handler=app)
        said = await says(peer, '"before"')
        assert header(peer, "content-type") == "text/event-stream" and header(peer, "x-who") == "ann"
        await until(lambda: not app.running)
        ring = server.feed.rings["a"]
        await until(lambda: ring.live)
        assert not [task for task in server.feed.tasks if not task.done()]
        await server.publish("live")
        said = await says(peer, '"live"')
        peer.leave()
        assert not ring.live and server.feed.outs == 0
        await server.publish("missed")
        last = events_of(said)[-1][0]
        again = server.ask("GET", "/feed", b"", STREAM, ANN, (b"last-event-id", last.encode()), handler=app)
        assert [json.loads(data) for _, _, data in events_of(await says(again, '"missed"'))] == ["missed"]
        assert len(seen) == 3 and first  # it was asked each time, and keeps nothing

    play(story)


@pytest.mark.parametrize("how", ["poll", "long-poll", "stream", "sse", "auto"])
def test_a_hold_is_answered_as_the_client_asks_or_the_handler_says(how):
    async def story(server):
        first = await server.publish(1)
        await server.publish(2)
        app = held(server, {"topic": "a", "how": how})
        asked = "/feed" if how != "auto" else f"/feed?offset={first}&live=long-poll"
        peer = server.ask("GET", asked, b"", ANN, (b"last-event-id", first.encode()), handler=app)
        text = await says(peer, "2")
        assert "1" not in [data for _, _, data in events_of(text)]
        if how in ("poll", "long-poll", "auto"):
            assert peer.answer == b"[2]" and header(peer, "stream-next-offset")
        else:
            assert ("event: control" in text) == (how == "sse")
        if how == "long-poll":
            waits = server.ask("GET", "/feed?offset=now", b"", ANN, handler=app)
            await until(lambda: server.feed.rings["a"].polls)
            await server.publish(3)
            assert (await answered(waits)).answer == b"[3]"

    play(story)


def test_a_client_that_asks_for_nothing_in_particular_is_held():
    async def story(server):
        await server.publish(1)
        peer = server.ask("GET", "/feed", b"", ANN, handler=held(server, {"topic": "a"}))
        await says(peer, "retry:")
        await server.publish(2)
        assert "data:2" in await says(peer, "data:2")

    play(story)


def test_several_topics_and_patterns_are_held_on_one_stream():
    async def story(server):
        for topic in ("a", "b", "x.1", "y.1"):
            await server.publish(f"{topic} here", topic=topic)
        app = held(server, {"topic": ["a", "b"], "match": "x.*", "after": "-1"})
        peer = server.ask("GET", "/feed", b"", STREAM, ANN, handler=app)
        said = await says(peer, "here", 3)
        await server.publish("x.2 here", topic="x.2")
        said = await says(peer, "x.2 here")
        assert "y.1" not in said

    play(story)


def test_the_field_of_an_answer_holds_it_too_and_never_leaves():
    async def story(server):
        await server.publish("said")

        async def app(scope, receive, send):
            fields = [(b"Fairlead-Hold", b'{"topic": "a", "after": "-1"}'), (b"set-cookie", b"s=1")]
            fields.append((b"content-type", b"text/html"))
            status = 200 if scope["path"] == "/feed" else 404
            await send({"type": "http.response.start", "status": status, "headers": fields})
            await send({"type": "http.response.body", "body": b"ignored", "more_body": True})
            await send({"type": "http.response.body", "body": b"ignored"})

        handler = serving(server, app)
        peer = server.ask("GET", "/feed", b"", STREAM, handler=handler)
        assert "ignored" not in await says(peer, '"said"')
        assert header(peer, "set-cookie") == "s=1" and header(peer, "content-type") == "text/event-stream"
        assert header(peer, "fairlead-hold") is None
        missing = await server.done("GET", "/other", b"", STREAM, handler=handler)
        assert missing.status == 404 and b"ignored" in missing.answer and header(missing, "fairlead-hold") is None
        assert not handler.running

    play(story)


def test_a_held_connection_ends_when_its_time_is_over_and_comes_again():
    async def story(server):
        await server.publish(1)
        app = held(server, {"topic": "a", "for": 0.05})
        peer = server.ask("GET", "/feed", b"", STREAM, ANN, handler=app)
        socket = SocketPeer(server, "/feed", [ANN], app)
        assert await socket.close_frame() == (3001, "this socket has been open for long enough")
        socket.leave()
        await until(lambda: server.feed.outs == 0)
        assert peer.answer.decode().count("retry:") == 2  # when to come, and when to come again

    play(story)


def test_a_held_socket_hears_what_was_handed_over_and_nothing_else():
    async def story(server):
        await server.publish("of a")
        await server.publish("of b", topic="b")
        app = held(server, {"topic": ["a"], "after": "-1"})
        socket = SocketPeer(server, "/feed", [ANN], app)
        frame = await socket.next(topic="a", events=None)
        assert frame["events"][0]["data"] == "of a"
        assert (await socket.asks(1, sub={"topic": "b"}))["error"]["status"] == 403
        assert (await socket.asks(2, sub={"match": ">"}))["topics"] == []  # `b` matches, and it may not hear it
        assert (await socket.asks(3, pub={"topic": "a", "data": 1}))["error"]["status"] == 403
        assert (await socket.asks(4, claim={"topic": "a", "group": "g"}))["error"]["status"] == 400
        await until(lambda: not app.running)
        may = SocketPeer(server, "/feed", [ANN], held(server, {"topic": "a", "publish": True}))
        await answered(may)
        assert (await may.asks(1, pub={"topic": "a", "data": "mine"}))["ok"]
        assert (await may.asks(2, pub={"topic": "b", "data": 1}))["error"]["status"] == 403
        refused = SocketPeer(server, "/feed", [], app)
        await answered(refused)
        assert refused.status == 500  # the application sent an http answer to a websocket

    play(story)


def test_a_member_that_the_handler_names_is_there():
    async def story(server):
        await server.publish(1)
        app = held(server, {"topic": "a", "member": "ann", "info": {"age": 7}})
        server.ask("GET", "/feed?member=boss", b"", STREAM, ANN, handler=app)
        while not (await server.presence.listed("a"))[0]:
            await asyncio.sleep(0.01)
        assert (await server.presence.listed("a"))[0]["ann"][1] == {"age": 7}

    play(story)


def test_fairlead_hold_is_an_answer_for_frameworks():
    async def story(server):
        await server.publish("hello")
        peer = server.ask("GET", "/feed", b"", STREAM, handler=serving(server, fairlead.Hold("a", after="-1", for_=60)))
        await says(peer, '"hello"')

    play(story)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "together 1 to"),
        ({"topic": []}, "together 1 to"),
        ({"topic": 7}, "is a name or a list"),
        ({"topic": ["a"] * 1 + [f"t{n}" for n in range(1000)]}, "together 1 to"),
        ({"topic": "$jobs"}, "no topic's name"),
        ({"topic": "a\n"}, "no topic's name"),
        ({"match": "a*"}, "whole words"),
        ({"topic": "a", "how": "pigeon"}, "is one of"),
        ({"topic": "a", "for": "1h"}, "number of seconds"),
        ({"topic": "a", "for": -1}, "number of seconds"),
        ({"topic": "a", "after": 7}, "is a text"),
        ({"topic": "a", "info": {"x": "y" * 600}}, "512 bytes"),
        ({"topic": "a", "tpic": "b"}, "unknown: tpic"),
        ({"topic": "a", "headers": [("x", "y")]}, "pairs of bytes"),
    ],
)
def test_what_an_application_gets_wrong_is_named_and_a_500(said, words):
    async def story(server):
        async def app(scope, receive, send):
            await send({"type": "fairlead.hold", **said})

        peer = await server.done("GET", "/feed", b"", STREAM, handler=serving(server, app))
        assert peer.status == 500 and words in str(peer.watcher.broken[0]), peer.watcher.broken

    play(story)


def test_a_hold_stands_in_the_place_of_an_answer():
    async def story(server):
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "fairlead.hold", "topic": "a"})

        peer = await server.done("GET", "/feed", handler=serving(server, app))
        assert peer.status == 500 and "behind http.response.start" in str(peer.watcher.broken[0])
        alone = App(fairlead.Hold("a"), asyncio.get_running_loop())  # a server without topics
        peer = await server.done("GET", "/feed", handler=alone)
        assert peer.status == 500 and "holds no connections" in str(peer.watcher.broken[0])

    play(story)


def test_a_hold_travels_as_text_and_is_not_believed():
    hold = made({"topic": ["a", "b"], "match": ["x.*"], "for": 5, "member": "ünï", "info": [1]}, (("set-cookie", "a=b"),))
    assert read(hold.text()) == hold
    assert of_field(b"a, b", [(b"x", b"y"), (b"content-length", b"7")]).headers == (("x", "y"),)
    for bad in (b"", b"{}", b"[1]", b'{"topics": 1, "match": [], "headers": []}', b'{"headers": [1]}', b"\xff"):
        with pytest.raises(AppError):
            read(bad)


# ---- over the hop


async def line(reader, text, seen):
    """Read on until the stream has said it."""
    while text not in seen[0]:
        seen[0] += await asyncio.wait_for(reader.read(4096), 10)


def test_a_front_holds_the_connection_and_the_worker_is_free_even_to_die():
    async def story(server):
        await server.publish("before")
        async with rig() as it:
            holding = it.dispatcher.holding = Holding(server.feed, server.names, server.presence)
            worker = it.worker(fairlead.Hold("a", after="-1"))
            worker.links.service.handler.apps[7].holds(holding)
            reader, writer = await it.connect()
            writer.write(b"GET /feed HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
            seen = [b""]
            await line(reader, b'data:"before"', seen)
            assert b"fairlead-hold" not in seen[0] and b"HTTP/1.1 200" in seen[0]
            for _ in range(1000):
                if not it.dispatcher.links[0].busy and not worker.links.running:
                    break
                await asyncio.sleep(0)
            assert it.dispatcher.links[0].busy == worker.links.running == 0
            worker.die()
            await server.publish("after it died")
            await line(reader, b"after it died", seen)
            writer.close()
            assert holding.held == 1

    play(story)


def test_a_front_holds_sockets_polls_and_refuses_what_it_cannot():
    async def story(server):
        first = await server.publish("one")
        await server.publish("two")
        async with rig() as it:
            holding = it.dispatcher.holding = Holding(server.feed, server.names, server.presence)

            async def app(scope, receive, send):
                await send({"type": "fairlead.hold", "topic": "a"})

            worker = it.worker(app)
            handler = worker.links.service.handler.apps[7]
            handler.holds(holding)
            handler.sockets = WebSockets(handler)
            status, head, body = await it.get(f"/feed?offset={first}")
            assert (status, body) == (200, b'["two"]') and b"stream-next-offset" in head
            reader, writer = await it.connect()
            writer.write(
                b"GET /feed HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: fairlead.v1.json\r\n\r\n"
            )
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert head.startswith(b"HTTP/1.1 101") and b"fairlead.v1.json" in head
            await server.publish("three")
            seen = [b""]
            await line(reader, b'"three"', seen)
            writer.close()
            it.dispatcher.holding = None
            status, _, _ = await it.get("/feed")
            assert status == 500
            reader, writer = await it.connect()
            writer.write(b"GET /feed HTTP/1.1\r\nHost: a\r\n\r\n")
            status, _, _ = await read_answer(reader)
            assert status == 500
            writer.close()

    play(story)


