"""The outbox: what is committed with the application's transaction is published once, what is rolled back never."""

import asyncio
import sqlite3
import threading
from contextlib import asynccontextmanager

import pytest
import servers
from engines import missing, postgres_server

from fairlead.store.contract import Item, NewEvent, StoreError, TopicConfig
from fairlead.store.open import open_store
from fairlead.store.outbox import Append, Put, Set, pack, unpack, write, write_sync
from fairlead.store.relay import Relay, SqliteSource, source_of

TOPIC = TopicConfig("text/plain", keep=60.0)
SOON = 20.0


def paid(n: int) -> Append:
    return Append("orders", [NewEvent(b"paid %d" % n, "order", headers={"n": str(n)})], TOPIC)


@asynccontextmanager
async def relayed(url: str):
    """A memory store, and a relay that moves the outbox at `url` to it."""
    store = await open_store("memory:")
    relay = Relay(source_of(url), store, "test")
    relay.start()
    try:
        yield store, relay
    finally:
        await relay.stop()
        await store.close()


async def published(store, n: int) -> list[bytes]:
    """The topic's events, when there are `n`."""
    async with asyncio.timeout(SOON):
        while True:
            try:
                batch = await store.log.read("orders", None)
                if len(batch.events) >= n:
                    return [event.data for event in batch.events]
            except StoreError:
                pass
            await asyncio.sleep(0.02)


def test_steps_survive_their_text():
    steps = [paid(1), Put("q", [Item("a", b"\x00\xff", 5.0, -3)]), Set("k/1", b"v", 1.5, None)]
    assert unpack(pack(steps)) == steps


def test_sqlite_commits_are_published_and_rollbacks_are_not(tmp_path):
    async def main():
        app = sqlite3.connect(tmp_path / "app.db")
        app.execute("CREATE TABLE orders (id INTEGER)")
        async with relayed(f"sqlite:///{tmp_path}/app.db") as (store, _):
            with app:
                app.execute("INSERT INTO orders VALUES (1)")
                name = await write(app, [paid(1), Put("jobs", [Item("j1", b"body")]), Set("jobs/j1", b"queued")])
            assert name
            app.execute("INSERT INTO orders VALUES (2)")
            write_sync(app, [paid(2)])
            app.rollback()
            with app:
                write_sync(app, [paid(3)])
            assert await published(store, 2) == [b"paid 1", b"paid 3"]
            assert (await store.log.head("orders")).config == TOPIC
            assert [lease.id for lease in await store.leases.claim("jobs", 9, 60.0)] == ["j1"]
            assert (await store.state.get("jobs/j1")).value == b"queued"
        app.close()

    asyncio.run(main())


def test_a_database_is_not_closed_under_a_call_that_nobody_waits_for(tmp_path):
    """SQLite dies of it: the process, not the call."""

    async def main():
        source = SqliteSource(str(tmp_path / "app.db"))
        await source.open()
        began, go, seen = threading.Event(), threading.Event(), []

        def slow():
            began.set()
            go.wait(SOON)
            seen.append(source.ready().execute("SELECT 1").fetchone())

        call = asyncio.create_task(source.work(slow))
        await asyncio.to_thread(began.wait, SOON)
        call.cancel()
        closing = asyncio.create_task(source.close())
        await asyncio.sleep(0)  # closing has begun
        go.set()
        await closing
        assert seen == [(1,)] and source.db is None

    asyncio.run(main())


def test_an_entry_that_is_moved_twice_is_published_once(tmp_path):
    async def main():
        app = sqlite3.connect(tmp_path / "app.db")
        with app:
            write_sync(app, [paid(1), Set("k/1", b"v")])
        store = await open_store("memory:")
        relay = Relay(SqliteSource(str(tmp_path / "app.db")), store, "test")
        await relay.source.open()
        ((_, name, text),) = await relay.source.next()
        assert await relay.move(name, text) == await relay.move(name, text) == ""
        assert await published(store, 1) == [b"paid 1"]
        await relay.stop()
        await store.close()

    asyncio.run(main())


def test_only_one_relay_has_the_lease_and_a_stopped_one_gives_it_up(tmp_path):
    async def main():
        store = await open_store("memory:")
        first, second = (Relay(SqliteSource(str(tmp_path / "app.db")), store, "test") for _ in range(2))
        assert await first.leased() and not await second.leased() and await first.leased()
        await first.stop()
        assert await second.leased()
        await second.stop()
        await store.close()

    asyncio.run(main())


def test_an_entry_that_cannot_be_published_is_left_with_its_reason_and_stops_nobody(tmp_path):
    async def main():
        app = sqlite3.connect(tmp_path / "app.db")
        async with relayed(f"sqlite:///{tmp_path}/app.db") as (store, _):
            with app:
                write_sync(app, [Append("nowhere", [NewEvent(b"x")])], id="poison")
                app.execute("INSERT INTO fairlead_outbox (id, made, steps) VALUES ('junk', 0, '[{\"do\": 1}]')")
                write_sync(app, [paid(1)])
            assert await published(store, 1) == [b"paid 1"]
            left = app.execute("SELECT id, failed FROM fairlead_outbox WHERE failed IS NOT NULL ORDER BY place").fetchall()
            assert [name for name, _ in left] == ["poison", "junk"]
            assert "NoTopic" in left[0][1] and "not an entry" in left[1][1]
        app.close()

    asyncio.run(main())


def test_a_connection_outside_a_transaction_or_of_no_database_is_refused():
    app = sqlite3.connect(":memory:", isolation_level=None)
    with pytest.raises(StoreError, match="no transaction"):
        write_sync(app, [paid(1)])
    app.execute("BEGIN")
    assert write_sync(app, [paid(1)])
    with pytest.raises(StoreError, match="cannot hold") as caught:
        write_sync(object(), [paid(1)])
    assert "asyncpg" in caught.value.hint


def test_postgres_transactions_of_asyncpg_and_psycopg(tmp_path):
    asyncpg, psycopg = pytest.importorskip("asyncpg"), pytest.importorskip("psycopg")
    server = postgres_server(tmp_path)

    async def main():
        async with relayed(server.url) as (store, relay):
            while not relay.version:  # the relay makes the table before it looks
                await asyncio.sleep(0.02)
            await relay.source.next()
            app = await asyncpg.connect(server.url)
            with pytest.raises(StoreError, match="no transaction"):
                await write(app, [paid(0)])
            async with app.transaction():
                await write(app, [paid(1)])
                await write(app, [paid(2)])
            with pytest.raises(ZeroDivisionError):
                async with app.transaction():
                    await write(app, [paid(98)])
                    raise ZeroDivisionError
            await app.close()
            async with await psycopg.AsyncConnection.connect(server.url) as other:
                await write(other, [paid(3)])
            with psycopg.connect(server.url) as third:
                write_sync(third, [paid(4)])
            with psycopg.connect(server.url) as third:
                write_sync(third, [paid(99)])
                third.rollback()
            assert await published(store, 4) == [b"paid 1", b"paid 2", b"paid 3", b"paid 4"]
            server.kill()
            server.start()
            app = await asyncpg.connect(server.url)
            async with app.transaction():
                await write(app, [paid(5)])
            await app.close()
            assert (await published(store, 5))[4:] == [b"paid 5"]

    if servers.program("initdb") is None:
        missing("postgresql")
    with servers.running(server):
        asyncio.run(main())
