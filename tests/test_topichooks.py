"""Webhooks of a topic over HTTP: made, shown, changed, rotated, replayed, redriven, deleted; and gone with their topic."""

import json

import pytest

from fairlead.store.contract import NewEvent, Offset
from topickit import header, play

URL = "https://partner.example/in"


def test_a_hook_from_its_making_to_its_end():
    async def story(server):
        await server.publish(1)
        peer = await server.done("POST", "/t/a/webhooks", json.dumps({"url": URL, "id": "w", "types": ["paid"]}).encode())
        made = json.loads(peer.answer)
        assert peer.status == 201 and header(peer, "location") == "/t/a/webhooks/w"
        assert made["secret"].startswith("whsk_") and made["public_key"].startswith("whpk_")
        status, shown = await server.act("/t/a/webhooks/w", None, "GET")
        assert status == 200 and "secret" not in shown and (shown["url"], shown["types"]) == (URL, ["paid"])
        assert (await server.act("/t/a/webhooks", None, "GET"))[1] == {"webhooks": [shown]}
        status, changed = await server.act("/t/a/webhooks/w", {"types": [], "state": "paused"}, "PATCH")
        assert (status, changed["types"], changed["state"]) == (200, [], "paused")
        status, rotated = await server.act("/t/a/webhooks/w:rotate", {})
        assert status == 200 and rotated["secret"] != made["secret"] and rotated["public_key"] != made["public_key"]
        assert (await server.act("/t/a/webhooks/w/attempts", None, "GET"))[1] == {"attempts": []}
        assert (await server.act("/t/a/webhooks/w", None, "DELETE"))[0] == 204
        assert (await server.act("/t/a/webhooks/w", None, "GET"))[0] == 404

    play(story)


def test_what_was_given_up_is_shown_and_redriven_and_everything_may_be_sent_again():
    async def story(server):
        await server.publish(1)
        await server.act("/t/a/webhooks", {"url": URL, "id": "w"})
        await server.publish(2)
        leases = server.store.leases
        (lease,) = await leases.claim("hook/a/w", 1, 30.0)
        await leases.term(lease, "status 500")
        status, said = await server.act("/t/a/webhooks/w/dead", None, "GET")
        assert status == 200 and [(one["id"], one["reason"]) for one in said["dead"]] == [(lease.id, "status 500")]
        assert await server.act("/t/a/webhooks/w:redrive", {"ids": ["nothing"]}) == (200, {"done": 0})
        assert await server.act("/t/a/webhooks/w:redrive", {"ids": [lease.id]}) == (200, {"done": 1})
        (again,) = await leases.claim("hook/a/w", 9, 30.0)
        await leases.ack([again])
        assert (await server.act("/t/a/webhooks/w:replay", {"after": "-1"}))[0] == 200
        assert [one.body for one in await leases.claim("hook/a/w", 9, 30.0)] == [b"1", b"2"]

    play(story)


def test_a_replay_from_before_what_is_kept_is_410():
    async def story(server):
        last = Offset.parse(await server.publish(*range(6)))
        await server.act("/t/a/webhooks", {"url": URL, "id": "w"})
        await server.store.log.trim("a", last._replace(seq=4))
        status, said = await server.act("/t/a/webhooks/w:replay", {"after": str(last._replace(seq=1))})
        assert status == 410, said

    play(story)


@pytest.mark.parametrize(
    ("method", "target", "said", "status"),
    [
        ("POST", "/t/a/webhooks", {}, 400),
        ("POST", "/t/a/webhooks", {"url": "nowhere"}, 400),
        ("POST", "/t/none/webhooks", {"url": URL}, 404),
        ("PATCH", "/t/a/webhooks/w", {"secret": "x"}, 400),
        ("PATCH", "/t/a/webhooks/w", {"state": "disabled"}, 400),
        ("PATCH", "/t/a/webhooks/none", {"types": []}, 404),
        ("POST", "/t/a/webhooks/w:explode", {}, 404),
        ("POST", "/t/a/webhooks/none:rotate", {}, 404),
        ("POST", "/t/a/webhooks/w:rotate", {"secret": "whpk_AAAA"}, 400),
        ("POST", "/t/a/webhooks/w:replay", {"after": "then"}, 400),
        ("GET", "/t/a/webhooks/none/attempts", None, 404),
        ("GET", "/t/a/webhooks/none/dead", None, 404),
        ("PUT", "/t/a/webhooks/w", {}, 405),
        ("DELETE", "/t/a/webhooks", None, 405),
    ],
)
def test_what_is_refused(method, target, said, status):
    async def story(server):
        await server.publish(1)
        await server.act("/t/a/webhooks", {"url": URL, "id": "w"})
        assert (await server.act(target, said, method))[0] == status

    play(story)


def test_a_deleted_topic_has_no_hooks_and_one_that_is_made_again_none_either():
    async def story(server):
        await server.publish(1)
        await server.act("/t/a/webhooks", {"url": URL, "id": "w"})
        await server.store.log.append("$hook/a/w", [NewEvent(b"{}")], create=server.route.config("application/json"))
        assert (await server.act("/t/a", None, "DELETE"))[0] == 204
        await server.publish(2)
        assert await server.act("/t/a/webhooks", None, "GET") == (200, {"webhooks": []})
        assert await server.store.leases.queues("hook/") == []

    play(story)
