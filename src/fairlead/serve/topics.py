"""The `topic` route: one URL for each topic, read by poll, long poll, event stream or WebSocket, with one offset for all of them.

    PUT     make it, maybe with first events     201, 200 when it is there, 409 when it is another
    POST    append                               204 (200 by a producer), Stream-Next-Offset
    GET     ?offset=                             what is there after an offset (poll)
            ?offset=&live=long-poll, Prefer: wait=N       the same, but waiting for something
            ?offset=&live=sse                    an event stream, as Durable Streams has it
            Accept: text/event-stream            an event stream for EventSource, resumed by Last-Event-ID
            Upgrade: websocket                   many topics on one socket (`topicws`)
            &form=frames                         any of them but live=sse, in the socket's JSON frames
            ?topic=b&topic=c, ?match=x.*         several topics at once, by each of these (`topicmany`)
    HEAD    its ends      DELETE    it is gone
    GET     $client.js                           our JavaScript client (`topicscript`)
    POST    …/groups/G:claim :ack :nack :extend :term :seek   GET …/groups   consumer groups (`topicgroups`)
    …/webhooks…                                  webhooks out (`topichooks`)
    …/presence                                   who is there (`presence`), where the route has it

The grammar is that of the Durable Streams protocol 1.0 (2026-01-24), to which this adds the plain event stream, WebSocket,
`Prefer: wait`, event types and keys (`Fairlead-Type`, `Fairlead-Key`), dedupe keys (`Fairlead-Dedupe`), groups and webhooks.

Rules
1. What makes a topic is the route's choice: `put` only PUT, `publish` also a first POST, `subscribe` also a first read.
2. A long poll listens first and looks then (`feed`), so no append falls between. It holds no task while it waits.
3. An offset of before what is kept, or of another life of the topic, is 410 on a poll and said in band on streams: never
   silently less.
4. What is asked of a topic is asked of `access` first (`topicaccess`): filters decide about the URL, it about the topic.
5. A POST may speak CloudEvents (`cloudevents`), and a poll may ask for them.
6. Every answer has `X-Content-Type-Options: nosniff`: a topic's bytes are somebody else's.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from fairlead.core.aio import Async, Call
from fairlead.core.errors import FairleadError, Refused
from fairlead.core.exchange import Exchange
from fairlead.core.handler import Handler
from fairlead.core.message import Response
from fairlead.serve import cloudevents, topicscript
from fairlead.serve import topicforms as forms
from fairlead.serve.feed import Feed, Form, Leg, Piece, Ring
from fairlead.serve.jsontext import compact
from fairlead.serve.presence import EVENTS, Presence
from fairlead.serve.topicaccess import MANAGE, OPEN, PUBLISH, READ, Access
from fairlead.serve.topicforks import Forks, source_of
from fairlead.serve.topicmany import MANY, MARK, Asked, Many, asked, place_in
from fairlead.serve.topicmatch import Names
from fairlead.serve.topicorder import highest, in_turn, repeated
from fairlead.serve.topicouts import RETRY, ManyStream, Stream, TopicOptions
from fairlead.serve.topicpolls import Poll
from fairlead.serve.topicwords import (
    PREFLIGHT,
    SECURITY,
    absolute,
    canonical,
    consent,
    fields_of,
    gap_fields,
    lifetime,
    next_field,
    producer_of,
    query_of,
    refuse,
    rfc3339,
    truth,
)
from fairlead.store.contract import (
    Appended,
    Closed,
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
METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE")
ACTIONS = {"GET": READ, "HEAD": READ, "PUT": MANAGE, "POST": PUBLISH, "DELETE": MANAGE}
NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,512}")


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
        names: Names | None = None,
        presence: Presence | None = None,
        access: Access = OPEN,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.depth = depth
        self.feed, self.store = feed, feed.store
        self.forks = Forks(feed.store)
        self.options = options or TopicOptions()
        self.more, self.socket = more, socket
        self.names = names or Names(feed)
        self.presence, self.access = presence, access
        self.allows, self.must = access.allows, access.must
        self.forget: Callable[[str], Any] | None = None  # what else there is of a topic that is deleted
        self.member, self.info = "", None  # who follows, if the route says it and not the client
        self.many = Many(self, ManyStream)
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
        rest = "/".join(exchange.request.path.strip("/").split("/")[self.depth :]).strip("/")  # type: ignore[attr-defined]
        if name == MANY and not rest:
            return name, rest
        return self.name_of(name), rest

    def name_of(self, name: Any) -> str:
        """A topic's name as a client may write it. Refused 400, 403."""
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise Refused("a topic's name has 1 to 512 characters, none of them a control character", status=400)
        if name.startswith("$"):
            raise Refused("topics whose names begin with $ are ours", status=403)
        return name

    def named(self, name: Any) -> str:
        """The same, of a topic that this route has. Refused 400, 403."""
        name, own = self.name_of(name), self.options.name
        if own and name != own:
            raise Refused(f"this route has the topic {own} only", status=403)
        return str(name)

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

    async def guarded(self, call: Call, topic: str, rest: str, read: Callable[[Call, str], Any] | None = None) -> None:
        """By method, or a `read`; what goes wrong as an answer."""
        try:
            if read is not None:
                await read(call, topic)
                return
            if rest == "presence" and self.options.presence and self.presence is not None:
                await self.must(call.exchange, READ, topic)
                await self.present(call, topic)
                return
            if rest:
                await self.must(call.exchange, MANAGE, topic)
                if self.more is None:
                    raise Refused("nothing is here", status=404)
                await self.more(call, topic, rest)
                return
            method = call.request.method  # type: ignore[attr-defined]
            if topic == MANY and method not in ("GET", "OPTIONS"):
                await refuse(call, 405, f"several topics are read, not {method}", [(b"allow", b"GET")])
                return
            if method in METHODS:
                if topic != MANY:
                    await self.must(call.exchange, ACTIONS[method], topic)
                await getattr(self, method.lower())(call, topic)
            elif method == "OPTIONS":
                await call.respond(204, b"", [*PREFLIGHT, *consent(call.request), *SECURITY])
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
            await self.must(call.exchange, READ, source)
            origin = await self.origin(source)
            content_type = given.get("content-type", origin.content_type)
            lives = lives or {"ttl": origin.ttl, "expires": origin.expires}
        config = self.config(canonical(content_type), **lives)
        body = await call.body(self.options.message)
        events = forms.new_events(body, content_type, given.get("fairlead-type", ""), given.get("fairlead-key", ""), empty=True)
        closes = truth(given, "stream-closed")
        self.access.making(call.exchange)
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
            self.names.made(topic)
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
        cloud = await self.cloud(topic, given, body, content_type)
        if cloud is not None:
            content_type = cloud.content_type
        create = self.config(canonical(content_type)) if self.options.create != "put" and body else None
        head = await self.found(topic, create)
        if head is not None and body and forms.media_type(head.config.content_type) != forms.media_type(content_type):
            if head.closed and producer is None:
                raise_closed = [next_field(head.last), (b"stream-closed", b"true")]
                await refuse(call, 409, "this topic has ended", raise_closed)
                return
            raise Refused(f"this topic is {head.config.content_type}, not {content_type}", status=409)
        kind = head.config.content_type if head is not None else content_type
        if cloud is not None:
            events = cloud.events
        else:
            events = forms.new_events(body, kind, given.get("fairlead-type", ""), given.get("fairlead-key", ""))
        dedupe = given.get("fairlead-dedupe") or (cloud.dedupe if cloud is not None and producer is None else "")
        self.access.publishing(call.exchange, len(events))
        if head is None:
            self.access.making(call.exchange)
        seq = given.get("stream-seq")
        try:
            if seq is not None and not await repeated(self.store.log, topic, head, producer):
                await in_turn(self.store.state, topic, head, seq)
            done = await self.store.log.append(
                topic, events, producer=producer, dedupe=dedupe, close=closes, create=create
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
        if head is None:
            self.names.made(topic)
        known = await highest(self.store.log, topic, producer) if producer is not None and done.duplicate else None
        await self.appended(call, done, producer if events else None, known, producer)

    async def cloud(self, topic: str, given: dict[str, str], body: bytes, content_type: str) -> cloudevents.Incoming | None:
        """What a POST says in CloudEvents' words; None when it does not. A topic of that very type has it as it is. Refused 400."""
        if forms.media_type(content_type).startswith("application/cloudevents"):
            try:
                if forms.media_type((await self.store.log.head(topic)).config.content_type) == forms.media_type(content_type):
                    return None
            except NoTopic:
                pass
        found = cloudevents.incoming(given, body, content_type)
        if found is not None and forms.kind_of(found.content_type) == forms.JSON:
            for event in found.events:
                cloudevents.parsed(event.data)
        return found

    async def found(self, topic: str, create: TopicConfig | None) -> Head | None:
        """Its head; None when it is to be made. NoTopic."""
        try:
            return await self.store.log.head(topic)
        except NoTopic:
            if create is None or await self.forks.gone(topic):
                raise
            return None

    async def appended(
        self, call: Call, done: Appended, added: Producer | None, known: int | None, producer: Producer | None
    ) -> None:
        """It is there."""
        fields = [next_field(done.last)]
        if done.closed:
            fields.append((b"stream-closed", b"true"))
        if producer is not None:
            fields.append((b"producer-epoch", b"%d" % producer.epoch))
            fields.append((b"producer-seq", b"%d" % (producer.seq if known is None else known)))
        status = 204 if added is None or done.duplicate else 200
        await call.respond(status, b"", fields + SECURITY)

    async def producer_gap(self, call: Call, producer: Producer | None, gap: ProducerGap) -> None:
        """A producer's seq skips some, or a new epoch does not begin at 0."""
        if producer is not None and gap.known is not None and gap.known < producer.epoch:
            await refuse(call, 400, "a new epoch begins at seq 0")
            return
        fields = [(b"producer-expected-seq", b"%d" % gap.expected), (b"producer-received-seq", b"%d" % gap.received)]
        await refuse(call, 409, f"{gap}", fields)

    async def delete(self, call: Call, topic: str) -> None:
        """Gone."""
        await self.forks.deleting(topic)
        if not await self.store.log.delete(topic):
            raise NoTopic(topic)
        self.feed.endings.deleted(topic)
        if self.forget is not None:
            await self.forget(topic)
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

    async def get(self, call: Call, topic: str, wanted: Asked | None = None, how: str = "auto") -> None:
        """Which of the four, of one topic or of several? `how`: the handler says which (`hold`)."""
        query = query_of(call.request)
        given = fields_of(call.request)
        wanted = wanted or asked(call.request, topic)
        live = query.get("live", "")
        if how != "auto":
            live = how if how in ("sse", "long-poll") else ""
            query.setdefault("offset", given.get("last-event-id") or query.get("last_event_id") or self.options.start)
        if live not in ("", "sse", "long-poll"):
            raise Refused('`live` is "sse" or "long-poll"', status=400)
        if query.get("form", "frames") != "frames" or (live == "sse" and "form" in query):
            raise Refused('`form` is "frames", and not for live=sse', status=400)
        if live and "offset" not in query:
            raise Refused("`offset` is missing", status=400, hint='write offset=-1 for all, offset=now for what comes')
        plain = how == "stream" or (how == "auto" and not live and "text/event-stream" in given.get("accept", ""))
        token = query.get("offset", "-1")
        if plain:
            token = given.get("last-event-id") or query.get("last_event_id") or query.get("offset", self.options.start)
        wait = self.longest(call, live)
        if wanted is not None:
            if not plain and "offset" not in query:
                token = self.options.start
            await self.many.get(call, wanted, query, token, "plain" if plain else "sse" if live == "sse" else "", wait)
            return
        await self.exists(topic)
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
                if (await self.store.log.create(topic, self.config(MADE_BY_READING)))[1]:
                    self.names.made(topic)
            except TopicExists:
                pass

    # ---- who follows

    def entering(self, exchange: Any, topics: Sequence[str], query: dict[str, str]) -> list[Callable[[], None]]:
        """Somebody begins to follow; what it returns is called when that is over. Refused 429."""
        leaves = [self.access.enter(exchange)]
        member = self.member or self.member_of(exchange, query.get("member", ""))
        if member and self.options.presence and self.presence is not None:
            leaves += [self.presence.enter(topic, member, self.info) for topic in topics]
        return leaves

    def member_of(self, exchange: Any, said: str) -> str:
        """A follower's name: the principal's, else what it says itself."""
        principal = exchange.principal
        if isinstance(principal, dict):
            principal = principal.get("sub", "")
        return str(principal) if principal else said[:256]

    async def present(self, call: Call, topic: str) -> None:
        """`…/presence`: the list; or joins and leaves, by every way a topic is read."""
        if call.request.method != "GET":  # type: ignore[attr-defined]
            raise Refused("GET is for …/presence", status=405)
        assert self.presence is not None
        await self.store.log.head(topic)
        query, given = query_of(call.request), fields_of(call.request)
        plain = "live" not in query and "text/event-stream" in given.get("accept", "")
        token = given.get("last-event-id") or query.get("last_event_id") or query.get("offset", "")
        shown = await self.presence.shown(topic)
        options = replace(self.options, create="put", presence=False, many=1, wildcards=False)
        inner = TopicRoute(self.feed, options, loop=self.calls.loop)
        if plain and not token:
            out = await inner.stream(call, EVENTS + topic, query, shown["next"], True)
            if out is not None:
                out.say(sse.event(compact(shown), "here", shown["next"]))
        elif plain or "offset" in query:
            await inner.get(call, EVENTS + topic)
        else:
            fields = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
            fields.append((b"stream-next-offset", shown["next"].encode()))
            await call.respond(200, compact(shown) + b"\n", fields + SECURITY)

    async def place(self, topic: str, token: str) -> tuple[Ring, Head, Offset | None]:
        """(ring, head, after) for a client's offset. NoTopic, Refused 400."""
        ring = await self.feed.ring(topic)
        head = await self.store.log.head(topic)
        if token == "now":
            return ring, head, head.last
        if token in ("-1", "earliest"):
            return ring, head, None
        if token.startswith(MARK):
            return ring, head, place_in(token, topic, head.last.epoch) or head.last
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
        if cloudevents.BATCH in given.get("accept", ""):
            await call.respond(200, *self.as_cloud(topic, piece, head))
            return
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

    def as_cloud(self, topic: str, piece: Piece, head: Head) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """(body, fields) of a read as a batch of CloudEvents."""
        kind, epoch = head.config.content_type, piece.next.epoch
        fields = [(b"content-type", cloudevents.BATCH.encode()), next_field(piece.next), (b"cache-control", b"no-store")]
        if piece.up_to_date:
            fields.append((b"stream-up-to-date", b"true"))
        shown = [cloudevents.shown(event, topic, kind, Offset(epoch, event.seq)) for event in piece.events]
        return compact(shown), fields + SECURITY

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

    async def stream(self, call: Call, topic: str, query: dict[str, str], token: str, plain: bool) -> Stream | None:
        """An event stream; from here on without a task. None when the topic is over."""
        ring, head, after = await self.place(topic, token)
        kind = forms.kind_of(head.config.content_type)
        exchange: Any = call.exchange
        if plain and head.closed and after == head.last:
            await call.respond(204, b"", list(SECURITY))  # EventSource stops for good
            return None
        fields = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache, no-transform")]
        fields.append((b"x-accel-buffering", b"no"))
        if kind == forms.BYTES and "form" not in query:
            fields.append((b"stream-sse-data-encoding", b"base64"))
        form: Form = forms.EventForm(kind) if plain else forms.StreamForm(kind, query.get("cursor", ""))
        if "form" in query:
            form = forms.EventFrames(topic, kind)
        call.check()
        leaves = self.entering(exchange, [topic], query)
        exchange.head(Response(200, fields + SECURITY, -1), False)
        out = Stream(self.feed, form, self.options, exchange, leaves)
        if plain:
            out.say(sse.priming(str(after or head.first), random.randint(RETRY, 2 * RETRY)))
        elif isinstance(form, forms.StreamForm) and after == ring.last and not ring.closed:
            out.say(form.control(ring.last, True, False))
        Leg(out, ring, after)
        exchange.conn.flush()
        return out
