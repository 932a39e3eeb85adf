"""The keeper: killed, stopped and restarted under load, it loses nothing acknowledged and does nothing twice."""

import asyncio
import subprocess
import sys

import pytest

from fairlead.store.contract import Gap, NewEvent, StoreError, TopicConfig
from fairlead.store.open import open_store
from fairlead.store.remote import Remote
from fairlead.store.sqlite import Sqlite
from fairlead.store.suite.faults import keeper_target, ordeal
from fairlead.store.suite.kept import KeeperProcess


@pytest.fixture
def kept(tmp_path):
    with KeeperProcess(f"sqlite:///{tmp_path}/a.db") as kept:
        yield kept


def test_killed_stopped_and_restarted_under_load_nothing_acknowledged_is_lost_or_doubled(kept):
    target = keeper_target(kept)
    load, found = asyncio.run(ordeal(target, 2.0, 1, "keeper", 0.2))
    assert not found, "\n".join(map(str, found[:20]))
    assert load.acknowledged > 20
    assert target.counts["kill -9"] >= 1


def test_memory_in_a_killed_keeper_is_lost_and_that_is_told():
    async def main(kept):
        engine = Remote(kept.address)
        await engine.open()
        await engine.log.create("t", TopicConfig())
        before = (await engine.log.append("t", [NewEvent(b"1")])).last
        kept.kill()
        kept.start()
        await engine.log.append("t", [NewEvent(b"1")], create=TopicConfig())
        with pytest.raises(Gap):
            await engine.log.read("t", before)
        await engine.close()

    with KeeperProcess("memory:") as kept:
        asyncio.run(main(kept))


def test_a_call_made_while_no_keeper_lives_waits_for_the_next_one(kept):
    async def main():
        engine = Remote(kept.address)
        await engine.open()
        kept.kill()
        waiting = asyncio.ensure_future(engine.state.put_if("k", b"v", 0))
        await asyncio.sleep(0)
        kept.start()
        assert (await waiting).value == b"v"
        await engine.close()

    asyncio.run(main())


def test_what_a_subscriber_minds_is_hinted_at_after_a_reconnect(kept):
    async def main():
        engine, heard = Remote(kept.address), asyncio.Event()
        await engine.open()
        await engine.log.create("t", TopicConfig())
        engine.log.interest("t", True)
        kept.kill()
        engine.log.watch(lambda topic, last, events: heard.set() if topic == "t" and last is None else None)
        kept.start()
        await asyncio.wait_for(heard.wait(), 30)
        await engine.close()

    asyncio.run(main())


def test_a_worker_that_takes_no_news_is_told_that_it_missed_some_and_costs_no_memory(kept):
    async def main():
        stuck, other = Remote(kept.address), Remote(kept.address)
        await stuck.open()
        await other.open()
        await other.log.create("t", TopicConfig())
        heard, missed = [], asyncio.Event()

        def hint(topic, last, events):
            heard.append(len(events))
            if last is None and len(heard) > 1:
                missed.set()

        stuck.log.watch(hint)
        stuck.log.interest("t", True)
        while not heard:
            await asyncio.sleep(0.01)
        stuck.line.transport.pause_reading()
        for _ in range(30):
            await other.log.append("t", [NewEvent(b"x" * 1_000_000)])
        stuck.line.transport.resume_reading()
        await asyncio.wait_for(missed.wait(), 30)
        assert sum(heard) < 30
        await stuck.close()
        await other.close()

    asyncio.run(main())


def test_a_second_owner_of_a_file_is_refused_and_told_who_has_it(tmp_path):
    async def main():
        path = str(tmp_path / "a.db")
        first = Sqlite(path)
        await first.open()
        with pytest.raises(StoreError, match="belongs to another server, process") as caught:
            await Sqlite(path).open()
        assert "store.url" in caught.value.hint
        await first.close()
        again = Sqlite(path)
        await again.open()
        await again.close()

    asyncio.run(main())


def test_another_programs_file_is_left_alone(tmp_path):
    import sqlite3

    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE precious (x)")
    with pytest.raises(StoreError, match="another program"):
        asyncio.run(open_store(f"sqlite:///{path}"))
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("precious",)]


def test_what_was_acknowledged_survives_a_kill_of_its_own_process(tmp_path):
    program = f"""
import asyncio, os, sys
from fairlead.store.contract import NewEvent, TopicConfig
from fairlead.store.sqlite import Sqlite
async def main():
    engine = Sqlite({str(tmp_path / "a.db")!r})
    await engine.open()
    for n in range(50):
        await engine.log.append("t", [NewEvent(b"%d" % n)], create=TopicConfig())
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-P", "-c", program]).returncode == -9

    async def main():
        engine = Sqlite(str(tmp_path / "a.db"))
        await engine.open()
        batch = await engine.log.read("t", None)
        assert [event.data for event in batch.events] == [b"%d" % n for n in range(50)]
        await engine.close()

    asyncio.run(main())


def test_no_jump_of_the_clock_ends_a_lease_or_turns_time_back(tmp_path):
    from fairlead.store.clock import Clock
    from fairlead.store.contract import Item

    async def main():
        wall = [1_800_000_000.0]
        path = str(tmp_path / "a.db")
        engine = Sqlite(path, clock=Clock(wall=lambda: wall[0]))
        await engine.open()
        await engine.leases.put("q", [Item("a", b"")])
        assert len(await engine.leases.claim("q", 1, 60.0)) == 1
        wall[0] += 1e6
        assert await engine.leases.claim("q", 1, 60.0) == []
        before = await engine.now()
        await engine.close()
        wall[0] = 1_700_000_000.0
        engine = Sqlite(path, clock=Clock(wall=lambda: wall[0]))
        await engine.open()
        assert await engine.now() >= before
        assert await engine.leases.claim("q", 1, 60.0) == []
        await engine.close()

    asyncio.run(main())


def test_a_full_disk_refuses_and_loses_nothing_and_is_over_when_there_is_room(tmp_path):
    async def main():
        engine = Sqlite(str(tmp_path / "a.db"))
        await engine.open()
        await engine.log.create("t", TopicConfig())
        db = engine.writer.core.db
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 20}")
        done = []
        with pytest.raises(StoreError, match="the disk is full") as caught:
            while True:
                done.append((await engine.log.append("t", [NewEvent(b"x" * 5000)])).last)
        assert (caught.value.retry, caught.value.status) == ("always", 507)
        assert (await engine.log.head("t")).last == done[-1]
        db.execute("PRAGMA max_page_count = 1000000")
        done.append((await engine.log.append("t", [NewEvent(b"x")])).last)
        batch = await engine.log.read("t", None)
        assert [event.seq for event in batch.events] == [offset.seq for offset in done]
        await engine.close()

    asyncio.run(main())


def test_one_bad_call_of_a_group_costs_the_others_nothing(tmp_path):
    async def main():
        engine = Sqlite(str(tmp_path / "a.db"))
        await engine.open()
        await engine.log.create("t", TopicConfig())
        calls = [engine.log.append("t", [NewEvent(b"good")]) for _ in range(20)]
        calls.insert(7, engine.log.append("bad \ud800", [NewEvent(b"bad")], create=TopicConfig()))
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(results[7], Exception)
        assert [one.last.seq for n, one in enumerate(results) if n != 7] == list(range(1, 21))
        await engine.close()

    asyncio.run(main())


def test_jobs_over_a_keeper_that_is_killed_meanwhile_all_have_one_outcome(kept):
    from fairlead.serve.jobs import JobKind, JobOptions, Jobs
    from fairlead.serve.jobwork import Work

    async def twice(n):
        return 2 * n

    async def main():
        store = await open_store(kept.url, keepers={kept.url: kept.address})
        jobs = Jobs(store)
        jobs.add(JobKind(twice, "twice", JobOptions(lease=1.0)))
        work = Work(jobs, {"twice": 8})
        work.start()
        rows = await asyncio.gather(*(jobs.submit("twice", [n]) for n in range(40)))
        kept.kill()
        kept.start()
        rows += await asyncio.gather(*(jobs.submit("twice", [n]) for n in range(40, 60)))
        async with asyncio.timeout(30):
            done = [await jobs.wait("twice", row.id, 30.0) for row in rows]
        assert [(row.state, row.result) for row in done] == [("succeeded", 2 * n) for n in range(60)]
        await work.stop(0.0)
        await store.close()

    asyncio.run(main())
