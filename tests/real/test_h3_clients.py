"""HTTP/3 by clients of other houses: Chromium, libcurl over ngtcp2 and nghttp3 (pycurl), curl_cffi (BoringSSL), niquests (qh3)."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from browser import Browser
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from peers import Real
from processes import free_port, unavailable

from fairlead.net import certs

APPS = Path(__file__).resolve().parent / "apps"
CONFIG = """
[server]
workers = 2
[admin]
page = "off"
[log]
access = "off"
[[listener]]
name = "web"
bind = "127.0.0.1:@PORT@"
protocols = ["h1", "h2", "h3"]
tls = {{ certificate = "{cert}", key = "{key}" }}
[[route]]
app = "h3page:app"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    authority = certs.dev_ca(tmp_path_factory.mktemp("ca"))
    cert, key = authority.leaf()
    leaf = x509.load_pem_x509_certificate(Path(cert).read_bytes())
    public = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    spki = base64.b64encode(hashlib.sha256(public).digest()).decode()
    with Real() as real:
        files = {name: (APPS / name).read_text() for name in ("h3app.py", "h3back.py", "h3page.py")}
        started = real.fairlead(config=CONFIG.format(cert=cert, key=key), files=files, port=free_port(), tls=True)
        yield SimpleNamespace(real=real, port=started.port, spki=spki, ca=authority.ca_path, url=f"https://localhost:{started.port}")


def test_chromium_loads_uploads_and_streams(server):
    flags = (
        f"--origin-to-force-quic-on=localhost:{server.port}",
        f"--ignore-certificate-errors-spki-list={server.spki}",
        "--host-resolver-rules=MAP localhost 127.0.0.1",
        "--enable-quic",
    )
    with Browser(flags=flags) as browser:
        browser.goto(server.url + "/")
        browser.wait("document.title == 'h3' && said.done")
        said = json.loads(browser.run("JSON.stringify(said)"))
    assert "error" not in said, said
    assert said["get"].startswith("http/3 GET ")
    assert said["post"].startswith("300000 ")
    assert (said["large"], said["many"], said["sse"], said["ws"]) == (700_000, 30, "012", "hello")
    assert (said["page"], said["protocols"]) == ("h3", "h3")


def module(name: str):
    """A client that may not be installed."""
    try:
        return __import__(name)
    except ImportError:
        unavailable(f"{name} is not installed")


def test_libcurl(server):
    pycurl = module("pycurl")
    if "nghttp3" not in pycurl.version:
        unavailable("this libcurl speaks no HTTP/3")
    handle = pycurl.Curl()
    asked = (
        ("/who", b"", b"http/3 GET"),
        ("/large/1000000", b"", b"xxx"),
        ("/digest", b"z" * 400_000, b"400000 "),
        ("/trailers", b"", b"with trailers"),
    )
    for path, body, starts in asked:
        got = io.BytesIO()
        handle.setopt(pycurl.URL, server.url + path)
        handle.setopt(pycurl.HTTP_VERSION, 31)  # HTTP/3 and nothing else
        handle.setopt(pycurl.CAINFO, server.ca)
        handle.setopt(pycurl.WRITEFUNCTION, got.write)
        if body:
            handle.setopt(pycurl.POST, 1)
            handle.setopt(pycurl.POSTFIELDSIZE, len(body))
            handle.setopt(pycurl.READFUNCTION, io.BytesIO(body).read)
        else:
            handle.setopt(pycurl.HTTPGET, 1)
        handle.perform()
        assert handle.getinfo(pycurl.RESPONSE_CODE) == 200
        assert got.getvalue().startswith(starts)
    handle.close()


def test_curl_cffi(server):
    module("curl_cffi")
    from curl_cffi import requests

    with requests.Session(http_version="v3only", verify=server.ca) as session:
        answer = session.get(server.url + "/who")
        assert (answer.status_code, answer.http_version) == (200, 30)
        assert session.post(server.url + "/digest", data=b"x" * 500_000).text.startswith("500000 ")
        assert len(session.get(server.url + "/large/3000000").content) == 3_000_000
        for number in range(30):  # its encoder learns these fields
            answer = session.get(server.url + f"/who?{number}", headers={"x-long": "v" * 100, "cookie": "a=b"})
            assert answer.text.startswith("http/3 GET ")


def test_niquests(server):
    niquests = module("niquests")
    with niquests.Session(disable_http1=True, disable_http2=True) as session:
        session.quic_cache_layer[("localhost", server.port)] = ("localhost", server.port)
        answer = session.get(server.url + "/who", verify=server.ca)
        assert (answer.status_code, answer.http_version) == (200, 30)
        assert session.post(server.url + "/digest", data=b"x" * 300_000, verify=server.ca).text.startswith("300000 ")
