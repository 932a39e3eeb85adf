"""Client certificates and active health checks over HTTP/3: the clients of aioquic, qh3, libcurl, curl_cffi and niquests show
theirs to
both of our engines; our proxy shows its own to an upstream, in requests and in health checks.

One process of ours: `web` asks for certificates and `edge` proxies to it.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from h3client import Client
from peers import Real
from processes import eventually, free_port

from fairlead.net import certs, quicauth

CONFIG = """
[server]
workers = 1
pattern = "single"
[log]
access = "off"
[[listener]]
name = "edge"
bind = "127.0.0.1:@PORT@"
protocols = ["h1", "h2", "h3"]
tls = "dev"
"""
WEB = """
[[listener]]
name = "{name}"
bind = "127.0.0.1:{port}"
protocols = ["h1", "h2", "h3"]
quic = {{ engine = "{engine}" }}
[listener.tls]
certificate = "{cert}"
key = "{key}"
client_ca = "{ca}"
client_auth = "{auth}"
[[route]]
listener = "{name}"
app = "whoapp:app"
"""
UPSTREAM = """
[[route]]
listener = "edge"
path = "/{name}/*"
proxy = "{name}"
[[upstream]]
name = "{name}"
servers = ["localhost:{port}"]
protocol = "h3"
health = {{ path = "{path}", every = "50ms", rise = 1, fall = 1, timeout = "{timeout}" }}
[upstream.tls]
ca = "{ca}"
{tls}
"""
APP = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        name = scope["extensions"]["tls"]["client_cert_name"]
        agent = dict(scope["headers"]).get(b"user-agent", b"").decode()
        body = f"{name} over {scope['http_version']} {agent}".encode()
        status = 500 if scope["path"] == "/sick" else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})
"""

pytestmark = pytest.mark.skipif(bool(quicauth.unusable()), reason=quicauth.unusable())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    home = tmp_path_factory.mktemp("ca")
    authority = certs.dev_ca(home)
    cert, key = authority.leaf()
    alice = tuple(map(str, authority.issue(["alice.test"], home, client=True)))
    ports = {name: free_port() for name in ("qh3", "aioquic", "optional")}
    parts = [CONFIG]
    for name, port in ports.items():
        engine, auth = (name, "require") if name != "optional" else ("qh3", "optional")
        parts.append(WEB.format(name=name, port=port, engine=engine, cert=cert, key=key, ca=authority.ca_path, auth=auth))
    shown = f'certificate = "{alice[0]}"\nkey = "{alice[1]}"'
    nobody = free_port()
    for name, port, path, tls, timeout in (
        ("known", ports["qh3"], "/healthz", shown, "20s"),
        ("greeted", ports["aioquic"], "", shown, "20s"),
        ("sick", ports["qh3"], "/sick", shown, "20s"),
        ("unknown", ports["qh3"], "/healthz", "", "20s"),
        ("nobody", nobody, "/healthz", shown, "20s"),
    ):
        parts.append(UPSTREAM.format(name=name, port=port, path=path, tls=tls, ca=authority.ca_path, timeout=timeout))
    with Real() as real:
        server = real.fairlead(config="".join(parts), files={"whoapp.py": APP}, port=free_port(), tls=True)
        yield SimpleNamespace(real=real, ports=ports, alice=alice, server=server, ca=authority.ca_path)


@pytest.mark.parametrize("engine", ["qh3", "aioquic"])
@pytest.mark.parametrize("library", ["aioquic", "qh3"])
def test_a_client_is_known_by_its_certificate_and_refused_without(site, library, engine):
    async def main() -> None:
        async with Client(library, site.ports[engine], cert=site.alice) as client:
            assert (await client.get("/")).body.startswith(b"CN=alice.test over 3")
        async with Client(library, site.ports["optional"]) as client:
            assert (await client.get("/")).body.startswith(b"None over 3")
        client = Client(library, site.ports[engine])
        async with client:  # TLS 1.3: the client is done before the server has looked at its certificate
            await asyncio.wait_for(client.over, 30)
        assert int(client.closed.error_code) == 0x100 + 116

    asyncio.run(main())


@pytest.mark.parametrize("engine", ["qh3", "aioquic"])
@pytest.mark.parametrize("version", ["CURL_HTTP_VERSION_2TLS", "CURL_HTTP_VERSION_3ONLY"])
def test_libcurl_is_known_over_tcp_and_over_quic(site, engine, version):
    pycurl = pytest.importorskip("pycurl")
    if not pycurl.version_info()[4] & pycurl.VERSION_HTTP3:
        pytest.skip("this libcurl has no HTTP/3")

    def fetch(*cert: str) -> bytes:
        handle, out = pycurl.Curl(), io.BytesIO()
        for option, value in (
            (pycurl.URL, f"https://localhost:{site.ports[engine]}/"), (pycurl.CAINFO, str(site.ca)), (pycurl.TIMEOUT, 30),
            (pycurl.HTTP_VERSION, getattr(pycurl, version)), (pycurl.WRITEFUNCTION, out.write), (pycurl.PROXY, ""),
            (pycurl.IPRESOLVE, pycurl.IPRESOLVE_V4),
        ):  # fmt: skip
            handle.setopt(option, value)
        if cert:
            handle.setopt(pycurl.SSLCERT, cert[0])
            handle.setopt(pycurl.SSLKEY, cert[1])
        try:
            handle.perform()
        finally:
            handle.close()
        return out.getvalue()

    assert fetch(*site.alice).startswith(b"CN=alice.test over " + (b"3" if "3" in version else b"2"))
    with pytest.raises(pycurl.error):
        fetch()


def test_niquests_is_known(site):
    niquests = pytest.importorskip("niquests")
    port = site.ports["qh3"]
    with niquests.Session(disable_http1=True, disable_http2=True) as session:
        session.trust_env = False
        session.quic_cache_layer.add_domain("localhost", port)
        found = session.get(f"https://localhost:{port}/", verify=str(site.ca), cert=site.alice, timeout=30)
        assert found.content.startswith(b"CN=alice.test over 3")


def test_the_proxy_shows_its_certificate_in_requests_and_in_health_checks(site):
    for name in ("known", "greeted"):
        answer = site.real.curl(f"{site.server.url}/{name}/x", "-k")
        assert answer.text.startswith("CN=alice.test over 3"), answer.text

    def seen() -> dict[str, str]:
        told = site.real.command("status", "--json", home=site.server.home)
        return {one["upstream"]: one["why"] for one in health_of(told.stdout) if one["checks"]}

    eventually(lambda: len(seen()) == 5, what="each to be checked")
    found = seen()
    assert (found["known"], found["greeted"]) == ("", "") and found["sick"] == "status 500"
    assert "certificate" in found["unknown"] and "refused" in found["nobody"].lower(), found
    site.server.says("upstream sick: localhost:.* is unhealthy: status 500")


def health_of(text: str) -> list[dict]:
    """The list of checks, wherever it stands in the status."""
    import json

    def find(value):
        if isinstance(value, list) and value and isinstance(value[0], dict) and "checks" in value[0] and "why" in value[0]:
            yield from value
        elif isinstance(value, dict | list):
            for one in value.values() if isinstance(value, dict) else value:
                yield from find(one)

    return list(find(json.loads(text)))


def test_a_configuration_is_told_when_it_cannot_be(site):
    assert Path(site.alice[0]).exists()
    done = site.real.command("check", str(site.server.home / "fairlead.toml"))
    assert done.returncode == 0, done.stderr
