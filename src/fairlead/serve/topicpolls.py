"""Long polls that wait for news of topics: of one topic, and what one of several (`topicmany`) has in common with it.

None holds a task: it is with the rings of its topics, which wake it, hears its exchange, and has a timer. A client that closes its
side may still want an answer: the poll is answered then, and waits no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fairlead.core.errors import FairleadError
from fairlead.core.exchange import Answer
from fairlead.core.message import Response
from fairlead.serve.feed import Feed, Ring
from fairlead.serve.topicwords import gap_fields, refusal
from fairlead.store.contract import Gap, Head, NoTopic, Offset

if TYPE_CHECKING:
    from fairlead.serve.topics import TopicRoute


class Waiting(Answer):
    """A long poll that waits with `rings`: it is answered once, when something was appended to one, when time is up or the server
    drains, and never when its client has left. `stops` are called when it waits no more.
    """

    def __init__(self, feed: Feed, exchange: Any, stops: Sequence[Callable[[], None]], wait: float) -> None:
        self.feed, self.exchange, self.stops = feed, exchange, [*stops]
        self.rings: list[Ring] = []
        self.over = False
        exchange.answer = self
        self.timer = asyncio.get_running_loop().call_later(wait, self.wake)

    def join_ring(self, ring: Ring) -> None:
        """Hear what comes there."""
        self.rings.append(ring)
        ring.polls.add(self)
        self.feed.enter(ring)

    def wake(self) -> None:
        """There is something to say, or time is up."""
        if self.leave():
            self.feed.spawn(self.respond())

    def leave(self) -> bool:
        """Wait no more; False when that was so already."""
        if self.over:
            return False
        self.over = True
        self.timer.cancel()
        for ring in self.rings:
            ring.polls.discard(self)
            self.feed.leave(ring)
        for stop in self.stops:
            stop()
        return True

    async def respond(self) -> None:
        """Say what there is now."""
        raise NotImplementedError

    def whole(self, status: int, body: bytes, fields: list[tuple[bytes, bytes]]) -> None:
        """The answer, if anybody is still there."""
        if status != 204:
            fields = [*fields, (b"content-length", b"%d" % len(body))]
        self.exchange.whole(Response(status, fields, len(body)), body)

    def reset(self, why: Any, side: str) -> None:
        if side == "read":
            self.wake()
        else:
            self.leave()

    def farewell(self) -> None:
        """The server drains: answer with nothing, the client comes again."""
        self.wake()


class Poll(Waiting):
    """A long poll of one topic."""

    def __init__(
        self, route: TopicRoute, exchange: Any, ring: Ring, head: Head, after: Offset, query: dict[str, str], wait: float
    ) -> None:
        super().__init__(route.feed, exchange, route.entering(exchange, [ring.topic], query), wait)
        self.route, self.ring, self.ends, self.after, self.query = route, ring, head, after, query
        self.join_ring(ring)
        if ring.last != after or ring.closed or ring.gone is not None or exchange.left:  # it came between looking and waiting
            self.wake()

    async def respond(self) -> None:
        """What there is now."""
        try:
            piece = await self.route.feed.piece(self.ring, self.after)
            self.whole(*self.route.polled(self.ring.topic, piece, self.ends, self.query))
        except Gap as gap:
            self.whole(*refusal(410, f"{gap}", gap_fields(gap)))
        except FairleadError as error:
            self.whole(*refusal(404 if isinstance(error, NoTopic) else error.status or 503, f"{error}", after=error.after))
