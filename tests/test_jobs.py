"""Jobs over the memory store: submitting, outcomes, retries, cancelling, fencing, uniqueness, limits, stopping, healing."""

import asyncio
import json
import threading
from contextlib import suppress
from dataclasses import replace

import pytest

from enginesuite import open_here
from fairlead.core.errors import AppError, Refused
from fairlead.serve import jobrun, jobwork
from fairlead.serve import jobs as j
from fairlead.serve.jobrun import Give, Retry, current_job
from fairlead.serve.jobs import JobKind, JobOptions, Jobs, job, key_of, queue_of, topic_of
from fairlead.serve.jobwork import Work
from fairlead.store.contract import Conflict, Item, Offset, StoreError
from fairlead.store.open import open_store
from fairlead.store.pairs import Apart, Together, pairs_of

QUICK = {"backoff": 0.0, "jitter": 0.0, "lease": 1.0}


def play(story, *functions, slots=4, working=True, **options):
    """Runs `story(jobs, work)` with workers for the functions; each is a kind by its name."""

    async def run():
        store = await open_here()
        jobs = Jobs(store)
        for function in functions:
            kind = JobKind(function, function.__name__, JobOptions(**{**QUICK, **options}))
            jobs.add(kind)
        work = Work(jobs, dict.fromkeys(jobs.kinds, slots))
        if working:
            work.start()
        try:
            async with asyncio.timeout(20):
                return await story(jobs, work)
        finally:
            if working:
                await work.stop(0.0)
            await store.close()

    return asyncio.run(run())


async def over(jobs, row, seconds=10.0):
    return await jobs.wait(row.kind, row.id, seconds)


async def letter(jobs, kind):
    """The one dead letter of a kind: it follows the outcome, which is the job's truth."""
    while not (found := await jobs.store.leases.dead(queue_of(kind))):
        await asyncio.sleep(0.001)
    (dead,) = found
    return dead


async def add(a, b=0):
    return a + b


def blocking(a):
    return [a, threading.current_thread().name]


def test_a_job_runs_and_its_result_is_kept():
    async def story(jobs, work):
        row = await over(jobs, await jobs.submit("add", [1], {"b": 2}))
        assert (row.state, row.result, row.attempt, row.error) == ("succeeded", 3, 1, "")
        assert row.created <= row.started <= row.finished
        while (await jobs.store.leases.depth("jobs/add")).leased:  # the outcome first, then the lease
            await asyncio.sleep(0.001)
        return row.shown()

    shown = play(story, add)
    assert shown["state"] == "succeeded" and shown["result"] == 3 and "error" not in shown and "progress" not in shown


def test_blocking_code_runs_in_a_thread_of_its_own_pool():
    async def story(jobs, work):
        return (await over(jobs, await jobs.submit("blocking", ["x"]))).result

    result = play(story, blocking)
    assert result[0] == "x" and result[1].startswith("fairlead-job")


def test_a_failing_job_is_tried_again_and_then_a_dead_letter_that_can_be_redriven():
    calls = []

    async def flaky(limit):
        calls.append(current_job().attempt)
        if len(calls) < limit:
            raise ValueError(f"call {len(calls)}")
        return len(calls)

    async def story(jobs, work):
        row = await over(jobs, await jobs.submit("flaky", [9]))
        assert (row.state, row.attempt, row.error) == ("failed", 3, "ValueError: call 3") and "in flaky" in row.trace
        dead = await letter(jobs, "flaky")
        assert dead.id == row.id and dead.reason == "ValueError: call 3"
        assert await jobs.redrive("flaky") == 1
        row = await over(jobs, row)
        assert (row.state, row.attempt) == ("failed", 3)
        await letter(jobs, "flaky")
        assert await jobs.redrive("flaky", [row.id]) == 1
        row = await over(jobs, row)
        assert (row.state, row.result) == ("succeeded", 9)

    play(story, flaky, retries=2)
    assert calls == [1, 2, 3, 1, 2, 3, 1, 2, 3]


def test_code_may_ask_for_another_attempt_or_give_up():
    async def picky(how):
        if how == "again" and current_job().attempt == 1:
            raise Retry("not yet", delay=0.0)
        if how == "give":
            raise Give("never")
        return how

    async def story(jobs, work):
        again = await over(jobs, await jobs.submit("picky", ["again"]))
        give = await over(jobs, await jobs.submit("picky", ["give"]))
        assert (again.state, again.attempt) == ("succeeded", 2)
        assert (give.state, give.attempt, give.error) == ("failed", 1, "never")

    play(story, picky)


def test_what_json_cannot_hold_is_refused_with_its_place():
    async def odd(x):
        return {1, 2}

    async def story(jobs, work):
        with pytest.raises(AppError, match="arguments of odd cannot be written as JSON"):
            await jobs.submit("odd", [object()])
        with pytest.raises(AppError, match="more than 262144"):
            await jobs.submit("odd", ["x" * 300_000])
        row = await over(jobs, await jobs.submit("odd", [1]))
        assert row.state == "failed" and "the result cannot be written as JSON" in row.error and row.attempt == 1

    play(story, odd)


def test_an_attempt_that_takes_too_long_is_ended_in_either_kind_of_code():
    async def slow():
        await asyncio.sleep(60)

    def spin():
        while True:
            pass

    async def story(jobs, work):
        rows = [await over(jobs, await jobs.submit(name)) for name in ("slow", "spin")]
        assert [row.state for row in rows] == ["failed", "failed"]
        assert all(row.error == "it took longer than 0.05 s" and row.attempt == 2 for row in rows)

    play(story, slow, spin, retries=1, timeout=0.05)


def test_cancelling_one_that_waits_one_that_runs_and_one_that_is_over():
    started, ended = [], []

    async def endless():
        started.append(current_job().id)
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(current_job().cancelled)

    async def story(jobs, work):
        running = await jobs.submit("endless")
        while not started:
            await asyncio.sleep(0.001)
        waiting = await jobs.submit("endless", name="waits")
        assert (await jobs.cancel("endless", waiting.id)).state == "cancelled"
        assert (await jobs.cancel("endless", running.id)).state == "running"
        row = await over(jobs, running)
        assert row.state == "cancelled" and ended == [True]
        with pytest.raises(Refused) as again:
            await jobs.cancel("endless", running.id)
        assert again.value.status == 409
        with pytest.raises(Refused) as unknown:
            await jobs.cancel("endless", "nobody")
        assert unknown.value.status == 404
        assert (await jobs.store.leases.depth(queue_of("endless"))).ready == 0

    play(story, endless, slots=1)
    assert len(started) == 1


def test_a_blocking_job_hears_of_its_cancellation():
    started, seen = threading.Event(), []

    def stubborn():
        started.set()
        try:
            while True:
                pass
        except BaseException as error:
            seen.append(type(error).__name__)
            raise

    async def story(jobs, work):
        row = await jobs.submit("stubborn")
        while not started.is_set():
            await asyncio.sleep(0.001)
        await jobs.cancel("stubborn", row.id)
        assert (await over(jobs, row)).state == "cancelled"

    play(story, stubborn)
    assert seen == ["Cancelled"]


def test_progress_reaches_followers_and_the_topic_closes_with_the_outcome():
    go = None

    async def steps():
        await current_job().progress({"done": 1})
        await go.wait()
        return "all"

    async def story(jobs, work):
        nonlocal go
        go = asyncio.Event()
        row = await jobs.submit("steps")
        while (await jobs.get("steps", row.id)).progress is None:
            await asyncio.sleep(0.001)
        await jobs.followed("steps", row.id)
        await jobs.followed("steps", row.id)  # twice changes nothing
        go.set()
        await over(jobs, row)
        log = jobs.store.log
        head = await log.head(topic_of("steps", row.id))
        while not head.closed:
            head = await log.head(topic_of("steps", row.id))
            await asyncio.sleep(0)
        events = (await log.read(topic_of("steps", row.id), None)).events
        assert [event.type for event in events] == ["running", "succeeded"]
        assert json.loads(events[0].data)["progress"] == {"done": 1} and json.loads(events[1].data)["result"] == "all"
        late = await jobs.submit("add", [1])
        while not (await jobs.get("add", late.id)).over:
            await asyncio.sleep(0.001)
        await jobs.followed("add", late.id)  # who comes after the end finds it
        batch = await log.read(topic_of("add", late.id), None)
        assert batch.closed and [event.type for event in batch.events] == ["succeeded"]

    play(story, steps, add)


def test_unique_jobs_are_one_while_one_of_them_waits_or_runs():
    async def story(jobs, work):
        rows = await asyncio.gather(*(jobs.submit("add", [n], unique="report 7") for n in range(50)))
        assert len({row.id for row in rows}) == 1
        assert (await jobs.store.leases.depth(queue_of("add"))).ready == 1
        work.start()
        await over(jobs, rows[0])
        other = await jobs.submit("add", [1], unique="report 7")
        assert other.id != rows[0].id
        await over(jobs, other)
        await work.stop(1.0)

    play(story, add, working=False)


def test_a_named_job_is_submitted_once():
    async def story(jobs, work):
        rows = await asyncio.gather(*(jobs.submit("add", [n], name="nightly-1") for n in range(20)))
        assert {row.id for row in rows} == {"nightly-1"} and len({json.dumps(row.args) for row in rows}) == 1
        assert (await jobs.store.leases.depth(queue_of("add"))).ready == 1

    play(story, add, working=False)


def test_a_worker_that_lost_its_lease_writes_nothing():
    async def story(jobs, work):
        release = asyncio.Event()

        async def held():
            await release.wait()
            return "late"

        jobs.add(JobKind(held, "held", JobOptions(**QUICK)))
        row = await jobs.submit("held")
        (lease,) = await jobs.store.leases.claim(queue_of("held"), 1, 10.0)
        work.slots["held"], work.busy["held"], work.open["held"] = 1, 1, 1
        work.wakes["held"] = asyncio.Event()
        work.loop = asyncio.get_running_loop()
        entry = await jobs.store.state.get(key_of("held", row.id))
        work.take("held", lease, "", work.loop.time(), entry)
        while (await jobs.get("held", row.id)).state != "running":
            await asyncio.sleep(0)
        await jobs.store.leases.nack(lease)  # as if the lease had ended
        (other,) = await jobs.store.leases.claim(queue_of("held"), 1, 10.0)
        taken = await jobs.get("held", row.id)
        await jobs.write(replace(taken, fence=other.fence, attempt=2))
        release.set()
        while work.open["held"]:
            await asyncio.sleep(0)
        now = await jobs.get("held", row.id)
        assert (now.state, now.fence, now.result) == ("running", other.fence, None)
        assert (await jobs.store.leases.ack([other])) == [True]

    play(story, add, working=False)


def test_a_worker_that_died_after_the_outcome_costs_only_an_acknowledgement():
    calls = []

    async def once():
        calls.append(1)

    async def story(jobs, work):
        row = await jobs.submit("once")
        await jobs.write(replace(row, state="succeeded", result=1, fence=1))
        work.start()
        while (await jobs.store.leases.depth(queue_of("once"))).ready + len(work.runs):
            await asyncio.sleep(0.001)
        await work.stop(1.0)
        assert not calls and (await jobs.get("once", row.id)).result == 1

    play(story, once, working=False)


def test_a_worker_that_died_in_its_last_attempt_makes_the_job_fail():
    async def story(jobs, work):
        row = await jobs.submit("add", [1])
        (lease,) = await jobs.store.leases.claim(queue_of("add"), 1, 10.0)
        await jobs.write(replace(row, state="running", attempt=3, fence=lease.fence))
        await jobs.store.leases.nack(lease)
        work.start()
        row = await over(jobs, row)
        assert row.state == "failed" and "its worker was lost" in row.error
        assert (await letter(jobs, "add")).id == row.id
        await work.stop(1.0)

    play(story, add, working=False, retries=2)


def test_what_is_cut_between_row_and_queue_is_healed():
    async def story(jobs, work):
        row = j.Row(id="cut", kind="add", args=[[1], {}], created=await jobs.store.now())
        await jobs.store.state.put_if(key_of("add", "cut"), row.stored(), 0, due=await jobs.store.now() - 1)
        assert await jobs.sweep() == 1 and await jobs.sweep() == 0
        work.start()
        assert (await over(jobs, row)).result == 1
        await work.stop(1.0)

    play(story, add, working=False)


def test_a_stopping_worker_hands_back_and_the_attempt_does_not_count():
    started = []

    async def endless():
        started.append(1)
        await asyncio.sleep(60)

    async def story(jobs, work):
        row = await jobs.submit("endless")
        work.start()
        while not started:
            await asyncio.sleep(0.001)
        await work.stop(0.0)
        row = await jobs.get("endless", row.id)
        assert (row.state, row.attempt) == ("queued", 0)
        assert (await jobs.store.leases.depth(queue_of("endless"))).ready == 1

    play(story, endless, working=False)


def test_no_more_run_at_once_than_all_workers_together_may():
    now, most, both = 0, 0, None

    async def counted():
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 2:
            both.set()
        await both.wait()  # the first waits for the second
        await asyncio.sleep(0.002)
        now -= 1

    async def story(jobs, work):
        nonlocal both
        both = asyncio.Event()
        other = Work(jobs, {"counted": 8})
        other.start()
        rows = [await jobs.submit("counted") for _ in range(12)]
        for row in rows:
            assert (await over(jobs, row)).state == "succeeded"
        await other.stop(0.0)

    play(story, counted, slots=8, concurrency=2)
    assert most == 2


def test_priority_counts_and_ages():
    async def story(jobs, work):
        order = []

        async def note(n):
            order.append(n)

        jobs.add(JobKind(note, "note", JobOptions(**QUICK)))
        now = await jobs.store.now()
        for name, level, created in (("low", 0, now), ("high", 2, now), ("old", 0, now - 180), ("middle", 1, now)):
            row = j.Row(id=name, kind="note", args=[[name], {}], created=created, priority=level)
            await jobs.store.state.put_if(key_of("note", name), row.stored(), 0)
            await jobs.store.leases.put(queue_of("note"), [row.item])
        worker = Work(jobs, {"note": 1})
        worker.start()
        while len(order) < 4:
            worker.wakes["note"].set()
            await asyncio.sleep(0.001)
        await worker.stop(1.0)
        return order

    assert play(story, add, working=False) == ["old", "high", "middle", "low"]


def test_a_delayed_job_waits_for_its_time():
    async def story(jobs, work):
        row = await jobs.submit("add", [1], delay=3600.0)
        assert await jobs.store.leases.claim(queue_of("add"), 1, 1.0) == []
        assert (await jobs.store.leases.depth(queue_of("add"))).delayed == 1
        assert row.shown()["due"] == pytest.approx(row.created + 3600.0)

    play(story, add, working=False)


def test_the_decorator_submits_from_inside_a_server_and_calls_as_before():
    @job(retries=2)
    async def twice(x):
        return 2 * x

    @job
    def thrice(x):
        return 3 * x

    assert thrice(2) == 6 and asyncio.run(twice(2)) == 4
    assert thrice.name.endswith("thrice") and twice.options.retries == 2
    with pytest.raises(AppError, match="no server runs here"):
        asyncio.run(twice.submit(1))
    with pytest.raises(AppError, match="does not run as a job"):
        current_job()

    async def story(jobs, work):
        jobs.add(twice)
        other = Work(jobs, {twice.name: 1})
        other.start()
        j.attach(jobs)
        try:
            handle = await twice.submit(21)
            assert await handle.result(5.0) == 42
            late = await twice.using(delay=60.0, priority=3).submit(1)
            assert (await late.status()).priority == 3
            await late.cancel()
            with pytest.raises(AppError, match="is cancelled"):
                await late.result(1.0)
        finally:
            j.attach(None)
            await other.stop(0.0)

    play(story, add, working=False)


def test_redriving_what_is_not_over_changes_nothing():
    async def story(jobs, work):
        row = await jobs.submit("add", [1])
        assert await jobs.redrive("add", [row.id, "nobody"]) == 0
        with pytest.raises(Conflict):
            await jobs.store.state.put_if(key_of("add", row.id), b"{}", 0)
        assert await jobs.store.leases.put(queue_of("add"), [Item(row.id, b"")]) == [False]
        assert Offset(1, 2) < Offset(1, 3)

    play(story, add, working=False)


def test_code_that_does_not_end_when_it_was_told_to_is_given_up(monkeypatch):
    monkeypatch.setattr(jobrun, "STUBBORN", 0.02)
    left = []

    async def deaf():
        while not left:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        left.append("gone")

    async def story(jobs, work):
        row = await jobs.submit("deaf")
        while not work.runs:
            await asyncio.sleep(0.001)
        await jobs.cancel("deaf", row.id)
        assert (await over(jobs, row)).state == "cancelled"
        assert (await over(jobs, await jobs.submit("add", [1]))).result == 1
        left.append("go")
        while len(left) < 2:  # what it still does is nobody's
            await asyncio.sleep(0.001)
        assert (await jobs.get("deaf", row.id)).state == "cancelled"

    play(story, deaf, add)


def test_code_whose_lease_cannot_be_renewed_ends_before_another_may_have_the_job():
    ended = []

    async def endless():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(current_job().stopped)

    async def away(leases, ttl):
        raise StoreError("away", retry="always")

    async def story(jobs, work):
        row = await jobs.submit("endless")
        while not work.runs:
            await asyncio.sleep(0.001)
        extend, jobs.store.leases.extend = jobs.store.leases.extend, away
        work.stopping = True  # and nothing is claimed here again
        while not ended:
            await asyncio.sleep(0.001)
        assert ended == ["fenced"] and (await jobs.get("endless", row.id)).state == "running"
        jobs.store.leases.extend = extend

    play(story, endless, lease=0.4)


def test_a_process_that_has_to_go_because_of_its_jobs_counts_their_attempts():
    async def hungry():
        await asyncio.sleep(60)

    async def story(jobs, work):
        row = await jobs.submit("hungry")
        for attempt in (1, 2):
            worker = Work(jobs, {"hungry": 1})
            worker.start()
            while not worker.runs:
                await asyncio.sleep(0.001)
            await worker.stop(0.0, "its process grew too large")
            row = await jobs.get("hungry", row.id)
            assert (row.attempt, row.error) == (attempt, "its process grew too large")
        assert row.state == "failed"

    play(story, hungry, working=False, retries=1)


def test_code_that_wants_to_leave_the_process_only_fails():
    async def leaves():
        raise SystemExit(3)

    def blocks():
        raise SystemExit(4)

    async def story(jobs, work):
        rows = [await over(jobs, await jobs.submit(name)) for name in ("leaves", "blocks")]
        assert [(row.state, row.error) for row in rows] == [("failed", "SystemExit: 3"), ("failed", "SystemExit: 4")]

    play(story, leaves, blocks, retries=0)


def test_queue_and_rows_may_live_in_different_engines(tmp_path):
    async def run():
        store = await open_store("memory:", state=f"sqlite:///{tmp_path}/state.db")
        jobs = Jobs(store)
        assert isinstance(jobs.pairs, Apart) and isinstance(pairs_of(await open_store("memory:")), Together)
        jobs.add(JobKind(add, "add", JobOptions(**QUICK)))
        work = Work(jobs, {"add": 2})
        work.start()
        rows = [await jobs.submit("add", [n], name=f"n{n}") for n in range(5)]
        again = await jobs.submit("add", [7], name="n0")
        assert again.id == "n0" and again.args == [[0], {}]
        assert [(await over(jobs, row)).result for row in rows] == list(range(5))
        while (await store.leases.depth(queue_of("add"))).leased:
            await asyncio.sleep(0.001)
        await work.stop(1.0)
        await store.close()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_attempts_that_ended_with_their_workers_before_anything_was_written_count():
    seen = []

    async def story(jobs, work):
        async def noted():
            seen.append(current_job().attempt)

        for lost, state in ((2, "succeeded"), (3, "failed")):
            kind = f"noted {lost}"
            jobs.add(JobKind(noted, kind, JobOptions(**{**QUICK, "retries": 2})))
            row = await jobs.submit(kind)
            for _ in range(lost):  # a worker that takes it, and dies within its first milliseconds
                while not await jobs.store.leases.claim(queue_of(kind), 1, 0.001):
                    await asyncio.sleep(0.001)
            while (await jobs.store.leases.depth(queue_of(kind))).leased:
                await asyncio.sleep(0.001)
            work.add(kind, 1)
            row = await over(jobs, row)
            assert (row.state, row.attempt) == (state, 3)
        assert row.error == "its worker was lost, and that was the last attempt" and seen == [3]
        assert (await letter(jobs, kind)).id == row.id

    play(story, add)


def test_a_job_that_is_cancelled_before_its_row_says_that_it_runs_ends_as_cancelled(monkeypatch):
    monkeypatch.setattr(jobwork, "MARK", 60.0)
    began, ended = asyncio.Event(), asyncio.Event()

    async def endless():
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def story(jobs, work):
        row = await jobs.submit("endless")
        await began.wait()
        assert (await jobs.get("endless", row.id)).state == "queued"
        told = await jobs.cancel("endless", row.id)
        assert told.state == "running" and told.cancel
        await ended.wait()
        assert (await over(jobs, row)).state == "cancelled"

    play(story, endless)


def test_a_job_whose_worker_died_after_it_was_cancelled_is_not_begun_again():
    async def story(jobs, work):
        row = await jobs.submit("add", [1])
        assert await jobs.store.leases.claim(queue_of("add"), 1, 0.3)
        told = await jobs.cancel("add", row.id)
        assert told.state == "running" and told.cancel
        work.start()
        row = await over(jobs, row)
        assert (row.state, row.result) == ("cancelled", None)
        await work.stop(0.0)

    play(story, add, working=False)


def test_who_begins_to_follow_while_the_code_runs_hears_of_its_end(monkeypatch):
    monkeypatch.setattr(jobwork, "MARK", 60.0)
    began, go = asyncio.Event(), asyncio.Event()

    async def held():
        began.set()
        await go.wait()
        return 5

    async def story(jobs, work):
        row = await jobs.submit("held")
        await began.wait()
        await jobs.followed("held", row.id)
        go.set()
        row = await over(jobs, row)
        assert (row.state, row.result, row.attempt) == ("succeeded", 5, 1)
        while not (await jobs.store.log.head(topic_of("held", row.id))).closed:
            await asyncio.sleep(0.001)

    play(story, held)


def test_a_unique_text_whose_holder_never_came_is_taken_over(monkeypatch):
    monkeypatch.setattr(j, "CLAIM", 0.02)

    async def story(jobs, work):
        assert isinstance(await jobs.claimed("add", "report 8", "ghost"), int)
        row = await jobs.submit("add", [1], unique="report 8")
        assert row.id != "ghost" and (await over(jobs, row)).result == 1

    play(story, add)


def test_no_more_start_in_a_second_than_all_workers_together_may():
    async def story(jobs, work):
        other = Work(jobs, {"add": 4})
        jobs.clock = (1e12, jobs.clock[1])  # the engine's clock is not looked at again, so the story may say what it is
        for second in range(3):
            jobs.clock = (1e12, 1000.0 + 2.0 * second - asyncio.get_running_loop().time())
            waits = [await one.pace("add", 4.0) for _ in range(4) for one in (work, other)]
            started = [wait for wait in waits if not wait]
            assert 4 <= len(started) <= 6 and all(0.0 < wait <= 0.5 for wait in waits if wait)

    play(story, add, working=False)


def test_a_row_of_a_version_that_counted_no_claims_loses_no_attempts():
    async def story(jobs, work):
        row = await jobs.submit("add", [1])
        (lease,) = await jobs.store.leases.claim(queue_of("add"), 1, 30.0)
        await jobs.write((await jobs.get("add", row.id)).but(attempt=1, error="it failed"))
        await jobs.store.leases.nack(lease)
        work.start()
        assert (await over(jobs, row)).attempt == 2
        await work.stop(0.0)

    play(story, add, working=False)
