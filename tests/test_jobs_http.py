"""The job route as its clients see it: asking, waiting, looking, cancelling, what is refused."""

import asyncio
import json

import pytest

from enginesuite import open_here
from fairlead.core.errors import NetError
from fairlead.serve.jobhttp import JobRoute
from fairlead.serve.jobrun import current_job
from fairlead.serve.jobs import JobKind, JobOptions, Jobs
from fairlead.serve.jobwork import Work
from recorder import Named, Peer


async def add(a, b=0):
    return a + b


async def broken():
    raise ValueError("no")


async def slow():
    await current_job().progress({"at": 1})
    await asyncio.sleep(60)


class Client:
    """Asks the route over a recorded connection."""

    def __init__(self, jobs):
        self.jobs = jobs
        self.followed, self.hooks = [], []
        self.peer = None

    async def webhook(self, row, url):
        self.hooks.append((row.id, url))

    def follow(self, exchange, topic):
        self.followed.append(topic)

    async def ask(self, method, path, body=None, *, kind="add", raw=None, principal=None, **headers):
        route = JobRoute(self.jobs, kind, "/jobs", follow=self.follow, webhook=self.webhook)
        peer = self.peer = Peer(Named(route, principal))
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        peer.ask(method, path.encode(), fields, length=len(data))
        if data:
            peer.body(data, True)
        followed = len(self.followed)
        while peer.status is None and len(self.followed) == followed:
            await asyncio.sleep(0.001)
        return None if peer.status is None else Got(peer)


class Got:
    def __init__(self, peer):
        self.status = peer.status
        self.headers = {name.decode(): value.decode() for name, value in peer.codec.headers.items()}
        self.body = peer.answer

    @property
    def json(self):
        return json.loads(self.body)


def play(story, *functions, working=True):
    async def run():
        store = await open_here()
        jobs = Jobs(store)
        for function in functions:
            jobs.add(JobKind(function, function.__name__, JobOptions(retries=0, lease=1.0)))
        work = Work(jobs, dict.fromkeys(jobs.kinds, 4))
        if working:
            work.start()
        try:
            async with asyncio.timeout(20):
                await story(Client(jobs), work)
        finally:
            if working:
                await work.stop(0.0)
            await store.close()

    asyncio.run(run())


def test_asking_is_accepted_and_the_job_is_where_location_says():
    async def story(client, work):
        got = await client.ask("POST", "/jobs", {"a": 1, "b": 2})
        assert got.status == 202 and got.headers["retry-after"] == "1" and got.json["state"] == "queued"
        where = got.headers["location"]
        assert where == got.json["self"] == "/jobs/" + got.json["id"]
        got = await client.ask("GET", where, prefer="wait=10")
        while got.json["state"] != "succeeded":
            assert got.headers["preference-applied"] == "wait=10"
            got = await client.ask("GET", where, prefer="wait=10", if_none_match=got.headers["etag"])
        assert got.json["result"] == 3 and "retry-after" not in got.headers
        got = await client.ask("GET", where + "/result")
        assert (got.status, got.body, got.headers["content-location"]) == (200, b"3\n", where + "/result")

    play(story, add)


@pytest.mark.parametrize("how", ["its side", "drain"])
def test_who_is_waited_for_no_more_gets_what_there_is(how):
    async def story(client, work):
        asking = asyncio.create_task(client.ask("POST", "/jobs", prefer="wait=3600", kind="slow"))
        while client.peer is None or not client.jobs.hub.topics:
            await asyncio.sleep(0.001)
        if how == "drain":
            client.peer.conn.farewell()
        else:  # as a socket that is closed in the usual way looks: its end of file, and nothing more
            client.peer.conn.reset(1, NetError("the client closed its side", step="receive", status=499), "read")
        got = await asking
        assert got.status == 202 and got.headers["location"]

    play(story, slow)


def test_waiting_gives_the_outcome_itself_or_the_handle_when_time_is_up():
    async def story(client, work):
        got = await client.ask("POST", "/jobs", [20, 22], prefer="respond-async, wait=10")
        assert (got.status, got.body, got.headers["preference-applied"]) == (200, b"42\n", "wait=10")
        got = await client.ask("POST", "/jobs", prefer="wait=10", kind="broken")
        assert (got.status, got.json["title"], got.json["detail"]) == (500, "the job failed", "ValueError: no")
        assert got.headers["content-type"] == "application/problem+json" and got.headers["location"]
        got = await client.ask("POST", "/jobs", prefer="wait=0", kind="slow")
        assert got.status == 202 and got.headers["preference-applied"] == "wait=0"
        got = await client.ask("POST", "/jobs", prefer="respond-async")
        assert got.status == 202 and got.headers["preference-applied"] == "respond-async"

    play(story, add, broken, slow)


def test_a_long_poll_hears_of_progress_and_of_a_cancellation():
    async def story(client, work):
        got = await client.ask("POST", "/jobs", kind="slow")
        where = got.headers["location"]
        got = await client.ask("GET", where, kind="slow")
        while "progress" not in got.json:
            got = await client.ask("GET", where, kind="slow", prefer="wait=10", if_none_match=got.headers["etag"])
        got = await client.ask("GET", where, kind="slow", if_none_match=got.headers["etag"])
        assert got.status == 304 and got.body == b""
        got = await client.ask("GET", where + "/result", kind="slow")
        assert got.status == 409 and got.headers["retry-after"] == "1"
        waiting = asyncio.create_task(Client(client.jobs).ask("GET", where, kind="slow", prefer="wait=10"))
        await asyncio.sleep(0)
        got = await client.ask("DELETE", where, kind="slow")
        assert got.status == 202 and got.json["cancelling"] is True
        await waiting
        while (got := await client.ask("GET", where, kind="slow", prefer="wait=5")).json["state"] != "cancelled":
            pass
        assert (await client.ask("DELETE", where, kind="slow")).status == 409
        assert (await client.ask("GET", where + "/result", kind="slow")).status == 410

    play(story, slow)


def test_one_that_waits_is_cancelled_at_once():
    async def story(client, work):
        where = (await client.ask("POST", "/jobs", [1])).headers["location"]
        got = await client.ask("DELETE", where)
        assert got.status == 200 and got.json["state"] == "cancelled"

    play(story, add, working=False)


def test_a_client_that_leaves_while_it_waits_holds_nothing():
    async def story(client, work):
        where = (await client.ask("POST", "/jobs", [1])).headers["location"]
        waiting = asyncio.create_task(client.ask("GET", where, prefer="wait=60"))
        while not client.jobs.hub.topics:
            await asyncio.sleep(0.001)
        client.peer.leave()
        await client.jobs.cancel("add", where.rpartition("/")[2])  # the change wakes it
        while client.jobs.hub.topics:
            await asyncio.sleep(0.001)
        waiting.cancel()

    play(story, add, working=False)


def test_the_events_are_a_topic():
    async def story(client, work):
        where = (await client.ask("POST", "/jobs", [1])).headers["location"]
        await client.ask("GET", where + "/events")
        name = where.rpartition("/")[2]
        assert client.followed == [f"$job/add/{name}"]
        assert (await client.jobs.store.log.head(f"$job/add/{name}")).last.seq == 1

    play(story, add, working=False)


def test_the_options_of_a_submit():
    async def story(client, work):
        one = await client.ask("POST", "/jobs", [1], fairlead_unique="x", fairlead_delay="60")
        two = await client.ask("POST", "/jobs", [2], fairlead_unique="x")
        assert one.json["id"] == two.json["id"] and one.json["due"] > one.json["created"] + 59
        await client.ask("POST", "/jobs", [1], fairlead_webhook="https://h.example/in")
        assert client.hooks[0][1] == "https://h.example/in"
        assert (await client.ask("POST", "/jobs", [1], fairlead_delay="soon")).status == 400

    play(story, add, working=False)


def test_a_job_is_its_owners():
    async def story(client, work):
        where = (await client.ask("POST", "/jobs", [1], principal="ann")).headers["location"]
        assert (await client.ask("GET", where, principal="ann")).status == 200
        for principal in ("bob", None):
            for method in ("GET", "DELETE"):
                assert (await client.ask(method, where, principal=principal)).status == 404

    play(story, add, working=False)


@pytest.mark.parametrize(
    ("body", "kind", "args"),
    [
        (b"", "application/json", [[], {}]), (b"[1, 2]", "application/json", [[1, 2], {}]), (b"7", "application/json", [[7], {}]),
        (b'{"a": 1}', "application/vnd.x+json; charset=utf-8", [[], {"a": 1}]), (b"hi", "text/plain", [["hi"], {}]),
    ],
)  # fmt: skip
def test_what_a_body_means(body, kind, args):
    async def story(client, work):
        got = await client.ask("POST", "/jobs", raw=body, content_type=kind)
        assert (await client.jobs.get("add", got.json["id"])).args == args

    play(story, add, working=False)


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "said"),
    [
        ("POST", "/jobs", {"raw": b"{", "content_type": "application/json"}, 400, "not JSON"),
        ("POST", "/jobs", {"raw": b"[" * 100000}, 400, "not JSON"),
        ("POST", "/jobs", {"raw": b"\xff\xd8", "content_type": "image/jpeg"}, 415, "not image/jpeg"),
        ("POST", "/jobs", {"raw": b'"' + b"x" * 262144 + b'"'}, 413, "too long"),
        ("GET", "/jobs", {}, 405, "POST is"),
        ("PUT", "/jobs/x", {}, 405, "GET, HEAD, DELETE is"),
        ("GET", "/jobs/nobody", {}, 404, "there is no job nobody"),
        ("GET", "/jobs/" + "x" * 5000, {}, 404, "there is no job"),
        ("GET", "/jobs/x/other", {}, 404, "/result and /events"),
    ],
)
def test_what_is_refused(method, path, more, status, said):
    async def story(client, work):
        got = await client.ask(method, path, **more)
        assert got.status == status and said in got.body.decode()

    play(story, add, working=False)
