"""slowhttptest's four modes: whatever it holds open, others are served to the end."""

import os
import re
import resource
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from peers import Real


@pytest.mark.parametrize("mode", ["H", "B", "R", "X"], ids=["headers", "bodies", "ranges", "reads"])
def test_the_service_stays_available_to_the_end(mode: str, real: Real):
    server = real.fairlead("answers:app", "--page", "off", "--access-log", "off", files={"answers.py": APP})
    assert real.slowhttptest(mode, server.url + "/", seconds=5, connections=200)
    assert real.curl(server.url).status == 200


APP = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x" * 200_000})
"""


UPLOADS = int(os.environ.get("FAIRLEAD_SLOW_UPLOADS", "300"))  # the soak takes 10,000
SIZE = 100_000


def test_many_slow_uploads_at_once_cost_little_memory_and_others_are_answered(real: Real):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(UPLOADS + 1000, hard)), hard))  # the server inherits it
    server = real.fairlead("answers:app", "--page", "off", "--access-log", "off", files={"answers.py": COUNTING})
    host, port = urlsplit(server.url).hostname, urlsplit(server.url).port
    assert real.curl(server.url).status == 200
    before = resident(server.pid)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE
    socks = []
    try:
        for _ in range(UPLOADS):
            sock = socket.create_connection((host, port), timeout=60)
            socks.append(sock)
            sock.sendall(head + b"x" * 1000)
        assert real.curl(server.url).status == 200
        if UPLOADS >= 1000:  # fewer do not stand out
            assert (resident(server.pid) - before) / UPLOADS < 40  # KiB of each
        for sock in socks:
            sock.sendall(b"x" * 1000)
        assert real.curl(server.url).status == 200
        for sock in socks:
            sock.sendall(b"x" * (SIZE - 2000))
        for sock in socks:
            answer = b""
            while not answer.endswith(b"100000\n"):
                piece = sock.recv(4096)
                assert piece, answer
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200 ")
    finally:
        for sock in socks:
            sock.close()


def resident(root: int) -> int:
    """KiB of a process and its children."""
    total = 0
    for pid in [root, *map(int, Path(f"/proc/{root}/task/{root}/children").read_text().split())]:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        total += int(found[1]) if found else 0
    return total


COUNTING = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    total, more = 0, True
    while more:
        message = await receive()
        total += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d\\n" % total})
"""
