"""Random walks: the same calls to an engine and to the memory engine's core, and the same answers, or one of them is wrong.

What may differ is made equal first: epochs, versions and fences are numbered by their order of appearance, times left out. No step
waits, nothing expires, and trimming is only by `trim`, so every answer is determined. `walk` draws its steps from a seed; the
project's tests draw theirs with Hypothesis, which shrinks a walk that fails.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from ..contract import (
    Batch,
    Dead,
    Depth,
    Engine,
    Entry,
    Head,
    Item,
    Lease,
    NewEvent,
    Offset,
    Producer,
    StoreError,
    TopicConfig,
)
from ..memory import MemoryCore
from .kit import Failed

Step = tuple[Any, ...]
TOPICS = QUEUES = KEYS = 3
PRODUCERS = ("", "", "", "p", "q")
LONG = 3600.0  # seconds of a lease: none runs out in a walk
CONFIGS = (TopicConfig(), TopicConfig("application/json"), TopicConfig("text/plain", keep=9e6))
_LEASES = {"extend", "ack", "nack", "term"}


def step(draw: random.Random) -> Step:
    """One step, drawn."""
    n = draw.randrange
    kinds: Sequence[Any] = (
        ("create", n(TOPICS), n(len(CONFIGS)), n(3), n(8) == 0),
        ("append", n(TOPICS), n(4), draw.choice(PRODUCERS), n(2), n(4), draw.choice(("", "k")), n(9) == 0, n(3) == 0, n(5)),
        ("append", n(TOPICS), 1, "", 0, 0, "", False, True, 9),
        ("read", n(TOPICS), n(12) - 1, n(5) + 1),
        ("trim", n(TOPICS), n(9)),
        ("head", n(TOPICS)),
        ("delete", n(TOPICS)),
        ("put", n(QUEUES), n(9), n(3)),
        ("claim", n(QUEUES), n(4)),
        ("claim", n(QUEUES), n(4)),
        ("ack", n(30)), ("extend", n(30)), ("nack", n(30)), ("term", n(30)),
        ("redrive", n(QUEUES), n(2) == 0), ("remove", n(QUEUES), n(9)), ("dead", n(QUEUES)), ("depth", n(QUEUES)),
        ("feed", n(QUEUES), n(TOPICS), n(2) == 0), ("drop", n(QUEUES)),
        ("put_if", n(KEYS), n(5) - 2), ("put_if", n(KEYS), n(5) - 2), ("delete_if", n(KEYS), n(5) - 2),
        ("get", n(KEYS)), ("scan",),
    )  # fmt: skip
    return draw.choice(kinds)


class Walk:
    """One walk on one engine, under names that begin with `prefix`."""

    def __init__(self, engine: Engine, prefix: str) -> None:
        self.engine = engine
        self.prefix = prefix
        self.model = MemoryCore()
        self.epochs: tuple[dict[tuple[str, int], int], dict[tuple[str, int], int]] = ({}, {})
        self.about = ""  # which topic or queue the step is about: each has its own epochs
        self.leases: list[tuple[Lease, Lease]] = []
        self.versions: list[tuple[int, int]] = []
        self.trail: list[Step] = []

    async def take(self, one: Step) -> None:
        """Do a step on both; raises Failed when the answers differ."""
        self.trail.append(one)
        ours, theirs = self.words(one, 0), self.words(one, 1)
        if ours is None or theirs is None:
            return
        found = await self.engine_does(one[0], ours)
        wanted = self.model_does(one[0], theirs)
        self.about = ours[0] if isinstance(ours[0], str) else ""
        got, want = self.plain(found, 0), self.plain(wanted, 1)
        if got != want:
            trail = "\n  ".join(map(str, self.trail))
            raise Failed(f"{one}: got {got}, right would be {want}, after\n  {trail}")
        self.remember(one[0], found, wanted)

    def remember(self, word: str, found: Any, wanted: Any) -> None:
        """Leases and versions are used by later steps."""
        if word == "claim" and isinstance(found, list):
            self.leases += zip(found, wanted)
        elif word == "put_if" and isinstance(found, Entry):
            self.versions.append((found.version, wanted.version))

    async def engine_does(self, word: str, args: tuple[Any, ...]) -> Any:
        """The engine's answer, or its error."""
        log, leases, state = self.engine.log, self.engine.leases, self.engine.state
        assert log is not None and leases is not None and state is not None
        try:
            if word == "append":
                topic, events, producer, dedupe, close, create, after = args
                return await log.append(
                    topic, events, producer=producer, dedupe=dedupe, close=close, create=create, after=after
                )
            if word == "put_if":
                return await state.put_if(args[0], args[1], args[2])
            part: Any = next(one for one in (log, leases, state) if hasattr(one, word))
            return await getattr(part, word)(*args)
        except StoreError as error:
            return error

    def model_does(self, word: str, args: tuple[Any, ...]) -> Any:
        """The model's."""
        core = self.model
        try:
            if word in ("ack", "extend"):
                names = tuple((one.queue, one.id, one.fence) for one in args[0])
                return getattr(core, word)(names, *args[1:])
            if word in ("nack", "term"):
                lease, *rest = args
                extra: tuple[Any, ...] = (0.0, "", None) if word == "nack" else tuple(rest)
                return getattr(core, word)(lease.queue, lease.id, lease.fence, *extra)
            if word == "put_if":
                return core.put_if(args[0], args[1], args[2], None, None)
            return getattr(core, word)(*args)
        except StoreError as error:
            return error

    def offset(self, topic: str, seq: int) -> Offset:
        """An offset of the topic as the model has it: in both numberings only the epoch differs, which `words` sets right."""
        there = self.model.topics_by_name.get(topic)
        return Offset(there.epoch if there is not None else 0, seq)

    def words(self, one: Step, side: int) -> tuple[Any, ...] | None:
        """What the step is called with on one side; None when it cannot be taken."""
        word, *rest = one
        if word in _LEASES:
            if not self.leases:
                return None
            lease = self.leases[rest[0] % len(self.leases)][side]
            return {"ack": ([lease],), "extend": ([lease], LONG), "nack": (lease,), "term": (lease, "why")}[word]
        if word in ("put_if", "delete_if"):
            key, which = f"{self.prefix}k{rest[0]}", rest[1]
            version = (
                self.versions[which % len(self.versions)][side] if which > 0 and self.versions else None if which else 0
            )
            if word == "delete_if":
                return key, version
            return key, b"v", version
        if word in ("get", "scan"):
            return (f"{self.prefix}k{rest[0]}",) if word == "get" else (f"{self.prefix}k", "", 1000)
        if word in ("create", "append", "read", "trim", "head", "delete"):
            return self.topic_words(word, f"{self.prefix}t{rest[0]}", rest[1:], side)
        return self.queue_words(word, f"{self.prefix}q{rest[0]}", rest[1:], side)

    def topic_words(self, word: str, topic: str, rest: list[Any], side: int) -> tuple[Any, ...]:
        """The same of a topic's words."""
        if word == "create":
            config, events, close = rest
            return topic, CONFIGS[config], [NewEvent(b"c")] * events, close
        if word == "append":
            n, producer, epoch, seq, dedupe, close, create, after = rest
            events = [NewEvent(b"%d" % number, "type" if number else "", f"k{number}") for number in range(n)]
            maker = Producer(producer, epoch, seq) if producer else None
            at = self.theirs(topic, after, side) if after < 3 else None
            return topic, events, maker, dedupe, close, CONFIGS[0] if create else None, at
        if word == "read":
            return topic, None if rest[0] < 0 else self.theirs(topic, rest[0], side), rest[1], 1 << 20
        return (topic, self.theirs(topic, rest[0], side)) if word == "trim" else (topic,)

    def theirs(self, topic: str, seq: int, side: int) -> Offset:
        """An offset in a side's own epochs."""
        offset = self.offset(topic, seq)
        number = self.epochs[1].get((topic, offset.epoch))
        if side == 1 or number is None:
            return offset
        back = {(name, value): epoch for (name, epoch), value in self.epochs[0].items()}
        return Offset(back[topic, number], seq)

    def queue_words(self, word: str, queue: str, rest: list[Any], side: int) -> tuple[Any, ...]:
        """The same of a queue's words."""
        if word == "put":
            return queue, [Item(f"i{rest[0]}", b"body", priority=rest[1])]
        if word == "claim":
            return queue, rest[0], LONG, ""
        if word == "redrive":
            return queue, None if rest[0] else ["i1", "i2"]
        if word == "remove":
            return queue, [f"i{rest[0]}"]
        if word == "dead":
            return queue, "", 100
        if word == "feed":
            topic = f"{self.prefix}t{rest[0]}"
            there = self.model.topics_by_name.get(topic)
            start = there.first if there is not None else 0
            return queue, topic, self.theirs(topic, start, side) if rest[1] else None
        return (queue,)

    def plain(self, value: Any, side: int) -> Any:
        """An answer without what may differ."""
        if isinstance(value, StoreError):
            return type(value).__name__
        if isinstance(value, Offset):
            numbers = self.epochs[side]
            new = sum(name == self.about for name, _ in numbers)
            return ("epoch", numbers.setdefault((self.about, value.epoch), new), value.seq)
        if isinstance(value, Batch):
            events = [(event.seq, event.data, event.type, event.key) for event in value.events]
            return events, self.plain(value.next, side), value.up_to_date, value.closed
        if isinstance(value, Head):
            first, last = self.plain(value.first, side), self.plain(value.last, side)
            return value.topic, first, last, value.closed, value.config, value.bytes
        if isinstance(value, Lease):
            offset = self.plain(value.offset, side)
            return value.queue, None if offset else value.id, value.attempt, value.body, offset
        if isinstance(value, Dead):
            offset = self.plain(value.offset, side)
            return None if offset else value.id, value.body, value.attempts, value.reason, offset
        if isinstance(value, Depth):
            return value.ready, value.delayed, value.leased, value.dead, value.lag
        if isinstance(value, Entry):
            return value.value
        if isinstance(value, (list, tuple)):
            return [self.plain(one, side) for one in value]
        return value


async def walk(engine: Engine, prefix: str, seed: int, steps: int) -> None:
    """A walk drawn from a seed."""
    draw = random.Random(seed)
    path = Walk(engine, prefix)
    for _ in range(steps):
        await path.take(step(draw))
