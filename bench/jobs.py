"""No-op jobs: how many a second from submit to outcome, beside Celery and procrastinate; and how soon one starts.

    python bench/jobs.py [--jobs 4000] [--store sqlite,redis,postgres] [--peers PYTHON] [--rounds 3]

One process submits, with as much concurrency as its library offers, while two processes work; the clock runs from the first submit
until the last outcome is in the store. Celery: prefork, two processes, JSON results kept in Redis, with prefetch as its guide
says for short tasks, and with `task_acks_late` (a killed worker then loses nothing, which is Fairlead's promise on every store);
and two workers of 32 threads each, which overlap their waits for the disk. Twenty threads submit. procrastinate: two asyncio
workers, concurrency 20. The same Redis (append-only file, fsync always) and PostgreSQL (fsync) serve both sides. `--peers` is a
Python that has celery[redis] and procrastinate. Everything shares the machine: read ratios, not absolutes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "store"))

CELERY = """
import os
from celery import Celery
app = Celery("tasks", broker=os.environ["STORE"], backend=os.environ["STORE"])
app.conf.update(task_acks_late=os.environ.get("LATE") == "1", task_ignore_result=False, worker_prefetch_multiplier=64)
@app.task
def noop(n):
    return n
"""
CELERY_RUN = """
import os, sys, time, redis
from concurrent.futures import ThreadPoolExecutor
from tasks import noop
n, link = int(sys.argv[1]), redis.Redis.from_url(os.environ["STORE"])
noop.delay(-1).get(timeout=60)
before = sum(1 for _ in link.scan_iter("celery-task-meta-*", 10000))
began = time.time()
with ThreadPoolExecutor(20) as pool:
    list(pool.map(noop.delay, range(n)))
submitted = time.time() - began
while sum(1 for _ in link.scan_iter("celery-task-meta-*", 10000)) < before + n:
    time.sleep(0.02)
print(n / submitted, n / (time.time() - began))
"""
PROCRASTINATE = """
import os, procrastinate
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["STORE"], max_size=20))
@app.task(name="noop")
async def noop(n):
    return n
"""
PROCRASTINATE_RUN = """
import asyncio, sys, time
from ptasks import app, noop
async def main(n):
    async with app.open_async():
        async def count():
            rows = await app.connector.execute_query_one_async("SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'")
            return rows["count"]
        await noop.defer_async(n=-1)
        while not (before := await count()):
            await asyncio.sleep(0.05)
        began = time.time()
        async def some(k):
            for i in range(k, n, 20):
                await noop.defer_async(n=i)
        await asyncio.gather(*(some(k) for k in range(20)))
        submitted = time.time() - began
        while await count() < before + n:
            await asyncio.sleep(0.02)
        print(n / submitted, n / (time.time() - began))
asyncio.run(main(int(sys.argv[1])))
"""


async def opened(url: str, keeper: str):
    """The store, and the jobs in it."""
    from fairlead.serve.jobs import JobKind, JobOptions, Jobs
    from fairlead.store.open import open_store

    async def noop(n: int) -> int:
        STARTED[n] = time.perf_counter()
        return n

    store = await open_store(url, keepers={url: keeper} if keeper else None)
    jobs = Jobs(store)
    jobs.add(JobKind(noop, "noop", JobOptions()))
    return store, jobs


STARTED: dict[int, float] = {}


async def work(url: str, keeper: str) -> None:
    """A worker, until somebody ends it."""
    from fairlead.serve.jobwork import Work

    _, jobs = await opened(url, keeper)
    Work(jobs, {"noop": 64}).start()
    print("ready", flush=True)
    await asyncio.sleep(3600)


async def submit(url: str, keeper: str, n: int) -> tuple[float, float]:
    """(submits, jobs) a second."""
    store, jobs = await opened(url, keeper)
    first = await jobs.submit("noop", [-1])
    await jobs.wait("noop", first.id, 30.0)
    began = time.time()

    async def some(k: int) -> None:
        for i in range(k, n, 100):
            await jobs.submit("noop", [i])

    await asyncio.gather(*(some(k) for k in range(100)))
    submitted = time.time() - began
    while True:
        depth = await store.leases.depth("jobs/noop")
        if not (depth.ready or depth.leased or depth.delayed):
            break
        await asyncio.sleep(0.02)
    took = time.time() - began
    await store.close()
    return n / submitted, n / took


async def latency(url: str, keeper: str) -> list[float]:
    """Milliseconds from a submit to the first line of the code, worker and submitter at rest in one process, 300 times."""
    from fairlead.serve.jobwork import Work

    STARTED.clear()  # another store's
    store, jobs = await opened(url, keeper)
    worker = Work(jobs, {"noop": 4})
    worker.start()
    found = []
    for n in range(300):
        began = time.perf_counter()
        await jobs.submit("noop", [n])
        while n not in STARTED:
            await asyncio.sleep(0.0002)
        found.append((STARTED[n] - began) * 1e3)
        await asyncio.sleep(0.005)
    await worker.stop(1.0)
    await store.close()
    return sorted(found)


def ours(url: str, keeper: str, n: int) -> tuple[float, float]:
    """Two workers and a submitter."""
    me = [sys.executable, "-P", __file__, "--store", url, "--keeper", keeper]
    workers = [subprocess.Popen([*me, "--role", "work"], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for one in workers:
            assert one.stdout is not None
            one.stdout.readline()
        done = subprocess.run([*me, "--role", "submit", "--jobs", str(n)], capture_output=True, text=True, check=True)
    finally:
        for one in workers:
            one.terminate()
            one.wait()
    first, second = done.stdout.split()
    return float(first), float(second)


def theirs(python: str, url: str, n: int, late: bool = False, threads: bool = False) -> tuple[float, float]:
    """Celery for redis:, procrastinate for postgresql:."""
    with tempfile.TemporaryDirectory(prefix="fl-bench-") as folder:
        env = {**os.environ, "STORE": url, "LATE": str(int(late)), "PYTHONPATH": folder}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": env, "cwd": folder}
        if url.startswith("redis"):
            Path(folder, "tasks.py").write_text(CELERY)
            pool = ["-P", "threads", "-c", "32"] if threads else ["-c", "2"]
            quietly = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR"]
            command, run, count = [python, "-m", "celery", "-A", "tasks", "worker", *pool, *quietly], CELERY_RUN, 1 + threads
        else:
            Path(folder, "ptasks.py").write_text(PROCRASTINATE)
            schema = [python, "-m", "procrastinate", "--app=ptasks.app", "schema", "--apply"]
            subprocess.run(schema, check=False, **quiet)  # there already in a second round
            command, run, count = [python, "-m", "procrastinate", "--app=ptasks.app", "worker", "-c", "20"], PROCRASTINATE_RUN, 2
        named = [["-n", f"w{n}"] if count == 2 and url.startswith("redis") else [] for n in range(count)]
        workers = [subprocess.Popen([*command, *name], start_new_session=True, **quiet) for name in named]
        try:
            done = subprocess.run([python, "-c", run, str(n)], capture_output=True, text=True, env=env, cwd=folder)
            if done.returncode:
                raise SystemExit(done.stderr)
        finally:
            for one in workers:
                one.terminate()
            for one in workers:
                one.wait()
    first, second = done.stdout.split()
    return float(first), float(second)


def shown(name: str, found: list[tuple[float, float]]) -> float:
    """One row; the median of jobs a second."""
    rates = [one[1] for one in found]
    middle = statistics.median(rates)
    submits = statistics.median(one[0] for one in found)
    print(f"| {name} | {submits:,.0f} | {middle:,.0f} ({min(rates):,.0f} to {max(rates):,.0f}) |", flush=True)
    return middle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=4000)
    parser.add_argument("--store", default="sqlite,redis,postgres")
    parser.add_argument("--peers", default="", help="a Python with celery[redis] and procrastinate")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--role", default="")
    parser.add_argument("--keeper", default="")
    given = parser.parse_args()
    if given.role == "work":
        asyncio.run(work(given.store, given.keeper))
    elif given.role == "submit":
        print(*asyncio.run(submit(given.store, given.keeper, given.jobs)))
    else:
        measure(given)


def measure(given: argparse.Namespace) -> None:
    """All of it."""
    import servers

    from fairlead.store.suite.kept import KeeperProcess

    print("| jobs | submits/s | jobs/s, submit to outcome |\n| --- | ---: | ---: |")
    for name in given.store.split(","):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fl-bench-")))
            keeper = ""
            if name == "sqlite":
                url = f"sqlite:///{folder}/bench.db"
                keeper = stack.enter_context(KeeperProcess(url, folder)).address
            else:
                made = servers.PostgresServer(folder / "pg") if name == "postgres" else servers.RedisServer(folder / "redis")
                url = stack.enter_context(servers.running(made)).url
            rounds: dict[str, list[tuple[float, float]]] = {}
            for _ in range(given.rounds):
                rounds.setdefault(f"Fairlead on {name}", []).append(ours(url, keeper, given.jobs))
                if given.peers and name == "redis":
                    rounds.setdefault("Celery on redis", []).append(theirs(given.peers, url, given.jobs // 4))
                    rounds.setdefault("Celery on redis, acks late", []).append(theirs(given.peers, url, given.jobs // 4, True))
                    many = theirs(given.peers, url, given.jobs // 4, True, True)
                    rounds.setdefault("Celery on redis, acks late, 2 x 32 threads", []).append(many)
                elif given.peers and name == "postgres":
                    rounds.setdefault("procrastinate on postgres", []).append(theirs(given.peers, url, given.jobs // 4))
            middles = {one: shown(one, found) for one, found in rounds.items()}
            first = next(iter(middles.values()))
            for one, middle in list(middles.items())[1:]:
                print(f"  {one}: Fairlead does {first / middle:.1f} x as many")
            waits = asyncio.run(latency(url, keeper))
            print(f"  submit to start on {name}: p50 {waits[150]:.2f} ms, p99 {waits[297]:.2f} ms", flush=True)


if __name__ == "__main__":
    main()
