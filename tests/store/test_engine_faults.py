"""PostgreSQL and Redis break while clients work on them: what was acknowledged is there, once, in order, or its loss was told."""

import asyncio
import os
from functools import partial

import pytest
import servers
from engines import postgres_server, redis_server

from fairlead.store.open import open_engine
from fairlead.store.suite.faults import Target, ordeal
from fairlead.store.suite.model import walk

SECONDS = float(os.environ.get("FAIRLEAD_STORM", "4"))  # the soak's storms are longer


def target(server: servers.Server, forgets: bool = False) -> Target:
    """The server, and what may happen to it."""

    async def kill() -> None:
        server.kill()
        await asyncio.get_running_loop().run_in_executor(None, server.start)

    async def restart() -> None:
        await asyncio.get_running_loop().run_in_executor(None, server.stop)
        await asyncio.get_running_loop().run_in_executor(None, server.start)

    async def pause() -> None:
        server.pause()
        await asyncio.sleep(0.7)
        server.go()

    faults = {"kill -9": kill, "restart": restart, "pause": pause}
    return Target(partial(open_engine, server.url), faults, forgets=forgets)


def weather(server: servers.Server, name: str, forgets: bool = False) -> None:
    """A storm, and the judgement."""
    with servers.running(server):
        broken = target(server, forgets)
        load, found = asyncio.run(ordeal(broken, SECONDS, 7, name, pause=0.5))
    assert not found, "\n".join(map(str, found[:20]))
    assert load.acknowledged > 20, "hardly anything was tried"
    assert sum(broken.counts.values()) >= 3


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
        for seed in range(3):
            await walk(engine, f"w{seed}/", seed, 150)
        await engine.close()

    with servers.running(kind(tmp_path)) as server:
        asyncio.run(main(server.url))
