"""`fairlead demo`: the example shop over HTTPS, a second application behind a proxy, a chat room that four delivery patterns
join at once, a pipeline of upload, job and topic, a report that is a job, a little traffic, and the journey page.

Everything is on loopback and ends with Ctrl-C. The traffic comes from a child process (`python -m
fairlead.run.demo`), a handful of requests per second, some on kept connections, some on new ones, one of them reading
slowly.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from fairlead.core.errors import FairleadError
from fairlead.run import config as c
from fairlead.run.units import Address

EXAMPLES = """examples:
  fairlead demo
  fairlead demo --seconds 30      stop by itself
"""
CONFIG = """
[server]
workers = 2
grace = "3s"
[log]
access = "{access}"
[store]
url = "sqlite:///{folder}/demo.db"
[[listener]]
name = "shop"
bind = [{binds}]
protocols = [{protocols}]
tls = "dev"
socket = {{ sndbuf = "64KiB" }}  # small, so that a slow reader shows as `client`, not as the kernel's patience
[[listener]]
name = "plain"
bind = "127.0.0.1:{http}"
[[route]]
path = "/old"
redirect = "/items"
[[route]]
path = "/hello"
respond = "hello\\n"
[[route]]
path = "/stock/*"
proxy = "stock"
[[route]]
path = "/rooms/{{topic}}"
topic = {{ keep = "1h", max = 1000 }}
[[route]]
path = "/chat/*"
files = {{ dir = "{chat}", index = ["room.html"], cache_control = "no-cache" }}
[[route]]
path = "/pipeline/files/*"
upload = {{ dir = "{folder}/uploads", max = "2GiB", publish = "pipeline", job = "fairlead.run.pipeline.work:compress" }}
[[route]]
path = "/pipeline/news"
topic = {{ name = "pipeline", keep = "1h" }}
[[route]]
path = "/pipeline/made/*"
files = "{folder}/made"
[[route]]
path = "/pipeline/*"
files = {{ dir = "{pipeline}", index = ["pipeline.html"], cache_control = "no-cache" }}
[[route]]
path = "/jobs/reports"
job = {{ run = "fairlead.run.reports.reports:build", workers = 4 }}
[[route]]
path = "/reports/slow"
app = "fairlead.run.reports.reports:app"
filters = ["respond-async"]
[[route]]
path = "/reports/*"
files = {{ dir = "{reports}", index = ["reports.html"], cache_control = "no-cache" }}
[[route]]
path = "/*"
app = "fairlead.run.shop.app:app"
[[upstream]]
name = "stock"
servers = ["unix:{stock}"]
"""
PATHS = (
    "/",
    "/items",
    "/items",
    "/items/3",
    "/items/5",
    "/items/99",
    "/stock/3",
    "/stock/7",
    "/report",
    "/events",
    "/old",
)


def register(subparsers: Any) -> None:
    """Add `demo` to the command line."""
    demo = subparsers.add_parser(
        "demo", help="everything at once on loopback, with a page that shows it", epilog=EXAMPLES
    )
    demo.add_argument(
        "--seconds", type=float, default=0, metavar="N", help="stop after this time (default: with Ctrl-C)"
    )
    demo.add_argument(
        "--access-log", default="off", metavar="FILE", help="a file, - for standard output, or off (default: off)"
    )
    demo.add_argument("--quiet", action="store_true", help="generate no traffic")
    demo.add_argument("--open", action="store_true", help="open the page in a browser")
    demo.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`fairlead demo`."""
    if find_spec("fastapi") is None:
        raise FairleadError("the demo's shop needs FastAPI", hint="pip install 'fairlead[demo]'")
    with tempfile.TemporaryDirectory(prefix="fairlead-demo-") as folder:
        return Demo(args, folder).run()


class Demo:
    """One demo: the server, the application behind it, and the traffic."""

    def __init__(self, args: argparse.Namespace, folder: str) -> None:
        self.args = args
        self.folder = folder
        self.stock = os.path.join(folder, "stock.sock")
        self.children: list[subprocess.Popen[bytes]] = []
        self.https, self.http = free(8443), free(8080)
        self.h3 = find_spec("qh3") is not None

    def config(self) -> c.Config:
        """What the demo serves; the same text is shown by `--help` readers in docs/guide/running.md."""
        from fairlead.run.load import loads

        here = os.path.dirname(__file__)
        chat, pipeline = os.path.join(here, "chat"), os.path.join(here, "pipeline", "page")
        reports = os.path.join(here, "reports", "page")
        os.makedirs(os.path.join(self.folder, "made"), exist_ok=True)
        text = CONFIG.format(
            binds=", ".join(f'"{host}:{self.https}"' for host in loopbacks()),
            http=self.http, stock=self.stock, access=self.args.access_log, folder=self.folder,
            chat=chat, pipeline=pipeline, reports=reports,
            protocols='"h1", "h2", "h3"' if self.h3 else '"h1", "h2"',
        )  # fmt: skip
        config = loads(text, "the demo")
        return replace(config, admin=replace(config.admin, page=Address("127.0.0.1", 9900)))

    def run(self) -> int:
        """Serve until Ctrl-C, or for so many seconds."""
        from fairlead.run.master import Master

        self.start("stock", self.stock)
        try:
            return Master(self.config(), None, self.announce).run()
        finally:
            for child in self.children:
                child.terminate()
            for child in self.children:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(5)
                child.kill()

    def start(self, *words: str) -> None:
        """A child in a process group of its own, so that Ctrl-C reaches us alone; it ends when we do."""
        command = [sys.executable, "-m", "fairlead.run.demo", *words]
        self.children.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0))

    def ways_over_quic(self, base: str) -> str:
        """How a browser is made to: for QUIC, Chromium trusts no CA but public ones unless it is told to (docs/guide/http3.md)."""
        if not self.h3:
            return ""
        from fairlead.net.certs import dev_ca, pin

        return f"""
Over HTTP/3:
  curl -k --http3-only {base}/items              where `curl -V` names HTTP3
  chromium --user-data-dir={self.folder}/chromium --origin-to-force-quic-on=localhost:{self.https} \\
    --ignore-certificate-errors-spki-list={pin(dev_ca().leaf()[0])} {base}/items
"""

    def announce(self, master: Any) -> None:
        """The URLs and things to try; then the traffic."""
        from fairlead.net.certs import dev_ca

        ca = dev_ca().ca_path
        base, page = f"https://localhost:{self.https}", master.admin.page_url
        over = "the same address (see below)" if self.h3 else "not without: pip install 'fairlead[h3]'"
        print(f"""The Fairlead demo is running.

  the journey page   {page}   (token {master.admin.token})
  the shop           {base}/          (HTTPS with the development CA)
  over HTTP/3        {over}
  without TLS        http://localhost:{self.http}/
  a second app       {base}/stock/1   (proxied over a unix socket)
  a chat room        {base}/chat/     (one room by WebSocket, event stream, long poll and poll)
  a pipeline         {base}/pipeline/ (resumable upload, job, topic)
  a slow report      {base}/reports/  (a job, watched in the same four ways, cancelled, run again)

Try:
  curl --cacert {ca} -i {base}/items
  curl -k {base}/report         slow: sql
  curl -k {base}/stock/1        pool, dial, upstream
  curl -k -T FILE {base}/pipeline/files/   the pipeline's page hears of it
  fairlead job submit {base}/jobs/reports '{{"month": "May"}}' --wait 20s
  fairlead topic follow http://localhost:{self.http}/rooms/lobby
  fairlead status                               the same in the terminal
{self.ways_over_quic(base)}
Ctrl-C stops it.""", flush=True)  # fmt: skip
        if not self.args.quiet:
            self.start("traffic", str(self.https), ca)
        if self.args.open:
            import webbrowser

            webbrowser.open(page)
        if self.args.seconds:
            timer = threading.Timer(self.args.seconds, os.kill, (os.getpid(), signal.SIGTERM))
            timer.daemon = True
            timer.start()


def loopbacks() -> list[str]:
    """The addresses of `localhost` here. Chromium asks ::1 first, and over QUIC nobody else when that refuses it."""
    with suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return ["127.0.0.1", "[::1]"]
    return ["127.0.0.1"]


def free(wanted: int) -> int:
    """The wanted port if nobody has it, on TCP or UDP, else the next one that is free."""
    for port in range(wanted, wanted + 100):
        try:
            for host in loopbacks():
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    with socket.socket(socket.AF_INET6 if host[0] == "[" else socket.AF_INET, kind) as sock:
                        if kind == socket.SOCK_STREAM:
                            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        sock.bind((host.strip("[]"), port))
        except OSError:
            continue
        return port
    raise FairleadError(f"no free port from {wanted} on", hint="stop another server")


# ---- the traffic


async def traffic(port: int, context: ssl.SSLContext) -> None:
    """A few visitors, until somebody stops us."""
    await asyncio.gather(*(visitor(port, context) for _ in range(3)), slow_reader(port, context))


async def visitor(port: int, context: ssl.SSLContext) -> None:
    """Comes, looks at some pages on one connection, leaves, comes again."""
    while True:
        with suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
            reader, writer = await asyncio.open_connection("localhost", port, ssl=context, family=socket.AF_INET)
            for _ in range(random.randrange(2, 9)):
                await asyncio.sleep(random.expovariate(2))
                await ask(reader, writer, random.choice(PATHS))
            writer.close()
        await asyncio.sleep(0.5)


async def slow_reader(port: int, context: ssl.SSLContext) -> None:
    """Takes a large answer slowly: the time spent waiting for a client."""
    while True:
        await asyncio.sleep(7)
        with suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            reader, writer = await asyncio.open_connection(
                sock=sock, ssl=context, server_hostname="localhost", limit=4096
            )
            writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while await reader.read(65536):
                await asyncio.sleep(0.02)
            writer.close()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
    """One request and its whole answer."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"content-length:" in head:
        await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        return
    while size := int(await reader.readuntil(b"\r\n"), 16):
        await reader.readexactly(size + 2)
    await reader.readuntil(b"\r\n")


def stock(path: str) -> None:
    """The second application, quiet and without an admin socket of its own."""
    from fairlead.run.serving import serve

    os.environ["FAIRLEAD_ADMIN_BIND"] = "off"
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    serve(
        "fairlead.run.shop.stock:app",
        f"unix:{path}",
        pattern="single",
        page="off",
        access_log="off",
        server_timing="off",
    )


def main() -> None:
    """The children of the demo."""
    from fairlead.run.worker import die_with_master

    die_with_master()
    with suppress(KeyboardInterrupt):
        if sys.argv[1] == "stock":
            stock(sys.argv[2])
        else:
            asyncio.run(traffic(int(sys.argv[2]), ssl.create_default_context(cafile=sys.argv[3])))


if __name__ == "__main__":
    main()
