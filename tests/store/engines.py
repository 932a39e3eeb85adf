"""The engines that the store's tests run on. An engine is a context manager that starts what it needs in a private folder and
gives a function that makes an opener (see `suite.kit.Opener`); it calls `pytest.skip` where its programs are missing, which
is an error where the environment says CI.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from fairlead.store.contract import Declaration, Engine
from fairlead.store.memory import Memory
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


ENGINES = {"memory": memory, "sqlite": sqlite, "keeper-sqlite": kept_sqlite, "keeper-memory": kept_memory}
