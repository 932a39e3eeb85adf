"""HTTP/3 with programs we did not write: the clients of aioquic and qh3, over both of our engines."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import re
import ssl
from pathlib import Path

import pytest
from h3client import Client
from peers import Real
from processes import free_port, program

APP = Path(__file__).resolve().parent / "apps" / "h3app.py"
CONFIG = """
[server]
workers = 2
pattern = "{pattern}"
grace = "5s"
[admin]
page = "off"
[log]
access = "{access}"
[[listener]]
name = "web"
bind = "127.0.0.1:@PORT@"
protocols = ["h1", "h2", "h3"]
early_data = true
tls = "dev"
quic = {{ engine = "{engine}", datagram = 1452 }}
[[route]]
app = "h3app:app"
"""
LIBRARIES = ("aioquic", "qh3")


def start(real: Real, engine: str = "qh3", pattern: str = "reuseport", access: str = "off"):
    """A server on a port that TCP and UDP have free."""
    config = CONFIG.format(engine=engine, pattern=pattern, access=access)
    return real.fairlead(config=config, files={"h3app.py": APP.read_text()}, port=free_port(), tls=True)


@pytest.fixture(scope="module")
def servers():
    with Real() as real:
        yield {engine: start(real, engine) for engine in ("qh3", "aioquic")}


@pytest.mark.parametrize("engine", ["qh3", "aioquic"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_each_client_gets_pages_uploads_and_streams_from_each_engine(servers, library, engine):
    async def main() -> None:
        async with Client(library, servers[engine].port) as client:
            answer = await client.get("/who")
            assert answer.status == 200 and answer.body.startswith(b"http/3 GET ")
            answer = await client.post("/digest", b"\x01\x02" * 150_000)
            assert answer.body.startswith(b"300000 ")
            answer = await client.get("/large/700000")
            assert len(answer.body) == 700_000
            answers = await asyncio.gather(*(client.get("/who") for _ in range(20)))
            assert {one.status for one in answers} == {200}
            answer = await client.get("/events")
            assert answer.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"

    asyncio.run(main())


# ---- clients with QUIC stacks of their own: ngtcp2 (curl, gtlsclient), qh3 in urllib3 (niquests), quiche's cousin in Chromium


@pytest.fixture(scope="module")
def url(servers):
    return f"https://localhost:{servers['qh3'].port}"


def test_answers_over_tcp_tell_of_http3(real, url):
    for version in ("--http1.1", "--http2"):
        answer = real.curl(f"{url}/who", version, "-k", "--ipv4")
        assert answer.header("alt-svc") == f'h3=":{url.rpartition(":")[2]}"; ma=86400'


def test_curl_gets_uploads_and_streams(url):
    pycurl = pytest.importorskip("pycurl")
    if not pycurl.version_info()[4] & pycurl.VERSION_HTTP3:
        pytest.skip("this libcurl has no HTTP/3")

    def fetch(path: str, body: bytes | None = None) -> tuple[int, int, bytes]:
        handle, out = pycurl.Curl(), io.BytesIO()
        for option, value in (
            (pycurl.URL, url + path), (pycurl.SSL_VERIFYPEER, 0), (pycurl.SSL_VERIFYHOST, 0), (pycurl.TIMEOUT, 30),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_3ONLY), (pycurl.WRITEFUNCTION, out.write), (pycurl.PROXY, ""),
            (pycurl.IPRESOLVE, pycurl.IPRESOLVE_V4),
        ):  # fmt: skip
            handle.setopt(option, value)
        if body is not None:
            handle.setopt(pycurl.POSTFIELDS, body)
        handle.perform()
        found = handle.getinfo(pycurl.RESPONSE_CODE), handle.getinfo(pycurl.INFO_HTTP_VERSION), out.getvalue()
        handle.close()
        return found

    status, version, body = fetch("/who")
    assert (status, version) == (200, pycurl.CURL_HTTP_VERSION_3) and body.startswith(b"http/3 GET")
    assert fetch("/digest", b"z" * 300_000)[2].startswith(b"300000 ")
    assert len(fetch("/large/500000")[2]) == 500_000
    assert fetch("/events")[2] == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


def test_curl_cffi(url):
    requests = pytest.importorskip("curl_cffi.requests")
    found = requests.get(f"{url}/who", http_version="v3only", verify=False, timeout=30, proxies={})
    assert found.status_code == 200 and found.content.startswith(b"http/3 GET")


def test_niquests(url):
    niquests = pytest.importorskip("niquests")
    host = url.removeprefix("https://").partition(":")
    with niquests.Session(disable_http1=True, disable_http2=True) as session:
        session.trust_env = False
        session.quic_cache_layer.add_domain(host[0], int(host[2]))
        found = session.get(f"{url}/who", verify=False, timeout=30)
        assert found.status_code == 200 and found.content.startswith(b"http/3 GET")
        assert session.post(f"{url}/digest", data=b"q" * 70_000, verify=False).content.startswith(b"70000 ")


def test_gtlsclient_of_ngtcp2_with_a_new_address_and_new_keys(real, url):
    port = url.rpartition(":")[2]
    argv = [program("gtlsclient"), "--exit-on-all-streams-close", "--timeout=20s"]
    done = real.finish([*argv, "--change-local-addr=50ms", "--key-update=60ms", "127.0.0.1", port, f"{url}/ticks/4"], 40)
    said = done.stdout + done.stderr
    assert done.returncode == 0 and "HTTP stream 0 closed with error code 256" in said, said[-2000:]
    assert len(set(re.findall(r"local=\[127\.0\.0\.1\]:(\d+)", said))) == 2 and "k=1" in said


def spki_of(port: int) -> str:
    """The hash of the server's public key, as Chromium wants it."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    found = x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", port)).encode())
    key = found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


def test_chromium_loads_a_page_and_its_parts(real, servers):
    port = servers["qh3"].port
    page = real.dom(
        f"https://localhost:{port}/page", f"--origin-to-force-quic-on=localhost:{port}", "--enable-quic",
        f"--ignore-certificate-errors-spki-list={spki_of(port)}", "--host-resolver-rules=MAP localhost 127.0.0.1",
        budget_ms=5000,
    )  # fmt: skip
    assert "http/3 GET" in page
