"""How much the uploads of one principal, and of all, may have: ledgers in the state.

    <root>o/<principal>   {"ids": {upload: bytes}, "done": {upload: bytes}}      <root>total   {"o": {principal: bytes}}

A ledger holds absolute numbers by name, so that doing an entry again changes nothing, and what a crash left in the middle is
right again with the principal's next entry. An upload counts with its length as soon as that is known, else with what was
announced so far, until it is cancelled, expires, is rejected, or its record goes. Nothing is read or written where nothing is
limited.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from fairlead.core.errors import Refused
from fairlead.store.contract import Conflict, State

TRIES = 50


class Quota:
    """`each` bytes of one principal, `total` of all, `most` uploads of one principal; None is no limit."""

    def __init__(self, state: State, root: str, each: int | None, total: int | None, most: int | None) -> None:
        self.state, self.root = state, root
        self.each, self.total, self.most = each, total, most
        self.limited = each is not None or total is not None or most is not None

    def name(self, owner: str) -> str:
        """A principal in a key."""
        return hashlib.sha256(owner.encode()).hexdigest()[:20]

    async def reserve(self, owner: str, upload: str, size: int) -> None:
        """This upload counts as so many bytes. Refused 413 over the principal's quota, 507 over the total, 429 with too many."""
        if not self.limited:
            return
        who = self.name(owner)
        before: list[int | None] = [None]

        def back(ledger: dict[str, Any]) -> int:
            ids = ledger.setdefault("ids", {})
            ids.pop(upload, None)
            if before[0] is not None:
                ids[upload] = before[0]
            return 0

        def enter(ledger: dict[str, Any]) -> int:
            ids = ledger.setdefault("ids", {})
            before[0] = ids.get(upload)
            if upload not in ids and self.most is not None and len(ids) >= self.most:
                raise Refused(f"{self.most} uploads are the most that may be unfinished at once", status=429, after=60)
            used = sum_of(ledger) - ids.get(upload, 0) + size
            if self.each is not None and used > self.each:
                raise Refused(f"this would make {used} bytes, the quota is {self.each}", status=413)
            ids[upload] = size
            return used

        used = await self.change(f"{self.root}o/{who}", enter)
        if self.total is None:
            return

        def sum_up(ledger: dict[str, Any]) -> int:
            owners = ledger.setdefault("o", {})
            if sum(owners.values()) - owners.get(who, 0) + used > self.total:  # type: ignore[operator]
                raise Refused("the uploads of all together have reached their limit", status=507, retry="always")
            owners[who] = used
            return used

        try:
            await self.change(f"{self.root}total", sum_up)
        except Refused:
            await self.change(f"{self.root}o/{who}", back)
            raise

    async def finished(self, owner: str, upload: str) -> None:
        """This upload is not one of the unfinished any more; its bytes count on."""
        if not self.limited:
            return

        def move(ledger: dict[str, Any]) -> int:
            if (size := ledger.get("ids", {}).pop(upload, None)) is not None:
                ledger.setdefault("done", {})[upload] = size
            return 0

        await self.change(f"{self.root}o/{self.name(owner)}", move)

    async def release(self, owner: str, upload: str) -> None:
        """This upload counts no more."""
        if not self.limited:
            return
        who = self.name(owner)

        def leave(ledger: dict[str, Any]) -> int:
            for ids in ledger.values():
                ids.pop(upload, None)
            return sum_of(ledger)

        used = await self.change(f"{self.root}o/{who}", leave)
        if self.total is not None:

            def sum_up(ledger: dict[str, Any]) -> int:
                ledger.setdefault("o", {})[who] = used
                if not used:
                    del ledger["o"][who]
                return used

            await self.change(f"{self.root}total", sum_up)

    async def change(self, key: str, how: Any) -> int:
        """Change a ledger; what `how` gave."""
        for _ in range(TRIES):
            entry = await self.state.get(key)
            ledger = json.loads(entry.value) if entry is not None else {}
            given = how(ledger)
            try:
                if any(ledger.values()):
                    await self.state.put_if(key, json.dumps(ledger).encode(), entry.version if entry is not None else 0)
                elif entry is not None:
                    await self.state.delete_if(key, entry.version)
            except Conflict:
                continue
            return int(given)
        raise Refused("too many uploads begin at once", status=503, after=1)


def sum_of(ledger: dict[str, Any]) -> int:
    """All bytes of one principal."""
    return sum(sum(ids.values()) for ids in ledger.values())
