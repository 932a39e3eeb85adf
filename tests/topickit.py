"""Topic routes over the memory store, and clients of them: requests, event streams, sockets. No system socket, no process."""

from __future__ import annotations

import asyncio
import json
import zlib

from fairlead.core.errors import Refused
from fairlead.core.handler import Handler
from fairlead.core.limits import Limits
from fairlead.serve import topichooks
from fairlead.serve.feed import Feed
from fairlead.serve.hooks import Hooks
from fairlead.serve.presence import Presence
from fairlead.serve.topicaccess import Access
from fairlead.serve.topicgroups import Groups
from fairlead.serve.topicmatch import Names
from fairlead.serve.topics import TopicOptions, TopicRoute
from fairlead.serve.topicws import Sockets
from fairlead.store.hub import Hub
from fairlead.store.open import open_store
from fairlead.wire import _plain
from recorder import Peer
from wskit import frames_of

JSON = (b"content-type", b"application/json")
STREAM = (b"accept", b"text/event-stream")
KEY = 0x01020304
ROOMY = Limits(outgoing=1 << 30)  # the recorder's carrier takes everything, and never says that it has
HANDSHAKE = [(b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="), (b"sec-websocket-version", b"13")]


class Server(Handler):
    """One worker with a topic route at /t/{topic}. `principal` is what a filter would have found."""

    def __init__(self, store, hub, *, access=None, limits=None, lease=15.0, linger=5.0, **options):
        self.store = store
        self.hub = hub  # a store tells one: here workers share it
        self.feed = Feed(store, self.hub, limits)
        self.names = Names(self.feed)
        self.names.announcing = True
        self.presence = Presence(self.feed, lease, linger)
        self.groups = Groups(store, self.hub)
        self.hooks = Hooks(store, hub=self.hub)
        self.principal = None
        self.route = TopicRoute(
            self.feed, TopicOptions(**{"wait": 5.0, **options}), more=self.more, names=self.names, presence=self.presence,
            access=access or Access(),
        )  # fmt: skip
        self.route.forget = self.hooks.forget
        self.sockets = Sockets(self.route, groups=self.groups)
        self.route.socket = self.sockets.open

    async def more(self, call, topic, rest):
        if rest.startswith("webhooks"):
            await topichooks.answer(self.hooks, call, topic, rest)
        elif rest.startswith("groups"):
            await self.groups.answer(call, topic, rest, self.route)
        else:
            raise Refused("nothing is here", status=404)

    def open(self, exchange):
        exchange.params = {"topic": exchange.request.path.split("/")[2]}
        exchange.principal = self.principal
        self.route.open(exchange)

    def ask(self, method, target="/t/a", body=b"", *headers, handler=None):
        peer = Peer(handler or self, limits=ROOMY)
        peer.ask(method, target.encode(), list(headers), length=len(body))
        if body:
            peer.body(body, True)
        return peer

    async def done(self, method, target="/t/a", body=b"", *headers, handler=None):
        return await answered(self.ask(method, target, body, *headers, handler=handler))

    async def publish(self, *values, topic="a", kind=""):
        more = [(b"fairlead-type", kind.encode())] if kind else []
        peer = await self.done("POST", f"/t/{topic}", json.dumps(list(values)).encode(), JSON, *more)
        assert peer.status == 204, peer.answer
        return header(peer, "stream-next-offset")

    async def act(self, target, said, method="POST"):
        """A JSON request: (status, the answer's value)."""
        peer = await self.done(method, target, json.dumps(said).encode() if said is not None else b"", JSON)
        return peer.status, json.loads(peer.answer) if peer.answer[:1] in (b"{", b"[") else peer.answer

    def socket(self, target="/t/a", *headers, handler=None):
        return SocketPeer(self, target, headers, handler)


class SocketPeer(Peer):
    """A client of `fairlead.v1.json`: `say(frame)`, `next(**want)` is the next frame that has these members."""

    def __init__(self, server, target="/t/a", headers=(), handler=None):
        from fairlead.core.message import Request

        super().__init__(handler or server, limits=ROOMY)
        self.stream += 1
        request = Request("GET", "http", b"shop.example", target.encode(), [*HANDSHAKE, *headers], "1.1", 0)
        request.upgrade = b"websocket"
        request.path, _, query = target.partition("?")
        request.raw_path, request.query = request.path.encode(), query.encode()
        self.seen = 0
        self.conn.in_feed = True
        self.conn.head(self.stream, request, True)
        self.conn.in_feed = False

    def say(self, frame):
        text = frame if isinstance(frame, str) else json.dumps(frame)
        self.conn.in_feed = True
        self.body(_plain.frame(0x81, text.encode(), KEY))
        self.conn.in_feed = False

    def say_packed(self, payload):
        """The same as one deflated message."""
        made = zlib.compressobj(wbits=-12)
        self.conn.in_feed = True
        self.body(_plain.frame(0xC1, (made.compress(payload) + made.flush(zlib.Z_SYNC_FLUSH))[:-4], KEY))
        self.conn.in_feed = False

    def frames(self):
        """All that was said so far: JSON values, and (code, reason) of a Close."""
        found = []
        for first, payload in frames_of(self.answer):
            if first == 0x81:
                found.append(json.loads(payload))
            elif first == 0xC1:
                found.append(json.loads(zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")))
            elif first == 0x88:
                found.append((int.from_bytes(payload[:2], "big"), payload[2:].decode()))
        return found

    async def next(self, **want):
        """The next frame, of those not yet looked at, that has these members (None: any value)."""
        while True:
            frames = self.frames()
            while self.seen < len(frames):
                frame = frames[self.seen]
                self.seen += 1
                if isinstance(frame, dict) and all(k in frame and (v is None or frame[k] == v) for k, v in want.items()):
                    return frame
            await asyncio.sleep(0)

    async def close_frame(self):
        """The Close that was sent."""
        while True:
            if found := [one for one in self.frames() if isinstance(one, tuple)]:
                return found[0]
            await asyncio.sleep(0)

    async def asks(self, number, **word):
        """One frame with an id, and its answer."""
        self.say({"id": number, **word})
        return await self.next(id=number)


async def answered(peer):
    while peer.status is None:
        await asyncio.sleep(0)
    return peer


def header(peer, name):
    value = peer.codec.headers.get(name.encode())
    return None if value is None else value.decode()


async def says(peer, text, count=1):
    """Until the stream has said it so often."""
    while peer.answer.count(text.encode()) < count:
        await asyncio.sleep(0)
    return peer.answer.decode()


def events_of(text):
    """[(id, event, data)] of an event stream's text; an id stays until there is another."""
    found, last = [], ""
    for block in text.split("\n\n"):
        name, data = "", []
        for line in block.split("\n"):
            field, _, value = line.partition(":")
            if field == "id":
                last = value.strip()
            elif field == "event":
                name = value.strip()
            elif field == "data":
                data.append(value)
        if data:
            found.append((last, name, "\n".join(data)))
    return found


async def until(condition):
    """Let the loop run until it is true."""
    while not condition():
        await asyncio.sleep(0)


async def settled():
    """Let the loop run until nothing goes on by itself: what the memory engine sets going needs no time, but some turns."""
    ready = asyncio.get_running_loop()._ready
    await asyncio.sleep(0)
    while ready:
        await asyncio.sleep(0)


def play(story, workers=1, seconds=60, url="memory:", ack=None, **options):
    """A story with one worker, or with several over one store."""

    async def run():
        store = await open_store(url, ack=ack)
        hub = Hub(store)
        servers = [Server(store, hub, **options) for _ in range(workers)]
        try:
            async with asyncio.timeout(seconds):
                await story(*servers)
        finally:
            for server in servers:
                await server.feed.close()
            await store.close()

    asyncio.run(run())
