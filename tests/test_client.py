"""The topic client against servers that misbehave: it tries again what may pass, says each thing once, and gives up otherwise."""

import asyncio
import importlib
import json
import sys
import threading

import pytest

from fairlead.client import Client, Gap, ServerError, SyncClient
from fairlead.client.words import Backoff, gap_of, page_of, refusal
from fairlead.core.errors import AppError, ConfigError, NetError

OK = b"HTTP/1.1 204 No Content\r\nstream-next-offset: 0000000000001_0000000000000001\r\n\r\n"


def answer(status, body=b"", *lines):
    head = b"".join(line + b"\r\n" for line in (b"HTTP/1.1 %d X" % status, b"content-length: %d" % len(body), *lines))
    return head + b"\r\n" + body


async def heard(reader):
    """One request: (first line, {name: value}, body)."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    return head[0], fields, await reader.readexactly(int(fields.get("content-length", 0)))


class Script:
    """A server that says the next thing of its script for each request; None closes without a word."""

    def __init__(self, *says):
        self.says, self.requests, self.connections = list(says), [], 0

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while self.says:
                self.requests.append(await heard(reader))
                if (said := self.says.pop(0)) is None:
                    break
                writer.write(said)
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    def play(self, story, **options):
        async def run():
            server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            async with server, asyncio.timeout(20), Client(f"http://127.0.0.1:{port}/t", **options) as client:
                return await story(client)

        return asyncio.run(run())


def test_one_connection_carries_request_after_request():
    script = Script(OK, OK, OK)

    async def story(client):
        topic = client.topic("a/b")
        return [await topic.publish(n) for n in range(3)]

    assert script.play(story) == ["0000000000001_0000000000000001"] * 3
    assert script.connections == 1
    assert [line for line, _, _ in script.requests] == ["POST /t/a%2Fb HTTP/1.1"] * 3
    assert [body for _, _, body in script.requests] == [b"[0]", b"[1]", b"[2]"]


def test_what_passes_is_said_again_under_the_same_dedupe_key():
    script = Script(answer(503, b"later"), None, answer(429, b"", b"retry-after: 0"), OK)

    async def story(client):
        return await client.topic("a").publish([1], type="t", key="k")

    assert script.play(story)
    keys = {fields["fairlead-dedupe"] for _, fields, _ in script.requests}
    assert len(script.requests) == 4 and len(keys) == 1
    assert {body for _, _, body in script.requests} == {b"[[1]]"}
    assert script.requests[0][1]["fairlead-type"] == "t" and script.requests[0][1]["fairlead-key"] == "k"


def test_what_does_not_pass_is_raised_at_once_with_the_servers_words():
    script = Script(answer(404, b"404 there is no such topic\n"))

    async def story(client):
        with pytest.raises(ServerError, match="the server answered 404: there is no such topic") as error:
            await client.topic("a").publish(1)
        return error.value

    assert script.play(story).status == 404 and len(script.requests) == 1


def test_patience_ends():
    script = Script(*[answer(503)] * 50)

    async def story(client):
        with pytest.raises(ServerError, match="503"):
            await client.topic("a").read()

    script.play(story, patience=0.5)
    assert 1 <= len(script.requests) < 50


def test_nobody_there_is_a_net_error_that_names_the_address():
    async def story():
        async with Client("http://127.0.0.1:1", patience=0) as client:
            with pytest.raises(NetError, match=r"127\.0\.0\.1:1: .*[Rr]efused"):
                await client.topic("a").read()

    asyncio.run(story())


@pytest.mark.parametrize("url", ["", "ftp://a/", "http://h/t?x=1", "h/t"])
def test_what_is_no_url_of_topics(url):
    with pytest.raises(ConfigError):
        Client(url)


def test_a_producer_numbers_its_requests_and_repeats_a_number_that_was_not_answered():
    script = Script(OK, answer(502), OK, OK)

    async def story(client):
        producer = client.topic("a").producer("p", 3)
        await producer.publish("a")
        await producer.publish_many(["b", "c"])
        await producer.publish("d")

    script.play(story)
    assert [fields["producer-seq"] for _, fields, _ in script.requests] == ["0", "1", "1", "2"]
    assert {(f["producer-id"], f["producer-epoch"]) for _, f, _ in script.requests} == {("p", "3")}
    assert "fairlead-dedupe" not in script.requests[0][1]


def test_many_values_are_as_few_requests_as_fit_and_text_topics_have_one_each():
    script = Script(OK, OK, OK, OK)

    async def story(client):
        await client.topic("a").publish_many(["x" * 300_000, "y" * 300_000])
        await client.topic("a", "text/plain").publish_many(["one", b"two"])

    script.play(story)
    assert [len(body) for _, _, body in script.requests] == [300_004, 300_004, 3, 3]
    assert script.requests[2][1]["content-type"] == "text/plain"


def frame(seqs, **more):
    events = [{"o": f"0000000000001_{n:016d}", "data": n} for n in seqs]
    return {"topic": "a", "next": f"0000000000001_{max(seqs, default=0):016d}", "events": events, **more}


def said(frame_):
    return answer(200, json.dumps(frame_).encode(), b"content-type: application/json")


def test_long_polls_go_on_from_the_last_offset_over_failures_until_the_topic_ends():
    empty = answer(204, b"", b"stream-next-offset: 0000000000001_0000000000000002").replace(b"content-length: 0\r\n", b"")
    script = Script(said(frame([1, 2])), empty, answer(500), None, said(frame([3], closed=True, up_to_date=True)))

    async def story(client):
        losses = []
        found = [event.data async for event in client.topic("a").follow("-1", by="long-poll", on_loss=losses.append)]
        return found, losses

    found, losses = script.play(story)
    assert found == [1, 2, 3] and len(losses) >= 1
    offsets = [line.split("offset=")[1].split("&")[0] for line, _, _ in script.requests]
    assert offsets == ["-1", *["0000000000001_0000000000000002"] * 4]


def test_an_event_stream_that_breaks_goes_on_by_last_event_id():
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    first = head + b"retry: 1000\nid: x\n\n:\n\ndata: " + json.dumps(frame([1])).encode() + b"\n\nda"
    ended = head + b"data: " + json.dumps(frame([2], closed=True)).encode() + b"\n\n"

    class Cut(Script):
        async def serve(self, reader, writer):
            self.requests.append(await heard(reader))
            writer.write(self.says.pop(0))
            writer.close()

    script = Cut(first, ended)

    async def story(client):
        return [event.data async for event in client.topic("a").follow("-1", by="sse")]

    assert script.play(story) == [1, 2]
    assert [fields["last-event-id"] for _, fields, _ in script.requests] == ["-1", "0000000000001_0000000000000001"]


def test_a_gap_is_raised_or_told_and_what_is_there_follows():
    ends = b"stream-earliest-offset: 0000000000001_0000000000000007", b"stream-next-offset: 0000000000001_0000000000000009"
    lost = answer(410, b"", *ends)
    rest = said(frame([8], closed=True))

    async def raised(client):
        with pytest.raises(Gap) as gap:
            async for _ in client.topic("a").follow("0000000000001_0000000000000001", by="long-poll"):
                pass
        return gap.value.earliest

    assert Script(lost).play(raised) == "0000000000001_0000000000000007"

    async def told(client):
        gaps = []
        found = client.topic("a").follow("0000000000001_0000000000000001", by="long-poll", on_gap=gaps.append)
        return [event.data async for event in found], gaps

    found, gaps = Script(lost, rest).play(told)
    assert found == [8] and len(gaps) == 1


def test_where_no_websocket_passes_long_polls_do():
    script = Script(answer(426), said(frame([1], closed=True)))

    async def story(client):
        return [event.data async for event in client.topic("a").follow("-1")]

    assert script.play(story) == [1]
    assert "upgrade" in script.requests[0][1] and "live=long-poll" in script.requests[1][0]


def test_what_is_said_is_not_believed_blindly():
    async def story(client):
        with pytest.raises(NetError, match="no frame"):
            async for page in client.topic("a").by_stream("-1"):
                raise AssertionError(page)

    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    Script(head + b"data: {\n\n").play(story)

    async def wrong_type(client):
        with pytest.raises(ServerError, match="not an event stream"):
            async for page in client.topic("a").by_stream("-1"):
                raise AssertionError(page)

    Script(answer(200, b"<html>", b"content-type: text/html")).play(wrong_type)


def test_pauses_double_are_spread_and_have_an_end():
    least = Backoff(random=lambda: 0.0)
    most = Backoff(random=lambda: 1.0)
    assert [least.pause() for _ in range(3)] == [0.0625, 0.125, 0.25]
    assert [most.pause() for _ in range(9)][-3:] == [16.0, 30.0, 30.0]
    assert most.pause(asked=5) == 35.0
    most.reset()
    assert most.pause() == 0.25


def test_frames_as_events_pages_and_gaps():
    page = page_of({"topic": "t", "next": "n", "events": [{"o": "o", "base64": "AAE=", "type": "x", "key": "k", "at": 1.5}]})
    assert page.events == [(b"\0\1", "o", "x", "k", 1.5, "t")] and not page.up_to_date
    assert "7 events were left out" in str(gap_of({"topic": "t", "gap": {"dropped": 7, "next": "n"}}))
    assert refusal(503, {"retry-after": "7"}, b"").after == 7


@pytest.mark.parametrize("name", ["taskiq", "faststream"])
def test_an_adapter_names_the_extra_that_is_missing(name, monkeypatch):
    monkeypatch.delitem(sys.modules, f"fairlead.adapters.{name}", raising=False)
    for part in ("taskiq", "faststream", "faststream._internal", "fast_depends"):
        monkeypatch.setitem(sys.modules, part, None)
    with pytest.raises(AppError, match=f"needs {name}, which is not installed") as error:
        importlib.import_module(f"fairlead.adapters.{name}")
    assert error.value.hint == f"pip install 'fairlead[{name}]'"


def test_a_sync_client_in_threads():
    script = Script(*[OK] * 8)
    ready, port = threading.Event(), []

    async def serve():
        server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
        port.append(server.sockets[0].getsockname()[1])
        ready.set()
        async with server:
            while len(script.requests) < 8:
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(20)
    with SyncClient(f"http://127.0.0.1:{port[0]}") as client:
        topic = client.topic("a")
        others = [threading.Thread(target=topic.publish, args=(n,)) for n in range(7)]
        for one in others:
            one.start()
        for one in others:
            one.join(20)
        assert topic.publish(7)
    thread.join(20)
    assert sorted(body for _, _, body in script.requests) == [b"[%d]" % n for n in range(8)]
