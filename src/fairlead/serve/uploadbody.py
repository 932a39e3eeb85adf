"""The body of an upload's request, on its way from the connection to the storage.

Rules
1. While a batch is written, the next one gathers: up to BUFFER bytes are taken (and credited at once), beyond that the reader
   holds its credit, so the client stops. All bodies of a worker share BUDGET: with many at once each gathers less, but never
   less than LEAST.
2. A batch is worth its way to a thread and back: it has BATCH bytes (or its share, if that is less), or all that came within
   LINGER seconds, or the end.
3. What has arrived when a client leaves is written all the same: it does not have to send that again.
4. Where the time goes is told as steps of the journey, each a sum: `receive` (the client's bytes), `digest`, `write` (to the
   storage), `sync`, `finish` (moved to its place, and all that it feeds; `feed` alone is a step of it, too).
5. An interim answer 104 tells an offset that is durable, and only those clients that said they want it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fairlead.core.aio import Async, Call
from fairlead.core.errors import FairleadError, Refused
from fairlead.serve.uploadcounts import Counts
from fairlead.serve.uploadstorage import Writer
from fairlead.wire import uploadwords as words

BUFFER = 1 << 20
LEAST = 64 * 1024
BATCH = 256 * 1024
LINGER = 0.002  # seconds that a small batch waits for more
BUDGET = 64 << 20  # bytes in all bodies of a worker
PROGRESS = 5.0  # seconds between two interim answers
INTERIMS = 12  # of one request; clients stop listening at 16 or so


class Bodies(Async):
    """Makes a `Body` of each exchange. `share`: what each may gather now; `batch`: what is worth writing at once."""

    share = BUFFER
    batch = BATCH

    def open(self, exchange: Any) -> None:
        call = Body(exchange, self)
        exchange.answer = call
        loop = self.loop or asyncio.get_running_loop()
        task = loop.create_task(self.run(call), name="upload")
        self.tasks.add(task)
        self.weigh()
        task.add_done_callback(self.over)

    def over(self, task: asyncio.Task[None]) -> None:
        """A request has ended."""
        self.tasks.discard(task)
        self.weigh()

    def weigh(self) -> None:
        """Rule 1. A body holds its share twice: one being written, one gathering."""
        self.share = max(LEAST, min(BUFFER, BUDGET // (2 * max(1, len(self.tasks)))))
        self.batch = min(BATCH, self.share)


class Body(Call):
    """An upload's request. `taken` bytes were given to whoever writes; `cut` ends it for a reason."""

    def __init__(self, exchange: Any, owner: Bodies) -> None:
        super().__init__(exchange)
        self.owner = owner
        self.size = self.taken = 0
        self.why: FairleadError | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.due = False  # what is here has waited long enough
        self.spent: dict[str, list[int]] = {}  # by step: when it began first, and how long it took in all, in ns

    def spend(self, name: str, since: int) -> int:
        """Rule 4: a piece of a step took from `since` until now, which is given; "" is no step."""
        now: int = self.exchange.conn.clock.now()
        if name:
            step = self.spent.setdefault(name, [since, 0])
            step[1] += now - since
        return now

    def mark(self) -> None:
        """Tell the journey."""
        for name, (start, took) in self.spent.items():
            self.journey.add(name, start, took)
        self.spent.clear()

    def header(self, name: bytes) -> bytes | None:
        """A field of the request."""
        return self.request.get(name)  # type: ignore[no-any-return]

    def data(self, chunk: bytes, end: bool) -> bool:
        if chunk:
            self.chunks.append(chunk)
            self.size += len(chunk)
        if end or self.size >= self.owner.batch:
            self.wake()
        elif self.timer is None:
            self.timer = asyncio.get_running_loop().call_later(LINGER, self.linger)
        if self.size <= self.owner.share:
            return True
        self.held += len(chunk)
        return False

    def linger(self) -> None:
        """Rule 2: it has waited."""
        self.timer = None
        if self.chunks:
            self.due = True
            self.wake()

    async def take(self) -> list[bytes]:
        """What has arrived since; nothing at the end of the body, or when the client is gone, or it was cut."""
        first = True
        while self.size < self.owner.batch and not self.due:
            if self.exchange.heard_end or self.gone is not None or self.why is not None:
                break
            if first:
                self.exchange.credit(0)
                first = False
                continue
            await self.wait()
        chunks, self.chunks = self.chunks, []
        self.taken += self.size
        self.size = 0
        self.due = False
        count, self.held = self.held, 0
        if count and not self.exchange.over:
            self.exchange.credit(count)
        return chunks

    def cut(self, why: FairleadError | None = None) -> None:
        """No more is taken of it; `why` is answered."""
        self.why = self.why or why or Refused("another request has taken this upload over", status=409)
        self.chunks.clear()
        self.size = 0
        self.wake()

    def farewell(self) -> None:
        """The server stops: what is here is kept, and the rest can be resumed."""
        if self.why is None and not self.exchange.heard_end:
            self.why = Refused("the server is restarting", status=503, retry="always", after=1)
            self.wake()

    @property
    def whole(self) -> bool:
        """All of it was heard and taken."""
        return self.exchange.heard_end and not self.chunks and self.why is None

    def raise_cut(self) -> None:
        """The reason it was cut, or that the client is gone."""
        if self.why is not None:
            raise self.why
        if not self.exchange.heard_end:
            self.check()

    @property
    def wants_interim(self) -> bool:
        """Rule 5: the draft asks for its version to be said, as long as it is one."""
        return self.header(b"upload-draft-interop-version") == words.VERSION

    def interim(self, fields: list[tuple[bytes, bytes]]) -> None:
        """104, to those that want it."""
        if self.wants_interim and not self.exchange.over:
            self.exchange.inform(104, [(b"upload-draft-interop-version", words.VERSION), *fields])


Grow = Callable[[int], Awaitable[int]]


async def pour(
    body: Body, writer: Writer, most: int, counts: Counts, hear: Callable[[bytes], None] | None = None, told: bool = False,
    grow: Grow | None = None,
) -> None:  # fmt: skip
    """Write the body behind what is there, to its end or as far as it comes. Refused when it would go beyond `most` (-1: any).

    `hear` is given all bytes in a thread (a hash); `told`: the client hears of its progress; `grow(offset)` is asked before bytes
    up to there are written, and says up to where it need not be asked again.
    """
    loop = asyncio.get_running_loop()
    allowed = 0
    next_word, words_left = loop.time() + PROGRESS, INTERIMS if told and body.wants_interim else 0
    at = body.spend("", 0)
    while chunks := await body.take():
        at = body.spend("receive", at)
        size = sum(map(len, chunks))
        if most >= 0 and writer.offset + size > most:
            raise TooLong(most)
        if grow is not None and writer.offset + size > allowed:
            allowed = await grow(writer.offset + size)
        if hear is not None:
            await loop.run_in_executor(None, each, hear, chunks)
            at = body.spend("digest", at)
        await writer.write(chunks)
        counts.bytes += size
        at = body.spend("write", at)
        if words_left and loop.time() > next_word:
            words_left -= 1
            body.interim([(b"upload-offset", b"%d" % await writer.sync())])
            next_word = loop.time() + PROGRESS
            at = body.spend("sync", at)
    body.spend("receive", at)


class TooLong(Refused):
    """More bytes came than were announced or are allowed."""

    def __init__(self, most: int) -> None:
        super().__init__(f"more than {most} bytes came", status=400)


def each(hear: Callable[[bytes], None], chunks: list[bytes]) -> None:
    """Every chunk."""
    for chunk in chunks:
        hear(chunk)
