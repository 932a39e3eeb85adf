"""The embedded engine answers every call as the memory engine does: walks drawn by Hypothesis, shrunk when they fail."""

import asyncio
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.store.sqlite import Sqlite
from fairlead.store.suite.model import Walk, step, walk

STEPS = st.lists(st.integers(0, 2**32).map(lambda seed: step(random.Random(seed))), min_size=10, max_size=60)


@given(STEPS)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_any_walk_has_the_same_answers(tmp_path_factory, steps):
    async def main():
        engine = Sqlite(str(tmp_path_factory.mktemp("walk") / "a.db"), inline=True)
        await engine.open()
        try:
            path = Walk(engine, "w/")
            for one in steps:
                await path.take(one)
        finally:
            await engine.close()

    asyncio.run(main())


def test_long_walks(tmp_path):
    async def main():
        engine = Sqlite(str(tmp_path / "a.db"), inline=True)
        await engine.open()
        for seed in range(5):
            await walk(engine, f"w{seed}/", seed, 200)
        await engine.close()

    asyncio.run(main())
