"""How large HTTP/3's datagrams become on real paths: a server, a router and a client in network namespaces of their own. Root only.
The client is aioquic's; the server says nothing of sizes, so what the client received is what counts.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import Real, surroundings
from processes import free_port, program, unavailable

HERE = Path(__file__).resolve().parent
ENGINES = {"qh3": 8443, "aioquic": 8444}
CONFIG = """
[server]
workers = 1
[admin]
page = "off"
[log]
access = "off"
""" + "".join(
    f"""
[[listener]]
name = "{engine}"
bind = "0.0.0.0:{port}"
protocols = ["h1", "h2", "h3"]
tls = "dev"
quic = {{ engine = "{engine}" }}
"""
    for engine, port in ENGINES.items()
) + """
[[route]]
app = "h3app:app"
"""
ALONE = CONFIG.partition("[[listener]]")[0] + """
[[listener]]
bind = "127.0.0.1:@PORT@"
protocols = ["h1", "h2", "h3"]
tls = "dev"
quic = { engine = "@ENGINE@" }
[[route]]
app = "h3app:app"
"""
# downloads over one connection until what came is as large as it should be; prints how many came of each size
CLIENT = """
import asyncio, os, socket, subprocess, sys
from collections import Counter
import h3client
host, port, least, most = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
narrower = sys.argv[5:]

class Client(h3client.Client):
    async def move(self):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.transports.append((await self.loop.create_datagram_endpoint(lambda: self, sock=sock))[0])

async def main():
    sizes = Counter()
    async with Client("aioquic", port, host=host) as client:
        client.heard_from = lambda data: sizes.update((len(data),)) or True
        for turn in range(200):
            answer = await client.get("/large/300000")
            assert answer.status == 200 and len(answer.body) == 300000
            largest = max(sizes)
            if narrower and largest > most:
                subprocess.run(narrower, check=True)
                narrower.clear()
                sizes.clear()
            elif not narrower and least <= largest <= most:
                break
            elif not narrower:
                assert largest <= most, largest
    print(dict(sizes))

asyncio.run(main())
"""


class Path3:
    """server 10.77.0.1 -- 10.77.0.2 router 10.78.0.2 -- 10.78.0.1 client; jumbo frames, but for the last link's `mtu`."""

    def __init__(self) -> None:
        self.names = [f"flp{os.getpid()}{part}" for part in "src"]
        server, router, client = self.names
        for name in self.names:
            self.ip("netns", "add", name)
            self.ip("-n", name, "link", "set", "lo", "up")
        for end, net, out in ((server, 77, "s"), (client, 78, "c")):
            self.ip("-n", end, "link", "add", "v", "type", "veth", "peer", "name", out, "netns", router)
            self.ip("-n", end, "addr", "add", f"10.{net}.0.1/24", "dev", "v")
            self.ip("-n", router, "addr", "add", f"10.{net}.0.2/24", "dev", out)
            for space, link in ((end, "v"), (router, out)):
                self.ip("-n", space, "link", "set", link, "mtu", "9000", "up")
            self.ip("-n", end, "route", "add", "default", "via", f"10.{net}.0.2")
        self.inside(router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")

    def ip(self, *words: str) -> None:
        subprocess.run([program("ip"), *words], check=True, capture_output=True)

    def inside(self, name: str, *words: str) -> None:
        subprocess.run(self.argv(name, *words), check=True, capture_output=True)

    def run(self, *words: str) -> None:
        subprocess.run(words, check=True, capture_output=True)

    def argv(self, name: str, *words: str) -> list[str]:
        return [program("ip"), "netns", "exec", name, *words]

    def narrow(self, mtu: int) -> list[str]:
        """The command that makes the link between router and client so narrow."""
        return [program("ip"), "-n", self.names[1], "link", "set", "c", "mtu", str(mtu)]

    def mute(self) -> None:
        """The router says nothing of packets that are too large (ICMP type 3)."""
        rules = "table ip quiet { chain out { type filter hook output priority 0;\nicmp type destination-unreachable drop\n}\n}\n"
        self.inside(self.names[1], program("nft"), rules)

    def marks(self, what: str) -> None:
        """The router counts the marks of what aioquic's server and its client say, then sets the server's to `what`."""
        way = {"sport": ENGINES["aioquic"], "dport": ENGINES["aioquic"]}
        rules = [f"udp {side} {port} ip ecn {mark} counter\n" for side, port in way.items() for mark in ("ect0", "not-ect", "ce")]
        rules.append(f"udp sport {ENGINES['aioquic']} ip ecn ect0 ip ecn set {what}\n" if what else "")
        self.inside(self.names[1], program("nft"), "flush ruleset")
        hook = "type filter hook forward priority 0;"
        self.inside(self.names[1], program("nft"), f"table ip marks {{\nchain over {{\n{hook}\n{''.join(rules)}}}\n}}\n")

    def counted(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Of the server ("sport") and the client ("dport"): how many packets, and bytes, had each mark."""
        argv = self.argv(self.names[1], program("nft"), "list", "ruleset")
        listed = subprocess.run(argv, check=True, capture_output=True, text=True)
        found = re.findall(r"udp ([sd]port) \d+ ip ecn (\S+) counter packets (\d+) bytes (\d+)", listed.stdout)
        assert len(found) == 6, listed.stdout
        return {(side, mark): (int(packets), int(size)) for side, mark, packets, size in found}

    def close(self) -> None:
        for name in self.names:
            subprocess.run([program("ip"), "netns", "del", name], capture_output=True)


@pytest.fixture
def path() -> Iterator[Path3]:
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        unavailable("network namespaces need root")
    made = None
    try:
        made = Path3()
        yield made
    except (subprocess.CalledProcessError, OSError) as error:
        unavailable(f"no network namespaces here: {error}")
    finally:
        if made is not None:
            made.close()


def start(real: Real, path: Path3) -> None:
    home = real.home()
    (home / "h3app.py").write_text((HERE / "apps" / "h3app.py").read_text())
    (home / "fairlead.toml").write_text(CONFIG)
    argv = path.argv(path.names[0], sys.executable, "-P", "-m", "fairlead", "run", "fairlead.toml")
    real.run(*argv, home=home, env=surroundings(home)).says("Ctrl-C")


def download(space: list[str], host: str, port: int, least: int, most: int, *narrower: str) -> dict[int, int]:
    """How many datagrams of each size came, once they are between `least` and `most`."""
    argv = [*space, sys.executable, "-c", CLIENT, host, str(port), str(least), str(most), *narrower]
    env = {**os.environ, "PYTHONPATH": str(HERE)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    return ast.literal_eval(done.stdout)  # type: ignore[no-any-return]


def test_datagrams_become_as_large_as_a_link_behind_a_router_takes_with_and_without_icmp(real, path):
    start(real, path)
    path.run(*path.narrow(1400))
    client = path.argv(path.names[2])
    path.mute()
    for port in ENGINES.values():
        download(client, "10.77.0.1", port, 1365, 1372)
    path.inside(path.names[1], program("nft"), "flush", "ruleset")
    for port in ENGINES.values():
        download(client, "10.77.0.1", port, 1365, 1372)


def test_a_path_that_grows_narrow_under_a_download_is_a_black_hole_and_is_left(real, path):
    start(real, path)
    path.mute()
    for port in ENGINES.values():
        path.run(*path.narrow(9000))
        download(path.argv(path.names[2]), "10.77.0.1", port, 1365, 1372, *path.narrow(1400))


@pytest.mark.parametrize("engine", ENGINES)
def test_on_loopback_datagrams_become_as_large_as_the_setting(real, engine):
    config = ALONE.replace("@ENGINE@", engine)
    server = real.fairlead(config=config, files={"h3app.py": (HERE / "apps" / "h3app.py").read_text()}, port=free_port(), tls=True)
    sizes = download([], "127.0.0.1", server.port, 8900, 8952)
    assert max(sizes) == 8952


def test_congestion_marks_are_counted_told_heard_and_given_up_where_they_do_not_survive(real, path):
    """With gtlsclient of ngtcp2, which marks and counts as well; aioquic's engine only. What the router counts may be several
    packets that the kernel sends as one.
    """
    start(real, path)
    port = str(ENGINES["aioquic"])
    argv = [program("gtlsclient"), "--quiet", "--exit-on-all-streams-close", "--timeout=20s", "10.77.0.1", port]

    def fetch(size: int, what: str = "") -> dict[tuple[str, str], tuple[int, int]]:
        path.marks(what)
        done = real.finish([*path.argv(path.names[2], *argv), f"https://10.77.0.1:{port}/large/{size}"], 60)
        assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
        return path.counted()

    path.run(*path.narrow(1400))
    kept = fetch(1_000_000)
    for side in ("sport", "dport"):  # both find that the other counts right, and mark on
        assert kept[side, "ect0"][0] > 20 and kept[side, "not-ect"][1] < kept[side, "ect0"][1] // 4, kept
    cleared = fetch(1_000_000, "not-ect")
    assert 1 <= cleared["sport", "ect0"][0] <= 10 and cleared["sport", "not-ect"][1] > 900_000, cleared
    congested = fetch(200_000, "ce")  # the rules count before they change
    assert congested["sport", "ect0"][1] > 200_000 and congested["sport", "not-ect"][0] < 10, congested
    # with every packet marked the window is the least, two packets, and no more leave at a time
    at_once = [found["sport", "ect0"][1] / found["sport", "ect0"][0] for found in (congested, kept)]
    assert at_once[0] < 3 * 1400 and at_once[0] < at_once[1], at_once
