"""The client without `await`: the same names, blocking, for scripts, threads and WSGI applications.

One thread with an event loop serves all SyncClients of a process; a SyncClient may be used from several threads. A call that is
interrupted (Ctrl-C) is cancelled there too. Iterating `follow` blocks until the next event.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from fairlead.client.group import Group, Item
from fairlead.client.topics import Client, Producer, Topic
from fairlead.client.words import JSON, Event, Gap, Page
from fairlead.core.errors import FairleadError

T = TypeVar("T")
lock = threading.Lock()
running: asyncio.AbstractEventLoop | None = None
owner = 0


def loop() -> asyncio.AbstractEventLoop:
    """The process's; made by the first who needs it, and anew after a fork."""
    import os

    global running, owner
    with lock:
        if running is None or owner != os.getpid():
            running, owner = asyncio.new_event_loop(), os.getpid()
            threading.Thread(target=running.run_forever, name="fairlead-client", daemon=True).start()
        return running


def wait(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine of the client's."""
    future: Future[T] = asyncio.run_coroutine_threadsafe(work, loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def each(source: AsyncIterator[T]) -> Iterator[T]:
    """An async iterator, blocking."""

    async def step() -> T:
        return await anext(source)

    try:
        while True:
            try:
                one = wait(step())
            except StopAsyncIteration:
                return
            yield one
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            wait(close())


class SyncClient:
    """`Client` without await: `with SyncClient("https://shop.example/events") as client`. The same options."""

    def __init__(self, url: str, **options: Any) -> None:
        self.client = Client(url, **options)

    def topic(self, name: str = "", content_type: str = JSON) -> SyncTopic:
        """A topic by name; without one, the topic whose own URL this is."""
        return SyncTopic(self.client.topic(name, content_type))

    def close(self) -> None:
        """Let go of the connections."""
        loop().call_soon_threadsafe(self.client.close)

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SyncTopic:
    """`Topic` without await."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic

    def publish(self, value: Any, *, type: str = "", key: str = "", dedupe: str | None = None, close: bool = False) -> str:
        """See `Topic.publish`."""
        return wait(self.topic.publish(value, type=type, key=key, dedupe=dedupe, close=close))

    def publish_many(self, values: Iterable[Any], *, type: str = "", key: str = "") -> str:
        """See `Topic.publish_many`."""
        return wait(self.topic.publish_many(list(values), type=type, key=key))

    def close(self) -> str:
        """End the topic. See `Topic.close`."""
        return wait(self.topic.close())

    def producer(self, id: str, epoch: int = 0, seq: int = 0) -> SyncProducer:
        """See `Topic.producer`."""
        return SyncProducer(self.topic.producer(id, epoch, seq))

    def read(self, after: str = "-1") -> Page:
        """See `Topic.read`."""
        return wait(self.topic.read(after))

    def read_all(self, after: str = "-1") -> Iterator[Event]:
        """See `Topic.read_all`."""
        return each(self.topic.read_all(after))

    def now(self) -> str:
        """See `Topic.now`."""
        return wait(self.topic.now())

    def follow(
        self,
        after: str = "now",
        *,
        by: str = "auto",
        on_gap: Callable[[Gap], None] | None = None,
        on_loss: Callable[[FairleadError], None] | None = None,
    ) -> Iterator[Event]:
        """See `Topic.follow`; `on_gap` and `on_loss` are called in the client's own thread."""
        return each(self.topic.follow(after, by=by, on_gap=on_gap, on_loss=on_loss))

    def group(self, name: str, **options: Any) -> SyncGroup:
        """See `Topic.group`."""
        return SyncGroup(self.topic.group(name, **options))


class SyncProducer:
    """`Producer` without await."""

    def __init__(self, producer: Producer) -> None:
        self.producer = producer

    def publish(self, value: Any, *, type: str = "", key: str = "") -> str:
        """See `Producer.publish`."""
        return wait(self.producer.publish(value, type=type, key=key))

    def publish_many(self, values: Iterable[Any], *, type: str = "", key: str = "") -> str:
        """See `Producer.publish_many`."""
        return wait(self.producer.publish_many(list(values), type=type, key=key))


class SyncGroup:
    """`Group` without await; an item's `ack`, `nack` and `term` are methods here."""

    def __init__(self, group: Group) -> None:
        self.group = group

    def items(self, n: int = 1) -> Iterator[Item]:
        """See `Group.items`."""
        return each(self.group.items(n))

    def ack(self, item: Item, *publish: Mapping[str, Any]) -> None:
        """It is done."""
        wait(item.ack(*publish))

    def nack(self, item: Item, delay: float = 0.0, reason: str = "") -> None:
        """Somebody shall do it, not before `delay` seconds."""
        wait(item.nack(delay, reason))

    def term(self, item: Item, reason: str = "") -> None:
        """It cannot be done."""
        wait(item.term(reason))
