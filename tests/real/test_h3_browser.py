"""HTTP/3 by Chromium: pages, uploads, many requests at once, event streams, and a WebSocket beside it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from browser import Browser
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from peers import Real
from processes import free_port

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
        yield SimpleNamespace(real=real, port=started.port, spki=spki, url=f"https://localhost:{started.port}")


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
