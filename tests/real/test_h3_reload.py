"""A server that is reloaded with new workers in the middle of downloads and uploads over HTTP/3, with both engines, and one whose
workers are killed, under every pattern. It takes half a minute: in `scripts/soak` (FAIRLEAD_H3_PATTERNS=all).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal

import pytest
from h3client import PATIENCE, Client
from peers import Real
from processes import free_port
from test_h3_transport import pid_of, reset_of, start

PATTERNS = ["reuseport", "handoff", "dispatch", "shared"]
pytestmark = pytest.mark.skipif(os.environ.get("FAIRLEAD_H3_PATTERNS") != "all", reason="half a minute: scripts/soak runs it")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_reload_in_the_middle_of_a_download_and_an_upload_loses_no_byte(pattern):
    async def main(real: Real, server, ports: tuple[int, ...]) -> None:
        clients = [Client(library, port) for port in ports for library in ("aioquic", "qh3")]
        for client in clients:
            await client.__aenter__()
        body, held = b"u" * 400_000, []
        for client in clients:
            up = client.ask("/digest", method="POST", body=body[:100_000], end=False)
            down = client.ask("/ticks/30")
            await asyncio.wait_for(down.begun, PATIENCE)
            held.append((client, up, down))
        done = await asyncio.to_thread(real.command, "reload", "--workers", home=server.home)
        assert done.returncode == 0, done.stderr
        for client, up, down in held:
            client.http.send_data(up.stream, body[100_000:], True)
            client.transmit()
            await asyncio.wait_for(up.done, PATIENCE)
            await asyncio.wait_for(down.done, PATIENCE)
            assert bytes(up.body) == f"400000 {hashlib.sha256(body).hexdigest()}".encode()
            assert down.body.split() == [b"%d" % n for n in range(30)]
            await client.__aexit__()

    with Real() as real:
        also = free_port()
        server = start(real, pattern, also=also)
        asyncio.run(main(real, server, (server.port, also)))


@pytest.mark.parametrize("pattern", [one for one in PATTERNS if one != "dispatch"])  # there the front has the connections
def test_a_killed_workers_clients_hear_of_it_and_come_again(pattern):
    async def main(port: int) -> None:
        async with Client("aioquic", port) as client:
            os.kill(pid_of(await client.get("/who")), signal.SIGKILL)
            lost = asyncio.get_running_loop().create_future()
            client.heard_from = lambda data: reset_of(client, data, lost)
            while not lost.done():
                client.quic.send_ping(1)
                client.transmit()
                await asyncio.wait([lost], timeout=0.2)
            async with Client("aioquic", port) as new:
                assert (await new.get("/who")).status == 200
            client.closed = client.closed or "reset"

    with Real() as real:
        also = free_port()
        start(real, pattern, also=also)
        asyncio.run(main(also))
