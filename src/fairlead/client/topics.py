"""One server's topics: publish, read, follow.

Following, by the first of these that works (`by="auto"`): a WebSocket; a long poll, where something on the way lets no WebSocket
pass. `by="sse"` is an event stream, `by="long-poll"` and `by="websocket"` insist. All of them bring the same frames, and all
go on from the same offset.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

from fairlead.client.group import Group
from fairlead.client.http import Answer, Server
from fairlead.client.sockets import Socket, dial
from fairlead.client.words import (
    JSON,
    Backoff,
    Ended,
    Event,
    Gap,
    Page,
    ServerError,
    as_bytes,
    as_json,
    gap_of,
    page_of,
    passing,
    refusal,
)
from fairlead.core.errors import ConfigError, FairleadError, NetError
from fairlead.wire import sse

WAYS = ("auto", "websocket", "sse", "long-poll")
SILENCE = 45.0  # seconds of a stream without a heartbeat (15 s) until it is taken for dead
LONG = 25  # seconds of a long poll
BATCH = 512 * 1024  # bytes of one POST of `publish_many`; servers take 1 MiB
Said = tuple[int, dict[str, str], bytes]


class Client:
    """The topics below one URL, such as https://shop.example/events. `headers` go with each request (authorization, cookies);
    `tls` replaces the system's trust; `timeout` seconds for one answer; `patience` seconds for a publish or read, tries included.

    Connections are made when they are needed, and kept. Use it in one event loop; close it, or use `async with`. ConfigError for a
    URL that is none.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float = 20.0,
        patience: float = 30.0,
    ) -> None:
        given = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
        self.server = Server(url, given, tls, timeout)
        self.patience = patience
        if b"?" in self.server.place.target:
            raise ConfigError("the URL of topics has no query", hint="the client writes its own")
        self.base = self.server.place.target.rstrip(b"/")

    def topic(self, name: str = "", content_type: str = JSON) -> Topic:
        """A topic by name; without one, the topic whose own URL this is. `content_type` is what a publish makes and says."""
        return Topic(self, name, content_type)

    def socket(self, *, on_gap: Callable[[Gap], None] | None = None) -> Socket:
        """Many topics on one WebSocket: `async with client.socket() as socket`."""
        return Socket(self.server, self.base + b"/_?sub=0", patience=self.patience, on_gap=on_gap)

    def close(self) -> None:
        """Let go of the connections."""
        self.server.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class Topic:
    """One topic. Made by `Client.topic`."""

    def __init__(self, client: Client, name: str, content_type: str) -> None:
        self.client, self.name, self.content_type = client, name, content_type
        self.target = client.base + (b"/" + quote(name, safe="").encode() if name else b"")

    # ---- publishing

    async def publish(self, value: Any, *, type: str = "", key: str = "", dedupe: str | None = None, close: bool = False) -> str:
        """Append one event, once, whatever breaks meanwhile; its offset. In a JSON topic any JSON value, else bytes or text.

        `dedupe`: a text of your own under which it counts once, also from another program; a random one by default. `close`: it is
        the topic's last. ServerError, NetError (unknown whether it was done), TypeError and ValueError for what is no JSON.
        """
        body = b"[" + as_json(value) + b"]" if self.is_json else as_bytes(value) if not isinstance(value, bytes) else value
        return await self.append(body, type, key, {"fairlead-dedupe": dedupe or uuid4().hex}, close)

    async def publish_many(self, values: Iterable[Any], *, type: str = "", key: str = "") -> str:
        """Append events in order, as few requests as fit; the offset of the last. Each request counts once; "" for no values."""
        offset = ""
        for body in self.bodies(values):
            offset = await self.append(body, type, key, {"fairlead-dedupe": uuid4().hex})
        return offset

    async def close(self) -> str:
        """End it: readers are told, and nothing more is taken. Its last offset."""
        return await self.append(b"", "", "", {}, True)

    def producer(self, id: str, epoch: int = 0, seq: int = 0) -> Producer:
        """A producer that numbers what it appends: for long sequences, where a dedupe key for each would be dear."""
        return Producer(self, id, epoch, seq)

    @property
    def is_json(self) -> bool:
        """Whether events are JSON values."""
        media = self.content_type.partition(";")[0].strip().lower()
        return media == JSON or media.endswith("+json")

    def bodies(self, values: Iterable[Any], most: int = BATCH) -> Iterable[bytes]:
        """Values as bodies of requests."""
        if not self.is_json:
            yield from (value if isinstance(value, bytes) else as_bytes(value) for value in values)
            return
        parts: list[bytes] = []
        size = 0
        for value in values:
            one = as_json(value)
            if parts and size + len(one) > most:
                yield b"[" + b",".join(parts) + b"]"
                parts, size = [], 0
            parts.append(one)
            size += len(one) + 1
        if parts:
            yield b"[" + b",".join(parts) + b"]"

    async def append(self, body: bytes, type: str, key: str, more: dict[str, str], close: bool = False) -> str:
        """One POST; the offset behind it."""
        fields = {"content-type": self.content_type, **more}
        if type:
            fields["fairlead-type"] = type
        if key:
            fields["fairlead-key"] = key
        if close:
            fields["stream-closed"] = "true"
        head = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
        _, headers, _ = await self.patiently("POST", self.target, head, body)
        return headers.get("stream-next-offset", "")

    async def patiently(
        self, method: str, target: bytes, head: list[tuple[bytes, bytes]], body: bytes, timeout: float | None = None
    ) -> Said:
        """Ask until there is an answer that counts, or patience ends. NetError, ServerError, Gap."""
        backoff, loop = Backoff(), asyncio.get_running_loop()
        ends = loop.time() + self.client.patience
        while True:
            try:
                return await self.client.server.ask(method, target, head, body, timeout=timeout)
            except FairleadError as error:
                pause = backoff.pause(error.after)
                if not passing(error) or loop.time() + pause > ends:
                    raise
                await asyncio.sleep(pause)

    # ---- reading

    def at(self, **query: str) -> bytes:
        """The topic's target with a query."""
        return self.target + b"?" + urlencode(query).encode()

    async def read(self, after: str = "-1") -> Page:
        """What is there after an offset ("-1": from the start), at most about 1 MiB at once. Gap, ServerError, NetError."""
        _, _, body = await self.patiently("GET", self.at(offset=after, form="frames"), [], b"")
        return page_of(json.loads(body))

    async def read_all(self, after: str = "-1") -> AsyncIterator[Event]:
        """All that is there now, page by page."""
        while True:
            page = await self.read(after)
            for event in page.events:
                yield event
            after = page.next
            if page.up_to_date:
                return

    async def now(self) -> str:
        """The offset of this moment: what is published later comes after it."""
        return (await self.read("now")).next

    async def follow(
        self,
        after: str = "now",
        *,
        by: str = "auto",
        on_gap: Callable[[Gap], None] | None = None,
        on_loss: Callable[[FairleadError], None] | None = None,
    ) -> AsyncIterator[Event]:
        """What is there after `after` and what comes, over any number of connections, until the topic ends.

        `on_gap` hears of lost events, else a Gap is raised (go on with its `earliest`). `on_loss` hears why a connection was
        lost, each time. ServerError when trying again is of no use.
        """
        if by not in WAYS:
            raise ValueError(f"by is one of {', '.join(WAYS)}, not {by!r}")
        place = await self.now() if after == "now" else after
        backoff = Backoff()
        while True:
            asked = 0.0
            try:
                async for page in self.frames(place, by):
                    backoff.reset()
                    for event in page.events:
                        place = event.offset
                        yield event
                    place = page.next or place
                    if page.closed:
                        return
            except Ended:
                return
            except Gap as gap:
                if on_gap is None:
                    raise
                on_gap(gap)
                place = gap.earliest or gap.next or place
                continue
            except FairleadError as error:
                if by == "auto" and isinstance(error, ServerError) and error.status in (400, 405, 426, 501, 502):
                    by = "long-poll"  # no WebSocket passes here
                elif not passing(error):
                    raise
                asked = error.after
                if on_loss is not None:
                    on_loss(error)
            await asyncio.sleep(backoff.pause(asked))

    def frames(self, place: str, by: str) -> AsyncIterator[Page]:
        """The frames of one connection, or of one poll after another."""
        if by == "sse":
            return self.by_stream(place)
        return self.by_poll(place) if by == "long-poll" else self.by_socket(place)

    async def by_poll(self, place: str) -> AsyncIterator[Page]:
        """Long polls."""
        while True:
            target = self.at(offset=place, live="long-poll", form="frames")
            head = [(b"prefer", b"wait=%d" % LONG)]
            timeout = self.client.server.timeout + LONG
            status, headers, body = await self.client.server.ask("GET", target, head, timeout=timeout)
            ended = headers.get("stream-closed") == "true"
            page = page_of(json.loads(body)) if status == 200 else Page([], headers["stream-next-offset"], True, ended)
            yield page
            place = page.next

    async def by_stream(self, place: str) -> AsyncIterator[Page]:
        """One event stream."""
        head = [(b"accept", b"text/event-stream"), (b"last-event-id", place.encode())]
        async with self.client.server.asking("GET", self.at(form="frames"), head) as answer:
            if answer.status == 204:
                raise Ended
            await good(answer)
            parser, text = sse.Parser(), codecs.getincrementaldecoder("utf-8")("replace")
            async for piece in answer.pieces(SILENCE):
                for heard in parser.feed(text.decode(piece)):
                    yield framed(heard.data)
        raise NetError("the stream ended", step="receive", side="upstream")

    async def by_socket(self, place: str) -> AsyncIterator[Page]:
        """One WebSocket with this topic alone."""
        talk = await dial(self.client.server, self.at(offset=place), self.client.server.timeout)
        try:
            while True:
                while talk.frames:
                    yield read_frame(talk.frames.popleft())
                await talk.hear()
        finally:
            with suppress(Exception):
                talk.ws.close(1000, "")
                talk.push()
                talk.line.writer.close()

    def group(self, name: str, *, ttl: float = 30.0, after: str = "now", owner: str = "") -> Group:
        """A consumer group, made by its first claim, from `after` on. `ttl`: seconds until a dead consumer's go to others."""
        return Group(self, name, ttl=ttl, after=after, owner=owner)


class Producer:
    """A writer who numbers its appends (`id`, `epoch`, `seq`), so that the server takes each once. Not for several tasks at once.

    Another run with the same id and epoch goes on with the `seq` that it stopped at; a higher epoch begins again at 0 and shuts the
    older one out (ServerError 403).
    """

    def __init__(self, topic: Topic, id: str, epoch: int, seq: int) -> None:
        self.topic, self.id, self.epoch, self.seq = topic, id, epoch, seq

    async def publish(self, value: Any, *, type: str = "", key: str = "") -> str:
        """Append one event; its offset."""
        return await self.publish_many([value], type=type, key=key)

    async def publish_many(self, values: Iterable[Any], *, type: str = "", key: str = "") -> str:
        """Append events in order; the offset of the last. Each request has one number."""
        offset = ""
        for body in self.topic.bodies(values):
            more = {"producer-id": self.id, "producer-epoch": str(self.epoch), "producer-seq": str(self.seq)}
            offset = await self.topic.append(body, type, key, more)
            self.seq += 1
        return offset


async def good(answer: Answer) -> None:
    """An answer that is a stream. ServerError, Gap."""
    if answer.status != 200:
        raise refusal(answer.status, answer.headers, await answer.body(SILENCE))
    kind = answer.headers.get("content-type", "")
    if not kind.startswith("text/event-stream"):
        raise ServerError(f"the answer is {kind or 'of no type'}, not an event stream", 502)


def framed(text: str) -> Page:
    """A frame as text. Gap, NetError."""
    try:
        said = json.loads(text)
    except ValueError as error:
        raise NetError(f"the stream said what is no frame: {error}", step="receive", side="upstream") from None
    return read_frame(said)


def read_frame(said: dict[str, Any]) -> Page:
    """A frame. Gap, ServerError for an error in it."""
    if "gap" in said:
        raise gap_of(said)
    if "error" in said:
        error = said["error"]
        if error.get("earliest"):
            raise Gap("", str(error["earliest"]), "")
        raise ServerError(f"the server answered {error['status']}: {error['message']}", int(error["status"]))
    if said.get("gone"):
        raise Ended
    return page_of(said)
