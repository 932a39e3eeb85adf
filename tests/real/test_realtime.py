"""Topics, groups, webhooks, jobs and idempotency keys of a real server on SQLite, by clients that we did not write: curl, httpx,
`websockets`, a receiver that checks signatures with `standardwebhooks`; and what is left of all that after kill -9.
"""

import asyncio
import http.server
import json
import os
import signal
import socketserver
import threading
import time
from collections.abc import Iterator
from typing import ClassVar

import httpx
import pytest
import websockets
from peers import Real
from processes import Process, eventually, free_port
from standardwebhooks import Webhook
from test_process import worker_pids

APP = """
import asyncio, os, sqlite3, time, fairlead

@fairlead.job(retries=3, backoff=0.0, lease=2.0)
async def build(n: int = 1, kill: bool = False):
    job = fairlead.current_job()
    await job.progress({"attempt": job.attempt})
    if kill and job.attempt == 1:
        os.kill(os.getpid(), 9)
    await asyncio.sleep(0.05)
    await fairlead.topic("built").publish({"n": n})
    return n * 2

def blocking(n=1):
    time.sleep(0.05)
    return [n]

async def order(commit):
    # the application's own database, and what goes out with its transaction
    db = sqlite3.connect("orders.db", isolation_level=None)
    db.execute("CREATE TABLE IF NOT EXISTS orders (n)")
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO orders VALUES (1)")
    await fairlead.topic("ordered").publish({"commit": commit}, conn=db)
    await build.submit(100 if commit else 999, conn=db)
    db.execute("COMMIT" if commit else "ROLLBACK")
    db.close()

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"].startswith("/order/"):
        await order(scope["path"] == "/order/commit")
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})
        return
    await asyncio.sleep(0.2)
    with open("charged", "a") as file:
        file.write("x")
    body = b"charged %f" % time.time()
    await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""
FILE = """
[server]
workers = 2
pattern = "shared"
[[listener]]
bind = "127.0.0.1:@PORT@"
[store]
url = "sqlite:///@FOLDER@/store.db"
outbox = ["sqlite:///@FOLDER@/orders.db"]
[[route]]
path = "/t/{topic}"
[route.topic]
webhooks = true
webhook_networks = ["127.0.0.0/8"]
wait = "5s"
[[route]]
path = "/jobs/build"
job = { run = "work:build", dir = "@FOLDER@" }
[[route]]
path = "/jobs/blocking"
job = { run = "work:blocking", dir = "@FOLDER@" }
[[route]]
path = "/once/{topic}"
topic = {}
filters = [ { idempotency = {} } ]
[[route]]
path = "/bank/*"
proxy = "bank"
filters = [ { idempotency = {} } ]
[[upstream]]
name = "bank"
servers = ["127.0.0.1:DEAD", "127.0.0.1:ORIGIN"]
eject = { errors = 1000000 }
[[route]]
path = "/*"
app = { target = "work:app", dir = "@FOLDER@" }
filters = [ { idempotency = {} } ]
"""


class Bank(socketserver.StreamRequestHandler):
    """What is behind our proxy: it counts what it was asked, and breaks off when the path says so."""

    asked: ClassVar[list[str]] = []

    def handle(self) -> None:
        path = self.rfile.readline().split()[1].decode()
        while (line := self.rfile.readline().strip()) != b"":
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        self.rfile.read(length)
        self.asked.append(path)
        if "break" not in path:
            self.wfile.write(b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\nConnection: close\r\n\r\npaid")


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    """One server for all tests of this file."""
    with Real() as peers, socketserver.ThreadingTCPServer(("127.0.0.1", 0), Bank) as bank:
        threading.Thread(target=bank.serve_forever, daemon=True).start()
        file = FILE.replace("ORIGIN", str(bank.server_address[1])).replace("DEAD", str(free_port()))
        started = peers.fairlead(config=file, files={"work.py": APP})
        started.says("Ctrl-C")
        yield started
        bank.shutdown()


def get(server: Process, path: str, **options: object) -> httpx.Response:
    return httpx.get(server.url.rstrip("/") + path, timeout=20, **options)  # type: ignore[arg-type]


def post(server: Process, path: str, body: object, **headers: str) -> httpx.Response:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(server.url.rstrip("/") + path, json=body, headers=fields, timeout=20)


def test_curl_and_httpx_poll_and_long_poll(server: Process) -> None:
    with Real() as peers:
        first = post(server, "/t/poll", {"n": 1})
        assert first.status_code == 204
        after = first.headers["stream-next-offset"]
        got = peers.curl(f"{server.url.rstrip('/')}/t/poll?offset=-1")
        assert got.text == '[{"n":1}]'
        timer = threading.Timer(0.2, post, (server, "/t/poll", {"n": 2}))
        timer.start()
        waited = peers.curl(f"{server.url.rstrip('/')}/t/poll?offset={after}", "-H", "Prefer: wait=5")
        assert waited.text == '[{"n":2}]' and waited.header("stream-next-offset") > after
        assert get(server, f"/t/poll?offset={after}&live=long-poll").json() == [{"n": 2}]


def test_many_topics_on_one_socket_and_a_group(server: Process) -> None:
    async def story() -> None:
        url = server.url.replace("http", "ws").rstrip("/") + "/t/one?offset=-1"
        async with websockets.connect(url, subprotocols=["fairlead.v1.json"]) as socket:
            assert socket.subprotocol == "fairlead.v1.json"
            await socket.send(json.dumps({"id": 1, "sub": {"topic": "two"}}))
            assert (await said(socket, "id", 1))["ok"]
            for number, topic in ((2, "one"), (3, "two")):
                await socket.send(json.dumps({"id": number, "pub": {"topic": topic, "data": {"to": topic}, "type": "t"}}))
            heard = {}
            while len(heard) < 2:
                frame = json.loads(await socket.recv())
                if "events" in frame:
                    (event,) = frame["events"]
                    heard[frame["topic"]] = event["data"], event["type"]
            assert heard == {"one": ({"to": "one"}, "t"), "two": ({"to": "two"}, "t")}
            await socket.send(json.dumps({"id": 4, "claim": {"topic": "two", "group": "g", "after": "-1"}}))
            (item,) = (await said(socket, "id", 4))["items"]
            assert item["data"] == {"to": "two"} and item["attempt"] == 1
            held = [{"id": item["id"], "fence": item["fence"]}]
            await socket.send(json.dumps({"id": 5, "ack": {"topic": "two", "group": "g", "items": held}}))
            assert (await said(socket, "id", 5))["done"] == 1
            await socket.send(json.dumps({"id": 6, "ack": {"topic": "two", "group": "g", "items": held}}))
            assert (await said(socket, "id", 6))["error"]["status"] == 409
            await socket.send("{")
            assert (await said(socket, "id", None))["error"]["status"] == 400
            await socket.send(json.dumps({"ping": 7}))
            assert (await said(socket, "pong", 7)) == {"pong": 7}
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(url, origin="https://evil.example")
        assert refused.value.response.status_code == 403

    asyncio.run(asyncio.wait_for(story(), 20))


async def said(socket: object, key: str, value: object) -> dict:
    """The frame with this member."""
    while True:
        frame = json.loads(await socket.recv())  # type: ignore[attr-defined]
        if key in frame and frame[key] == value:
            return frame


def test_an_item_of_a_socket_that_closes_is_somebody_elses(server: Process) -> None:
    async def story() -> None:
        url = server.url.replace("http", "ws").rstrip("/") + "/t/tasks?sub=0"
        post(server, "/t/tasks", [1])
        async with websockets.connect(url) as socket:
            await socket.send(json.dumps({"id": 1, "claim": {"topic": "tasks", "group": "g", "after": "-1"}}))
            assert len((await said(socket, "id", 1))["items"]) == 1
            assert post(server, "/t/tasks/groups/g:claim", {}).json()["items"] == []
        got = await asyncio.to_thread(post, server, "/t/tasks/groups/g:claim", {"wait": 10})
        (item,) = got.json()["items"]
        assert item["attempt"] == 2

    asyncio.run(asyncio.wait_for(story(), 30))


def test_a_webhook_is_posted_and_signed(server: Process) -> None:
    got: list[tuple[dict[str, str], bytes]] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(500 if len(got) == 1 else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    try:
        post(server, "/t/hooked", {"n": 0})
        made = post(server, "/t/hooked/webhooks", {"url": f"http://127.0.0.1:{receiver.server_port}/in", "kind": "hmac"})
        assert made.status_code == 201
        post(server, "/t/hooked", {"n": 1})
        eventually(lambda: len(got) >= 1, what="an attempt", seconds=20)
        fields, body = got[0]
        secret = "whsec_" + made.json()["secret"].removeprefix("whsec_")
        assert Webhook(secret).verify(body, fields) == {"n": 1}
        where = made.headers["location"]
        eventually(lambda: len(get(server, where + "/attempts").json()["attempts"]) >= 1, what="the attempt's record")
        last = get(server, where + "/attempts").json()["attempts"][-1]
        assert (last["status"], last["attempt"]) == (500, 1) and last["next"] > 4
    finally:
        receiver.shutdown()
        receiver.server_close()


def test_a_job_is_waited_for_followed_and_cancelled(server: Process) -> None:
    assert post(server, "/jobs/build", {"n": 4}, prefer="wait=10").json() == 8
    assert post(server, "/jobs/blocking", [5], prefer="wait=10").json() == [5]
    made = post(server, "/jobs/build", {"n": 1})
    assert made.status_code == 202 and made.json()["state"] in ("queued", "running")
    with httpx.stream("GET", server.url.rstrip("/") + made.headers["location"] + "/events",
                      headers={"accept": "text/event-stream"}, timeout=20) as events:  # fmt: skip
        text = "".join(events.iter_text())  # it ends by itself
    assert "event: succeeded" in text and "event: end" in text
    gone = post(server, "/jobs/build", {"n": 1}, fairlead_delay="600")
    assert httpx.delete(server.url.rstrip("/") + gone.headers["location"]).json()["state"] == "cancelled"


def test_a_job_whose_worker_is_killed_runs_again(server: Process) -> None:
    made = post(server, "/jobs/build", {"n": 3, "kill": True})
    where = made.headers["location"]
    eventually(lambda: get(server, where).json()["state"] == "succeeded", what="the second attempt", seconds=40)
    found = get(server, where).json()
    assert found["attempt"] == 2 and found["result"] == 6


def test_one_execution_however_often_it_is_asked_for(server: Process) -> None:
    def charge(statuses: list[int]) -> None:
        statuses.append(post(server, "/pay", {"sum": 7}, idempotency_key='"order-7"').status_code)

    statuses: list[int] = []
    threads = [threading.Thread(target=charge, args=(statuses,)) for _ in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert set(statuses) <= {201, 409} and statuses.count(201) >= 1
    again = post(server, "/pay", {"sum": 7}, idempotency_key='"order-7"')
    assert again.status_code == 201 and again.headers["idempotent-replayed"] == "true"
    assert post(server, "/pay", {"sum": 8}, idempotency_key='"order-7"').status_code == 422
    assert len((server.home / "charged").read_text()) == 1


def test_a_key_before_our_proxy_is_one_request_behind_it_whatever_the_proxy_had_to_try_again(server: Process) -> None:
    for n in range(4):  # one of the two servers is not there: who dials it is sent to the other, and nobody is asked twice
        answers = [post(server, f"/bank/{n}", {"sum": 7}, idempotency_key=f'"pay-{n}"') for _ in range(2)]
        assert [(one.status_code, one.text) for one in answers] == [(201, "paid")] * 2
        assert "idempotent-replayed" not in answers[0].headers and answers[1].headers["idempotent-replayed"] == "true"
    assert Bank.asked == [f"/bank/{n}" for n in range(4)]


def test_what_broke_off_behind_our_proxy_is_neither_tried_again_nor_said_to_be_done(server: Process) -> None:
    Bank.asked.clear()
    first, second = (post(server, "/bank/break", {"sum": 7}, idempotency_key='"pay-break"') for _ in range(2))
    assert first.status_code == 502 and second.status_code == 409 and "outcome unknown" in second.text
    assert Bank.asked == ["/bank/break"]


def test_a_publish_with_a_key_is_one_event_however_often_it_is_sent(server: Process) -> None:
    sent = [post(server, "/once/keyed", {"n": n}, idempotency_key='"event-1"') for n in (1, 1, 2)]
    assert [one.status_code for one in sent] == [204, 204, 422]
    assert sent[1].headers["stream-next-offset"] == sent[0].headers["stream-next-offset"]
    assert get(server, "/once/keyed?offset=-1").json() == [{"n": 1}]


def test_what_goes_out_with_the_applications_transaction(server: Process) -> None:
    for how in ("commit", "rollback"):
        assert get(server, f"/order/{how}").status_code == 204
    eventually(lambda: get(server, "/t/ordered").json() == [{"commit": True}], what="the committed event", seconds=20)
    eventually(lambda: {"n": 100} in get(server, "/t/built").json(), what="the committed job", seconds=20)
    assert {"n": 999} not in get(server, "/t/built").json()


def test_nothing_acknowledged_is_lost_when_workers_and_the_keeper_are_killed(server: Process) -> None:
    acknowledged: list[int] = []
    stop = threading.Event()

    def publish() -> None:
        n = 0
        producer = {"producer-id": "p", "producer-epoch": "0", "content-type": "application/json"}
        while not stop.is_set():
            try:
                done = httpx.post(f"{server.url.rstrip('/')}/t/kept", content=str(n), timeout=5,
                                  headers={**producer, "producer-seq": str(n)})  # fmt: skip
            except httpx.HTTPError:
                continue  # the same again: a producer's retry is no duplicate
            if done.status_code in (200, 204):
                acknowledged.append(n)
                n += 1

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for _ in range(2):
            before = len(acknowledged)
            eventually(lambda before=before: len(acknowledged) > before + 20, what="more events", seconds=30)
            for pid in worker_pids(server.pid)[:2]:
                os.kill(pid, signal.SIGKILL)
        before = len(acknowledged)
        eventually(lambda: len(acknowledged) > before + 20, what="more events", seconds=30)
    finally:
        stop.set()
        thread.join()
    deadline = time.monotonic() + 20
    read: list[int] = []
    after = "-1"
    while time.monotonic() < deadline:
        got = get(server, f"/t/kept?offset={after}")
        read += got.json()
        after = got.headers["stream-next-offset"]
        if "stream-up-to-date" in got.headers:
            break
    assert read[: len(acknowledged)] == acknowledged and len(read) <= len(acknowledged) + 1
