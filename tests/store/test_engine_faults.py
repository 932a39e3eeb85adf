"""PostgreSQL and Redis break while clients work on them: what was acknowledged is there, once, in order, or its loss was told."""

import asyncio
import os
from functools import partial

import pytest
import servers
from engines import postgres_server, redis_server

from fairlead.store.open import open_engine
from fairlead.store.suite.history import judge
from fairlead.store.suite.load import Load
from fairlead.store.suite.model import walk

ROUNDS = int(os.environ.get("FAIRLEAD_STORM_ROUNDS", "1"))  # the soak has more


async def break_it(server: servers.Server) -> None:
    """Everything that may happen to a server, one after the other."""
    run = asyncio.get_running_loop().run_in_executor

    async def kill() -> None:
        server.kill()
        await run(None, server.start)

    async def restart() -> None:
        await run(None, server.stop)
        await run(None, server.start)

    async def pause() -> None:
        server.pause()
        await asyncio.sleep(0.7)
        server.go()

    for fault in (kill, restart, pause) * ROUNDS:
        await asyncio.sleep(0.4)
        await fault()
    await asyncio.sleep(0.3)


def weather(server: servers.Server, name: str, forgets: bool = False) -> None:
    """Work while it breaks, and the judgement. A loss that was told is none for a server that may forget."""

    async def main() -> Load:
        load = Load(partial(open_engine, server.url), name, name)
        await load.run(1.0, asyncio.ensure_future(break_it(server)))
        return load

    with servers.running(server):
        load = asyncio.run(main())
    found = judge(load.entries)
    if forgets:
        found = [one for one in found if one.kind not in ("told-loss", "lost-item")]
    assert not found, "\n".join(map(str, found[:20]))
    assert load.acknowledged, "nothing was tried"


def test_postgres_killed_stopped_and_paused_loses_nothing(tmp_path):
    weather(postgres_server(tmp_path), "postgres")


def test_redis_that_syncs_each_write_loses_nothing(tmp_path):
    weather(redis_server(tmp_path), "redis")


def test_redis_that_keeps_nothing_tells_its_losses(tmp_path):
    weather(redis_server(tmp_path, appendonly="no"), "forgetful", forgets=True)


@pytest.mark.parametrize("kind", [postgres_server, redis_server])
def test_walks_have_the_answers_of_the_memory_engine(tmp_path, kind):
    async def main(url: str) -> None:
        engine, _ = await open_engine(url)
        for seed in (0, 1, 2, 977794):  # the last: a group whose topic is gone gives back what it has no event for
            await walk(engine, f"w{seed}/", seed, 150)
        await engine.close()

    with servers.running(kind(tmp_path)) as server:
        asyncio.run(main(server.url))
