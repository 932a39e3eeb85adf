"""The subprotocol fairlead.v1.json, frame by frame: following, publishing, groups, what is refused, and how a socket ends."""

import asyncio
import base64
import json

import pytest

from fairlead.core.errors import Refused
from fairlead.serve import topicws
from fairlead.serve.topicws import AGAIN, NEVER, WAITING, Sockets
from fairlead.store.contract import NewEvent, Offset
from fairlead.wire import _plain, wsdeflate
from topickit import JSON, KEY, answered, header, play, until


async def make(server, topic, content_type="application/json", *events):
    await server.store.log.create(topic, server.route.config(content_type))
    if events:
        await server.store.log.append(topic, [NewEvent(event) for event in events])


async def heard(socket, topic, count):
    """The data of the next so many events of a topic."""
    found = []
    while len(found) < count:
        found += [event["data"] for event in (await socket.next(topic=topic, events=None))["events"]]
    return found


# ---- following


def test_the_topic_of_the_url_is_followed_from_the_start_and_others_by_frames():
    async def story(server):
        await server.publish("old")
        socket = server.socket()
        opened = await socket.asks(1, sub={"topic": "b"})
        assert (opened["ok"], opened["topic"]) == (True, "b")
        await server.publish("new")
        await server.publish("of b", topic="b")
        assert await heard(socket, "a", 1) == ["new"] and await heard(socket, "b", 1) == ["of b"]

    play(story)


def test_a_socket_goes_on_after_an_offset_and_each_batch_says_the_next():
    async def story(server):
        first = await server.publish(0)
        last = await server.publish(1, 2)
        socket = server.socket(f"/t/a?offset={first}")
        frame = await socket.next(topic="a", events=None)
        assert [event["data"] for event in frame["events"]] == [1, 2] and frame["next"] == last == frame["events"][-1]["o"]
        everything = server.socket("/t/a?offset=-1")
        assert await heard(everything, "a", 3) == [0, 1, 2]

    play(story)


def test_sub_0_follows_nothing_until_it_is_told_to():
    async def story(server):
        await server.publish(0)
        socket = server.socket("/t/a?sub=0&offset=-1")
        socket.say({"ping": "there"})
        assert (await socket.next(pong="there")) and server.feed.legs == 0
        await socket.asks(2, sub={"topic": "a", "after": "-1"})
        assert await heard(socket, "a", 1) == [0]

    play(story)


def test_a_second_sub_moves_and_unsub_ends():
    async def story(server):
        await server.publish(0, 1)
        socket = server.socket()
        await until(lambda: server.feed.legs == 1)
        assert (await socket.asks(1, sub={"topic": "a", "after": "-1"}))["ok"]
        assert await heard(socket, "a", 2) == [0, 1] and server.feed.legs == 1
        assert (await socket.asks(2, unsub="a")) == {"id": 2, "ok": True, "topic": "a"}
        assert server.feed.legs == 0
        await server.publish(2)
        socket.say({"ping": 1})
        assert (await socket.next())["pong"] == 1, "and nothing of the topic"

    play(story)


@pytest.mark.parametrize("what", ["never", 7, None, ["a"], {"match": "x"}, {"presence": "a"}])
def test_unsub_of_what_is_not_followed(what):
    async def story(server):
        socket = server.socket("/t/a?sub=0")
        assert (await socket.asks(1, unsub=what))["error"]["status"] == 404

    play(story)


def test_lost_events_are_told_then_the_rest_comes():
    async def story(server):
        last = Offset.parse(await server.publish(*range(6)))
        await server.store.log.trim("a", last._replace(seq=4))
        kept = (await server.store.log.head("a")).first
        socket = server.socket(f"/t/a?offset={last._replace(seq=1)}")
        gap = (await socket.next(topic="a", gap=None))["gap"]
        assert gap["earliest"] == str(kept) and kept.seq >= 3
        assert await heard(socket, "a", 6 - kept.seq) == list(range(kept.seq, 6))

    play(story)


def test_the_end_and_the_deletion_of_a_topic_are_told_and_the_socket_lives_on():
    async def story(server):
        await make(server, "ends")
        await make(server, "goes")
        socket = server.socket("/t/a?sub=0")
        await socket.asks(1, sub={"topic": "ends"})
        await socket.asks(2, sub={"topic": "goes"})
        await server.done("POST", "/t/ends", b"", (b"stream-closed", b"true"))
        assert (await socket.next(topic="ends", closed=True)).get("gone") is None
        await server.done("DELETE", "/t/goes")
        assert (await socket.next(topic="goes", closed=True))["gone"] is True
        socket.say({"ping": 1})
        assert await socket.next(pong=1)
        assert server.feed.legs == 0

    play(story)


def test_topics_of_one_socket_are_bounded(monkeypatch):
    monkeypatch.setattr(topicws, "TOPICS", 3)

    async def story(server):
        socket = server.socket()
        await until(lambda: server.feed.legs == 1)
        for number, topic in enumerate(("b", "c")):
            assert (await socket.asks(number, sub={"topic": topic}))["ok"]
        assert (await socket.asks(7, sub={"topic": "d"}))["error"]["status"] == 429
        assert (await socket.asks(8, sub={"topic": "b", "after": "-1"}))["ok"], "one that is followed already is no more"
        await socket.asks(9, unsub="b")
        assert (await socket.asks(10, sub={"topic": "d"}))["ok"]

    play(story)


def test_what_is_heard_of_text_and_bytes():
    async def story(server):
        await make(server, "t", "text/plain", "grün".encode())
        await make(server, "o", "application/octet-stream", b"\x00\xff")
        socket = server.socket("/t/a?sub=0")
        await socket.asks(1, sub={"topic": "t", "after": "-1"})
        await socket.asks(2, sub={"topic": "o", "after": "-1"})
        frames = {frame["topic"]: frame["events"][0] for frame in socket.frames() if "events" in frame}
        while len(frames) < 2:
            await asyncio.sleep(0)
            frames = {frame["topic"]: frame["events"][0] for frame in socket.frames() if "events" in frame}
        assert frames["t"]["data"] == "grün" and base64.b64decode(frames["o"]["base64"]) == b"\x00\xff"

    play(story)


# ---- publishing


def test_publish_answers_the_offset_and_a_repeat_under_its_key_appends_nothing():
    async def story(server):
        socket = server.socket()
        given = {"topic": "a", "data": {"n": 1}, "type": "made", "key": "k", "dedupe": "once"}
        first = await socket.asks(1, pub=given)
        again = await socket.asks(2, pub=given)
        assert again["o"] == first["o"] and again["duplicate"] is True and "duplicate" not in first
        batch = await server.store.log.read("a", None)
        assert [(event.data, event.type, event.key) for event in batch.events] == [(b'{"n":1}', "made", "k")]

    play(story)


def test_what_is_published_to_text_and_bytes():
    async def story(server):
        await make(server, "t", "text/plain")
        await make(server, "o", "application/octet-stream")
        socket = server.socket("/t/a?sub=0")
        assert (await socket.asks(1, pub={"topic": "t", "data": "grün"}))["ok"]
        assert (await socket.asks(2, pub={"topic": "t", "data": 7}))["error"]["status"] == 400
        assert (await socket.asks(3, pub={"topic": "o", "base64": "AP8="}))["ok"]
        assert (await socket.asks(4, pub={"topic": "o", "base64": "not base64!"}))["error"]["status"] == 400
        assert (await socket.asks(5, pub={"topic": "o", "base64": 7}))["error"]["status"] == 400
        assert [event.data for event in (await server.store.log.read("t", None)).events] == ["grün".encode()]
        assert [event.data for event in (await server.store.log.read("o", None)).events] == [b"\x00\xff"]

    play(story)


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"topic": "a"}, 400),  # no data
        ({"data": 1}, 400),  # no topic
        ({"topic": 7, "data": 1}, 400),
        ({"topic": "", "data": 1}, 400),
        ({"topic": "a", "data": "x" * 200}, 413),
    ],
)
def test_what_is_refused_of_a_publish(given, status):
    async def story(server):
        socket = server.socket("/t/a?sub=0")
        refused = await socket.asks(1, pub=given)
        assert refused["error"]["status"] == status and refused["error"]["message"], refused

    play(story, message=100)


def test_a_topic_that_only_put_makes_is_not_made_by_a_frame():
    async def story(server):
        socket = server.socket("/t/a?sub=0")
        assert (await socket.asks(1, pub={"topic": "b", "data": 1}))["error"]["status"] == 404
        assert (await socket.asks(2, sub={"topic": "b"}))["error"]["status"] == 404
        await make(server, "b")
        assert (await socket.asks(3, pub={"topic": "b", "data": 1}))["ok"]

    play(story, create="put")


def test_a_closed_topic_takes_no_more():
    async def story(server):
        await make(server, "b")
        await server.done("POST", "/t/b", b"", (b"stream-closed", b"true"))
        socket = server.socket("/t/a?sub=0")
        error = (await socket.asks(1, pub={"topic": "b", "data": 1}))["error"]
        head = await server.store.log.head("b")
        assert (error["status"], error["next"]) == (409, str(head.last))
        assert (await server.done("POST", "/t/b", b"[1]", JSON)).status == 409, "as over HTTP"

    play(story)


def test_an_event_as_long_as_may_be_is_taken_and_a_frame_that_no_event_could_need_ends_the_socket():
    async def story(server):
        await make(server, "o", "application/octet-stream")
        socket = server.socket("/t/a?sub=0")
        most = base64.b64encode(bytes(10_000)).decode()
        assert (await socket.asks(1, pub={"topic": "o", "base64": most}))["ok"]
        assert (await socket.asks(2, pub={"topic": "a", "data": "\u00e4" * 4_999}))["ok"]
        socket.say({"pub": {"topic": "a", "data": "x" * 40_000}})
        assert (await socket.close_frame())[0] == 1009

    play(story, message=10_000)


def test_a_route_of_one_topic_has_no_other():
    async def story(server):
        socket = server.socket("/t/a?sub=0")
        assert (await socket.asks(1, pub={"topic": "a", "data": 1}))["ok"]
        for number, word in enumerate(("sub", "pub", "claim")):
            refused = await socket.asks(10 + number, **{word: {"topic": "b", "data": 1, "group": "g"}})
            assert refused["error"]["status"] == 403

    play(story, name="a")


# ---- groups


def test_claimed_items_are_acknowledged_once():
    async def story(server):
        await make(server, "a")
        socket = server.socket("/t/a?sub=0")
        assert (await socket.asks(1, claim={"topic": "a", "group": "g"}))["items"] == []
        await server.publish("x", "y")
        items = (await socket.asks(2, claim={"topic": "a", "group": "g", "n": 5}))["items"]
        assert [item["data"] for item in items] == ["x", "y"]
        held = [{"id": item["id"], "fence": item["fence"]} for item in items]
        assert (await socket.asks(3, ack={"topic": "a", "group": "g", "items": held}))["done"] == 2
        again = await socket.asks(4, ack={"topic": "a", "group": "g", "items": held})
        assert again["error"]["status"] == 409 and "FENCED" in again["error"]["message"]

    play(story)


def test_what_a_socket_holds_is_extended_while_it_is_open_and_given_back_when_it_ends():
    async def story(server):
        server.groups.ttl = 1.5  # a busy machine may stand still for half of it
        await make(server, "a")
        socket = server.socket("/t/a?sub=0")
        await socket.asks(1, claim={"topic": "a", "group": "g"})
        await server.publish("x")
        (item,) = (await socket.asks(2, claim={"topic": "a", "group": "g"}))["items"]
        begun = item["until"]
        queue = "group/a/g"
        while await server.store.now() < begun + 0.2:  # longer than it was claimed for
            assert await server.store.leases.claim(queue, 1, 5.0) == [], "nobody else gets it"
            await asyncio.sleep(0.02)
        socket.leave()
        taken = []
        while not taken:
            taken = await server.store.leases.claim(queue, 1, 5.0)
            await asyncio.sleep(0)
        assert taken[0].id == item["id"] and taken[0].fence > item["fence"]

    play(story)


def test_a_claim_that_comes_back_after_its_socket_ended_is_given_back_at_once():
    async def story(server):
        await make(server, "a")
        await server.store.leases.feed("group/a/g", "a", None)
        socket = server.socket("/t/a?sub=0")
        socket.say({"id": 1, "claim": {"topic": "a", "group": "g", "wait": 5}})
        await until(lambda: server.hub.queues)
        await server.publish("x")
        socket.leave()
        taken = []
        while not taken:
            taken = await server.store.leases.claim("group/a/g", 1, 5.0)
            await asyncio.sleep(0)
        assert taken[0].body == b'"x"'

    play(story)


def test_without_groups_their_words_are_not_known():
    async def story(server):
        server.sockets.groups = None
        socket = server.socket("/t/a?sub=0")
        refused = await socket.asks(1, claim={"topic": "a", "group": "g"})
        assert refused["error"]["status"] == 400 and "claim" not in refused["error"]["message"]

    play(story)


# ---- frames that are none


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", "null", '"sub"', "[" * 100_000, '{"id": 1}', '{"sub": {}, "pub": {}}', '{"sub": []}', '{"pub": "a"}'],
)
def test_a_frame_that_is_none_is_answered_with_400_and_costs_nothing_else(text):
    async def story(server):
        socket = server.socket("/t/a?sub=0")
        socket.say(text)
        refused = await socket.next(error=None)
        assert refused["error"]["status"] == 400 and refused["error"]["message"]
        socket.say({"ping": 1})
        assert await socket.next(pong=1)

    play(story)


@pytest.mark.parametrize(
    "given",
    [{"topic": "a", "after": "yesterday"}, {"topic": "a", "after": {"b": 1}}, {}, {"topic": ""}, {"topic": 7}, {"topic": "a\nb"}],
)
def test_what_is_refused_of_a_sub(given):
    async def story(server):
        socket = server.socket("/t/a?sub=0")
        assert (await socket.asks(1, sub=given))["error"]["status"] == 400
        assert server.feed.legs == 0

    play(story)


def test_a_binary_message_ends_the_socket_for_good():
    async def story(server):
        socket = server.socket("/t/a?sub=0")
        socket.conn.in_feed = True
        socket.body(_plain.frame(0x82, b"{}", KEY))
        socket.conn.in_feed = False
        assert await socket.close_frame() == (NEVER, "frames are text")

    play(story)


def test_a_frame_without_an_id_is_done_and_not_answered_unless_it_fails():
    async def story(server):
        socket = server.socket("/t/a?sub=0")
        socket.say({"pub": {"topic": "a", "data": 1}})
        socket.say({"pub": {"topic": "a"}})
        assert (await socket.next())["error"]["status"] == 400
        assert [event.data for event in (await server.store.log.read("a", None)).events] == [b"1"]

    play(story)


def test_no_more_requests_of_a_socket_wait_than_it_may_and_all_are_answered():
    async def story(server):
        await make(server, "a")
        gate = asyncio.Event()
        inner, most = server.store.log.append, []

        async def slow(*args, **more):
            most.append(server.waiting_now())
            await gate.wait()
            return await inner(*args, **more)

        server.store.log.append = slow
        socket = server.socket("/t/a?sub=0")
        answer = socket.conn.find(1).answer
        server.waiting_now = lambda: answer.waiting
        frames = b"".join(
            _plain.frame(0x81, json.dumps({"id": n, "pub": {"topic": "a", "data": n}}).encode(), KEY) for n in range(4 * WAITING)
        )
        socket.conn.in_feed = True
        socket.body(frames)
        socket.conn.in_feed = False
        for _ in range(50):
            await asyncio.sleep(0)
        assert answer.waiting == WAITING == len(most), "the others are not read yet"
        gate.set()
        await until(lambda: sum(1 for frame in socket.frames() if frame.get("ok")) == 4 * WAITING)
        assert max(most) <= WAITING
        del server.store.log.append
        told = [json.loads(event.data) for event in (await server.store.log.read("a", None)).events]
        assert sorted(told) == list(range(4 * WAITING))

    play(story)


# ---- who may, and how it ends


@pytest.mark.parametrize(
    ("origin", "allowed", "good"),
    [
        (None, ("self",), True),  # not a browser
        ("http://shop.example", ("self",), True),
        ("http://SHOP.example", ("self",), True),
        ("https://shop.example", ("self",), False),
        ("http://evil.example", ("self",), False),
        ("null", ("self",), False),
        ("https://app.example", ("self", "https://app.example/"), True),
        ("http://evil.example", ("*",), True),
    ],
)
def test_pages_of_other_origins_may_not_open_one(origin, allowed, good):
    async def story(server):
        server.sockets.origins = allowed
        socket = server.socket("/t/a", *([(b"origin", origin.encode())] if origin else []))
        assert (await answered(socket)).status == (101 if good else 403)
        await until(lambda: server.feed.legs == good)

    play(story)


def test_the_subprotocol_is_agreed_on_only_when_it_was_offered():
    async def story(server):
        offered = server.socket("/t/a", (b"sec-websocket-protocol", b"other, fairlead.v1.json"))
        assert header(await answered(offered), "sec-websocket-protocol") == "fairlead.v1.json"
        silent = server.socket("/t/a")
        assert header(await answered(silent), "sec-websocket-protocol") is None
        await until(lambda: server.feed.legs == 2)

    play(story)


def test_a_server_that_stops_asks_to_come_again():
    async def story(server):
        socket = server.socket()
        await until(lambda: server.feed.legs == 1)
        socket.conn.find(1).answer.farewell()
        assert await socket.close_frame() == (AGAIN, "the server restarts")

    play(story)


def test_a_socket_that_was_open_for_long_enough_is_asked_to_come_again():
    async def story(server):
        server.sockets.lasts = 0.01
        code, reason = await server.socket().close_frame()
        assert code == AGAIN and "long enough" in reason

    play(story)


def test_who_is_too_slow_is_let_go_where_the_route_says_so():
    async def story(server):
        socket = server.socket()
        await until(lambda: server.feed.legs == 1)
        socket.codec.full = True
        socket.carrier.hold = True
        for n in range(4):
            await server.publish(n)
        socket.codec.full = False
        assert (await socket.close_frame())[0] == AGAIN

    play(story, slow="close")


@pytest.mark.parametrize("how", ["leave", "close", "reset"])
def test_a_socket_that_ends_leaves_nothing(how):
    async def story(server):
        await make(server, "a")
        socket = server.socket()
        await socket.asks(1, sub={"topic": "b"})
        await socket.asks(2, sub={"match": "rooms.*"})
        await server.publish(1, topic="rooms.1")
        await heard(socket, "rooms.1", 1)
        assert (server.feed.legs, server.feed.outs) == (3, 1)
        if how == "leave":
            socket.leave()
        elif how == "close":
            socket.conn.in_feed = True
            socket.body(_plain.frame(0x88, (1000).to_bytes(2, "big"), KEY))
            socket.conn.in_feed = False
        else:
            socket.conn.reset(1, Refused("gone", status=499), "read")
        await until(lambda: server.feed.legs == 0 and server.feed.outs == 0)
        await until(lambda: not server.feed.tasks)
        await server.publish(2, topic="rooms.2")
        assert not [ring for ring in server.feed.rings.values() if ring.live or ring.polls]

    play(story, wildcards=True)


def test_a_socket_for_one_topic_only_does_nothing_else():
    """A job's events."""

    async def story(server):
        await server.publish("began", topic="job")
        sockets = Sockets(server.route, only=True)
        server.route.socket = sockets.open
        socket = server.socket("/t/job")
        assert await heard(socket, "job", 1) == ["began"], "from its start"
        assert (await socket.asks(1, sub={"topic": "other"}))["error"]["status"] == 403
        assert (await socket.asks(2, pub={"topic": "job", "data": 1}))["error"]["status"] == 400
        assert (await socket.asks(3, claim={"topic": "job", "group": "g"}))["error"]["status"] == 400
        assert (await socket.asks(4, sub={"topic": "job", "after": "-1"}))["ok"]

    play(story)


# ---- permessage-deflate

OFFER = (b"sec-websocket-extensions", b"permessage-deflate; client_max_window_bits")


def test_a_frame_that_many_hear_is_deflated_once_and_tiny_ones_are_not(monkeypatch):
    packed = []
    pack = wsdeflate.Shared.pack
    monkeypatch.setattr(wsdeflate.Shared, "pack", lambda self, data, *how: packed.append(data) or pack(self, data, *how))

    async def story(server):
        plain = server.socket()
        sockets = [server.socket("/t/a", OFFER) for _ in range(3)]
        narrow = server.socket("/t/a", (b"sec-websocket-extensions", b"permessage-deflate; server_max_window_bits=9"))
        await until(lambda: server.feed.legs == 5)
        assert header(plain, "sec-websocket-extensions") is None
        assert "server_no_context_takeover" in header(sockets[0], "sec-websocket-extensions")
        await server.publish("x" * 2000)
        for socket in (*sockets, narrow, plain):
            assert (await socket.next(topic="a"))["events"][0]["data"] == "x" * 2000
        assert len(packed) == 2, "once for each window, and not for who did not ask"
        assert len(sockets[0].answer) < 400 < 2000 < len(plain.answer)
        await server.publish("tiny")
        assert (await sockets[0].next(topic="a"))["events"][0]["data"] == "tiny" and len(packed) == 2
        assert sorted(server.feed.deflaters.made) == [(9, 1), (12, 1)], "all the zlib state that there is"

    play(story)


def test_a_deflated_frame_of_the_clients_is_heard_and_a_bomb_ends_the_socket():
    async def story(server):
        socket = server.socket("/t/a?sub=0", OFFER)
        said = json.dumps({"id": 1, "pub": {"topic": "a", "data": "y" * 3000}}).encode()
        socket.say_packed(said)
        assert (await socket.next(id=1))["ok"]
        socket.say_packed(b"[" + b" " * (1 << 20))
        assert (await socket.close_frame())[0] == 1009

    play(story, message=4096)


def test_a_route_may_be_without_compression():
    async def story(server):
        server.route.socket = Sockets(server.route, compress=False).open
        socket = server.socket("/t/a", OFFER)
        await until(lambda: server.feed.legs == 1)
        assert header(socket, "sec-websocket-extensions") is None

    play(story)


def test_a_server_that_ends_takes_no_further_frames_of_a_socket(tmp_path, caplog):
    async def story(server):
        await make(server, "a")
        socket = server.socket("/t/a?sub=0")
        for number in range(2 * WAITING):  # half of them are held back
            socket.say({"id": number, "pub": {"topic": "a", "data": number}})
        for _ in range(3):
            await asyncio.sleep(0)  # the others are on their way to the store
        await server.feed.close()
        assert not server.feed.tasks, "and begins nothing that would meet a closed store"

    play(story, url=f"sqlite:///{tmp_path}/store.db", ack="memory")
    assert not caplog.records
