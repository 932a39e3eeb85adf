"""Topics from Python, inside a worker: `topic = fairlead.topic("orders"); await topic.publish({"id": 1})`."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from fairlead.core.errors import AppError
from fairlead.serve.feed import Feed, Form, Leg, Out, Piece
from fairlead.store.contract import Event, Gap, NewEvent, Offset, TopicConfig

JSON = "application/json"


class Here(threading.local):
    """The feed of this thread's worker: a process may have several (`server.unit = "thread"`), each with its own loop."""

    feed: Feed | None = None


here = Here()


def attach(feed: Feed | None) -> None:
    """This worker publishes and follows by this."""
    here.feed = feed


class Message(NamedTuple):
    """One event as it is read: `offset` goes on after it. `json()` is its value."""

    data: bytes
    offset: str
    type: str
    key: str
    at: float

    def json(self) -> Any:
        """The data as a JSON value."""
        return json.loads(self.data)


def message(event: Event, epoch: int) -> Message:
    """An event of the store as one of these."""
    return Message(event.data, str(Offset(epoch, event.seq)), event.type, event.key, event.at)


class Topic:
    """A topic by name. It is made by the first publish or follow, as JSON unless `content_type` says otherwise."""

    def __init__(self, name: str, content_type: str = JSON, *, keep: float | None = 86400.0, max: int | None = 100_000) -> None:
        self.name = name
        self.config = TopicConfig(content_type, keep, max)

    @property
    def feed(self) -> Feed:
        """This process's. AppError outside of a server."""
        if here.feed is None:
            raise AppError(
                "no server runs here that has a store, so there are no topics",
                hint="serve the application with a configuration that has [store] or a topic",
            )
        return here.feed

    async def publish(self, value: Any, *, type: str = "", key: str = "", dedupe: str = "", conn: Any = None) -> str:
        """Append one event: bytes as they are, text too where the topic is not JSON, anything else as JSON. Its offset, once it is
        kept as the store promises.

        With `conn`, a connection of your own inside a transaction (sqlite3, aiosqlite, asyncpg, psycopg 3): it is published when,
        and only if, that is committed; what is given then is the id of the outbox's entry. `store.outbox` names the database.
        """
        if isinstance(value, str) and not self.is_json:
            value = value.encode()
        data = value if isinstance(value, bytes) else as_json(value)
        event = NewEvent(data, type, key)
        if conn is not None:
            from fairlead.store import outbox

            return await outbox.write(conn, [outbox.Append(self.name, [event], self.config)], id=dedupe or None)
        feed = self.feed
        done = await feed.store.log.append(self.name, [event], dedupe=dedupe, create=self.config)
        if done.last.seq == 1:
            feed.made(self.name)
        return str(done.last)

    @property
    def is_json(self) -> bool:
        """Whether values are JSON."""
        return self.config.content_type == JSON

    async def read(self, after: str = "-1", limit: int = 1000) -> list[Message]:
        """What is there after an offset. NoTopic, Gap."""
        batch = await self.feed.store.log.read(self.name, None if after == "-1" else Offset.parse(after), limit)
        return [message(event, batch.next.epoch) for event in batch.events]

    async def follow(self, after: str = "now") -> AsyncIterator[Message]:
        """What is there and what comes, for ever or until the topic ends. Gap when events are missing."""
        feed = self.feed
        if await self.absent() and (await feed.store.log.create(self.name, self.config))[1]:
            feed.made(self.name)
        ring = await feed.ring(self.name)
        place = ring.last if after == "now" else None if after == "-1" else Offset.parse(after)
        out = Listening(feed)
        leg = Leg(out, ring, place, Pieces(out))
        try:
            while (got := await out.next()) is not None:
                if isinstance(got, Gap):
                    raise got
                for event in got.events:
                    yield message(event, got.next.epoch)
        finally:
            leg.leave()
            out.shut()

    async def absent(self) -> bool:
        """There is no such topic yet."""
        from fairlead.store.contract import NoTopic

        try:
            await self.feed.store.log.head(self.name)
        except NoTopic:
            return True
        return False


def as_json(value: Any) -> bytes:
    """A value as JSON. AppError."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        hint = "give numbers, texts, lists and mappings"
        raise AppError(f"a topic's value cannot be written as JSON: {error}", hint=hint) from None


class Pieces(Form):
    """Hands pieces over as they are."""

    def __init__(self, out: Listening) -> None:
        self.out, self.key = out, id(self)

    def encode(self, piece: Piece) -> bytes:
        self.out.waiting.append(piece)
        return b"."

    def gap(self, gap: Gap) -> bytes:
        self.out.waiting.append(gap)
        return b"."


class Listening(Out):
    """Python code that follows: it has room while it has read everything."""

    transport = "python"

    def __init__(self, feed: Feed) -> None:
        Out.__init__(self, feed, Form())
        self.waiting: list[Piece | Gap] = []
        self.there = asyncio.Event()
        self.ended = False

    def write(self, data: bytes) -> bool:
        self.there.set()
        return False

    def finish(self, leg: Leg, why: str) -> None:
        self.ended = True
        self.there.set()

    async def next(self) -> Piece | Gap | None:
        """The next piece; None at the end."""
        while not self.waiting:
            if self.ended:
                return None
            self.there.clear()
            if self.blocked:
                self.ready()
                if self.waiting or self.ended:
                    continue
            await self.there.wait()
        return self.waiting.pop(0)
