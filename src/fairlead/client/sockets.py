"""Many topics on one WebSocket (`fairlead.v1.json`), over any number of connections.

    async with client.socket() as socket:
        await socket.follow("orders", after="-1")
        await socket.follow("stock")
        await socket.publish("stock", {"sku": 7}, key="7")
        async for event in socket:                  # of all of them; event.topic says which
            ...

Rules
1. One task dials, reads, and dials again; whoever uses the socket notices no loss. After a loss each topic is asked for again from
   its last offset, and each publish that has no answer is said again, with the dedupe key that it had.
2. Events wait in one queue, of at most WAITING; while it is full nothing is read, and the server's own rule for slow readers
   applies (TCP carries the back-pressure).
3. A Gap is put into the queue in its place: iteration raises it, or tells `on_gap` and goes on.
4. `follow` returns when the server has said from where on; what it refuses later (a topic that was deleted, rights that are gone)
   is a ServerError raised by the iteration.
5. When every topic has ended the iteration ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from fairlead.client.http import Line, Server
from fairlead.client.words import Backoff, Ended, Event, Gap, ServerError, event_of, gap_of, passing
from fairlead.core.errors import FairleadError, NetError
from fairlead.core.limits import WebSocketLimits
from fairlead.wire import wshand
from fairlead.wire.ws import Ear, WebSocket

PROTOCOL = "fairlead.v1.json"
WAITING = 10_000  # events
NEVER = 3500  # a close that says: do not come again
LIMITS = WebSocketLimits(message=64 << 20)
Told = Callable[[Gap], None]


class Asked:
    """A frame that waits for its answer. `again`: it may be said a second time."""

    def __init__(self, frame: dict[str, Any], again: bool) -> None:
        self.frame, self.again = frame, again
        self.done: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()


class Talk(Ear):
    """One connection's codec, and what it heard."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.ws: Any = WebSocket(self, LIMITS, True, None, lambda: int.from_bytes(os.urandom(4)), time.monotonic_ns())
        self.frames: deque[dict[str, Any]] = deque()
        self.over: tuple[int, str] | None = None

    def text(self, message: str) -> bool:
        self.frames.append(json.loads(message))
        return True

    def binary(self, message: bytes) -> bool:
        return True

    def closed(self, code: int, reason: str) -> None:
        self.over = (code, reason)

    def say(self, frame: dict[str, Any]) -> None:
        """A frame into the transport."""
        self.ws.now = time.monotonic_ns()
        self.ws.text(json.dumps(frame, ensure_ascii=False, separators=(",", ":"), allow_nan=False))
        self.push()

    def push(self) -> None:
        """What the codec has, into the transport."""
        for piece in self.ws.take() or ():
            self.line.writer.write(piece)

    async def hear(self) -> None:
        """Read once, or let the codec look at the time. NetError at the end."""
        due = self.ws.deadline()
        try:
            async with asyncio.timeout(max((due - time.monotonic_ns()) / 1e9, 0.0) if due else None):
                data = await self.line.reader.read(1 << 16)
        except TimeoutError:
            self.ws.tick(time.monotonic_ns())
        except OSError as error:
            raise NetError(f"{error}", step="receive", side="upstream") from error
        else:
            now = time.monotonic_ns()
            self.ws.feed(data, now) if data else self.ws.eof(now)
            if not data and self.over is None:
                self.over = (1006, "")
        self.push()
        if self.over is not None and not self.frames:
            raise NetError(f"the socket was closed: {self.over[0]} {self.over[1]}".rstrip(), step="receive", side="upstream")


async def dial(server: Server, target: bytes, timeout: float) -> Talk:
    """A new WebSocket. NetError, ServerError."""
    try:
        async with asyncio.timeout(timeout):
            line = await server.connect()
            try:
                return await shake(server, line, target)
            except BaseException:
                line.close()
                raise
    except TimeoutError:
        raise NetError(f"no WebSocket within {timeout:g} s", step="receive", side="upstream", status=504) from None


async def shake(server: Server, line: Line, target: bytes) -> Talk:
    """The handshake."""
    request = wshand.ask(
        server.place.authority, target, os.urandom(16), scheme=server.place.scheme,
        headers=[(b"host", server.place.authority), *server.headers], offered=[PROTOCOL],
    )  # fmt: skip
    line.codec.head(line.codec.open_stream(), request, True)
    line.push()
    while line.heard.message is None:
        await line.more(3600.0)
    response = line.heard.message
    if response.status != 101:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
        text = b"".join(line.heard.parts)[:300].decode("utf-8", "replace").strip()
        raise ServerError(f"the server answered {response.status} instead of a WebSocket: {text}", response.status, headers)
    try:
        wshand.verify(request, response, [PROTOCOL])
    except FairleadError as error:
        raise ServerError(f"this is no topic's WebSocket: {error}", 502) from error
    talk = Talk(line)
    for part in line.heard.parts:  # said right behind the handshake
        talk.ws.feed(part, time.monotonic_ns())
    return talk


class Socket:
    """See the top. `target` is the path that is dialed; made by `Client.socket`."""

    def __init__(self, server: Server, target: bytes, *, patience: float = 30.0, on_gap: Told | None = None) -> None:
        self.server, self.target, self.patience, self.on_gap = server, target, patience, on_gap
        self.places: dict[str, str] = {}  # topic: the offset to go on from
        self.asked: dict[int, Asked] = {}
        self.queue: deque[Event | FairleadError] = deque()
        self.there, self.room = asyncio.Event(), asyncio.Event()
        self.number = 0
        self.talk: Talk | None = None
        self.open = asyncio.Event()
        self.backoff = Backoff()
        self.failed: FairleadError | None = None
        self.task: asyncio.Task[None] | None = None
        self.followed_any = False

    async def __aenter__(self) -> Socket:
        self.task = asyncio.create_task(self.live())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # ---- what is wanted

    async def follow(self, topic: str, after: str = "now") -> str:
        """Its events come in the iteration, from `after` on: an offset, "-1" or "now". A second time: from somewhere else.

        The offset from which on it is. ServerError, NetError, and Gap when there is no `on_gap`.
        """
        said = await self.ask({"sub": {"topic": topic, "after": after}}, again=True)
        return str(said["next"])

    async def unfollow(self, topic: str) -> None:
        """No more of it."""
        if self.places.pop(topic, None) is not None and self.talk is not None:
            with suppress(FairleadError):
                await self.ask({"unsub": topic})

    async def publish(
        self, topic: str, value: Any, *, type: str = "", key: str = "", dedupe: str | None = None, content_type: str = ""
    ) -> str:
        """Append one event, once; its offset. Bytes go as they are, anything else as a JSON value. ServerError, NetError."""
        from uuid import uuid4

        given: dict[str, Any] = {"topic": topic, "dedupe": dedupe or uuid4().hex}
        given |= {name: text for name, text in (("type", type), ("key", key), ("content_type", content_type)) if text}
        given |= payload(value)
        said = await self.ask({"pub": given}, again=True)
        return str(said["o"])

    async def ask(self, frame: dict[str, Any], again: bool = False, patience: float | None = None) -> dict[str, Any]:
        """One frame and its answer: claim, ack, nack, extend, term, … ServerError, NetError."""
        most = self.patience if patience is None else patience
        try:
            async with asyncio.timeout(most):
                if not again:
                    await self.open.wait()
                if self.failed is not None:
                    raise self.failed
                asked = Asked(frame, again)
                self.number += 1
                number = self.number
                self.asked[number] = asked
                if self.talk is not None:
                    self.talk.say({"id": number, **frame})
                try:
                    return await asked.done
                finally:
                    self.asked.pop(number, None)
        except TimeoutError:
            raise NetError(f"no answer within {most:g} s; it may have been done", step="receive", side="upstream") from None

    def subscribe(self, topic: str) -> None:
        """Ask for a topic on this connection."""
        assert self.talk is not None
        self.number += 1
        asked = self.asked[self.number] = Asked({}, False)
        self.talk.say({"id": self.number, "sub": {"topic": topic, "after": self.places[topic]}})
        asked.done.add_done_callback(lambda done: self.subscribed(topic, done))

    def subscribed(self, topic: str, done: asyncio.Future[dict[str, Any]]) -> None:
        """The server's answer to that."""
        if done.cancelled() or topic not in self.places:
            return
        error = done.exception()
        if isinstance(error, Gap):
            self.missed(Gap(topic, error.earliest, error.next))
            if self.talk is not None:
                self.subscribe(topic)
        elif isinstance(error, ServerError) and not passing(error):
            self.places.pop(topic, None)
            self.put(error)
        elif isinstance(error, ServerError) and self.talk is not None:
            self.talk.line.close()  # a new connection asks again, after a pause

    # ---- living

    async def live(self) -> None:
        """Connect, read, and again. Ends when it is closed, or when there is no use in trying."""
        try:
            while True:
                asked = 0.0
                try:
                    self.talk = await dial(self.server, self.target, self.server.timeout)
                    await self.serve(self.talk)
                except FairleadError as error:
                    asked = error.after
                    over = self.talk.over if self.talk is not None else None
                    self.lost(error)
                    if not passing(error) or (over is not None and over[0] == NEVER):
                        self.fail(error)
                        return
                await asyncio.sleep(self.backoff.pause(asked))
        finally:
            if self.talk is not None:
                self.talk.line.close()

    async def serve(self, talk: Talk) -> None:
        """One connection until its end, which is a NetError."""
        for number, one in list(self.asked.items()):
            talk.say({"id": number, **one.frame})
        for topic in list(self.places):
            self.subscribe(topic)
        self.open.set()
        while True:
            while talk.frames:
                self.backoff.reset()
                self.frame(talk.frames.popleft())
            while len(self.queue) >= WAITING:
                self.room.clear()
                await self.room.wait()
            await talk.hear()

    def lost(self, error: FairleadError) -> None:
        """The connection is gone: what may not be said twice has failed."""
        if self.talk is not None:
            self.talk.line.close()
        self.talk = None
        self.open.clear()
        for number, one in list(self.asked.items()):
            if not one.again and not one.done.done():
                del self.asked[number]
                one.done.set_exception(error)
                one.done.exception()

    def fail(self, error: FairleadError) -> None:
        """There will be no connection any more."""
        self.failed = error
        self.open.set()
        for one in self.asked.values():
            if not one.done.done():
                one.done.set_exception(error)
        self.put(error)

    def frame(self, said: dict[str, Any]) -> None:
        """One frame of the server's."""
        if "ok" in said or "error" in said:
            asked = self.asked.get(said.get("id") or 0)
            if asked is not None and "sub" in asked.frame and "ok" in said:
                self.places[asked.frame["sub"]["topic"]] = str(said["next"])  # at once: its events may be right behind
                self.followed_any = True
            if asked is not None and not asked.done.done():
                asked.done.set_exception(wrong(said["error"])) if "error" in said else asked.done.set_result(said)
            if asked is not None and not asked.frame:
                self.asked.pop(said["id"], None)
            return
        topic = str(said.get("topic", ""))
        if topic not in self.places:
            return
        if "gap" in said:
            self.missed(gap_of(said))
            return
        for one in said.get("events", ()):
            self.put(event_of(one, topic))
        if said.get("next"):
            self.places[topic] = str(said["next"])
        if said.get("closed"):
            self.places.pop(topic, None)
            self.there.set()

    def missed(self, gap: Gap) -> None:
        """Events of a topic are missing: it goes on with what is there."""
        if gap.earliest or gap.next:
            self.places[gap.topic] = gap.earliest or gap.next
        self.put(gap)

    def put(self, one: Event | FairleadError) -> None:
        """Into the queue."""
        self.queue.append(one)
        self.there.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            with suppress(Ended):
                yield await self.next()
                continue
            return

    async def next(self) -> Event:
        """The next event of any topic. Gap (without `on_gap`), ServerError; Ended when nothing more comes."""
        while True:
            while not self.queue:
                if self.failed is not None or (self.followed_any and not self.places):
                    raise Ended
                self.there.clear()
                await self.there.wait()
            one = self.queue.popleft()
            if len(self.queue) < WAITING // 2:
                self.room.set()
            if isinstance(one, Event):
                return one
            if not isinstance(one, Gap) or self.on_gap is None:
                raise one
            self.on_gap(one)

    async def close(self) -> None:
        """The end of it."""
        if self.task is not None:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task


def payload(value: Any) -> dict[str, Any]:
    """A value as members of a frame."""
    import base64

    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else {"data": value}


def wrong(error: dict[str, Any]) -> FairleadError:
    """The error of a frame."""
    status = int(error.get("status", 500))
    if status == 410 and error.get("earliest"):
        return Gap("", str(error["earliest"]), "")
    return ServerError(f"the server answered {status}: {error.get('message', '')}", status)
