"""A queue's item and a key at once: what jobs do with every job, in one call where one engine has both.

    enqueue   the key is made (Conflict when it is there), and its item put
    draw      items are claimed, and their keys read: the key of item `id` is `prefix` + id
    finish    the key is changed (Conflict when it has another version), and the item acknowledged

An engine that has a word of its own for each (`leases` and `state` of one `facade.Front`) does it whole or not at all. For two
engines it is two calls, which can be cut in between: the key comes first, and a repeat heals.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from .contract import Entry, Item, Lease, Store


class Pairs(Protocol):
    """The three words."""

    async def enqueue(self, queue: str, item: Item, key: str, value: bytes, due: float | None) -> Entry:
        """See above. Conflict."""

    async def draw(self, queue: str, n: int, ttl: float, owner: str, prefix: str) -> list[tuple[Lease, Entry | None]]:
        """See above. Gap."""

    async def finish(self, lease: Lease, key: str, value: bytes, version: int, ttl: float | None) -> Entry:
        """See above. Conflict; that the lease is no longer ours is no error: the key decides."""


class Apart:
    """By two calls."""

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

    async def finish(self, lease: Lease, key: str, value: bytes, version: int, ttl: float | None) -> Entry:
        """See `Pairs`."""
        entry = await self.state.put_if(key, value, version, ttl=ttl)
        await self.leases.ack([lease])
        return entry


class Together:
    """By one."""

    def __init__(self, caller: Any) -> None:
        self.caller = caller

    async def enqueue(self, queue: str, item: Item, key: str, value: bytes, due: float | None) -> Entry:
        """See `Pairs`."""
        return await self.caller.call("enqueue", queue, item, key, value, due)

    async def draw(self, queue: str, n: int, ttl: float, owner: str, prefix: str) -> list[tuple[Lease, Entry | None]]:
        """See `Pairs`."""
        return [tuple(one) for one in await self.caller.call("draw", queue, n, ttl, owner, prefix)]

    async def finish(self, lease: Lease, key: str, value: bytes, version: int, ttl: float | None) -> Entry:
        """See `Pairs`."""
        return await self.caller.call("finish", (lease.queue, lease.id, lease.fence), key, value, version, ttl)


def pairs_of(store: Store) -> Pairs:
    """How a store does it."""
    caller = getattr(store.leases, "caller", None)
    if caller is not None and caller is getattr(store.state, "caller", None):
        return Together(caller)
    return Apart(store)


class PairWords:
    """The words over a core's own (memory and SQLite): in one transaction, since they are one call."""

    def enqueue(self: Any, queue: str, item: Item, key: str, value: bytes, due: float | None) -> Entry:
        """See `Pairs`."""
        entry: Entry = self.put_if(key, value, 0, None, due)
        self.put(queue, (item,))
        return entry

    def draw(self: Any, queue: str, n: int, ttl: float, owner: str, prefix: str) -> list[Any]:
        """See `Pairs`."""
        return [[lease, self.get(prefix + lease.id)] for lease in self.claim(queue, n, ttl, owner)]

    def finish(self: Any, held: tuple[str, str, int], key: str, value: bytes, version: int, ttl: float | None) -> Entry:
        """See `Pairs`."""
        entry: Entry = self.put_if(key, value, version, ttl, None)
        self.ack((held,))
        return entry
