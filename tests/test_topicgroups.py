"""Consumer groups of a topic over HTTP: claims, fences, what is given back, dead letters, numbers, and what is refused."""

import asyncio
import json

import pytest

from fairlead.core.errors import NetError
from fairlead.serve.topicgroups import MOST
from fairlead.store.contract import Lease, NewEvent, NoTopic, Offset, StoreError
from topickit import JSON, answered, play, until

QUEUE = "group/a/g"


def held(items):
    """What a client says of items it holds."""
    return {"items": [{"id": item["id"], "fence": item["fence"]} for item in items]}


def publishing(item, events):
    """An acknowledgement that publishes."""
    return {"items": [{**held([item])["items"][0], "publish": events}]}


async def group(server, *values, after="now"):
    """The topic, the group `g` of it, and events for it."""
    await server.store.log.create("a", server.route.config("application/json"))
    assert (await server.act("/t/a/groups/g", {"after": after}, "PUT"))[0] == 200
    if values:
        await server.publish(*values)


async def verb(server, word, said):
    return await server.act(f"/t/a/groups/g:{word}", said)


async def claimed(server, n=10, **said):
    status, answer = await verb(server, "claim", {"n": n, **said})
    assert status == 200, answer
    return answer["items"]


async def numbers(server):
    return (await server.act("/t/a/groups/g", None, "GET"))[1]


async def passes(server, seconds):
    """So much time, by the store's own clock and at once: what is claimed for a minute is nobody else's on the busiest machine."""
    before = await server.store.now()
    server.store.engines[-1].clock.shift += seconds
    assert await server.store.now() >= before + seconds


def test_each_event_goes_to_one_of_the_group_in_order_and_to_every_group():
    async def story(server):
        await group(server)
        await server.act("/t/a/groups/other", {"after": "now"}, "PUT")
        await server.publish(*range(6))
        mine, theirs = await claimed(server, 3), await claimed(server, 10)
        assert [item["data"] for item in mine + theirs] == list(range(6)) and await claimed(server) == []
        status, other = await server.act("/t/a/groups/other:claim", {"n": 10})
        assert status == 200 and [item["data"] for item in other["items"]] == list(range(6))

    play(story)


def test_an_item_says_what_its_event_was():
    async def story(server):
        await group(server)
        offset = await server.publish({"n": 1}, kind="made")
        (item,) = await claimed(server)
        assert (item["data"], item["type"], item["o"], item["id"], item["attempt"]) == ({"n": 1}, "made", offset, offset, 1)
        assert item["fence"] >= 1 and item["until"] > await server.store.now()

    play(story)


@pytest.mark.parametrize(
    ("kind", "data", "member"),
    [("text/plain", "grün".encode(), {"data": "grün"}), ("application/octet-stream", b"\x00\xff", {"base64": "AP8="})],
)
def test_items_of_text_and_bytes(kind, data, member):
    async def story(server):
        await server.store.log.create("a", server.route.config(kind))
        await server.act("/t/a/groups/g", {"after": "now"}, "PUT")
        await server.store.log.append("a", [NewEvent(data)])
        (item,) = await claimed(server)
        assert member.items() <= item.items()

    play(story)


def test_a_first_claim_makes_the_group_from_now_on_or_from_where_it_says():
    async def story(server):
        middle = await server.publish(0)
        await server.publish(1, 2)
        assert await claimed(server) == []
        await server.publish(3)
        assert [item["data"] for item in await claimed(server)] == [3]
        for name, after, wanted in (("all", "-1", [0, 1, 2, 3]), ("some", middle, [1, 2, 3]), ("none", "now", [])):
            status, found = await server.act(f"/t/a/groups/{name}:claim", {"n": 10, "after": after})
            assert status == 200 and [item["data"] for item in found["items"]] == wanted, name

    play(story)


def test_what_is_acknowledged_is_done_and_a_second_time_is_fenced():
    async def story(server):
        await group(server, "x", "y")
        items = await claimed(server)
        assert await verb(server, "ack", held(items)) == (200, {"done": 2})
        assert (await numbers(server)) == {"group": "g", "ready": 0, "delayed": 0, "leased": 0, "dead": 0, "lag": 0, "oldest": None}
        status, _ = await verb(server, "ack", held(items))
        assert status == 409

    play(story)


def test_of_several_items_the_good_ones_are_done_and_the_lost_ones_named():
    async def story(server):
        await group(server, "x", "y")
        first, second = await claimed(server)
        second = {**second, "fence": second["fence"] - 1}
        peer = await server.done("POST", "/t/a/groups/g:ack", json.dumps(held([first, second])).encode(), JSON)
        assert peer.status == 409 and second["id"].encode() in peer.answer and first["id"].encode() not in peer.answer
        assert (await numbers(server))["leased"] == 1

    play(story)


@pytest.mark.parametrize("word", ["ack", "extend", "nack", "term"])
def test_who_was_too_long_can_change_nothing_any_more(word):
    async def story(server):
        await group(server, "x")
        (late,) = await claimed(server, ttl=60)
        await passes(server, 61)
        (mine,) = await claimed(server, ttl=60)
        assert mine["id"] == late["id"] and mine["fence"] > late["fence"] and mine["attempt"] == 2
        assert (await verb(server, word, held([late])))[0] == 409
        assert (await numbers(server))["leased"] == 1 and (await verb(server, "ack", held([mine])))[0] == 200

    play(story)


def test_extending_keeps_it():
    async def story(server):
        await group(server, "x")
        (item,) = await claimed(server, ttl=60)
        assert await verb(server, "extend", {**held([item]), "ttl": 120}) == (200, {"done": 1})
        await passes(server, 61)
        assert await claimed(server) == []

    play(story)


def test_what_is_given_back_comes_again_after_its_delay():
    async def story(server):
        await group(server, "x")
        (item,) = await claimed(server)
        assert (await verb(server, "nack", held([item])))[0] == 200
        (again,) = await claimed(server)
        assert again["fence"] > item["fence"]
        assert (await verb(server, "nack", {**held([again]), "delay": 60}))[0] == 200
        assert await claimed(server) == [] and (await numbers(server))["delayed"] == 1
        await passes(server, 61)
        assert [one["id"] for one in await claimed(server)] == [item["id"]]

    play(story)


def test_what_is_given_up_is_a_dead_letter_and_can_be_redriven():
    async def story(server):
        await group(server, "x", "y")
        items = await claimed(server)
        assert (await verb(server, "term", {**held(items), "reason": "no use"}))[0] == 200
        _, found = await server.act("/t/a/groups/g/dead", None, "GET")
        assert [(dead["id"], dead["reason"]) for dead in found["dead"]] == [(item["id"], "no use") for item in items]
        assert await claimed(server) == [] and (await numbers(server))["dead"] == 2
        assert await verb(server, "redrive", {"ids": [items[1]["id"], "nothing"]}) == (200, {"done": 1})
        (again,) = await claimed(server)
        assert (again["data"], again["attempt"]) == ("y", 1)
        assert await verb(server, "redrive", {}) == (200, {"done": 1})
        assert [one["data"] for one in await claimed(server)] == ["x"]

    play(story)


def test_what_is_claimed_too_often_is_a_dead_letter_and_holds_up_nothing():
    async def story(server):
        server.groups.attempts = 2
        await group(server, "poison", "good")
        for _ in range(2):
            (item,) = await claimed(server, 1)
            assert item["data"] == "poison"
            await verb(server, "nack", held([item]))
        assert [item["data"] for item in await claimed(server, 2)] == ["good"]
        _, found = await server.act("/t/a/groups/g/dead", None, "GET")
        assert "2 times" in found["dead"][0]["reason"]

    play(story)


def test_a_claim_waits_for_what_comes_and_not_longer_than_it_said():
    async def story(server):
        await group(server)
        waiting = [server.ask("POST", "/t/a/groups/g:claim", b'{"wait": 20}', JSON) for _ in range(3)]
        await until(lambda: len(server.hub.queues.get(QUEUE, ())) == 3)
        await server.publish("x")
        await until(lambda: any(peer.status for peer in waiting))
        assert sorted(peer.status or 0 for peer in waiting) == [0, 0, 200], "one of them has it"
        await server.publish("y", "z")
        for peer in waiting:
            await answered(peer)
        assert sorted(json.loads(peer.answer)["items"][0]["data"] for peer in waiting) == ["x", "y", "z"]
        assert not server.hub.queues
        assert await claimed(server, wait=0.01) == []

    play(story)


def test_a_claim_that_waits_gets_what_is_given_back_or_was_held_too_long():
    async def story(server):
        await group(server, "x")
        await claimed(server, ttl=0.05)
        (item,) = await claimed(server, wait=20)
        assert item["attempt"] == 2, "no hint says that a lease ran out"
        await verb(server, "nack", {**held([item]), "delay": 0.05})
        assert [one["data"] for one in await claimed(server, wait=20)] == ["x"]

    play(story)


@pytest.mark.parametrize("how", ["gone", "its side", "drain"])
def test_who_is_waited_for_no_more_takes_nothing(how):
    async def story(server):
        await group(server)
        peer = server.ask("POST", "/t/a/groups/g:claim", b'{"wait": 20}', JSON)
        await until(lambda: QUEUE in server.hub.queues)
        if how == "gone":
            peer.leave()
        elif how == "drain":
            peer.conn.farewell()
        else:  # as a socket that is closed in the usual way looks: its end of file, and nothing more
            peer.conn.reset(1, NetError("the client closed its side", step="receive", status=499), "read")
        await server.publish("x")
        await until(lambda: QUEUE not in server.hub.queues)
        if how != "gone":
            assert json.loads((await answered(peer)).answer) == {"items": []}
        assert [(item["data"], item["attempt"]) for item in await claimed(server)] == [("x", 1)]

    play(story)


def test_what_was_being_claimed_for_a_client_that_is_gone_is_given_back():
    async def story(server):
        await group(server, "x")
        inner = server.store.leases.claim
        gate = asyncio.Event()

        async def slow(*args, **more):
            found = await inner(*args, **more)
            await gate.wait()
            return found

        server.store.leases.claim = slow
        peer = server.ask("POST", "/t/a/groups/g:claim", b"{}", JSON)
        while (await numbers(server))["leased"] == 0:
            await asyncio.sleep(0)
        del server.store.leases.claim
        peer.leave()
        gate.set()
        while (await numbers(server))["ready"] == 0:
            await asyncio.sleep(0)
        assert [item["data"] for item in await claimed(server)] == ["x"]

    play(story)


def test_a_client_that_closes_its_side_with_its_request_gets_what_is_there():
    async def story(server):
        await group(server, "x")
        peer = server.ask("POST", "/t/a/groups/g:claim", b'{"wait": 20}', JSON)
        peer.conn.reset(1, NetError("the client closed its side", step="receive", status=499), "read")
        assert [item["data"] for item in json.loads((await answered(peer)).answer)["items"]] == ["x"]

    play(story)


def test_a_group_that_fell_behind_what_is_kept_is_told_once():
    async def story(server):
        await group(server, *range(6), after="-1")
        head = await server.store.log.head("a")
        await server.store.log.trim("a", head.last._replace(seq=4))
        first = (await server.store.log.head("a")).first
        status, found = await verb(server, "claim", {"n": 10})
        assert status == 200 and found["gap"]["earliest"] == str(first)
        assert [item["data"] for item in found["items"]] == list(range(first.seq, 6))
        assert "gap" not in (await verb(server, "claim", {"n": 10}))[1]

    play(story)


def test_seek_begins_again():
    async def story(server):
        await group(server, 0, 1, 2)
        items = await claimed(server)
        await verb(server, "ack", held(items[:2]))
        assert (await verb(server, "seek", {"after": items[0]["o"]}))[0] == 200
        assert [item["data"] for item in await claimed(server)] == [1, 2]
        assert (await verb(server, "ack", held(items[2:])))[0] == 409, "what was held is forgotten"
        await verb(server, "seek", {"after": "now"})
        assert await claimed(server) == []
        await verb(server, "seek", {})
        assert len(await claimed(server)) == 3

    play(story)


def test_groups_are_listed_shown_and_deleted():
    async def story(server):
        await group(server, "x", "y")
        await server.act("/t/a/groups/h", {"after": "-1"}, "PUT")
        await claimed(server, 1)
        _, found = await server.act("/t/a/groups", None, "GET")
        assert {one["group"]: (one["lag"], one["leased"]) for one in found["groups"]} == {"g": (2, 1), "h": (2, 0)}
        assert (await server.act("/t/a/groups/h", None, "DELETE"))[0] == 204
        assert (await server.act("/t/a/groups/h", None, "DELETE"))[0] == 404
        _, found = await server.act("/t/a/groups", None, "GET")
        assert [one["group"] for one in found["groups"]] == ["g"]

    play(story)


def test_a_topic_that_is_not_there_has_no_groups():
    async def story(server):
        assert (await server.act("/t/nothing/groups/g:claim", {}))[0] == 404
        assert (await server.act("/t/nothing/groups/g", {"after": "-1"}, "PUT"))[0] == 404

    play(story, create="put")


@pytest.mark.parametrize("name", ["a b", "a/b", "x" * 65, "ü", "a%2fb", "$g"])
def test_names_that_are_none(name):
    async def story(server):
        await group(server)
        status, _ = await server.act(f"/t/a/groups/{name}:claim", {})
        assert status in (400, 404, 405)
        assert await server.store.leases.queues("group/a/") == [QUEUE]

    play(story)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("claim", {"n": "many"}),
        ("claim", {"n": -1}),
        ("claim", {"n": True}),
        ("claim", {"ttl": None}),
        ("claim", {"wait": float("nan")}),
        ("claim", {"after": "yesterday"}),
        ("claim", {"after": 7}),
        ("ack", {}),
        ("ack", {"items": []}),
        ("ack", {"items": {"id": "x"}}),
        ("ack", {"items": [7]}),
        ("ack", {"items": [{"id": "x"}]}),
        ("ack", {"items": [{"id": 7, "fence": 1}]}),
        ("ack", {"items": [{"id": "x", "fence": "1"}]}),
        ("ack", {"items": [{"id": "x", "fence": 1}] * (MOST + 1)}),
        ("nack", {"items": [{"id": "x", "fence": 1}], "delay": "soon"}),
        ("seek", {"after": "yesterday"}),
    ],
)
def test_what_is_refused(word, said):
    async def story(server):
        await group(server, "x")
        status, answer = await verb(server, word, said)
        assert status == 400 and answer, (word, said)
        assert [item["data"] for item in await claimed(server)] == ["x"], "and nothing was done"

    play(story)


@pytest.mark.parametrize(
    ("method", "rest", "status"),
    [
        ("POST", "/g:dance", 404),
        ("POST", "/g", 405),
        ("PATCH", "/g", 405),
        ("POST", "", 400),
        ("PUT", "/g/dead", 405),
        ("GET", "/g:claim", 405),
        ("DELETE", "/nobody", 404),
    ],
)
def test_what_is_not_there(method, rest, status):
    async def story(server):
        await group(server)
        assert (await server.done(method, f"/t/a/groups{rest}", b"")).status == status

    play(story)


@pytest.mark.parametrize("body", [b"{", b"[]", b"7", b"[" * 100_000, b'"x"', b"\xff"])
def test_a_body_that_is_no_object(body):
    async def story(server):
        await group(server)
        assert (await server.done("POST", "/t/a/groups/g:claim", body, JSON)).status == 400

    play(story)


def test_more_than_a_call_may_have_is_cut_to_it():
    async def story(server):
        await group(server, *range(5))
        assert len(await claimed(server, 10**9, ttl=10**9)) == 5
        lease_ends = (await verb(server, "claim", {"n": 0}))[1]["items"]
        assert lease_ends == []

    play(story)


def test_a_consumer_publishes_in_turn():
    """A claim, a publish under the item's own key, an acknowledgement: repeated after a crash, it is there once."""

    async def story(server):
        await group(server, "in")
        for _ in range(2):  # the first time it dies before the acknowledgement
            (item,) = await claimed(server, ttl=60)
            peer = await server.done("POST", "/t/out", b'["out"]', JSON, (b"fairlead-dedupe", item["id"].encode()))
            assert peer.status == 204, peer.answer
            await passes(server, 61)
        (item,) = await claimed(server)
        assert (await verb(server, "ack", held([item])))[0] == 200
        assert [event.data for event in (await server.store.log.read("out", None)).events] == [b'"out"']

    play(story)


def test_what_is_published_with_an_acknowledgement_is_there_once_whoever_dies_in_between(monkeypatch):
    async def story(server):
        await group(server, "in")
        (item,) = await claimed(server, ttl=60)
        out = {"topic": "out", "data": {"done": 1}, "type": "made", "key": "k"}
        ack = server.store.leases.ack

        async def dies(leases):
            raise StoreError("the power is gone", status=503)

        monkeypatch.setattr(server.store.leases, "ack", dies)
        assert (await verb(server, "ack", publishing(item, out)))[0] == 503
        monkeypatch.setattr(server.store.leases, "ack", ack)
        await server.store.leases.nack(Lease("group/a/g", item["id"], item["fence"], 1, b"", 0.0))
        (item,) = await claimed(server)
        status, said = await verb(server, "ack", publishing(item, [out, {"topic": "more", "data": 2}]))
        assert status == 200 and said["done"] == 1
        assert [(one["topic"], one.get("duplicate", False)) for one in said["published"]] == [("out", True), ("more", False)]
        (event,) = (await server.store.log.read("out", None)).events
        assert (event.data, event.type, event.key) == (b'{"done":1}', "made", "k")
        assert await claimed(server) == []

    play(story)


def test_who_is_too_late_publishes_nothing():
    async def story(server):
        await group(server, "in")
        (item,) = await claimed(server)
        await server.store.leases.nack(Lease("group/a/g", item["id"], item["fence"], 1, b"", 0.0))
        await claimed(server)
        status, said = await verb(server, "ack", publishing(item, {"topic": "out", "data": 1}))
        assert status == 409 and "FENCED" in str(said)
        with pytest.raises(NoTopic):
            await server.store.log.head("out")

    play(story)


@pytest.mark.parametrize(
    ("events", "status"),
    [
        (7, 400), ([7], 400), ([{}] * 101, 400), ({"data": 1}, 400), ({"topic": "$made", "data": 1}, 403),
        ({"topic": "out"}, 400), ({"topic": "out", "data": "x" * 5000}, 413),
    ],
)  # fmt: skip
def test_what_may_not_be_published_with_it_leaves_the_item_claimed(events, status):
    async def story(server):
        await group(server, "in")
        (item,) = await claimed(server)
        assert (await verb(server, "ack", publishing(item, events)))[0] == status
        assert (await verb(server, "ack", held([item])))[0] == 200

    play(story, message=4096)


def test_a_consumer_on_a_socket_publishes_with_its_acknowledgement():
    async def story(server):
        await group(server, "in")
        socket = server.socket("/t/a?sub=0")
        (item,) = (await socket.asks(1, claim={"topic": "a", "group": "g"}))["items"]
        items = [{"id": item["id"], "fence": item["fence"], "publish": {"topic": "out", "data": "x"}}]
        said = await socket.asks(2, ack={"topic": "a", "group": "g", "items": items})
        assert said["done"] == 1 and said["published"][0]["topic"] == "out"
        assert [event.data for event in (await server.store.log.read("out", None)).events] == [b'"x"']

    play(story)


def test_workers_of_one_store_share_a_group():
    async def story(one, two):
        await group(one, *range(4))
        mine = await claimed(one, 2)
        theirs = await claimed(two, 2)
        assert [item["data"] for item in mine + theirs] == [0, 1, 2, 3]
        assert (await verb(two, "ack", held(mine)))[0] == 200, "who holds the fence may be anywhere"
        assert Offset.parse(mine[0]["o"]).seq == 1

    play(story, workers=2)
