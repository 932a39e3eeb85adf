"""The jobs suite, whole, on each engine that a server may have: what holds in memory holds on SQLite, PostgreSQL and Redis.

The tests are those of `tests/test_jobs*.py`, `test_cron.py` and `test_idempotent.py`, each with an empty store of its own: a
file, a schema, a prefix. One server of each kind is started for all of them.
"""

import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import engines
import pytest
import servers

sys.path.insert(0, str(Path(__file__).parents[1]))

import enginesuite
import test_cron
import test_idempotent
import test_jobs
import test_jobs_http
import test_pairs

NUMBERS = count()


@pytest.fixture(scope="module", params=["sqlite", "postgres", "redis"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A function that gives the URL of an empty store."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        yield lambda: f"sqlite:///{folder}/{next(NUMBERS)}.db"
    elif request.param == "postgres":
        with servers.running(engines.postgres_server(folder)) as server:
            yield lambda: f"{server.url}?schema=t{next(NUMBERS)}&pool=2"
    else:
        with servers.running(engines.redis_server(folder)) as server:
            yield lambda: f"{server.url}?prefix=t{next(NUMBERS)}:"


@pytest.fixture(autouse=True)
def empty(engine: object) -> Iterator[None]:
    """An empty store for this test."""
    enginesuite.here.append(engine())  # type: ignore[operator]
    yield
    enginesuite.here.pop()


for module in (test_pairs, test_jobs, test_jobs_http, test_cron, test_idempotent):
    for name, value in vars(module).items():
        if name.startswith("test_") and callable(value):
            globals()[f"test_{module.__name__.removeprefix('test_')}_{name.removeprefix('test_')}"] = value
