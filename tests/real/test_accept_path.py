"""The accept path in trouble, inside a network namespace of our own: slow accept and a SYN flood. Root only."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from peers import Real, surroundings
from processes import Process, eventually, program, unavailable

STUCK = """
import time

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/stuck":
        time.sleep(4)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""
CONFIG = """
[server]
workers = 1
pattern = "shared"
backlog = 8
stuck = "none"
[log]
access = "off"
[[listener]]
name = "web"
bind = "10.77.0.1:8000"
[[route]]
app = "stuck:app"
"""
# one request that blocks the worker; once it is read, connections that nobody accepts
CLIENTS = """
import socket
def to():
    sock = socket.socket(); sock.setblocking(False); sock.connect_ex(("10.77.0.1", 8000)); return sock
first = socket.create_connection(("10.77.0.1", 8000))
first.sendall(b"GET /stuck HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
port = ":%04X" % first.getsockname()[1]
while not any(port in line and line.split()[4].endswith(":00000000") and line.split()[2].endswith(port)
              for line in open("/proc/net/tcp").read().splitlines()[1:]):
    pass
rest = [to() for _ in range(30)]
first.settimeout(20)
assert first.recv(99).startswith(b"HTTP/1.1 200")
"""
# SYNs from addresses that nobody has, so that the last step of the handshake never comes
FLOOD = """
import socket, struct
def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
target = socket.inet_aton("10.77.0.1")
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
    for number in range(400):
        source = socket.inet_aton("10.77.0.%d" % (10 + number % 200))
        head = struct.pack("!HHIIBBHHH", 1024 + number, 8000, number, 0, 5 << 4, 2, 64240, 0, 0)
        sum_of = checksum(source + target + struct.pack("!BBH", 0, 6, len(head)) + head)
        head = head[:16] + struct.pack("!H", sum_of) + head[18:]
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, number, 0, 64, 6, 0, source, target)
        raw.sendto(ip + head, ("10.77.0.1", 0))
"""


class Space:
    """A network namespace with one address."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ip("netns", "add", name)
        for words in (
            ("link", "set", "lo", "up"),
            ("link", "add", "v0", "type", "veth", "peer", "name", "v1"),
            ("addr", "add", "10.77.0.1/24", "dev", "v0"),
            ("link", "set", "v0", "up"),
            ("link", "set", "v1", "up"),
        ):
            self.ip("-n", name, *words)

    def ip(self, *words: str) -> None:
        subprocess.run([program("ip"), *words], check=True, capture_output=True)

    def argv(self, *words: str) -> list[str]:
        """A command inside."""
        return [program("ip"), "netns", "exec", self.name, *words]

    def python(self, code: str, *words: str) -> str:
        """Run Python inside to its end."""
        done = subprocess.run(self.argv(sys.executable, "-c", code, *words), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def space() -> Iterator[Space]:
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        unavailable("network namespaces need root")
    try:
        made = Space(f"fl{os.getpid()}")
    except (subprocess.CalledProcessError, OSError) as error:
        unavailable(f"no network namespace here: {error}")
    yield made
    made.ip("netns", "del", made.name)


def serve(real: Real, space: Space) -> Process:
    home = real.home()
    (home / "stuck.py").write_text(STUCK)
    (home / "fairlead.toml").write_text(CONFIG)
    argv = space.argv(sys.executable, "-m", "fairlead", "run", "fairlead.toml")
    server = real.run(*argv, home=home, env=surroundings(home))
    server.says("Ctrl-C")
    return server


def status(real: Real, server: Process) -> dict:
    done = real.command("status", "--json", "--admin", f"unix:{socket_of(server)}", home=server.home)
    return json.loads(done.stdout)


def socket_of(server: Process) -> str:
    return str(server.home / "fairlead-8000.sock")


def test_a_worker_that_accepts_too_slowly_is_seen_and_told(real: Real, space: Space) -> None:
    server = serve(real, space)
    space.python(CLIENTS)
    server.says(r"the accept queue of 10\.77\.0\.1:8000 is nearly full: \d+ of 8")
    server.says(r"\d+ connections were turned away in 10 s: the accept queue of 10\.77\.0\.1:8000 is full")
    path = status(real, server)["accept_path"]
    assert path["since_start"]["overflows"] >= 10 and path["overflowing"] == "10.77.0.1:8000"
    assert "is public" in server.text()  # no loopback address: said at the start


def test_a_syn_flood_is_told_and_others_are_still_served(real: Real, space: Space) -> None:
    space.python("open('/proc/sys/net/ipv4/tcp_syncookies', 'w').write('1')")
    server = serve(real, space)
    space.python(FLOOD)
    server.says(r"the SYN queue is full: \d+ SYN cookies sent")
    ask = (
        "import socket\n"
        "sock = socket.create_connection(('10.77.0.1', 8000), timeout=20)\n"
        "sock.sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(sock.recv(99)[:12])\n"
    )
    assert "HTTP/1.1 200" in space.python(ask)
    shown = subprocess.run(
        space.argv(sys.executable, "-m", "fairlead", "watch", "8000", "--json"), capture_output=True, text=True
    )
    seen = json.loads(shown.stdout)
    assert seen["counters"]["cookies"] > 0 and seen["connections"].get("syn-recv", 0) > 0
    eventually(lambda: status(real, server)["accept_path"]["of_late"]["cookies"] > 0)


def test_a_foreign_socket_on_our_port_is_told_in_log_and_status(real: Real) -> None:
    words = ("--pattern", "reuseport", "--workers", "2", "--page", "off", "--access-log", "off")
    server = real.fairlead("stuck:app", *words, files={"stuck.py": STUCK})
    server.says("Ctrl-C")
    with socket.socket() as theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        theirs.bind(("127.0.0.1", server.port))
        theirs.listen()
        server.says(rf"another socket listens on 127\.0\.0\.1:{server.port} beside ours: .*pid {os.getpid()}")
