"""A running server says which request was slow, and what the kernel knew of a client that read slowly."""

import json
import socket

from processes import eventually

CONFIG = """
[server]
workers = 1
[journey]
slow = "50ms"
sample = "100%"
[[listener]]
bind = "127.0.0.1:@PORT@"
[[route]]
app = "lazy:app"
"""
APP = """
import asyncio
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    if scope["path"] == "/lazy":
        await asyncio.sleep(0.1)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x" * (20_000_000 if scope["path"] == "/big" else 2)})
"""


def test_a_slow_request_is_told_with_its_waterfall_and_a_slow_client_by_its_window(real):
    server = real.fairlead(config=CONFIG, files={"lazy.py": APP})
    server.says("Ctrl-C")
    assert real.curl(server.url + "/quick").status == 200
    assert real.curl(server.url + "/lazy?q=1").status == 200
    server.says(r"warning slow: GET /lazy\?q=1 200 in [\d.]+ ms, \d+% of it process: .*process [\d.]+ ms #{5,20}")
    assert "slow: GET /quick" not in server.text()
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        slow.connect(("127.0.0.1", server.port))
        slow.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert slow.recv(100).startswith(b"HTTP/1.1 200")
        eventually(lambda: get(server, "/api/requests?running=1"), what="a request that waits for its client")
        while slow.recv(1 << 20):
            pass
    server.says(r"slow: GET /big 200 in .*% of it client: ")
    found = next(one for one in get(server, "/api/requests") if one["target"] == "/big")
    told = get(server, "/api/requests/" + found["id"])
    assert told["socket"]["window_us"] > 10_000 and "receive window was full" in told["sentence"]


def get(server, path):
    """From the admin socket."""
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(f"{server.home}/fairlead-{server.port}.sock")
        admin.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: admin.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), answer
    return json.loads(body)
