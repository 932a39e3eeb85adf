"""The memory engine: exact and simple, gone with its process.

It is what the other engines are measured against, what tests and `memory:` use, and needs nothing. The log is here, the queues
are in `memleases`, keys in `memstate`. Everything is done at once on the loop, so an append is acknowledged in the order it was
called. Producers and dedupe keys are remembered for `MEMORY_WINDOW`. Versions and fences begin at the clock's microseconds, so
that they grow even over a restart that forgot the old ones.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from operator import attrgetter
from typing import Any

from . import chunk
from .clock import Clock
from .contract import (
    Ack,
    Appended,
    Batch,
    Declaration,
    Event,
    Head,
    NewEvent,
    NoTopic,
    Offset,
    Producer,
    TopicConfig,
    new_epoch,
)
from .facade import Front
from .journal import Answer, Call
from .memleases import MemoryLeases
from .memstate import MemoryState
from .pairs import PairWords
from .rules import MEMORY_WINDOW, again, closed, ends, fresh, moved, no_topic, other_config, stale_use, start

SWEEP = 0.5  # seconds between looks for what is too old
_SEQ = attrgetter("seq")


class _Topic:
    """One topic. `first` is the smallest seq that can be read after, `last` the newest event's."""

    def __init__(self, name: str, epoch: int, config: TopicConfig, now: float) -> None:
        self.name, self.epoch, self.config = name, epoch, config
        self.first = self.last = self.size = 0
        self.closed = False
        self.created = self.used = now
        self.events: list[Event] = []
        self.keys: dict[str, int] = {}
        self.producers: dict[str, tuple[int, int, int, float]] = {}
        self.dedupes: dict[str, tuple[int, float]] = {}

    def head(self) -> Head:
        """What is told of it."""
        ends = Offset(self.epoch, self.first), Offset(self.epoch, self.last)
        return Head(self.name, *ends, self.closed, self.config, self.size, self.created)

    def add(self, new: NewEvent, now: float) -> Event:
        """Append one event."""
        self.last += 1
        event = Event(self.last, bytes(new.data), new.type, new.key, now, dict(new.headers))
        if self.config.compact:
            old = self.keys.get(event.key)
            if old is not None:
                place = bisect_right(self.events, old, key=_SEQ) - 1
                self.size -= len(self.events.pop(place).data)
            self.keys[event.key] = event.seq
        self.events.append(event)
        self.size += len(event.data)
        return event

    def forget(self, n: int) -> None:
        """Drop the `n` oldest events."""
        if n > 0:
            gone = self.events[:n]
            del self.events[:n]
            self.size -= sum(len(event.data) for event in gone)
            self.first = gone[-1].seq

    def trim(self, now: float) -> None:
        """Drop what is too old or too much. A compacted topic keeps the last of each key whatever its age."""
        config = self.config
        if config.compact:
            return
        surplus = max(len(self.events) - config.max_events, 0) if config.max_events is not None else 0
        size = self.size - sum(len(event.data) for event in islice(self.events, surplus))
        while surplus < len(self.events):
            event = self.events[surplus]
            old = config.keep is not None and event.at < now - config.keep
            big = config.max_bytes is not None and size > config.max_bytes and surplus < len(self.events) - 1
            if not (old or big):
                break
            surplus += 1
            size -= len(event.data)
        self.forget(surplus)


class MemoryCore(MemoryLeases, MemoryState, PairWords):
    """All words of the contract, done at once."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.topics_by_name: dict[str, _Topic] = {}
        self.floor = 0
        self.counter = int(self.clock.now() * 1e6)
        self.news: list[tuple[str, Offset, Callable[[], Sequence[Event]]]] = []
        MemoryLeases.__init__(self)
        MemoryState.__init__(self)

    def number(self) -> int:
        """A number above all that were given before: versions, fences, orders."""
        self.counter += 1
        return self.counter

    def topic(self, name: str) -> _Topic:
        """The topic, if it is there and its time is not over. NoTopic."""
        topic = self.topics_by_name.get(name)
        if topic is not None:
            end = ends(topic.config, topic.used)
            if end is None or end > self.clock.now():
                return topic
            self.delete(name)
        raise no_topic(name)

    def made(self, name: str, config: TopicConfig) -> _Topic:
        """A new topic."""
        now = self.clock.now()
        self.floor = new_epoch(now, self.floor)
        topic = self.topics_by_name[name] = _Topic(name, self.floor, config, now)
        return topic

    def create(self, name: str, config: TopicConfig, events: Sequence[NewEvent], close: bool) -> tuple[Head, bool]:
        """See `Log.create`."""
        try:
            topic = self.topic(name)
        except NoTopic:
            pass
        else:
            if topic.config != config:
                raise other_config(name)
            return topic.head(), False
        topic = self.made(name, config)
        self.extend_topic(topic, events, close)
        return topic.head(), True

    def extend_topic(self, topic: _Topic, events: Sequence[NewEvent], close: bool) -> None:
        """Append events, trim, and tell."""
        now = topic.used = self.clock.now()
        added = [topic.add(event, now) for event in events]
        topic.closed = close
        topic.trim(now)
        if added or close:
            self.news.append((topic.name, Offset(topic.epoch, topic.last), lambda: added))
            self.stir_fed(topic.name)

    def append(
        self,
        name: str,
        events: Sequence[NewEvent],
        producer: Producer | None,
        dedupe: str,
        close: bool,
        create: TopicConfig | None,
        after: Offset | None,
    ) -> Appended:
        """See `Log.append`."""
        try:
            topic = self.topic(name)
        except NoTopic:
            if create is None:
                raise
            topic = None
        if topic is not None and (done := self.done_before(topic, producer, dedupe, close and not events)):
            return done
        known = topic.producers.get(producer.id) if topic is not None and producer is not None else None
        last = Offset(topic.epoch, topic.last) if topic is not None else None
        if topic is not None and topic.closed and last is not None:
            raise closed(name, last)
        if producer is not None:
            fresh(known[:2] if known is not None else None, producer)
        if after is not None and after != last:
            raise moved(name, last or Offset(0, 0))
        if topic is None:
            topic = self.made(name, create or TopicConfig())
        self.extend_topic(topic, events, close)
        if producer is not None:
            topic.producers[producer.id] = (producer.epoch, producer.seq, topic.last, topic.used)
        if dedupe:
            topic.dedupes[dedupe] = (topic.last, topic.used)
        return Appended(Offset(topic.epoch, topic.last), len(events), False, topic.closed)

    def done_before(self, topic: _Topic, producer: Producer | None, dedupe: str, closing: bool) -> Appended | None:
        """The answer, if this append was done already."""
        old: tuple[int, ...] | None = None
        oldest = self.clock.now() - MEMORY_WINDOW
        if producer is not None:
            known = topic.producers.get(producer.id)
            if known is not None and again(known[:2], producer):
                old = (known[2],)
        if old is None and dedupe:
            seen = topic.dedupes.get(dedupe)
            if seen is not None and seen[1] >= oldest:
                old = (seen[0],)
        if old is None and closing and topic.closed:
            old = (topic.last,)
        return Appended(Offset(topic.epoch, old[0]), 0, True, topic.closed) if old is not None else None

    def read(self, name: str, after: Offset | None, max_events: int, max_bytes: int) -> Batch:
        """See `Log.read`."""
        topic = self.topic(name)
        head = topic.head()
        seq = start(name, after, head.first, head.last)
        if stale_use(topic.config, topic.used, self.clock.now()):
            topic.used = self.clock.now()
        place = bisect_right(topic.events, seq, key=_SEQ)
        taken: list[Event] = []
        room = max_bytes
        for event in islice(topic.events, place, place + max(max_events, 1)):
            room -= len(event.data)
            if taken and room < 0:
                break
            taken.append(event)
        complete = place + len(taken) == len(topic.events)
        reached = head.last if complete else Offset(topic.epoch, taken[-1].seq)
        return Batch(taken, reached, complete, complete and topic.closed)

    def head(self, name: str) -> Head:
        """See `Log.head`."""
        return self.topic(name).head()

    def touch(self, name: str) -> None:
        """A read that somebody else did was a use of the topic."""
        self.topic(name).used = self.clock.now()

    def trim(self, name: str, before: Offset) -> Head:
        """See `Log.trim`."""
        topic = self.topic(name)
        head = topic.head()
        seq = start(name, max(before, head.first) if before.epoch == topic.epoch else before, head.first, head.last)
        topic.forget(bisect_right(topic.events, seq, key=_SEQ))
        topic.first = seq
        topic.keys = {key: at for key, at in topic.keys.items() if at > seq}
        return topic.head()

    def delete(self, name: str) -> bool:
        """See `Log.delete`."""
        topic = self.topics_by_name.pop(name, None)
        if topic is None:
            return False
        self.floor = max(self.floor, topic.epoch)
        end = ends(topic.config, topic.used)
        return end is None or end > self.clock.now()

    def topics(self, prefix: str, after: str, limit: int) -> list[Head]:
        """See `Log.topics`."""
        self.sweep_topics()
        names = sorted(name for name in self.topics_by_name if name.startswith(prefix) and name > after)
        return [self.topics_by_name[name].head() for name in names[:limit]]

    def sweep_topics(self) -> None:
        """Drop the topics whose time is over, and what is too old in the others."""
        now = self.clock.now()
        for topic in list(self.topics_by_name.values()):
            end = ends(topic.config, topic.used)
            if end is not None and end <= now:
                self.delete(topic.name)
                continue
            topic.trim(now)
            old = now - MEMORY_WINDOW
            topic.dedupes = {key: seen for key, seen in topic.dedupes.items() if seen[1] >= old}
            topic.producers = {key: known for key, known in topic.producers.items() if known[3] >= old}

    def greet(self, caller: str) -> int:
        """A caller in another process: nothing of its calls outlived this one."""
        return 0

    def leave(self, caller: str) -> None:
        """It has gone."""

    def sweep(self) -> None:
        """Drop what is over; stir the queues whose items have become due."""
        self.sweep_topics()
        self.sweep_leases()
        self.sweep_state()


class Memory(Front):
    """The engine."""

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__()
        self.core = MemoryCore(clock)
        self.clock = self.core.clock
        self.path = ""
        self.telling = False
        self.on_group: Callable[[list[Any], set[str]], None] | None = None
        self.sweeper: asyncio.TimerHandle | None = None

    async def open(self) -> Declaration:
        """See `Engine`."""
        self.sweep()
        return declaration()

    async def close(self) -> None:
        """See `Engine`. What it held stays for a later `open` of the same object."""
        if self.sweeper is not None:
            self.sweeper.cancel()

    async def now(self) -> float:
        """See `Engine`."""
        return self.core.clock.now()

    def sweep(self) -> None:
        """Now and again."""
        self.core.sweep()
        self.flush()
        self.sweeper = asyncio.get_running_loop().call_later(SWEEP, self.sweep)

    def flush(self) -> None:
        """Tell what happened."""
        core = self.core
        if not (core.news or core.stirred):
            return
        if self.on_group is not None:
            raw = [(topic, last.epoch, last.seq, chunk.whole(events())) for topic, last, events in core.news]
            self.on_group(raw, core.stirred)
            core.news, core.stirred = [], set()
        elif not self.telling:
            self.telling = True
            asyncio.get_running_loop().call_soon(self.tell_all)

    def tell_all(self) -> None:
        """Pass on what this turn brought."""
        self.telling = False
        news, self.core.news = self.core.news, []
        stirred, self.core.stirred = self.core.stirred, set()
        self.tell(news, stirred)

    def submit(self, call: Call, done: Callable[[Answer], None]) -> None:
        """Have a call of another process done; `done` hears the answer."""
        try:
            answer = Answer(getattr(self.core, call.word)(*call.args))
        except Exception as error:
            answer = Answer(None, error)
        self.flush()
        done(answer)

    def call(self, word: str, *args: Any) -> Awaitable[Any]:
        """See `Caller`."""
        return self.done(word, args)

    async def done(self, word: str, args: tuple[Any, ...]) -> Any:
        """The core's answer, at once."""
        try:
            return getattr(self.core, word)(*args)
        finally:
            self.flush()


def declaration() -> Declaration:
    """What memory promises."""
    notes = ("gone when the process ends: the topics then have another epoch",)
    return Declaration("memory", Ack.MEMORY, MEMORY_WINDOW, topics="as memory allows", notes=notes)


def make(url: str, ack: Ack | None = None) -> Memory:
    """See `store.open`."""
    return Memory()
