"""Dispatch with real processes: two fronts and two workers, what passes the hop, and who may die without taking others along.

One server for all: each test leaves it serving, with two fronts and two workers.
"""

import asyncio
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from clients import under_load, worker_pids
from peers import Real
from processes import Process, eventually

APP = """
import asyncio, os

async def body_of(receive):
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return
        yield message.get("body", b"")
        if not message.get("more_body"):
            return

async def echo_socket(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", **{k: message[k] for k in ("text", "bytes") if message.get(k) is not None}})

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        return await echo_socket(receive, send)
    start = {"type": "http.response.start", "status": 200, "headers": []}
    if scope["path"] == "/echo":
        await send(start)
        async for piece in body_of(receive):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        return await send({"type": "http.response.body"})
    if scope["path"].startswith("/when/"):
        await send(start)
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        while not os.path.exists(scope["path"][6:]):
            await asyncio.sleep(0.01)
        return await send({"type": "http.response.body", "body": b"last"})
    body = b"%d" % os.getpid()
    await send({**start, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""
CONFIG = """
[server]
pattern = "dispatch"
fronts = 2
workers = 2
max_requests = 1500
[admin]
page = "off"
[log]
access = "off"
[[listener]]
bind = "127.0.0.1:@PORT@"
[[route]]
app = "hop:app"
"""
ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    with Real() as peers:
        made = peers.fairlead(config=CONFIG, files={"hop.py": APP})
        made.says("Ctrl-C")
        yield made


def roles(server: Process, kind: str) -> set[int]:
    """The pids of the fronts or the workers."""
    found = set()
    for pid in worker_pids(server.pid):
        try:
            if Path(f"/proc/{pid}/comm").read_text().startswith(f"fl {kind}"):
                found.add(pid)
        except OSError:
            pass
    return found


def ask(sock: socket.socket) -> int:
    """One request; the pid of the worker that answered."""
    sock.sendall(ASK)
    answer = b""
    while not (found := re.search(rb"\r\n\r\n(\d+)$", answer)):
        piece = sock.recv(4096)
        assert piece, f"closed after {answer!r}"
        answer += piece
    assert answer.startswith(b"HTTP/1.1 200"), answer
    return int(found[1])


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_an_upload_and_an_answer_without_a_length_pass_the_hop_whole(real: Real, server: Process, version: str) -> None:
    sent = os.urandom(3_000_000)  # many windows, each way
    (server.home / "sent").write_bytes(sent)
    answer = real.curl(f"{server.url}/echo", version, "--data-binary", f"@{server.home / 'sent'}")
    assert (answer.status, answer.body == sent) == (200, True)
    assert answer.http_version == ("2" if "http2" in version else "1.1")


def test_each_part_of_an_answer_comes_when_it_is_said(server: Process) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        sock.sendall(b"GET /when/said HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while b"first" not in answer:
            answer += sock.recv(4096)
        assert b"last" not in answer
        (server.home / "said").touch()
        while b"last" not in answer:
            answer += sock.recv(4096)


def test_a_websocket_passes_the_hop(server: Process) -> None:
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{server.port}/", max_size=None, open_timeout=20) as sock:
        for message in ("hello", b"\0\1", "x" * 300_000):
            sock.send(message)
            assert sock.recv(20) == message


def test_many_streams_of_one_http_2_connection_are_answered_by_both_workers(server: Process) -> None:
    import httpx

    async def many() -> list[httpx.Response]:
        async with httpx.AsyncClient(http1=False, http2=True, timeout=20) as client:
            first = await client.get(server.url)
            return [first, *await asyncio.gather(*(client.get(server.url) for _ in range(60)))]

    answers = asyncio.run(many())
    assert {(one.status_code, one.http_version) for one in answers} == {(200, "HTTP/2")}
    assert len({one.text for one in answers}) >= 2


def test_a_killed_front_takes_only_its_own_connections_along(server: Process) -> None:
    eventually(lambda: len(roles(server, "front")) == 2, what="two fronts")
    victim = min(roles(server, "front"))
    with under_load(server.port) as load:
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: len(roles(server, "front") - {victim}) == 2, what="another front")
        load.answered(50)
    assert not [one for one in load.failures if one.startswith("connect:")], load.failures  # its socket is the master's
    assert len(load.failures) <= 6, load.failures  # one for each client that may have been its own


def test_a_killed_worker_costs_no_client_an_answer(server: Process) -> None:
    eventually(lambda: len(roles(server, "worker")) == 2, what="two workers")
    with under_load(server.port) as load:
        victim = min(roles(server, "worker"))
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: len(roles(server, "worker") - {victim}) == 2, what="another worker")
        load.answered(50)
    assert not load.failures, load.failures  # GET is asked again, of another worker


def test_worn_out_workers_are_replaced_and_no_connection_is_closed(server: Process) -> None:
    socks = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(4)]
    fronts = roles(server, "front")
    first = {ask(sock) for sock in socks for _ in range(10)}
    last: set[int] = set()
    for _ in range(4000):
        last = {ask(sock) for sock in socks}
        if not last & first:
            break
    assert not last & first, "each worker that answered at first was replaced"
    for sock in socks:
        ask(sock)
        sock.close()
    assert roles(server, "front") == fronts
