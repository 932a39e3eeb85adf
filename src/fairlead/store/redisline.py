"""Talking to Redis: groups of scripts in one round trip, sent again when the connection breaks.

Each call of a writing group has a number, and its answer is kept with what it did (see `redislua`), so a group that was sent
and not answered is sent again and nothing is done twice, as long as the server kept what it had; if it lost it, the call is
done now. Reading groups are simply asked again. The scripts are loaded on each new connection, and again when the server has
forgotten them (SCRIPT FLUSH, a fail-over).
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from .contract import StoreError
from .groups import Group
from .redislua import SCRIPTS

HELD = 30.0  # seconds for which calls wait for a server that is away
TIMEOUT = 30.0  # seconds for one answer
FIRST, LONGEST = 0.05, 1.0  # seconds between attempts
SHAS = {name: hashlib.sha1(text.encode()).hexdigest() for name, text in SCRIPTS.items()}
AWAY = (ConnectionError, TimeoutError, OSError, BusyLoadingError, ClusterDownError, ReadOnlyError, TryAgainError)
Checked = Callable[[Any], Awaitable[None]]


class Line:
    """The server, as scripts. `checked` is called on every new connection."""

    def __init__(self, url: str, prefix: str, checked: Checked) -> None:
        self.url, self.prefix, self.checked = url, prefix, checked
        self.caller, self.number, self.spent = uuid.uuid4().hex, 0, ""
        self.client = self.made(url)
        self.writes, self.looks = Group(self.write_group), Group(self.look_group)
        self.closed = False

    def made(self, url: str) -> redis.asyncio.Redis:
        """A client that does not try again by itself."""
        return redis.asyncio.Redis.from_url(
            url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=TIMEOUT,
            socket_connect_timeout=5.0,
            redis_connect_func=self.connected,
            max_connections=8,
        )

    async def connected(self, connection: Any) -> None:
        """A new connection: it knows the scripts, and its server is who we think."""
        await connection.on_connect()
        await connection.send_command("SCRIPT", "EXISTS", *SHAS.values())
        missing = [name for name, known in zip(SHAS, await connection.read_response()) if not known]
        for name in missing:
            await connection.send_command("SCRIPT", "LOAD", SCRIPTS[name])
        for _ in missing:
            await connection.read_response()
        await self.checked(connection)

    async def write(self, word: str, *args: Any, size: int = 0) -> Any:
        """A script that changes something."""
        return await self.writes.add((word, args), size)

    async def look(self, word: str, *args: Any) -> Any:
        """A script that only reads."""
        return await self.looks.add((word, args))

    async def write_group(self, calls: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        """Many, in one round trip."""
        self.number += 1
        journal = f"{self.prefix}j:{self.caller}:{self.number}"
        commands = [("UNLINK", self.spent)] if self.spent else []
        before = len(commands)
        for n, (word, args) in enumerate(calls):
            commands.append(("EVALSHA", SHAS[word], 2, f"{self.prefix}life", journal, self.prefix, n, *args))
        answers, again = await self.send(commands)
        # a group that was sent twice may still arrive once more: then its answers stay until they expire
        self.spent = "" if again else journal
        return answers[before:]

    async def look_group(self, calls: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        """Many, in one round trip."""
        life = f"{self.prefix}life"
        answers, _ = await self.send([("EVALSHA", SHAS[word], 1, life, self.prefix, *args) for word, args in calls])
        return answers

    async def send(self, commands: list[tuple[Any, ...]]) -> tuple[list[Any], bool]:
        """The answers, however often it takes; and whether it took more than once. StoreError when the server stays away."""
        loop = asyncio.get_running_loop()
        deadline, pause, again = loop.time() + HELD, FIRST, False
        while True:
            if self.closed:
                raise StoreError("the store is closed")
            error: BaseException
            try:
                pipe = self.client.pipeline(transaction=False)
                for command in commands:
                    pipe.execute_command(*command)
                answers = await pipe.execute(raise_on_error=False)
                broken = [one for one in answers if isinstance(one, (*AWAY, NoScriptError, MovedError))]
                if not broken:
                    return [trouble(one) if isinstance(one, RedisError) else one for one in answers], again
                error = broken[0]
            except AWAY as found:
                error = found
            except RedisError as found:
                raise trouble(found) from found
            except UnicodeError as found:
                raise StoreError(f"Redis cannot keep that: {found}", side="peer", status=400) from found
            again = True
            if loop.time() + pause > deadline:
                raise away(error) from error
            if isinstance(error, MovedError):
                await self.move(error)
            elif isinstance(error, NoScriptError):
                await self.client.connection_pool.disconnect()
            else:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, LONGEST)

    async def move(self, error: MovedError) -> None:
        """Our keys live on another node of the cluster."""
        parts = urlsplit(self.url)
        user, at, _ = parts.netloc.rpartition("@")
        old, self.url = self.client, urlunsplit(parts._replace(netloc=f"{user}{at}{error.host}:{error.port}"))
        self.client = self.made(self.url)
        await old.aclose()

    async def close(self) -> None:
        """Finish what was begun, and let go."""
        for group in (self.writes, self.looks):
            await group.finish()
        if self.spent:
            try:
                await self.client.unlink(self.spent)
            except (RedisError, OSError):
                pass
        self.closed = True
        await self.client.aclose()


def away(error: BaseException) -> StoreError:
    """The server cannot be reached."""
    text = str(error) or type(error).__name__
    return StoreError(f"Redis is away: {text}", retry="always", status=503, hint="is the server running?")


def trouble(error: RedisError) -> StoreError:
    """What the server could not do, as an error of ours."""
    text = str(error)
    if "OOM" in text:
        hint = "raise maxmemory, keep less in topics, and never set an eviction policy"
        return StoreError(f"Redis is full: {text}", retry="always", status=507, hint=hint)
    if "MISCONF" in text or "NOREPLICAS" in text:
        return StoreError(f"Redis takes no writes: {text}", retry="always", status=503)
    if isinstance(error, (AuthenticationError, NoPermissionError)):
        hint = "the user in store.url needs the keys and channels under our prefix, +@all without @admin, and CONFIG|GET"
        return StoreError(f"Redis refuses us: {text}", hint=hint)
    if isinstance(error, ResponseError) and "unknown command" in text.lower():
        return StoreError(f"Redis lacks a command: {text}", hint="Redis 6.2, Valkey 7.2 or newer is needed")
    return StoreError(f"Redis: {text}", status=503)
