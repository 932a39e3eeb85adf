"""Flask and Django as WSGI applications, unchanged, in our server; asked by httpx and curl."""

import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator

import pytest
from peers import APPS, Real
from processes import Process, eventually

httpx = pytest.importorskip("httpx")
MODULES = {"flask": "with_flask", "django": "with_django_wsgi"}
BODY = bytes(range(256)) * 4096  # 1 MiB, more than every window
PLAIN = ("--workers", "1", "--page", "off", "--access-log", "off", "--server-timing", "on")


@pytest.fixture(scope="module", params=list(MODULES))
def server(request: pytest.FixtureRequest) -> Iterator[Process]:
    """One framework in one worker, chosen by looking at the callable."""
    pytest.importorskip(request.param)
    with Real() as peers:
        yield peers.fairlead(f"{MODULES[request.param]}:app", *PLAIN)


@pytest.fixture
def web(server: Process) -> Iterator["httpx.Client"]:
    with httpx.Client(base_url=server.url, timeout=20, trust_env=False) as client:
        yield client


def test_a_plain_answer_says_how_long_it_waited_for_a_thread(web):
    answer = web.get("/")
    assert answer.json() == {"scheme": "http", "host": "127.0.0.1", "root": "", "path": "/"}
    assert answer.headers["content-length"] == str(len(answer.content))
    assert re.search(r"queue;dur=|process;dur=", answer.headers["server-timing"])


def test_bodies_small_large_and_chunked_arrive_whole(web, server):
    for body in (b"", b"small", BODY):
        found = web.post("/echo", content=body, headers={"content-type": "application/x"}).json()
        assert found == {"size": len(body), "sha256": hashlib.sha256(body).hexdigest(), "type": "application/x"}
    large = 0 if "with_django_wsgi:app" in server.argv else len(BODY)  # Django reads no body without a length
    for size in (30_000, large):
        parts = [BODY[at : at + 10_000] for at in range(0, size, 10_000)]
        found = web.post("/echo", content=iter(parts)).json()
        assert found["sha256"] == hashlib.sha256(BODY[:size]).hexdigest()


def test_curl_s_expect_and_a_multipart_upload(web, real, server, tmp_path):
    (tmp_path / "body").write_bytes(BODY * 3)
    answer = real.curl(server.url + "/echo", "-H", "Expect: 100-continue", "--data-binary", f"@{tmp_path}/body")
    assert json.loads(answer.body)["size"] == len(BODY) * 3
    assert web.post("/upload", files={"file": ("a.bin", BODY)}).json() == {"name": "a.bin", "size": len(BODY)}


def test_streams_files_and_head(web, server):
    text = web.get("/stream?n=2000").content
    assert len(text) == 2000 * 900 and text.endswith(b"00001999\n")
    module = next(word for word in server.argv if word.endswith(":app")).removesuffix(":app")
    assert web.get("/file").content == (APPS / f"{module}.py").read_bytes()
    head = web.head("/")
    assert head.status_code == 200 and not head.content and int(head.headers["content-length"]) > 0


def test_what_the_application_raises_is_a_500_or_a_cut_and_stands_in_the_log(web, server):
    answer = web.get("/fails")
    assert answer.status_code == 500 and "the reason" not in answer.text
    with pytest.raises(httpx.RemoteProtocolError):
        web.get("/fails-late")
    assert "in the middle" in server.text()
    assert web.get("/").status_code == 200


def test_sessions_last_from_request_to_request(web):
    assert [web.get("/count").json()["count"] for _ in range(3)] == [1, 2, 3]


def test_a_client_that_leaves_a_stream_closes_the_iterable(web, server):
    before = web.get("/seen").json()["closed"]
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"GET /stream?n=1000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(4096)
    eventually(lambda: web.get("/seen").json()["closed"] == before + 1, what="the iterable was closed")


def test_blocking_requests_run_side_by_side(web, server):
    done = []

    def one() -> None:
        done.append(httpx.get(server.url + "/sleep?s=0.5", timeout=20, trust_env=False).elapsed.total_seconds())

    asking = [threading.Thread(target=one) for _ in range(16)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(done) == 16 and sum(done) < 16 * 0.5 * 4, done


CONFIG = """
[server]
workers = 1
grace = "2s"
[admin]
bind = "unix:admin.sock"
[log]
access = "off"
[[listener]]
name = "web"
bind = "127.0.0.1:@PORT@"
[[route]]
path = "/shop/*"
app = { target = "with_flask:app", threads = 2, queue = 1, strip = "/shop" }
[[route]]
path = "/*"
wsgi = "checked:app"
"""
CHECKED = """
from wsgiref.validate import validator

def plain(environ, start_response):
    size = len(environ["wsgi.input"].read(100_000))
    body = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} {size}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]

app = validator(plain)
"""


def test_threads_and_their_queue_are_bounded_and_shown_and_a_stuck_one_is_left_at_the_end(real):
    pytest.importorskip("flask")
    server = real.fairlead(config=CONFIG, files={"checked.py": CHECKED})
    assert json.loads(real.curl(server.url + "/shop/").body)["root"] == "/shop"
    held = []
    for _ in range(3):
        sock = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        sock.sendall(b"GET /shop/sleep?s=60 HTTP/1.1\r\nHost: x\r\n\r\n")
        held.append(sock)
    admin = ("--unix-socket", str(server.home / "admin.sock"))

    def metrics() -> str:
        return real.curl("http://x/metrics", *admin).text

    eventually(lambda: re.search(r"fairlead_threads_busy 2\b", metrics()), what="two busy threads")
    eventually(lambda: re.search(r"fairlead_thread_queue 1\b", metrics()), what="one that waits")
    full = real.curl(server.url + "/shop/")
    assert full.status == 503 and full.header("retry-after") == "1" and "all threads are busy" in full.text
    assert real.curl(server.url + "/x", "-d", "abc").text == "POST /x 3", "another application has threads of its own"
    status = real.command("status", "--admin", "unix:admin.sock", home=server.home)
    assert re.search(r"threads 2 of \d busy, 1 wait", status.stdout), status.stdout
    server.signal(15)
    server.wait(15)
    for sock in held:
        sock.close()
