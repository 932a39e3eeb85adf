"""The working side of jobs: claim, run, hold on to, and write down what came of it.

    claim with row ── the code ──────────────────────── row: outcome, and the item is gone   (or nack with a delay, or dead letter)
                        after `MARK`: row: running
                        heartbeat: extend the lease, look for a cancellation

Rules
1. A claimed job's row comes with it. One that is over already (its worker died between outcome and ack) is only acked; one that
   was cancelled meanwhile is over now. The row says that it runs when it has run for `MARK` seconds; a shorter one costs one write
   less. An attempt that ended before with its worker is known all the same: the item counts its claims, and the row says how
   many of them were told of (`claims`). Where row and item live in two engines, the row says so before the code begins, and
   one that another fence above ours runs is left alone (rule 2 of `jobs`).
2. The lease lasts `options.lease` and is extended every third of it while the code runs, all of a kind in one call, so a long job
   needs no guess of how long it takes. When extending says fenced, or could not be done for nearly as long as the lease lasts (the
   store is away), the code is cancelled and nothing of it is written: before anybody else may have the job.
3. A failed attempt is followed by another after backoff x 2^n, at most `max_backoff`, less a random part; after the last one
   the job is `failed` and its item a dead letter. A worker that died is a failed attempt, seen by the next who claims.
4. `timeout` ends one attempt: async code is cancelled, a thread gets `TimeoutError` raised in it. So does a cancellation,
   with `Cancelled`. A thread inside C code hears of it when it comes back; its outcome is dropped then.
5. Async functions run on the worker's loop, each in a Task; others in threads of their own pool.
6. Concurrency over all workers is a set of slots in the state, `jobslot/<kind>/<n>`, held as leases are; rate is one key that
   says when the next start may be.
7. A graceful stop hands back: what runs gets `grace`, then it is cancelled and its item is free at once, its attempt uncounted.
8. Code that does not end when it was told to (a cancellation that it swallows, a thread inside C code) holds its place no longer
   than `STUBBORN` seconds: its outcome is written, its item let go, and what it may still do is nobody's.
9. A job that eats memory ends with its process, by the kernel or by `[jobs] max_memory`; the attempt counts, so a job that kills
   each worker that takes it is a dead letter after its last attempt, and never a loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import random
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from fairlead.core.errors import AppError
from fairlead.serve.joblimits import Limits
from fairlead.serve.jobrun import (  # Give, Retry and current_job are looked for here by applications
    Cancelled,
    Give,
    Left,
    Retry,
    Run,
    Tried,
    contained,
    current_job,
    running,
    traced,
)
from fairlead.serve.jobs import (
    CANCELLED,
    CONTROL,
    FAILED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    JobKind,
    Jobs,
    Row,
    as_json,
    key_of,
    loaded,
    queue_of,
)
from fairlead.store.contract import Conflict, Entry, Fenced, Lease, StoreError

__all__ = ["Cancelled", "Give", "Retry", "Work", "current_job"]
THREADS = 40  # for blocking jobs of one process
LOOK = 2.0  # seconds between looks at a queue that no hint told of
SWEEP = 10.0
MARK = 0.02  # seconds that code runs before its row says that it does
DUE = 0.05  # seconds for which what a queue said of its next due time is believed
HELD = 0.85  # the part of a lease after which code whose lease could not be renewed is ended
log = logging.getLogger("fairlead.jobs")


class Work(Limits):
    """Works on kinds of jobs in this process: `slots` attempts of each at once. `start()` on a running loop."""

    def __init__(self, jobs: Jobs, kinds: dict[str, int], threads: int = 0) -> None:
        self.jobs, self.store = jobs, jobs.store
        self.slots = dict(kinds)
        self.busy = dict.fromkeys(kinds, 0)  # places that code has, or is about to
        self.open = dict.fromkeys(kinds, 0)  # those, and outcomes that are on their way to the store
        self.runs: dict[tuple[str, str], Run] = {}
        self.wakes: dict[str, asyncio.Event] = {}
        self.tasks: set[asyncio.Task[Any]] = set()
        self.pool = ThreadPoolExecutor(threads or THREADS, "fairlead-job")
        self.me = f"{os.uname().nodename}:{os.getpid()}:{os.urandom(3).hex()}"
        self.stops: list[Callable[[], None]] = []
        self.stopping = False
        self.blame = ""
        self.done = self.failed = 0
        self.counts: dict[str, dict[str, int]] = {}  # by kind: done, failed
        self.tried: deque[Tried] = deque(maxlen=50)  # attempts that were in vain, of late
        self.fresh: deque[tuple[float, Run]] = deque()  # what has to be marked, and when, should it run then
        self.marker: asyncio.TimerHandle | None = None
        self.asked: dict[str, float] = {}  # when each kind's queue was asked for its next due time
        self.loop: Any = None

    def start(self) -> None:
        """Claim from now on."""
        self.loop = asyncio.get_running_loop()
        for kind in self.slots:
            self.begin(kind)
        self.stops.append(self.jobs.hub.topic(CONTROL, self.control))
        self.spawn(self.sweep())

    def begin(self, kind: str) -> None:
        """Work on this kind too."""
        self.wakes[kind] = asyncio.Event()
        self.stops.append(self.jobs.hub.queue(queue_of(kind), self.wakes[kind].set))
        self.spawn(self.serve(kind))
        self.spawn(self.heartbeat(kind))
        self.spawn(self.guard(kind))
        self.spawn(self.tell_of(kind))

    async def tell_of(self, kind: str) -> None:
        """Rule 9 of `jobs`."""
        with suppress(StoreError):
            await self.jobs.tell_of(self.jobs.kinds[kind])

    def add(self, kind: str, slots: int) -> None:
        """One more kind, or another number of slots for one that is worked on."""
        known = kind in self.slots
        self.slots[kind] = slots
        if not known:
            self.busy[kind] = self.open[kind] = 0
            self.begin(kind)

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """A task that is held until it ends."""
        task: asyncio.Task[Any] = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def control(self, last: Any, events: Any) -> None:
        """Cancellations were told: `kind/id` each. What the hint did not bring, the heartbeat sees."""
        for event in events:
            kind, _, job = event.data.decode().rpartition("/")
            if run := self.runs.get((kind, job)):
                run.stop("cancelled")

    async def stop(self, grace: float = 10.0, blame: str = "") -> None:
        """Claim nothing more; what runs has `grace` to end, then it is handed back. With `blame` (why this process has to go, which
        may be its jobs' doing) that counts as a failed attempt, or a job that eats memory would go round for ever.
        """
        self.blame = blame
        self.stopping = True
        for stop in self.stops:
            stop()
        for wake in self.wakes.values():
            wake.set()
        ends = self.loop.time() + grace
        while self.runs and self.loop.time() < ends:
            await asyncio.sleep(0.02)
        for run in list(self.runs.values()):
            run.stop("blame" if blame else "stop")
        ends = self.loop.time() + 2.0
        while self.runs and self.loop.time() < ends:
            await asyncio.sleep(0.02)
        if self.marker is not None:
            self.marker.cancel()
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.pool.shutdown(wait=False, cancel_futures=True)

    # ---- claiming

    async def serve(self, kind: str) -> None:
        """Keep this kind's slots busy."""
        wake = self.wakes[kind]
        while not self.stopping:
            wake.clear()
            wait = LOOK
            try:
                wait = await self.fill(kind)
            except StoreError as error:
                log.warning("jobs %s: the store cannot be reached: %s", kind, error)
            except Exception:
                log.exception("jobs %s", kind)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await wake.wait()

    async def fill(self, kind: str) -> float:
        """Claim as much as there are slots; seconds until it is worth to look again."""
        options = self.jobs.kinds[kind].options
        while (free := self.room(kind)) > 0 and not self.stopping:
            slots: list[str] = []
            if options.concurrency:
                slots = await self.take_slots(kind, options.concurrency, free)
                free = len(slots)
                if not free:
                    return 0.25
            if options.rate and (wait := await self.pace(kind, options.rate)):
                await self.free_slots(slots)
                return wait
            n = 1 if options.rate else free
            began = self.loop.time()
            taken = await self.jobs.pairs.draw(queue_of(kind), n, options.lease, self.me, key_of(kind, ""))
            await self.jobs.now()
            for lease, entry in taken:
                self.busy[kind] += 1
                self.open[kind] += 1
                self.take(kind, lease, slots.pop() if slots else "", began, entry)
            await self.free_slots(slots)
            if len(taken) < n:
                return LOOK if taken else await self.next_due(kind)
        return LOOK

    def room(self, kind: str) -> int:
        """Places that are free. While outcomes are on their way to the store the next jobs are fetched: as many again at most."""
        slots = self.slots[kind]
        return min(slots - self.busy[kind], 2 * slots - self.open[kind])

    async def next_due(self, kind: str) -> float:
        """Seconds until an item that is there becomes due, as far as is known: a busy queue is not asked each time."""
        if (left := self.asked.get(kind, 0.0) + DUE - self.loop.time()) > 0:
            return left
        self.asked[kind] = self.loop.time()
        due = await self.store.leases.next_due(queue_of(kind))
        return LOOK if due is None else min(max(due - await self.jobs.now(), 0.001), LOOK)

    # ---- one attempt

    def take(self, kind_name: str, lease: Lease, slot: str, since: float, entry: Entry | None) -> None:
        """A claimed job: begin, unless there is something to do before. `since`: when the lease was asked for."""
        kind = self.jobs.kinds[kind_name]
        row = None if entry is None else loaded(entry)
        run = Run(self, kind, row or Row(lease.id, kind_name), lease, slot, since)
        if row is None or row.over or row.cancel or not self.jobs.pairs.whole or self.tries(row, lease) > retries_of(row, kind) + 1:
            self.spawn(self.guarded(run, self.prepare(run, row)))
        else:
            self.begin_code(run, row)

    def tries(self, row: Row, lease: Lease) -> int:
        """Which attempt this is: those that the row tells of, those that ended with their workers, and this one."""
        told = row.claims or not row.attempt  # else an older version wrote it, which knew of all attempts and of no claims
        return row.attempt + (max(0, lease.attempt - 1 - row.claims) if told else 0) + 1

    def begin_code(self, run: Run, row: Row) -> None:
        """Run the code."""
        run.row = self.stamped(run, row, self.tries(row, run.lease))
        if self.late(run):  # the store was away meanwhile
            self.release(run)
            return
        self.runs[run.kind.name, run.lease.id] = run
        if not run.marked:
            self.fresh.append((self.loop.time() + MARK, run))
            if self.marker is None:
                self.marker = self.loop.call_later(MARK, self.mark_due)
        self.call(run)

    def stamped(self, run: Run, row: Row, attempt: int) -> Row:
        """A row as it says that this attempt runs."""
        return row.but(
            state=RUNNING, attempt=attempt, fence=run.lease.fence, claims=run.lease.attempt, worker=self.me,
            started=run.row.started if run.row.fence == run.lease.fence else self.jobs.at(), error="", trace="",
        )  # fmt: skip

    async def guarded(self, run: Run, work: Any) -> None:
        """Some part of an attempt, whatever the store says to it; then the attempt is over."""
        try:
            if await work:
                return
        except (Fenced, Conflict):
            log.info("job %s: its lease was lost, so its outcome is another worker's", run.id)
        except StoreError as error:
            log.warning("job %s: the store cannot be reached: %s; it runs again when its lease ends", run.id, error)
        except BaseException:
            self.release(run)
            raise
        self.release(run)

    def release(self, run: Run) -> None:
        """It is over and done with."""
        kind = run.kind.name
        if self.runs.get((kind, run.lease.id)) is run:
            del self.runs[kind, run.lease.id]
        self.open[kind] -= 1
        if not run.over:  # its code never began
            self.busy[kind] -= 1
        self.wakes[kind].set()
        if run.slot:
            self.spawn(self.let_go(run.slot))

    async def prepare(self, run: Run, row: Row | None) -> bool:
        """Rule 1; whether the code was begun."""
        kind, lease = run.kind, run.lease
        while True:
            if row is None or row.over:
                await self.store.leases.ack([lease])
                return False
            if row.fence > lease.fence:
                return False
            if row.cancel:
                run.row = row
                await self.change(run, lambda one: one.but(state=CANCELLED, finished=self.jobs.at()), True)
                return False
            if self.tries(row, lease) > retries_of(row, kind) + 1:
                lost = row.but(attempt=self.tries(row, lease) - 1)
                await self.fail(run, lost, "its worker was lost, and that was the last attempt", "")
                return False
            if self.jobs.pairs.whole:
                self.begin_code(run, row)
                return True
            try:
                begun = self.stamped(run, row, self.tries(row, lease))
                run.row = await self.jobs.write(begun)
                run.marked = True
                self.begin_code(run, run.row.but(attempt=run.row.attempt - 1))
                return True
            except Conflict as conflict:  # somebody began to follow it, or cancelled it
                row = None if conflict.entry is None else loaded(conflict.entry)

    def mark_due(self) -> None:
        """Rows of what has been running for a while say so now."""
        self.marker = None
        now = self.loop.time()
        while self.fresh and self.fresh[0][0] <= now:
            run = self.fresh.popleft()[1]
            if not (run.over or run.marked):
                self.spawn(self.mark(run))
        if self.fresh:
            self.marker = self.loop.call_later(self.fresh[0][0] - now, self.mark_due)

    async def mark(self, run: Run) -> None:
        """Its row says that it runs. A cancellation that came before is seen now."""
        async with run.lock:
            if run.over or run.marked:
                return
            try:
                run.row = await self.change(run, lambda row: row)
            except (Fenced, Conflict):
                run.stop("fenced")
            except StoreError as error:
                log.info("job %s: its row does not say yet that it runs: %s", run.id, error)
        if run.row.cancel:
            run.stop("cancelled")

    async def heartbeat(self, kind: str) -> None:
        """Hold on to the leases of a kind; see cancellations that no hint told."""
        term = self.jobs.kinds[kind].options.lease
        while True:
            await asyncio.sleep(term / 3)
            runs = [run for (name, _), run in self.runs.items() if name == kind]
            began = self.loop.time()
            with suppress(StoreError):
                for run, held in zip(runs, await self.store.leases.extend([run.lease for run in runs], term) if runs else ()):
                    if held:
                        run.since = began
                    else:
                        run.stop("fenced")
                for run in runs:
                    if run.slot:
                        await self.hold_slot(run.slot, term)
                    row = await self.jobs.get(kind, run.id)
                    if row is not None and row.cancel and (row.fence == run.lease.fence or not run.marked):
                        run.stop("cancelled")
                    if not run.marked and not run.over:
                        await self.mark(run)

    async def guard(self, kind: str) -> None:
        """A lease that could not be renewed may be another's soon: its code ends before."""
        while True:
            await asyncio.sleep(self.jobs.kinds[kind].options.lease / 10)
            for (name, _), run in list(self.runs.items()):
                if name == kind and self.late(run):
                    run.stop("fenced")

    def late(self, run: Run) -> bool:
        """Most of its lease is over."""
        return self.loop.time() - run.since > HELD * run.kind.options.lease

    def call(self, run: Run) -> None:
        """Run the code; `ended` hears when it has."""
        args, named = run.row.args or [[], {}]
        if run.kind.options.timeout:
            run.timer = self.loop.call_later(run.kind.options.timeout, run.stop, "timeout")
        context = contextvars.copy_context()
        context.run(running.set, run)
        if run.blocking:
            code = contained(self.in_thread, run, context, args, named)
            run.task = self.loop.create_task(code)
        else:
            run.task = self.loop.create_task(contained(run.kind.function, *args, **named), context=context)
        run.task.add_done_callback(run.ended)

    def ended(self, run: Run) -> None:
        """The code has ended: write down what came of it. The usual outcome takes no task of its own."""
        if run.timer is not None:
            run.timer.cancel()
        self.busy[run.kind.name] -= 1
        self.wakes[run.kind.name].set()
        how, value, trace = self.outcome(run)
        if how != "ok" or run.stopped or run.row.followed or run.lock.locked() or not self.jobs.pairs.whole:
            self.spawn(self.guarded(run, self.settle(run, how, value, trace)))
            return
        self.count(run.kind.name, "done")
        row = run.row.but(state=SUCCEEDED, result=value, finished=self.jobs.at())
        written: Any = self.jobs.settle(row, run.lease, True)
        written.add_done_callback(partial(self.written, run, row))

    def written(self, run: Run, row: Row, answer: asyncio.Future[Entry]) -> None:
        """The usual outcome was stored, or somebody had changed the row meanwhile."""
        error = None if answer.cancelled() else answer.exception()
        if error is not None or answer.cancelled():
            self.spawn(self.guarded(run, self.once_more(run, row, answer)))
        else:
            self.release(run)

    async def once_more(self, run: Run, row: Row, answer: asyncio.Future[Entry]) -> None:
        """The same outcome, over the row as it is by now."""
        try:
            await answer
        except Conflict as conflict:
            async with run.lock:
                run.row = self.still(run, conflict)
                run.row = await self.change(
                    run, lambda one: one.but(state=SUCCEEDED, result=row.result, finished=row.finished), True
                )

    def outcome(self, run: Run) -> tuple[str, Any, str]:
        """How the code ended, its result or error or retry delay, its traceback."""
        assert run.task is not None
        if not run.task.done():
            return "error", f"it did not end when it was told to ({run.stopped})", ""
        try:
            return "ok", as_json(run.task.result(), run.kind.most, "the result"), ""
        except Retry as error:
            return "retry", (str(error) or "it asked to be tried again", error.delay), ""
        except Give as error:
            return "fail", str(error) or "it gave up", traced(error)
        except AppError as error:
            return "fail" if not run.stopped else "error", str(error), ""
        except asyncio.CancelledError:
            if not run.stopped:
                run.stopped = ("blame" if self.blame else "stop") if self.stopping else "cancelled"
            return "error", "", ""
        except Left as error:
            return "error", str(error), traced(error)
        except (Exception, Cancelled) as error:
            return "error", f"{type(error).__name__}: {error}", traced(error)

    async def in_thread(self, run: Run, context: contextvars.Context, args: Any, named: Any) -> Any:
        """Blocking code."""

        def work() -> Any:
            run.thread = threading.get_ident()
            try:
                if run.stopped:
                    raise Cancelled
                return context.run(run.kind.function, *args, **named)
            finally:
                run.thread = 0

        return await self.loop.run_in_executor(self.pool, work)

    def count(self, kind: str, what: str) -> None:
        """One more that is done, or failed for good."""
        counts = self.counts.setdefault(kind, {"done": 0, "failed": 0})
        counts[what] += 1
        if what == "done":
            self.done += 1
        else:
            self.failed += 1

    # ---- the outcome

    async def change(self, run: Run, edit: Callable[[Row], Row], finish: bool = False) -> Row:
        """Edit the row of a run while it is still this run's; `finish` lets go of the item too. Conflict, Fenced."""
        row = run.row
        while True:
            try:
                changed = await self.jobs.held(edit(row), run.lease, finish)
                run.marked = True
                return changed
            except Conflict as conflict:
                row = self.still(run, conflict)

    def still(self, run: Run, conflict: Conflict) -> Row:
        """The row that somebody changed, as this run's; raises the conflict when it is not any more."""
        found = None if conflict.entry is None else loaded(conflict.entry)
        if found is None or found.over or found.fence > run.lease.fence:
            raise conflict
        if found.fence == run.lease.fence:
            return found
        if not self.jobs.pairs.whole:
            raise conflict
        return self.stamped(run, found, run.row.attempt)

    async def settle(self, run: Run, how: str, value: Any, trace: str) -> None:
        """Write down what came of it, then let go of the item."""
        now = await self.jobs.now()
        lease = run.lease
        if run.stopped == "fenced":
            raise Fenced(f"job {run.id}")
        async with run.lock:
            if how == "ok":
                self.count(run.kind.name, "done")
                run.row = await self.change(
                    run, lambda row: row.but(state=SUCCEEDED, result=value, finished=now, error="", trace=""), True
                )
            elif run.stopped == "cancelled":
                run.row = await self.change(run, lambda row: row.but(state=CANCELLED, cancel=True, finished=now), True)
            elif run.stopped == "stop":
                run.row = await self.change(run, lambda row: row.but(state=QUEUED, attempt=row.attempt - 1, worker=""))
                await self.store.leases.nack(lease, 0.0, "the worker stops")
            else:
                await self.again(run, how, value, trace)

    async def again(self, run: Run, how: str, value: Any, trace: str) -> None:
        """A failed attempt: once more, or the end."""
        options, attempt = run.kind.options, run.row.attempt
        error, delay = value if how == "retry" else (value, None)
        if run.stopped == "blame":
            error = self.blame
        if run.stopped == "timeout":
            error = f"it took longer than {options.timeout:g} s"
        if how == "fail" or attempt > retries_of(run.row, run.kind):
            await self.fail(run, run.row, error, trace)
            return
        if delay is None:
            delay = min(options.backoff * 2.0 ** min(attempt - 1, 60), options.max_backoff)
            delay *= 1.0 - options.jitter * random.random()
        now = await self.jobs.now()
        due = now + delay
        self.tried.append(Tried(run.kind.name, run.id, attempt, error[:500], now, due))
        await self.change(run, lambda row: row.but(state=QUEUED, error=error, trace=trace, due=due, worker=""))
        await self.store.leases.nack(run.lease, delay, error)

    async def fail(self, run: Run, row: Row, error: str, trace: str) -> None:
        """No attempt is left."""
        kind, lease = run.kind, run.lease
        self.count(kind.name, "failed")
        now = await self.jobs.now()
        self.tried.append(Tried(kind.name, row.id, row.attempt, error[:500], now, 0.0))

        def edit(one: Row) -> Row:
            return one.but(state=FAILED, error=error, trace=trace, finished=now, fence=lease.fence)

        if row.fence != lease.fence and not self.jobs.pairs.whole:
            await self.jobs.write(edit(row))  # the attempt before this claim was another worker's: its row is over by our hand
        else:
            run.row = row
            await self.change(run, edit)
        await self.store.leases.term(lease, error[:500])
        found = await self.jobs.get(row.kind, row.id)
        if found is not None and found.state == QUEUED:  # redriven between the two
            await self.store.leases.redrive(queue_of(row.kind), [row.id])
        log.warning("job %s of %s failed for good: %s", row.id, kind.name, error)

    async def sweep(self) -> None:
        """Rule 1 of `jobs`, by whichever worker comes first."""
        while True:
            await asyncio.sleep(SWEEP * random.uniform(0.5, 1.5))
            with suppress(StoreError, Conflict):
                await self.jobs.sweep()


def retries_of(row: Row, kind: JobKind) -> int:
    """Attempts after the first."""
    return kind.options.retries if row.retries is None else row.retries
