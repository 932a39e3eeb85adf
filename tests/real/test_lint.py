"""Our own answers before judges of HTTP: httplint on every kind of raw answer, REDbot asking by itself.

What is only the status in other words ("the server won't accept a URI this long") is no complaint. `Server-Timing` goes
without `desc`: the names are words, and a second copy of them would cost each answer bytes and say nothing (it is optional,
and both report its absence for information only).
"""

import re
import sys
from pathlib import Path

import pytest
from linting import complaints, exchange
from processes import free_port, program

CONFIG = """
[server]
workers = 1
[journey]
server_timing = "on"
[admin]
page = "127.0.0.1:@PAGE@"
[[listener]]
bind = "127.0.0.1:@PORT@"
limits = { max_body = "1KiB", header = "500ms" }
[[route]]
path = "/fixed"
respond = "hello"
[[route]]
path = "/html"
respond = { status = 200, body = "<!doctype html><title>x</title>", content_type = "text/html; charset=utf-8" }
[[route]]
path = "/gone"
respond = 410
[[route]]
path = "/empty"
respond = 204
[[route]]
path = "/later"
respond = { status = 503, body = "later", headers = { retry-after = "5" } }
[[route]]
path = "/old"
redirect = "/new"
[[route]]
path = "/dead"
proxy = { upstream = "dead" }
[[route]]
path = "/post"
methods = ["POST"]
respond = "posted"
[[route]]
path = "/raises"
app = "broken:app"
[[upstream]]
name = "dead"
servers = ["127.0.0.1:1"]
"""
BROKEN = """
async def app(scope, receive, send):
    raise RuntimeError(scope["type"])
"""
LAST = b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
ANSWERS = {  # name: (request, status)
    **{path: (b"GET " + path.encode() + LAST + b"\r\n", status) for path, status in {
        "/fixed": 200, "/html": 200, "/gone": 410, "/empty": 204, "/later": 503, "/old": 308, "/dead": 502, "/post": 405,
        "/raises": 500, "/nothing": 404,
    }.items()},
    "HEAD": (b"HEAD /fixed" + LAST + b"\r\n", 200),
    "OPTIONS *": (b"OPTIONS *" + LAST + b"\r\n", 204),
    "HTTP/1.0": (b"GET /fixed HTTP/1.0\r\n\r\n", 200),
    "POST": (b"POST /post" + LAST + b"Content-Length: 2\r\n\r\nhi", 200),
    "a broken rule": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "too slow": (b"GET / HTTP/1.1\r\n", 408),
    "too large": (b"POST /post" + LAST + b"Content-Length: 5000\r\n\r\n", 413),
    "a long target": (b"GET /" + b"a" * 70000 + LAST + b"\r\n", 414),
    "an unknown expectation": (b"POST /post" + LAST + b"Content-Length: 2\r\nExpect: x\r\n\r\nhi", 417),
    "a large head": (b"GET /" + LAST + b"x: " + b"a" * 70000 + b"\r\n\r\n", 431),
    "an unknown version": (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
}  # fmt: skip
PAGE = ("/", "/page.js", "/page.css", "/livez", "/readyz", "/metrics")
THE_STATUS_ITSELF = r"BAD: The server won't accept a URI this long|BAD: The request HTTP version|WARN: The server didn't understand"


@pytest.fixture(scope="module")
def servers(request):
    from peers import Real

    with Real() as real:
        page = free_port()
        server = real.fairlead(config=CONFIG.replace("@PAGE@", str(page)), files={"broken.py": BROKEN})
        server.says("Ctrl-C")
        yield server, page


def against(answer):
    return [one for one in complaints(answer) if not re.match(THE_STATUS_ITSELF, one)]


@pytest.mark.parametrize("name", ANSWERS)
def test_httplint_has_no_complaint_about(servers, name):
    request, status = ANSWERS[name]
    answer = exchange(servers[0].port, request)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert against(answer) == []


@pytest.mark.parametrize("path", PAGE)
def test_httplint_has_no_complaint_about_the_page(servers, path):
    answer = exchange(servers[1], b"GET " + path.encode() + LAST + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ") and against(answer) == []


def test_the_judge_does_complain_of_a_bad_answer():
    bad = b"HTTP/1.1 200 OK\r\nContent-Type: text\r\nDate: yesterday\r\nContent-Length: 2\r\n\r\nhi"
    assert any("Date" in one for one in complaints(bad))


@pytest.mark.parametrize("path", ["/fixed", "/html", "/old", "/nothing"])
def test_redbot_has_no_complaint_about(servers, path):
    redbot = Path(sys.executable).with_name("redbot")
    if not redbot.exists():
        program("redbot")
    from peers import Real

    with Real() as real:
        said = real.finish([redbot, "-o", "text", servers[0].url + path], 60).stdout
    notes = {line.strip().removeprefix("* ") for line in said.splitlines() if line.strip().startswith("* ")}
    assert "The server's clock is correct." in notes and "The Content-Length header is correct." in notes, said
    unexpected = [one for one in notes if not re.fullmatch(FINE, one)]
    assert unexpected == [], said


FINE = "|".join([
    r"(General|Caching|Connection|Content Negotiation|Validation|Partial Content|Browser Security|Cookies).*:",
    r"The '\w+' metric is missing the 'desc' parameter\.",
    r"The (server's clock|Content-Length header) is correct\.",
    r"The Location header contains a relative URI\.",  # RFC 9110 10.2.2 allows it
    r"This response can(no|')t be stored by caches\.",
    r"The resource could not be found\.",
])  # fmt: skip
