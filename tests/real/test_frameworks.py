"""FastAPI, Starlette and Django (ASGI), unchanged, in our server; asked by httpx, aiohttp and curl."""

import asyncio
import hashlib
import json
import re
import signal
import socket
from collections.abc import Iterator

import pytest
from peers import Real
from processes import Process, eventually

httpx = pytest.importorskip("httpx")
aiohttp = pytest.importorskip("aiohttp")
# every framework where it is usual, and every pattern and unit with one of them
SERVED = [
    ("fastapi", "reuseport", "process"),
    ("starlette", "single", "process"),
    ("django", "shared", "process"),
    ("fastapi", "handoff", "process"),
    ("starlette", "reuseport", "thread"),
    ("django", "single", "thread"),
    ("fastapi", "shared", "thread"),
    ("starlette", "handoff", "thread"),
    ("django", "dispatch", "process"),
    ("fastapi", "dispatch", "thread"),
]
MODULES = {"fastapi": "with_fastapi", "starlette": "with_starlette", "django": "with_django"}
BODY = bytes(range(256)) * 4096  # 1 MiB, more than every window


@pytest.fixture(scope="module", params=SERVED, ids="-".join)
def server(request: pytest.FixtureRequest) -> Iterator[Process]:
    """One framework's application in one worker of a pattern."""
    framework, pattern, unit = request.param
    pytest.importorskip(framework)
    with Real() as peers:
        args = ("--pattern", pattern, "--unit", unit, "--workers", "1", "--page", "off", "--access-log", "off")
        yield peers.fairlead(f"{MODULES[framework]}:app", *args, "--server-timing", "on")


@pytest.fixture
def name(server: Process) -> str:
    """Which framework it is."""
    return next(name for name, module in MODULES.items() if f"{module}:app" in server.argv)


@pytest.fixture
def web(server: Process) -> Iterator["httpx.Client"]:
    with httpx.Client(base_url=server.url, timeout=20, trust_env=False) as client:
        yield client


class Curl:
    """curl with the few words of the other clients that are needed here."""

    def __init__(self, server: Process, real: Real) -> None:
        self.server, self.real = server, real

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        file = self.real.home() / "body"
        file.write_bytes(body)
        type = "Content-Type: text/x-test"
        answer = self.real.curl(self.server.url + path, "--data-binary", f"@{file}", "-H", type)
        return answer.status, answer.body


def with_httpx(server: Process, path: str, body: bytes) -> tuple[int, bytes]:
    answer = httpx.post(server.url + path, content=body, headers={"content-type": "text/x-test"}, trust_env=False)
    return answer.status_code, answer.content


def with_aiohttp(server: Process, path: str, body: bytes) -> tuple[int, bytes]:
    async def ask() -> tuple[int, bytes]:
        headers = {"content-type": "text/x-test"}
        async with aiohttp.request("POST", server.url + path, data=body, headers=headers) as answer:
            return answer.status, await answer.read()

    return asyncio.run(ask())


@pytest.mark.parametrize("client", ["httpx", "aiohttp", "curl"])
def test_a_body_comes_through_whole_with_every_client(server: Process, real: Real, client: str) -> None:
    ask = {"httpx": with_httpx, "aiohttp": with_aiohttp, "curl": lambda s, p, b: Curl(s, real).post(p, b)}[client]
    for body in (b"", b"small", BODY):
        status, answer = ask(server, "/echo", body)
        assert status == 200
        said = json.loads(answer)
        assert (said["size"], said["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
        assert said["type"] == "text/x-test" or not body


def test_a_chunked_body_comes_through_whole(web: "httpx.Client") -> None:
    parts = (BODY[i : i + 10_000] for i in range(0, len(BODY), 10_000))
    said = web.post("/echo", content=parts).json()
    assert (said["size"], said["sha256"]) == (len(BODY), hashlib.sha256(BODY).hexdigest())


def test_a_file_is_uploaded_as_a_form(web: "httpx.Client") -> None:
    assert web.post("/upload", files={"file": ("a.bin", BODY)}).json() == {"name": "a.bin", "size": len(BODY)}


def test_the_lifespan_state_reaches_the_request(web: "httpx.Client") -> None:
    assert web.get("/state").json() == {"pool": "open", "scheme": "http", "host": "127.0.0.1"}


def test_a_trusted_proxy_says_who_the_client_is(web: "httpx.Client") -> None:
    headers = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"}
    assert web.get("/state", headers=headers).json() == {"pool": "open", "scheme": "https", "host": "203.0.113.9"}


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_a_streamed_answer_is_whole(web: "httpx.Client", count: int) -> None:
    answer = web.get("/stream", params={"n": count})
    assert answer.status_code == 200
    assert ("transfer-encoding" in answer.headers) is (count > 0)  # an empty one is whole in one message
    assert answer.content == b"".join(b"%08d\n" % number * 100 for number in range(count))


def test_a_hundred_requests_share_one_connection_and_many_come_at_once(server: Process) -> None:
    async def ask() -> list[int]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=10)) as session:

            async def one(number: int) -> int:
                async with session.get(f"{server.url}/stream?n={number % 7}") as answer:
                    return len(await answer.read())

            return await asyncio.gather(*map(one, range(100)))

    assert asyncio.run(ask()) == [number % 7 * 900 for number in range(100)]


def test_an_exception_is_a_500_and_in_the_log_but_not_in_the_answer(server: Process, web: "httpx.Client") -> None:
    answer = web.get("/raise")
    assert answer.status_code == 500
    assert "the reason" not in answer.text
    server.says("ValueError: the reason stays in the log")
    assert web.get("/state").status_code == 200


def test_an_answer_that_fails_in_the_middle_does_not_look_finished(server: Process, web: "httpx.Client") -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        web.get("/late")
    server.says("ValueError: in the middle")
    assert web.get("/state").status_code == 200


def test_a_background_task_runs_after_the_answer(web: "httpx.Client") -> None:
    before = web.get("/seen").json()["background"]
    assert web.post("/background").status_code == 202
    eventually(lambda: web.get("/seen").json()["background"] == before + 1)


def test_a_client_that_leaves_ends_its_stream(server: Process, web: "httpx.Client") -> None:
    before = web.get("/seen").json()["left"]
    with web.stream("GET", "/endless") as answer:
        assert next(answer.iter_raw())
    eventually(lambda: web.get("/seen").json()["left"] == before + 1)


def test_a_client_that_is_reset_ends_its_stream(server: Process, web: "httpx.Client") -> None:
    before = web.get("/seen").json()["left"]
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(100)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    eventually(lambda: web.get("/seen").json()["left"] == before + 1)


def test_a_half_closed_client_still_gets_its_answer(server: Process, name: str) -> None:
    """Django gives up on `http.disconnect` and answers nothing: then we close without a complaint."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        sock.sendall(b"GET /timed HTTP/1.1\r\nHost: x\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while part := sock.recv(4096):
            answer += part
    if name == "django":
        assert answer.startswith((b"HTTP/1.1 499", b"HTTP/1.1 200"))
        assert "without a response" not in server.text()
    else:
        assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"timed")


def test_expect_100_continue_is_answered_when_the_app_reads(server: Process, real: Real) -> None:
    file = real.home() / "body"
    file.write_bytes(BODY)
    args = ("--data-binary", f"@{file}", "-H", "Expect: 100-continue", "--expect100-timeout", "20")
    answer = real.curl(server.url + "/echo", *args)
    assert (answer.status, json.loads(answer.body)["size"]) == (200, len(BODY))


def test_the_apps_own_step_is_in_server_timing(web: "httpx.Client") -> None:
    timing = web.get("/timed").headers["server-timing"]
    assert re.search(r"\bsql;dur=[\d.]+", timing) and re.search(r"\btotal;dur=[\d.]+", timing)


def test_a_body_that_the_app_does_not_read_is_dropped_and_the_next_request_is_answered(web: "httpx.Client") -> None:
    for size in (1000, len(BODY)):
        answer = web.post("/nowhere", content=BODY[:size])
        assert answer.status_code == 404
        assert web.get("/timed").text == "timed"


def test_head_has_the_head_of_get_and_no_body(web: "httpx.Client", name: str) -> None:
    answer = web.head("/timed")
    if name == "fastapi":
        assert answer.status_code == 405  # FastAPI makes no HEAD of a GET
    else:
        assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "5", b"")


@pytest.mark.parametrize("framework", MODULES)
def test_shutdown_runs_the_lifespans_end(real: Real, framework: str) -> None:
    pytest.importorskip(framework)
    server = real.fairlead(f"{MODULES[framework]}:app", "--workers", "1", "--page", "off", "--access-log", "off")
    assert httpx.get(server.url + "/state", trust_env=False).status_code == 200
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "Traceback" not in server.text()
    assert ("lifespan is over" in server.text()) is (framework != "django")
