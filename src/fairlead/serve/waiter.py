"""What a Task waits on when its reader has nothing for it: woken inside the callback that brought the news.

An asyncio.Future wakes its Task through the loop: a handle, a turn, 1.4 us. The Task itself asks for no more than the few
methods below (asyncio's own `_asyncio_future_blocking` protocol, which Tasks in C and in Python follow), so `wake` steps the
Task at once, in its own context, and what it says leaves in the same write as the rest of this read.

Rules
1. A Task is stepped at once only while no Task is running, for they do not nest; else through the loop, as a Future would.
2. One Task waits on one Waiter, once. Cancelling works as with a Future: the Task sees CancelledError in its await.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

# Python 3.11's current_task is written in Python: there its dictionary is asked
_running: Any = asyncio.tasks._current_tasks if sys.version_info < (3, 12) else None  # type: ignore[attr-defined]


class Waiter:
    """`await waiter` until `wake()`. Make it by `Waiter.__new__(Waiter)` and `begin(loop)`."""

    def begin(self, loop):
        """In place of a constructor on the hot path."""
        self.loop: Any = loop
        self.callback: Any = None
        self.context: Any = None
        self._asyncio_future_blocking = False
        self.over = self.cancelled = self.asked = False

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if not self.asked:
            self.asked = True
            if not self.over:
                self._asyncio_future_blocking = True
                return self
        if self.cancelled:
            raise asyncio.CancelledError
        raise StopIteration

    def wake(self):
        """The Task may go on."""
        if self.over:
            return
        self.over = True
        if self.callback is not None:
            self.run(False)

    def run(self, later):
        """Call back: now if that can be, else through the loop."""
        callback = self.callback
        self.callback = None
        loop = self.loop
        if not later:
            later = (_running.get(loop) if _running is not None else asyncio.current_task(loop)) is not None
        if later:
            self.loop.call_soon(callback, self, context=self.context)
        elif self.context is not None:
            self.context.run(callback, self)
        else:
            callback(self)

    # ---- what a Task asks for

    def get_loop(self):
        """The loop of the Task that may wait here."""
        return self.loop

    def add_done_callback(self, callback, *, context=None):
        """The Task's own wake-up."""
        self.callback = callback
        self.context = context
        if self.over:
            self.run(True)

    def remove_done_callback(self, callback):
        """Forget the Task."""
        count = 0 if self.callback is None else 1
        self.callback = None
        return count

    def done(self):
        """Was it woken or cancelled?"""
        return self.over

    def result(self):
        """Nothing, or CancelledError."""
        if self.cancelled:
            raise asyncio.CancelledError

    def cancel(self, msg=None):
        """The Task is cancelled."""
        if self.over:
            return False
        self.over = self.cancelled = True
        if self.callback is not None:
            self.run(True)
        return True
