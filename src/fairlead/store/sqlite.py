"""The embedded engine: SQLite with one writer and group commit.

Calls go to the writer, which takes all that wait and does them in one transaction (`sqlcore`). Nobody waits for a group to fill: an
idle writer commits a single call at once, and while a commit waits for the disk the next group gathers by itself. So the cost of a
sync is shared by as many as come meanwhile, and durable acknowledgement (`synchronous = FULL`) costs nothing at load.

The writer is a thread, so that the loop goes on while the disk syncs; in the keeper, whose loop has nothing else to do, it runs on
the loop (`inline`), which saves the hand-overs. Looks go to reader connections in a small pool.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from . import chunk
from .clock import Clock
from .contract import Ack, Declaration, Offset, StoreError
from .facade import Front
from .journal import Answer, Call
from .rules import DEDUPE_WINDOW
from .sqlcore import SqlCore
from .sqlfile import Lock, open_reader, open_writer, path_of
from .sqlread import Reader

SWEEP = 0.5  # seconds between looks for what is too old
READERS = 2  # threads, each with a connection
GROUP = 4096  # calls in one transaction at most
Done = Callable[[Answer], None]


class Writer:
    """Does calls in groups, on a thread of its own or on the loop. `after` hears, on the loop, of each group when it is done."""

    def __init__(
        self, core: SqlCore, after: Callable[[list[tuple[Done, Answer]], list[Any], set[str]], None], inline: bool
    ) -> None:
        self.core = core
        self.after = after
        self.loop = asyncio.get_running_loop()
        self.waiting: list[tuple[Call, Done]] = []
        self.inbox: queue.SimpleQueue[tuple[Call, Done] | None] = queue.SimpleQueue()
        self.scheduled = False
        self.thread = None if inline else threading.Thread(target=self.work, name="store writer", daemon=True)
        if self.thread is not None:
            self.thread.start()

    def submit(self, call: Call, done: Done) -> None:
        """Have it done."""
        if self.thread is not None:
            self.inbox.put((call, done))
            return
        self.waiting.append((call, done))
        if not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self.turn)

    def turn(self) -> None:
        """All that this turn of the loop brought, on the loop."""
        self.scheduled = False
        group, self.waiting = self.waiting, []
        if group:
            self.after(*self.group(group))

    def work(self) -> None:
        """The thread: takes what is there, and waits when there is nothing."""
        while (first := self.inbox.get()) is not None:
            group, last = [first], False
            while len(group) < GROUP and not self.inbox.empty():
                one = self.inbox.get()
                if one is None:
                    last = True
                    break
                group.append(one)
            self.loop.call_soon_threadsafe(self.after, *self.group(group))
            if last:
                return

    def group(self, group: list[tuple[Call, Done]]) -> tuple[list[tuple[Done, Answer]], list[Any], set[str]]:
        """One transaction: who is answered what, what was appended, which queues have something."""
        core = self.core
        answers = core.run([call for call, _ in group])
        raw, core.raw = core.raw, []
        stirred, core.stirred = core.stirred, set()
        return [(done, answer) for (_, done), answer in zip(group, answers)], raw, stirred

    async def stop(self) -> None:
        """Finish what waits."""
        if self.thread is None:
            self.turn()
            return
        self.inbox.put(None)
        await self.loop.run_in_executor(None, self.thread.join)


class Sqlite(Front):
    """The engine. `on_news` (raw chunks) and `on_stir` are for the keeper, which passes them on."""

    def __init__(
        self,
        path: str,
        ack: Ack | None = None,
        clock: Clock | None = None,
        inline: bool = False,
        patience: float = 0.0,
    ) -> None:
        super().__init__()
        self.patience = patience
        self.path = path
        self.asked = ack
        self.clock = clock or Clock()
        self.inline = inline
        self.writer: Writer | None = None
        self.lock: Lock | None = None
        self.readers: Readers | None = None
        self.sweeper: asyncio.TimerHandle | None = None
        self.on_group: Callable[[list[Any], set[str]], None] | None = None

    async def open(self) -> Declaration:
        """See `Engine`."""
        loop = asyncio.get_running_loop()
        core = await loop.run_in_executor(None, self.begin)
        self.writer = Writer(core, self.after, self.inline)
        self.readers = Readers(self.path, self.clock)
        self.sweep()
        return declaration(self.path, self.asked)

    def begin(self) -> SqlCore:
        """Own the file and open it."""
        Path(self.path).absolute().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.lock = self.owned()
        try:
            db = open_writer(self.path, self.asked)
            row = db.execute("SELECT value FROM meta WHERE key = 'clock'").fetchone()
            if row is not None and row[0] > self.clock.now():
                self.clock.follow(self.clock.shift + row[0] - self.clock.now())
            return SqlCore(db, self.path, self.clock)
        except BaseException:
            self.lock.close()
            raise

    def owned(self) -> Lock:
        """The file's lock, when an earlier owner, who may be about to end, has let go. StoreError after `patience` seconds."""
        end = time.monotonic() + self.patience
        while True:
            try:
                return Lock(self.path)
            except StoreError:
                if time.monotonic() >= end:
                    raise
            time.sleep(0.05)

    async def close(self) -> None:
        """See `Engine`."""
        if self.sweeper is not None:
            self.sweeper.cancel()
        if self.writer is not None:
            writer, self.writer = self.writer, None
            await writer.stop()
            writer.core.run([Call("sweep", ())])
            writer.core.db.close()
        if self.readers is not None:
            self.readers.close()
        if self.lock is not None:
            self.lock.close()

    async def now(self) -> float:
        """See `Engine`."""
        return self.clock.now()

    def submit(self, call: Call, done: Done) -> None:
        """Have a call done; `done` hears the answer on the loop."""
        if self.writer is None:
            done(Answer(None, StoreError(f"the store {self.path} is closed")))
        else:
            self.writer.submit(call, done)

    def call(self, word: str, *args: Any) -> Awaitable[Any]:
        """See `Caller`."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.submit(Call(word, args), partial(settle, future))
        return future

    async def look(self, word: str, *args: Any) -> Any:
        """See `Caller`."""
        if self.readers is None:
            raise StoreError(f"the store {self.path} is closed")
        value, touched = await self.readers.look(word, args)
        for topic in touched:
            self.submit(Call("touch", (topic,)), ignore)
        return value

    def after(self, done: list[tuple[Done, Answer]], raw: list[Any], stirred: set[str]) -> None:
        """A group was committed: tell, then answer, so that who is answered has been told already."""
        try:
            if self.on_group is not None:
                self.on_group(raw, stirred)
            news = ((topic, Offset(epoch, last), partial(chunk.events, data)) for topic, epoch, last, data in raw)
            self.tell(news, stirred)
        finally:
            for tell, answer in done:
                tell(answer)

    def sweep(self, last: Answer | None = None) -> None:
        """Now and again, and at once when the last sweep left something."""
        if self.writer is not None:
            loop = asyncio.get_running_loop()
            self.sweeper = loop.call_later(
                0.01 if last is not None and last.value else SWEEP, self.submit, Call("sweep", ()), self.sweep
            )


class Readers:
    """Connections that read, each with a thread."""

    def __init__(self, path: str, clock: Clock) -> None:
        self.path, self.clock = path, clock
        self.pool = ThreadPoolExecutor(READERS, thread_name_prefix="store reader")
        self.local = threading.local()
        self.opened: list[sqlite3.Connection] = []

    async def look(self, word: str, args: tuple[Any, ...]) -> tuple[Any, list[str]]:
        """The answer, and the topics that were touched."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, self.work, word, args)

    def work(self, word: str, args: tuple[Any, ...]) -> tuple[Any, list[str]]:
        """In a thread."""
        reader: Reader | None = getattr(self.local, "reader", None)
        if reader is None:
            db = open_reader(self.path)
            self.opened.append(db)
            reader = self.local.reader = Reader(db, self.clock)
        try:
            return reader.look(word, args)
        except sqlite3.Error as error:
            raise StoreError(f"{self.path} cannot be read: {error}", retry="always", status=503) from error

    def close(self) -> None:
        """Finish, and let go."""
        self.pool.shutdown(wait=True)
        for db in self.opened:
            db.close()


def settle(future: asyncio.Future[Any], answer: Answer) -> None:
    """Pass the answer on, if somebody still waits."""
    if not future.done():
        if answer.error is not None:
            future.set_exception(answer.error)
        else:
            future.set_result(answer.value)


def ignore(answer: Answer) -> None:
    """Nobody waits."""


def declaration(path: str, asked: Ack | None) -> Declaration:
    """What the embedded store promises there."""
    kind = filesystem(path)
    notes = []
    ack = Ack.NODE if asked in (Ack.MEMORY, Ack.NODE) else Ack.NODE_FSYNC
    if kind in ("tmpfs", "ramfs"):
        ack = Ack.NODE
        notes.append(f"{path} is on {kind}: gone when the machine stops")
    if kind in ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"):
        notes.append(f"{path} is on {kind}: SQLite needs a local disk")
    return Declaration(f"sqlite {sqlite3.sqlite_version}", ack, DEDUPE_WINDOW, notes=tuple(notes))


def filesystem(path: str) -> str:
    """What kind of file system holds it; "" where that cannot be known."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    real, best, kind = os.path.realpath(path), "", ""
    for line in lines:
        fields = line.split()
        point, tail = fields[4], fields[fields.index("-") + 1 :]
        if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, tail[0]
    return kind


def make(url: str, ack: Ack | None = None) -> Sqlite:
    """See `store.open`."""
    return Sqlite(path_of(url), ack)
