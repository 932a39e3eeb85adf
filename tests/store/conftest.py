"""Each engine runs all checks once per module, beside each other, and each check is a test."""

import asyncio
from collections.abc import Iterator

import pytest
from engines import ENGINES

from fairlead.store.suite.run import Outcome, run_checks


@pytest.fixture(scope="module", params=sorted(ENGINES))
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Outcome]]:
    """How every check went on one engine."""
    with ENGINES[request.param](tmp_path_factory.mktemp(request.param)) as make:
        yield asyncio.run(run_checks(make))
