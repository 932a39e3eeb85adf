"""HTTP/2 with programs we did not write: nghttp, h2load, curl, httpx and Chromium ask; nghttpd, nghttpx and Hypercorn answer."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import httpx
import pytest
from peers import Real, certificate
from processes import Process, free_port, program

APP = """
import asyncio, hashlib

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    path, start = scope["path"], {"type": "http.response.start", "status": 200, "headers": []}
    if path == "/hints":
        await send({"type": "http.response.early_hint", "links": [b"</s.css>; rel=preload; as=style"]})
        await send(start | {"trailers": True})
        await send({"type": "http.response.body", "body": b"hinted"})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"17")]})
        return
    if path == "/digest":
        digest, size = hashlib.sha256(), 0
        while True:
            message = await receive()
            digest.update(message.get("body", b""))
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        body = f"{size} {digest.hexdigest()}".encode()
    elif path == "/large":
        await send(start)
        for _ in range(80):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    elif path == "/slow":
        await asyncio.sleep(0.3)
        body = b"slow"
    elif path == "/page":
        body = b"<script>fetch('/who').then(r => r.text()).then(t => document.title = t)</script>"
        start["headers"] = [(b"content-type", b"text/html")]
    else:
        kind = dict(scope["headers"]).get(b"via", b"")
        body = f"{scope['http_version']} {scope['scheme']} {scope['method']} {kind.decode()}".encode()
    await send(start)
    await send({"type": "http.response.body", "body": body})
"""
PROXY = """
[[listener]]
name = "web"
bind = "127.0.0.1:@PORT@"
{listener}

[[route]]
path = "/*"
proxy = {{ upstream = "origin" }}

[[upstream]]
name = "origin"
servers = ["localhost:{port}"]
{upstream}
"""


@pytest.fixture
def server(real: Real) -> Process:
    """Ours over TLS, with the application above."""
    return real.fairlead("app:app", "--workers", "1", "--tls", "dev", files={"app.py": APP})


@pytest.fixture
def plain(real: Real) -> Process:
    """The same without TLS."""
    return real.fairlead("app:app", "--workers", "1", files={"app.py": APP})


def proxied(real: Real, port: int, upstream: str = "", listener: str = "", tls: bool = False) -> Process:
    """Ours in front of a port."""
    config = PROXY.format(port=port, upstream=upstream, listener=listener)
    return real.fairlead("--workers", "1", config=config, tls=tls)


def origin_h1(real: Real) -> Process:
    """nginx, which tells its connection's number."""
    return real.nginx("""server { listen 127.0.0.1:@PORT@; keepalive_requests 100000;
        location / { return 200 "$connection $server_protocol $http_host\\n"; }
        location /files/ { alias @FOLDER@/; } }""")


# ---- clients


def test_curl_over_tls_and_with_prior_knowledge(real: Real, server: Process, plain: Process) -> None:
    answer = real.curl(f"{server.url}/", "-k", "--http2")
    assert (answer.http_version, answer.text) == ("2", "2 https GET ")
    answer = real.curl(f"{server.url}/", "-k", "--http1.1")
    assert (answer.http_version, answer.text) == ("1.1", "1.1 https GET ")
    answer = real.curl(f"{plain.url}/", "--http2-prior-knowledge")
    assert (answer.http_version, answer.text) == ("2", "2 http GET ")
    assert real.curl(f"{plain.url}/", "--http2").http_version == "1.1"  # an Upgrade to h2c is not taken
    assert real.curl(f"{server.url}/", "-k", "-I").header("content-length") is None


def test_curl_uploads_and_downloads(real: Real, server: Process) -> None:
    import hashlib

    body = bytes(range(256)) * 20000
    file = real.home() / "body"
    file.write_bytes(body)
    answer = real.curl(f"{server.url}/digest", "-k", "--http2", "--data-binary", f"@{file}")
    assert answer.text == f"{len(body)} {hashlib.sha256(body).hexdigest()}"
    assert len(real.curl(f"{server.url}/large", "-k", "--http2").body) == 80 * 65536
    expect = real.curl(
        f"{server.url}/digest", "-k", "--http2", "--data-binary", f"@{file}", "-H", "Expect: 100-continue"
    )
    assert expect.text == answer.text


def test_nghttp_sees_early_hints_trailers_and_many_streams(real: Real, plain: Process) -> None:
    said = real.finish([program("nghttp"), "-v", f"{plain.url}/hints"], 20).stdout
    assert re.search(r":status: 103.*:status: 200.*x-sum: 17", said, re.S) and "hinted" in said
    assert "GOAWAY" not in said.partition("send GOAWAY")[0]
    many = real.finish([program("nghttp"), "-n", "-s", *[f"{plain.url}/slow?{i}" for i in range(20)]], 20)
    assert many.returncode == 0 and len(re.findall(r" 200 +\d", many.stdout)) == 20
    upload = real.finish([program("nghttp"), "-d", plain.log.parent / "app.py", "-v", f"{plain.url}/digest"], 20).stdout
    assert ":status: 200" in upload


def test_h2load_over_tls_and_plain(real: Real, server: Process, plain: Process) -> None:
    for url in (f"{server.url}/", f"{plain.url}/"):
        load = real.h2load(url, requests=3000, connections=4, streams=25)
        assert load.clean, load.text
    load = real.h2load(f"{server.url}/large", requests=40, connections=2, streams=10)
    assert load.clean, load.text
    load = real.h2load(f"{server.url}/large", "-w", "14", "-W", "15", requests=10, connections=1, streams=10)
    assert load.clean, load.text


def test_httpx_with_many_requests_on_one_connection(real: Real, server: Process) -> None:
    import anyio

    async def ask() -> list[str]:
        async with httpx.AsyncClient(http2=True, verify=False, base_url=server.url, trust_env=False) as client:
            answers: list[str] = []

            async def one(i: int) -> None:
                answer = await client.post("/digest", content=b"x" * i * 1000)
                answers.append(f"{answer.http_version} {answer.text.split()[0]}")

            async with anyio.create_task_group() as group:
                for i in range(30):
                    group.start_soon(one, i)
            return answers

    assert sorted(anyio.run(ask)) == sorted(f"HTTP/2 {i * 1000}" for i in range(30))


def test_chromium_speaks_h2_and_says_so(real: Real, server: Process) -> None:
    from browser import Browser

    with Browser() as page:
        page.call("Security.setIgnoreCertificateErrors", ignore=True)
        page.goto(f"{server.url}/page")
        page.wait("document.title.length > 0")
        assert page.run("document.title") == "2 https GET"
        assert page.run("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"


# ---- mux and demux


def test_many_streams_in_front_leave_on_pooled_connections_behind(real: Real) -> None:
    origin = origin_h1(real)
    server = proxied(real, origin.port, 'pool = { max = 4 }\nlimits = { queue = 1000, queue_wait = "20s" }')
    load = real.h2load(f"{server.url}/", requests=2000, connections=2, streams=50)
    assert load.clean, load.text
    seen = {real.curl(f"{server.url}/", "--http2-prior-knowledge").text.split()[0] for _ in range(8)}
    assert len(seen) <= 4
    answer = real.curl(f"{server.url}/", "--http2-prior-knowledge", "-H", "Host: shop.example")
    assert answer.text.split()[1:] == ["HTTP/1.1", "shop.example"] and answer.header("via")


def nghttpd(real: Real, *args: str, tls: bool = False) -> Process:
    """nghttp2's own server, with a few files."""
    home, port = real.home(), free_port()
    (home / "index.html").write_text("hello\n")
    (home / "large").write_bytes(b"y" * 3_000_000)
    keys: list[str | Path] = [*certificate(home)][::-1] if tls else []
    argv = [program("nghttpd"), "-d", str(home), "-v", "--address=127.0.0.1", *([] if tls else ["--no-tls"]), *args]
    return real.run(*argv, str(port), *keys, home=home, port=port, scheme="https" if tls else "http").ready()


def test_h1_in_front_goes_out_as_streams_of_one_connection(real: Real) -> None:
    origin = nghttpd(real)
    server = proxied(real, origin.port, 'protocol = "h2c"')
    assert real.curl(f"{server.url}/index.html").text == "hello\n"
    assert (load := real.wrk(f"{server.url}/index.html", connections=16)).clean, load.text
    assert len(real.curl(f"{server.url}/large").body) == 3_000_000
    assert real.curl(f"{server.url}/none").status == 404
    ids = set(re.findall(r"^\[id=(\d+)\]", origin.text(), re.M))
    assert len(ids) <= 2, ids


@pytest.mark.parametrize("protocol", ["h2", "auto"])
def test_h2_to_an_upstream_over_tls(real: Real, protocol: str) -> None:
    origin = nghttpd(real, tls=True)
    upstream = f'protocol = "{protocol}"\n[upstream.tls]\nca = "{origin.home}/cert.pem"'
    server = proxied(real, origin.port, upstream, 'tls = "dev"', tls=True)
    answer = real.curl(f"{server.url}/index.html", "-k", "--http2")
    assert (answer.http_version, answer.text) == ("2", "hello\n")
    assert len(real.curl(f"{server.url}/large", "-k", "--http2").body) == 3_000_000
    load = real.h2load(f"{server.url}/index.html", requests=1000, connections=2, streams=20)
    assert load.clean, load.text


def test_an_upstream_without_h2_is_said_and_auto_takes_what_there_is(real: Real) -> None:
    origin = real.nginx(
        'server { listen 127.0.0.1:@PORT@ ssl; ssl_certificate @CERT@; ssl_certificate_key @KEY@; return 200 "$server_protocol"; }',
        tls=True,
    )
    tls = f'[upstream.tls]\nca = "{origin.home}/cert.pem"'
    server = proxied(real, origin.port, f'protocol = "auto"\n{tls}')
    assert real.curl(f"{server.url}/").text == "HTTP/1.1"
    strict = proxied(real, origin.port, f'protocol = "h2"\n{tls}')
    assert (answer := real.curl(f"{strict.url}/")).status == 502 and "TLS with" in answer.text


def test_hypercorn_behind_over_h2c(real: Real) -> None:
    home, port = real.home(), free_port()
    (home / "app.py").write_text(APP)
    argv = [sys.executable, "-m", "hypercorn", "-b", f"127.0.0.1:{port}", "app:app"]
    origin = real.run(*argv, home=home, port=port).ready()
    server = proxied(real, origin.port, 'protocol = "h2c"')
    assert real.curl(f"{server.url}/").text.startswith("2 http GET")
    body = real.home() / "body"
    body.write_bytes(b"z" * 1_000_000)
    assert real.curl(f"{server.url}/digest", "--data-binary", f"@{body}").text.startswith("1000000 ")
    assert len(real.curl(f"{server.url}/large", "--http2-prior-knowledge").body) == 80 * 65536
    assert (load := real.h2load(f"{server.url}/", requests=300, connections=2, streams=20)).clean, load.text


def test_nghttpx_in_front_of_us_speaks_h2_to_us(real: Real, plain: Process) -> None:
    port = free_port()
    argv = [
        program("nghttpx"),
        f"-f127.0.0.1,{port};no-tls",
        f"-b127.0.0.1,{plain.port};;proto=h2",
        "-L",
        "WARN",
        "--workers=1",
    ]
    front = real.run(*argv, port=port).ready()
    assert real.curl(f"{front.url}/").text.startswith("2 http GET")
    assert (load := real.h2load(f"{front.url}/", requests=1000, connections=4, streams=10)).clean, load.text


def test_the_journey_of_an_h2_request_is_logged(real: Real, plain: Process) -> None:
    answer = real.curl(f"{plain.url}/slow", "--http2-prior-knowledge")
    timing = re.search(r"process;dur=([\d.]+)", answer.header("server-timing") or "")
    assert timing and float(timing[1]) > 270, "the app slept for 300 ms (a loop's clock may be a little ahead)"
    assert json.dumps(answer.text) == '"slow"'
