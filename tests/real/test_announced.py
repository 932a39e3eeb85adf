"""PROXY headers as curl and HAProxy send them."""

import pytest
from peers import Real

CONFIG = """
[[listener]]
bind = "127.0.0.1:@PORT@"
proxy_protocol = ["127.0.0.0/8"]

[[route]]
app = "who:app"
"""
APP = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": repr(scope["client"]).encode()})
"""


@pytest.mark.parametrize("word", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"])
def test_haproxy_announces_its_clients(real: Real, word: str) -> None:
    server = real.fairlead("--workers", "1", config=CONFIG, files={"who.py": APP})
    front = real.haproxy(
        f"frontend f\n mode tcp\n bind 127.0.0.1:@PORT@\n unique-id-format %ci\n default_backend b\n"
        f"backend b\n mode tcp\n server s 127.0.0.1:{server.port} {word}\n"
    )
    told = real.curl(front.url, "--interface", "127.0.0.7")
    assert told.status == 200 and "127.0.0.7" in told.text, told.stderr


def test_curl_announces_itself(real: Real) -> None:
    server = real.fairlead("--workers", "1", config=CONFIG, files={"who.py": APP})
    assert "127.0.0.9" in real.curl(server.url, "--haproxy-protocol", "--interface", "127.0.0.9").text
