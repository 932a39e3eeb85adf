"""Many callers, one call: what comes while a call is under way gathers, and is the next call.

Nobody waits for a group to fill: an idle group does a single call at once. So the cost of a round trip and of a commit is shared by
as many as come meanwhile, and grows no latency at rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from .contract import StoreError

LARGEST = 512  # calls of one group: a bound for what one transaction holds
HEAVIEST = 8 << 20  # bytes of one group, unless one call alone has more


class Group:
    """One kind of call. `work` does many and gives an answer, or an exception, for each."""

    def __init__(self, work: Callable[[Sequence[Any]], Awaitable[Sequence[Any]]]) -> None:
        self.work = work
        self.waiting: list[tuple[Any, int, asyncio.Future[Any]]] = []
        self.task: asyncio.Task[None] | None = None

    def add(self, call: Any, size: int = 0) -> asyncio.Future[Any]:
        """One more call, of about `size` bytes; its answer."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self.waiting.append((call, size, future))
        if self.task is None:
            self.task = loop.create_task(self.run())
        return future

    def take(self) -> list[tuple[Any, int, asyncio.Future[Any]]]:
        """The next group. Those who left meanwhile are dropped."""
        n = room = 0
        for _, size, _ in self.waiting:
            room += size
            if n and (room > HEAVIEST or n >= LARGEST):
                break
            n += 1
        group, self.waiting = self.waiting[:n], self.waiting[n:]
        return [one for one in group if not one[2].done()]

    async def run(self) -> None:
        """Group after group, until nothing waits."""
        try:
            while self.waiting:
                group = self.take()
                if not group:
                    continue
                try:
                    answers = await self.work([call for call, _, _ in group])
                except Exception as error:
                    answers = [error] * len(group)
                except asyncio.CancelledError:
                    for _, _, future in group:
                        future.cancel()
                    raise
                for (_, _, future), answer in zip(group, answers):
                    if future.done():
                        continue
                    if isinstance(answer, BaseException):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)
        finally:
            self.task = None

    async def finish(self) -> None:
        """Until nothing is under way any more."""
        while self.task is not None:
            await asyncio.wait([self.task])


async def ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancels tasks until they have ended: one cancellation may be swallowed (by `wait_for` before Python 3.12, by drivers)."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.1)


async def each(work: Callable[[Sequence[Any]], Awaitable[Sequence[Any]]], calls: Sequence[Any]) -> list[Any]:
    """One of a group cannot be kept: each alone, so that it costs the others nothing."""
    answers: list[Any] = []
    for call in calls:
        try:
            answers += await work([call])
        except StoreError as error:
            answers.append(error)
    return answers
