"""`fairlead.v1.Topics`: topics as a gRPC service, with the offsets that every other way of reading them has.

What its messages mean is in proto/fairlead/v1/topics.proto; the shapes here are the same ones, field by field.

Rules
1. Subscribe is one stream of batches for as many topics as the client asks for on it. A batch is encoded once, however many hear it
   (`feed`). A stream that is slow holds no more than ROOM bytes and a batch; it goes on from where it was (`cursor`).
2. Events that are gone are a batch with `gap` on a stream, and OUT_OF_RANGE where there is one answer. A deleted topic is a batch
   with `gone`. What a client asked wrongly ends the whole call with its status.
3. What JSON readers could not read is not appended: in a JSON topic each event is one JSON value. Texts that become lines of an
   event stream, or fields, hold no control characters.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from fairlead.core.errors import FairleadError, Refused
from fairlead.serve import topicapi
from fairlead.serve import topicforms as forms
from fairlead.serve.feed import Feed, Form, Leg, Out, Piece
from fairlead.serve.grpcmethods import Handled, handled
from fairlead.serve.grpcrefusals import here, offset_of, refuse, unary
from fairlead.serve.jsontext import parsed, word
from fairlead.serve.topicgroups import GROUP, TTL, Groups
from fairlead.serve.topics import NAME
from fairlead.serve.topicwords import SAFE, canonical
from fairlead.store.contract import Event, Gap, Lease, NewEvent, NoTopic, Offset, Producer, TopicConfig
from fairlead.wire.protobuf import BOOL, BYTES, DOUBLE, MAP, TEXT, UINT, Many, Shape

ROOM = 64 * 1024  # bytes that wait for a stream before it counts as slow
TOPICS = 1000  # followed on one stream
READ = 1000  # events of one Read
READ_BYTES = 1 << 20
KEEP, EVENTS = 86400.0, 100_000  # of a topic that is made here, as a route has them
ACTIONS = ("ack", "nack", "extend", "term")

EVENT = Shape(
    offset=(1, TEXT), data=(2, BYTES), type=(3, TEXT), key=(4, TEXT), at=(5, DOUBLE), headers=(6, MAP)
)  # fmt: skip
GAP = Shape(earliest=(1, TEXT), latest=(2, TEXT))
SUBSCRIBE = Shape(topic=(1, TEXT), after=(2, TEXT), unsubscribe=(3, BOOL), create=(4, TEXT))
BATCH = Shape(
    topic=(1, TEXT), events=(2, Many(EVENT)), next=(3, TEXT), up_to_date=(4, BOOL), closed=(5, BOOL), gap=(6, GAP), gone=(7, BOOL)
)  # fmt: skip
READ_REQUEST = Shape(topic=(1, TEXT), after=(2, TEXT), limit=(3, UINT))
NEW = Shape(data=(1, BYTES), type=(2, TEXT), key=(3, TEXT), headers=(4, MAP))
PRODUCER = Shape(id=(1, TEXT), epoch=(2, UINT), seq=(3, UINT))
APPEND = Shape(
    topic=(1, TEXT), events=(2, Many(NEW)), dedupe=(3, TEXT), producer=(4, PRODUCER), close=(5, BOOL), create=(6, TEXT),
    after=(7, TEXT),
)  # fmt: skip
APPENDED = Shape(last=(1, TEXT), count=(2, UINT), duplicate=(3, BOOL), closed=(4, BOOL))
CLAIM = Shape(
    topic=(1, TEXT), group=(2, TEXT), limit=(3, UINT), ttl=(4, DOUBLE), wait=(5, DOUBLE), owner=(6, TEXT), after=(7, TEXT)
)  # fmt: skip
CLAIMED = Shape(id=(1, TEXT), fence=(2, UINT), attempt=(3, UINT), until=(4, DOUBLE), event=(5, EVENT))
CLAIM_REPLY = Shape(items=(1, Many(CLAIMED)), gap=(2, GAP))
HELD = Shape(id=(1, TEXT), fence=(2, UINT))
ACK = Shape(
    topic=(1, TEXT), group=(2, TEXT), items=(3, Many(HELD)), action=(4, UINT), ttl=(5, DOUBLE), delay=(6, DOUBLE), reason=(7, TEXT)
)  # fmt: skip
ACK.names["action"] = tuple(name.upper() for name in ACTIONS)
ACK_REPLY = Shape(done=(1, UINT))


def methods() -> dict[str, Handled]:
    """The handlers of the service by name."""
    return {
        "Subscribe": handled(subscribe, client_stream=True, server_stream=True, decode=SUBSCRIBE.decode, answer=BATCH),
        "Read": handled(unary(read), decode=READ_REQUEST.decode, encode=BATCH.encode),
        "Append": handled(unary(append), decode=APPEND.decode, encode=APPENDED.encode),
        "Claim": handled(unary(claim), decode=CLAIM.decode, encode=CLAIM_REPLY.encode),
        "Ack": handled(unary(ack), decode=ACK.decode, encode=ACK_REPLY.encode),
    }


# ---- one request, one answer


async def read(request: dict[str, Any], context: Any) -> dict[str, Any]:
    """What is there. Gap, NoTopic, Refused."""
    log = feed().store.log
    topic = topic_named(request)
    after = await place(topic, request["after"] or "-1")
    batch = await log.read(topic, after, min(request["limit"] or READ, READ), READ_BYTES)
    return said(topic, Piece(batch.events, batch.next, batch.up_to_date, batch.closed))


async def append(request: dict[str, Any], context: Any) -> dict[str, Any]:
    """Keep events. Refused, StoreError."""
    log = feed().store.log
    topic = topic_named(request)
    create = config_of(request["create"])
    events = await new_events(topic, request["events"], create)
    if not events and not request["close"]:
        raise Refused("an append has events, or closes the topic", status=400)
    done = await log.append(
        topic,
        events,
        producer=producer_of(request["producer"]),
        dedupe=word(request["dedupe"], "dedupe"),
        close=request["close"],
        create=create,
        after=offset_of(request["after"]) if request["after"] else None,
    )
    return {"last": str(done.last), "count": done.count, "duplicate": done.duplicate, "closed": done.closed}


async def new_events(topic: str, given: list[dict[str, Any]], create: TopicConfig | None) -> list[NewEvent]:
    """Events to append, such as the topic can have. Refused, NoTopic."""
    try:
        content_type = (await feed().store.log.head(topic)).config.content_type
    except NoTopic:
        if create is None:
            raise
        content_type = create.content_type
    is_json = forms.kind_of(content_type) == forms.JSON
    found = []
    for number, one in enumerate(given):
        if is_json:
            try:
                parsed(one["data"])
            except ValueError as error:
                raise Refused(f"the topic is {content_type}, and event {number} is not JSON: {error}", status=400) from None
        headers = {word(name, "a header"): word(value, "a header") for name, value in one["headers"].items()}
        found.append(NewEvent(one["data"], word(one["type"], "type"), word(one["key"], "key"), headers))
    return found


async def claim(request: dict[str, Any], context: Any) -> dict[str, Any]:
    """Some items of a group. Refused, NoTopic."""
    topic = topic_named(request)
    wanted = {
        "n": request["limit"] or 1,
        "ttl": request["ttl"] or TTL,
        "wait": request["wait"],
        "owner": request["owner"],
        "after": request["after"] or None,
    }
    found, gap = await groups().leased(topic, group_named(request), wanted)
    lost = {"earliest": str(gap.earliest), "latest": str(gap.latest)} if gap is not None else None
    return {"items": [claimed(lease) for lease in found], "gap": lost}


def claimed(lease: Lease) -> dict[str, Any]:
    """A lease as its consumer sees it."""
    event = lease.event or Event(0, lease.body)
    shown = described(event, lease.offset)
    return {"id": lease.id, "fence": lease.fence, "attempt": lease.attempt, "until": lease.until, "event": shown}


async def ack(request: dict[str, Any], context: Any) -> dict[str, Any]:
    """Give leases up, or keep them. Refused."""
    if request["action"] >= len(ACTIONS):
        raise Refused(f"there is no action {request['action']}", status=400, hint="ACK, NACK, EXTEND, TERM")
    wanted = {name: request[name] for name in ("items", "delay", "reason")} | {"ttl": request["ttl"] or TTL}
    return await groups().act(topic_named(request), group_named(request), ACTIONS[request["action"]], wanted)


# ---- streams


class BatchForm(Form):
    """Batches of one topic as bytes."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.key = ("grpc", topic)

    def encode(self, piece: Piece) -> bytes:
        return BATCH.encode(said(self.topic, piece))

    def gap(self, gap: Gap) -> bytes:
        lost = {"earliest": str(gap.earliest), "latest": str(gap.latest)}
        return BATCH.encode({"topic": self.topic, "next": str(gap.earliest), "gap": lost})


class Stream(Out):
    """One Subscribe: its topics, and the batches that wait to be sent."""

    transport = "grpc"

    def __init__(self, feed: Feed) -> None:
        Out.__init__(self, feed, Form())
        self.waiting: deque[bytes] = deque()
        self.size = 0
        self.topics: dict[str, Leg] = {}
        self.there = asyncio.Event()
        self.asked = False  # all that the client asks for
        self.failed: BaseException | None = None

    def title(self) -> str:
        """For the log."""
        return "a gRPC stream"

    def write(self, data: bytes) -> bool:
        """Rule 1."""
        self.waiting.append(data)
        self.size += len(data)
        self.there.set()
        return self.size < ROOM

    def finish(self, leg: Leg, why: str) -> None:
        """A topic has come to an end."""
        topic = leg.ring.topic
        if self.topics.get(topic) is leg:
            del self.topics[topic]
        if not leg.told:
            end = "gone" if why == "gone" else "closed"
            self.write(BATCH.encode({"topic": topic, "next": str(leg.after or leg.ring.last), "up_to_date": True, end: True}))
        self.there.set()

    async def hear(self, requests: AsyncIterator[dict[str, Any]]) -> None:
        """Do what the client asks, until it asks no more."""
        try:
            async for request in requests:
                await self.ask(request)
        except Exception as error:
            self.failed = error
        finally:
            self.asked = True
            self.there.set()

    async def ask(self, request: dict[str, Any]) -> None:
        """One request. Refused, NoTopic, StoreError."""
        topic = topic_named(request)
        old = self.topics.pop(topic, None)
        if old is not None:  # asked again: from there, then
            old.leave()
            self.legs.remove(old)
        if request["unsubscribe"]:
            return
        if len(self.topics) >= TOPICS:
            raise Refused(f"a stream follows {TOPICS} topics", status=429)
        create = config_of(request["create"])
        if create is not None:
            await made(topic, create)
        after = request["after"] or "now"
        ring = await self.feed.ring(topic)
        place = ring.last if after == "now" else None if after in ("-1", "earliest") else offset_of(after)
        if not self.over:
            self.topics[topic] = Leg(self, ring, place, BatchForm(topic))

    async def next(self) -> bytes | None:
        """The next batch; None at the end. What the client asked wrongly is raised."""
        while not self.waiting:
            if self.failed is not None:
                raise self.failed
            if self.asked and not self.topics:
                return None
            self.there.clear()
            if self.blocked:
                self.ready()
            if not self.waiting and not (self.asked and not self.topics):
                await self.there.wait()
        data = self.waiting.popleft()
        self.size -= len(data)
        return data


async def subscribe(requests: AsyncIterator[dict[str, Any]], context: Any) -> AsyncIterator[bytes]:
    """Rule 1."""
    stream: Stream | None = None
    hearing: asyncio.Task[None] | None = None
    try:
        stream = Stream(feed())
        hearing = asyncio.get_running_loop().create_task(stream.hear(requests))
        while (batch := await stream.next()) is not None:
            yield batch
    except FairleadError as error:
        await refuse(context, error)
    finally:
        if hearing is not None:
            hearing.cancel()
        if stream is not None:
            stream.shut()


# ---- words


def feed() -> Feed:
    """This worker's. Refused."""
    found: Feed = here(topicapi.here.feed)
    return found


def groups() -> Groups:
    """Its groups."""
    found = feed()
    return Groups(found.store, found.hub)


def topic_named(request: dict[str, Any]) -> str:
    """The topic of a request. Refused."""
    name: str = request["topic"]
    if not NAME.fullmatch(name):
        raise Refused("a topic's name has 1 to 512 characters, none of them a control character", status=400)
    if name.startswith("$"):
        raise Refused("topics whose names begin with $ are ours", status=403)
    return name


def group_named(request: dict[str, Any]) -> str:
    """The group of a request. Refused."""
    name: str = request["group"]
    if not GROUP.fullmatch(name):
        raise Refused("a group's name has 1 to 64 letters, digits, _, - and .", status=400)
    return name


def config_of(content_type: str) -> TopicConfig | None:
    """How a topic that is not there is made; None: it is not."""
    return TopicConfig(canonical(word(content_type, "create")), KEEP, EVENTS) if content_type else None


async def made(topic: str, config: TopicConfig) -> None:
    """Make a topic, unless it is there, however it was made."""
    log = feed().store.log
    try:
        await log.head(topic)
    except NoTopic:
        with suppress(NoTopic):
            await log.create(topic, config)


def producer_of(given: dict[str, Any] | None) -> Producer | None:
    """Who appends. Refused."""
    if given is None:
        return None
    if not given["id"] or given["epoch"] > SAFE or given["seq"] > SAFE:
        raise Refused("a producer has an id, and an epoch and a seq below 2**53", status=400)
    return Producer(word(given["id"], "a producer's id"), given["epoch"], given["seq"])


async def place(topic: str, after: str) -> Offset | None:
    """Where to read from. Refused, NoTopic."""
    if after in ("-1", "earliest"):
        return None
    return (await feed().store.log.head(topic)).last if after == "now" else offset_of(after)


def described(event: Event, offset: Offset | None) -> dict[str, Any]:
    """An event as a message."""
    found: dict[str, Any] = {"data": event.data, "type": event.type, "key": event.key, "at": event.at}
    return found | {"offset": str(offset) if offset is not None else "", "headers": dict(event.headers)}


def said(topic: str, piece: Piece) -> dict[str, Any]:
    """A piece as a message."""
    epoch = piece.next.epoch
    return {
        "topic": topic,
        "events": [described(event, Offset(epoch, event.seq)) for event in piece.events],
        "next": str(piece.next),
        "up_to_date": piece.up_to_date,
        "closed": piece.closed and piece.up_to_date,
    }
