"""One attempt of a job, as its own code sees it, and what the code may raise."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import inspect
import logging
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fairlead.core.errors import AppError
from fairlead.serve.jobs import PROGRESS, JobKind, Row, as_json
from fairlead.store.contract import Lease, StoreError

if TYPE_CHECKING:
    from fairlead.serve.jobwork import Work

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
    """One attempt of a job, as its own code sees it through `fairlead.current_job()`. `row` is what it is now, `marked` or not."""

    __slots__ = (
        "kind", "lease", "lock", "marked", "over", "row", "since", "slot", "stopped", "task", "thread", "timer", "work",
    )  # fmt: skip

    def __init__(self, work: Work, kind: JobKind, row: Row, lease: Lease, slot: str = "", since: float = 0.0) -> None:
        self.work, self.kind, self.row, self.lease, self.slot = work, kind, row, lease, slot
        self.since = since  # when its lease was asked for, or last renewed
        self.task: asyncio.Task[Any] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.thread = 0
        self.marked = False  # its row says that it runs
        self.over = False  # the code has ended, or is given up
        self.stopped = ""  # why it has to end: cancelled, timeout, fenced, stop
        self.lock = asyncio.Lock()  # one change of the row at a time

    @property
    def blocking(self) -> bool:
        """It runs in a thread."""
        return not is_async(self.kind.function)

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
        if self.over or self.task is None:
            return
        self.over = True
        if task is None and not self.task.done():
            log.warning("job %s of %s did not end when it was told to (%s); it is given up", self.id, self.kind.name, self.stopped)
            self.task.add_done_callback(swallow)
        self.work.ended(self)


running: contextvars.ContextVar[Run] = contextvars.ContextVar("fairlead_job")


def current_job() -> Run:
    """The attempt that this code belongs to. AppError outside of a job."""
    try:
        return running.get()
    except LookupError:
        raise AppError("this code does not run as a job", hint="submit the function instead of calling it") from None


def traced(error: BaseException) -> str:
    """The end of a traceback."""
    return "".join(traceback.format_exception(error))[-TRACE:]


@lru_cache(1024)
def is_async(function: Any) -> bool:
    """A coroutine function, or an object that is called as one."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(type(function), "__call__", None))  # noqa: B004


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
