"""The engines that the store's tests run on. An engine is a context manager that starts what it needs in a private folder and
gives a function that makes an opener (see `suite.kit.Opener`); it calls `pytest.skip` where its programs are missing, which
is an error where the environment says CI.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import pytest
import servers

from fairlead.store.contract import Declaration, Engine
from fairlead.store.memory import Memory
from fairlead.store.open import open_engine
from fairlead.store.sqlite import Sqlite
from fairlead.store.suite.kept import KeeperProcess
from fairlead.store.suite.kit import Opener


def missing(what: str) -> None:
    """A program or package is not there: skip, but never in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and this is CI")
    pytest.skip(f"{what} is missing")


def one_engine(make: Callable[[], Engine]) -> Callable[[], Opener]:
    """Openers of engines that only one process may have: every connection of a check is the same object."""

    def opener() -> Opener:
        opened: list[tuple[Engine, Declaration]] = []

        async def open_it() -> tuple[Engine, Declaration]:
            if not opened:
                engine = make()
                opened.append((engine, await engine.open()))
            return opened[0]

        return open_it

    return opener


@contextmanager
def memory(folder: Path) -> Iterator[Callable[[], Opener]]:
    """The model itself."""
    yield one_engine(Memory)


@contextmanager
def sqlite(folder: Path) -> Iterator[Callable[[], Opener]]:
    """The embedded engine, owned by the process that uses it; a file for each check."""
    numbers = count()
    yield one_engine(lambda: Sqlite(str(folder / f"{next(numbers)}.db")))


@contextmanager
def kept_sqlite(folder: Path) -> Iterator[Callable[[], Opener]]:
    """The embedded engine in a keeper process of its own, as several workers have it."""
    with KeeperProcess(f"sqlite:///{folder}/kept.db", folder) as kept:
        yield kept.opener


@contextmanager
def kept_memory(folder: Path) -> Iterator[Callable[[], Opener]]:
    """Memory that several workers share."""
    with KeeperProcess("memory:", folder) as kept:
        yield kept.opener


def postgres_server(folder: Path) -> servers.PostgresServer:
    """One that can be broken, not started yet."""
    if servers.program("initdb") is None:
        missing("postgresql")
    if find_spec("asyncpg") is None:
        missing("asyncpg")
    return servers.PostgresServer(folder / "pg")


def redis_server(folder: Path, **options: str) -> servers.RedisServer:
    """One that can be broken, not started yet."""
    if servers.program("redis-server") is None:
        missing("redis-server")
    if find_spec("redis") is None:
        missing("redis")
    return servers.RedisServer(folder / "redis", **options)


@contextmanager
def postgres(folder: Path) -> Iterator[Callable[[], Opener]]:
    """PostgreSQL, whose connections may come from anywhere."""
    with servers.running(postgres_server(folder)) as server:
        yield lambda: partial(open_engine, server.url)


@contextmanager
def redis(folder: Path) -> Iterator[Callable[[], Opener]]:
    """Redis, which syncs each write."""
    with servers.running(redis_server(folder)) as server:
        yield lambda: partial(open_engine, server.url)


@contextmanager
def valkey(folder: Path) -> Iterator[Callable[[], Opener]]:
    """Valkey, in a cluster of one that owns every slot, so that a script that leaves its slot is refused."""
    if servers.program("valkey-server") is None:
        missing("valkey-server")
    options = {"cluster-enabled": "yes", "cluster-require-full-coverage": "no"}
    with servers.running(servers.RedisServer(folder / "valkey", "valkey-server", **options)) as server:
        server.ask("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        yield lambda: partial(open_engine, server.url)


ENGINES = {
    "memory": memory,
    "sqlite": sqlite,
    "keeper-sqlite": kept_sqlite,
    "keeper-memory": kept_memory,
    "postgres": postgres,
    "redis": redis,
    "valkey": valkey,
}
