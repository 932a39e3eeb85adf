"""What answers somebody who follows topics over HTTP for long: an event stream of one topic, one of several.

Rules
1. None of them holds a task. Each hears its exchange (room, the client left, the server drains) and is told by rings and legs.
2. A client that closes its side has left: a stream ends. Waiting for the next write to
   fail would keep it a follower, and a member, until a heartbeat, and a drain for its whole grace.
3. A stream that the server ends (it drains, the stream is old, its token is over) says with `retry` when to come back: clients are
   spread, so that they do not come in one moment.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fairlead.core.errors import FairleadError
from fairlead.serve import topicforms as forms
from fairlead.serve.feed import Feed, Form, Leg, Out
from fairlead.serve.jsontext import compact
from fairlead.serve.topicaccess import READ, until
from fairlead.serve.topicmany import Many, Source, Vector
from fairlead.serve.topicmatch import Pattern
from fairlead.store.contract import Offset
from fairlead.wire import sse

RETRY = 1000  # ms until an EventSource comes back, and up to as many more, so that not all come at once
SPREAD = 4000  # ms in which those come back whose server drains
STREAM_MOST = 3600.0  # seconds of one event stream; then the client comes back, from where it was


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
    many: int = 100  # topics on one connection
    wildcards: bool = False  # patterns of topics may be read
    presence: bool = False  # who follows is a member


class Stream(Out):
    """An event stream: hears the exchange, is told by legs."""

    transport = "sse"

    def __init__(
        self, feed: Feed, form: Form, options: TopicOptions, exchange: Any, leaves: Sequence[Callable[[], None]] = ()
    ) -> None:
        Out.__init__(self, feed, form, options.slow, options.heartbeat)
        self.leaves = leaves
        self.exchange = self.body = exchange
        exchange.answer = self
        last = until(exchange)
        lasts = options.stream if last is None else min(options.stream, last)
        self.timer = asyncio.get_running_loop().call_later(lasts, self.farewell)
        if exchange.left:  # while its request was looked at
            asyncio.get_running_loop().call_soon(self.close)

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

    def shut(self) -> None:
        """See `Out`; who counts us is told."""
        if not self.over:
            Out.shut(self)
            for leave in self.leaves:
                leave()

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
        if side == "read":
            self.close()
        else:
            self.timer.cancel()
            self.shut()

    def farewell(self) -> None:
        """The server drains, or this stream has been open for long enough: the client comes again, not all in one moment."""
        if not self.over and not isinstance(self.form, forms.StreamForm):
            self.exchange.data(b"retry: %d\n\n" % random.randint(RETRY, SPREAD), False)
        self.close()


class ManyStream(Stream):
    """Several topics on one event stream. `form(topic, kind)` writes one of them; patterns find more."""

    def __init__(
        self, many: Many, exchange: Any, vector: Vector, form: Callable[[str, str], Any], patterns: Sequence[Pattern],
        leaves: Sequence[Callable[[], None]],
    ) -> None:  # fmt: skip
        self.many, self.vector, self.make, self.patterns = many, vector, form, patterns
        self.stops: list[Callable[[], None]] = []
        self.full = False
        Stream.__init__(self, many.feed, form("", forms.JSON), many.route.options, exchange, leaves)

    def begin(self, sources: Sequence[Source], first: bytes) -> None:
        """Follow these, and what the patterns find."""
        self.say(first)
        for one in sources:
            Leg(self, one.ring, one.after, self.make(one.name, one.kind))
        self.stops = [self.many.names.watch(one, self.found) for one in self.patterns]

    def found(self, topic: str) -> None:
        """There is a topic that a pattern matches."""
        if self.over or topic in self.vector.places:
            return
        most = self.many.route.options.many
        if len(self.vector.places) >= most:
            if not self.full:
                self.full = True
                self.say(self.make("", forms.JSON).told(compact({"limit": most, "missed": topic})))
            return
        self.vector.places[topic] = Offset(0, 0)  # asked for once
        self.feed.spawn(self.join(topic))

    async def join(self, topic: str) -> None:
        """Follow it from its start: it was made after us."""
        self.vector.forget(topic)
        try:
            if not await self.many.route.allows(self.exchange, READ, topic):
                return
            ring = await self.feed.ring(topic)
            head = await self.feed.store.log.head(topic)
        except FairleadError:
            return
        if not self.over and topic not in self.vector.places:
            self.vector.set(topic, head.first)
            Leg(self, ring, None, self.make(topic, forms.kind_of(head.config.content_type)))

    def finish(self, leg: Leg, why: str) -> None:
        """One of its topics has ended; the stream has with the last."""
        if self.over:
            return
        form: Any = leg.form
        topic = leg.ring.topic
        if last := form.ended(topic, why, leg.after, leg.told):
            self.exchange.data(last, False)
        if why == "gone":
            self.vector.forget(topic)
        if why == "slow" or (not self.legs and not self.patterns):
            self.close()

    def shut(self) -> None:
        for stop in self.stops:
            stop()
        Stream.shut(self)
