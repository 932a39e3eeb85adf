"""Where the bytes of uploads are: what a storage promises. `uploaddisk` and `uploads3` are the two.

Rules
1. The storage knows the truth about an upload's offset. A `Writer` is made by `claim`, which fences every earlier writer of the
   same upload, in this process or another: whatever they write from then on fails, so the offset that the new one was told
   stays.
2. `writer.offset` is what was written; `sync()` gives an offset that is durable. Only such offsets are ever told to clients.
3. Between `hold()` and `settle(True)` what is written does not count: who claims after a crash finds the offset of `hold`.
4. `finish` and `remove` may be done again, by anybody, after a crash in the middle.
5. Refused says what went wrong: 409 fenced, 404 gone, 507 full, 503 try again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from fairlead.core.errors import Refused


class Fenced(Refused):
    """Another request has the upload now."""

    def __init__(self) -> None:
        super().__init__("another request has taken this upload over", status=409, hint="HEAD says where to go on")


def fenced() -> Fenced:
    """See above."""
    return Fenced()


def gone() -> Refused:
    """There are no bytes of it any more."""
    return Refused("this upload is gone", status=404, hint="begin a new one")


class Writer:
    """Appends to one upload. One task uses it."""

    offset = 0

    async def write(self, chunks: Sequence[bytes]) -> None:
        """Append. Refused; then `offset` says how much of it was written."""
        raise NotImplementedError

    async def sync(self) -> int:
        """Make durable what was written; the offset."""
        raise NotImplementedError

    async def hold(self) -> None:
        """What comes counts only once it is settled."""
        raise NotImplementedError

    async def settle(self, good: bool) -> None:
        """What came since `hold` counts, or is forgotten."""
        raise NotImplementedError

    async def close(self) -> None:
        """Let go; nothing is lost that was synced."""


class Storage:
    """A place. `row` is an `uploads.Row`; `row.place` belongs to the storage and is kept with the row."""

    async def start(self) -> None:
        """Once, before the first use. AppError when the place cannot be used."""

    async def begin(self, row: Any) -> None:
        """An empty upload."""
        raise NotImplementedError

    async def claim(self, row: Any) -> Writer:
        """Fence others out, and append. Conflict when the row is not the newest."""
        raise NotImplementedError

    async def size(self, row: Any) -> int:
        """How much there is now, without disturbing whoever writes."""
        raise NotImplementedError

    def read(self, row: Any) -> AsyncIterator[bytes]:
        """The bytes, in pieces, finished or not."""
        raise NotImplementedError

    async def finish(self, row: Any) -> None:
        """It is whole: move it to where finished files are."""
        raise NotImplementedError

    async def remove(self, row: Any) -> None:
        """Forget its bytes, finished or not."""
        raise NotImplementedError

    def where(self, row: Any) -> dict[str, str]:
        """Where a finished one is, for those it is given to."""
        raise NotImplementedError

    async def orphans(self, before: float) -> list[str]:
        """Ids of unfinished uploads that nobody has touched since."""
        return []

    async def discard(self, name: str) -> None:
        """Forget an orphan."""

    async def close(self) -> None:
        """No more."""
