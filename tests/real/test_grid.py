"""Every framework, every feature: the applications in `grid/`, unchanged as their documentation writes them, in our server.

`grid/contract.md` says what each answers. `FAIRLEAD_GRID=docs/guide/frameworks.md pytest tests/real/test_grid.py` writes the table
of the guide from what really passed; the last test checks that the guide has not fallen behind.
"""

import hashlib
import importlib.metadata
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from peers import Real
from processes import Process, eventually, free_port

httpx = pytest.importorskip("httpx")
HERE = Path(__file__).resolve().parent / "grid"
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "frameworks.md"
FRAMEWORKS = {  # name in the table: (module:attribute, distribution, interface)
    "Starlette": ("grid_starlette:app", "starlette", "ASGI"),
    "FastAPI": ("grid_fastapi:app", "fastapi", "ASGI"),
    "Litestar": ("grid_litestar:app", "litestar", "ASGI"),
    "Quart": ("grid_quart:app", "quart", "ASGI"),
    "BlackSheep": ("grid_blacksheep:app", "blacksheep", "ASGI"),
    "Sanic": ("grid_sanic:app", "sanic", "ASGI"),
    "Django (ASGI)": ("grid_django:app", "django", "ASGI"),
    "Django Channels": ("grid_django:channels", "channels", "ASGI"),
    "Django (WSGI)": ("grid_django:wsgi", "django", "WSGI"),
    "Flask": ("grid_flask:app", "flask", "WSGI"),
    "aiohttp": ("grid_aiohttp.py", "aiohttp", "behind the proxy"),
}
BODY = bytes(range(256)) * 40_000  # ten megabytes
PROXY = """
[[listener]]
bind = "127.0.0.1:@PORT@"
[[route]]
proxy = "origin"
[[upstream]]
name = "origin"
servers = ["127.0.0.1:{port}"]
"""
passed: dict[str, set[str]] = {name: set() for name in FRAMEWORKS}


# ---- the features


def plain(web: "httpx.Client") -> None:
    answer = web.get("/plain")
    assert (answer.status_code, answer.text) == (200, "plain")
    assert web.get("/json").json() == {"answer": 42}


def head(web: "httpx.Client") -> None:
    answer = web.head("/plain")
    assert answer.status_code in (200, 404, 405) and answer.content == b""


def body(web: "httpx.Client") -> None:
    for sent in (b"", b"small", BODY):
        assert web.post("/echo", content=sent, headers={"content-type": "application/x"}).content == sent


def chunked(web: "httpx.Client") -> None:
    parts = (BODY[at : at + 100_000] for at in range(0, 1_000_000, 100_000))
    assert web.post("/echo", content=parts, headers={"content-type": "application/x"}).content == BODY[:1_000_000]


def multipart(web: "httpx.Client") -> None:
    size = int(os.environ.get("FAIRLEAD_GRID_UPLOAD", len(BODY)))
    data = (BODY * (size // len(BODY) + 1))[:size]
    answer = web.post("/upload", files={"file": ("a b.bin", io.BytesIO(data), "application/octet-stream")}, timeout=300)
    assert answer.json() == {"name": "a b.bin", "size": size, "sha256": hashlib.sha256(data).hexdigest()}


def streaming(web: "httpx.Client") -> None:
    answer = web.get("/stream")
    assert answer.content == b"".join(b"%d\n" % number for number in range(10))


def large(web: "httpx.Client") -> None:
    assert len(web.get("/large").content) == 5_000_000


def events(web: "httpx.Client") -> None:
    answer = web.get("/sse")
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line.rstrip() for line in answer.text.splitlines() if line.startswith("data:")]
    assert lines == ["data: 0", "data: 1", "data: 2"]


def cancelled(web: "httpx.Client") -> None:
    before = web.get("/left").json()
    with web.stream("GET", "/endless") as answer:
        next(answer.iter_raw())
    eventually(lambda: web.get("/left").json() == before + 1, what="the stream noticed that its client left")


def background(web: "httpx.Client") -> None:
    before = web.get("/worked").json()
    assert web.get("/background").text == "later"
    eventually(lambda: web.get("/worked").json() == before + 1, what="the work after the answer")


def middleware(web: "httpx.Client") -> None:
    answer = web.post("/twice", content=BODY[:200_000], headers={"content-type": "application/x"})
    assert answer.json() == {"middleware": 200_000, "handler": 200_000}


def exceptions(web: "httpx.Client") -> None:
    assert web.get("/raise").status_code == 500
    assert web.get("/plain").status_code == 200


def sessions(web: "httpx.Client") -> None:
    web.cookies.clear()
    assert [web.get("/session").json()["visits"] for _ in range(3)] == [1, 2, 3]


def cookies(web: "httpx.Client") -> None:
    set_cookies = web.get("/cookies").headers.get_list("set-cookie")
    assert {"a=1", "b=2"} <= {one.partition(";")[0] for one in set_cookies} and len(set_cookies) >= 2
    web.cookies.clear()


def static(web: "httpx.Client") -> None:
    answer = web.get("/static/file.txt")
    assert answer.text == "a static file\n" and answer.headers["content-type"].startswith("text/plain")


def lifespan(web: "httpx.Client") -> None:
    assert web.get("/state").json() == {"pool": "open"}


def websocket(web: "httpx.Client") -> None:
    from websockets.sync.client import connect

    url = str(web.base_url).replace("http", "ws", 1).rstrip("/") + "/ws"
    with connect(url, proxy=None) as socket:
        for text in ("one", "x" * 100_000):
            socket.send(text)
            assert socket.recv(timeout=20) == text


def admin(web: "httpx.Client") -> None:
    page = web.get("/admin/", follow_redirects=True)
    assert page.status_code == 200 and "Django administration" in page.text
    assert web.get("/static/admin/css/base.css").status_code == 200


FEATURES: dict[str, Callable[["httpx.Client"], None]] = {
    "answers": plain, "HEAD": head, "bodies": body, "chunked bodies": chunked, "uploads": multipart,
    "streaming": streaming, "large answers": large, "events": events, "cancelled streams": cancelled,
    "background tasks": background, "middleware reads the body": middleware, "exceptions": exceptions,
    "sessions": sessions, "cookies": cookies, "static files": static, "lifespan": lifespan, "WebSocket": websocket,
    "admin pages": admin,
}  # fmt: skip
WITHOUT = {  # what the framework itself does not have
    "chunked bodies": {"Django (WSGI)"},  # it reads no more than CONTENT_LENGTH says
    "lifespan": {"Django (ASGI)", "Django Channels", "Django (WSGI)", "Flask"},
    "WebSocket": {"Django (ASGI)", "Django (WSGI)", "Flask"},
    "sessions": {"Sanic", "aiohttp"},
    "admin pages": {name for name in FRAMEWORKS if not name.startswith("Django")},
}


# ---- the grid


@pytest.fixture(scope="module", params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def web(framework: str) -> Iterator["httpx.Client"]:
    """One framework's application in our server, or behind our proxy."""
    target, distribution, interface = FRAMEWORKS[framework]
    pytest.importorskip(distribution)
    with Real() as peers:
        server = served(peers, target, interface)
        with httpx.Client(base_url=server.url, timeout=20, trust_env=False) as client:
            yield client


def served(peers: Real, target: str, interface: str) -> Process:
    args = ("--workers", "1", "--page", "off", "--access-log", "off")
    if interface == "behind the proxy":
        port = free_port()
        peers.run(sys.executable, str(HERE / target), str(port), home=peers.home(), port=port).ready()
        return peers.fairlead("--workers", "1", config=PROXY.format(port=port))
    extra = ("--interface", "wsgi") if interface == "WSGI" else ()
    return peers.fairlead(target, *args, *extra, "--dir", str(HERE))


@pytest.mark.parametrize("feature", FEATURES)
def test_grid(framework: str, web: "httpx.Client", feature: str) -> None:
    if framework in WITHOUT.get(feature, ()):
        return
    FEATURES[feature](web)
    passed[framework].add(feature)


def mark(framework: str, feature: str) -> str:
    return "-" if framework in WITHOUT.get(feature, ()) else "yes" if feature in passed[framework] else "NO"


def table() -> str:
    """The guide's table of what passed."""
    short = [name.replace(" ", "&nbsp;") for name in FRAMEWORKS]
    lines = ["| | " + " | ".join(short) + " |", "|---|" + "---|" * len(FRAMEWORKS)]
    versions = [importlib.metadata.version(distribution) for _, distribution, _ in FRAMEWORKS.values()]
    lines.append("| version tested | " + " | ".join(versions) + " |")
    lines.append("| interface | " + " | ".join(interface for _, _, interface in FRAMEWORKS.values()) + " |")
    for feature in FEATURES:
        lines.append(f"| {feature} | " + " | ".join(mark(name, feature) for name in FRAMEWORKS) + " |")
    return "\n".join(lines) + "\n"


def test_the_guide_shows_the_whole_grid() -> None:
    target = os.environ.get("FAIRLEAD_GRID")
    if target:
        before, _, after = GUIDE.read_text(encoding="utf-8").partition("<!-- grid -->\n")
        rest = after.partition("<!-- /grid -->")[2]
        Path(target).write_text(f"{before}<!-- grid -->\n{table()}<!-- /grid -->{rest}", encoding="utf-8")
    rows = [
        line.strip("| ").split(" | ") for line in GUIDE.read_text(encoding="utf-8").splitlines() if line[:2] == "| "
    ]
    shown = {row[0]: row[1:] for row in rows}
    assert "NO" not in json.dumps(shown)
    for feature in FEATURES:
        for name, cell in zip(FRAMEWORKS, shown[feature]):
            assert (cell == "-") is (name in WITHOUT.get(feature, ())), (feature, name)
