"""Who may do what with a topic, and how much: the claim, the hook and what it is asked, quotas; on every way in."""

import asyncio
import json
import time

import pytest

from fairlead.serve.filters.limits import RateLimit
from fairlead.serve.topicaccess import Access
from topickit import JSON, STREAM, answered, play, says, until


def claimed(**said):
    return {"sub": "ann", "topics": said}


def test_a_claim_names_what_may_be_read_published_and_managed():
    async def story(server):
        server.principal = claimed(read=["orders.*", "news"], publish=["orders.eu"], manage=[])
        assert (await server.done("POST", "/t/orders.eu", b"[1]", JSON)).status == 204
        assert (await server.done("POST", "/t/news", b"[1]", JSON)).status == 403
        assert (await server.done("GET", "/t/orders.eu?offset=-1")).status == 200
        assert (await server.done("GET", "/t/other")).status == 403
        assert (await server.done("PUT", "/t/news", b"", JSON)).status == 403
        assert (await server.done("DELETE", "/t/orders.eu")).status == 403
        assert (await server.done("GET", "/t/orders.eu/groups")).status == 403
        several = await server.done("GET", "/t/news?topic=other", b"", STREAM)
        assert several.status == 403  # no filter would have seen the second
        await server.store.log.append("secret", [], create=server.route.config("application/json"))
        found = await server.done("GET", "/t/$many?match=>&offset=-1")
        assert {frame["topic"] for frame in json.loads(found.answer)} == {"orders.eu"}
        socket = server.socket("/t/orders.eu")
        assert (await socket.asks(1, sub={"topic": "secret"}))["error"]["status"] == 403
        assert (await socket.asks(2, sub={"match": ">"}))["topics"] == []
        assert (await socket.asks(3, pub={"topic": "orders.eu", "data": 1}))["ok"]
        assert (await socket.asks(4, pub={"topic": "news", "data": 1}))["error"]["status"] == 403
        assert (await socket.asks(5, claim={"topic": "orders.eu", "group": "g"}))["error"]["status"] == 403

    play(story, access=Access(claim="topics"), wildcards=True)


@pytest.mark.parametrize("principal", [None, "ann", {"sub": "ann"}, claimed(read="a"), claimed(read=[7, "b*"]), {"topics": 3}])
def test_a_claim_that_says_nothing_allows_nothing(principal):
    async def story(server):
        server.principal = principal
        assert (await server.done("GET", "/t/a")).status == 403
        server.principal = {"topics": ["a"]}  # a list is for reading
        assert (await server.done("GET", "/t/a")).status == 200
        assert (await server.done("POST", "/t/a", b"[1]", JSON)).status == 403

    play(story, access=Access(claim="topics"))


def test_the_hook_is_asked_once_for_each_topic_and_credentials_not_for_each_poll():
    asked = []
    clock = [0.0]

    async def may(action, topic, asker):
        asked.append((action, topic, asker.headers.get("cookie"), asker.client, asker.path))
        await asyncio.sleep(0)
        return topic == "a" and asker.headers.get("cookie") == "user=ann"

    async def story(server):
        ann, bob = (b"cookie", b"user=ann"), (b"cookie", b"user=bob")
        for _ in range(5):
            assert (await server.done("GET", "/t/a", b"", ann)).status == 200
        assert asked == [("read", "a", "user=ann", "192.0.2.7", "/t/a")]
        assert (await server.done("GET", "/t/a", b"", bob)).status == 403
        assert (await server.done("GET", "/t/b", b"", ann)).status == 403
        assert (await server.done("POST", "/t/a", b"[1]", ann, JSON)).status == 204
        assert len(asked) == 4
        clock[0] = 61.0  # what it said holds for a minute
        assert (await server.done("GET", "/t/a", b"", ann)).status == 200
        assert len(asked) == 5

    play(story, access=Access(may, clock=lambda: clock[0]))


def test_a_hook_may_be_a_plain_function_and_one_that_raises_allows_nothing():
    def may(action, topic, asker):
        if topic == "broken":
            raise ValueError("no")
        return True

    async def story(server):
        assert (await server.done("GET", "/t/a")).status == 200
        broken = await server.done("GET", "/t/broken")
        assert broken.status == 500 and isinstance(broken.watcher.broken[0], ValueError)

    play(story, access=Access(may))


def test_a_stream_and_a_socket_end_with_the_token_that_opened_them():
    async def story(server):
        await server.publish(1)
        server.principal = {"sub": "ann", "exp": time.time() + 0.2}
        stream = server.ask("GET", "/t/a?offset=-1", b"", STREAM)
        socket = server.socket("/t/a?offset=-1")
        await says(stream, "data:1")
        assert (await socket.close_frame())[0] == 3001
        socket.leave()
        await until(lambda: server.feed.outs == 0)
        assert stream.answer.count(b"retry:") == 2

    play(story)


def test_followers_of_one_client_are_counted_on_every_way_and_let_go():
    async def story(server):
        await server.publish(1)
        stream = server.ask("GET", "/t/a?offset=-1", b"", STREAM)
        await says(stream, "data:1")
        socket = server.socket("/t/a?offset=-1")
        await socket.next(topic="a")
        poll = server.ask("GET", "/t/a?offset=now&live=long-poll")
        await until(lambda: server.feed.rings["a"].polls)
        for target in ("/t/a?offset=-1", "/t/a?topic=b"):
            refused = await server.done("GET", target, b"", STREAM)
            assert refused.status == 429 and refused.codec.headers[b"retry-after"] == b"5"
        assert (await answered(server.socket("/t/a"))).status == 429
        assert (await server.done("GET", "/t/a?offset=-1")).status == 200  # a poll that does not wait is none
        server.principal = {"sub": "ann"}  # somebody else at the same address
        ann = server.ask("GET", "/t/a?offset=-1", b"", STREAM)
        await says(ann, "data:1")
        for peer in (stream, socket, poll, ann):
            peer.leave()
        assert not server.route.access.tally.counts

    play(story, access=Access(followers=3))


def test_what_a_client_publishes_and_makes_is_bounded():
    async def story(server):
        assert (await server.done("POST", "/t/a", b"[1,2,3]", JSON)).status == 204
        refused = await server.done("POST", "/t/a", b"[4]", JSON)
        assert refused.status == 429 and int(refused.codec.headers[b"retry-after"]) >= 1
        server.principal = {"sub": "ann"}
        assert (await server.done("POST", "/t/a", b"[5]", JSON)).status == 204
        made = [(await server.done("PUT", f"/t/made{n}", b"", JSON)).status for n in range(3)]
        assert made == [201, 201, 429]
        socket = server.socket("/t/a")
        await answered(socket)
        said = [await socket.asks(n, pub={"topic": "a", "data": n}) for n in range(3)]
        assert [("ok" in one) for one in said] == [True, True, False] and said[2]["error"]["status"] == 429

    play(story, access=Access(publishes=RateLimit(3, 3600.0, burst=3), makes=RateLimit(2, 3600.0, burst=2, name="makes")))
