"""How many jobs of a kind run at once, and start per second, in all workers together: rule 6 of `jobwork`.

A slot is a key that a worker holds as it holds a lease: it ends by itself when its worker is gone. The rate is one key that says
when the next start may be; a kind that was idle may make up for at most a second.
"""

from __future__ import annotations

import random
from contextlib import suppress

from fairlead.serve.jobs import Jobs
from fairlead.store.contract import Conflict, Store, StoreError


class Limits:
    """Of a worker, which is `me` to the others."""

    jobs: Jobs
    store: Store
    me: str

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

    async def let_go(self, slot: str) -> None:
        """A slot, if the store can be reached; else it ends as a lease does."""
        with suppress(StoreError):
            await self.free_slots([slot])

    async def hold_slot(self, slot: str, term: float) -> None:
        """One of a kind's places, for longer."""
        entry = await self.store.state.get(slot)
        if entry is not None and entry.value == self.me.encode():
            with suppress(Conflict):
                await self.store.state.put_if(slot, entry.value, entry.version, ttl=term)
