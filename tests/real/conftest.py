"""Fixtures for the tests that talk to programs we did not write; every test in this folder carries the mark `real`.

These tests share two cores with each other and with what they start, so a peer may lose a race against a clock of its own. One
that fails is run a second time by itself; a pass then is printed as RERUN in the closing summary: a finding to look into, not a
failure. Tests of our own code alone have no second try.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import Real

HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lives here."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.real)
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture
def real() -> Iterator[Real]:
    """Starts peers for one test and stops them after it."""
    with Real() as peers:
        yield peers
