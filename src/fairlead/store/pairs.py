"""A queue's item and a key at once: what jobs do with every job, in one call where one engine has both.

    enqueue    the key is made (Conflict when it is there), and its item put
    draw       items are claimed, and their keys read: the key of item `id` is `prefix` + id
    settle     the key is changed (Conflict when it has another version), and with `done` the item acknowledged
    withdraw   the key is changed so, and the item removed, unless somebody holds it (Fenced)

An engine that has words of its own for them (`leases` and `state` of one `facade.Front`) does each whole or not at all, and settles
only for who holds the item (Fenced): `whole`. Many callers of one turn of the loop are one call there. For two engines it is two
calls, which can be cut in between, and no lease guards a key: the key comes first, and a repeat heals.

What a core says of each call of many, in plain values: a number is the key's new version, None that the lease is another's, a list
that the version is another, with the entry in it if there is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

from .contract import Entry, Item, Lease, Store, StoreError
from .rules import changed, fenced

MOST = 256  # in one call


class Pairs(Protocol):
    """The four words."""

    whole: bool

    def enqueue(self, queue: str, item: Item, key: str, value: bytes, due: float | None) -> Awaitable[Entry]:
        """See above. Conflict."""

    async def draw(self, queue: str, n: int, ttl: float, owner: str, prefix: str) -> list[tuple[Lease, Entry | None]]:
        """See above. Gap."""

    def settle(
        self, lease: Lease, key: str, value: bytes, version: int, ttl: float | None, done: bool
    ) -> Awaitable[Entry]:
        """See above. Conflict, and Fenced if `whole`; else that the lease is no longer ours is no error: the key decides."""

    def withdraw(self, queue: str, item: str, key: str, value: bytes, version: int, ttl: float | None) -> Awaitable[Entry]:
        """See above. Conflict, and Fenced if `whole`; else the item is removed whoever holds it."""


class Apart:
    """By two calls."""

    whole = False

    def __init__(self, store: Store) -> None:
        self.leases, self.state = store.leases, store.state

    async def enqueue(self, queue: str, item: Item, key: str, value: bytes, due: float | None) -> Entry:
        """See `Pairs`."""
        entry = await self.state.put_if(key, value, 0, due=due)
        await self.leases.put(queue, [item])
        return entry

    async def draw(self, queue: str, n: int, ttl: float, owner: str, prefix: str) -> list[tuple[Lease, Entry | None]]:
        """See `Pairs`."""
        leases = await self.leases.claim(queue, n, ttl, owner)
        entries = await asyncio.gather(*(self.state.get(prefix + lease.id) for lease in leases))
        return list(zip(leases, entries))

    async def settle(self, lease: Lease, key: str, value: bytes, version: int, ttl: float | None, done: bool) -> Entry:
        """See `Pairs`."""
        entry = await self.state.put_if(key, value, version, ttl=ttl)
        if done:
            await self.leases.ack([lease])
        return entry

    async def withdraw(self, queue: str, item: str, key: str, value: bytes, version: int, ttl: float | None) -> Entry:
        """See `Pairs`."""
        entry = await self.state.put_if(key, value, version, ttl=ttl)
        await self.leases.remove(queue, [item])
        return entry


class Together:
    """By one."""

    whole = True

    def __init__(self, caller: Any) -> None:
        self.caller = caller
        self.asking: set[asyncio.Future[Any]] = set()
        self.waiting: dict[str, list[tuple[tuple[Any, ...], asyncio.Future[Entry]]]] = {}

    def enqueue(self, queue: str, item: Item, key: str, value: bytes, due: float | None) -> asyncio.Future[Entry]:
        """See `Pairs`."""
        return self.soon("enqueue", (queue, item.id, item.body, item.due, item.priority, key, value, due))

    async def draw(self, queue: str, n: int, ttl: float, owner: str, prefix: str) -> list[tuple[Lease, Entry | None]]:
        """See `Pairs`."""
        return [tuple(one) for one in await self.caller.call("draw", queue, n, ttl, owner, prefix)]

    def settle(
        self, lease: Lease, key: str, value: bytes, version: int, ttl: float | None, done: bool
    ) -> asyncio.Future[Entry]:
        """See `Pairs`."""
        return self.soon("settle", (lease.queue, lease.id, lease.fence, key, value, version, ttl, done))

    def withdraw(self, queue: str, item: str, key: str, value: bytes, version: int, ttl: float | None) -> asyncio.Future[Entry]:
        """See `Pairs`."""
        return self.soon("withdraw", (queue, item, key, value, version, ttl))

    def soon(self, word: str, call: tuple[Any, ...]) -> asyncio.Future[Entry]:
        """One more of this turn's calls."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Entry] = loop.create_future()
        waiting = self.waiting.get(word)
        if waiting is None:
            self.waiting[word] = [(call, future)]
            loop.call_soon(self.flush, word)
        else:
            waiting.append((call, future))
        return future

    def flush(self, word: str) -> None:
        """This turn's, together. Who left before is not asked for."""
        waiting = [one for one in self.waiting.pop(word) if not one[1].done()]
        for at in range(0, len(waiting), MOST):
            self.send(word, waiting[at : at + MOST])

    def send(self, word: str, some: list[tuple[tuple[Any, ...], asyncio.Future[Entry]]]) -> None:
        """One call of the engine."""
        asked = asyncio.ensure_future(self.caller.call(word, [list(call) for call, _ in some]))  # noqa: RUF006 - kept below
        self.asking.add(asked)
        asked.add_done_callback(lambda done: self.answered(word, some, done))

    def answered(self, word: str, some: list[tuple[tuple[Any, ...], asyncio.Future[Entry]]], asked: asyncio.Future[Any]) -> None:
        """To each its own. When one of many cannot be kept, each is tried alone, so that it costs the others nothing."""
        error: BaseException | None
        self.asking.discard(asked)
        if asked.cancelled():
            error = StoreError("the store is closed")
        elif (error := asked.exception()) is None:
            for (call, future), answer in zip(some, asked.result()):
                if not future.done():
                    give(word, call, future, answer)
            return
        if isinstance(error, StoreError) and error.side == "peer" and len(some) > 1:
            for one in some:
                self.send(word, [one])
            return
        for _, future in some:
            if not future.done():
                future.set_exception(error)


PLACES = {"enqueue": (5, 6, 0, 1), "settle": (3, 4, 0, 1), "withdraw": (2, 3, 0, 1)}  # of key, value, queue and id in a call


def give(word: str, call: tuple[Any, ...], future: asyncio.Future[Entry], answer: Any) -> None:
    """A core's answer, to who waits for it."""
    key, value, queue, item = PLACES[word]
    if type(answer) is int:
        future.set_result(Entry(call[value], answer))
    elif answer is None:
        future.set_exception(fenced(call[queue], call[item]))
    else:
        future.set_exception(changed(call[key], answer[0] if answer else None))


def pairs_of(store: Store) -> Pairs:
    """How a store does it."""
    caller = getattr(store.leases, "caller", None)
    if caller is not None and caller is getattr(store.state, "caller", None):
        return Together(caller)
    return Apart(store)


class PairWords:
    """The words over a core's own (memory and SQLite): in one transaction, since they are one call."""

    def put_key(self: Any, key: str, value: bytes, version: int | None, ttl: float | None, due: float | None) -> list[Any]:
        """`put_if` for who need not be told what it sent: [version, expires]. What is answered is also kept (`journal`)."""
        made: Entry = self.put_if(key, value, version, ttl, due)
        return [made.version, made.expires]

    def enqueue(self: Any, calls: Sequence[Any]) -> list[Any]:
        """See `Pairs`."""
        return [self.enqueue_one(*call) for call in calls]

    def enqueue_one(
        self: Any, queue: str, item: str, body: bytes, at: float, priority: int, key: str, value: bytes, due: float | None
    ) -> Any:
        """One of them."""
        if (old := self.get(key)) is not None:
            return [old]
        version: int = self.put_if(key, value, 0, None, due).version
        self.put(queue, (Item(item, body, at, priority),))
        return version

    def draw(self: Any, queue: str, n: int, ttl: float, owner: str, prefix: str) -> list[Any]:
        """See `Pairs`."""
        return [[lease, self.get(prefix + lease.id)] for lease in self.claim(queue, n, ttl, owner)]

    def settle(self: Any, calls: Sequence[Any]) -> list[Any]:
        """See `Pairs`."""
        return [self.settle_one(*call) for call in calls]

    def settle_one(
        self: Any, queue: str, item: str, fence: int, key: str, value: bytes, version: int, ttl: float | None, done: bool
    ) -> Any:
        """One of them."""
        if self.held(queue, item, fence) is None:
            return None
        old = self.get(key)
        if version != (old.version if old is not None else 0):
            return [] if old is None else [old]
        made: int = self.put_if(key, value, None, ttl, None).version
        if done:
            self.ack(((queue, item, fence),))
        return made

    def withdraw(self: Any, calls: Sequence[Any]) -> list[Any]:
        """See `Pairs`."""
        return [self.withdraw_one(*call) for call in calls]

    def withdraw_one(self: Any, queue: str, item: str, key: str, value: bytes, version: int, ttl: float | None) -> Any:
        """One of them."""
        if self.leased(queue, item):
            return None
        old = self.get(key)
        if version != (old.version if old is not None else 0):
            return [] if old is None else [old]
        self.remove(queue, [item])
        return self.put_if(key, value, None, ttl, None).version

