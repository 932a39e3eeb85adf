"""A client of an upload route over a recorded connection, and a route on a folder and the memory store: for tests of uploads."""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import suppress

from fairlead.serve.uploaddisk import Disk
from fairlead.serve.uploadhttp import UploadRoute
from fairlead.serve.uploads import UploadOptions, Uploads
from fairlead.store.open import open_store
from recorder import Named, Peer

PARTIAL = "application/partial-upload"
STREAM = "application/offset+octet-stream"


class Got:
    """An answer."""

    def __init__(self, peer):
        self.status = peer.status
        self.headers = {name.decode(): value.decode() for name, value in peer.codec.headers.items()} if self.status else {}
        self.body = peer.answer
        self.interims = [dict(word[2]) for word in peer.codec.said if word[0] == "inform" and word[1] == 104]

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def offset(self):
        return int(self.headers["upload-offset"])


class Sending:
    """A request under way: `send` parts of its body, `end` it, or `leave`."""

    def __init__(self, client, method, path, length, principal, headers):
        self.client, self.path = client, path
        self.peer = Peer(Named(client.route, principal))
        fields = [(name.replace("_", "-").lower().encode(), str(value).encode()) for name, value in headers.items()]
        self.request = self.peer.ask(method, path.encode(), fields, length=length)

    def send(self, data, end=False):
        self.peer.body(data, end)
        return self

    async def stored(self, size):
        """Until so many bytes are in the storage."""
        row = await self.client.uploads.find(self.path.rpartition("/")[2], "")
        while row.state == "open" and await self.client.uploads.storage.size(row) < size:
            await asyncio.sleep(0.001)
            row = await self.client.uploads.find(row.id, "")
        return self

    def leave(self):
        self.peer.leave()

    async def answer(self):
        while self.peer.status is None:
            await asyncio.sleep(0.001)
        return Got(self.peer)


class Client:
    """Asks one route."""

    def __init__(self, uploads):
        self.uploads = uploads
        self.route = UploadRoute(uploads, 1)

    def begin(self, method, path, length=0, principal=None, **headers):
        return Sending(self, method, path, length, principal, headers)

    async def ask(self, method, path, body=b"", *, principal=None, chunked=False, **headers):
        sending = self.begin(method, path, -1 if chunked else len(body), principal, **headers)
        if body or chunked:
            sending.send(body, True)
        return await sending.answer()

    def patching(self, path, length, offset=0, complete=True, **more):
        """A PATCH whose body comes later."""
        more |= {"content_type": PARTIAL, "upload_offset": offset, "upload_complete": "?1" if complete else "?0"}
        return self.begin("PATCH", path, length, **more)

    async def head(self, path, **more):
        return await self.ask("HEAD", path, **more)

    async def patch(self, path, body, offset, complete=True, **more):
        more.setdefault("content_type", PARTIAL)
        return await self.ask("PATCH", path, body, upload_offset=offset, upload_complete="?1" if complete else "?0", **more)

    async def tus(self, method, path, body=b"", **more):
        if method == "PATCH":
            more.setdefault("content_type", STREAM)
        return await self.ask(method, path, body, tus_resumable=more.pop("version", "1.0.0"), **more)


def play(story, *, options=None, storage=None, feed=None, before=None, clients=1):
    """Run a story with as many clients, each of a worker of its own on the same store and folder."""

    async def run(folder):
        store = await open_store("memory:")
        made = [
            Uploads(store, storage(folder) if storage else Disk(folder), options or UploadOptions(), "/up")
            for _ in range(clients)
        ]
        for one in made:
            one.feed, one.before = feed, before
            if hasattr(one.storage, "save"):
                one.storage.save = one.write
        try:
            async with asyncio.timeout(30):
                await story(*[Client(one) for one in made])
        finally:
            for one in made:
                with suppress(Exception):
                    await one.close()
            await store.close()

    with tempfile.TemporaryDirectory(prefix="fl-up-") as folder:
        asyncio.run(run(folder))
