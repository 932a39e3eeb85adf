"""The working side of jobs: claim, run, hold on to, and write down what came of it.

    claim ── row: running, fence ── the code ── row: outcome ── ack          (or nack with a delay, or dead letter)
                  heartbeat: extend the lease, look for a cancellation

Rules
1. A claimed job's row is read first. One that is over already (its worker died between outcome and ack) is only acked; one
   that another fence above ours runs is left alone.
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
import ctypes
import inspect
import logging
import os
import random
import threading
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fairlead.core.errors import AppError
from fairlead.serve.jobs import (
    CANCELLED,
    CONTROL,
    FAILED,
    PROGRESS,
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

THREADS = 40  # for blocking jobs of one process
LOOK = 2.0  # seconds between looks at a queue that no hint told of
SWEEP = 10.0
HELD = 0.85  # the part of a lease after which code whose lease could not be renewed is ended
STUBBORN = 10.0  # seconds that code has to end in when it was told to
TRACE = 8192  # characters kept of a traceback
log = logging.getLogger("fairlead.jobs")


class Cancelled(BaseException):
    """Raised in a thread whose job was cancelled or ran out of time."""


class Retry(Exception):
    """Raise it to have the job tried again after `delay` seconds (None: the usual pause)."""

    def __init__(self, reason: str = "", delay: float | None = None) -> None:
        super().__init__(reason)
        self.delay = delay


class Give(Exception):
    """Raise it to have the job fail for good, whatever attempts are left."""


@dataclass(slots=True, frozen=True)
class Tried:
    """An attempt that was in vain, and when the next one is due (0: never)."""

    kind: str
    id: str
    attempt: int
    error: str
    at: float
    due: float


class Left(Exception):
    """Code that wanted the process to end: that is not a job's to say."""


class Run:
    """One attempt of a job, as its own code sees it through `fairlead.current_job()`."""

    def __init__(self, work: Work, kind: JobKind, row: Row, lease: Lease, slot: str = "", since: float = 0.0) -> None:
        self.work, self.kind, self.row, self.lease, self.slot = work, kind, row, lease, slot
        self.since = since  # when its lease was asked for, or last renewed
        self.task: asyncio.Task[Any] | None = None
        self.thread = 0
        self.blocking = not is_async(kind.function)
        self.waiter: asyncio.Future[None] | None = None  # done when the code has ended, or is given up
        self.stopped = ""  # why it has to end: cancelled, timeout, fenced, stop
        self.lock = asyncio.Lock()

    @property
    def id(self) -> str:
        """The job's."""
        return self.row.id

    @property
    def attempt(self) -> int:
        """1 for the first."""
        return self.row.attempt

    @property
    def cancelled(self) -> bool:
        """It is wanted no more; return or raise soon."""
        return bool(self.stopped)

    async def progress(self, value: Any) -> None:
        """Tell followers how far it is: anything JSON holds."""
        as_json(value, PROGRESS, "progress")
        async with self.lock:
            if self.stopped:
                return
            self.row = await self.work.change(self, lambda row: row.but(progress=value))

    def progress_soon(self, value: Any) -> None:
        """The same from a thread; it is not waited for."""
        as_json(value, PROGRESS, "progress")
        asyncio.run_coroutine_threadsafe(self.quiet(value), self.work.loop)

    async def quiet(self, value: Any) -> None:
        with suppress(StoreError):
            await self.progress(value)

    def stop(self, why: str) -> None:
        """End the code: cancel the task, or raise in the thread."""
        if self.stopped:
            return
        self.stopped = why
        if self.thread:
            raised = TimeoutError if why == "timeout" else Cancelled
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.thread), ctypes.py_object(raised))
        elif self.task is not None and not self.blocking:
            self.task.cancel()
        self.work.loop.call_later(STUBBORN, self.ended)

    def ended(self, task: Any = None) -> None:
        """The code has ended, or is waited for no longer."""
        if self.waiter is not None and not self.waiter.done():
            if task is None and self.task is not None and not self.task.done():
                log.warning(
                    "job %s of %s did not end when it was told to (%s); it is given up", self.id, self.kind.name, self.stopped
                )
                self.task.add_done_callback(swallow)
            self.waiter.set_result(None)


running: contextvars.ContextVar[Run] = contextvars.ContextVar("fairlead_job")


def current_job() -> Run:
    """The attempt that this code belongs to. AppError outside of a job."""
    try:
        return running.get()
    except LookupError:
        raise AppError("this code does not run as a job", hint="submit the function instead of calling it") from None


class Work:
    """Works on kinds of jobs in this process: `slots` attempts of each at once. `start()` on a running loop."""

    def __init__(self, jobs: Jobs, kinds: dict[str, int], threads: int = 0) -> None:
        self.jobs, self.store = jobs, jobs.store
        self.slots = dict(kinds)
        self.busy = dict.fromkeys(kinds, 0)
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
            self.busy[kind] = 0
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
        while (free := self.slots[kind] - self.busy[kind]) > 0 and not self.stopping:
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
            for lease, entry in taken:
                self.busy[kind] += 1
                self.spawn(self.one(kind, lease, slots.pop() if slots else "", began, entry))
            await self.free_slots(slots)
            if len(taken) < n:
                due = await self.store.leases.next_due(queue_of(kind))
                return LOOK if due is None else min(max(due - await self.jobs.now(), 0.001), LOOK)
        return LOOK

    async def take_slots(self, kind: str, most: int, wanted: int) -> list[str]:
        """At most `wanted` of a kind's slots, held for a lease."""
        lease = self.jobs.kinds[kind].options.lease
        taken: list[str] = []
        for n in random.sample(range(most), most):
            if len(taken) == wanted:
                break
            with suppress(Conflict):
                await self.store.state.put_if(f"jobslot/{kind}/{n}", self.me.encode(), 0, ttl=lease)
                taken.append(f"jobslot/{kind}/{n}")
        return taken

    async def free_slots(self, slots: list[str]) -> None:
        """Give them back."""
        for key in slots:
            entry = await self.store.state.get(key)
            if entry is not None and entry.value == self.me.encode():
                with suppress(Conflict):
                    await self.store.state.delete_if(key, entry.version)

    async def pace(self, kind: str, rate: float) -> float:
        """Take the next start; or the seconds until there is one."""
        key, now = f"jobrate/{kind}", await self.jobs.now()
        while True:
            entry = await self.store.state.get(key)
            at = float(entry.value) if entry else 0.0
            if at > now:
                return at - now
            try:
                after = max(at, now - 1.0) + 1.0 / rate
                await self.store.state.put_if(key, repr(after).encode(), entry.version if entry else 0, ttl=60.0 + 1.0 / rate)
            except Conflict:
                continue
            return 0.0

    # ---- one attempt

    async def one(self, kind: str, lease: Lease, slot: str, since: float, entry: Entry | None) -> None:
        """A claimed job, from its row to its outcome. `since`: when the lease was asked for, on the loop's clock."""
        try:
            await self.attempt(self.jobs.kinds[kind], lease, slot, since, entry)
        except (Fenced, Conflict):
            log.info("job %s: its lease was lost, so its outcome is another worker's", lease.id)
        except StoreError as error:
            log.warning("job %s: the store cannot be reached: %s; it runs again when its lease ends", lease.id, error)
        finally:
            self.busy[kind] -= 1
            self.wakes[kind].set()
            if slot:
                with suppress(StoreError):
                    await self.free_slots([slot])

    async def attempt(self, kind: JobKind, lease: Lease, slot: str, since: float, entry: Entry | None) -> None:
        """Rule 1, then the code, then the outcome."""
        row = None if entry is None else loaded(entry)
        while True:
            if row is None or row.over:
                await self.store.leases.ack([lease])
                return
            if row.fence > lease.fence:
                return
            if row.state == RUNNING and row.attempt > retries_of(row, kind):
                await self.fail(kind, lease, row.but(), "its worker was lost, and that was the last attempt", "")
                return
            begun = row.but(
                state=RUNNING, attempt=row.attempt + 1, fence=lease.fence, worker=self.me,
                started=await self.jobs.now(), error="", trace="",
            )  # fmt: skip
            try:
                run = Run(self, kind, await self.jobs.write(begun), lease, slot, since)
                break
            except Conflict as conflict:  # somebody began to follow it, or cancelled it
                row = None if conflict.entry is None else loaded(conflict.entry)
        if self.late(run):  # the store was away meanwhile
            raise Fenced(f"job {run.id}")
        self.runs[kind.name, lease.id] = run
        try:
            await self.settle(run, *await self.call(run))
        finally:
            self.runs.pop((kind.name, lease.id), None)

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
                    if row is not None and row.cancel and row.fence == run.lease.fence:
                        run.stop("cancelled")

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

    async def hold_slot(self, slot: str, term: float) -> None:
        """One of a kind's places, for longer."""
        entry = await self.store.state.get(slot)
        if entry is not None and entry.value == self.me.encode():
            with suppress(Conflict):
                await self.store.state.put_if(slot, entry.value, entry.version, ttl=term)

    async def call(self, run: Run) -> tuple[str, Any, str]:
        """Run the code: (how it ended, result or error or retry delay, traceback)."""
        args, named = run.row.args or [[], {}]
        timer = None
        if run.kind.options.timeout:
            timer = self.loop.call_later(run.kind.options.timeout, run.stop, "timeout")
        context = contextvars.copy_context()
        context.run(running.set, run)
        try:
            if not run.blocking:
                run.task = self.loop.create_task(contained(run.kind.function, *args, **named), context=context)
            else:
                run.task = self.loop.create_task(contained(self.in_thread, run, context, args, named))
            run.waiter = self.loop.create_future()
            run.task.add_done_callback(run.ended)
            await run.waiter
            if not run.task.done():
                return "error", f"it did not end when it was told to ({run.stopped})", ""
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
            if run.task is not None and not run.task.done():
                run.task.cancel()
                run.task.add_done_callback(swallow)
            return "error", "", ""
        except Left as error:
            return "error", str(error), traced(error)
        except (Exception, Cancelled) as error:
            return "error", f"{type(error).__name__}: {error}", traced(error)
        finally:
            if timer is not None:
                timer.cancel()

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
        """Edit the row of a run while it is still this run's; `finish` lets go of the item too. Conflict when it is not."""
        row = run.row
        while True:
            try:
                changed = edit(row)
                return await (self.jobs.finish(changed, run.lease) if finish else self.jobs.write(changed))
            except Conflict as conflict:
                found = None if conflict.entry is None else loaded(conflict.entry)
                if found is None or found.fence != run.lease.fence or found.state != RUNNING:
                    raise conflict
                row = found

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
            await self.fail(run.kind, run.lease, run.row, error, trace)
            return
        if delay is None:
            delay = min(options.backoff * 2.0 ** min(attempt - 1, 60), options.max_backoff)
            delay *= 1.0 - options.jitter * random.random()
        now = await self.jobs.now()
        due = now + delay
        self.tried.append(Tried(run.kind.name, run.id, attempt, error[:500], now, due))
        await self.change(run, lambda row: row.but(state=QUEUED, error=error, trace=trace, due=due, worker=""))
        await self.store.leases.nack(run.lease, delay, error)

    async def fail(self, kind: JobKind, lease: Lease, row: Row, error: str, trace: str) -> None:
        """No attempt is left."""
        self.count(kind.name, "failed")
        now = await self.jobs.now()
        self.tried.append(Tried(kind.name, row.id, row.attempt, error[:500], now, 0.0))
        run = Run(self, kind, row, lease)
        row.fence = lease.fence if row.state != RUNNING else row.fence
        lost = row.fence != lease.fence

        def edit(one: Row) -> Row:
            return one.but(state=FAILED, error=error, trace=trace, finished=now, fence=lease.fence)

        if lost:  # the attempt before this claim was another worker's: its row is over by our hand
            await self.jobs.write(edit(row))
        else:
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


def traced(error: BaseException) -> str:
    """The end of a traceback."""
    return "".join(traceback.format_exception(error))[-TRACE:]


def is_async(function: Any) -> bool:
    """A coroutine function, or an object that is called as one."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(type(function), "__call__", None))  # noqa: B004


def retries_of(row: Row, kind: JobKind) -> int:
    """Attempts after the first."""
    return kind.options.retries if row.retries is None else row.retries


async def contained(code: Callable[..., Any], /, *args: Any, **named: Any) -> Any:
    """What code gives. A SystemExit of it would end the loop, and with it everybody else's work."""
    try:
        return await code(*args, **named)
    except (SystemExit, KeyboardInterrupt) as error:
        raise Left(f"{type(error).__name__}: {error}") from error


def swallow(task: asyncio.Task[Any]) -> None:
    """What code does that was given up is nobody's."""
    if not task.cancelled():
        task.exception()
