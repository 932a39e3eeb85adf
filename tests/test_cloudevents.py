"""CloudEvents in and out: binary, structured and batch; known again by source and id; what is refused."""

import base64
import json

import pytest

from fairlead.core.errors import Refused
from fairlead.serve.cloudevents import BATCH, ONE, incoming, shown
from fairlead.serve.hooks import Hook
from fairlead.serve.push import Deliveries
from fairlead.store.contract import Event, Lease, Offset
from topickit import JSON, header, play

CE = {"ce-specversion": "1.0", "ce-id": "7", "ce-source": "/shop", "ce-type": "order.paid"}
WHOLE = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "order.paid"}


def fields(more=(), content_type=b"application/json"):
    return [(name.encode(), value.encode()) for name, value in {**CE, **dict(more)}.items()] + [(b"content-type", content_type)]


def test_a_binary_event_keeps_its_type_key_and_attributes():
    async def story(server):
        more = {"ce-subject": "caf%C3%A9", "ce-partitionkey": "k", "ce-time": "2026-01-02T03:04:05Z"}
        assert (await server.done("POST", "/t/a", b'{"n": 1}', *fields(more))).status == 204
        [event] = (await server.store.log.read("a", None)).events
        assert (event.data, event.type, event.key) == (b'{"n": 1}', "order.paid", "k")
        assert event.headers["ce-subject"] == "café" and event.headers["ce-id"] == "7"
        poll = await server.done("GET", "/t/a?offset=-1", b"", (b"accept", BATCH.encode()))
        [back] = json.loads(poll.answer)
        assert header(poll, "content-type") == BATCH and header(poll, "stream-next-offset")
        assert back == {**WHOLE, "subject": "café", "partitionkey": "k", "time": "2026-01-02T03:04:05Z",
                        "datacontenttype": "application/json", "data": {"n": 1}}  # fmt: skip

    play(story)


def test_the_same_event_again_appends_nothing():
    async def story(server):
        first = await server.done("POST", "/t/a", b"1", *fields())
        again = await server.done("POST", "/t/a", b"1", *fields())
        other = await server.done("POST", "/t/a", b"1", *fields({"ce-id": "8"}))
        assert header(first, "stream-next-offset") == header(again, "stream-next-offset") < header(other, "stream-next-offset")
        batch = json.dumps([{**WHOLE, "id": "a", "data": 1}, {**WHOLE, "id": "b", "data": 2}]).encode()
        for _ in range(2):
            assert (await server.done("POST", "/t/a", batch, (b"content-type", BATCH.encode()))).status == 204
        assert [event.data for event in (await server.store.log.read("a", None)).events] == [b"1", b"1", b"1", b"2"]

    play(story)


def test_structured_events_make_topics_of_their_datas_type():
    async def story(server):
        said = {**WHOLE, "datacontenttype": "text/plain", "data": "hello"}
        await server.done("POST", "/t/text", json.dumps(said).encode(), (b"content-type", (ONE + "; charset=utf-8").encode()))
        raw = {**WHOLE, "datacontenttype": "image/png", "data_base64": base64.b64encode(b"\x00\xff").decode()}
        await server.done("POST", "/t/bytes", json.dumps(raw).encode(), (b"content-type", ONE.encode()))
        assert (await server.done("GET", "/t/text?offset=-1")).answer == b"hello"
        assert (await server.done("GET", "/t/bytes?offset=-1")).answer == b"\x00\xff"
        back = await server.done("GET", "/t/bytes?offset=-1", b"", (b"accept", BATCH.encode()))
        assert json.loads(back.answer)[0]["data_base64"] == "AP8="
        other = await server.done("POST", "/t/text", json.dumps(raw).encode(), (b"content-type", ONE.encode()))
        assert other.status == 409  # this topic is text
        own = (b"content-type", ONE.encode())
        await server.done("PUT", "/t/raw", b"", own)
        assert (await server.done("POST", "/t/raw", json.dumps(said).encode(), own)).status == 204
        assert json.loads((await server.done("GET", "/t/raw?offset=-1")).answer) == [said]  # a topic of envelopes has them whole

    play(story)


def test_a_sender_may_ask_whether_it_may():
    async def story(server):
        asked = await server.done("OPTIONS", "/t/a", b"", (b"webhook-request-origin", b"events.example"))
        assert asked.status == 204 and header(asked, "webhook-allowed-origin") == "events.example"
        assert header(await server.done("OPTIONS", "/t/a"), "webhook-allowed-origin") is None

    play(story)


@pytest.mark.parametrize(
    ("given", "body", "content_type", "status"),
    [
        ({}, b"[]", BATCH, 400),
        ({}, b"{}", BATCH, 400),
        ({}, b"[1]", BATCH, 400),
        ({}, b"{", ONE, 400),
        ({}, b"7", ONE, 400),
        ({}, json.dumps({**WHOLE, "id": ""}).encode(), ONE, 400),
        ({}, json.dumps({**WHOLE, "specversion": "0.3"}).encode(), ONE, 400),
        ({}, json.dumps({**WHOLE, "Upper": "x"}).encode(), ONE, 400),
        ({}, json.dumps({**WHOLE, "x": [1]}).encode(), ONE, 400),
        ({}, json.dumps({**WHOLE, "x": "y" * 2000}).encode(), ONE, 400),
        ({}, json.dumps({**WHOLE, **{f"x{n}": "y" for n in range(50)}}).encode(), ONE, 400),
        ({}, json.dumps({**WHOLE, "data_base64": "%"}).encode(), ONE, 400),
        ({}, json.dumps({**WHOLE, "datacontenttype": "text/plain", "data": 7}).encode(), ONE, 400),
        ({}, json.dumps([{**WHOLE, "data": 1}, {**WHOLE, "datacontenttype": "text/plain", "data": "x"}]).encode(), BATCH, 400),
        ({}, b"", "application/cloudevents+xml", 415),
        ({"ce-specversion": "1.0", "ce-id": "7"}, b"1", "application/json", 400),
    ],
)
def test_what_is_no_cloudevent(given, body, content_type, status):
    with pytest.raises(Refused) as refused:
        incoming(given, body, content_type)
    assert refused.value.status == status


def test_data_of_a_binary_event_must_be_json_where_the_topic_is():
    async def story(server):
        assert (await server.done("POST", "/t/a", b"{", *fields())).status == 400
        assert (await server.done("POST", "/t/a", b"[1]", JSON)).status == 204
        assert incoming({}, b"1", "application/json") is None

    play(story)


def test_a_webhook_gives_back_the_attributes_that_it_came_with():
    event = Event(3, b'{"n": 1}', "order.paid", "", 0.0, {"ce-id": "7", "ce-source": "/shop", "ce-subject": "s"})
    hook = Hook("w", "a", "https://x.example", [["whsec_" + base64.b64encode(b"k" * 32).decode(), None]], envelope="cloudevents")
    lease = Lease("q", "1", 1, 1, event.data, 0.0, event, Offset(5, 3))
    _, body = Deliveries.message(Deliveries.__new__(Deliveries), hook, lease)
    said = json.loads(body)
    assert (said["id"], said["source"], said["subject"], said["type"], said["data"]) == ("7", "/shop", "s", "order.paid", {"n": 1})
    plain = shown(event._replace(headers={}), "a", "application/json", Offset(5, 3), "msg_1")
    assert (plain["id"], plain["source"]) == ("msg_1", "/topics/a")
