"""One file through an upload route by HTTP/3, HTTP/2 and HTTP/1.1 in turn, in every pattern, with processes and with threads, cut
in the middle; its numbers at /metrics; and a form of a page, as curl sends it. The soak runs all combinations.
"""

import asyncio
import hashlib
import json
import os
import re

import httpx
import pytest
from h3client import Client
from peers import Real
from processes import Process, eventually, free_port, program

CONFIG = """
[server]
workers = 2
pattern = "@PATTERN@"
unit = "@UNIT@"
[admin]
bind = "unix:@FOLDER@/admin.sock"
[[listener]]
bind = "127.0.0.1:@PORT@"
protocols = ["h1", "h2", "h3"]
tls = "dev"
[[route]]
path = "/files/*"
upload = "files"
"""
SOME = [("handoff", "thread"), ("dispatch", "process")]
ALL = [(pattern, unit) for pattern in ("single", "handoff", "shared", "reuseport", "dispatch") for unit in ("process", "thread")]
CHOSEN = ALL if os.environ.get("FAIRLEAD_UPLOAD_PATTERNS") == "all" else SOME
SIZE = 600_000
TUS = [(b"tus-resumable", b"1.0.0")]


def patch(offset: int, length: int) -> list[tuple[bytes, bytes]]:
    kind = (b"content-type", b"application/offset+octet-stream")
    return [*TUS, kind, (b"upload-offset", b"%d" % offset), (b"content-length", b"%d" % length)]


def start(real: Real, pattern: str, unit: str) -> Process:
    text = CONFIG.replace("@PATTERN@", pattern).replace("@UNIT@", unit)
    if pattern == "single":
        text = text.replace("workers = 2", "workers = 1")
    server = real.fairlead(config=text, port=free_port(), tls=True)
    server.says("Ctrl-C")  # every worker is there: a first datagram that nobody reads would be sent again after a second
    return server


async def cut(port: int, data: bytes) -> str:
    """A third of a file over HTTP/3, and then the client is gone; the upload's path."""
    async with Client("aioquic", port) as client:
        made = await client.get("/files", method="POST", fields=[*TUS, (b"upload-length", b"%d" % SIZE)])
        assert made.status == 201
        place = made.headers["location"]
        client.ask(place, method="PATCH", body=data[: SIZE // 3], fields=patch(0, SIZE), end=False)
        async with asyncio.timeout(60):
            while b'"offset": %d,' % (SIZE // 3) not in (await client.get(place)).body:  # until all of that is written
                pass
        return place


async def rest(port: int, place: str, data: bytes, offset: int) -> None:
    """The last of it over HTTP/3, with a new connection."""
    async with Client("qh3", port) as client:
        head = await client.get(place, method="HEAD", fields=TUS)
        assert head.status == 200 and int(head.headers["upload-offset"]) == offset
        done = await client.get(place, method="PATCH", body=data[offset:], fields=patch(offset, SIZE - offset))
        assert done.status == 204 and int(done.headers["upload-offset"]) == SIZE


@pytest.mark.parametrize("pattern, unit", CHOSEN)
def test_a_file_by_three_versions_of_http_is_one_file(pattern: str, unit: str) -> None:
    program("curl")
    data = os.urandom(SIZE)
    with Real() as real:
        server = start(real, pattern, unit)
        place = asyncio.run(cut(server.port, data))
        with httpx.Client(base_url=server.url, http2=True, verify=False, timeout=20, trust_env=False) as client:
            head = client.head(place, headers={"tus-resumable": "1.0.0"})
            offset = int(head.headers["upload-offset"])
            assert head.http_version == "HTTP/2" and offset == SIZE // 3
            fields = {name.decode(): value.decode() for name, value in patch(offset, SIZE // 3)}
            got = client.patch(place, content=data[offset : offset + SIZE // 3], headers=fields)
            assert got.status_code == 204 and int(got.headers["upload-offset"]) == 2 * SIZE // 3
        asyncio.run(rest(server.port, place, data, 2 * SIZE // 3))
        told = httpx.get(server.url + place, verify=False, trust_env=False, timeout=20)
        assert told.http_version == "HTTP/1.1" and told.json()["state"] == "done"
        made = (server.home / "files" / place.rpartition("/")[2]).read_bytes()
        assert hashlib.sha256(made).digest() == hashlib.sha256(data).digest()
        (server.home / "page.txt").write_bytes(b"of a page")
        form = ("-F", "note=hello", "-F", f"file=@{server.home}/page.txt", "-F", f"other=@{server.home}/fairlead.toml;type=text/x")
        answer = real.curl(f"{server.url}/files", "-k", *form)
        assert answer.status == 201 and '"filename": "page.txt"' in answer.text and '"note": "hello"' in answer.text
        assert json.loads(real.curl("http://x/api/uploads", "--unix-socket", str(server.home / "admin.sock")).text)["silent"] == 0
        wanted = {"started": 3, "completed": 3, "resumed": 2, "aborted": 1, "active": 0}

        def numbers() -> dict[str, int]:
            text = real.curl("http://x/metrics", "--unix-socket", str(server.home / "admin.sock")).text
            found = re.findall(r'fairlead_uploads_(\w+?)(?:_total)?\{route="/files/\*"\} (\d+)', text)
            return {name: int(value) for name, value in found if name in wanted}

        eventually(lambda: numbers() == wanted, what=f"the numbers are {wanted}")
