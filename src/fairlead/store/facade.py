"""The contract's coroutines over an engine whose work is done by plain calls: the same front for memory, SQLite and the keeper's
clients.

Such an engine is a *core*: an object with a method for each word of the contract, named and ordered as there, that does its work
at once and returns or raises. Where the core lives is the caller's business:

    memory    the core is called on the loop
    sqlite    the core belongs to a writer thread, which does many calls in one transaction
    keeper    the core lives in another process, and calls travel to it

`call` changes something; `look` only reads, and may be answered by somebody else than the core (a reader of the file).
`CALLS` and `LOOKS` are all the words there are, so the keeper needs no list of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from .contract import (
    Appended,
    Batch,
    Dead,
    Depth,
    Entry,
    Head,
    Hint,
    Item,
    Lease,
    NewEvent,
    Offset,
    Producer,
    TopicConfig,
)

CALLS = frozenset(
    ["create", "append", "trim", "delete", "touch"]
    + ["feed", "seek", "put", "claim", "extend", "ack", "nack", "term", "redrive", "remove", "drop"]
    + ["put_if", "put_key", "delete_if"]
    + ["enqueue", "draw", "settle", "withdraw"]
)
LOOKS = frozenset(["read", "head", "topics", "dead", "depth", "queues", "next_due", "get", "scan", "scan_due"])


class Caller(Protocol):
    """Who has calls done."""

    def call(self, word: str, *args: Any) -> Awaitable[Any]:
        """Has the core do it; the answer when it is done as durably as was declared."""

    def look(self, word: str, *args: Any) -> Awaitable[Any]:
        """The same for a word that changes nothing."""

    def mind(self, kind: str, name: str, wanted: bool) -> None:
        """Hints about this topic or queue matter, or no longer do. `kind` is "topic" or "queue"."""


class LogFront:
    """`Log` by calls."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.hint: Hint | None = None

    async def create(
        self, topic: str, config: TopicConfig, events: Sequence[NewEvent] = (), close: bool = False
    ) -> tuple[Head, bool]:
        """See `Log`."""
        return await self.caller.call("create", topic, config, tuple(events), close)

    async def append(
        self,
        topic: str,
        events: Sequence[NewEvent],
        *,
        producer: Producer | None = None,
        dedupe: str = "",
        close: bool = False,
        create: TopicConfig | None = None,
        after: Offset | None = None,
    ) -> Appended:
        """See `Log`."""
        return await self.caller.call("append", topic, tuple(events), producer, dedupe, close, create, after)

    async def read(self, topic: str, after: Offset | None, max_events: int = 1000, max_bytes: int = 1 << 20) -> Batch:
        """See `Log`."""
        return await self.caller.look("read", topic, after, max_events, max_bytes)

    async def head(self, topic: str) -> Head:
        """See `Log`."""
        return await self.caller.look("head", topic)

    async def trim(self, topic: str, before: Offset) -> Head:
        """See `Log`."""
        return await self.caller.call("trim", topic, before)

    async def delete(self, topic: str) -> bool:
        """See `Log`."""
        return await self.caller.call("delete", topic)

    async def topics(self, prefix: str = "", after: str = "", limit: int = 1000) -> list[Head]:
        """See `Log`."""
        return await self.caller.look("topics", prefix, after, limit)

    def watch(self, hint: Hint) -> None:
        """See `Log`."""
        self.hint = hint

    def interest(self, topic: str, wanted: bool) -> None:
        """See `Log`."""
        self.caller.mind("topic", topic, wanted)


class LeasesFront:
    """`Leases` by calls."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.hint: Callable[[str], None] | None = None

    async def feed(self, queue: str, topic: str, after: Offset | None = None) -> None:
        """See `Leases`."""
        await self.caller.call("feed", queue, topic, after)

    async def seek(self, queue: str, after: Offset) -> None:
        """See `Leases`."""
        await self.caller.call("seek", queue, after)

    async def put(self, queue: str, items: Iterable[Item]) -> list[bool]:
        """See `Leases`."""
        return await self.caller.call("put", queue, tuple(items))

    async def claim(self, queue: str, n: int, ttl: float, owner: str = "") -> list[Lease]:
        """See `Leases`."""
        return await self.caller.call("claim", queue, n, ttl, owner)

    async def extend(self, leases: Sequence[Lease], ttl: float) -> list[bool]:
        """See `Leases`."""
        return await self.caller.call("extend", _names(leases), ttl)

    async def ack(self, leases: Sequence[Lease]) -> list[bool]:
        """See `Leases`."""
        return await self.caller.call("ack", _names(leases))

    async def nack(self, lease: Lease, delay: float = 0.0, reason: str = "", body: bytes | None = None) -> None:
        """See `Leases`."""
        await self.caller.call("nack", lease.queue, lease.id, lease.fence, delay, reason, body)

    async def term(self, lease: Lease, reason: str) -> None:
        """See `Leases`. The event goes with it: the log may have it no more."""
        await self.caller.call("term", lease.queue, lease.id, lease.fence, reason, lease.event)

    async def dead(self, queue: str, after: str = "", limit: int = 100) -> list[Dead]:
        """See `Leases`."""
        return await self.caller.look("dead", queue, after, limit)

    async def redrive(self, queue: str, ids: Sequence[str] | None = None) -> int:
        """See `Leases`."""
        return await self.caller.call("redrive", queue, None if ids is None else tuple(ids))

    async def remove(self, queue: str, ids: Sequence[str]) -> list[bool]:
        """See `Leases`."""
        return await self.caller.call("remove", queue, tuple(ids))

    async def drop(self, queue: str) -> bool:
        """See `Leases`."""
        return await self.caller.call("drop", queue)

    async def depth(self, queue: str) -> Depth:
        """See `Leases`."""
        return await self.caller.look("depth", queue)

    async def queues(self, prefix: str = "") -> list[str]:
        """See `Leases`."""
        return await self.caller.look("queues", prefix)

    async def next_due(self, queue: str) -> float | None:
        """See `Leases`."""
        return await self.caller.look("next_due", queue)

    def watch(self, hint: Callable[[str], None]) -> None:
        """See `Leases`."""
        self.hint = hint

    def interest(self, queue: str, wanted: bool) -> None:
        """See `Leases`."""
        self.caller.mind("queue", queue, wanted)


class StateFront:
    """`State` by calls."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    async def get(self, key: str) -> Entry | None:
        """See `State`."""
        return await self.caller.look("get", key)

    async def put_if(
        self, key: str, value: bytes, version: int | None, *, ttl: float | None = None, due: float | None = None
    ) -> Entry:
        """See `State`."""
        return await self.caller.call("put_if", key, value, version, ttl, due)

    async def delete_if(self, key: str, version: int | None = None) -> bool:
        """See `State`."""
        return await self.caller.call("delete_if", key, version)

    async def scan(self, prefix: str, after: str = "", limit: int = 1000) -> list[tuple[str, Entry]]:
        """See `State`."""
        return await self.caller.look("scan", prefix, after, limit)

    async def scan_due(self, prefix: str, limit: int = 100) -> list[tuple[str, Entry]]:
        """See `State`."""
        return await self.caller.look("scan_due", prefix, limit)


def _names(leases: Sequence[Lease]) -> tuple[tuple[str, str, int], ...]:
    """What says which leases are meant: their bodies need not travel back."""
    return tuple((lease.queue, lease.id, lease.fence) for lease in leases)


class Front:
    """The three over one caller, and the passing on of hints. Base of the engines."""

    def __init__(self) -> None:
        self.log = LogFront(self)
        self.leases = LeasesFront(self)
        self.state = StateFront(self)
        self.minded: dict[str, set[str]] = {"topic": set(), "queue": set()}

    def call(self, word: str, *args: Any) -> Awaitable[Any]:
        """See `Caller`."""
        raise NotImplementedError

    def look(self, word: str, *args: Any) -> Awaitable[Any]:
        """See `Caller`."""
        return self.call(word, *args)

    def mind(self, kind: str, name: str, wanted: bool) -> None:
        """See `Caller`."""
        if wanted:
            self.minded[kind].add(name)
        else:
            self.minded[kind].discard(name)

    def tell(
        self, news: Iterable[tuple[str, Offset | None, Callable[[], Sequence[Any]]]], stirred: Iterable[str]
    ) -> None:
        """Pass on what was appended and which queues have something, to whom it matters."""
        hint, topics = self.log.hint, self.minded["topic"]
        if hint is not None:
            for topic, last, events in news:
                if topic in topics:
                    hint(topic, last, events())
        heard, queues = self.leases.hint, self.minded["queue"]
        if heard is not None:
            for queue in stirred:
                if queue in queues:
                    heard(queue)
