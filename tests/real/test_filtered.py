"""Filters in a running server, asked by curl: compression that curl undoes, uploads that curl's user compressed, and the rest."""

import gzip
import subprocess
from pathlib import Path

import pytest
from peers import Real
from processes import program

CONFIG = """
[[listener]]
bind = "127.0.0.1:@PORT@"

[[route]]
path = "/count"
app = "plain:app"
filters = ["decompress", { body = "1MiB" }]

[[route]]
path = "/big/*"
app = "plain:app"
[[route.filter]]
compress = { types = ["*/*", "application/octet-stream", "text/*"], algorithms = ["gzip", "br", "zstd"] }

[[route]]
path = "/guarded"
respond = "for you\\n"
methods = ["GET"]
filters = [{ cors = { origins = ["https://shop.example"] } }, { basic = { users = { ann = "env:ANN" } } }, "security"]

[[route]]
path = "/rare"
respond = "rarely\\n"
filters = [{ ratelimit = { rate = "1/m per client", burst = 2 } }]
"""
APP = (Path(__file__).resolve().parent.parent.parent / "bench" / "apps" / "plain.py").read_text()


@pytest.fixture
def server(real: Real, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANN", "secret")
    return real.fairlead("--workers", "1", config=CONFIG, files={"plain.py": APP})


def test_filters_as_curl_sees_them(real: Real, server, tmp_path: Path) -> None:
    plain = real.curl(f"{server.url}/big/300000")
    for coding in ("gzip", "br"):
        packed = real.curl(f"{server.url}/big/300000", "-H", f"Accept-Encoding: {coding}")
        assert packed.header("content-encoding") == coding and len(packed.body) < len(plain.body) // 2
    undone = real.curl(f"{server.url}/big/300000", "--compressed")
    assert undone.header("content-encoding") and undone.body == plain.body

    upload = tmp_path / "upload.gz"
    upload.write_bytes(gzip.compress(bytes(range(256)) * 1000))
    sent = ["-X", "POST", "-H", "Content-Encoding: gzip"]
    assert real.curl(f"{server.url}/count", *sent, "-T", str(upload)).text == "256000\n"
    upload.write_bytes(gzip.compress(bytes(30 << 20)))
    assert real.curl(f"{server.url}/count", *sent, "-T", str(upload)).status == 413
    upload.write_bytes(bytes(2 << 20))
    assert real.curl(f"{server.url}/count", "-X", "POST", "-T", str(upload)).status == 413

    assert real.curl(f"{server.url}/guarded").status == 401
    opened = real.curl(f"{server.url}/guarded", "-u", "ann:secret")
    assert opened.text == "for you\n" and opened.header("x-content-type-options") == "nosniff"
    origin = ["-H", "Origin: https://shop.example"]
    asked = real.curl(f"{server.url}/guarded", "-X", "OPTIONS", *origin, "-H", "Access-Control-Request-Method: GET")
    assert (asked.status, asked.header("access-control-allow-origin")) == (204, "https://shop.example")

    assert [real.curl(f"{server.url}/rare").status for _ in range(3)] == [200, 200, 429]


FILES = """
[[listener]]
bind = "127.0.0.1:@PORT@"

[[route]]
path = "/static/*"
files = {{ dir = "{site}", precompressed = true, listing = true }}

[[route]]
path = "/*"
app = "report:app"
filters = [{{ accel = {{ dir = "{private}" }} }}]
"""
REPORT = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    fields = [(b"x-accel-redirect", b"/report.bin"), (b"content-disposition", b"attachment")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": b"never seen"})
"""


def test_files_as_curl_sees_them(real: Real, tmp_path: Path) -> None:
    site, private = tmp_path / "site", tmp_path / "private"
    site.mkdir()
    private.mkdir()
    whole = bytes(range(256)) * 20_000  # five megabytes
    (site / "big.bin").write_bytes(whole)
    (private / "report.bin").write_bytes(whole[:100_000])
    (site / "app.js").write_text("let a = 1\n")
    (site / "app.js.gz").write_bytes(gzip.compress(b"let a = 1\n"))
    config = FILES.format(site=site, private=private)
    server = real.fairlead("--workers", "1", config=config, files={"report.py": REPORT})

    assert real.curl(f"{server.url}/static/big.bin").body == whole
    begun = tmp_path / "begun"
    begun.write_bytes(whole[:1_234_567])
    resume = [program("curl"), "-sS", "-C", "-", "-o", str(begun), f"{server.url}/static/big.bin"]
    subprocess.run(resume, check=True, timeout=20)
    assert begun.read_bytes() == whole
    assert real.curl(f"{server.url}/static/big.bin", "-r", "-100").body == whole[-100:]
    several = real.curl(f"{server.url}/static/big.bin", "-r", "0-9,100-109")
    assert several.status == 206 and whole[100:110] in several.body
    first = real.curl(f"{server.url}/static/app.js", "--compressed")
    assert (first.text, first.header("content-encoding")) == ("let a = 1\n", "gzip")
    tag = first.header("etag")
    assert real.curl(f"{server.url}/static/app.js", "--compressed", "-H", f"If-None-Match: {tag}").status == 304
    assert "big.bin" in real.curl(f"{server.url}/static/").text
    assert real.curl(f"{server.url}/static/../report.py", "--path-as-is").body != REPORT.encode()

    report = real.curl(f"{server.url}/report")
    assert report.body == whole[:100_000] and report.header("content-disposition") == "attachment"
    assert real.curl(f"{server.url}/report", "-r", "5-9").body == whole[5:10]
