"""Jobs and kill -9: everything that has to do with them is killed under load; and jobs that kill, or eat, their own process."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
from peers import Real
from processes import eventually

ROOT = Path(__file__).resolve().parents[2]
APP = """
import asyncio, os, fairlead

@fairlead.job(retries=1, backoff=0.0, lease=1.0)
async def poison():
    with open("poisoned", "a") as file:
        file.write("x")
    os.kill(os.getpid(), 9)

@fairlead.job(retries=1, backoff=0.0, lease=5.0)
async def hungry():
    with open("fed", "a") as file:
        file.write("x")
    held = b"x" * 400_000_000
    await asyncio.sleep(600)
    return len(held)

def fine():
    return "fine"
"""
FILE = """
[server]
workers = 1
grace = "0s"
[store]
url = "memory:"
[jobs]
workers = 1
max_memory = "300MiB"
[[listener]]
bind = "127.0.0.1:@PORT@"
"""


def test_nothing_accepted_is_lost_and_nothing_runs_twice_at_once_whoever_is_killed() -> None:
    command = [sys.executable, "-P", str(ROOT / "scripts" / "jobkills"), "--seconds", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, start_new_session=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_job_that_ends_its_process_and_one_that_eats_its_memory_are_dead_letters_and_not_loops() -> None:
    names = ("poison", "hungry", "fine")
    routes = "".join(f'[[route]]\npath = "/{name}"\njob = {{ run = "work:{name}", dir = "@FOLDER@" }}\n' for name in names)
    with Real() as peers:
        server = peers.fairlead(config=FILE + routes, files={"work.py": APP})
        server.says("Ctrl-C")
        base = server.url.rstrip("/")
        for name, said in (("poison", "its worker was lost"), ("hungry", "its process grew above")):
            where = base + httpx.post(f"{base}/{name}", timeout=20).headers["location"]

            def row(where: str = where) -> dict:
                return json.loads(httpx.get(where, timeout=20).text)

            eventually(lambda: row()["state"] == "failed", 60)
            assert said in row()["error"] and row()["attempt"] == 2
        assert [len(Path(server.home, name).read_text()) for name in ("poisoned", "fed")] == [2, 2]
        assert httpx.post(f"{base}/fine", headers={"prefer": "wait=20"}, timeout=30).text == '"fine"\n'
