"""taskiq on a Fairlead server: `TopicBroker` sends tasks and gives them to workers, `TopicResults` keeps what came of them.

    broker = TopicBroker("http://127.0.0.1:8000/events").with_result_backend(TopicResults("http://127.0.0.1:8000/events"))

    @broker.task(delay=5)                     taskiq worker tasks:broker
    async def add(a: int, b: int) -> int: ...

A task is an event of the topic `queue`, and the workers are one consumer group of it; a result is a topic of its own that ends
with it.

Rules
1. A kicked task is kept as the store promises, and under its id only once: kicking again after trouble makes no second one.
2. A worker holds a task for as long as it works on it (the lease is extended in the background); what a killed worker had goes to
   another one after `ttl` seconds. So a task runs at least once. taskiq acknowledges when the result is saved, unless a task says
   otherwise.
3. The label `delay` (seconds) puts a task off: who claims it too early gives it back until it is due.
4. A task that kills its worker is a dead letter after 20 claims, at `…/groups/<group>/dead`.
5. A result can be read for `keep` of the topic route; reading it again is free. `is_result_ready` is one poll.
"""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

from fairlead.adapters import missing
from fairlead.client import Client, Gap, ServerError
from fairlead.client.group import Item

try:
    from taskiq import AckableMessage, AsyncBroker, AsyncResultBackend, BrokerMessage, TaskiqResult
    from taskiq.depends.progress_tracker import TaskProgress
    from taskiq.exceptions import ResultGetError
except ModuleNotFoundError:
    missing("taskiq")

T = TypeVar("T")
PREFETCH = 10  # tasks of one worker process at once; taskiq's own limit is --max-async-tasks


class TopicBroker(AsyncBroker):
    """Tasks on a topic. `url`: the topic route; `queue`: the topic; `group`: who shares the tasks; `ttl`: seconds until what a
    killed worker had is another's; `prefetch`: tasks of a worker at once; `options` as of `fairlead.client.Client`."""

    def __init__(
        self,
        url: str,
        queue: str = "taskiq",
        *,
        group: str = "workers",
        ttl: float = 30.0,
        prefetch: int = PREFETCH,
        **options: Any,
    ) -> None:
        super().__init__()
        self.client = Client(url, **options)
        self.topic = self.client.topic(queue)
        self.group = self.topic.group(group, ttl=ttl, after="-1", owner="taskiq")
        self.prefetch = prefetch

    async def shutdown(self) -> None:
        await super().shutdown()
        self.client.close()

    async def kick(self, message: BrokerMessage) -> None:
        """Send a task. ServerError, NetError."""
        said: dict[str, Any] = {"task": message.task_name, "message": base64.b64encode(message.message).decode()}
        if delay := float(message.labels.get("delay") or 0):
            said["due"] = time.time() + delay
        await self.topic.publish(said, type=message.task_name, dedupe=f"taskiq/{message.task_id}")

    async def listen(self) -> AsyncGenerator[bytes | AckableMessage, None]:
        """Tasks for this worker, each until it is acknowledged."""
        items = self.group.several(self.prefetch)
        try:
            async for item in items:
                left = item.data.get("due", 0.0) - time.time()
                if left > 0.001:
                    await item.nack(delay=left, reason="not due")
                    continue
                yield AckableMessage(data=base64.b64decode(item.data["message"]), ack=acknowledged(item))
        finally:
            await items.aclose()  # type: ignore[attr-defined]


def acknowledged(item: Item) -> Any:
    """What taskiq calls when a task is done. ServerError 409 when it is somebody else's by now: taskiq logs that."""

    async def ack() -> None:
        await item.ack()

    return ack


class TopicResults(AsyncResultBackend[T]):
    """Results as topics: `<prefix>.<task id>`, with the progress before it, closed by the result."""

    def __init__(self, url: str, prefix: str = "taskiq.result", **options: Any) -> None:
        self.client = Client(url, **options)
        self.prefix = prefix

    def topic(self, task_id: str) -> Any:
        """Where a task's result is."""
        return self.client.topic(f"{self.prefix}.{task_id}")

    async def shutdown(self) -> None:
        self.client.close()

    async def set_result(self, task_id: str, result: TaskiqResult[T]) -> None:
        """Keep it; the first one counts, if the task ran twice."""
        try:
            value = result.model_dump(mode="json")
        except ValueError as error:  # pydantic's for what is no JSON: the task has failed for whoever waits
            failed = TaskiqResult[Any](is_err=True, return_value=None, execution_time=result.execution_time, error=error)
            value = failed.model_dump(mode="json")
        try:
            await self.topic(task_id).publish(value, type="result", dedupe=f"taskiq/{task_id}", close=True)
        except ServerError as error:
            if error.status != 409:
                raise

    async def found(self, task_id: str, type: str) -> Any:
        """The last event of a type; None when there is none."""
        last = None
        try:
            async for event in self.topic(task_id).read_all():
                last = event.data if event.type == type else last
        except Gap:
            return None
        except ServerError as error:
            if error.status not in (404, 410):
                raise
        return last

    async def is_result_ready(self, task_id: str) -> bool:
        """Whether it is there."""
        return await self.found(task_id, "result") is not None

    async def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[T]:
        """It. ResultGetError when it is not there (yet, or any more)."""
        value = await self.found(task_id, "result")
        if value is None:
            raise ResultGetError
        if not with_logs:
            value["log"] = None
        return TaskiqResult[Any].model_validate(value)

    async def set_progress(self, task_id: str, progress: TaskProgress[Any]) -> None:
        """How far it is: whoever follows the task's topic sees it at once."""
        await self.topic(task_id).publish(progress.model_dump(mode="json"), type="progress")

    async def get_progress(self, task_id: str) -> TaskProgress[Any] | None:
        """How far it was last."""
        value = await self.found(task_id, "progress")
        return TaskProgress[Any].model_validate(value) if value is not None else None
