"""The `topic` route: one URL for each topic, read by poll, long poll, event stream or WebSocket, with one offset for all of them.

    PUT     make it, maybe with first events     201, 200 when it is there, 409 when it is another
    POST    append                               204 (200 by a producer), Stream-Next-Offset
    GET     ?offset=                             what is there after an offset (poll)
            ?offset=&live=long-poll, Prefer: wait=N       the same, but waiting for something
            ?offset=&live=sse                    an event stream, as Durable Streams has it
            Accept: text/event-stream            an event stream for EventSource, resumed by Last-Event-ID
            Upgrade: websocket                   many topics on one socket (`topicws`)
            &form=frames                         any of them but live=sse, in the socket's JSON frames
    HEAD    its ends      DELETE    it is gone
    GET     $client.js                           our JavaScript client (`topicscript`)
    POST    …/groups/G:claim :ack :nack :extend :term :seek   GET …/groups   consumer groups (`topicgroups`)
    …/webhooks…                                  webhooks out (`topichooks`)

The grammar is that of the Durable Streams protocol 1.0 (2026-01-24), to which this adds the plain event stream, WebSocket,
`Prefer: wait`, event types and keys (`Fairlead-Type`, `Fairlead-Key`), dedupe keys (`Fairlead-Dedupe`), groups and webhooks.

Rules
1. What makes a topic is the route's choice: `put` only PUT, `publish` also a first POST, `subscribe` also a first read.
2. A long poll listens first and looks then (`feed`), so no append falls between. It holds no task while it waits.
3. An offset of before what is kept, or of another life of the topic, is 410 on a poll and said in band on streams: never
   silently less.
4. Every answer has `X-Content-Type-Options: nosniff`: a topic's bytes are somebody else's.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fairlead.core.aio import Async, Call
from fairlead.core.errors import FairleadError, Refused
from fairlead.core.exchange import Answer, Exchange
from fairlead.core.handler import Handler
from fairlead.core.message import Response
from fairlead.serve import topicforms as forms
from fairlead.serve import topicscript
from fairlead.serve.feed import Feed, Form, Leg, Out, Piece, Ring
from fairlead.serve.topicforks import Forks, source_of
from fairlead.serve.topicwords import (
    SAFE,
    SECURITY,
    absolute,
    canonical,
    fields_of,
    gap_fields,
    lifetime,
    next_field,
    producer_of,
    query_of,
    refusal,
    refuse,
    rfc3339,
    truth,
)
from fairlead.store.contract import (
    Appended,
    Closed,
    Conflict,
    Gap,
    Head,
    NoTopic,
    Offset,
    Producer,
    ProducerGap,
    StaleProducer,
    TopicConfig,
    TopicExists,
)
from fairlead.wire import sse
from fairlead.wire.prefer import preferences, wait_of

DEFAULT_TYPE = "application/octet-stream"
MADE_BY_READING = "application/json"
RETRY = 1000  # ms until an EventSource comes back
STREAM_MOST = 3600.0  # seconds of one event stream; then the client comes back, from where it was
METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE")
PREFLIGHT = [  # what a page of another origin may send, if the `cors` filter lets it: the filter says so itself
    (b"allow", b"GET, HEAD, PUT, POST, DELETE, OPTIONS"),
    (b"access-control-allow-methods", b"GET, HEAD, PUT, POST, DELETE"),
    (
        b"access-control-allow-headers",
        b"content-type, if-none-match, last-event-id, prefer, authorization, stream-seq, stream-ttl, stream-expires-at, "
        b"stream-closed, stream-forked-from, stream-fork-offset, stream-fork-sub-offset, producer-id, producer-epoch, "
        b"producer-seq, fairlead-type, fairlead-key, fairlead-dedupe",
    ),
]
NAME = re.compile(r"[^\x00-\x1f\x7f]{1,512}")


@dataclass(slots=True, frozen=True)
class TopicOptions:
    """One route's. Times in seconds, sizes in bytes, None: no limit."""

    name: str = ""  # of the one topic; "": the path says it
    keep: float | None = 86400.0
    max_events: int | None = 100_000
    max_bytes: int | None = None
    compact: bool = False
    slow: str = "cursor"
    create: str = "subscribe"
    message: int = 1 << 20  # of one POST
    wait: float = 25.0
    heartbeat: float = 15.0  # in whole seconds
    batch: int = 1 << 20  # bytes of one read
    stream: float = STREAM_MOST
    start: str = "now"  # where an EventSource without an id begins


class TopicRoute(Handler):
    """Topics at one route, whose own URLs have `depth` segments. `more(call, topic, rest)` answers what stands behind them;
    `socket(exchange, topic)` takes over a WebSocket."""

    def __init__(
        self,
        feed: Feed,
        options: TopicOptions | None = None,
        *,
        more: Callable[[Call, str, str], Any] | None = None,
        socket: Callable[[Exchange, str], None] | None = None,
        depth: int = 2,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.depth = depth
        self.feed, self.store = feed, feed.store
        self.forks = Forks(feed.store)
        self.options = options or TopicOptions()
        self.more, self.socket = more, socket
        self.calls = Async(self.answer, loop)

    def open(self, exchange: Exchange) -> None:
        """A Task until it is known what is asked; who then waits for events has none."""
        request: Any = exchange.request
        if self.socket is not None and (request.upgrade == b"websocket" or request.protocol == b"websocket"):
            self.socket(exchange, self.topic_of(exchange)[0])
            return
        self.calls.open(exchange)

    def topic_of(self, exchange: Exchange) -> tuple[str, str]:
        """(topic, what stands behind it in the path). Refused 400 for a name that is none."""
        params = exchange.params or {}  # type: ignore[attr-defined]
        name = self.options.name or params.get("topic", "")
        rest = "/".join(exchange.request.path.strip("/").split("/")[self.depth :])  # type: ignore[attr-defined]
        if not NAME.fullmatch(name):
            raise Refused("a topic's name has 1 to 512 characters, none of them a control character", status=400)
        if name.startswith("$"):
            raise Refused("topics whose names begin with $ are ours", status=403)
        return name, rest.strip("/")

    def follow(self, exchange: Exchange, topic: str) -> None:
        """Read a topic that has no URL of its own, such as a job's events."""

        async def answer(call: Call) -> None:
            await self.guarded(call, topic, "")

        Async(answer, self.calls.loop).open(exchange)

    async def answer(self, call: Call) -> None:
        """By the path, then by method."""
        if (script := topicscript.asked(call.request)) is not None:
            await call.respond(*script)
            return
        try:
            topic, rest = self.topic_of(call.exchange)
        except Refused as error:
            await refuse(call, error.status, f"{error}")
            return
        await self.guarded(call, topic, rest)

    async def guarded(self, call: Call, topic: str, rest: str) -> None:
        """By method; what goes wrong as an answer."""
        try:
            if rest:
                if self.more is None:
                    raise Refused("nothing is here", status=404)
                await self.more(call, topic, rest)
                return
            method = call.request.method  # type: ignore[attr-defined]
            if method in METHODS:
                await getattr(self, method.lower())(call, topic)
            elif method == "OPTIONS":
                await call.respond(204, b"", [*PREFLIGHT, *SECURITY])
            else:
                await refuse(call, 405, f"{method} is not for topics", [PREFLIGHT[0]])
        except NoTopic:
            if await self.forks.gone(topic):
                await refuse(call, 410, "this topic was deleted; forks of it live on")
            else:
                await refuse(call, 404, "there is no such topic")
        except Gap as gap:
            await refuse(call, 410, f"{gap}", gap_fields(gap))
        except FairleadError as error:
            if call.gone is not None:
                raise
            await refuse(call, error.status or 500, f"{error}{f' ({error.hint})' if error.hint else ''}", after=error.after)

    # ---- making, appending, ending

    def config(self, content_type: str, **more: Any) -> TopicConfig:
        """As this route makes topics."""
        options = self.options
        return TopicConfig(content_type, options.keep, options.max_events, options.max_bytes, options.compact, **more)

    async def put(self, call: Call, topic: str) -> None:
        """Make it."""
        given = fields_of(call.request)
        source = source_of(given, topic, call.request.path)  # type: ignore[attr-defined]
        if source is not None and self.options.name:
            raise Refused("this route has one topic, and forks none", status=400)
        lives: dict[str, Any] = dict(lifetime(given))
        content_type = given.get("content-type", DEFAULT_TYPE)
        if source is not None:
            origin = await self.origin(source)
            content_type = given.get("content-type", origin.content_type)
            lives = lives or {"ttl": origin.ttl, "expires": origin.expires}
        config = self.config(canonical(content_type), **lives)
        body = await call.body(self.options.message)
        events = forms.new_events(body, content_type, given.get("fairlead-type", ""), given.get("fairlead-key", ""), empty=True)
        closes = truth(given, "stream-closed")
        try:
            if source is not None:
                head, made = await self.forks.put(topic, source, given, config, events, closes)
            elif await self.forks.gone(topic):
                raise Refused("this topic was deleted, and forks of it live on", status=409)
            else:
                head, made = await self.store.log.create(topic, config, events, closes)
        except TopicExists:
            raise Refused("this topic is there with another configuration", status=409) from None
        if not made and head.closed != closes:
            raise Refused("this topic is there, and open or closed otherwise", status=409)
        fields = [(b"content-type", head.config.content_type.encode()), next_field(head.last)]
        if made:
            fields.append((b"location", absolute(call.request)))
        if head.closed:
            fields.append((b"stream-closed", b"true"))
        await call.respond(201 if made else 200, b"", fields + SECURITY)

    async def origin(self, source: str) -> TopicConfig:
        """The configuration of what is to be forked. Refused."""
        try:
            return await self.forks.inherits(source)
        except NoTopic:
            raise Refused("there is no such topic to fork", status=404) from None

    async def post(self, call: Call, topic: str) -> None:
        """Append, or end it."""
        given = fields_of(call.request)
        producer = producer_of(given)
        closes = truth(given, "stream-closed")
        body = await call.body(self.options.message)
        if not body and not closes:
            raise Refused("an empty body appends nothing", status=400)
        content_type = given.get("content-type", "")
        if body and not content_type:
            raise Refused("Content-Type is missing", status=400, hint="write the topic's own")
        create = self.config(canonical(content_type)) if self.options.create != "put" and body else None
        head = await self.found(topic, create)
        if head is not None and body and forms.media_type(head.config.content_type) != forms.media_type(content_type):
            if head.closed and producer is None:
                raise_closed = [next_field(head.last), (b"stream-closed", b"true")]
                await refuse(call, 409, "this topic has ended", raise_closed)
                return
            raise Refused(f"this topic is {head.config.content_type}, not {content_type}", status=409)
        kind = head.config.content_type if head is not None else content_type
        events = forms.new_events(body, kind, given.get("fairlead-type", ""), given.get("fairlead-key", ""))
        seq = given.get("stream-seq")
        try:
            if seq is not None and not await self.repeated(topic, head, producer):
                await self.in_turn(topic, head, seq)
            done = await self.store.log.append(
                topic, events, producer=producer, dedupe=given.get("fairlead-dedupe", ""), close=closes, create=create
            )
        except Closed as closed:
            await refuse(call, 409, "this topic has ended", [next_field(closed.last), (b"stream-closed", b"true")])
            return
        except StaleProducer as stale:
            await refuse(call, 403, f"{stale}", [(b"producer-epoch", b"%d" % stale.epoch)])
            return
        except ProducerGap as gap:
            await self.producer_gap(call, producer, gap)
            return
        highest = await self.highest(topic, producer) if producer is not None and done.duplicate else None
        await self.appended(call, done, producer if events else None, highest, producer)

    async def found(self, topic: str, create: TopicConfig | None) -> Head | None:
        """Its head; None when it is to be made. NoTopic."""
        try:
            return await self.store.log.head(topic)
        except NoTopic:
            if create is None or await self.forks.gone(topic):
                raise
            return None

    async def highest(self, topic: str, producer: Producer) -> int | None:
        """The last seq that was taken of a producer in its epoch; None when that is not known."""
        try:
            await self.store.log.append(topic, [], producer=producer._replace(seq=SAFE))
        except ProducerGap as gap:
            return gap.expected - 1 if gap.known == producer.epoch else None
        except FairleadError:
            return None
        return None

    async def repeated(self, topic: str, head: Head | None, producer: Producer | None) -> bool:
        """Whether this is a producer's retry: what came after it does not count then."""
        if producer is None or head is None:
            return False
        highest = await self.highest(topic, producer)
        return highest is not None and producer.seq <= highest

    async def appended(
        self, call: Call, done: Appended, added: Producer | None, highest: int | None, producer: Producer | None
    ) -> None:
        """It is there."""
        fields = [next_field(done.last)]
        if done.closed:
            fields.append((b"stream-closed", b"true"))
        if producer is not None:
            fields.append((b"producer-epoch", b"%d" % producer.epoch))
            fields.append((b"producer-seq", b"%d" % (producer.seq if highest is None else highest)))
        status = 204 if added is None or done.duplicate else 200
        await call.respond(status, b"", fields + SECURITY)

    async def producer_gap(self, call: Call, producer: Producer | None, gap: ProducerGap) -> None:
        """A producer's seq skips some, or a new epoch does not begin at 0."""
        if producer is not None and gap.known is not None and gap.known < producer.epoch:
            await refuse(call, 400, "a new epoch begins at seq 0")
            return
        fields = [(b"producer-expected-seq", b"%d" % gap.expected), (b"producer-received-seq", b"%d" % gap.received)]
        await refuse(call, 409, f"{gap}", fields)

    async def in_turn(self, topic: str, head: Head | None, seq: str) -> None:
        """Stream-Seq: texts that grow, of all writers of a topic together. Refused 409."""
        key, state = f"topicseq/{topic}", self.store.state
        epoch = head.last.epoch if head is not None else 0
        while True:
            entry = await state.get(key)
            known = json.loads(entry.value) if entry is not None else None
            if known is not None and known[0] == epoch and seq.encode() <= known[1].encode():
                raise Refused(f"Stream-Seq {seq!r} does not follow {known[1]!r}", status=409)
            try:
                await state.put_if(key, json.dumps([epoch, seq]).encode(), entry.version if entry else 0, ttl=30 * 86400.0)
                return
            except Conflict:
                continue

    async def delete(self, call: Call, topic: str) -> None:
        """Gone."""
        await self.forks.deleting(topic)
        if not await self.store.log.delete(topic):
            raise NoTopic(topic)
        if (ring := self.feed.rings.get(topic)) is not None:
            ring.look()
        await call.respond(204, b"", list(SECURITY))

    # ---- reading

    async def head(self, call: Call, topic: str) -> None:
        """Its ends."""
        head = await self.store.log.head(topic)
        fields = [(b"content-type", head.config.content_type.encode()), next_field(head.last), (b"cache-control", b"no-store")]
        fields.append((b"stream-earliest-offset", str(head.first).encode()))
        if head.config.ttl is not None:
            fields.append((b"stream-ttl", b"%d" % head.config.ttl))
        if head.config.expires is not None:
            fields.append((b"stream-expires-at", rfc3339(head.config.expires)))
        if head.closed:
            fields.append((b"stream-closed", b"true"))
        call.exchange.whole(Response(200, fields + SECURITY, 0), b"")  # type: ignore[attr-defined]

    async def get(self, call: Call, topic: str) -> None:
        """Which of the four?"""
        query = query_of(call.request)
        given = fields_of(call.request)
        live = query.get("live", "")
        if live not in ("", "sse", "long-poll"):
            raise Refused('`live` is "sse" or "long-poll"', status=400)
        if query.get("form", "frames") != "frames" or (live == "sse" and "form" in query):
            raise Refused('`form` is "frames", and not for live=sse', status=400)
        if live and "offset" not in query:
            raise Refused("`offset` is missing", status=400, hint='write offset=-1 for all, offset=now for what comes')
        plain = not live and "text/event-stream" in given.get("accept", "")
        token = query.get("offset", "-1")
        if plain:
            token = given.get("last-event-id") or query.get("last_event_id") or query.get("offset", self.options.start)
        await self.exists(topic)
        wait = self.longest(call, live)
        if live == "sse" or plain:
            await self.stream(call, topic, query, token, plain)
        elif wait is not None:
            await self.long_poll(call, topic, query, token, wait)
        else:
            await self.poll(call, topic, query, token, given)

    def longest(self, call: Call, live: str) -> float | None:
        """How long this poll may wait; None when it does not."""
        wanted = wait_of(preferences(call.request))
        if wanted is None:
            return self.options.wait if live == "long-poll" else None
        return min(wanted, self.options.wait)

    async def exists(self, topic: str) -> None:
        """`create = "subscribe"`: a first read makes it."""
        if self.options.create != "subscribe":
            return
        try:
            await self.feed.ring(topic)
        except NoTopic:
            if await self.forks.gone(topic):
                raise
            try:
                await self.store.log.create(topic, self.config(MADE_BY_READING))
            except TopicExists:
                pass

    async def place(self, topic: str, token: str) -> tuple[Ring, Head, Offset | None]:
        """(ring, head, after) for a client's offset. NoTopic, Refused 400."""
        ring = await self.feed.ring(topic)
        head = await self.store.log.head(topic)
        if token == "now":
            return ring, head, head.last
        if token in ("-1", "earliest"):
            return ring, head, None
        try:
            after = Offset.parse(token)
        except ValueError as error:
            raise Refused(str(error), status=400) from None
        if after.epoch != head.last.epoch:
            after = await self.forks.translated(topic, head, after)
        return ring, head, after

    async def poll(self, call: Call, topic: str, query: dict[str, str], token: str, given: dict[str, str]) -> None:
        """What is there."""
        _, head, after = await self.place(topic, token)
        batch = await self.store.log.read(topic, after, max_bytes=self.options.batch)
        piece = Piece(batch.events, batch.next, batch.up_to_date, batch.closed)
        begin = after or head.first
        form = ":f" if "form" in query else ""
        tag = f'"{begin}:{piece.next}{":c" if piece.closed and piece.up_to_date else ""}{form}"'.encode()
        if token == "now":
            fields = [(b"cache-control", b"no-store")]
        else:
            fields = [(b"etag", tag), (b"cache-control", b"private, max-age=0, must-revalidate")]
            if given.get("if-none-match", "").encode() == tag:
                await call.respond(304, b"", [*fields, next_field(piece.next), *SECURITY])
                return
        await call.respond(200, *self.read(topic, piece, head, query, fields))

    def read(
        self, topic: str, piece: Piece, head: Head, query: dict[str, str], more: list[Any]
    ) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """(body, fields) of a read."""
        frames, kind = "form" in query, forms.kind_of(head.config.content_type)
        content_type = MADE_BY_READING if frames else head.config.content_type
        fields = [(b"content-type", content_type.encode()), next_field(piece.next), *more]
        fields.append((b"stream-cursor", forms.cursor(query.get("cursor", "")).encode()))
        if piece.up_to_date:
            fields.append((b"stream-up-to-date", b"true"))
            if piece.closed:
                fields.append((b"stream-closed", b"true"))
        return forms.framed(topic, piece, kind) if frames else forms.body_of(piece.events, kind), fields + SECURITY

    async def long_poll(self, call: Call, topic: str, query: dict[str, str], token: str, wait: float) -> None:
        """What is there, or what comes first."""
        ring, head, after = await self.place(topic, token)
        piece = await self.feed.piece(ring, after)
        if piece.events or piece.closed or wait <= 0:
            await call.respond(*self.polled(topic, piece, head, query))
            return
        call.check()
        Poll(self, call.exchange, ring, head, piece.next, query, wait)

    def polled(
        self, topic: str, piece: Piece, head: Head, query: dict[str, str]
    ) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        """The answer of a long poll."""
        body, fields = self.read(topic, piece, head, query, [(b"cache-control", b"no-store")])
        if not piece.events:
            return 204, b"", [field for field in fields if field[0] != b"content-type"]
        return 200, body, fields

    async def stream(self, call: Call, topic: str, query: dict[str, str], token: str, plain: bool) -> None:
        """An event stream; from here on without a task."""
        ring, head, after = await self.place(topic, token)
        kind = forms.kind_of(head.config.content_type)
        exchange: Any = call.exchange
        if plain and head.closed and after == head.last:
            await call.respond(204, b"", list(SECURITY))  # EventSource stops for good
            return
        fields = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache, no-transform")]
        fields.append((b"x-accel-buffering", b"no"))
        if kind == forms.BYTES and "form" not in query:
            fields.append((b"stream-sse-data-encoding", b"base64"))
        form: Form = forms.EventForm(kind) if plain else forms.StreamForm(kind, query.get("cursor", ""))
        if "form" in query:
            form = forms.EventFrames(topic, kind)
        call.check()
        exchange.head(Response(200, fields + SECURITY, -1), False)
        out = Stream(self.feed, form, self.options, exchange)
        if plain:
            out.say(sse.priming(str(after or head.first), RETRY))
        elif isinstance(form, forms.StreamForm) and after == ring.last and not ring.closed:
            out.say(form.control(ring.last, True, False))
        Leg(out, ring, after)
        exchange.conn.flush()


class Poll(Answer):
    """A long poll that waits."""

    def __init__(
        self, route: TopicRoute, exchange: Any, ring: Ring, head: Head, after: Offset, query: dict[str, str], wait: float
    ) -> None:
        self.route, self.exchange, self.ring, self.ends, self.after, self.query = route, exchange, ring, head, after, query
        self.over = False
        exchange.answer = self
        ring.polls.add(self)
        route.feed.enter(ring)
        self.timer = asyncio.get_running_loop().call_later(wait, self.wake)
        if ring.last != after or ring.closed or ring.gone is not None:  # it came between looking and waiting
            self.wake()

    def wake(self) -> None:
        """Something was appended, the topic ended or is gone, or time is up."""
        if self.leave():
            self.route.feed.spawn(self.respond())

    def leave(self) -> bool:
        """Wait no more; False when that was so already."""
        if self.over:
            return False
        self.over = True
        self.timer.cancel()
        self.ring.polls.discard(self)
        self.route.feed.leave(self.ring)
        return True

    async def respond(self) -> None:
        """What there is now."""
        try:
            piece = await self.route.feed.piece(self.ring, self.after)
            self.whole(*self.route.polled(self.ring.topic, piece, self.ends, self.query))
        except Gap as gap:
            self.whole(*refusal(410, f"{gap}", gap_fields(gap)))
        except FairleadError as error:
            self.whole(*refusal(404 if isinstance(error, NoTopic) else error.status or 503, f"{error}", after=error.after))

    def whole(self, status: int, body: bytes, fields: list[tuple[bytes, bytes]]) -> None:
        """The answer, if anybody is still there."""
        if status != 204:
            fields = [*fields, (b"content-length", b"%d" % len(body))]
        self.exchange.whole(Response(status, fields, len(body)), body)

    def reset(self, why: Any, side: str) -> None:
        if side != "read":
            self.leave()

    def farewell(self) -> None:
        """The server drains: answer with nothing, the client comes again."""
        self.wake()


class Stream(Out):
    """An event stream: hears the exchange, is told by legs."""

    transport = "sse"

    def __init__(self, feed: Feed, form: Form, options: TopicOptions, exchange: Any) -> None:
        Out.__init__(self, feed, form, options.slow, options.heartbeat)
        self.exchange = self.body = exchange
        exchange.answer = self
        self.timer = asyncio.get_running_loop().call_later(options.stream, self.farewell)

    def write(self, data: bytes) -> bool:
        return bool(self.exchange.data(data, False))

    def beat(self) -> None:
        self.say(sse.BEAT)
        self.said = False

    def title(self) -> str:
        peer = self.exchange.client or self.exchange.conn.peer
        return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a client"

    def finish(self, leg: Leg, why: str) -> None:
        """Its topic has ended: so has the stream."""
        if self.over:
            return
        form: Any = self.form
        if last := form.ended(leg.ring.topic, why, leg.after, leg.told):
            self.exchange.data(last, False)
        self.close()

    def close(self) -> None:
        """The end of the stream."""
        if not self.over:
            self.shut()
            self.timer.cancel()
            self.exchange.data(b"", True)

    # ---- the exchange speaks

    def room(self) -> None:
        self.ready()

    def reset(self, why: Any, side: str) -> None:
        if side != "read":
            self.timer.cancel()
            self.shut()

    def farewell(self) -> None:
        """The server drains, or this stream has been open for long enough: the client comes again."""
        self.close()
