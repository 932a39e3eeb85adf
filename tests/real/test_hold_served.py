"""Holds, streams of several topics, patterns and presence of real servers with several workers: where the connection is the
worker's own, and where it is a front's; by clients that we did not write.
"""

import asyncio
import json
import os
import signal
from collections.abc import Iterator

import httpx
import pytest
import websockets
from clients import worker_pids
from peers import Real
from processes import Process, eventually

APP = """
import fairlead, os

def told(scope):
    return dict(scope["headers"]).get(b"x-user", b"").decode()

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "http" and scope["path"] == "/app/say":
        await fairlead.topic("app").publish({"from": os.getpid()})
        await send({"type": "http.response.start", "status": 204})
        return await send({"type": "http.response.body"})
    if scope["type"] == "http" and not told(scope):
        await send({"type": "http.response.start", "status": 401})
        return await send({"type": "http.response.body"})
    headers = [(b"x-by", b"%d" % os.getpid())]
    await send({"type": "fairlead.hold", "topic": ["held", "app"], "after": "-1", "headers": headers, "member": told(scope)})

def wsgi(environ, start_response):
    if environ["PATH_INFO"].endswith("/plain"):
        start_response("200 OK", [("content-type", "text/plain")])
        return [b"plain"]
    start_response("200 OK", [("Fairlead-Hold", '{"topic": "held", "after": "-1"}'), ("Set-Cookie", "seen=1")])
    return [b"nobody ", b"sees this"]
"""
FILE = """
[server]
workers = 2
pattern = "%s"
[[listener]]
bind = "127.0.0.1:@PORT@"
[store]
url = "memory:"
[[route]]
path = "/t/{topic}"
topic = { wildcards = true, presence = true }
[[route]]
path = "/app/*"
app = { target = "work:app", dir = "@FOLDER@" }
[[route]]
path = "/wsgi/*"
app = { target = "work:wsgi", dir = "@FOLDER@", interface = "wsgi" }
"""


@pytest.fixture(scope="module", params=["dispatch", "reuseport"])
def server(request: pytest.FixtureRequest) -> Iterator[Process]:
    """One server for all tests of a pattern."""
    with Real() as peers:
        started = peers.fairlead(config=FILE % request.param, files={"work.py": APP})
        started.says("Ctrl-C")
        yield started


class Stream:
    """An event stream by httpx: `until(text)` reads on until it was said."""

    def __init__(self, client: httpx.AsyncClient, url: str, **fields: str) -> None:
        self.request = client.stream("GET", url, headers={"accept": "text/event-stream", **fields}, timeout=20)
        self.text = ""

    async def __aenter__(self) -> "Stream":
        self.answer = await self.request.__aenter__()
        self.parts = self.answer.aiter_text()
        return self

    async def __aexit__(self, *how: object) -> None:
        await self.request.__aexit__(*how)  # type: ignore[arg-type]

    async def until(self, text: str) -> str:
        while text not in self.text:
            self.text += await asyncio.wait_for(anext(self.parts), 20)
        return self.text


def play(story: object, server: Process) -> None:
    async def run() -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=20) as client:
            await story(client)  # type: ignore[operator]

    asyncio.run(asyncio.wait_for(run(), 60))


async def publish(client: httpx.AsyncClient, topic: str, value: object) -> None:
    done = await client.post(f"/t/{topic}", json=value)
    assert done.status_code == 204, done.text


def test_an_application_hands_its_connection_over_and_it_outlives_a_worker_of_a_front(server: Process) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        assert (await client.get("/app/feed")).status_code == 401
        await publish(client, "held", "before")
        async with Stream(client, "/app/feed", **{"x-user": "ann"}) as stream:
            await stream.until("before")
            who = int(stream.answer.headers["x-by"])
            assert stream.answer.headers["content-type"] == "text/event-stream" and who in worker_pids(server.pid)
            if "dispatch" in (server.home / "fairlead.toml").read_text():
                os.kill(who, signal.SIGKILL)
                await asyncio.to_thread(eventually, lambda: who not in worker_pids(server.pid))
            await publish(client, "held", "after")
            await stream.until("after")
            said = await client.post("/app/say")
            assert said.status_code == 204
            text = await stream.until('"from"')
            last = [line.removeprefix("id: ") for line in text.splitlines() if line.startswith("id: ")][-1]
        await publish(client, "held", "missed")
        async with Stream(client, "/app/feed", **{"x-user": "ann", "last-event-id": last}) as again:
            text = await again.until("missed")
            assert "before" not in text and '"after"' not in text

    play(story, server)


def test_a_wsgi_application_hands_its_connection_over_by_a_field(server: Process) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        assert (await client.get("/wsgi/plain")).text == "plain"
        await publish(client, "held", "for wsgi")
        async with Stream(client, "/wsgi/feed") as stream:
            text = await stream.until("for wsgi")
            assert "nobody" not in text and stream.answer.headers["set-cookie"] == "seen=1"
            assert "fairlead-hold" not in stream.answer.headers
        poll = await client.get("/wsgi/feed?offset=-1")
        assert "for wsgi" in poll.json() and poll.headers["stream-next-offset"]

    play(story, server)


def test_a_held_socket(server: Process) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await publish(client, "held", "to sockets")
        url = server.url.replace("http", "ws").rstrip("/") + "/app/socket"
        async with websockets.connect(url, subprotocols=["fairlead.v1.json"]) as socket:
            assert socket.subprotocol == "fairlead.v1.json"
            while True:
                frame = json.loads(await socket.recv())
                if any(event["data"] == "to sockets" for event in frame.get("events", ())):
                    break
            await socket.send(json.dumps({"id": 1, "sub": {"topic": "other"}}))
            while (frame := json.loads(await socket.recv())).get("id") != 1:
                pass
            assert frame["error"]["status"] == 403

    play(story, server)


def test_patterns_and_presence_are_the_same_on_every_worker(server: Process) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        async with Stream(client, "/t/$many?match=rooms.*") as stream:
            await stream.until("retry")
            for n in range(6):  # on connections of their own, so that several workers make some
                async with httpx.AsyncClient(base_url=server.url) as other:
                    await publish(other, f"rooms.{n}", f"in room {n}")
            for n in range(6):
                await stream.until(f"in room {n}")
        async with Stream(client, "/t/rooms.1/presence") as watch, Stream(client, "/t/rooms.1?member=ann") as _:
            await watch.until('event: here')
            await watch.until('"ann"')
            for _ in range(4):
                async with httpx.AsyncClient(base_url=server.url) as other:
                    there = (await other.get("/t/rooms.1/presence")).json()
                    assert [one["member"] for one in there["members"]] == ["ann"]

    play(story, server)
