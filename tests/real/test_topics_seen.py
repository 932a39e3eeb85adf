"""What an operator sees of topics: followers, stalled ones among them, a group with dead letters, a webhook that ended; by the
admin API, /metrics, `fairlead status` and the page in a real Chromium, whose button brings the dead letters back.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from browser import Browser
from peers import Real
from processes import eventually, free_port

TOML = """
[server]
workers = 2
[admin]
page = "127.0.0.1:@PAGE@"
token = "env:PAGE_TOKEN"
[store]
url = "memory:"
[[listener]]
bind = "127.0.0.1:@PORT@"
socket = { sndbuf = "4KiB" }
[[route]]
path = "/t/{topic}"
topic = { slow = "drop", webhooks = true, webhook_networks = ["127.0.0.0/8"] }
"""


def post(url: str, value: Any) -> Any:
    """A JSON POST; what it answered."""
    head = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(value).encode(), head, method="POST"), timeout=20) as answer:
        return json.loads(answer.read() or b"null")


def follower(port: int, accept: str) -> socket.socket:
    """A follower that has heard the head, with a small window."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(20)
    sock.connect(("127.0.0.1", port))
    sock.sendall(b"GET /t/news%b HTTP/1.1\r\nhost: a\r\n\r\n" % accept.encode())
    if "long-poll" not in accept:
        sock.recv(1024)
    return sock


def dead_letter(base: str) -> None:
    """One event of the group `mail` is given up."""
    post(f"{base}/t/orders", {"n": 1})
    post(f"{base}/t/orders/groups/mail:claim", {})  # makes it, from now on
    post(f"{base}/t/orders", {"n": 2})
    [item] = post(f"{base}/t/orders/groups/mail:claim", {"n": 1})["items"]
    post(f"{base}/t/orders/groups/mail:term", {"items": [{"id": item["id"], "fence": item["fence"]}], "reason": "no such address"})


def nobody(port: int, base: str) -> None:
    """A webhook whose receiver wants nothing any more."""

    class Gone(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_error(410)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    receiver = HTTPServer(("127.0.0.1", port), Gone)
    threading.Thread(target=receiver.handle_request, daemon=True).start()
    post(f"{base}/t/orders/webhooks", {"id": "partner", "url": f"http://127.0.0.1:{port}/in?key=secret"})
    post(f"{base}/t/orders", {"n": 3})


def test_followers_the_slow_ones_and_dead_letters_are_seen(real: Real) -> None:
    page = free_port()
    server = real.fairlead(config=TOML.replace("@PAGE@", str(page)), env={"PAGE_TOKEN": "open"})
    port, base, admin = server.port, f"http://127.0.0.1:{server.port}", f"http://127.0.0.1:{page}"
    dead_letter(base)
    nobody(free_port(), base)
    socks = [follower(port, "?offset=-1&live=sse") for _ in range(3)] + [follower(port, "?offset=now&live=long-poll")]

    def seen() -> dict[str, Any]:
        with urllib.request.urlopen(admin + "/api/topics", timeout=20) as answer:
            return json.loads(answer.read())  # type: ignore[no-any-return]

    eventually(lambda: seen()["followers"] == {"sse": 3, "long-poll": 1})
    eventually(lambda: post(f"{base}/t/news", "x" * 60_000) is None and len(seen()["named"]) == 3)
    found = seen()
    assert found["late"] == {"sse": 3} and found["slow"]["drop"] >= 3
    assert {(one["topic"], one["transport"], one["policy"]) for one in found["named"]} == {("news", "sse", "drop")}
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+", one["who"]) for one in found["named"])
    [group] = found["groups"]
    assert (group["topic"], group["group"], group["dead"]) == ("orders", "mail", 1)
    eventually(lambda: seen()["webhooks"][0]["state"] == "disabled", what="the webhook that is not wanted")
    [hook] = seen()["webhooks"]
    assert (hook["topic"], hook["id"], hook["lag"]) == ("orders", "partner", 1) and "secret" not in hook["url"]
    with urllib.request.urlopen(admin + "/metrics", timeout=20) as answer:
        metrics = answer.read().decode()
    assert 'fairlead_topic_followers{topic="news",transport="sse"} 3\n' in metrics
    assert 'fairlead_topic_slow{topic="news",transport="sse"} 3\n' in metrics
    assert re.search(r'fairlead_topic_slow_total\{policy="drop"\} [1-9]', metrics)
    assert "fairlead_webhook_failed_total 1\n" in metrics
    status = subprocess.run(
        [sys.executable, "-P", "-m", "fairlead", "status", "--admin", admin], capture_output=True, text=True, timeout=60
    )
    assert re.search(r"topics   \d followers \(.*sse 3\), \d+ deliveries, 3 slow now; 1 groups, .*, 1 dead letters;", status.stdout)
    assert "; 1 webhooks, 1 not active" in status.stdout
    eventually(lambda: re.search(r"topic news: 127\.0\.0\.1:\d+ is slow \(sse, drop\)", server.text()))
    on_the_page(admin)
    eventually(lambda: not seen()["groups"][0]["dead"])
    for sock in socks:
        sock.close()
    eventually(lambda: not seen()["followers"] and not seen()["named"])


def on_the_page(admin: str) -> None:
    """The same in a browser, and the button."""
    with Browser(height=1600) as browser:
        browser.goto(admin + "/")
        browser.wait("document.querySelector('#topics')?.textContent.includes('news')")
        assert "3 slow now" in browser.run("document.querySelector('#topics-text').textContent")
        browser.wait("document.querySelectorAll('#late tbody tr').length === 3")
        assert "no such address" in browser.run("document.querySelector('#letters').textContent")
        assert "410 Gone" in browser.run("document.querySelector('#hooks').textContent")
        browser.run("document.querySelector('#letters button').click()")
        browser.wait("document.querySelector('#ask').open")
        browser.run("document.querySelector('#token').value = 'open'; document.querySelector('#ask button.primary').click()")
        browser.wait("document.querySelector('#letters-part').hidden")
        assert browser.errors == []
