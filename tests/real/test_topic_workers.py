"""Topics of a server with several workers: quotas and presence that are the whole server's, members of a worker that is killed by
-9, the end of a topic that another worker deletes; who may do what by token and hook; sockets that deflate.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from peers import Real
from processes import Process, eventually, free_port
from websockets.sync.client import connect

MOST = 24  # one client's followers: that all of them are one worker's is as likely as 24 coins on one side

TOML = """
[server]
pattern = "reuseport"
workers = 2
[admin]
page = "127.0.0.1:@PAGE@"
[store]
url = "memory:"
[[listener]]
bind = "127.0.0.1:@PORT@"
[[route]]
path = "/t/{topic}"
[route.topic]
presence = true
presence_lease = "1s"
followers = 24
[[route]]
path = "/free/{topic}"
topic = {}
[[route]]
path = "/guarded/{topic}"
filters = [ { jwt = { secret = "env:SECRET", algorithms = ["HS256"] } } ]
topic = { claim = "topics", authorize = "access:may", create = "publish" }
"""
ACCESS = """
def may(action, topic, asker):
    with open("asked", "a") as log:
        print(action, topic, asker.principal["sub"], file=log)
    return topic != "orders.closed"
"""
SECRET = "a secret that is long enough for HS256"


class Follower:
    """An event stream on a connection of its own, read without waiting."""

    def __init__(self, port: int, target: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.sock.sendall(f"GET {target} HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\n\r\n".encode())
        self.text = self.sock.recv(65536).decode()
        self.over = False
        self.sock.setblocking(False)

    @property
    def status(self) -> int:
        return int(self.text.split(" ", 2)[1])

    def heard(self) -> str:
        """Everything so far."""
        while not self.over:
            try:
                piece = self.sock.recv(65536)
            except BlockingIOError:
                break
            except OSError:
                piece = b""
            self.over = not piece
            self.text += piece.decode()
        return self.text


def ask(url: str, method: str = "GET", value: Any = None) -> Any:
    """A request on a connection of its own; its JSON."""
    body = json.dumps(value).encode() if value is not None else None
    request = urllib.request.Request(url, body, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read() or b"null")


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    """One for all tests here; `page` is where its admin pages are."""
    page = free_port()
    with Real() as peers:
        made = peers.fairlead(config=TOML.replace("@PAGE@", str(page)), files={"access.py": ACCESS}, env={"SECRET": SECRET})
        made.says("Ctrl-C")  # all workers are there
        made.page = page  # type: ignore[attr-defined]
        yield made


def token(**said: Any) -> dict[str, str]:
    """A JWT of ours (RFC 7515, HS256), as a request's field."""

    def part(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    head = json.dumps({"alg": "HS256"}).encode()
    text = f"{part(head)}.{part(json.dumps(said).encode())}"
    return {"authorization": f"Bearer {text}.{part(hmac.digest(SECRET.encode(), text.encode(), 'sha256'))}"}


def leaves(text: str) -> set[str]:
    """Whose leaving a stream of presence has told."""
    return set(re.findall(r'event: leave\r?\ndata: ?\{"member": ?"(\w+)"', text))


def test_what_token_and_hook_allow_and_that_a_client_that_polls_is_looked_up_once(server: Process) -> None:
    url = f"{server.url.rstrip('/')}/guarded"
    ann = token(sub="ann", exp=time.time() + 600, topics={"read": ["orders.*"], "publish": ["orders.eu"]})
    with httpx.Client(headers=ann, timeout=20) as client:
        assert client.post(f"{url}/orders.eu", json=1).status_code == 204
        assert client.post(f"{url}/orders.us", json=1).status_code == 403, "the token lets read it only"
        assert client.get(f"{url}/bills").status_code == 403, "nor that"
        assert client.get(f"{url}/orders.closed").status_code == 403, "the hook says no"
        for _ in range(20):
            assert client.get(f"{url}/orders.eu?offset=-1").json() == [1]
        assert httpx.get(f"{url}/orders.eu").status_code == 401
    asked = (server.home / "asked").read_text().splitlines()
    assert 1 <= asked.count("read orders.eu ann") <= 2, "once for each worker at most"
    address = url.replace("http", "ws") + "/orders.eu?offset=-1"
    with connect(address, additional_headers=ann, subprotocols=["fairlead.v1.json"]) as socket:
        assert heard(socket)["events"][0]["data"] == 1
        socket.send(json.dumps({"id": 1, "sub": {"topic": "bills"}}))
        assert heard(socket)["error"]["status"] == 403
        socket.send(json.dumps({"id": 2, "pub": {"topic": "orders.us", "data": 1}}))
        assert heard(socket)["error"]["status"] == 403


def test_sockets_that_offer_it_get_long_frames_deflated(server: Process) -> None:
    url = server.url.rstrip("/")
    word = "a word that comes again and again, "
    ask(f"{url}/free/long", "POST", word * 1000)
    for compression in ("deflate", None):
        how: Any = {"compression": compression, "subprotocols": ["fairlead.v1.json"]}
        with connect(url.replace("http", "ws") + "/free/long?offset=-1", **how) as socket:
            assert heard(socket)["events"][0]["data"] == word * 1000
            assert bool(socket.protocol.extensions) == (compression is not None)
            socket.send(json.dumps({"id": 1, "pub": {"topic": "long.too", "data": word * 100}}))
            assert heard(socket)["ok"]


def heard(socket: Any) -> Any:
    """The next frame."""
    return json.loads(socket.recv(timeout=20))


def test_followers_are_the_servers_not_the_workers(server: Process) -> None:
    base, port = server.url.rstrip("/"), server.port
    ask(f"{base}/t/room", "POST", 1)
    watchers = [Follower(port, "/t/room/presence") for _ in range(8)]
    members = {f"m{n}": Follower(port, f"/t/room?member=m{n}") for n in range(MOST)}
    assert [one.status for one in members.values()] == [200] * MOST
    assert Follower(port, "/t/room").status == 429, "whichever worker it came to"

    def living() -> set[str]:
        return {name for name, one in members.items() if one.heard() and not one.over}

    def there() -> set[str]:
        return {one["member"] for one in ask(f"{base}/t/room/presence")["members"]}

    eventually(lambda: there() == set(members), what="all members")
    workers = ask(f"http://127.0.0.1:{server.page}/api/status")["workers"]
    os.kill(workers[0]["pid"], signal.SIGKILL)
    eventually(lambda: living() != set(members), what="the end of some streams")
    eventually(lambda: there() == living(), what="only those whose worker lives")
    lost = set(members) - living()
    assert 0 < len(lost) < MOST
    left = [one for one in watchers if one.heard() is not None and not one.over]
    eventually(lambda: all(leaves(one.heard()) >= lost for one in left), what="that they left, told to all who are there")
    eventually(lambda: Follower(port, "/t/room").status == 200, what="that what the dead worker had counted went with it")

    ask(f"{base}/t/room", "DELETE")
    eventually(lambda: all("event: end" in members[name].heard() for name in living()), what="the end of the topic")
    assert living() == set(members) - lost and all("gone" in members[name].text for name in living())
