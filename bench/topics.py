"""One event to many subscribers: CPU per delivery, latency, memory per idle subscriber; beside nchan and Pushpin.

    python bench/topics.py [--subscribers 1000] [--events 50] [--idle 10000] [--rounds 3] [--peers fairlead,nchan,pushpin]
    python bench/topics.py --kinds websocket --deflate --size 1000   sockets that offer permessage-deflate
    python bench/topics.py --latency        publish to receive, one at a time, on one machine
    python bench/topics.py --nodes          from a publish at one server to a subscriber of another, over Redis and PostgreSQL

Fairlead is the one that is installed for this Python; nchan and Pushpin (Debian: libnginx-mod-nchan, pushpin) are left out when
they do not start. All are started at first and measured in turn, round by round, by event streams and, where they have them,
WebSockets; Pushpin by its built-in test origin. CPU is utime + stime of a server's processes over deliveries. Server and
subscribers share the machine: read ratios, not absolutes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

OFFER = b"sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n"
TICK = os.sysconf("SC_CLK_TCK")
TOML = """
[server]
workers = 1
pattern = "single"
[[listener]]
bind = "127.0.0.1:{port}"
[store]
url = "{store}"
[log]
access = "off"
[[route]]
path = "/t/{{topic}}"
topic = {{}}
"""
NGINX = """
load_module modules/ngx_nchan_module.so;
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 30000; }}
http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; location /t/ {{
    nchan_pubsub; nchan_channel_id $uri; nchan_deflate_message_for_websocket on; }} }} }}
"""
PUSHPIN = """
[global]
include=/usr/lib/pushpin/internal.conf
rundir={folder}
ipc_prefix=bench-
[runner]
services=condure,pushpin-proxy,pushpin-handler
http_port={port}
logdir={folder}
log_level=1
client_buffer_size=8192
client_maxconn=50000
[proxy]
routesfile={folder}/routes
sig_key=changeme
[handler]
push_in_http_addr=127.0.0.1
push_in_http_port={control}
push_in_http_max_headers_size=10000
push_in_http_max_body_size=1000000
message_rate=1000000
message_hwm=1000000
connection_subscription_max=20
stats_spec=ipc://{{rundir}}/{{ipc_prefix}}stats
command_spec=ipc://{{rundir}}/{{ipc_prefix}}command
"""


def free_port() -> int:
    """A port nobody has."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += family(int(one))
    return found


def cpu(pid: int) -> float:
    """Seconds of CPU that they used."""
    total = 0
    for one in family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def rss(pid: int) -> int:
    """Bytes of memory that they hold."""
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in family(pid))
    return pages * os.sysconf("SC_PAGE_SIZE")


class Peer:
    """A server with a topic, and how one follows it and publishes."""

    name, path, kinds = "fairlead", "/t/a", ("sse", "websocket")
    upgrade = (
        b"upgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    )
    offer = b""  # of an extension

    def __init__(self, folder: Path, store: str = "memory:") -> None:
        self.folder, self.store, self.port = folder, store, free_port()
        self.folder.mkdir(exist_ok=True)
        os.chmod(folder, 0o777)
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """How it is started."""
        (self.folder / "fairlead.toml").write_text(TOML.format(port=self.port, store=self.store))
        return [sys.executable, "-P", "-m", "fairlead", "run", f"{self.folder}/fairlead.toml"]

    def start(self) -> bool:
        """Whether it answers within half a minute."""
        env = {**os.environ, "XDG_RUNTIME_DIR": str(self.folder)}
        try:
            self.process = subprocess.Popen(self.command(), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError:
            return False
        deadline = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                self.publish(b"0")
                return True
            except (OSError, AssertionError):
                time.sleep(0.1)
        return False

    def stop(self) -> None:
        """End it."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def pid(self) -> int:
        """Of its first process."""
        assert self.process is not None
        return self.process.pid

    def join(self, kind: str) -> socket.socket:
        """A subscriber."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        wants = self.upgrade + self.offer if kind == "websocket" else b"accept: text/event-stream\r\n"
        sock.sendall(b"GET %b HTTP/1.1\r\nhost: a\r\n%b\r\n" % (self.path.encode(), wants))
        sock.recv(4096)
        return sock

    def publish(self, value: bytes) -> None:
        """One event, on a connection of its own."""
        self.post(self.port, self.path, b"application/json", b'"%b"' % value)

    def post(self, port: int, path: str, kind: bytes, body: bytes) -> None:
        """One request that must be taken."""
        with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
            head = f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {kind.decode()}\r\ncontent-length: {len(body)}\r\n\r\n"
            sock.sendall(head.encode() + body)
            assert b" 20" in sock.recv(4096)[:13]


class Nchan(Peer):
    """nginx with nchan."""

    name = "nchan"

    def command(self) -> list[str]:
        (self.folder / "nginx.conf").write_text(NGINX.format(port=self.port, folder=self.folder))
        return ["nginx", "-p", "/usr/share/nginx", "-c", f"{self.folder}/nginx.conf"]


class Pushpin(Peer):
    """Pushpin, whose test origin holds /stream on the channel `test`."""

    name, path, kinds = "pushpin", "/stream", ("sse",)

    def command(self) -> list[str]:
        self.control = free_port()
        (self.folder / "routes").write_text("* test\n")
        (self.folder / "conf").write_text(PUSHPIN.format(port=self.port, control=self.control, folder=self.folder))
        return ["pushpin", f"--config={self.folder}/conf"]

    def publish(self, value: bytes) -> None:
        item = {"channel": "test", "formats": {"http-stream": {"content": f"data: {value.decode()}\n\n"}}}
        self.post(self.control, "/publish/", b"application/json", json.dumps({"items": [item]}).encode())


PEERS = {peer.name: peer for peer in (Peer, Nchan, Pushpin)}


def fan_out(peer: Peer, kind: str, subscribers: int, events: int, size: int = 0) -> tuple[float, float, float, float]:
    """(CPU us per delivery, median and 99th percentile in ms from before the publish, bytes of a delivery)."""
    text = b" ".join(b"word%d" % (n * n % 97) for n in range(size // 6))  # as prose is: with repetitions
    clear, got = kind != "websocket" or not peer.offer, 0
    selector = selectors.DefaultSelector()
    peer.publish(b"first")
    socks = [peer.join(kind) for _ in range(subscribers)]
    for sock in socks:
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
    while ready := selector.select(0.5):
        for key, _ in ready:
            key.fileobj.recv(65536)  # type: ignore[union-attr]
    times: list[float] = []
    before = cpu(peer.pid)
    for n in range(events):
        mark = b"mark-%06d" % n
        began = time.perf_counter()
        peer.publish(mark + text)
        missing = subscribers
        while missing:
            for key, _ in selector.select(10):
                said = key.fileobj.recv(65536)  # type: ignore[union-attr]
                got += len(said)
                if mark in said or not clear:
                    missing -= 1
                    times.append(time.perf_counter() - began)
    used = cpu(peer.pid) - before
    times.sort()
    for sock in socks:
        sock.close()
    return used / len(times) * 1e6, times[len(times) // 2] * 1e3, times[len(times) * 99 // 100] * 1e3, got / len(times)


def idle(peer: Peer, kind: str, count: int) -> float:
    """Bytes of the server's for each idle subscriber."""
    before = rss(peer.pid)
    socks = [peer.join(kind) for _ in range(count)]
    time.sleep(1)
    held = (rss(peer.pid) - before) / count
    for sock in socks:
        sock.close()
    time.sleep(1)
    return held


def received(publisher: Peer, subscriber: Peer, kind: str, events: int) -> list[float]:
    """Seconds from before a publish at one to the event at a subscriber of the other, sorted."""
    publisher.publish(b"first")
    sock = subscriber.join(kind)
    time.sleep(0.3)
    times = []
    for n in range(events):
        mark = b"mark-%06d" % n
        began = time.perf_counter()
        publisher.publish(mark)
        while mark not in sock.recv(65536):
            pass
        times.append(time.perf_counter() - began)
        time.sleep(0.005)
    sock.close()
    return sorted(times)


def beside(options: argparse.Namespace, folder: Path) -> None:
    """All peers, in turn."""
    with ExitStack() as stack:
        peers = []
        for name in options.peers.split(","):
            peer = PEERS[name](folder / name)
            peer.offer = OFFER if options.deflate else b""
            stack.callback(peer.stop)
            if peer.start():
                peers.append(peer)
            else:
                print(f"{name:<10} did not start")
        for kind in options.kinds.split(","):
            there = [peer for peer in peers if kind in peer.kinds]
            if options.idle:
                for peer in there:
                    held = idle(peer, kind, options.idle) / 1024
                    print(f"{peer.name:<10} {kind:<10} {held:5.1f} KiB each of {options.idle} idle", flush=True)
            for _ in range(options.rounds):
                for peer in there:
                    each, half, most, size = fan_out(peer, kind, options.subscribers, options.events, options.size)
                    told = f"{each:6.1f} us/delivery   p50 {half:6.1f} ms   p99 {most:6.1f} ms   {size:6.0f} bytes"
                    print(f"{peer.name:<10} {kind:<10} {told}", flush=True)


def show(what: str, times: list[float]) -> None:
    """Median and 99th percentile."""
    half, most = statistics.median(times) * 1e3, times[len(times) * 99 // 100] * 1e3
    print(f"{what:<46} p50 {half:6.2f} ms   p99 {most:6.2f} ms", flush=True)


def latency(options: argparse.Namespace, folder: Path) -> None:
    """Publish to receive on one machine, by memory and by SQLite with its sync."""
    for store in ("memory:", f"sqlite:///{folder}/store.db"):
        peer = Peer(folder / "one", store)
        try:
            assert peer.start()
            for kind in options.kinds.split(","):
                show(f"publish to receive, {store.partition(':')[0]}, {kind}", received(peer, peer, kind, options.events * 5))
        finally:
            peer.stop()


def nodes(options: argparse.Namespace, folder: Path) -> None:
    """From one server to another over an engine that they share."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "store"))
    from servers import PostgresServer, RedisServer, running

    for name, made in (("redis", RedisServer), ("postgresql", PostgresServer)):
        with ExitStack() as stack:
            engine = stack.enter_context(running(made(folder / name)))
            two = [Peer(folder / f"{name}-{n}", engine.url) for n in "ab"]
            for peer in two:
                stack.callback(peer.stop)
                assert peer.start()
            show(f"two servers over {name}, one as publisher", received(two[0], two[1], "sse", options.events * 5))


def main() -> None:
    """As the options say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--events", type=int, default=50)
    parser.add_argument("--idle", type=int, default=10000, help="0: not measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--kinds", default="sse,websocket")
    parser.add_argument("--deflate", action="store_true", help="sockets offer permessage-deflate")
    parser.add_argument("--size", type=int, default=0, help="bytes of an event, beside its mark")
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--nodes", action="store_true")
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        work = nodes if options.nodes else latency if options.latency else beside
        work(options, Path(folder))


if __name__ == "__main__":
    main()
