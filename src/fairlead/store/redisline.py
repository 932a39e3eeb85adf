"""Talking to Redis: groups of scripts in one round trip, sent again when the connection breaks.

Each call of a writing group has a number, and its answer is kept with what it did (see `redislua`), so a group that was sent
and not answered is sent again and nothing is done twice, as long as the server kept what it had; if it lost it, the call is
done now. Reading groups are simply asked again. The scripts are loaded on each new connection, and again when the server has
forgotten them (SCRIPT FLUSH, a fail-over).

Where the server is:

- one address: it, and for `HELD` seconds it may be away;
- several (`redis://a:6379,b:6379`): whichever is the master; when it goes, the next one that is a master by then;
- `?sentinel=NAME`: the addresses are Sentinels, which know who is the master of NAME;
- a cluster: any node may be named; MOVED leads to the one that has our keys, and each connection learns where the others are, so
  that when it goes one of them can tell who took over.

`?replicas=N`: a group is answered when so many replicas have it (WAIT), and until then it is said again. That is no quorum: a
replica that had not taken it may still be promoted.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
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
REPLICATED = 1.0  # seconds for which one WAIT waits
SHAS = {name: hashlib.sha1(text.encode()).hexdigest() for name, text in SCRIPTS.items()}
AWAY = (ConnectionError, TimeoutError, OSError, BusyLoadingError, ClusterDownError, ReadOnlyError, TryAgainError, AskError)
TLS = ("CERTIFICATE", "WRONG_VERSION_NUMBER", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "NO SUCH FILE")
Checked = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True)
class Reach:
    """How a server is found, besides its URL."""

    sentinel: str = ""  # the master's name, when the addresses are Sentinels
    sentinel_password: str = ""
    replicas: int = 0  # that have a write before it is answered


DIRECT = Reach()


class Line:
    """The server, as scripts. `checked` is called on every new connection."""

    def __init__(self, url: str, prefix: str, checked: Checked, reach: Reach = DIRECT) -> None:
        self.url, self.prefix, self.checked, self.reach = url, prefix, checked, reach
        self.caller, self.number, self.spent = uuid.uuid4().hex, 0, ""
        self.named = addresses(url, 26379 if reach.sentinel else 6379)
        self.places = self.named  # HOST:PORT of those that may be, or know, the master
        self.place = ""  # where `client` is
        self.client: redis.asyncio.Redis | None = None
        self.met = False  # it has worked once: what fails from then on may heal
        self.writes, self.looks = Group(self.write_group), Group(self.look_group)
        self.closed = False

    def made(self, place: str) -> redis.asyncio.Redis:
        """A client that does not try again by itself."""
        return redis.asyncio.Redis.from_url(
            at(self.url, place),
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=TIMEOUT,
            socket_connect_timeout=5.0,
            redis_connect_func=self.connected,
            max_connections=8,
        )

    async def master(self) -> redis.asyncio.Redis:
        """The client of the server that is the master, as far as is known. What the driver raises when no Sentinel knows."""
        if self.client is None:
            await self.move(await self.told() if self.reach.sentinel else self.places[0], None)
        assert self.client is not None
        return self.client

    async def told(self) -> str:
        """Where the master is, says the first Sentinel that knows."""
        error: BaseException = ConnectionError("no Sentinel is named")
        for place in self.named:
            url = urlunsplit(urlsplit(self.url)._replace(netloc=place, path=""))
            some: dict[str, Any] = {"password": self.reach.sentinel_password} if self.reach.sentinel_password else {}
            some |= {"protocol": 2, "retry": Retry(NoBackoff(), 0), "socket_timeout": 2.0, "socket_connect_timeout": 2.0}
            asked = redis.asyncio.Redis.from_url(url, **some)
            try:
                found = await asked.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", self.reach.sentinel)
                if found:
                    host, port = (one.decode() if isinstance(one, bytes) else str(one) for one in found)
                    return joined(host, port)
                error = ConnectionError(f"the Sentinel at {place} knows no master {self.reach.sentinel!r}")
            except (RedisError, OSError) as found_error:
                error = found_error
            finally:
                await asked.aclose()
        if isinstance(error, ConnectionError):
            raise error
        raise ConnectionError(f"no Sentinel could be asked: {error}") from error

    async def connected(self, connection: Any) -> None:
        """A new connection: it knows the scripts, and its server is who we think."""
        try:
            await self.prepared(connection)
        except AttributeError as error:  # so the driver says that it was closed meanwhile: we moved
            raise ConnectionError("the connection was left") from error

    async def prepared(self, connection: Any) -> None:
        """See `connected`."""
        await connection.on_connect()
        await connection.send_command("SCRIPT", "EXISTS", *SHAS.values())
        missing = [name for name, known in zip(SHAS, await connection.read_response()) if not known]
        for name in missing:
            await connection.send_command("SCRIPT", "LOAD", SCRIPTS[name])
        for _ in missing:
            await connection.read_response()
        await self.learn(connection)
        await self.checked(connection)
        self.met = True

    async def learn(self, connection: Any) -> None:
        """Where the nodes are, if this is a cluster."""
        await connection.send_command("CLUSTER", "NODES")
        try:
            text = await connection.read_response()
        except ResponseError:
            return
        nodes = [line.split() for line in (text.decode() if isinstance(text, bytes) else text).splitlines()]
        found = [node[1].partition("@")[0].rpartition(":") for node in nodes if len(node) > 2 and "noaddr" not in node[2]]
        self.places = [joined(host, port) for host, _, port in found if host] or self.places

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
        answers, again = await self.replicated(commands) if self.reach.replicas else await self.send(commands)
        # a group that was sent twice may still arrive once more: then its answers stay until they expire
        self.spent = "" if again else journal
        return answers[before:]

    async def replicated(self, commands: list[tuple[Any, ...]]) -> tuple[list[Any], bool]:
        """The answers, when enough replicas have what was done. All is said again each time: the master may be another by then."""
        loop = asyncio.get_running_loop()
        deadline, resent = loop.time() + HELD, False
        while True:
            wait = ("WAIT", self.reach.replicas, int(REPLICATED * 1000))
            answers, again = await self.send([*commands, wait])
            had = answers.pop()
            resent = resent or again
            if isinstance(had, StoreError):
                raise had
            if had >= self.reach.replicas:
                return answers, resent
            if loop.time() > deadline:
                text = f"only {had} of {self.reach.replicas} replicas took it: it is done at the master, and may be lost with it"
                raise StoreError(f"Redis: {text}", retry="fresh", status=503, hint="?replicas= in store.url")
            resent = True

    async def look_group(self, calls: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        """Many, in one round trip."""
        life = f"{self.prefix}life"
        answers, _ = await self.send([("EVALSHA", SHAS[word], 1, life, self.prefix, *args) for word, args in calls])
        return answers

    async def send(self, commands: list[tuple[Any, ...]], held: float = HELD) -> tuple[list[Any], bool]:
        """The answers, however often it takes; and whether it took more than once. StoreError when the server stays away."""
        loop = asyncio.get_running_loop()
        deadline, pause, again = loop.time() + held, FIRST, False
        while True:
            if self.closed:
                raise StoreError("the store is closed")
            error: BaseException
            client = self.client
            try:
                client = await self.master()
                pipe = client.pipeline(transaction=False)
                for command in commands:
                    pipe.execute_command(*command)
                answers = await pipe.execute(raise_on_error=False)
                broken = [one for one in answers if isinstance(one, (*AWAY, NoScriptError, MovedError))]
                if not broken:
                    return [trouble(one) if isinstance(one, RedisError) else one for one in answers], again
                error = broken[0]
            except (*AWAY, MovedError) as found:
                error = found
            except RedisError as found:
                raise trouble(found) from found
            except AttributeError as found:
                if client is self.client:
                    raise
                error = found  # so the driver says that its connection was closed meanwhile: we moved
            except UnicodeError as found:
                raise StoreError(f"Redis cannot keep that: {found}", side="peer", status=400) from found
            if loop.time() + pause > deadline or (not self.met and self.lasting(error)):
                raise away(error) from error
            if isinstance(error, MovedError):
                await self.move(joined(error.host or self.place.rpartition(":")[0], error.port), client)
                await asyncio.sleep(FIRST if again else 0)  # two nodes that send us to each other
            elif isinstance(error, NoScriptError):
                assert client is not None
                await client.connection_pool.disconnect()
            else:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, LONGEST)
                await self.elsewhere(client)
            again = True

    def lasting(self, error: BaseException) -> bool:
        """Whether trying again is of no use, at the start."""
        if isinstance(error, AuthenticationError):
            return True
        if isinstance(error, ReadOnlyError):
            return len(self.places) == 1 and not self.reach.sentinel
        return isinstance(error, ConnectionError) and any(word in str(error).upper() for word in TLS)

    async def elsewhere(self, client: redis.asyncio.Redis | None) -> None:
        """The server is away, or no master: another may be it by now, or know it."""
        if self.reach.sentinel:
            try:
                found = await self.told()
            except (RedisError, OSError):
                return
            if found != self.place:
                await self.move(found, client)
        elif len(self.places) > 1:
            at = self.places.index(self.place) if self.place in self.places else -1
            await self.move(self.places[(at + 1) % len(self.places)], client)

    async def move(self, place: str, old: redis.asyncio.Redis | None) -> None:
        """To another server, unless somebody else has left `old` meanwhile."""
        if self.client is not old:
            return
        self.place, self.client = place, self.made(place)
        if old is not None:
            await old.aclose()

    async def close(self) -> None:
        """Finish what was begun, and let go."""
        for group in (self.writes, self.looks):
            await group.finish()
        if self.client is not None:
            if self.spent:
                try:
                    await self.client.unlink(self.spent)
                except (RedisError, OSError):
                    pass
            await self.client.aclose()
        self.closed = True


def addresses(url: str, port: int = 6379) -> list[str]:
    """HOST:PORT of each server that a URL names. ValueError for a port that is none."""
    parts = [urlsplit(f"//{one}") for one in urlsplit(url).netloc.rpartition("@")[2].split(",")]
    return [joined(one.hostname or "localhost", one.port or port) for one in parts]


def joined(host: str, port: Any) -> str:
    """HOST:PORT."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def at(url: str, place: str) -> str:
    """The URL with this address in place of its own."""
    parts = urlsplit(url)
    user, sign, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{sign}{place}"))


def away(error: BaseException) -> StoreError:
    """The server cannot be reached."""
    text = str(error) or type(error).__name__
    if isinstance(error, AuthenticationError):
        return trouble(error)
    if isinstance(error, ReadOnlyError):
        return StoreError(f"Redis: {text}", retry="always", status=503, hint="name the master in store.url, or ?sentinel=")
    hint = "is the server running, and does it speak TLS exactly if store.url begins with rediss:?"
    if "CERTIFICATE_VERIFY" in text or "UNKNOWN_CA" in text.upper():
        hint = "?ssl_ca_certs=FILE in store.url names the authority; the certificate must be for the host in store.url"
    elif "CERTIFICATE" in text.upper():
        hint = "the server wants a certificate of ours: ?ssl_certfile=FILE&ssl_keyfile=FILE in store.url"
    return StoreError(f"Redis is away: {text}", retry="always", status=503, hint=hint)


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
