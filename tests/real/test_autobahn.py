"""Autobahn's WebSocket suite: our server, our server behind our proxy, and our client, each strictly.

The core groups run here, all three at once (most of their time is waiting). FAIRLEAD_AUTOBAHN_CASES names others: scripts/soak
runs "core,9.*" (large messages) and of permessage-deflate (12.*, 13.*) a "share", or all, which takes twenty minutes and more.
"""

import fnmatch
import os
from concurrent.futures import ThreadPoolExecutor

import autobahn
from peers import Real
from wsclient import Client

CASES = autobahn.named(os.environ.get("FAIRLEAD_AUTOBAHN_CASES", "core"))
APP = """
async def app(scope, receive, send):
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})
"""
FILE = """
[[listener]]
bind = "127.0.0.1:@PORT@"
[[route]]
path = "/app"
app = "wsapp:app"
[route.websocket]
compression = "takeover"
[[route]]
proxy = "behind"
[[upstream]]
name = "behind"
servers = ["127.0.0.1:BEHIND"]
"""


def in_turn(port: int, compress: bool) -> None:
    """Our client through every case of Autobahn's server."""
    with Client(port, "/getCaseCount") as client:
        count = int(client.receive() or 0)
        client.close()
    assert count > 0
    for case in range(1, count + 1):
        with Client(port, f"/runCase?case={case}&agent=it", compress=compress, echo=True) as client:
            client.echo()
    with Client(port, "/updateReports?agent=it", echo=True) as client:
        client.echo()


def our_client() -> autobahn.Results:
    """The client role."""
    with autobahn.Server(CASES) as server:
        in_turn(server.port, any(case.startswith(("12", "13", "*")) for case in CASES))
        return server.results()


def test_our_server_our_proxy_and_our_client_are_strict(real: Real) -> None:
    autobahn.wstest()
    behind = real.fairlead(
        "wsapp:app", "--workers", "1", "--page", "off", "--access-log", "off", files={"wsapp.py": APP}
    )
    front = real.fairlead(config=FILE.replace("BEHIND", str(behind.port)), files={"wsapp.py": APP})
    with ThreadPoolExecutor() as pool:
        jobs = {
            "server": pool.submit(autobahn.fuzz, f"ws://127.0.0.1:{front.port}/app", CASES),
            "proxied": pool.submit(autobahn.fuzz, f"ws://127.0.0.1:{front.port}/", CASES),
            "client": pool.submit(our_client),
        }
        found = {name: job.result() for name, job in jobs.items()}
    for name, results in found.items():
        missing = [case for case in CASES if not fnmatch.filter(results, case)]
        assert not missing, f"{name}: nothing ran of {missing}"
        assert CASES[: len(autobahn.CORE)] != autobahn.CORE or len(results) > 200, f"{name}: only {len(results)} cases"
        assert autobahn.less_than_strict(results) == {}, name
