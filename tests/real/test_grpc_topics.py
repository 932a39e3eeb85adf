"""Topics and jobs over gRPC, of a real server on SQLite: grpcio's blocking and async clients beside curl, on one port."""
# ruff: noqa: E402 (what follows needs grpcio)

from __future__ import annotations

import asyncio
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
