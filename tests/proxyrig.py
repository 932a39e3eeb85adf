"""A proxy, a hand-written origin and a client on one event loop: real sockets, no process."""

import asyncio
import socket
from contextlib import asynccontextmanager

from fairlead.core.handler import Observer, Service
from fairlead.core.limits import Limits
from fairlead.net.listen import Listener
from fairlead.net.poll import Poller
from fairlead.serve.forwarded import Trusted
from fairlead.serve.proxy import Options, Proxy
from fairlead.serve.upstream import Settings, Upstream
from fairlead.wire.h1 import H1

SECOND = 1_000_000_000
DEADLINE = 30.0


class Notes(Observer):
    """Remembers the exchanges that are over, and what was raised."""

    def __init__(self):
        self.finished = []
        self.raised = []
        self.open = 0

    def done(self, exchange):
        self.finished.append(exchange)

    def broke(self, exchange, error):
        self.raised.append(error)

    def opened(self, conn):
        self.open += 1

    def closed(self, conn, why):
        self.open -= 1


class Rig:
    """What a test holds: `port`, `upstream`, `proxy`, `notes`, and `origin` with its connections."""

    def __init__(self, poller, listener, port, upstream, proxy, notes, origins):
        self.poller = poller
        self.listener = listener
        self.port = port
        self.upstream = upstream
        self.proxy = proxy
        self.notes = notes
        self.origins = origins

    async def connect(self):
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, data):
        """Send bytes on a new connection, close our side of nothing, and read to the end."""
        reader, writer = await self.connect()
        writer.write(data)
        answer = await asyncio.wait_for(reader.read(), DEADLINE)
        writer.close()
        return answer


class Origin:
    """An origin server: `script(origin, reader, writer)` per connection; `heads` are the requests it read."""

    def __init__(self, script):
        self.script = script
        self.heads = []
        self.connections = 0
        self.server = None
        self.port = 0
        self.writers = []
        self.errors = []

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def serve(self, reader, writer):
        self.connections += 1
        self.writers.append(writer)
        try:
            await self.script(self, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError) as error:
            self.errors.append(error)
        finally:
            writer.close()

    async def head(self, reader):
        """One request head, kept."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        return head

    async def stop(self):
        self.server.close()
        for writer in self.writers:
            if writer.transport is not None and not writer.is_closing():
                writer.transport.abort()


def closed_port():
    """A port on which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


async def until(condition, what="a condition"):
    """Let the loop run until `condition()` holds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + DEADLINE
    while not condition():
        assert loop.time() < end, f"waited too long for {what}"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def rig(*scripts, settings=None, options=None, limits=None, trusted=(), servers=None):
    """A Rig in front of one origin per script, or of `servers`."""
    loop = asyncio.get_running_loop()
    poller = Poller(loop)
    origins = [await Origin(script).start() for script in scripts]
    addresses = servers if servers is not None else [("127.0.0.1", origin.port) for origin in origins]
    upstream = Upstream(poller, "web", addresses, settings if settings is not None else Settings(balance="first"))
    proxy = Proxy(upstream, options if options is not None else Options())
    notes = Notes()
    service = Service(proxy, name="test", clock=poller, limits=limits or Limits(), observer=notes)
    service.forwarded = Trusted(trusted)
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(100)
    sock.setblocking(False)
    listener = Listener(poller, sock, service, lambda conn, alpn: H1(conn, service.limits, common=poller.common))
    listener.start()
    try:
        yield Rig(poller, listener, sock.getsockname()[1], upstream, proxy, notes, origins)
    finally:
        await listener.drain(0.5)
        upstream.retire()
        for origin in origins:
            await origin.stop()
        poller.close()
        sock.close()
    assert not notes.raised, notes.raised
