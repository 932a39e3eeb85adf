"""The outbox's relay: moves what was committed in an application's database to the store, in the order of places.

One relay works on an outbox at a time, whoever has the lease (a key in the store's `State` that expires); the others wait. When two
do overlap, since one was held up for longer than its lease, nothing is published twice: each step carries the entry's id.

An entry that can never be done (a closed topic, an event that is too large) is left in the table with the reason in `failed`, and
does not stop those behind it. While the store is away everything waits.

When a later place is committed before an earlier one (two transactions at once), they are moved in the order in which they are
seen; entries of one transaction keep their order. Entries are deleted as they are moved, not up to a place, so none is passed over.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import urlsplit

from .contract import Closed, Conflict, NoTopic, Store, StoreError
from .outbox import TABLES, Append, Put, Step, unpack
from .sqlfile import path_of

log = logging.getLogger("fairlead")
PIECE = 100  # entries read at once
LOOK = 0.1  # seconds between looks while there is nothing
LEASE = 10.0  # seconds for which a relay that is gone still holds its outbox
LONGEST = 5.0  # seconds between attempts while the store or the database is away
_NEXT = "SELECT place, id, steps FROM fairlead_outbox WHERE failed IS NULL ORDER BY place LIMIT {}"


class Source(Protocol):
    """An application's database."""

    async def open(self) -> None:
        """Connects, and makes the table if it is not there."""

    async def next(self) -> Sequence[tuple[int, str, str]]:
        """(place, id, steps) of the first entries."""

    async def done(self, places: Sequence[int]) -> None:
        """Forgets them."""

    async def failed(self, place: int, reason: str) -> None:
        """Leaves one out from now on."""

    async def close(self) -> None:
        """Lets go."""


class SqliteSource:
    """A SQLite file, on a thread for each call: a commit waits for the disk.

    A call that nobody waits for any more (the relay was stopped) goes on in its thread, and SQLite does not bear being closed
    under it: so calls take turns, and closing is one of them.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.db: sqlite3.Connection | None = None
        self.turns = threading.Lock()

    async def open(self) -> None:
        """See `Source`."""
        await self.work(self._open)

    def _open(self) -> None:
        self.db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=10.0)
        self.db.execute(TABLES["sqlite"])

    async def next(self) -> Sequence[tuple[int, str, str]]:
        """See `Source`."""
        return await self.work(lambda: self.ready().execute(_NEXT.format(PIECE)).fetchall())

    async def done(self, places: Sequence[int]) -> None:
        """See `Source`."""
        marks = ", ".join("?" for _ in places)
        await self.work(lambda: self.ready().execute(f"DELETE FROM fairlead_outbox WHERE place IN ({marks})", list(places)))

    async def failed(self, place: int, reason: str) -> None:
        """See `Source`."""
        sql = "UPDATE fairlead_outbox SET failed = ? WHERE place = ?"
        await self.work(lambda: self.ready().execute(sql, (reason, place)))

    async def close(self) -> None:
        """See `Source`."""
        await self.work(self._close)

    def _close(self) -> None:
        if self.db is not None:
            self.db.close()
            self.db = None

    def ready(self) -> sqlite3.Connection:
        """The connection."""
        if self.db is None:
            raise StoreError(f"the outbox {self.path} is closed")
        return self.db

    async def work(self, what: Any) -> Any:
        """Has it done. StoreError."""
        try:
            return await asyncio.get_running_loop().run_in_executor(None, self.in_turn, what)
        except sqlite3.Error as error:
            raise StoreError(f"the outbox in {self.path}: {error}", retry="always", status=503) from error


    def in_turn(self, what: Any) -> Any:
        """On the thread: alone."""
        with self.turns:
            return what()


class PostgresSource:
    """A PostgreSQL database, over one connection that comes back when it broke."""

    def __init__(self, dsn: str) -> None:
        from .pglines import Lines  # the driver is an extra

        self.lines = Lines(dsn, {}, 1, self.made)

    async def made(self, line: Any) -> None:
        """The table is there."""
        if await line.fetchval("SELECT to_regclass('fairlead_outbox') IS NULL"):
            await line.execute(TABLES["postgresql"])

    async def open(self) -> None:
        """See `Source`."""
        await self.next()

    async def next(self) -> Sequence[tuple[int, str, str]]:
        """See `Source`."""
        return [tuple(row) for row in await self.lines.ask(lambda line: line.fetch(_NEXT.format(PIECE)))]

    async def done(self, places: Sequence[int]) -> None:
        """See `Source`."""
        sql = "DELETE FROM fairlead_outbox WHERE place = ANY ($1::bigint[])"
        await self.lines.ask(lambda line: line.execute(sql, list(places)))

    async def failed(self, place: int, reason: str) -> None:
        """See `Source`."""
        sql = "UPDATE fairlead_outbox SET failed = $1 WHERE place = $2"
        await self.lines.ask(lambda line: line.execute(sql, reason.replace("\0", "?"), place))

    async def close(self) -> None:
        """See `Source`."""
        await self.lines.close()


def source_of(url: str) -> Source:
    """The database that a URL means: `sqlite:///…` or `postgresql://…`. StoreError."""
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        return SqliteSource(path_of(url))
    if scheme in ("postgresql", "postgres"):
        return PostgresSource(url)
    raise StoreError(f"outbox: {scheme!r} is no database that we know", hint="sqlite and postgresql are")


class Relay:
    """Moves one outbox. `name` is the same for all relays of the same outbox, and the key of their lease."""

    def __init__(self, source: Source, store: Store, name: str) -> None:
        self.source, self.store, self.name = source, store, name
        self.key, self.me = f"outbox/{name}", uuid.uuid4().hex.encode()
        self.version: int | None = None
        self.moved = 0
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """From now on, until `stop`."""
        self.task = asyncio.get_running_loop().create_task(self.run())

    async def stop(self) -> None:
        """Finish the entry that is being moved, and let others have the lease."""
        if self.task is not None:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task
            self.task = None
        if self.version is not None:
            with suppress(StoreError):
                await self.store.state.delete_if(self.key, self.version)
        await self.source.close()

    async def run(self) -> None:
        """Move, as long as there is something and the lease is ours."""
        pause, opened = LOOK, False
        while True:
            try:
                if not opened:
                    await self.source.open()
                    opened = True
                moved = await self.turn()
                pause = LOOK
                if not moved:
                    await asyncio.sleep(LOOK)
            except StoreError as error:
                log.warning("outbox %s waits: %s", self.name, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST)

    async def turn(self) -> int:
        """Some entries, if the lease is ours; how many."""
        if not await self.leased():
            return 0
        entries = await self.source.next()
        done: list[int] = []
        try:
            for place, name, text in entries:
                reason = await self.move(name, text)
                if reason:
                    log.error("outbox %s: entry %s cannot be published and is left there: %s", self.name, name, reason)
                    await self.source.failed(place, reason)
                else:
                    done.append(place)
                    self.moved += 1
        finally:
            if done:
                await self.source.done(done)
        return len(entries)

    async def leased(self) -> bool:
        """Whether we may work: the lease is ours, or nobody's."""
        try:
            entry = await self.store.state.put_if(self.key, self.me, self.version or 0, ttl=LEASE)
        except Conflict as error:
            mine = error.entry is not None and error.entry.value == self.me
            self.version = error.entry.version if mine and error.entry is not None else None
            return False
        self.version = entry.version
        return True

    async def move(self, name: str, text: str) -> str:
        """One entry; "" when it is done, else why it never will be. StoreError when it may be done later."""
        try:
            steps = unpack(text)
        except (ValueError, KeyError, TypeError) as error:
            return f"not an entry: {type(error).__name__}: {error}"
        for n, step in enumerate(steps):
            try:
                await self.take(step, f"outbox/{name}/{n}")
            except StoreError as error:
                if isinstance(error, (NoTopic, Closed)) or error.side == "peer":
                    return f"{type(error).__name__}: {error}"
                raise
        return ""

    async def take(self, step: Step, dedupe: str) -> None:
        """One step. Done twice is done once."""
        if isinstance(step, Append):
            await self.store.log.append(step.topic, step.events, dedupe=dedupe, create=step.create)
        elif isinstance(step, Put):
            await self.store.leases.put(step.queue, step.items)
        else:
            try:
                await self.store.state.put_if(step.key, step.value, 0, ttl=step.ttl, due=step.due)
            except Conflict:
                pass
