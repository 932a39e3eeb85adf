"""Runner: an asyncio Task that does one piece of work after another, as long as nobody can tell it from a new Task each.

To make a Task, enter it in asyncio's register, have the loop call it and take it apart again costs more than the rest
of a small request. A Runner that has done its work rests instead, and the next work is done by the same Task.

Rules
1. It is a real asyncio.Task: `current_task`, time-outs and cancelling are asyncio's own. The Runner is its coroutine; what
   runs is `serve`, a coroutine inside. At rest the Task waits for a Place, which asyncio takes for a future
   (`_asyncio_future_blocking`, `get_loop`, `add_done_callback`, `result`, `cancel`).
2. `go` does the first part of a work on the caller's stack, entered as the current task, as `eager_start` of Python 3.12
   does. Has the work to wait, the Task is woken, is told by its coroutine what to wait for, and goes on by itself.
   Inside another Task that is not possible: then, and while no Runner rests, the loop calls soon.
3. Each work finds a Task as good as new. A Runner rests only if its Task is as it was before its first work: nobody holds
   a reference to it, strong or weak, it has no callbacks and no other name, nobody asked to cancel it, and the variables
   of its context are the ones it was made with. Otherwise the Task ends with its work, as Tasks do.
4. At most KEPT rest. Whoever cancels every Task of the loop ends them too.
"""

from __future__ import annotations

import asyncio.tasks
import sys
from asyncio import CancelledError, Task
from asyncio.tasks import _enter_task, _leave_task  # type: ignore[attr-defined]  # asyncio documents them ("Extending")
from contextvars import copy_context
from sys import getrefcount
from typing import Any
from weakref import getweakrefcount

from fairlead.core.exchange import Answer

KEPT = 64
CURRENT: Any = getattr(asyncio.tasks, "_current_tasks", None) if sys.version_info < (3, 12) else None  # as they do, cheaper
COMPILED = not __file__.endswith(".py")
WAITS, ENDS = 1, 2  # what the first part of a work left for the Task


class Work(Answer):
    """What a Runner does: `call` gives an awaitable, then one of the next three is told how it ended, then `over`.

    `runner` is who does it, so that its Task is referenced while it waits; None before and after.
    """

    def call(self):
        """The awaitable to run, or None when there is nothing to do; called in the Task."""

    def returned(self):
        """It came to its end."""

    def failed(self, error):
        """It raised an Exception."""

    def stopped(self):
        """It was cancelled, or the process is told to stop; the Task ends with it."""

    def over(self):
        """The last word: drop every reference."""

    @property
    def task(self):
        """The Task that does this work, or None."""
        return self.runner.task if self.runner is not None else None  # type: ignore[attr-defined]


class Runners:
    """The Runners of one kind of work on one loop. With a task factory each Task does one work only."""

    def __init__(self, loop, name):
        self.loop = loop
        self.name = name
        self.factory = loop.get_task_factory() if hasattr(loop, "get_task_factory") else None
        self.resting = []

    def start(self, work, now):
        """Do this work: its first part before this returns if `now` and it is possible, else soon."""
        while self.resting:
            runner = self.resting.pop()
            if runner.place.wakeup is not None:
                work.runner = runner
                if not now or not runner.go(work):
                    self.loop.call_soon(runner.wake, work)
                return
        runner = Runner(self)
        runner.work = work
        work.runner = runner
        if self.factory is None:
            runner.made(Task(runner, loop=self.loop, name=self.name))
            return
        task = self.loop.create_task(runner)
        if not task.done():
            runner.task = task


class Place:
    """What a Task at rest waits for. `wakeup`: what wakes it, None when it does not rest; `enter` calls in its context."""

    def __init__(self, loop):
        self.loop = loop
        self.wakeup: Any = None
        self.context: Any = None
        self.enter: Any = None
        self.message = None
        self.yielded = self.cancelled = self._asyncio_future_blocking = False

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if self.yielded:
            self.yielded = False
            raise StopIteration
        self.yielded = True
        self._asyncio_future_blocking = True
        return self

    def get_loop(self):
        """The loop of the Task."""
        return self.loop

    def add_done_callback(self, wakeup, *, context=None):
        """The Task waits."""
        self.wakeup = wakeup
        if context is not self.context:
            self.context = context
            self.enter = context.run

    def result(self):
        """What the Task asks when it is woken."""
        if self.cancelled:
            raise CancelledError() if self.message is None else CancelledError(self.message)

    def cancel(self, msg=None):
        """The Task is cancelled at rest: it ends."""
        if self.wakeup is None:
            return False
        self.cancelled = True
        self.message = msg
        self.loop.call_soon(self.wakeup, self, context=self.context)
        self.wakeup = None
        return True


class Runner:
    """See the module. `task` is its Task; `left` says what `pending` is: what to wait for, or how the work ended."""

    def __init__(self, runners):
        self.runners = runners
        self.loop = runners.loop
        self.place = Place(self.loop)
        self.task: Any = None
        self.work: Any = None
        self.cancelling: Any = None
        self.name_of: Any = None
        self.pending: Any = None
        self.clean = None
        self.left = 0
        self.quiet = False
        self.references = self.weak = -1
        self.inner: Any = self.serve()
        self.step = self.inner.send

    def made(self, task):
        """The Task is made; its first step is still to come."""
        self.task = task
        self.cancelling = task.cancelling
        self.name_of = task.get_name

    async def serve(self):
        """What the Task runs."""
        if self.cancelling is not None:
            self.as_new()
        while True:
            work = self.work
            self.work = None
            try:
                awaitable = work.call()
                if awaitable is not None:
                    await awaitable
            except Exception as error:
                work.failed(error)
            except BaseException:
                work.stopped()
                raise
            else:
                if awaitable is not None:
                    work.returned()
            finally:
                work.runner = None
                work.over()
            work = awaitable = None
            if self.references < 0 or not self.as_new():
                return
            if not self.quiet:
                self.quiet = True
                self.task._log_destroy_pending = False  # nothing is lost when a Task at rest goes with its loop
            self.runners.resting.append(self)
            await self.place

    def as_new(self):
        """May the Task do another work (rule 3)? The first time, before any, this only notes how it is."""
        if COMPILED:
            references = references_to(self.task)  # type: ignore[name-defined]  # noqa: F821 (Py_REFCNT, in the .pxd)
        else:
            references = getrefcount(self.task)
        if self.references < 0:
            self.references = references
            self.weak = getweakrefcount(self.task)
            self.clean = copy_context()
            return True
        if references != self.references or copy_context() != self.clean or getweakrefcount(self.task) != self.weak:
            return False
        if self.cancelling() or self.name_of() != self.runners.name or len(self.runners.resting) >= KEPT:
            return False
        return not self.task._callbacks and not self.task._must_cancel

    def go(self, work):
        """Do the first part of a work now; False when that is not possible here."""
        if CURRENT is not None:
            if self.loop in CURRENT:
                return False
            CURRENT[self.loop] = self.task
        else:
            try:
                _enter_task(self.loop, self.task)
            except RuntimeError:
                return False
        place = self.place
        wakeup = place.wakeup
        place.wakeup = None
        self.work = work
        try:
            waits = place.enter(self.step, None)
        except StopIteration:
            self.left = ENDS
            waits = None
        except BaseException as error:
            self.left = ENDS
            waits = error.with_traceback(None)  # which would lead here, and to the Task
        if CURRENT is not None:
            del CURRENT[self.loop]
        else:
            _leave_task(self.loop, self.task)
        if waits is place:  # done, and at rest again; the Task knows of nothing
            place.wakeup = wakeup
            return True
        if self.left == 0:
            self.left = WAITS
        self.pending = waits
        self.rouse(wakeup)
        return True

    def wake(self, work):
        """The loop's turn to do a work that could not be begun at once."""
        wakeup = self.place.wakeup
        if wakeup is None:  # cancelled on the way
            self.runners.start(work, False)
            return
        self.place.wakeup = None
        self.work = work
        self.rouse(wakeup)

    def rouse(self, wakeup):
        """Have the Task make its next step now."""
        self.quiet = False
        self.task._log_destroy_pending = True
        self.place.enter(wakeup, self.place)

    # ---- what a Task asks of its coroutine

    def send(self, value):
        """The next step: what to wait for, or how it ended."""
        pending = self.pending
        self.pending = None
        left = self.left
        self.left = 0
        if left == WAITS:
            return pending
        try:
            if left == ENDS:
                raise StopIteration if pending is None else pending
            return self.step(value)
        except BaseException:
            self.forget()
            raise

    def throw(self, kind, value=None, trace=None):
        """Something is raised where it waits. If that was not handed on yet it is cancelled, as a Task would."""
        error = kind if value is None else value
        pending = self.pending
        self.pending = None
        left = self.left
        self.left = 0
        if left == WAITS and hasattr(pending, "cancel") and pending.cancel():
            return pending
        try:
            if left == ENDS:
                raise error
            return self.inner.throw(error)
        except BaseException:
            self.forget()
            raise

    def close(self):
        """It is not wanted any more."""
        self.inner.close()

    def forget(self):
        """The Task ends: no circle may keep it."""
        self.task = self.cancelling = self.name_of = None

    def __await__(self):
        return self.inner.__await__()

    @property
    def cr_await(self):
        """As of a coroutine: asyncio and anyio look at these."""
        return self.inner.cr_await

    @property
    def cr_code(self):
        """As of a coroutine."""
        return self.inner.cr_code

    @property
    def cr_frame(self):
        """As of a coroutine."""
        return self.inner.cr_frame

    @property
    def cr_running(self):
        """As of a coroutine."""
        return self.inner.cr_running
