"""That a topic was deleted, told to every process at once: followers elsewhere need not wait for the next look at the log.

    DELETE ──▶ Endings.deleted ──▶ its own ring looks
                               └─▶ log: $gone (the names) ── hint ──▶ Endings of all processes ──▶ rings of those names look

Rules
1. What is told is a hint: a ring that hears its name asks the log, which alone says whether the topic is there. A hint that is
   lost is made good by the look that every ring takes now and then (`feed`).
2. A process listens while it has rings. It reads the names that are new to it; of more than are kept, and after a loss, every ring
   looks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from fairlead.store.contract import Event, Gap, NewEvent, NoTopic, Offset, StoreError, TopicConfig

if TYPE_CHECKING:
    from fairlead.serve.feed import Feed

GONE = "$gone"
CONFIG = TopicConfig(max_events=1000)
log = logging.getLogger("fairlead")


class Endings:
    """One process's."""

    def __init__(self, feed: Feed) -> None:
        self.feed, self.store = feed, feed.store
        self.last: Offset | None = None  # announcements up to here are known
        self.stop: Callable[[], None] | None = None
        self.reading: asyncio.Task[None] | None = None
        self.again = False

    def deleted(self, topic: str) -> None:
        """This process deleted it."""
        self.look(topic)
        self.feed.spawn(self.announce(topic))

    async def announce(self, topic: str) -> None:
        """Tell the others."""
        with suppress(StoreError):
            await self.store.log.append(GONE, [NewEvent(topic.encode())], create=CONFIG)

    def look(self, topic: str) -> None:
        """Is it there still?"""
        if (ring := self.feed.rings.get(topic)) is not None:
            ring.look()

    def listen(self, wanted: bool) -> None:
        """There are rings, or there are none any more."""
        if wanted and self.stop is None:
            self.stop = self.feed.hub.topic(GONE, self.heard)
        elif not wanted and self.stop is not None:
            self.stop()
            self.stop = None

    def heard(self, last: Offset | None, events: Sequence[Event]) -> None:
        """Something was announced."""
        if self.reading is not None:
            self.again = True
            return
        self.reading = self.feed.spawn(self.read())

    async def read(self) -> None:
        """The names that are new."""
        try:
            while True:
                self.again = False
                try:
                    batch = await self.store.log.read(GONE, self.last)
                except Gap as gap:
                    self.last = gap.earliest
                    for name in tuple(self.feed.rings):
                        self.look(name)
                    continue
                for event in batch.events:
                    self.look(event.data.decode("utf-8", "replace"))
                self.last = batch.next
                if batch.up_to_date and not self.again:
                    return
        except NoTopic:
            self.last = None
        except StoreError as error:
            log.warning("topics: the store cannot be reached: %s", error)
        finally:
            self.reading = None
