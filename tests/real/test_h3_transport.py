"""What QUIC promises below HTTP, seen from clients we did not write: moving, Retry, early data, keys, resets, lost packets, and a
server that is reloaded or loses a worker meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import socket
from pathlib import Path

import pytest
from h3client import PATIENCE, Client
from peers import Real
from processes import free_port

APP = Path(__file__).resolve().parent / "apps" / "h3app.py"
CONFIG = """
[server]
workers = 2
pattern = "{pattern}"
grace = "15s"
[admin]
page = "off"
[log]
access = "off"
[[listener]]
name = "web"
bind = "127.0.0.1:@PORT@"
protocols = ["h1", "h2", "h3"]
early_data = true
tls = "dev"
quic = {{ {quic} }}
[[route]]
app = "h3app:app"
"""
ALSO = """
[[listener]]
name = "also"
bind = "127.0.0.1:{port}"
protocols = ["h1", "h2", "h3"]
tls = "dev"
quic = {{ engine = "aioquic", retry = "{retry}" }}
"""


def start(real: Real, pattern: str = "reuseport", quic: str = 'engine = "qh3"', also: int = 0):
    """A server on a port that TCP and UDP have free; and on `also` with the other engine."""
    config = CONFIG.format(pattern=pattern, quic=quic)
    if also:
        config += ALSO.format(port=also, retry="always" if "always" in quic else "auto")
    return real.fairlead(config=config, files={"h3app.py": APP.read_text()}, port=free_port(), tls=True)


@pytest.fixture(scope="module")
def shared():
    with Real() as real:
        yield start(real)


def pid_of(answer) -> int:
    return int(answer.body.split()[3])


async def move_about(port: int, library: str = "aioquic", times: int = 3) -> None:
    """A client that moves and changes its ids, with requests before, between and in the middle of it: one worker answers all."""
    async with Client(library, port) as client:
        whose = pid_of(await client.get("/who"))
        held = client.ask("/ticks/6")
        for turn in range(times):
            detour(client)
            await client.move()
            if turn % 2:
                client.quic.change_connection_id()
            assert pid_of(await client.get("/who")) == whose
        await asyncio.wait_for(held.done, PATIENCE)
        assert held.body == b"0 1 2 3 4 5 "


def detour(client: Client) -> None:
    """It shows itself at an address that is dead at once, and once at one of somebody else's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dead:
        dead.bind(("127.0.0.1", 0))
        client.quic.send_ping(11)
        client.out = lambda data: dead.sendto(data, client.address) and [data]
        client.transmit()
        client.quic.send_ping(12)
        client.out = lambda data: dead.sendto(data, client.address) and []
        client.transmit()
        client.out = lambda data: [data]


@pytest.mark.parametrize("library", ["aioquic", "qh3"])
def test_a_client_that_moves_stays_with_its_worker(shared, library):
    asyncio.run(move_about(shared.port, library))


@pytest.mark.parametrize("pattern", ["handoff", "dispatch", "shared"])
def test_a_client_may_move_whatever_the_pattern(real, pattern):
    async def main(ports: tuple[int, ...]) -> None:
        if pattern == "dispatch":  # the front has the connection, and any worker may answer
            for port in ports:
                async with Client("aioquic", port) as client:
                    for _ in range(2):
                        detour(client)
                        await client.move()
                        assert (await client.get("/who")).status == 200
            return
        await asyncio.gather(*(move_about(port, times=2) for port in ports for _ in range(2)))

    also = free_port()
    asyncio.run(main((start(real, pattern, also=also).port, also)))


def test_a_client_without_a_proven_address_is_asked_to_come_again_and_one_with_a_token_is_not(real):
    also = free_port()
    server = start(real, quic='retry = "always"', also=also)

    async def main() -> None:
        for port in (server.port, also):
            for library in ("aioquic", "qh3"):
                async with Client(library, port) as client:
                    assert client.quic._retry_count == 1
                    assert (await client.get("/who")).status == 200
            for early in (False, True):  # with a ticket too, its early data is read at once
                async with Client("aioquic", port) as first:
                    assert (await first.get("/who")).status == 200
                    while not first.tokens:
                        await first.get("/who")
                token, ticket = first.tokens[0], first.tickets[0] if early else None
                async with Client("aioquic", port, token=token, ticket=ticket, early=early and port != also) as again:
                    assert (await again.get("/who")).status == 200 and again.quic._retry_count == 0
                    assert again.resumed is early and again.tokens != first.tokens
                for _ in range(3):  # a copy of it proves nothing, to either worker
                    async with Client("aioquic", port, token=token) as copy:
                        assert (await copy.get("/who")).status == 200 and copy.quic._retry_count == 1

    asyncio.run(main())


@pytest.mark.parametrize("library", ["aioquic", "qh3"])
def test_early_data_is_answered_once_and_its_copy_by_nobody(shared, library):
    async def main() -> None:
        async with Client(library, shared.port) as first:
            await first.get("/who")
        async with Client(library, shared.port, ticket=first.tickets[0], early=True) as client:
            answer = client.ask("/who")
            unsafe = client.ask("/digest", method="POST", body=b"pay")
            await asyncio.wait_for(answer.done, PATIENCE)
            await asyncio.wait_for(unsafe.done, PATIENCE)
            await asyncio.wait_for(client.connected, PATIENCE)
            assert client.early_accepted and answer.body.endswith(b"early 1")
            assert unsafe.status == 425
        # the same flight, byte by byte, from elsewhere: to both workers, for the hash of the addresses decides
        for _ in range(6):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as copy:
                for data in client.sent[:2]:
                    copy.sendto(data, client.address)
        async with Client(library, shared.port, ticket=first.tickets[0], early=True) as again:
            answer = again.ask("/who")
            await asyncio.wait_for(answer.done, PATIENCE)
            assert not again.early_accepted and not again.resumed and answer.body.endswith(b"early -")

    asyncio.run(main())


@pytest.mark.parametrize("library", ["aioquic", "qh3"])
def test_keys_may_change_in_the_middle(shared, library):
    async def main() -> None:
        async with Client(library, shared.port) as client:
            await client.get("/who")
            for _ in range(3):
                client.quic.request_key_update()
                assert len((await client.get("/large/50000")).body) == 50_000

    asyncio.run(main())


def test_a_client_may_move_as_often_as_it_likes_and_back(shared):
    async def main() -> None:
        async with Client("aioquic", shared.port) as client:
            whose = pid_of(await client.get("/who"))
            for _ in range(12):
                await client.move()
                assert pid_of(await client.get("/who")) == whose
            for turn in range(-4, 0):  # where it was before
                client.transports.append(client.transports[turn])
                assert pid_of(await client.get("/who")) == whose
            assert len((await client.get("/large/100000")).body) == 100_000

    asyncio.run(main())


def ask_raw(port: int, data: bytes, seconds: float = 5.0) -> bytes:
    """What one datagram is answered with; b"" for silence."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(seconds)
        sock.sendto(data, ("127.0.0.1", port))
        try:
            return sock.recv(65536)
        except TimeoutError:
            return b""


def test_another_version_is_told_which_we_speak(shared):
    answer = ask_raw(shared.port, b"\xc0\x0a\x1a\x2a\x3a\x08" + b"D" * 8 + b"\x08" + b"S" * 8 + bytes(1200))
    assert answer[0] & 0x80 and answer[1:5] == bytes(4)
    assert answer[5:23] == b"\x08" + b"S" * 8 + b"\x08" + b"D" * 8 and answer[23:] == b"\0\0\0\1"


def test_strange_datagrams_get_silence_and_harm_nobody(shared):
    chance = random.Random(7)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for size in (1, 2, 5, 8, 9, 20, 1199, 1200, 1500, 9000, 65507):
            for first in (0x00, 0x40, 0xC0, 0xD0, 0xE0, 0xF0, 0xFF):
                body = chance.randbytes(size - 1)
                sock.sendto(bytes((first,)) + body, ("127.0.0.1", shared.port))
                if 30 < size < 60000:
                    head = bytes((first,)) + b"\0\0\0\1\x08" + body[:8] + b"\x08"
                    sock.sendto(head + body[8:], ("127.0.0.1", shared.port))
    asyncio.run(move_about(shared.port, times=1))


def test_a_transfer_survives_loss_reordering_and_copies(shared):
    chance = random.Random(11)

    def mangle(data: bytes) -> list[bytes]:
        kind = chance.random()
        if kind < 0.05:
            return []
        if kind < 0.10:
            return [data, data]
        if kind < 0.15:
            held.append(data)
            return []
        late, held[:] = list(held), []
        return [data, *late]

    held: list[bytes] = []

    async def main() -> None:
        async with Client("qh3", shared.port) as client:
            client.out = mangle
            client.heard_from = lambda data: chance.random() > 0.05
            body = chance.randbytes(300_000)
            answer = await client.post("/digest", body)
            assert answer.body == f"300000 {hashlib.sha256(body).hexdigest()}".encode()
            assert len((await client.get("/large/300000")).body) == 300_000

    asyncio.run(main())


def test_a_reader_that_is_slow_slows_the_client(shared):
    async def main() -> None:
        async with Client("qh3", shared.port) as client:
            body = bytes(4_000_000)
            answer = await client.post("/lazy", body)
            assert answer.body == f"4000000 {hashlib.sha256(body).hexdigest()}".encode()

    asyncio.run(main())


def test_a_reload_loses_no_answer_and_no_connection_that_moves(real):
    server = start(real)

    async def main() -> None:
        async with Client("aioquic", server.port) as client, Client("qh3", server.port) as other:
            old = {pid_of(await client.get("/who")), pid_of(await other.get("/who"))}
            held = [one.ask("/ticks/30") for one in (client, other)]
            await asyncio.wait_for(held[0].begun, PATIENCE)
            done = await asyncio.to_thread(real.command, "reload", "--workers", home=server.home)
            assert done.returncode == 0, done.stderr
            await client.move()
            client.quic.send_ping(7)
            client.transmit()
            for answer in held:
                await asyncio.wait_for(answer.done, PATIENCE)
                assert answer.body.split() == [b"%d" % n for n in range(30)]
            for _ in range(4):
                async with Client("aioquic", server.port) as new:
                    assert pid_of(await new.get("/who")) not in old

    asyncio.run(main())


def test_the_connections_of_a_killed_worker_are_reset_and_its_successor_answers(real):
    server = start(real)

    async def main() -> None:
        async with Client("aioquic", server.port) as client:
            os.kill(pid_of(await client.get("/who")), signal.SIGKILL)
            lost = asyncio.get_running_loop().create_future()
            client.heard_from = lambda data: reset_of(client, data, lost)
            while not lost.done():
                client.quic.send_ping(1)
                client.transmit()
                await asyncio.wait([lost], timeout=0.2)
            async with Client("aioquic", server.port) as new:
                assert (await new.get("/who")).status == 200
            client.closed = client.closed or "reset"

    asyncio.run(main())


def reset_of(client: Client, data: bytes, lost: asyncio.Future) -> bool:
    """Is this the stateless reset that the server's first id was promised?"""
    if not data[0] & 0x80 and data[-16:] == client.quic._peer_cid.stateless_reset_token and not lost.done():
        lost.set_result(None)
    return True
