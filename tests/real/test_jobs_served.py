"""Jobs as a server has them: beside the workers, in processes of their own, and alone; by HTTP and by the command line.

What a job's code sees of its process says where it ran. `Prefer: respond-async` makes a job of a request to any application.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from peers import Real, surroundings
from processes import Process, eventually

APP = """
import asyncio, os, sys, fairlead

@fairlead.job(retries=1, backoff=0.0, lease=2.0)
async def build(n=1, fail=False, slow=0):
    for at in range(10 * slow):
        await fairlead.current_job().progress({"at": at})
        await asyncio.sleep(0.1)
    if fail and not os.path.exists("mended"):
        raise ValueError("not yet")
    return {"n": n, "pid": os.getpid()}

@fairlead.job(name="other")
def inside():
    return os.getpid()

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    headers = dict(scope["headers"])
    if scope["path"] == "/app/submit":
        said = str(await (await inside.submit()).result(20))
    elif scope["path"] == "/app/gone":
        said = (await receive())["type"]
        open("gone", "w").write(said)
    else:
        said = repr([scope["method"], scope["path"], scope["query_string"], scope["client"][0], headers.get(b"x-mine"), body,
                     b"prefer" in headers, scope["scheme"], headers.get(b"host", b"").split(b":")[0]])
    await send({"type": "http.response.start", "status": 201, "headers": [(b"x-pid", b"%d" % os.getpid()), (b"x-said", b"yes")]})
    await send({"type": "http.response.body", "body": said.encode()})
"""
FILE = """
[server]
workers = 1
pattern = "@PATTERN@"
grace = "5s"
[store]
url = "sqlite:///@FOLDER@/store.db"
[jobs]
workers = @JOBS@
[[listener]]
bind = "127.0.0.1:@PORT@"
[[route]]
path = "/jobs/build"
job = { run = "work:build", dir = "@FOLDER@" }
filters = [ { idempotency = {} } ]
[[route]]
path = "/who/*"
app = { target = "work:app", dir = "@FOLDER@" }
filters = [ { basic = { users = { ann = "env:SECRET", bob = "env:SECRET" } } }, "respond-async" ]
[[route]]
path = "/app/*"
app = { target = "work:app", dir = "@FOLDER@" }
filters = [ { respond-async = { body = "1KiB", at = "/later" } } ]
"""


def file_of(pattern: str, jobs: int) -> str:
    return FILE.replace("@PATTERN@", pattern).replace("@JOBS@", str(jobs))


SHAPES = [("single", 0), ("dispatch", 0), ("dispatch", 1)]  # pattern, processes for jobs


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: f"{shape[0]}-{shape[1]}")
def server(request: pytest.FixtureRequest) -> Iterator[Process]:
    """One server of each kind for all tests of this file."""
    with Real() as peers:
        started = peers.fairlead(config=file_of(*request.param), files={"work.py": APP}, env={"SECRET": "secret"})
        started.says("Ctrl-C")
        started.kind = request.param
        yield started


def ours(server: Process) -> dict[str, str]:
    """Surroundings in which this server is meant, whoever else's runs on the machine."""
    admin = {"FAIRLEAD_ADMIN": f"unix:{server.home}/fairlead-{server.port}.sock"}
    return {**os.environ, **surroundings(server.home), **admin}


def command(server: Process, *words: str, code: int = 0) -> str:
    """`fairlead job …` in the server's surroundings: what it printed."""
    done = subprocess.run([sys.executable, "-m", "fairlead", "job", *words], capture_output=True, text=True, timeout=60,
                          cwd=server.home, env=ours(server))  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def url(server: Process, path: str) -> str:
    return server.url.rstrip("/") + path


def status(server: Process) -> dict:
    done = subprocess.run([sys.executable, "-m", "fairlead", "status", "--json"], capture_output=True, text=True, timeout=60,
                          env=ours(server))  # fmt: skip
    return json.loads(done.stdout)


def test_code_runs_where_it_should_and_never_in_a_front(server: Process) -> None:
    pattern, jobs = server.kind
    got = httpx.post(url(server, "/jobs/build"), json={"n": 7}, headers={"prefer": "wait=20"}, timeout=30)
    assert got.status_code == 200 and got.json()["n"] == 7, got.text
    inside = int(httpx.get(url(server, "/app/submit"), timeout=30).text)
    kinds = {one["pid"]: one["kind"] for one in status(server)["workers"]}
    wanted = "jobs" if jobs else "worker"
    assert kinds[got.json()["pid"]] == kinds[inside] == wanted
    assert sorted(kinds.values()) == sorted(["worker", *["jobs"] * jobs, *["front"] * (pattern == "dispatch")])


def test_a_request_that_prefers_so_is_a_job(server: Process) -> None:
    asked = httpx.post(url(server, "/app/x%20y?q=1"), content=b"body", timeout=30,
                       headers={"prefer": "respond-async", "x-mine": "m"})  # fmt: skip
    assert asked.status_code == 202 and asked.headers["preference-applied"] == "respond-async"
    where = asked.headers["location"]
    assert where.startswith("/later/") and asked.headers["retry-after"] == "1" and asked.json()["state"] == "queued"
    final = httpx.get(url(server, where), headers={"prefer": "wait=20"}, timeout=30).json()
    while final["state"] not in ("succeeded", "failed"):
        final = httpx.get(url(server, where), headers={"prefer": "wait=20"}, timeout=30).json()
    assert final["state"] == "succeeded" and final["result"] == f"{where}/result", final
    made = httpx.get(url(server, where + "/result"), timeout=30)
    assert made.status_code == 201 and made.headers["x-said"] == "yes"
    seen = ["POST", "/app/x y", b"q=1", "127.0.0.1", b"m", b"body", False, "http", b"127.0.0.1"]
    assert made.text == repr(seen)
    kinds = {one["pid"]: one["kind"] for one in status(server)["workers"]}
    assert kinds[int(made.headers["x-pid"])] == ("jobs" if server.kind[1] else "worker")
    at_once = httpx.post(url(server, "/app/z"), headers={"prefer": "respond-async, wait=20"}, timeout=30)
    assert at_once.status_code == 201 and at_once.headers["preference-applied"] == "wait=20"
    plain = httpx.post(url(server, "/app/z"), timeout=30)
    assert plain.status_code == 201 and "preference-applied" not in plain.headers
    large = httpx.post(url(server, "/app/z"), content=b"x" * 2000, headers={"prefer": "respond-async"}, timeout=30)
    assert large.status_code == 413
    assert httpx.post(url(server, where), timeout=30).status_code == 405
    assert httpx.get(url(server, "/later/none"), timeout=30).status_code == 404


def test_it_is_its_owners_and_can_be_cancelled(server: Process) -> None:
    ann, bob = ("ann", "secret"), ("bob", "secret")
    asked = httpx.get(url(server, "/who/me"), headers={"prefer": "respond-async"}, auth=ann, timeout=30)
    assert asked.status_code == 202
    where = url(server, asked.headers["location"])
    codes = [httpx.get(where, auth=auth, timeout=30).status_code for auth in (ann, bob, None)]
    assert codes == [200, 404, 401]
    slow = httpx.get(url(server, "/app/gone"), headers={"prefer": "respond-async"}, timeout=30).headers["location"]
    eventually(lambda: httpx.get(url(server, slow), timeout=30).json()["state"] == "running")
    assert httpx.delete(url(server, slow), timeout=30).status_code == 202
    eventually(lambda: httpx.get(url(server, slow), timeout=30).json()["state"] == "cancelled")
    gone = Path(server.home, "gone")
    eventually(lambda: gone.exists() and gone.read_text() == "http.disconnect")
    assert httpx.get(url(server, slow + "/result"), timeout=30).status_code == 410
    gone.unlink()


@pytest.mark.parametrize("server", [("dispatch", 1)], indirect=True, ids=lambda shape: f"{shape[0]}-{shape[1]}")
def test_the_command_line(server: Process) -> None:
    base = url(server, "/jobs/build")
    assert json.loads(command(server, "submit", base, '{"n": 3}', "--wait", "20s"))["n"] == 3
    twice = [command(server, "submit", base, '{"n": 4, "slow": 1}', "--key", "once").strip() for _ in range(2)]
    assert twice[0] == twice[1] and twice[0].startswith(base + "/")
    job = twice[0]
    other = httpx.post(base, json={"n": 5}, headers={"idempotency-key": '"once"'}, timeout=30)
    assert other.status_code == 422
    assert json.loads(command(server, "wait", job, "--timeout", "30s"))["n"] == 4
    assert command(server, "status", job).startswith("succeeded   attempt 1   work:build ")
    assert "the job is succeeded already" in command(server, "cancel", job, code=1)
    failing = command(server, "submit", base, '{"fail": true}').strip()
    assert "the job failed: ValueError: not yet" in command(server, "wait", failing, code=1)
    name = failing.rpartition("/")[2]
    shown = json.loads(command(server, "status", "--json"))
    (kind,) = [one for one in shown["kinds"] if one["kind"] == "work:build"]
    assert name in [one["id"] for one in kind["letters"]] and kind["dead"] >= 1 and shown["silent"] == 0
    assert [one["error"] for one in shown["tried"] if one["id"] == name] == ["ValueError: not yet"] * 2
    assert "work:build" in command(server, "status")
    mended = Path(server.home, "mended")
    mended.touch()
    assert command(server, "redrive", "work:build", name) == "1 queued again\n"
    assert json.loads(command(server, "wait", failing))["n"] == 1
    mended.unlink()
    assert "is succeeded" in command(server, "redrive", failing, code=1)
    assert "no URL of a server" in command(server, "status", "ftp://x/", code=2)
    assert "does not answer" in command(server, "status", "http://127.0.0.1:1/jobs/x", code=1)
    assert "there is no job nope" in command(server, "status", base + "/nope", code=1)


def test_workers_alone_beside_a_server_that_runs_none() -> None:
    with Real() as peers:
        config = file_of("single", 0).replace('pattern = "single"', 'pattern = "dispatch"')
        files = {"work.py": APP, "extra.py": EXTRA}
        server = peers.fairlead(config=config, files=files, env={"SECRET": "secret"})
        server.says("Ctrl-C")
        words = ["job", "workers", "extra", "--store", f"sqlite:///{server.home}/store.db", "-w", "1", "--dir", str(server.home)]
        alone = peers.run(sys.executable, "-m", "fairlead", *words, env=surroundings(server.home))
        alone.says("Ctrl-C")
        assert "1 process for jobs" in alone.text()
        # no route of the server has this code, so it is asked for by a submit to the store
        job = subprocess.run([sys.executable, "-c", SUBMIT], cwd=server.home, capture_output=True, text=True, timeout=60,
                             env={**os.environ, **surroundings(server.home)})  # fmt: skip
        assert job.returncode == 0, job.stderr
        eventually(lambda: Path(alone.home, "ran").exists())
        alone.signal(signal.SIGTERM)
        assert alone.wait() == 0


EXTRA = """
import fairlead
@fairlead.job
def away():
    open("ran", "w").write("x")
"""
SUBMIT = """
import asyncio
from fairlead.run.jobalone import keeper_of
from fairlead.serve.jobs import Jobs
from fairlead.store.open import open_store
import os
async def main():
    url = f"sqlite:///{os.getcwd()}/store.db"
    store = await open_store(url, keepers={url: keeper_of(url)})
    await Jobs(store).submit("extra:away")
    await store.close()
asyncio.run(main())
"""
