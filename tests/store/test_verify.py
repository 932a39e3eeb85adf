"""`fairlead verify`: what it breaks of the embedded engine heals, and it says what it cannot do."""

import asyncio

import pytest

from fairlead.run.cli import main
from fairlead.store.suite.faults import Relay, through
from fairlead.store.suite.kept import KeeperProcess
from fairlead.store.suite.kit import Bench
from fairlead.store.suite.verify import Skipped, Subject, full_disk, set_back


def test_a_clock_set_back_over_a_restart_ends_no_lease(tmp_path):
    with KeeperProcess(f"sqlite:///{tmp_path}/a.db") as kept:
        assert "a day" in asyncio.run(set_back(kept))


def test_a_small_file_system_that_fills_loses_nothing(tmp_path):
    try:
        said = asyncio.run(full_disk(Subject(f"sqlite:///{tmp_path}/a.db", None)))
    except Skipped as skip:
        pytest.skip(str(skip))
    assert "before and after" in said


def test_an_engine_that_is_to_come_and_a_wrong_ack_are_told_at_once(capsys):
    assert main(["verify", "--store", "kafka://localhost"]) == 2
    assert "no kafka engine in this version" in capsys.readouterr().err
    assert main(["verify", "--store", "memory:", "--ack", "certain"]) == 2
    assert "node+fsync" in capsys.readouterr().err
    assert main(["verify", "--store", "memory:", "--ack", "node"]) == 1
    assert 'write store.ack = "memory"' in capsys.readouterr().err


def test_the_relay_passes_bytes_and_cuts_them():
    async def main():
        async def echo(reader, writer):
            while data := await reader.read(100):
                writer.write(data)
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        relay = Relay("127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", await relay.start())
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"ping"
        await relay.cut()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        await relay.stop()
        server.close()

    asyncio.run(main())


def test_the_relay_stands_in_a_url_with_its_user_and_options():
    assert through("postgresql://me:secret@db:5433/x?a=b", 99) == "postgresql://me:secret@127.0.0.1:99/x?a=b"
    assert through("redis://localhost", 99) == "redis://127.0.0.1:99"


def test_no_name_of_a_check_is_the_beginning_of_another():
    bench = Bench.__new__(Bench)
    names = [bench.name("k") for _ in range(150)]
    assert not [one for one in names for other in names if one is not other and other.startswith(one)]
