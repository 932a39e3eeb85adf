"""Where UDP is blocked nobody notices: a server and its clients in a network namespace whose firewall drops every datagram that
arrives. Root only. Chromium and libcurl come by TCP although they were told of HTTP/3, and a proxy whose upstream is HTTP/3 says
what is wrong, to its client, in its log and by its health checks.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from browser import Browser
from peers import Real, surroundings
from processes import eventually, program, unavailable

from fairlead.net import certs

HERE = Path(__file__).resolve().parent
CONFIG = """
[server]
workers = 1
[admin]
page = "off"
[log]
access = "off"
[[listener]]
name = "web"
bind = "127.0.0.1:8443"
protocols = ["h1", "h2", "h3"]
tls = {{ certificate = "{cert}", key = "{key}" }}
[[listener]]
name = "edge"
bind = "127.0.0.1:8080"
[[route]]
listener = "edge"
path = "/checked/*"
proxy = "checked"
[[route]]
listener = "edge"
proxy = "plain"
[[route]]
app = "h3app:app"
[[upstream]]
name = "plain"
servers = ["127.0.0.1:8443"]
protocol = "h3"
tls = {{ verify = false }}
timeouts = {{ dial = "500ms" }}
[[upstream]]
name = "checked"
servers = ["127.0.0.1:8443"]
protocol = "h3"
tls = {{ verify = false }}
timeouts = {{ dial = "500ms" }}
health = {{ path = "/who", every = "1s", timeout = "1s", rise = 1, fall = 1 }}
"""
FLAGS = ("--origin-to-force-quic-on=localhost:1", "--enable-quic", "--host-resolver-rules=MAP localhost 127.0.0.1")
FIREWALL = "table inet wall { chain in { type filter hook input priority 0; meta l4proto udp drop; }; }\n"
CURL = """
import io, sys
from curl_cffi import Curl, CurlHttpVersion, CurlOpt
for _ in range(int(sys.argv[2])):
    curl, out = Curl(), io.BytesIO()
    for option, value in (
        (CurlOpt.URL, b"https://127.0.0.1:8443/who"), (CurlOpt.SSL_VERIFYPEER, 0), (CurlOpt.SSL_VERIFYHOST, 0),
        (CurlOpt.TIMEOUT, 30), (CurlOpt.WRITEDATA, out), (CurlOpt.PROXY, b""), (CurlOpt.ALTSVC, sys.argv[1].encode()),
        (CurlOpt.ALTSVC_CTRL, 0x38),
        (CurlOpt.HTTP_VERSION, getattr(CurlHttpVersion, sys.argv[3])),
    ):
        curl.setopt(option, value)
    curl.perform()
    print(out.getvalue().decode()[:6])
    curl.close()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A namespace with the server in it; `wall()` blocks UDP from then on."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        unavailable("network namespaces need root")
    name = f"flb{os.getpid()}"
    inside = (program("ip"), "netns", "exec", name)
    try:
        subprocess.run([program("ip"), "netns", "add", name], check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        unavailable(f"no network namespaces here: {error.stderr!r}")
    try:
        subprocess.run([program("ip"), "-n", name, "link", "set", "lo", "up"], check=True)
        cert, key = certs.dev_ca(tmp_path_factory.mktemp("ca")).leaf()
        with Real() as real:
            home = real.home()
            (home / "h3app.py").write_text((HERE / "apps" / "h3app.py").read_text())
            (home / "fairlead.toml").write_text(CONFIG.format(cert=cert, key=key))
            ours = (sys.executable, "-P", "-m", "fairlead", "run", "fairlead.toml")
            server = real.run(*inside, *ours, home=home, env=surroundings(home))
            server.says("Ctrl-C")

            def run(*words: str) -> str:
                done = real.finish([*inside, *words], 60)
                assert done.returncode == 0, done.stderr
                return done.stdout

            def wall() -> None:
                subprocess.run([*inside, program("nft"), "-f", "-"], input=FIREWALL, text=True, check=True, capture_output=True)

            yield SimpleNamespace(server=server, inside=inside, run=run, wall=wall, pin=certs.pin(cert), home=home)
            server.kill()
    finally:
        subprocess.run([program("ip"), "netns", "del", name], capture_output=True)


def test_clients_come_by_tcp_and_a_proxy_says_what_is_wrong(place):
    def curl(times: int, version: str) -> list[str]:
        return place.run(sys.executable, "-c", CURL, str(place.home / "altsvc"), str(times), version).splitlines()

    def ask(path: str) -> tuple[int, str]:
        said = place.run(program("curl"), "-s", "--noproxy", "*", "-m", "30", "-w", "\n%{http_code}", f"http://127.0.0.1:8080{path}")
        body, _, status = said.rpartition("\n")
        return int(status), body

    assert curl(1, "V3ONLY") == ["http/3"] and curl(1, "V2TLS") == ["http/2"]
    assert "h3 " in (place.home / "altsvc").read_text()
    eventually(lambda: ask("/who")[0] == ask("/checked/who")[0] == 200, what="both upstreams to answer")
    assert ask("/quiet/2") == (200, "at last"), "a server that only thinks is heard meanwhile: it acknowledges"
    place.wall()
    assert curl(2, "V3") == ["http/2", "http/2"]
    with Browser(flags=FLAGS + (f"--ignore-certificate-errors-spki-list={place.pin}",), inside=place.inside) as browser:
        for number in range(4):
            browser.goto(f"https://localhost:8443/who?{number}")
            browser.wait(f"location.search === '?{number}' && document.body.textContent.startsWith('http/2 GET')")
        assert not [error for error in browser.errors if "favicon" not in error]
    # the connection that it had is silent now, and a new one is not answered
    status, said = ask("/who")
    assert status == 504 and "is gone, or UDP is blocked" in said
    status, said = ask("/who")
    assert status == 504 and "it has no HTTP/3, or UDP is blocked" in said
    place.server.says("upstream checked: 127.0.0.1:8443 is unhealthy: no answer within 1 s")
