"""HTTP/3 by every client that there is to be had, cell by cell, over both of our engines: see h3matrix.py for who and what.

One process of ours has a listener for each engine and one that answers every stranger with a Retry. gRPC goes on to a grpcio
server; the `edge` listener goes to the first over HTTP/3 and asks it how it is by gRPC's health service.
"""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h3matrix
import pytest
from peers import Real
from processes import free_port

from fairlead.net import certs

APPS = Path(__file__).resolve().parent / "apps"
DOCS = Path(__file__).resolve().parents[2] / "docs" / "components" / "quic.md"
CONFIG = """
[server]
workers = 1
pattern = "single"
[admin]
page = "off"
[log]
access = "off"
[[route]]
listener = "edge"
proxy = "qh3"
[[route]]
path = "/files/*"
files = "."
[[route]]
path = "/grpc.health.v1.Health/*"
proxy = "grpcio"
[[route]]
app = "h3many:app"
[[upstream]]
name = "grpcio"
servers = ["127.0.0.1:{grpcio}"]
protocol = "h2c"
[[upstream]]
name = "qh3"
servers = ["127.0.0.1:@PORT@"]
protocol = "h3"
tls = {{ verify = false }}
health = {{ grpc = true, service = "shop", every = "100ms", rise = 1, fall = 1 }}
"""
LISTENER = """
[[listener]]
name = "{name}"
bind = "127.0.0.1:{port}"
protocols = ["h1", "h2", "h3"]
early_data = true
tls = {{ certificate = "{cert}", key = "{key}" }}
quic = {{ engine = "{engine}", retry = "{retry}" }}
"""
FRESH = ssl._create_unverified_context()  # of this process: which test goes on is said over TCP


@pytest.fixture(scope="module")
def health() -> Iterator[SimpleNamespace]:
    """A grpcio server with the health service alone."""
    grpc = pytest.importorskip("grpc")
    from grpc_health.v1 import health as servicer
    from grpc_health.v1 import health_pb2_grpc

    server = grpc.server(ThreadPoolExecutor(4))
    service = servicer.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    service.set("shop", 1)
    server.start()
    yield SimpleNamespace(port=port, service=service)
    server.stop(None)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory, health: SimpleNamespace) -> Iterator[dict[str, Any]]:
    cert, key = certs.dev_ca(tmp_path_factory.mktemp("ca")).leaf()
    ports = {"qh3": free_port(), "aioquic": free_port(), "retry": free_port(), "edge": free_port()}
    config = ""
    for name, port in ports.items():
        engine, retry = "aioquic" if name == "aioquic" else "qh3", "always" if name == "retry" else "auto"
        config += LISTENER.format(name=name, port=port, cert=cert, key=key, engine=engine, retry=retry)
    files = {name: (APPS / name).read_text() for name in ("h3app.py", "h3back.py", "h3many.py")}
    with Real() as real:
        home = real.home()
        (home / "large.bin").write_bytes(h3matrix.FILE)
        config += CONFIG.format(grpcio=health.port)
        server = real.fairlead(config=config, files=files, home=home, port=ports["qh3"], tls=True)

        def go() -> None:
            urllib.request.urlopen(f"https://127.0.0.1:{server.port}/go", context=FRESH, timeout=30).read()

        rest = (ports["retry"], tuple(ports.values()), certs.pin(cert), go)
        found: dict[str, Any] = {engine: h3matrix.Site(real, ports[engine], *rest) for engine in ("qh3", "aioquic")}
        yield found | {"server": server, "edge": ports["edge"]}
        server.kill()


@pytest.fixture(scope="module", autouse=True)
def leave() -> Iterator[None]:
    """Chromium ends with the module."""
    yield
    for client in h3matrix.CLIENTS:
        getattr(client, "close", lambda: None)()


@pytest.mark.parametrize("engine", ["qh3", "aioquic"])
@pytest.mark.parametrize(
    ("client", "feature"), [pytest.param(*cell, id=f"{cell[0].name.split()[0]}-{cell[1]}") for cell in h3matrix.cells()]
)
def test_each_client_does_what_it_can(sites, client, feature, engine):
    getattr(client, feature)(sites[engine])


def test_a_grpc_call_crosses_two_of_ours_over_http_3_to_grpcio(sites):
    edge = h3matrix.Site(sites["qh3"].real, sites["edge"], 0, (), "", sites["qh3"].go)
    for client in (h3matrix.Aioquic(), h3matrix.Niquests()):
        client.grpc(edge)


def test_an_upstream_over_http_3_is_asked_how_it_is_by_grpc(sites, health):
    """Behind it stands a grpcio server, whose health service says no, and yes again."""

    health.service.set("shop", 2)
    try:
        sites["server"].says(r"upstream qh3: \S+ is unhealthy: NOT_SERVING")
    finally:
        health.service.set("shop", 1)
    sites["server"].says(r"upstream qh3: \S+ is healthy again")


def test_the_table_in_the_documentation_is_this_one():
    assert h3matrix.table() in DOCS.read_text(), "run: python tests/real/h3matrix.py"
