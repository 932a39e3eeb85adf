"""Connections to PostgreSQL: a small pool that survives the server's restarts.

A connection that breaks is dropped and another is made, waiting a little longer after each failure, until `PATIENCE` is
over: a restart of the server is a delay, not an error. What was asked is asked again on the next connection. So all that is asked
here may be asked twice: it only reads, it says the same when it is said twice, or it is a numbered call of a lane
(`PgAsker.once`, `PgAsker.piece`), which the server does once and answers again (`fl_before` in `pgsql`). Whether a COMMIT that
broke off had been done is found out that way. Only when the server stays away for `PATIENCE` does an error say that the outcome
is not known. Deadlocks and full servers are tried again, for nothing was done then.
"""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

from .contract import StoreError

T = TypeVar("T")
PATIENCE = 30.0  # seconds for which a server may be away
TIMEOUT = 30.0  # seconds for one statement; also set at the server
FIRST, LONGEST = 0.05, 1.0  # seconds between attempts to connect
AWAY = (
    OSError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.ConnectionFailureError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    TimeoutError,
)
AGAIN = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.TooManyConnectionsError,
)
UNKNOWN = "; whether it was done is not known"
Made = Callable[[asyncpg.Connection], Awaitable[None]]


class Lines:
    """At most `size` connections, made when they are needed. `made` prepares and checks each."""

    def __init__(self, dsn: str, settings: dict[str, str], size: int, made: Made) -> None:
        self.dsn, self.settings, self.made = dsn, settings, made
        self.room = asyncio.Semaphore(size)
        self.idle: list[asyncpg.Connection] = []
        self.closed = False

    async def connect(self) -> asyncpg.Connection:
        """One more connection, ready. Raises what the driver raises."""
        settings = {"application_name": "fairlead", "statement_timeout": str(int(TIMEOUT * 1000)), **self.settings}
        line = await asyncpg.connect(self.dsn, timeout=10, command_timeout=TIMEOUT + 5, server_settings=settings)
        try:
            await self.made(line)
        except BaseException:
            line.terminate()
            raise
        return line

    async def patient(self, deadline: float, more: str) -> asyncpg.Connection:
        """A connection, idle or new, however long the server is away before `deadline`. StoreError, with `more` to say."""
        loop, pause = asyncio.get_running_loop(), FIRST
        while not self.closed:
            while self.idle:
                line = self.idle.pop()
                if not line.is_closed():
                    return line
            try:
                return await self.connect()
            except (*AWAY, *AGAIN, asyncpg.InternalClientError) as error:
                if loop.time() + pause > deadline:
                    raise away(error, more) from error
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, LONGEST)
            except asyncpg.PostgresError as error:
                raise trouble(error) from error
        raise StoreError("the store is closed")

    async def ask(self, question: Callable[[asyncpg.Connection], Awaitable[T]], changes: bool = False) -> T:
        """The answer of a question that is asked on one connection, perhaps of several after each other. StoreError.

        `changes`: it does something, so when it was asked and no connection can be had any more its outcome is not known.
        """
        loop = asyncio.get_running_loop()
        deadline, broken = loop.time() + PATIENCE, ""
        async with self.room:
            while True:
                line = await self.patient(deadline, broken)
                try:
                    answer = await question(line)
                    self.keep(line)
                    return answer
                except AGAIN as error:
                    self.keep(line)
                    if loop.time() > deadline:
                        raise away(error) from error
                    await asyncio.sleep(random.uniform(0.0, 0.05))
                except asyncpg.InternalClientError as error:
                    line.terminate()  # it broke while it was idle and the driver noticed late: nothing was sent
                    if loop.time() > deadline:
                        raise away(error) from error
                except AWAY as error:
                    line.terminate()
                    broken = UNKNOWN if changes else ""
                    if loop.time() > deadline:
                        raise away(error, broken) from error
                except asyncpg.PostgresError as error:
                    self.keep(line)
                    raise trouble(error) from error
                except (asyncpg.DataError, UnicodeError, ValueError, OverflowError) as error:
                    self.keep(line)
                    raise StoreError(f"PostgreSQL cannot keep that: {error}", side="peer", status=400) from error
                except BaseException:
                    line.terminate()  # cancelled in the middle: the line is in no known state
                    raise

    def keep(self, line: asyncpg.Connection) -> None:
        """Whoever asks next may have it."""
        if self.closed or line.is_closed():
            line.terminate()
        else:
            self.idle.append(line)

    async def close(self) -> None:
        """Let go."""
        self.closed = True
        while self.idle:
            line = self.idle.pop()
            try:
                await line.close(timeout=2)
            except Exception:
                line.terminate()


class Lane:
    """Calls after each other, each with a number. `name` is the caller's in the journal."""

    __slots__ = ("name", "number")

    def __init__(self, name: str) -> None:
        self.name, self.number = name, 0


class PgAsker:
    """What asks over a pool of lines. As many lanes are made as calls are under way at a time."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.caller = uuid.uuid4().hex
        self.made, self.free = 0, list[Lane]()

    async def rows(self, sql: str, *args: Any) -> list[Any]:
        """Some rows, of what may be asked twice."""
        return await self.lines.ask(lambda line: line.fetch(sql, *args))

    async def row(self, sql: str, *args: Any) -> Any:
        """One row or None."""
        return await self.lines.ask(lambda line: line.fetchrow(sql, *args))

    async def value(self, sql: str, *args: Any) -> Any:
        """One value."""
        return await self.lines.ask(lambda line: line.fetchval(sql, *args))

    async def numbered(self, question: Callable[[asyncpg.Connection, Lane], Awaitable[T]]) -> T:
        """A call of a lane: asked again with its number for as long as connections break under it."""
        lane: Lane | None = None

        async def ask(line: asyncpg.Connection) -> T:
            nonlocal lane
            if lane is None:
                if not self.free:
                    self.made += 1
                    self.free.append(Lane(f"{self.caller}/{self.made}"))
                lane = self.free.pop()
                lane.number += 1
            return await question(line, lane)

        try:
            return await self.lines.ask(ask, True)
        finally:
            if lane is not None:
                self.free.append(lane)

    async def once(self, sql: str, *args: Any) -> list[Any]:
        """Rows of a statement that takes a lane's name and number as $1 and $2, and does nothing for a number it knows."""
        return await self.numbered(lambda line, lane: line.fetch(sql, lane.name, lane.number, *args))

    async def piece(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """What `work` answers, which JSON must be able to say, done once and in one transaction. What it raises undoes it."""

        async def question(line: asyncpg.Connection, lane: Lane) -> T:
            async with line.transaction():
                known = await line.fetchval("SELECT fl_before($1, $2)", lane.name, lane.number)
                if known is not None:
                    return json.loads(known)
                answer = await work(line)
                await line.execute("SELECT fl_after($1, $2, $3)", lane.name, lane.number, json.dumps(answer))
                return answer

        return await self.numbered(question)

    async def changed(self, sql: str, *args: Any) -> list[Any]:
        """The rows of a statement, done once."""

        async def work(line: asyncpg.Connection) -> list[Any]:
            return [list(row) for row in await line.fetch(sql, *args)]

        return await self.piece(work)


def away(error: BaseException, more: str = "") -> StoreError:
    """The server cannot be reached."""
    text = str(error) or type(error).__name__
    retry = "fresh" if more else "always"
    return StoreError(f"PostgreSQL is away: {text}{more}", retry=retry, status=503, hint="is the server running?")


def trouble(error: asyncpg.PostgresError) -> StoreError:
    """What the server could not do, as an error of ours."""
    state = getattr(error, "sqlstate", "") or ""
    if state.startswith(("22", "54")):
        return StoreError(f"PostgreSQL cannot keep that: {error}", side="peer", status=400)
    if state in ("53100", "53200"):
        hint = "free some room; nothing acknowledged is lost"
        return StoreError(f"PostgreSQL is full: {error}", retry="always", status=507, hint=hint)
    if state.startswith("28") or state == "42501":
        hint = "the role in store.url needs CONNECT, and CREATE on the database for the first start"
        return StoreError(f"PostgreSQL refuses us: {error}", hint=hint)
    if state == "3D000":
        return StoreError(f"PostgreSQL: {error}", hint="create the database, or name another in store.url")
    retry = "always" if state.startswith(("57", "53", "55", "25")) else "never"
    return StoreError(f"PostgreSQL: {error} ({state})", retry=retry, status=503)
