"""Several topics on one connection: by poll, long poll and both event streams, with one offset for all of them.

    GET /events/a?topic=b&topic=c          a, b and c                      GET /events/$many?topic=b&match=orders.*

So a page needs one event stream for everything, and the browser's limit of six connections never bites.

Rules
1. The offset is a *vector*: `m_`, then 24 characters for each topic: 4 bytes of the name's hash, 6 of the epoch, 8 of the seq, in
   base64url. It is the id of each event, so `Last-Event-ID` resumes all of them; a topic's own URL takes it too.
2. A topic that the vector does not know: one that was named begins where a new reader would, one that was found by a pattern at
   its start, for it was made meanwhile. One that was made anew is a gap, as everywhere.
3. What is sent are the frames of `topicforms`, which say their topic: `{"topic", "next", "events": [{"o", "type", "key", "at",
   "data"}]}`, made once for all who hear them; only the id is the stream's own. Between topics there is no order.
4. Gaps and ends are said in band, with their topic. The stream ends when all its topics have ended and no pattern may find more.
5. At most `many` topics of a route on one connection: more by name are refused; a pattern that finds more says `limit`, once.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from fairlead.core.aio import Call
from fairlead.core.errors import FairleadError, Refused
from fairlead.core.message import Response
from fairlead.serve import topicforms as forms
from fairlead.serve.feed import Form, Piece, Ring
from fairlead.serve.jsontext import compact
from fairlead.serve.topicmatch import Names, Pattern, pattern
from fairlead.serve.topicpolls import Waiting
from fairlead.serve.topicwords import SECURITY, refusal
from fairlead.store.contract import Gap, Head, NoTopic, Offset
from fairlead.wire import sse

MANY = "$many"  # a URL for several topics and none of its own
MARK = "m_"
PART = 24  # characters of a topic in a vector
TAG = 4
STREAMING = [
    (b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no"),
]  # fmt: skip
RECENT = 10_000  # topics whose newest frame is remembered


class Asked(NamedTuple):
    """What one request wants to hear."""

    topics: tuple[str, ...]
    patterns: tuple[Pattern, ...]


def asked(request: Any, own: str) -> Asked | None:
    """The topics and patterns of a query, the URL's own topic first; None when it is about that alone. Refused 400."""
    if b"topic=" not in request.query and b"match=" not in request.query and own != MANY:
        return None
    try:
        pairs = parse_qsl(request.query.decode("latin-1"), keep_blank_values=True, max_num_fields=2000)
    except ValueError:
        raise Refused("the query has too many fields", status=400) from None
    topics = [value for name, value in pairs if name == "topic"]
    patterns = tuple(dict.fromkeys(value for name, value in pairs if name == "match"))
    if not topics and not patterns:
        if own == MANY:
            raise Refused("which topics?", status=400, hint="?topic=a&topic=b, or ?match=orders.*")
        return None
    named = topics if own == MANY else [own, *topics]
    return Asked(tuple(dict.fromkeys(named)), tuple(pattern(one) for one in patterns))


def tag_of(topic: str) -> bytes:
    """A topic in a vector."""
    return hashlib.blake2b(topic.encode("utf-8", "surrogatepass"), digest_size=TAG).digest()


class Vector:
    """Where one is in several topics, as one text."""

    def __init__(self) -> None:
        self.places: dict[str, Offset] = {}
        self.tags: dict[str, bytes] = {}
        self.parts: dict[str, str] = {}

    def set(self, topic: str, offset: Offset) -> None:
        """One is here now."""
        tag = self.tags.get(topic)
        if tag is None:
            tag = self.tags[topic] = tag_of(topic)
        self.places[topic] = offset
        raw = tag + offset.epoch.to_bytes(6, "big") + offset.seq.to_bytes(8, "big")
        self.parts[topic] = base64.urlsafe_b64encode(raw).decode()

    def forget(self, topic: str) -> None:
        """This topic is no longer there."""
        for table in (self.places, self.tags, self.parts):
            table.pop(topic, None)

    def __str__(self) -> str:
        return MARK + "".join(self.parts.values())


class Known:
    """A client's token: a vector, one topic's offset, or neither ("now", "-1")."""

    def __init__(self, token: str) -> None:
        """Refused 400 for what is none of these."""
        self.token = token
        self.places: dict[bytes, list[Offset]] = {}
        self.single: Offset | None = None
        if token in ("now", "-1", "earliest"):
            return
        if not token.startswith(MARK):
            try:
                self.single = Offset.parse(token)
            except ValueError as error:
                raise Refused(str(error), status=400) from None
            return
        for tag, offset in parted(token):
            self.places.setdefault(tag, []).append(offset)

    def of(self, topic: str, head: Head, found: bool) -> Offset | None:
        """Where this topic goes on; None: at its start. `found`: by a pattern."""
        if self.token == "now":
            return head.last
        if self.token in ("-1", "earliest"):
            return None
        if self.single is not None:
            there = [self.single] if self.single.epoch == head.last.epoch else []
        else:
            there = self.places.get(tag_of(topic), [])
        if not there:
            return None if found and self.places else head.last
        return next((one for one in there if one.epoch == head.last.epoch), there[0])


def parted(token: str) -> Iterable[tuple[bytes, Offset]]:
    """The parts of a vector. Refused 400."""
    text = token.removeprefix(MARK)
    try:
        raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (ValueError, UnicodeEncodeError):
        raw = b"?"
    if len(raw) % 18 or len(text) % PART:
        raise Refused(f"not an offset: {token[:64]!r}; write what an event's id said", status=400)
    for at in range(0, len(raw), 18):
        tag, epoch, seq = raw[at : at + TAG], raw[at + TAG : at + 10], raw[at + 10 : at + 18]
        yield tag, Offset(int.from_bytes(epoch, "big"), int.from_bytes(seq, "big"))


def place_in(token: str, topic: str, epoch: int) -> Offset | None:
    """A topic's own place in a vector; None when it has none. Refused 400."""
    there = [offset for tag, offset in parted(token) if tag == tag_of(topic)]
    return next((one for one in there if one.epoch == epoch), there[0] if there else None)


class ManyForm(Form):
    """Frames of one topic on an event stream of several: the id is the stream's vector."""

    def __init__(self, many: Many, vector: Vector, topic: str, kind: str) -> None:
        self.many, self.vector, self.topic = many, vector, topic
        self.frames = forms.FrameForm(topic, kind)
        self.key = (id(vector), topic)

    def encode(self, piece: Piece) -> bytes:
        data = self.many.framed(self.frames, piece)
        self.vector.set(self.topic, piece.next)
        return self.told(data) if data else b""

    def gap(self, gap: Gap) -> bytes:
        self.vector.set(self.topic, gap.earliest)
        return self.told(self.frames.gap(gap))

    def dropped(self, count: int, after: Offset) -> bytes:
        self.vector.set(self.topic, after)
        return self.told(self.frames.dropped(count, after))

    def ended(self, topic: str, why: str, after: Offset | None, told: bool) -> bytes:
        """That nothing more comes of this topic; who was slow may come again, and needs no word."""
        if why == "slow" or (told and why == "closed"):
            return b""
        return self.told(compact({"topic": topic, "closed": True, **({"gone": True} if why == "gone" else {})}))

    def told(self, frame: bytes) -> bytes:
        """A frame as an event."""
        return sse.event(frame, "", str(self.vector))


class ManyStreamForm(ManyForm):
    """The same as Durable Streams has it: data are an array of frames, a control event after them has the vector."""

    def __init__(self, many: Many, vector: Vector, topic: str, kind: str, given: str) -> None:
        ManyForm.__init__(self, many, vector, topic, kind)
        self.given = given

    def told(self, frame: bytes) -> bytes:
        return sse.event(b"[" + frame + b"]", "data", str(self.vector)) + self.control()

    def control(self) -> bytes:
        """Where one is."""
        said = {"streamNextOffset": str(self.vector), "streamCursor": forms.cursor(self.given)}
        return sse.event(compact(said), "control", str(self.vector))


class Source(NamedTuple):
    """One topic that is read here."""

    name: str
    ring: Ring
    head: Head
    after: Offset | None

    @property
    def kind(self) -> str:
        """How its data are written."""
        return forms.kind_of(self.head.config.content_type)


class Many:
    """Several topics of one route. `route` is a `TopicRoute`; `stream(...)` makes the event stream of them."""

    def __init__(self, route: Any, stream: Callable[..., Any]) -> None:
        self.route, self.make_stream = route, stream
        self.feed = route.feed
        self.recent: dict[Any, tuple[Any, Offset, bytes]] = {}

    def framed(self, form: forms.FrameForm, piece: Piece) -> bytes:
        """A piece as a frame, made once however many streams hear it."""
        known = self.recent.get(form.key)
        if known is not None and known[0] is piece.events and known[1] == piece.next and not piece.closed:
            return known[2]
        made = form.encode(piece)
        if len(self.recent) >= RECENT:
            self.recent.clear()
        self.recent[form.key] = (piece.events, piece.next, made)
        return made

    @property
    def names(self) -> Names:
        """The names of topics, for this process."""
        found: Names = self.route.names
        return found

    def checked(self, wanted: Asked) -> None:
        """Refused 400, 403 for what this route does not do."""
        options = self.route.options
        if options.name and any(name != options.name for name in wanted.topics):
            raise Refused(f"this route has the topic {options.name} only", status=403)
        if wanted.patterns and (options.name or not options.wildcards):
            raise Refused("patterns are not for this route", status=403, hint="topic.wildcards is off")
        for name in wanted.topics:
            self.route.name_of(name)
        if len(wanted.topics) > options.many:
            raise Refused(f"one connection has at most {options.many} topics of this route", status=400)

    async def get(self, call: Call, wanted: Asked, query: dict[str, str], token: str, how: str, wait: float | None) -> None:
        """`how`: "plain", "sse" or "" (a poll, which waits if `wait` is not None)."""
        self.checked(wanted)
        sources = await self.sources(call, wanted, Known(token))
        if how:
            self.stream(call, wanted, sources, query, how)
            return
        vector = vector_of(sources)
        body, complete = await self.read(sources, vector)
        if body or not wait or not complete:
            await call.respond(*self.answered(body, vector, complete, wait is not None))
            return
        call.check()
        leaves = self.route.entering(call.exchange, [one.name for one in sources], query)
        ManyPoll(self, call.exchange, sources, vector, wanted.patterns, wait, leaves)

    async def sources(self, call: Call, wanted: Asked, known: Known) -> list[Source]:
        """Everything that is wanted, and where each goes on. Refused, NoTopic."""
        route, most = self.route, self.route.options.many
        names = dict.fromkeys(wanted.topics, False)
        for one in wanted.patterns:
            for name in await self.names.matching(one, most):
                if name not in names and await route.allows(call.exchange, "read", name):
                    names[name] = True
        if len(names) > most:
            raise Refused(f"the patterns match more than {most} topics", status=400, hint="say it more narrowly")
        for name in wanted.topics:
            await route.must(call.exchange, "read", name)
        return list(await asyncio.gather(*(self.source(name, known, found) for name, found in names.items())))

    async def source(self, name: str, known: Known, found: bool) -> Source:
        """One topic."""
        if not found:
            await self.route.exists(name)
        ring = await self.feed.ring(name)
        head = await self.route.store.log.head(name)
        return Source(name, ring, head, known.of(name, head, found))

    # ---- polls

    async def read(self, sources: list[Source], vector: Vector) -> tuple[list[bytes], bool]:
        """What there is of each, as frames, and whether that is all; the vector goes on with it."""
        found: list[bytes] = []
        room, complete = self.route.options.batch, True
        for one in sources:
            frames = forms.FrameForm(one.name, one.kind)
            if room <= 0:
                return found, False
            try:
                piece = await self.feed.piece(one.ring, vector.places.get(one.name))
            except Gap as gap:
                vector.set(one.name, gap.earliest)
                found.append(frames.gap(gap))
                complete = False
                continue
            except NoTopic:
                found.append(compact({"topic": one.name, "closed": True, "gone": True}))
                vector.forget(one.name)
                continue
            room -= sum(len(event.data) for event in piece.events)
            vector.set(one.name, piece.next)
            complete = complete and piece.up_to_date
            if piece.events:
                found.append(frames.encode(piece))
        return found, complete

    def answered(
        self, body: list[bytes], vector: Vector, complete: bool, waited: bool
    ) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        """The answer of a poll."""
        fields = [(b"stream-next-offset", str(vector).encode()), (b"cache-control", b"no-store"), *SECURITY]
        if complete:
            fields.append((b"stream-up-to-date", b"true"))
        if waited and not body:
            return 204, b"", fields
        return 200, b"[" + b",".join(body) + b"]", [(b"content-type", b"application/json"), *fields]

    # ---- streams

    def stream(self, call: Call, wanted: Asked, sources: list[Source], query: dict[str, str], how: str) -> None:
        """From here on without a task."""
        call.check()
        exchange: Any = call.exchange
        if how == "plain" and not wanted.patterns and all(one.head.closed and one.after == one.head.last for one in sources):
            exchange.whole(Response(204, list(SECURITY), 0), b"")  # EventSource stops for good
            return
        vector = vector_of(sources)

        def form(topic: str, kind: str) -> ManyForm:
            if how == "plain":
                return ManyForm(self, vector, topic, kind)
            return ManyStreamForm(self, vector, topic, kind, query.get("cursor", ""))

        leaves = self.route.entering(exchange, [one.name for one in sources], query)
        exchange.head(Response(200, STREAMING + SECURITY, -1), False)
        out = self.make_stream(self, exchange, vector, form, wanted.patterns, leaves)
        first = form("", forms.JSON)
        priming = sse.priming(str(vector), random.randint(1000, 2000))
        out.begin(sources, first.control() if isinstance(first, ManyStreamForm) else priming)
        exchange.conn.flush()


def vector_of(sources: list[Source]) -> Vector:
    """Where a read begins."""
    vector = Vector()
    for one in sources:
        vector.set(one.name, one.after or one.head.first)
    return vector


class ManyPoll(Waiting):
    """A long poll of several topics: it is with each of their rings."""

    def __init__(
        self, many: Many, exchange: Any, sources: list[Source], vector: Vector, patterns: tuple[Pattern, ...], wait: float,
        leaves: Sequence[Callable[[], None]],
    ) -> None:  # fmt: skip
        super().__init__(many.feed, exchange, leaves, wait)
        self.many, self.sources, self.vector = many, sources, vector
        self.stops += [many.names.watch(one, self.found) for one in patterns]
        for one in sources:
            self.join_ring(one.ring)
        for one in sources:
            place = vector.places.get(one.name)
            if one.ring.last != place or one.ring.gone is not None:  # it came between looking and waiting
                self.wake()
                return
        if exchange.left:
            self.wake()

    def found(self, name: str) -> None:
        """A topic that a pattern matches: if it is new here, that is news."""
        if self.over or name in self.vector.places or len(self.vector.places) >= self.many.route.options.many:
            return
        self.vector.places[name] = Offset(0, 0)  # asked for once
        self.many.feed.spawn(self.join(name))

    async def join(self, name: str) -> None:
        """Read it from its start."""
        self.vector.forget(name)
        route = self.many.route
        try:
            if not await route.allows(self.exchange, "read", name):
                return
            ring = await self.many.feed.ring(name)
            head = await route.store.log.head(name)
        except FairleadError:
            return
        self.sources.append(Source(name, ring, head, None))
        self.vector.set(name, head.first)
        if not self.over:
            self.join_ring(ring)
            if ring.last.seq:
                self.wake()

    async def respond(self) -> None:
        """What there is now."""
        try:
            body, complete = await self.many.read(self.sources, self.vector)
            status, data, fields = self.many.answered(body, self.vector, complete, True)
        except FairleadError as error:
            status, data, fields = refusal(error.status or 503, f"{error}", after=error.after)
        self.whole(status, data, fields)
