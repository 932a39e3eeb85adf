"""Fixtures for the tests that talk to programs we did not write; every test in this folder carries the mark `real`."""

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


@pytest.fixture
def real() -> Iterator[Real]:
    """Starts peers for one test and stops them after it."""
    with Real() as peers:
        yield peers
