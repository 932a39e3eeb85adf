"""A NAT that forgets, as happens to browsers at home: between the client and the server stands a relay of UDP that goes on from
another port in the middle of a download, and lets the old one die. Everything comes, on one connection (RFC 9000 section 9.3.3).
quic-go's client stands there in `test_h3_go.py`.

And a client that moves by itself: nothing gets through any more to Chromium's port or from it. Chromium finds that its path
degrades, asks from another port with a PATH_CHALLENGE and an id that it did not use yet, and goes on there (section 9). It needs
patience on a busy machine: in `scripts/soak` (FAIRLEAD_H3_PATTERNS=all).
"""

from __future__ import annotations

import json
import os
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from browser import Browser
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
"""
LISTENER = """
[[listener]]
name = "{engine}"
bind = "127.0.0.1:{port}"
protocols = ["h1", "h2", "h3"]
tls = {{ certificate = "{cert}", key = "{key}" }}
quic = {{ engine = "{engine}" }}
"""
SIZE = 4_000_000
# The page asks small things beside: who only receives has nothing that waits for an acknowledgement, and notices no silence.
DOWNLOAD = f"""
window.came = 0;
(async () => {{
  fetch("/large/{SIZE}").then(answer => answer.arrayBuffer()).then(body => {{ came = body.byteLength; }}, () => {{ came = -1; }});
  while (!came) {{
    fetch("/who").catch(() => 0);
    await new Promise(done => setTimeout(done, 100));
  }}
}})();
0"""
engines = pytest.mark.parametrize("engine", ["qh3", "aioquic"])


class Nat:
    """`with Nat(port) as nat:` a client talks to `nat.port`; after each `every` bytes from the server its port there changes."""

    def __init__(self, to: int, every: int = 150_000, times: int = 3) -> None:
        self.to, self.every, self.times = ("127.0.0.1", to), every, times
        self.inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.inside.bind(("127.0.0.1", 0))
        self.port = self.inside.getsockname()[1]
        self.outside: dict[tuple[str, int], socket.socket] = {}
        self.changed: dict[tuple[str, int], int] = {}
        self.bytes: dict[tuple[str, int], list[int]] = {}
        self.stop, self.stopped = socket.socketpair()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self) -> Nat:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.close()
        self.thread.join()
        for sock in (self.inside, self.stopped, *self.outside.values()):
            sock.close()

    def out(self) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("127.0.0.1", 0))
        return made

    def run(self) -> None:
        while True:
            peers = {sock: peer for peer, sock in self.outside.items()}
            ready, _, _ = select.select([self.inside, self.stopped, *peers], [], [])
            for sock in ready:
                if sock is self.stopped:
                    return
                data, origin = sock.recvfrom(65536)
                if sock is not self.inside:
                    if self.lets(peers[sock], data, inward=False):
                        self.inside.sendto(data, peers[sock])
                        self.came(peers[sock], len(data))
                    continue
                if origin not in self.outside:
                    self.outside[origin], self.changed[origin], self.bytes[origin] = self.out(), 0, [0]
                if self.lets(origin, data, inward=True):
                    self.outside[origin].sendto(data, self.to)

    def lets(self, peer: tuple[str, int], data: bytes, inward: bool) -> bool:
        """Does a datagram of a client, or to it, get through?"""
        return True

    def came(self, peer: tuple[str, int], size: int) -> None:
        found = self.bytes[peer]
        found[-1] += size
        if found[-1] >= self.every and self.changed[peer] < self.times:
            self.changed[peer] += 1
            found.append(0)
            self.outside[peer].close()
            self.outside[peer] = self.out()

    def moved(self) -> bool:
        """One client, so one connection, and the server went on at each port."""
        ((_, found),) = [item for item in self.bytes.items() if sum(item[1]) > self.every]
        return len(found) == self.times + 1 and all(found)


class Dying(Nat):
    """A relay behind which the port of a client that got `after` bytes is dead from then on, both ways; its others are not."""

    def __init__(self, to: int, after: int) -> None:
        super().__init__(to, times=0)
        self.after = after
        self.dead: tuple[str, int] | None = None
        self.shook: set[tuple[str, int]] = set()  # where packets with a long header came from: handshakes

    def lets(self, peer: tuple[str, int], data: bytes, inward: bool) -> bool:
        if inward and data[0] & 0x80:
            self.shook.add(peer)
        if self.dead is None and sum(self.bytes[peer]) > self.after:
            self.dead = peer
        return peer != self.dead

    def moved(self) -> bool:
        """Most came to ports at which no handshake was."""
        return self.dead is not None and sum(sum(found) for peer, found in self.bytes.items() if peer not in self.shook) > SIZE // 2


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    authority = certs.dev_ca(tmp_path_factory.mktemp("ca"))
    cert, key = authority.leaf()
    ports = {"qh3": free_port(), "aioquic": free_port()}
    config = CONFIG
    for engine, port in ports.items():
        config += LISTENER.format(engine=engine, port="@PORT@" if engine == "qh3" else port, cert=cert, key=key)
    with Real() as real:
        files = {name: (APPS / name).read_text() for name in ("h3app.py", "h3back.py", "h3page.py")}
        started = real.fairlead(config=config + '[[route]]\napp = "h3page:app"\n', files=files, port=ports["qh3"], tls=True)
        yield SimpleNamespace(ports=ports, spki=certs.pin(cert))
        started.kill()


def chromium(site: SimpleNamespace, port: int) -> Browser:
    """One that asks a port over QUIC alone."""
    flags = (
        f"--origin-to-force-quic-on=localhost:{port}",
        f"--ignore-certificate-errors-spki-list={site.spki}",
        "--host-resolver-rules=MAP localhost 127.0.0.1",
        "--enable-quic",
    )
    return Browser(flags=flags)


@engines
def test_chromium_goes_on_behind_a_nat_that_forgets(site, engine):
    with Nat(site.ports[engine]) as nat:
        with chromium(site, nat.port) as browser:
            browser.goto(f"https://localhost:{nat.port}/")
            browser.wait("document.title == 'h3' && said.done")
            said = json.loads(browser.run("JSON.stringify(said)"))
        assert (said["large"], said["protocols"]) == (700_000, "h3") and nat.moved()


@engines
def test_libcurl_goes_on_behind_a_nat_that_forgets(site, engine):
    requests = pytest.importorskip("curl_cffi.requests")
    with Nat(site.ports[engine]) as nat:
        given = {"http_version": "v3only", "verify": False, "timeout": 30, "proxies": {}}
        found = requests.get(f"https://localhost:{nat.port}/large/700000", **given)
        assert found.http_version == 30 and len(found.content) == 700_000 and nat.moved()


@pytest.mark.skipif(os.environ.get("FAIRLEAD_H3_PATTERNS") != "all", reason="scripts/soak runs it")
@engines
def test_chromium_moves_to_another_port_when_its_own_dies(site, engine):
    for _ in range(3):  # it asks there for a second, once; when a busy machine does not answer in that, it gives the connection up
        with Dying(site.ports[engine], after=1_000_000) as nat, chromium(site, nat.port) as browser:
            browser.goto(f"https://localhost:{nat.port}/page")
            browser.wait("document.querySelector('p')?.textContent")
            browser.run(DOWNLOAD)
            browser.wait("came", 120)
            came = browser.run("came")
        if came == SIZE:
            break
    assert came == SIZE and nat.moved()
