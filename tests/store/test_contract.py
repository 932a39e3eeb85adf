"""Every engine keeps the contract: one test for each check and engine."""

import pytest

from fairlead.store.suite import CHECKS


@pytest.mark.parametrize("name", [name for name, _, _ in CHECKS])
def test_the_contract(outcomes, name):
    outcome = outcomes[name]
    if outcome.result == "skipped":
        pytest.skip(outcome.why)
    assert outcome.good, f"{name}: {outcome.why}"
