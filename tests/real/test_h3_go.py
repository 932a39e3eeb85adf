"""HTTP/3 with quic-go's client: pages, uploads, event streams, many requests at once, early data with a ticket, a Retry, a client
certificate.

Go and quic-go come from Debian (`golang-go`, `golang-github-lucas-clemente-quic-go-dev`, version 0.29: version 1 of QUIC, RFC
9114) and the
client is built here, which takes half a minute: only where Go is there already, and in `scripts/soak`, which installs it
(FAIRLEAD_GO=1).
It cannot move to another address or ask for new keys, and knows no extended CONNECT.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from peers import Real
from processes import free_port, install, unavailable

from fairlead.net import certs, quicauth

HERE = Path(__file__).resolve().parent
DEBIAN = Path("/usr/share/gocode/src/github.com/lucas-clemente/quic-go")
FILES = {name: (HERE / "apps" / name).read_text() for name in ("h3app.py", "h3back.py", "h3many.py")}
CONFIG = """
[server]
workers = 1
[admin]
page = "off"
[log]
access = "off"
[[listener]]
name = "web"
bind = "127.0.0.1:@PORT@"
protocols = ["h1", "h2", "h3"]
early_data = {early}
quic = {{ engine = "{engine}", retry = "{retry}" }}
[listener.tls]
{tls}
[[route]]
app = "h3many:app"
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The client, built."""
    if os.environ.get("FAIRLEAD_GO") == "1":
        install("golang-go")
        install("golang-github-lucas-clemente-quic-go-dev")
        if not shutil.which("go") or not DEBIAN.exists():
            unavailable("Go and quic-go cannot be installed here")
    if not shutil.which("go") or not DEBIAN.exists():
        pytest.skip("Go and quic-go are not here; scripts/soak installs them")
    home = tmp_path_factory.mktemp("go")
    shutil.copy(HERE / "go" / "client.go", home)
    env = {**os.environ, "GO111MODULE": "off", "GOPATH": f"{home}/path:/usr/share/gocode", "GOCACHE": f"{home}/cache", "GOFLAGS":
    ""}
    done = subprocess.run(["go", "build", "-o", "client", "client.go"], cwd=home, env=env, capture_output=True, text=True,
    timeout=300)
    assert done.returncode == 0, done.stderr
    return str(home / "client")


@pytest.mark.parametrize(("engine", "retry"), [("qh3", "auto"), ("aioquic", "auto"), ("qh3", "always")])
def test_quic_go(client, engine, retry):
    with Real() as real:
        config = CONFIG.format(engine=engine, retry=retry, early="true", tls='mode = "dev"')
        server = real.fairlead(config=config, files=FILES, port=free_port(), tls=True)
        done = subprocess.run([client, server.url.replace("127.0.0.1", "localhost")], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert (told["proto"], told["status"]) == ("HTTP/3.0", 200) and told["who"].startswith("http/3 GET")
        assert told["digest"].startswith("400000 ") and (told["large"], told["many"]) == (700_000, 30)
        assert told["events"] == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
        assert told["hints"] == 103, "it takes an early hint for the answer"
        assert told["early"].endswith("early 1") or retry == "always", "the second connection's request came with its first packets"


@pytest.mark.skipif(bool(quicauth.unusable()), reason=quicauth.unusable())
def test_quic_go_shows_its_certificate(client, tmp_path):
    authority = certs.dev_ca(tmp_path)
    cert, key = authority.leaf()
    alice = authority.issue(["alice.test"], tmp_path, client=True)
    tls = f'certificate = "{cert}"\nkey = "{key}"\nclient_ca = "{authority.ca_path}"'
    with Real() as real:
        config = CONFIG.format(engine="qh3", retry="auto", early="false", tls=tls)
        server = real.fairlead(config=config, files=FILES, port=free_port(), tls=True)
        url = server.url.replace("127.0.0.1", "localhost")
        argv = [client, "-cert", str(alice[0]), "-key", str(alice[1]), url]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and json.loads(done.stdout)["early"].endswith("early -"), done.stderr
        done = subprocess.run([client, url], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and "CRYPTO_ERROR (0x174)" in done.stderr
