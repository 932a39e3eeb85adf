"""serve.blocking: lanes of threads, their queue, and what the loop hears of them."""

import asyncio
import threading

import pytest

from fairlead.core.slab import Slab
from fairlead.net.poll import Poller
from fairlead.serve.blocking import Executor, Job, Lane, Pool


def run(scenario):
    """Run an async test with a poller on a fresh loop; every lane is shut after it."""

    async def main():
        poller = Poller(asyncio.get_running_loop())
        try:
            await asyncio.wait_for(scenario(poller), 20)
        finally:
            poller.close()

    asyncio.run(main())


async def until(condition):
    """Let the loop turn until something holds."""
    while not condition():
        await asyncio.sleep(0.001)


class Note(Job):
    """Says what a function gives; `heard` is what came back, `thread` who did it."""

    def __init__(self, lane, function, now=False):
        self.lane, self.function, self.now = lane, function, now
        self.heard, self.thread = [], None

    def run(self):
        self.thread = threading.current_thread()
        self.lane.say(self, 1, self.function(), self.now)

    def hear(self, word, value):
        self.heard.append((word, value, threading.current_thread()))


def test_a_job_runs_in_a_thread_and_is_heard_on_the_loop():
    async def scenario(poller):
        lane = Lane("app", 4, 10, poller)
        job = Note(lane, lambda: 6 * 7)
        assert lane.put(job)
        await until(lambda: job.heard)
        assert job.heard == [(1, 42, threading.current_thread())]
        assert job.thread.name == "fairlead-app" and job.thread.daemon
        assert job.queued <= job.started and lane.jobs == 1 and lane.waiting == 0
        lane.shut()

    run(scenario)


def test_short_jobs_share_one_thread_and_one_wake_up():
    async def scenario(poller):
        lane = Lane("app", 40, 1000, poller)
        jobs = [Note(lane, lambda n=n: n) for n in range(200)]
        assert all([lane.put(job) for job in jobs])
        await until(lambda: all(job.heard for job in jobs))
        assert [job.heard[0][1] for job in jobs] == list(range(200))
        assert lane.jobs == 200 and lane.threads < 40
        lane.shut()

    run(scenario)


def test_jobs_that_block_get_more_threads_up_to_the_limit_and_the_rest_waits_its_turn():
    async def scenario(poller):
        lane = Lane("app", 3, 10, poller)
        gate = threading.Event()
        jobs = [Note(lane, gate.wait) for _ in range(8)]
        for job in jobs:
            lane.put(job)
        await until(lambda: sum(job.thread is not None for job in jobs) == 3)
        assert lane.threads == lane.busy == 3 and lane.waiting == 5
        gate.set()
        await until(lambda: all(job.heard for job in jobs))
        assert lane.threads == 3 and lane.longest > 0 and lane.waited >= lane.longest
        lane.shut()

    run(scenario)


def test_a_full_queue_refuses_and_counts():
    async def scenario(poller):
        lane = Lane("app", 1, 2, poller)
        gate = threading.Event()
        first = Note(lane, gate.wait)
        lane.put(first)
        await until(lambda: first.thread is not None)
        assert [lane.put(Note(lane, gate.wait)) for _ in range(4)] == [True, True, False, False]
        assert lane.refused == 2
        gate.set()
        await until(lambda: lane.jobs == 3)
        lane.shut()

    run(scenario)


def test_a_word_before_a_job_that_blocks_does_not_wait_for_that_job():
    async def scenario(poller):
        lane = Lane("app", 1, 10, poller)
        gate = threading.Event()
        quick, slow = Note(lane, lambda: "quick"), Note(lane, gate.wait)
        lane.put(quick)
        lane.put(slow)
        await until(lambda: quick.heard)
        assert not slow.heard
        gate.set()
        await until(lambda: slow.heard)
        lane.shut()

    run(scenario)


def test_what_a_job_raises_does_not_end_its_thread(caplog):
    async def scenario(poller):
        lane = Lane("app", 1, 10, poller)
        after = Note(lane, lambda: "after")
        lane.put(Note(lane, lambda: 1 / 0))
        lane.put(after)
        await until(lambda: after.heard)
        lane.shut()

    run(scenario)
    assert "ZeroDivisionError" in caplog.text


def test_shutting_ends_the_threads_and_takes_no_more():
    async def scenario(poller):
        lane = Lane("app", 4, 10, poller)
        job = Note(lane, lambda: None)
        lane.put(job)
        await until(lambda: job.heard)
        lane.shut()
        lane.shut()
        assert not lane.put(Note(lane, lambda: None))
        job.thread.join(10)
        assert not job.thread.is_alive()

    run(scenario)


def test_asyncio_s_own_executor_is_a_lane_that_is_counted():
    async def scenario(poller):
        loop = asyncio.get_running_loop()
        pool = Pool(poller)
        loop.set_default_executor(pool.executor(2))
        gate = threading.Event()
        waiting = [asyncio.ensure_future(asyncio.to_thread(gate.wait)) for _ in range(5)]
        await until(lambda: pool.sums()["busy"] == 2)
        sums = pool.sums()
        assert (sums["threads"], sums["waiting"], sums["most"]) == (2, 3, 2)
        gate.set()
        assert await asyncio.gather(*waiting) == [True] * 5
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        assert pool.sums()["jobs"] == 6

    run(scenario)


def test_an_executor_that_was_shut_down_says_so_and_cancels_what_waited():
    executor = Executor(Lane("asyncio", 1))
    gate, begun = threading.Event(), threading.Event()
    first = executor.submit(lambda: (begun.set(), gate.wait()))
    begun.wait(10)
    second = executor.submit(lambda: None)
    executor.shutdown(wait=False)
    gate.set()
    assert first.result(10) and second.cancelled()
    with pytest.raises(RuntimeError, match="no more work"):
        executor.submit(lambda: None)


def test_the_sums_stand_in_the_slab_and_outlive_their_lane():
    async def scenario(poller):
        slab = Slab.create(1)
        region = slab.region(0)
        region.set("jobs", 100)
        pool = Pool(poller, region)
        lane = pool.lane("app", 4, 10)
        gate = threading.Event()
        job = Note(lane, gate.wait)
        lane.put(job)
        await until(lambda: job.thread is not None)
        pool.note()
        assert (region.get("threads"), region.get("threads_busy"), region.get("jobs")) == (1, 1, 101)
        gate.set()
        await until(lambda: job.heard)
        pool.remove(lane)
        pool.close()
        assert region.get("jobs") == 101 and region.get("threads") == 0
        slab.close()

    run(scenario)
