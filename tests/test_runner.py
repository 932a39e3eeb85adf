"""serve.runner: one Task for many works, and none of them can tell."""

import asyncio
import gc
import sys
import weakref
from contextvars import ContextVar

import pytest

from fairlead.serve.runner import KEPT, Runners, Work

VAR = ContextVar("var", default="unset")


class Job(Work):
    """A work made of a coroutine function; notes how it ended."""

    def __init__(self, part):
        self.part = part
        self.runner = None
        self.end = "open"
        self.error = None

    def call(self):
        return self.part()

    def returned(self):
        self.end = "returned"

    def failed(self, error):
        self.end, self.error = "failed", str(error)

    def stopped(self):
        self.end = "stopped"

    def over(self):
        self.part = None


class Bench:
    """Works started from callbacks of the loop, where no Task is stepped."""

    def __init__(self, **options):
        self.loop = asyncio.get_running_loop()
        self.runners = Runners(self.loop, "bench")
        self.ids = []

    async def do(self, part, now=True):
        """Start a work from a callback; the job, as it is when `start` has returned."""
        job = Job(part)
        started = self.loop.create_future()

        def start():
            self.runners.start(job, now)
            started.set_result(job.end)

        self.loop.call_soon(start)
        job.at_once = await started
        return job

    async def warm(self):
        """A Runner at rest."""
        await self.do(nothing)
        await turns()
        assert len(self.runners.resting) == 1

    async def reused(self, part):
        """Is the Task that did this work taken for the next one?"""
        await self.warm()
        [runner] = self.runners.resting
        job = await self.do(part)
        await turns()
        assert job.end != "open"
        return self.runners.resting == [runner]


async def nothing():
    pass


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario(), 10))


def test_the_second_work_runs_at_once_in_the_same_task():
    async def scenario():
        bench = Bench()
        tasks = []

        async def look():
            tasks.append(id(asyncio.current_task()))

        first = await bench.do(look)
        assert first.at_once == "open"
        await turns()
        second = await bench.do(look)
        assert second.at_once == "returned"
        assert len(set(tasks)) == 1
        assert asyncio.current_task().get_name() != "bench"

    run(scenario)


def test_a_work_that_waits_goes_on_by_itself_and_its_task_rests_again():
    async def scenario():
        bench = Bench()
        gate = asyncio.Event()
        names = []

        async def wait():
            await asyncio.sleep(0)
            await gate.wait()
            names.append(asyncio.current_task().get_name())

        await bench.warm()
        [runner] = bench.runners.resting
        job = await bench.do(wait)
        assert job.at_once == "open" and job.task is runner.task and not bench.runners.resting
        await turns()
        gate.set()
        await turns()
        assert job.end == "returned" and job.task is None and names == ["bench"]
        assert bench.runners.resting == [runner]

    run(scenario)


def test_inside_another_task_it_is_done_soon():
    async def scenario():
        bench = Bench()
        await bench.warm()
        outer = asyncio.current_task()
        seen = []

        async def look():
            seen.append(asyncio.current_task() is outer)

        job = Job(look)
        bench.runners.start(job, True)
        assert job.end == "open" and asyncio.current_task() is outer
        await turns()
        assert job.end == "returned" and seen == [False]
        assert len(bench.runners.resting) == 1

    run(scenario)


def test_a_work_that_is_told_to_wait_for_its_body_is_done_soon():
    async def scenario():
        bench = Bench()
        await bench.warm()
        job = await bench.do(nothing, now=False)
        assert job.at_once == "open"
        await turns()
        assert job.end == "returned" and len(bench.runners.resting) == 1

    run(scenario)


def test_a_plain_work_leaves_the_task_as_new():
    async def scenario():
        bench = Bench()

        async def plain():
            async with asyncio.timeout(5):
                await asyncio.sleep(0)
            assert await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2)) == [1, 2]
            token = VAR.set("set")
            VAR.reset(token)

        assert await bench.reused(plain)

    run(scenario)


HELD = []


async def keeps_it():
    HELD.append(asyncio.current_task())


async def keeps_it_weakly():
    HELD.append(weakref.ref(asyncio.current_task()))


async def asks_to_be_told():
    asyncio.current_task().add_done_callback(lambda task: HELD.append("told"))


async def names_it():
    asyncio.current_task().set_name("mine")


async def sets_a_variable():
    VAR.set("mine")


async def cancels_it():
    asyncio.current_task().cancel()


async def cancels_and_takes_back():
    asyncio.current_task().cancel()
    asyncio.current_task().uncancel()


@pytest.mark.parametrize(
    "part",
    [keeps_it, keeps_it_weakly, asks_to_be_told, names_it, sets_a_variable, cancels_it, cancels_and_takes_back],
)
def test_a_task_that_somebody_could_know_is_not_used_again(part):
    async def scenario():
        bench = Bench()
        undone = part is cancels_and_takes_back and sys.version_info >= (3, 13)  # there nothing is left of it
        assert await bench.reused(part) == undone
        seen = []

        async def look():
            task = asyncio.current_task()
            seen.append((VAR.get(), task.get_name(), task.cancelling()))

        await bench.do(look)
        await turns()
        assert seen == [("unset", "bench", 0)]
        if part is keeps_it:
            assert HELD[0].done() and not HELD[0].cancelled()
        if part is asks_to_be_told:
            assert HELD == ["told"]

    HELD.clear()
    run(scenario)
    HELD.clear()


def test_an_error_is_told_and_harms_nobody():
    async def scenario():
        bench = Bench()

        async def fail():
            raise ValueError("no")

        assert await bench.reused(fail)

        async def fail_later():
            await asyncio.sleep(0)
            raise ValueError("no")

        assert await bench.reused(fail_later)
        job = await bench.do(fail)
        assert (job.end, job.error) == ("failed", "no")

    run(scenario)


def test_cancelling_while_it_waits_stops_the_work():
    async def scenario():
        bench = Bench()
        await bench.warm()
        job = await bench.do(asyncio.Event().wait)
        task = job.task
        task.cancel()
        await turns()
        assert job.end == "stopped" and task.cancelled() and not bench.runners.resting

    run(scenario)


def test_cancelling_itself_in_the_first_part_cancels_what_it_waits_for():
    async def scenario():
        bench = Bench()
        await bench.warm()
        future = asyncio.get_running_loop().create_future()

        async def stop():
            asyncio.current_task().cancel()
            await future

        job = await bench.do(stop)
        await turns()
        assert job.end == "stopped" and future.cancelled()

    run(scenario)


def test_cancelling_itself_and_yielding_stops_the_work():
    async def scenario():
        bench = Bench()
        await bench.warm()

        async def stop():
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

        job = await bench.do(stop)
        await turns()
        assert job.end == "stopped"

    run(scenario)


def test_whoever_cancels_all_tasks_ends_those_at_rest_and_others_take_their_place():
    async def scenario():
        bench = Bench()
        await bench.warm()
        [runner] = bench.runners.resting
        task = runner.task
        assert task in asyncio.all_tasks()
        for other in asyncio.all_tasks():
            if other.get_name() == "bench":
                other.cancel()
        job = await bench.do(nothing)
        await turns()
        assert task.cancelled() and job.end == "returned"
        assert len(bench.runners.resting) == 1

    run(scenario)


def test_a_cancelled_one_on_its_way_to_a_work_is_replaced():
    async def scenario():
        bench = Bench()
        await bench.warm()
        [runner] = bench.runners.resting
        job = Job(nothing)
        bench.runners.start(job, False)
        runner.task.cancel()
        await turns()
        assert job.end == "returned"

    run(scenario)


def test_no_more_than_some_rest():
    async def scenario():
        bench = Bench()
        gate = asyncio.Event()
        jobs = [await bench.do(gate.wait) for _ in range(KEPT + 5)]
        gate.set()
        await turns()
        assert all(job.end == "returned" for job in jobs)
        assert len(bench.runners.resting) == KEPT

    run(scenario)


def test_tasks_of_a_factory_do_one_work_each():
    async def scenario():
        loop = asyncio.get_running_loop()
        made = []

        def factory(loop, coro, **options):
            made.append(coro)
            return asyncio.Task(coro, loop=loop, **options)

        loop.set_task_factory(factory)
        bench = Bench()
        jobs = [await bench.do(nothing) for _ in range(3)]
        await turns()
        loop.set_task_factory(None)
        assert [job.end for job in jobs] == ["returned"] * 3
        assert len(made) == 3 and not bench.runners.resting

    run(scenario)


def test_an_ended_task_needs_no_garbage_collector():
    async def scenario():
        bench = Bench()
        await bench.warm()
        gone = weakref.ref(bench.runners.resting[0].task)
        gc.disable()
        try:
            await bench.do(sets_a_variable)
            await turns()
            assert gone() is None
        finally:
            gc.enable()

    run(scenario)


def test_a_loop_that_goes_away_with_tasks_at_rest_says_nothing(caplog):
    loop = asyncio.new_event_loop()
    runners = Runners(loop, "bench")
    loop.call_soon(runners.start, Job(nothing), True)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert len(runners.resting) == 1
    loop.close()
    del runners, loop
    gc.collect()
    assert not caplog.records
