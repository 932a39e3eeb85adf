"""One event to many subscribers of server-sent events: CPU per delivery, latency, memory per idle subscriber; beside nchan.

    python bench/topics.py [--subscribers 1000] [--events 50] [--idle 5000]

Fairlead is the one that is installed for this Python; nchan (Debian: libnginx-mod-nchan) is left out when nginx cannot load it. CPU
is utime + stime of the server's processes over deliveries. Server and subscribers share the machine: read ratios, not absolutes.
"""

from __future__ import annotations

import argparse
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
TOML = """
[server]
workers = 1
pattern = "single"
[[listener]]
bind = "127.0.0.1:{port}"
[store]
url = "memory:"
[log]
access = "off"
[[route]]
path = "/t/{{topic}}"
topic = {{}}
"""
NGINX = """
load_module modules/ngx_nchan_module.so;
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 20000; }}
http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; location /t/ {{ nchan_pubsub; nchan_channel_id $uri; }} }} }}
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


def join(port: int) -> socket.socket:
    """A subscriber of server-sent events."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    sock.sendall(b"GET /t/a HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\n\r\n")
    sock.recv(4096)
    return sock


def publish(port: int, body: bytes) -> None:
    """One event."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        head = b"POST /t/a HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        sock.sendall(head + body)
        assert b" 20" in sock.recv(4096)[:13]


def fan_out(port: int, pid: int, subscribers: int, events: int) -> tuple[float, float, float]:
    """(CPU us per delivery, median and 99th percentile in ms from before the publish)."""
    selector = selectors.DefaultSelector()
    publish(port, b'"first"')
    peers = [join(port) for _ in range(subscribers)]
    for sock in peers:
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
    while ready := selector.select(0.5):
        for key, _ in ready:
            key.fileobj.recv(65536)  # type: ignore[union-attr]
    times: list[float] = []
    before = cpu(pid)
    for n in range(events):
        mark = b"mark-%06d" % n
        began = time.perf_counter()
        publish(port, b'"%b"' % mark)
        missing = subscribers
        while missing:
            for key, _ in selector.select(10):
                if mark in key.fileobj.recv(65536):  # type: ignore[union-attr]
                    missing -= 1
                    times.append(time.perf_counter() - began)
    used = cpu(pid) - before
    times.sort()
    for sock in peers:
        sock.close()
    return used / len(times) * 1e6, times[len(times) // 2] * 1e3, times[len(times) * 99 // 100] * 1e3


def idle(port: int, pid: int, count: int) -> float:
    """Bytes of the server's for each idle subscriber."""
    before = rss(pid)
    peers = [join(port) for _ in range(count)]
    time.sleep(1)
    held = (rss(pid) - before) / count
    for sock in peers:
        sock.close()
    return held


def served(name: str, command: list[str], port: int, options: argparse.Namespace) -> None:
    """Measure one server."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                publish(port, b"0")
                break
            except (OSError, AssertionError):
                if server.poll() is not None or time.monotonic() > deadline:
                    print(f"{name:<10} did not start")
                    return
                time.sleep(0.1)
        held = idle(port, server.pid, options.idle)
        for _ in range(options.rounds):
            each, half, most = fan_out(port, server.pid, options.subscribers, options.events)
            print(f"{name:<10} {each:7.1f} us/delivery   p50 {half:6.1f} ms   p99 {most:6.1f} ms   idle {held / 1024:5.1f} KiB")
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()


def main() -> None:
    """Both, in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--events", type=int, default=50)
    parser.add_argument("--idle", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        port, other = free_port(), free_port()
        (Path(folder) / "fairlead.toml").write_text(TOML.format(port=port))
        (Path(folder) / "nginx.conf").write_text(NGINX.format(port=other, folder=folder))
        served("fairlead", [sys.executable, "-P", "-m", "fairlead", "run", f"{folder}/fairlead.toml"], port, options)
        served("nchan", ["nginx", "-p", "/usr/share/nginx", "-c", f"{folder}/nginx.conf"], other, options)


if __name__ == "__main__":
    main()
