"""A load of HTTP/3 requests, by our own client: prints the seconds that it took and how many answers were 200.

    python bench/h3load.py PORT --requests 20000 --connections 10 --streams 10 --path /
    python bench/h3load.py PORT --handshakes 500           # a connection and one request each, 4 at a time
    python bench/h3load.py PORT --handshakes 500 --fresh   # none goes on with the ticket of another
    python bench/h3load.py PORT --hold 500                 # opens them, asks once each, says so, and waits for a line on its input
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from types import SimpleNamespace

from fairlead.core.connection import Owner
from fairlead.core.exchange import Answer
from fairlead.core.handler import Handler, Service
from fairlead.core.journey import Journey
from fairlead.core.limits import SECOND, Limits
from fairlead.core.message import Request
from fairlead.net.dial import Dialer
from fairlead.net.poll import Poller
from fairlead.net.quicdial import QuicClient
from fairlead.wire.h3 import H3

TLS = SimpleNamespace(certificate="", name="localhost", verify=False, ca="")


class Load(Owner):
    """Connections and what they asked; it stands in for the pool that dials."""

    def __init__(self, poller, options):
        self.poller, self.options = poller, options
        limits = Limits(body_rate=0, streams=1000, window=1 << 20, idle=600 * SECOND)
        self.service = Service(Handler(), name="load", clock=poller, limits=limits)
        self.service.scheme = "https"
        self.address = ("127.0.0.1", options.port)
        self.server_name = "localhost"
        self.dial_timeout = 30.0
        self.dialer = Dialer(poller)
        self.client = QuicClient(TLS)
        if options.fresh:
            self.client.keep = lambda name, ticket: None
        self.left = options.requests
        self.good = self.running = self.failed = 0
        self.done = asyncio.get_running_loop().create_future()
        self.ready = []
        self.wanted = options.connections

    def make_codec(self, conn):
        return H3(conn, self.service.limits, client=True)

    def opened(self, opening, conn):
        conn.owner = self
        self.ready.append(conn)
        if self.options.handshakes or self.options.hold:
            self.ask(conn)
        elif len(self.ready) == self.wanted:
            self.began = time.perf_counter()
            for one in self.ready:
                for _ in range(self.options.streams):
                    self.ask(one)

    def undialed(self, opening, error):
        self.failed += 1  # aioquic's server ends a handshake whose first packet was lost
        if self.failed > 20:
            raise SystemExit(f"no connection: {error}")
        self.client.opening(self)

    def gone(self, conn, why):
        if not self.done.done() and self.left and not self.options.handshakes:
            self.done.set_exception(RuntimeError(str(why)))

    def released(self, conn):
        pass

    def ask(self, conn):
        if self.left <= 0:
            return
        self.left -= 1
        self.running += 1
        leg = conn.open_leg(Request("GET", "https", b"localhost", self.options.path.encode(), FIELDS), Journey())
        if leg is None:
            raise SystemExit("the server lets us open no more streams")
        leg.answer = Hearing(self, conn)
        leg.head(leg.request, True)
        conn.flush()

    def over(self, conn, status):
        self.running -= 1
        self.good += status == 200
        if self.options.handshakes:
            conn.carrier.close(None)
            if self.left > 0:
                self.client.opening(self)
        elif not self.options.hold and self.left > 0:
            self.ask(conn)
        if self.running == 0 and self.left <= 0 and not self.done.done():
            self.done.set_result(None)


FIELDS = [(b"user-agent", b"h3load"), (b"accept", b"*/*"), (b"accept-encoding", b"gzip, deflate, br")]


class Hearing(Answer):
    """One request's answer."""

    def __init__(self, load, conn):
        self.load, self.conn, self.status = load, conn, 0

    def head(self, message, end):
        self.status = message.status
        if end:
            self.load.over(self.conn, self.status)

    def data(self, chunk, end):
        if end:
            asyncio.get_running_loop().call_soon(self.load.over, self.conn, self.status)
        return True

    def end(self, trailers):
        asyncio.get_running_loop().call_soon(self.load.over, self.conn, self.status)

    def reset(self, why, side):
        if not self.load.done.done():
            self.load.done.set_exception(RuntimeError(str(why)))

    def room(self):
        pass


async def main(options):
    if options.handshakes or options.hold:
        options.requests = options.handshakes or options.hold
        options.connections = 4 if options.handshakes else options.hold
    load = Load(Poller(asyncio.get_running_loop()), options)
    load.began = time.perf_counter()
    at_once = min(options.connections, options.requests)
    for _ in range(at_once):
        if options.hold:
            await asyncio.sleep(0.002)
        load.client.opening(load)
    await asyncio.wait_for(load.done, 300)
    print(f"{time.perf_counter() - load.began:.3f} {load.good}", flush=True)
    if options.hold:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--requests", type=int, default=10000)
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--handshakes", type=int, default=0)
    parser.add_argument("--hold", type=int, default=0)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--path", default="/")
    asyncio.run(main(parser.parse_args()))
