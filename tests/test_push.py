"""Webhooks over the memory store: what is posted and signed, what follows from an outcome, and who may be reached."""

import asyncio
import ipaddress
import json
import time
from contextlib import asynccontextmanager

import pytest

from fairlead.core.errors import Refused
from fairlead.net.guard import Guard
from fairlead.serve import push
from fairlead.serve.hooks import OLD_KEY, Hooks, PushLimits
from fairlead.serve.push import LEADER, Deliveries, message_id, retry_after
from fairlead.store.contract import NewEvent, TopicConfig
from fairlead.store.open import open_store
from fairlead.wire import signed

HERE = Guard([ipaddress.ip_network("127.0.0.0/8")])
AT_ONCE = (0.0, 0.0, 0.0)


class Receiver:
    """Somebody's server: answers by a script, keeps what it was sent."""

    def __init__(self, answers=()):
        self.answers = list(answers)
        self.got = []
        self.wake = asyncio.Event()
        self.url = ""

    async def talk(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = [line.partition(": ") for line in head.decode().split("\r\n")[1:] if line]
            fields = {name.lower(): value for name, _, value in lines}
            body = await reader.readexactly(int(fields.get("content-length", "0")))
            self.got.append((head.split(b" ")[0].decode(), fields, body))
            self.wake.set()
            answer = self.answers.pop(0) if self.answers else "204 No Content\r\n\r\n"
            if answer is None:
                await reader.read()
            else:
                writer.write(b"HTTP/1.1 " + answer.encode())
                await writer.drain()
        finally:
            writer.close()

    async def has(self, count):
        while len(self.got) < count:
            self.wake.clear()
            await self.wake.wait()


@asynccontextmanager
async def receiving(*answers):
    receiver = Receiver(answers)
    server = await asyncio.start_server(receiver.talk, "127.0.0.1", 0)
    async with server:
        receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/in"
        yield receiver


def play(story, *answers, guard=HERE, limits=None, schedule=AT_ONCE):
    async def run():
        store = await open_store("memory:")
        hooks = Hooks(store, limits or PushLimits(timeout=5.0), guard)
        deliveries = Deliveries(hooks, schedule=schedule)
        await store.log.create("orders", TopicConfig("application/json"))
        try:
            async with receiving(*answers) as receiver, asyncio.timeout(20):
                deliveries.start()
                await story(hooks, receiver, deliveries)
        finally:
            await deliveries.stop()
            await store.close()

    asyncio.run(run())


async def publish(hooks, *data, kind=""):
    return await hooks.store.log.append("orders", [NewEvent(json.dumps(one).encode(), kind) for one in data])


async def until(true):
    while not (found := await true()):
        await asyncio.sleep(0.001)
    return found


def test_events_are_posted_once_and_signed_by_the_hooks_key():
    async def story(hooks, receiver, deliveries):
        await publish(hooks, "before")
        hook = await hooks.make("orders", {"url": receiver.url})
        assert hook.shown(secrets=True)["secret"].startswith("whsk_") and "secret" not in hook.shown()
        last = (await publish(hooks, {"id": 1}, {"id": 2})).last
        await receiver.has(2)
        assert sorted(body for _, _, body in receiver.got) == [b'{"id": 1}', b'{"id": 2}']
        for method, fields, body in receiver.got:
            assert method == "POST" and fields["content-type"] == "application/json" and fields["fairlead-topic"] == "orders"
            signed.verify([hook.shown()["public_key"]], fields, body, time.time())
        assert message_id("orders", last) in {fields["webhook-id"] for _, fields, _ in receiver.got}
        await until(lambda: depth_is(hooks, hook, 0))
        entries = await until(lambda: attempts_are(hooks, hook, 2))
        assert {entry["status"] for entry in entries} == {204} and entries[0]["next"] is None

    play(story)


async def depth_is(hooks, hook, count):
    depth = await hooks.store.leases.depth(hook.name)
    return depth.lag == count and not depth.leased


async def attempts_are(hooks, hook, count):
    found = await hooks.attempts(hook.topic, hook.id)
    return found if len(found) >= count else None


async def dead_of(hooks, hook):
    return await hooks.store.leases.dead(hook.name)


def test_a_failed_attempt_is_repeated_under_the_same_id_until_it_is_a_dead_letter():
    async def story(hooks, receiver, deliveries):
        hook = await hooks.make("orders", {"url": receiver.url, "kind": "hmac"})
        await publish(hooks, "x")
        (dead,) = await until(lambda: dead_of(hooks, hook))
        assert dead.attempts == 3 and dead.reason == "status 302"
        assert len({fields["webhook-id"] for _, fields, _ in receiver.got}) == 1
        entries = await until(lambda: attempts_are(hooks, hook, 3))
        assert [entry["status"] for entry in entries] == [302, 400, 500]  # newest first; a redirect is a failure
        assert await hooks.store.leases.redrive(hook.name) == 1
        await receiver.has(4)

    play(story, "500 No\r\ncontent-length: 0\r\n\r\n", "400 No\r\ncontent-length: 0\r\n\r\n",
         "302 Go\r\nlocation: http://10.0.0.1/\r\ncontent-length: 0\r\n\r\n")  # fmt: skip


def test_410_disables_the_hook_and_nothing_more_is_sent_until_it_is_enabled():
    async def story(hooks, receiver, deliveries):
        hook = await hooks.make("orders", {"url": receiver.url})
        await publish(hooks, 1)

        async def disabled():
            return (await hooks.get("orders", hook.id)).state == "disabled"

        await until(disabled)
        assert "410" in (await hooks.get("orders", hook.id)).reason
        await publish(hooks, 2)
        await deliveries.turn()
        assert len(receiver.got) == 1
        await hooks.patch("orders", hook.id, {"state": "active"})
        await receiver.has(3)

    play(story, "410 Gone\r\ncontent-length: 0\r\n\r\n")


def test_a_receiver_that_asks_for_a_pause_gets_one():
    async def story(hooks, receiver, deliveries):
        hook = await hooks.make("orders", {"url": receiver.url})
        await publish(hooks, 1, 2, 3, 4, 5, 6, 7, 8)

        async def paused():
            return (await hooks.get("orders", hook.id)).paused

        assert await until(paused) > time.time() + 100
        await until(lambda: attempts_are(hooks, hook, 4))
        await deliveries.turn()
        assert len(receiver.got) == 4  # what was under way; the rest waits

    busy = "429 Slow\r\nretry-after: 120\r\ncontent-length: 0\r\n\r\n"
    play(story, busy, busy, busy, busy)


def test_nobody_is_made_to_reach_our_own_network():
    async def story(hooks, receiver, deliveries):
        hook = await hooks.make("orders", {"url": receiver.url})
        await publish(hooks, 1)
        (dead,) = await until(lambda: dead_of(hooks, hook))
        assert "not a public address" in dead.reason and not receiver.got

    play(story, guard=Guard())


def test_a_receiver_that_hangs_holds_up_only_itself():
    async def story(hooks, receiver, deliveries):
        await hooks.make("orders", {"url": receiver.url, "id": "hangs"})
        async with receiving() as other:
            await hooks.make("orders", {"url": other.url, "id": "well"})
            await publish(hooks, *range(20))
            await other.has(20)
        assert len(receiver.got) == 4

    play(story, *[None] * 20)


def test_while_a_key_rotates_both_sign():
    async def story(hooks, receiver, deliveries):
        hook = await hooks.make("orders", {"url": receiver.url, "secret": "whsec_" + "A" * 32})
        old = hook.keys[0][0]
        hook = await hooks.rotate("orders", hook.id, {})
        new = hook.shown(secrets=True)["secret"]
        assert new.startswith("whsec_") and new != old
        await publish(hooks, 1)
        await receiver.has(1)
        _, fields, body = receiver.got[0]
        for key in (old, new):
            signed.verify([key], fields, body, time.time())
        assert hook.signing(time.time() + OLD_KEY + 1) == [new]

    play(story)


def test_only_the_types_that_a_hook_wants_are_sent_and_a_replay_sends_them_again():
    async def story(hooks, receiver, deliveries):
        head = await hooks.store.log.head("orders")
        hook = await hooks.make("orders", {"url": receiver.url, "types": ["paid", "ship.*"]})
        for kind in ("made", "paid", "ship.sent", "shipped"):
            await publish(hooks, kind, kind=kind)
        await receiver.has(2)
        await until(lambda: depth_is(hooks, hook, 0))
        assert sorted(body for _, _, body in receiver.got) == [b'"paid"', b'"ship.sent"']
        await hooks.replay("orders", hook.id, str(head.first))
        await receiver.has(4)

    play(story)


def test_cloudevents_are_asked_for_by_the_handshake():
    async def story(hooks, receiver, deliveries):
        with pytest.raises(Refused, match="does not want it") as no:
            await hooks.make("orders", {"url": receiver.url, "envelope": "cloudevents"})
        assert no.value.status == 422
        await hooks.make("orders", {"url": receiver.url, "envelope": "cloudevents"})
        await publish(hooks, {"a": 1}, kind="order.made")
        await receiver.has(3)
        method, fields, body = receiver.got[2]
        event = json.loads(body)
        assert (method, fields["content-type"]) == ("POST", "application/cloudevents+json")
        assert (event["type"], event["data"], event["id"]) == ("order.made", {"a": 1}, fields["webhook-id"])

    play(story, "200 OK\r\ncontent-length: 0\r\n\r\n", "200 OK\r\nWebHook-Allowed-Origin: *\r\ncontent-length: 0\r\n\r\n")


def test_one_process_delivers_and_another_takes_over_when_it_has_stopped():
    async def story(hooks, receiver, deliveries):
        async def led():
            return deliveries.leads

        await until(led)
        other = Deliveries(hooks, schedule=AT_ONCE)
        assert not await other.lead()
        await deliveries.stop()
        assert await other.lead()
        assert (await hooks.store.state.get(LEADER)).value == other.me
        await hooks.store.state.delete_if(LEADER)
        deliveries.start()

    play(story)


def test_what_a_killed_process_had_under_way_is_sent_again_by_another_under_the_same_id(monkeypatch):
    monkeypatch.setattr(push, "TERM", 0.3)

    async def story(hooks, receiver, deliveries):
        await hooks.make("orders", {"url": receiver.url})
        await publish(hooks, "x")
        await receiver.has(1)  # and does not answer
        for task in (deliveries.task, *deliveries.running.values()):
            task.cancel()  # nothing is given back: it was killed
        other = Deliveries(Hooks(hooks.store, hooks.limits, HERE, hooks.hub), schedule=AT_ONCE)
        other.start()
        try:
            await receiver.has(2)
            assert len({fields["webhook-id"] for _, fields, _ in receiver.got}) == 1 and other.leads
        finally:
            await other.stop()

    play(story, None, limits=PushLimits(timeout=0.5))


def test_a_hook_that_has_failed_for_days_is_disabled_and_says_why():
    async def story(hooks, receiver, deliveries):
        hook = await hooks.make("orders", {"url": receiver.url})

        def long_ago(one):
            one.failing = time.time() - push.HOPELESS - 1

        await hooks.change("orders", hook.id, long_ago)
        await deliveries.turn()
        await publish(hooks, 1)

        async def disabled():
            return (await hooks.get("orders", hook.id)).state == "disabled"

        await until(disabled)
        assert "nothing but failures for 5 days; the last: status 500" in (await hooks.get("orders", hook.id)).reason

    play(story, *["500 No\r\ncontent-length: 0\r\n\r\n"] * 3)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({}, "`url` is missing"),
        ({"url": 7}, "`url` is missing"),
        ({"url": "gopher://x/"}, "not an absolute http"),
        ({"url": "http://h/", "kind": "rsa"}, '"ed25519" or "hmac"'),
        ({"url": "http://h/", "secret": "short"}, "not a webhook key"),
        ({"url": "http://h/", "id": "a/b"}, "letters, digits"),
        ({"url": "http://h/", "types": "paid"}, "list of at most"),
        ({"url": "http://h/", "after": "yesterday"}, "is an offset"),
        ({"url": "http://h/", "envelope": "soap"}, "cloudevents"),
        ({"url": "http://h/", "urll": 1}, "unknown: urll"),
    ],
)
def test_what_a_hook_cannot_be_is_said(wanted, said):
    async def story(hooks, receiver, deliveries):
        with pytest.raises(Refused, match=said) as no:
            await hooks.make("orders", wanted)
        assert no.value.status == 400

    play(story)


def test_hooks_are_bounded_named_once_and_deleted_with_what_they_had_to_send():
    async def story(hooks, receiver, deliveries):
        await deliveries.stop()
        for name in ("a", "b"):
            await hooks.make("orders", {"url": receiver.url, "id": name})
        with pytest.raises(Refused, match="has 2 webhooks already"):
            await hooks.make("orders", {"url": receiver.url})
        await publish(hooks, 1)
        await hooks.delete("orders", "a")
        with pytest.raises(Refused) as gone:
            await hooks.get("orders", "a")
        assert gone.value.status == 404
        with pytest.raises(Refused) as twice:
            await hooks.make("orders", {"url": receiver.url, "id": "b"})
        assert twice.value.status == 409
        await hooks.forget("orders")
        assert await hooks.listed("orders") == [] and await hooks.store.leases.queues("hook/") == []

    play(story, limits=PushLimits(most=2))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("", 0.0), ("7", 7.0), ("99999999999", 3600.0), ("-3", 0.0), ("Thu, 01 Jan 1970 00:01:00 GMT", 50.0), ("soon", 0.0)],
)
def test_what_retry_after_means(value, seconds):
    assert retry_after(value, 10.0) == seconds
