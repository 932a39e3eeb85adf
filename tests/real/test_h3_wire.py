"""What goes over the wire of HTTP/3, seen from outside: packets of Retry and early data, new keys, ids that change at once,
paths that are dead or somebody else's, acknowledgements of what was never sent, qlog.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from h3client import PATIENCE, Client
from peers import Real
from processes import eventually, free_port

APPS = Path(__file__).resolve().parent / "apps"
CONFIG = """
[server]
workers = 1
pattern = "single"
[admin]
page = "off"
[log]
access = "off"
"""
LISTENER = """
[[listener]]
name = "{engine}"
bind = "127.0.0.1:{port}"
protocols = ["h1", "h2", "h3"]
early_data = true
tls = "dev"
quic = {{ engine = "{engine}", retry = "{retry}", qlog = "{qlog}" }}
"""
ROUTE = """
[[route]]
app = "h3back:app"
"""
engines = pytest.mark.parametrize("engine", ["qh3", "aioquic"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Both engines in one process; that of aioquic asks everybody to come again."""
    ports = {"qh3": 0, "aioquic": free_port()}
    logs = {engine: tmp_path_factory.mktemp(engine) for engine in ports}
    parts = [CONFIG]
    for engine, port in ports.items():
        retry = "always" if engine == "aioquic" else "auto"
        parts.append(LISTENER.format(engine=engine, port=port or "@PORT@", retry=retry, qlog=logs[engine]))
    files = {name: (APPS / name).read_text() for name in ("h3app.py", "h3back.py")}
    with Real() as real:
        server = real.fairlead(config="".join(parts) + ROUTE, files=files, port=free_port(), tls=True)
        ports["qh3"] = server.port
        yield SimpleNamespace(real=real, ports=ports, logs=logs, url=f"https://localhost:{server.port}")


# ---- packets

KINDS = {0: "initial", 1: "0rtt", 2: "handshake", 3: "retry"}


def kinds(datagram: bytes) -> list[str]:
    """The packets in a datagram (RFC 9000 section 17.2)."""
    found, at = [], 0
    while at < len(datagram) and datagram[at] & 0x80:
        kind = KINDS[datagram[at] >> 4 & 3]
        found.append(kind)
        if kind == "retry":
            return found
        inside = at + 6 + datagram[at + 5]
        inside += 1 + datagram[inside]
        if kind == "initial":
            size, inside = number(datagram, inside)
            inside += size
        size, inside = number(datagram, inside)
        at = inside + size
    if at < len(datagram) and datagram[at] & 0x40:
        found.append("short")
    return found


def number(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer (section 16) and where it ends."""
    size = 1 << (data[at] >> 6)
    return int.from_bytes(data[at : at + size], "big") & ((1 << 8 * size - 2) - 1), at + size


@pytest.mark.parametrize("library", ["aioquic", "qh3"])
def test_retry_comes_first_and_early_data_leaves_with_the_hello(site, library):
    async def main() -> None:
        client, heard = Client(library, site.ports["aioquic"]), []
        client.heard_from = lambda data: heard.append(data) is None
        async with client:
            await client.get("/who")
        found = [kinds(data) for data in heard]
        assert found[0] == ["retry"] and any("initial" in one for one in found), found
        async with Client(library, site.ports["qh3"]) as first:
            await first.get("/who")
        client, heard = Client(library, site.ports["qh3"], ticket=first.tickets[0], early=True), []
        client.heard_from = lambda data: heard.append(data) is None
        async with client:
            answer = client.ask("/who")
            assert "0rtt" in [kind for data in client.sent for kind in kinds(data)] and not heard, "nothing was heard before"
            await asyncio.wait_for(answer.done, PATIENCE)
            assert answer.body.endswith(b"early 1")

    asyncio.run(main())


@engines
@pytest.mark.parametrize("library", ["aioquic", "qh3"])
def test_the_server_answers_with_the_new_keys(site, library, engine):
    def phase(client: Client) -> int:
        if library == "qh3":
            return client.quic._core.receive_key_phase
        tls = type(client.quic.tls).__module__.partition(".")[0]
        epoch = __import__(f"{tls}.tls", fromlist=["Epoch"]).Epoch.ONE_RTT
        return client.quic._cryptos[epoch].recv.key_phase

    async def main() -> None:
        async with Client(library, site.ports[engine]) as client:
            await client.get("/who")
            for _ in range(3):
                before = phase(client)
                client.quic.request_key_update()
                for _ in range(50):  # another update may be asked for once its packets come with the new keys
                    assert (await client.get("/who")).status == 200
                    if phase(client) != before:
                        break
                assert phase(client) != before, "its packets came with new keys"
                for _ in range(3):  # and ours were acknowledged under them (RFC 9001 section 6.1)
                    client.quic.send_ping(9)
                    assert (await client.get("/who")).status == 200

    asyncio.run(main())


# ---- ids and paths


@engines
def test_ids_may_change_before_anything_else_is_said(site, engine):
    async def main() -> None:
        for _ in range(3):
            async with Client("aioquic", site.ports[engine]) as client:
                assert (await client.get("/who")).status == 200
                for _ in range(4):
                    client.quic.change_connection_id()
                    assert (await client.get("/who")).status == 200

    asyncio.run(main())


async def answered(client: Client, answer) -> None:
    """It was, on this connection."""
    pings = asyncio.create_task(ping(client))
    try:
        await asyncio.wait_for(answer.done, PATIENCE)
    finally:
        pings.cancel()


async def ping(client: Client) -> None:
    """Somebody who waits asks now and then."""
    while True:
        client.quic.send_ping(5)
        client.transmit()
        await asyncio.sleep(0.1)


@engines
@pytest.mark.parametrize("library", ["aioquic", "qh3"])
def test_who_moves_to_a_dead_path_is_answered_where_it_lives(site, library, engine):
    async def main() -> None:
        async with Client(library, site.ports[engine]) as client:
            await client.get("/who")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dead:
                dead.bind(("127.0.0.1", 0))
                client.out = lambda data: dead.sendto(data, client.address) and []
                held = client.ask("/digest", method="POST", body=b"x" * 3000)
                client.out = lambda data: [data]
            await answered(client, held)
            assert held.body.startswith(b"3000 ")
            more = client.ask("/large/100000")
            await answered(client, more)
            assert len(more.body) == 100_000

    asyncio.run(main())


@engines
def test_a_stranger_who_copies_packets_gets_little_and_harms_nobody(site, engine):
    """An attacker beside the path sends each packet of the client from an address of its own, first (RFC 9000 section 9.3.2)."""

    async def main() -> None:
        async with Client("aioquic", site.ports[engine]) as client:
            await client.get("/who")
            sent = got = 0
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.bind(("127.0.0.1", 0))
                stranger.setblocking(False)

                def copied(data: bytes) -> list[bytes]:
                    nonlocal sent
                    sent += len(data)
                    stranger.sendto(data, client.address)
                    return [data]

                client.out = copied
                answer = client.ask("/large/200000")
                client.out = lambda data: [data]
                await answered(client, answer)
                assert len(answer.body) == 200_000
                while True:
                    try:
                        got += len(stranger.recv(65536))
                    except BlockingIOError:
                        break
            assert got <= 3 * max(sent, 1200), f"{got} bytes to an address that nobody has proven, for {sent}"

    asyncio.run(main())


@engines
def test_an_acknowledgement_of_what_was_never_sent_ends_the_connection(site, engine):
    """RFC 9000 section 13.1: a PROTOCOL_VIOLATION; at least, the client gains nothing by it and others go on."""

    async def main() -> None:
        async with Client("aioquic", site.ports[engine]) as other:
            async with Client("aioquic", site.ports[engine]) as client:
                await client.get("/who")
                space = client.quic._loss.spaces[-1]
                space.ack_queue.add(1_000_000, 1_000_001)
                space.largest_received_packet, space.ack_at = 1_000_000, 0.0
                client.quic.send_ping(3)
                client.transmit()
                await asyncio.wait_for(client.over, PATIENCE)
                assert int(client.closed.error_code) == 0xA
            assert (await other.get("/who")).status == 200

    asyncio.run(main())


@engines
def test_who_does_not_hear_that_the_connection_is_over_is_told_again(site, engine):
    """RFC 9000 section 10.2.1; the connection was silent for a while before."""

    async def main() -> None:
        async with Client("aioquic", site.ports[engine]) as client:
            await client.get("/who")
            lost = 0

            def deaf(data: bytes) -> bool:
                nonlocal lost
                lost += 1
                return lost > 3

            client.heard_from = deaf
            client.quic.send_stream_data(2, b"\x00", False)  # it is the control stream, so a frame DATA is wrong there
            client.transmit()
            while not client.over.done():
                client.quic.send_ping(3)
                client.transmit()
                await asyncio.wait([client.over], timeout=0.05)
            assert int(client.closed.error_code) == 0x105

    asyncio.run(main())


def test_the_keys_of_a_packet_are_no_good_for_another_connection(site):
    async def main() -> None:
        async with Client("aioquic", site.ports["qh3"]) as one, Client("aioquic", site.ports["qh3"]) as other:
            await asyncio.gather(one.get("/who"), other.get("/who"))
            chance = random.Random(13)
            target = other.quic._peer_cid.cid
            for data in list(one.sent[-4:]):
                if not data[0] & 0x80:
                    forged = bytes((data[0],)) + target + data[9:]
                    one.transports[-1].sendto(forged, one.address)
                    one.transports[-1].sendto(forged[:9] + chance.randbytes(400), one.address)
            assert (await other.get("/who")).status == 200 and (await one.get("/who")).status == 200

    asyncio.run(main())


@engines
def test_a_qlog_of_each_connection_is_written_where_it_is_asked_for(site, engine):
    async def main() -> None:
        async with Client("aioquic", site.ports[engine]) as client:
            await client.get("/who")
            assert (await client.get("/large/30000")).status == 200

    before = set(site.logs[engine].iterdir())
    asyncio.run(main())

    def written() -> dict:
        for path in set(site.logs[engine].iterdir()) - before:
            with contextlib.suppress(ValueError):
                return json.loads(path.read_text())
        return {}

    eventually(written, what="the file to be written")
    log = written()
    names = {event["name"] for trace in log["traces"] for event in trace["events"]}
    assert log["qlog_version"] and {"transport:packet_sent", "transport:packet_received"} <= names, names
