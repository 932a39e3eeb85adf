"""Every engine keeps the contract: one test for each check and engine."""

import pytest
from engines import ENGINES

from fairlead.store.suite import CHECKS


@pytest.mark.parametrize("name", [name for name, _, _ in CHECKS])
@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_the_contract(all_outcomes, engine, name):
    outcomes = all_outcomes[engine]
    if isinstance(outcomes, str):
        pytest.skip(outcomes)
    if outcomes[name].result == "skipped":
        pytest.skip(outcomes[name].why)
    assert outcomes[name].good, f"{name}: {outcomes[name].why}"
