"""Sessions of a real server, in a worker, in the store and in a token: what a restart of the workers does to each."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from peers import Real
from processes import Process, eventually
from test_process import worker_pids

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "sessions"
FLASK = """
from flask import Flask, request
app = Flask(__name__)
@app.get("/<path:path>")
def visit(path):
    session = request.environ["fairlead.session"]
    session["visits"] = session.get("visits", 0) + 1
    return {"visits": session["visits"]}
"""
MORE = """
[[route]]
path = "/flask/*"
app = { target = "web:app", dir = ".", interface = "wsgi" }
filters = [ { session = { cookie = "in-flask" } } ]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    """The example, and a Flask application beside it."""
    config = (EXAMPLE / "fairlead.toml").read_text().replace("127.0.0.1:8000", "127.0.0.1:@PORT@") + MORE
    files = {"app.py": (EXAMPLE / "app.py").read_text(), "web.py": FLASK}
    with Real() as peers:
        started = peers.fairlead(config=config, files=files, env={"SESSION_SECRET": "secret " * 6})
        started.says("Ctrl-C")
        yield started
        started.kill()  # at once: who follows would be waited for


def test_a_restart_forgets_what_was_in_a_workers_memory_and_nothing_else(server: Process) -> None:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for visits in (1, 2, 3):
            assert [client.get(f"/{where}/").json()["visits"] for where in ("worker", "store", "token", "flask")] == [visits] * 4
        before = set(worker_pids(server.pid))
        asked = client.get("/worker/").json()["worker"]
        assert asked in before
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: (now := set(worker_pids(server.pid))) and not now & before, what="new workers", seconds=60)
        answered = lambda: httpx.get(f"{server.url}/store/", timeout=60).status_code == 200  # noqa: E731  who comes too early waits
        eventually(answered, what="an answer", seconds=60)
        assert client.get("/worker/").json()["visits"] == 1
        assert [client.get(f"/{where}/").json()["visits"] for where in ("store", "token", "flask")] == [4] * 3


@pytest.mark.parametrize("where", ["store", "token"])
def test_logging_in_and_out_and_out_everywhere(server: Process, where: str) -> None:
    at: Any = {"base_url": f"{server.url}/{where}", "timeout": 60}
    with httpx.Client(**at) as one, httpx.Client(**at) as two:
        one.get("/")
        before = one.cookies[f"in-{where}"]
        assert one.get("/login?name=ann").json()["who"] == "ann" and one.cookies[f"in-{where}"] != before
        two.get("/login?name=ann")
        stolen = httpx.get(f"{server.url}/{where}/", cookies={f"in-{where}": before}, timeout=60).json()
        assert stolen["visits"] == 1 and not stolen["who"]
        assert one.get("/").json() | {"worker": 0} == {"visits": 2, "who": "ann", "worker": 0}
        one.get("/logout-everywhere")
        assert [client.get("/").json()["who"] for client in (one, two)] == ["", ""]
        two.get("/logout")
        assert f"in-{where}" not in two.cookies
