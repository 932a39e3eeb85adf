"""PostgreSQL's connections break while what they asked is committed: everything is done once, and its answer is known."""

import asyncio

import asyncpg
import pytest
import servers
from engines import postgres_server

from fairlead.store.contract import Conflict, Fenced, Item, NewEvent, TopicConfig
from fairlead.store.open import make_engine
from fairlead.store.suite.faults import Relay, through


class Cutter(Relay):
    """Cuts one connection: when the client has said all of `words`, one after the other, the server hears the last and its answer
    is cut off (`heard`), or it does not even hear it."""

    words: tuple[bytes, ...] = ()
    heard = True
    cuts = 0

    async def connected(self, reader, writer):
        there, back = await asyncio.open_connection(self.host, self.port)
        self.writers |= {writer, back}
        cut = asyncio.Event()
        ways = [asyncio.ensure_future(way) for way in (self.asks(reader, back, cut), self.answers(there, writer, cut))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for one in (writer, back):
            one.transport.abort()
        await asyncio.gather(*ways, return_exceptions=True)
        self.writers -= {writer, back}

    async def asks(self, reader, back, cut):
        while data := await reader.read(65536):
            while self.words and self.words[0] in data:
                self.words = self.words[1:]
                if not self.words:
                    self.cuts += 1
                    cut.set()
            if cut.is_set() and not self.heard:
                break
            back.write(data)

    async def answers(self, there, writer, cut):
        while (data := await there.read(65536)) and not cut.is_set():
            writer.write(data)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with servers.running(postgres_server(tmp_path_factory.mktemp("outcomes"))) as server:
        yield server.url


def told(url, story):
    """A story of an engine behind a cutter."""

    async def main():
        host, port = url.rpartition("@")[2].partition("/")[0].split(":")
        cutter = Cutter(host, int(port))
        engine = make_engine(through(url, await cutter.start()))
        await engine.open()
        async with asyncio.timeout(servers.PATIENCE):
            await story(engine, cutter)
        await engine.close()
        await cutter.stop()

    asyncio.run(main())


@pytest.mark.parametrize("heard", [True, False], ids=["the answer", "the question"])
def test_whatever_is_lost_each_call_is_done_once_and_answered(url, heard):
    name = f"lost-{heard}"

    async def story(engine, cutter):
        async def lost(call, *words):
            cutter.words, cutter.heard, before = tuple(word.encode() for word in words), heard, cutter.cuts
            answer = await call
            assert cutter.cuts == before + 1 and not cutter.words
            return answer

        log, leases, state = engine.log, engine.leases, engine.state
        _, made = await lost(log.create(f"{name}-made", TopicConfig(), [NewEvent(b"first")]), f"{name}-made", "COMMIT")
        assert made
        appended = await lost(log.append(name, [NewEvent(b"1")], create=TopicConfig()), f"{name}")
        assert not appended.duplicate
        appended = await lost(log.append(name, [NewEvent(b"2")]), f"{name}")
        assert [event.data for event in (await log.read(name, None)).events] == [b"1", b"2"]
        assert await lost(leases.put(name, [Item("a", b"A"), Item("b", b"B"), Item("a", b"C")]), name) == [True, True, False]
        [a, b] = await lost(leases.claim(name, 2, 60.0), name)
        assert (a.body, a.attempt, b.body, b.attempt) == (b"A", 1, b"B", 1)
        await lost(leases.nack(b, 30.0), name, "COMMIT")
        with pytest.raises(Fenced):
            await leases.nack(b)
        assert await lost(leases.ack([a, b]), name) == [True, False]
        assert (await leases.depth(name)).delayed == 1
        assert await lost(leases.remove(name, ["b", "z"]), name, "COMMIT") == [True, False]
        first = await lost(state.put_if(f"{name}/k", b"v", 0, ttl=60.0), f"{name}/k")
        second = await lost(state.put_if(f"{name}/k", b"w", first.version), f"{name}/k")
        assert await state.get(f"{name}/k") == second
        with pytest.raises(Conflict) as conflict:
            await lost(state.put_if(f"{name}/k", b"x", first.version), f"{name}/k")
        assert conflict.value.entry == second
        assert await lost(state.delete_if(f"{name}/k", second.version), f"{name}/k", "COMMIT")
        assert await lost(log.delete(name), name, "COMMIT")
        entry = await lost(state.put_if(f"{name}/j", b"v", 0), f"{name}/j")
        await leases.put(name, [Item("j", b"")])
        [lease] = await leases.claim(name, 1, 60.0)
        await lost(leases.term(lease, "no use"), name, "COMMIT")
        assert [one.reason for one in await leases.dead(name)] == ["no use"]
        assert await lost(leases.redrive(name), name, "COMMIT") == 1
        assert await state.get(f"{name}/j") == entry
        assert await lost(leases.drop(name), name, "COMMIT")

    told(url, story)


def test_a_call_that_is_still_at_work_when_its_connection_goes_is_waited_for_or_killed_and_done_again(url):
    async def story(engine, cutter):
        other, eye = await asyncpg.connect(url), await asyncpg.connect(url)  # who sees only what was when its transaction began
        mine = other.get_server_pid()
        entry = await engine.state.put_if("held/k", b"1", 0)
        for kill in (False, True):
            async with other.transaction():
                await other.execute("SELECT * FROM fairlead.entries WHERE key = 'held/k' FOR UPDATE")
                changing = asyncio.ensure_future(engine.state.put_if("held/k", b"2", entry.version))
                first = await waiting(eye, mine, 0)
                if kill:
                    await eye.execute("SELECT pg_terminate_backend($1)", first)
                else:
                    await cutter.cut()
                await waiting(eye, mine, first)
            entry = await changing
            assert await engine.state.get("held/k") == entry
        await other.close()
        await eye.close()

    async def waiting(eye, mine, first):
        """The process that waits for our lock, or for the lane of the `first`, whose connection is gone."""
        sql = "SELECT pid FROM pg_stat_activity WHERE pid <> $2 AND pg_blocking_pids(pid) && ARRAY[$1, $2]::int[]"
        while (pid := await eye.fetchval(sql, mine, first)) is None:
            await asyncio.sleep(0.01)
        return pid

    told(url, story)
