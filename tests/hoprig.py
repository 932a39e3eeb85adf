"""A front, workers and a client on one event loop: real sockets, real links, no process."""

import asyncio
import socket
from contextlib import asynccontextmanager

from fairlead.core.handler import Handler, Observer, Service
from fairlead.core.slab import Slab
from fairlead.net.listen import Listener
from fairlead.net.poll import Poller
from fairlead.serve.app import App
from fairlead.serve.hop import Dispatcher, Hop, Link
from fairlead.serve.hopend import Entry, Links, link_limits
from fairlead.wire.h1 import H1

try:
    from fairlead.wire import _fast
except ImportError:
    from fairlead.wire import _plain as _fast

APP = 7
CLAIMS = 64
PATIENCE = 30.0


class Notes(Observer):
    """Remembers the exchanges that are over, and what was raised."""

    def __init__(self):
        self.finished, self.raised = [], []

    def done(self, exchange):
        journey = exchange.journey
        self.finished.append((exchange.response and exchange.response.status, journey.steps(), journey.end, journey.attempts))

    def broke(self, exchange, error):
        self.raised.append(error)


class Root(Handler):
    """In place of routing: the path as it came."""

    def __init__(self, hop):
        self.hop = hop

    def open(self, exchange):
        request = exchange.request
        request.raw_path, _, request.query = request.target.partition(b"?")
        request.path = request.raw_path.decode()
        self.hop.open(exchange)


class Far:
    """The worker's end of one link: served by `wake`, or not yet."""

    def __init__(self, rig, place, app):
        self.rig, self.place = rig, place
        rig.generation += 1
        claims = (_fast.Words(rig.slab.region(place).claims(), rig.slab.fd), 0, rig.generation)
        near, self.sock = socket.socketpair()
        for sock in (near, self.sock):
            sock.setblocking(False)
        self.claims = claims
        self.links = Links(rig.poller, Entry({APP: App(app, rig.loop)}), rig.slab.region(place), rig.notes)
        self.link = Link(rig.dispatcher, near.detach(), rig.link_service, place, [APP], claims)
        rig.dispatcher.add(self.link)

    def wake(self):
        """Begin to serve."""
        self.links.open(self.sock.detach(), self.claims)
        return self

    def die(self):
        """As kill -9 leaves it."""
        if self.sock.fileno() >= 0:
            self.sock.close()
        self.links.abort()


class Rig:
    """What a test holds."""

    def __init__(self, loop, most, wait, health, cookie):
        self.loop = loop
        self.poller = Poller(loop)
        self.notes = Notes()
        self.slab = Slab.create(4, claims=CLAIMS)
        self.generation = 0
        self.fars = []
        self.link_service = Service(Handler(), name="hop", clock=self.poller, limits=link_limits())
        self.dispatcher = Dispatcher(self.poller, most, wait, health)
        self.service = Service(Root(Hop(self.dispatcher, APP, cookie)), name="web", clock=self.poller, observer=self.notes)
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.listener = Listener(self.poller, self.sock, self.service, lambda conn, alpn: H1(conn, self.service.limits))
        self.listener.start()

    def worker(self, app, place=None, asleep=False):
        """One worker more."""
        far = Far(self, len(self.fars) if place is None else place, app)
        self.fars.append(far)
        return far if asleep else far.wake()

    async def connect(self):
        return await asyncio.open_connection(*self.sock.getsockname())

    async def get(self, path="/", connection=None, more=b""):
        """(status, head, body) of one GET."""
        reader, writer = connection or await self.connect()
        writer.write(b"GET %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (path.encode(), more))
        answer = await read_answer(reader)
        if connection is None:
            writer.close()
        return answer


async def read_answer(reader):
    """(status, head, body); interim answers are passed over."""
    while True:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        status = int(head.split()[1])
        if status >= 200:
            break
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    if b"content-length" in fields:
        return status, head, await asyncio.wait_for(reader.readexactly(int(fields[b"content-length"])), PATIENCE)
    body = b""
    while fields.get(b"transfer-encoding") == b"chunked":
        size = int(await asyncio.wait_for(reader.readline(), PATIENCE), 16)
        chunk = await reader.readexactly(size)
        body += chunk
        trailer = await reader.readline()
        if not size:
            while trailer.strip():
                body += b"[" + trailer.strip() + b"]"
                trailer = await reader.readline()
            break
    return status, head, body


async def until(condition):
    """Let the loop run until it is true."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to that")


@asynccontextmanager
async def rig(most=100, wait=5_000_000_000, health=(), cookie=b""):
    made = Rig(asyncio.get_running_loop(), most, wait, health, cookie)
    try:
        yield made
    finally:
        made.listener.stop()
        made.sock.close()
        for tcp in list(made.listener.tcps):
            tcp.abort(None)
        made.dispatcher.close()
        for far in made.fars:
            far.die()
        await asyncio.sleep(0)
        made.poller.close()
