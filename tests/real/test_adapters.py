"""taskiq's and FastStream's own workers on a real server, by the adapters: tasks, results, acknowledgements, a worker killed."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator

import pytest
from peers import Real, surroundings
from processes import Process, eventually

pytest.importorskip("taskiq")

FILE = """
[server]
workers = 1
grace = "1s"
[log]
access = "off"
[[listener]]
bind = "127.0.0.1:@PORT@"
[store]
url = "sqlite:///@FOLDER@/store.db"
[[route]]
path = "/events/{topic}"
topic = {}
"""
TASKS = """
import asyncio, os
from taskiq import Context, TaskiqDepends
from fairlead.adapters.taskiq import TopicBroker, TopicResults

URL = os.environ["EVENTS"]
broker = TopicBroker(URL, ttl=1.5).with_result_backend(TopicResults(URL))

@broker.task
async def add(a: int, b: int) -> int:
    return a + b

@broker.task
async def fail() -> None:
    raise ValueError("no")

@broker.task
async def odd() -> object:
    return object()

@broker.task
async def deadly(place: str) -> str:
    if not os.path.exists(place):
        open(place, "w").close()
        os.kill(os.getpid(), 9)
    return "survived"
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    with Real() as peers:
        started = peers.fairlead(config=FILE, files={"tasks.py": TASKS})
        started.says("Ctrl-C")
        yield started
        started.kill()  # at once: who follows would be waited for


def test_taskiq_workers_run_tasks_and_a_killed_ones_go_to_another(server: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTS", f"{server.url}/events")
    monkeypatch.syspath_prepend(str(server.home))
    import tasks  # type: ignore[import-not-found]

    async def story() -> None:
        broker = tasks.broker
        await broker.startup()
        sums = [await tasks.add.kiq(n, 1) for n in range(5)]
        broken, odd = await tasks.fail.kiq(), await tasks.odd.kiq()
        late = await tasks.add.kicker().with_labels(delay=0.5).kiq(40, 2)
        deadly = await tasks.deadly.kiq(str(server.home / "died"))
        assert [(await one.wait_result(check_interval=0.1, timeout=40)).return_value for one in sums] == [1, 2, 3, 4, 5]
        failed = await broken.wait_result(check_interval=0.1, timeout=40)
        assert failed.is_err and "no" in str(failed.error)
        assert (await odd.wait_result(check_interval=0.1, timeout=40)).is_err
        assert (await late.wait_result(check_interval=0.1, timeout=40)).return_value == 42
        assert (await deadly.wait_result(check_interval=0.2, timeout=60)).return_value == "survived"
        assert not await broker.result_backend.is_result_ready("nothing")
        await broker.shutdown()

    argv = [sys.executable, "-m", "taskiq", "worker", "tasks:broker", "--workers", "1", "--no-configure-logging"]
    with Real() as peers:
        worker = peers.run(*argv, home=server.home, env=surroundings(server.home) | {"EVENTS": f"{server.url}/events"})
        asyncio.run(asyncio.wait_for(story(), 120))
        os.killpg(worker.pid, signal.SIGKILL)
    eventually(lambda: (server.home / "died").exists(), what="a worker died of it")


STREAM = """
import os
from faststream import FastStream
from fairlead.adapters.faststream import TopicBroker

broker = TopicBroker(os.environ["EVENTS"], graceful_timeout=1.0)
app = FastStream(broker)
failed = []

@broker.subscriber("orders", group="mail", after="-1", max_workers=3, ttl=1.5)
@broker.publisher("mails", type="mail", key="k")
async def confirm(order: dict) -> dict:
    if order["id"] == 13 and not failed:
        failed.append(order)
        raise ValueError("the first time it fails")
    place = order.get("dies")
    if place and not os.path.exists(place):
        open(place, "w").close()
        os.kill(os.getpid(), 9)
    return {"to": order["id"]}

@broker.subscriber("double")
async def double(n: int) -> int:
    return 2 * n
"""


def test_a_faststream_application_on_topics_and_what_a_killed_one_had_is_done_by_the_next(server: Process) -> None:
    pytest.importorskip("faststream")
    from fairlead.adapters.faststream import TopicBroker
    from fairlead.client import SyncClient

    (server.home / "stream.py").write_text(STREAM)
    url = f"{server.url}/events"
    argv = [sys.executable, "-c", "import asyncio, stream; asyncio.run(stream.app.run())"]
    env = surroundings(server.home) | {"EVENTS": url}

    async def story() -> None:
        broker = TopicBroker(url)
        heard: list[tuple[object, object]] = []

        @broker.subscriber("heard")
        async def hear(message: dict) -> None:
            heard.append(message["n"])  # type: ignore[arg-type]

        async with broker:
            await broker.start()
            assert await broker.ping(5)
            answer = await broker.request(21, "double", timeout=40)
            assert await answer.decode() == 42
            await broker.publish({"n": 1}, "heard")
            await broker.publish({"n": 2}, "heard", headers={"x": "y"}, correlation_id="c")
            while len(heard) < 2:
                await asyncio.sleep(0.01)
            assert sorted(heard) == [1, 2]  # type: ignore[type-var]

    def mails(client: SyncClient) -> set[int]:
        return {event.data["to"] for event in client.topic("mails").read_all() if (event.type, event.key) == ("mail", "k")}

    with Real() as peers, SyncClient(url) as client:
        orders = client.topic("orders")
        client.topic("mails").now()
        orders.publish_many([{"id": n} for n in (1, 2, 13)])
        orders.publish({"id": 7, "dies": str(server.home / "stream-died")})
        first = peers.run(*argv, home=server.home, env=env)
        eventually(lambda: not first.running, what="the order kills its worker", seconds=60)
        second = peers.run(*argv, home=server.home, env=env)
        eventually(lambda: mails(client) == {1, 2, 13, 7}, what="all orders are confirmed", seconds=60)
        asyncio.run(asyncio.wait_for(story(), 60))
        os.killpg(second.pid, signal.SIGKILL)
