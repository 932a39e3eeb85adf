"""Patterns of topic names, and hearing of the topics that match one.

    orders.eu     itself           orders.*    one word in place of the star           orders.>    one word or more, at the end

Words are parted by `.`, as NATS has it: a pattern says beforehand which names can match, so those are found by their prefix.

Rules
1. Which topics there are is the log's word (`Log.topics`), by the pattern's fixed beginning, `SCAN` names at most.
2. Who makes a topic says so in the topic `MADE`: a hint for those who follow patterns, on every node. It may be lost, so every
   `LOOK` seconds the log is asked again while somebody follows. Nothing is announced in a server without such a route.
3. Topics whose names begin with `$` are ours and match nothing.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from fairlead.core.errors import Refused
from fairlead.serve.feed import Feed
from fairlead.serve.jsontext import WORD
from fairlead.store.contract import Gap, NewEvent, NoTopic, Offset, StoreError, TopicConfig

MADE = "$made"
KEPT = 1000  # announcements that are kept
LOOK = 10.0  # seconds between looks for what no announcement told
SCAN = 100_000  # names looked at for one pattern
LONGEST = 512  # characters of a pattern
log = logging.getLogger("fairlead")


class Pattern(NamedTuple):
    """One pattern: `prefix` is what every match begins with."""

    text: str
    prefix: str
    expression: re.Pattern[str]

    def matches(self, topic: str) -> bool:
        """Is this a name that it means?"""
        return topic.startswith(self.prefix) and not topic.startswith("$") and self.expression.fullmatch(topic) is not None


def pattern(text: str) -> Pattern:
    """The pattern that a client wrote. Refused 400."""
    words = text.split(".")
    if not WORD.fullmatch(text) or len(text) > LONGEST or any(not word for word in words):
        raise Refused("a pattern is words with dots between them", status=400, hint="as orders.* or orders.>")
    made, prefix, fixed = [], [], True
    for place, word in enumerate(words):
        if word == ">" and place == len(words) - 1:
            made.append(r".+")
            fixed = False
        elif word == "*":
            made.append(r"[^.]+")
            fixed = False
        elif "*" in word or ">" in word:
            raise Refused(f"{word!r}: * and > stand for whole words, > for the last ones", status=400)
        else:
            made.append(re.escape(word))
            if fixed:
                prefix.append(word)
    start = ".".join(prefix) + ("." if prefix and len(prefix) < len(words) else "")
    return Pattern(text, start, re.compile(r"\.".join(made)))


class Names:
    """The names of topics, for one process. `announcing`: whether what is made here is told to others."""

    def __init__(self, feed: Feed) -> None:
        self.feed, self.store = feed, feed.store
        self.announcing = False
        self.watchers: dict[Pattern, list[Callable[[str], None]]] = {}
        self.last: Offset | None = None
        self.stop_hints: Callable[[], None] | None = None
        self.looking: asyncio.Task[None] | None = None
        self.again = asyncio.Event()

    def made(self, topic: str) -> None:
        """A topic was made by this process: those who follow patterns may want it."""
        if self.announcing and not topic.startswith("$"):
            self.told(topic)
            self.feed.spawn(self.announce(topic))

    async def announce(self, topic: str) -> None:
        """Tell the others."""
        with suppress(StoreError):
            await self.store.log.append(MADE, [NewEvent(topic.encode())], create=TopicConfig(max_events=KEPT))

    async def matching(self, wanted: Pattern, most: int) -> list[str]:
        """The names that match, no more than `most` and one more."""
        found: list[str] = []
        after, seen = "", 0
        while seen < SCAN:
            heads = await self.store.log.topics(wanted.prefix, after, 1000)
            found += [head.topic for head in heads if wanted.matches(head.topic)]
            if len(heads) < 1000 or len(found) > most:
                break
            seen += len(heads)
            after = heads[-1].topic
        return found[: most + 1]

    def watch(self, wanted: Pattern, heard: Callable[[str], None]) -> Callable[[], None]:
        """`heard(name)` of topics that match, again and again, until what this returns is called."""
        there = self.watchers.setdefault(wanted, [])
        there.append(heard)
        if self.looking is None:
            self.stop_hints = self.feed.hub.topic(MADE, lambda last, events: self.again.set())
            self.looking = self.feed.spawn(self.look())

        def stop() -> None:
            if heard in there:
                there.remove(heard)
            if not there and self.watchers.get(wanted) is there:
                del self.watchers[wanted]
            if not self.watchers and self.looking is not None:
                self.looking.cancel()
                self.looking = None
                if self.stop_hints is not None:
                    self.stop_hints()

        return stop

    def told(self, topic: str) -> None:
        """There is such a topic."""
        for wanted, heard in tuple(self.watchers.items()):
            if wanted.matches(topic):
                for one in tuple(heard):
                    one(topic)

    async def look(self) -> None:
        """While somebody follows: what is announced at once, everything now and then."""
        loop = asyncio.get_running_loop()
        due = loop.time() + LOOK
        self.last = await self.end()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - loop.time())):
                    await self.again.wait()
            self.again.clear()
            try:
                if loop.time() >= due:
                    due = loop.time() + LOOK
                    for wanted in tuple(self.watchers):
                        for name in await self.matching(wanted, SCAN):
                            self.told(name)
                await self.announced()
            except StoreError as error:
                log.warning("topics: the store cannot be reached: %s", error)

    async def end(self) -> Offset | None:
        """The end of the announcements."""
        try:
            return (await self.store.log.head(MADE)).last
        except StoreError:
            return None

    async def announced(self) -> None:
        """Read the announcements that are new."""
        while True:
            try:
                batch = await self.store.log.read(MADE, self.last)
            except Gap as gap:
                self.last = gap.earliest
                continue
            except NoTopic:
                return
            for event in batch.events:
                self.told(event.data.decode("utf-8", "replace"))
            self.last = batch.next
            if batch.up_to_date:
                return
