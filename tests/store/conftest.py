"""All engines run all checks at once, before the first test asks: most of a check's time is waiting. Each check on each engine is a
test. Only what was selected is run.
"""

import asyncio
from contextlib import ExitStack

import pytest
from engines import ENGINES

from fairlead.store.suite.run import Outcome, run_checks


@pytest.fixture(scope="session")
def all_outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Outcome] | str]:
    """How every check went on every engine; of an engine that is not there, why."""
    wanted: dict[str, set[str]] = {}
    for item in request.session.items:
        params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if "engine" in params and "name" in params:
            wanted.setdefault(params["engine"], set()).add(params["name"])
    found: dict[str, dict[str, Outcome] | str] = {}
    with ExitStack() as stack:
        makes = {}
        for name in wanted:
            try:
                makes[name] = stack.enter_context(ENGINES[name](tmp_path_factory.mktemp(name)))
            except pytest.skip.Exception as missing:
                found[name] = str(missing)

        async def run_all() -> None:
            results = await asyncio.gather(*(run_checks(make, wanted[name]) for name, make in makes.items()))
            found.update(zip(makes, results))

        asyncio.run(run_all())
    return found
