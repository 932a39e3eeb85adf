"""Topics and jobs over gRPC, of a real server on SQLite: grpcio's blocking and async clients beside curl, on one port."""
# ruff: noqa: E402 (what follows needs grpcio)

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import Real
from processes import Process

grpc = pytest.importorskip("grpc")
pytest.importorskip("grpc_tools")

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from grpcstubs import generated

APP = """
import fairlead

@fairlead.job(name="double", retries=0)
async def double(n=1):
    await fairlead.topic("doubled").publish({"n": n})
    return n * 2
"""
CONFIG = """
[server]
workers = 2
[[listener]]
bind = "127.0.0.1:@PORT@"
[store]
url = "sqlite:///@FOLDER@/store.db"
[[route]]
path = "/fairlead.v1.Topics/*"
grpc = "fairlead.services:server"
[[route]]
path = "/fairlead.v1.Jobs/*"
grpc = "fairlead.services:server"
[[route]]
path = "/t/{topic}/*"
topic = {}
[[route]]
path = "/double/*"
job = { run = "app:double", dir = "@FOLDER@" }
"""
SECONDS = 60


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Any, Any, Any, Any]]:
    modules = generated(tmp_path_factory.mktemp("stubs"))
    with Real() as peers:
        server = peers.fairlead(config=CONFIG, files={"app.py": APP})
        server.says("Ctrl-C")  # the workers are up
        yield server, *modules


def test_an_event_is_the_same_by_curl_and_by_grpc(served: tuple[Process, Any, Any, Any, Any]) -> None:
    server, pb, rpc, _, _ = served
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel, Real() as peers:
        topics = rpc.TopicsStub(channel)
        made = pb.AppendRequest(topic="mixed", events=[pb.NewEvent(data=b'{"by":"grpc"}')], create="application/json")
        first = topics.Append(made, timeout=SECONDS)
        posted = peers.curl(f"{server.url}/t/mixed", "--json", '{"by":"curl"}')
        batch = topics.Read(pb.ReadRequest(topic="mixed"), timeout=SECONDS)
        assert [event.data for event in batch.events] == [b'{"by":"grpc"}', b'{"by":"curl"}']
        assert batch.events[0].offset == first.last and batch.next == posted.header("stream-next-offset")
        assert peers.curl(f"{server.url}/t/mixed?offset={first.last}").text == '[{"by":"curl"}]'


def test_a_job_by_grpc_and_what_it_publishes_on_a_stream_of_grpc_aio(served: tuple[Process, Any, Any, Any, Any]) -> None:
    server, pb, rpc, jobs_pb, jobs_rpc = served

    async def talk() -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            jobs, topics = jobs_rpc.JobsStub(channel), rpc.TopicsStub(channel)
            stream = topics.Subscribe(timeout=SECONDS)
            await stream.write(pb.SubscribeRequest(topic="doubled", after="-1", create="application/json"))
            job = await jobs.Submit(jobs_pb.SubmitRequest(kind="double", arguments="[21]"), timeout=SECONDS)
            states = [now async for now in jobs.Watch(jobs_pb.WatchRequest(kind="double", id=job.id), timeout=SECONDS)]
            assert states[-1].state == "succeeded" and states[-1].result == "42"
            found: list[bytes] = []
            while not found:
                found = [event.data for event in (await stream.read()).events]
            assert found == [b'{"n":21}']
            stream.cancel()

    asyncio.run(talk())


def test_curl_calls_both_services_in_json(served: tuple[Process, Any, Any, Any, Any]) -> None:
    server = served[0]

    def call(method: str, given: str, *args: str) -> Any:
        return peers.curl(f"{server.url}/fairlead.v1.{method}", "--json", given, *args)

    with Real() as peers:
        data = base64.b64encode(b'{"n":1}').decode()
        made = call("Topics/Append", f'{{"topic":"json","create":"application/json","events":[{{"data":"{data}","type":"made"}}]}}')
        assert made.status == 200 and made.header("content-type") == "application/json", made.text
        assert json.loads(made.text)["count"] == "1"
        found = json.loads(call("Topics/Read", '{"topic":"json"}').text)
        assert found["events"][0]["data"] == data and found["events"][0]["type"] == "made" and found["upToDate"] is True
        claimed = json.loads(call("Topics/Claim", '{"topic":"json","group":"g","after":"-1"}').text)["items"]
        held = json.dumps({"topic": "json", "group": "g", "action": "ACK", "items": [{k: claimed[0][k] for k in ("id", "fence")}]})
        assert json.loads(call("Topics/Ack", held).text) == {"done": "1"}
        job = json.loads(call("Jobs/Submit", '{"kind":"double","arguments":"[4]"}').text)
        over = json.loads(call("Jobs/Get", json.dumps({"kind": "double", "id": job["id"], "wait": 30})).text)
        assert (over["state"], over["result"]) == ("succeeded", "8")
        assert "nothing" in (wrong := call("Topics/Read", '{"topic":"json","nothing":1}')).text and wrong.status == 400
        assert json.loads(call("Topics/Read", '{"topic":"none"}').text)["status"] == "NOT_FOUND"


def test_curl_reads_streams_of_both_services_as_lines_and_as_events(served: tuple[Process, Any, Any, Any, Any]) -> None:
    server = served[0]
    with Real() as peers:
        base = f"{server.url}/fairlead.v1"
        data = base64.b64encode(b"x").decode()
        given = json.dumps({"topic": "ends", "create": "text/plain", "close": True, "events": [{"data": data}]})
        assert peers.curl(f"{base}.Topics/Append", "--json", given).status == 200
        lines = ("-H", "content-type: application/x-ndjson", "--data-binary", '{"topic":"ends","after":"-1"}\n')
        answer = peers.curl(f"{base}.Topics/Subscribe", *lines)
        assert answer.header("content-type") == "application/x-ndjson"
        batches = [json.loads(line) for line in answer.text.splitlines()]
        assert [one["data"] for batch in batches for one in batch.get("events", ())] == [data] and batches[-1]["closed"] is True
        events = peers.curl(f"{base}.Topics/Subscribe", *lines, "-H", "accept: text/event-stream").text
        assert [part for part in events.split("\n\n") if part.startswith("data: ")] and "event: end\n" in events
        job = json.loads(peers.curl(f"{base}.Jobs/Submit", "--json", '{"kind":"double","arguments":"[5]"}').text)
        watched = peers.curl(f"{base}.Jobs/Watch", "--json", json.dumps({"kind": "double", "id": job["id"]})).text
        assert json.loads(watched.splitlines()[-1])["result"] == "10"
