"""What a store promises: three small interfaces, the same for every engine.

A store is three things that may live in different engines:

- `Log`: topics. Each is one ordered list of events, appended to and read from any offset that is still kept.
- `Leases`: queues. An item is claimed for a time under a fence; who holds an old fence can change nothing any more.
- `State`: keys with a value, a version, an expiry and a due time. Changed only by comparing the version.

The contract, for every engine:

- *Order.* The events of one topic have one order, and `seq` grows by one with each append of an event. Compaction leaves
  holes (and so may engines that number what is not ours), so nobody computes the next seq: `Batch.next` says it. Between
  topics there is no order.
- *Offsets.* An `Offset` is an epoch and a seq, written `<epoch>_<seq>`, each in a fixed width, so that the texts sort as
  the offsets do. It means "everything up to and including seq has been read". The epoch of a topic changes, and only grows,
  whenever events were lost or the topic was made anew: an offset of another epoch never silently reads the wrong events. It
  is made of the clock in milliseconds (`new_epoch`), so that it grows even when the store that knew the old one is gone, and no
  two topics of a store are given the same: an offset of one topic is a gap in every other.
- *Gaps are told.* A read from before what is kept, from another epoch, or from the future raises `Gap`, which says where to
  go on.
- *Acknowledged means kept*, as far as `Declaration.ack` says. `append` returns when that is reached, not earlier.
- *Duplicates.* An append with the producer's (id, epoch, seq), or with a dedupe key, that is seen again inside the declared
  window appends nothing: `duplicate`, with the first one's offset for a key and the offset of its newest append for a
  producer. A producer's seq starts at 0 in each of its epochs. Outside the window the contract promises nothing.
- *What wins.* NoTopic, then duplicate, then Closed, then StaleProducer and ProducerGap, then Conflict over `after`. Closing
  what is closed, with no events, is a duplicate. Appending no events without closing changes nothing and answers with the
  end.
- *Trimming* by age, count and bytes is the engine's: never fewer events than asked for, and not many more for longer than
  some seconds.
- *At least once* to groups: a claimed item that is not acknowledged before its lease ends is claimed again, with a higher
  fence.
- *Hints are hints.* What `watch` says may be lost, repeated or early. The truth is always `read`.
- *No transaction spans topics.* What several calls do can be cut between any two of them; callers order them so that a
  repeat heals.
- *Time* is the engine's own clock, one for all who share it, and it never runs backwards: expiry and leases survive a jump
  of the machine's clock. Times are seconds since 1970, floats; durations are seconds.

Everything is a coroutine function of asyncio and may be cancelled: a cancelled append may or may not have happened.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from ..core.errors import FairleadError

EPOCH_DIGITS = (
    13  # milliseconds since 1970 fit until 2286; in seconds a store lost and made anew could meet its old epoch
)
SEQ_DIGITS = 16


class Offset(NamedTuple):
    """A place in a topic: after event `seq` of `epoch`. (epoch, 0) is the start."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch:0{EPOCH_DIGITS}d}_{self.seq:0{SEQ_DIGITS}d}"

    @classmethod
    def parse(cls, text: str) -> Offset:
        """The offset that `text` is. ValueError when it is none; what `-1` and `now` mean is the reader's business."""
        epoch, found, seq = text.partition("_")
        digits = (epoch + seq).isascii() and (epoch + seq).isdigit()
        if not (found and digits and len(epoch) == EPOCH_DIGITS and len(seq) == SEQ_DIGITS):
            raise ValueError(
                f"not an offset: {text[:64]!r}; write what a Stream-Next-Offset header or an event's id said"
            )
        return cls(int(epoch), int(seq))


def new_epoch(now: float, floor: int = 0) -> int:
    """The epoch of a topic made at `now`, above `floor`: every epoch that the store gave before, to whichever topic."""
    return max(int(now * 1000), floor + 1)


class Event(NamedTuple):
    """One event as it is read. `data` are the bytes that were published; `headers` small texts that travel with it."""

    seq: int
    data: bytes
    type: str = ""  # SSE `event`, CloudEvents `type`
    key: str = ""  # for compaction and conflation
    at: float = 0.0  # when the store took it
    headers: Mapping[str, str] = {}


class NewEvent(NamedTuple):
    """One event to append."""

    data: bytes
    type: str = ""
    key: str = ""
    headers: Mapping[str, str] = {}


class Producer(NamedTuple):
    """Who appends, for exact deduplication: each append of one producer has the next `seq`; a new `epoch` fences the old one."""

    id: str
    epoch: int
    seq: int


@dataclass(slots=True, frozen=True)
class TopicConfig:
    """How a topic was made; a second creation with the same says "already there", with another it is refused."""

    content_type: str = "application/octet-stream"
    keep: float | None = None  # seconds; older events are trimmed
    max_events: int | None = None
    max_bytes: int | None = None
    compact: bool = (
        False  # keeps the last event of each key (no key is a key too) and no other, whatever keep and max say
    )
    expires: float | None = None  # when the topic itself goes, seconds since 1970
    ttl: float | None = (
        None  # or so many seconds after its last append or read (`head` is no use); engines may round by a tenth
    )


@dataclass(slots=True, frozen=True)
class Head:
    """A topic's ends: `first` is the smallest offset that can be read from, `last` the offset of the newest event."""

    topic: str
    first: Offset
    last: Offset
    closed: bool
    config: TopicConfig
    bytes: int = 0
    created: float = 0.0


class Appended(NamedTuple):
    """What an append did: the offset of its last event, and how many it added. `duplicate` when an earlier one had done it."""

    last: Offset
    count: int  # type: ignore[assignment]  # a tuple has a method of this name, which nobody needs here
    duplicate: bool = False
    closed: bool = False


class Batch(NamedTuple):
    """What a read gave: `next` to go on from, `up_to_date` when nothing newer was there, `closed` when nothing ever will be."""

    events: Sequence[Event]
    next: Offset
    up_to_date: bool
    closed: bool


# ---- errors ---------------------------------------------------------------------------------------------------------


class StoreError(FairleadError):
    """The engine could not do it: it is away, full, or damaged. `retry` says whether trying again may help."""


class NoTopic(StoreError):
    """There is no such topic."""


class TopicExists(StoreError):
    """It was made before with another configuration."""


class Closed(StoreError):
    """The topic has ended; `last` is its final offset."""

    def __init__(self, message: str, last: Offset) -> None:
        super().__init__(message)
        self.last = last


class Gap(StoreError):
    """What was asked for is not there (any more): `earliest` is where reading can go on, `latest` the end."""

    def __init__(self, message: str, earliest: Offset, latest: Offset) -> None:
        super().__init__(message)
        self.earliest = earliest
        self.latest = latest


class StaleProducer(StoreError):
    """A newer epoch of this producer has appended; `epoch` is it."""

    def __init__(self, message: str, epoch: int) -> None:
        super().__init__(message)
        self.epoch = epoch


class ProducerGap(StoreError):
    """The producer's seq skips some: `expected` is the next one, `received` what came.

    `known` is the epoch that the engine has of this producer, None when it has none: a smaller one than the append's means
    that a new epoch did not start at 0.
    """

    def __init__(self, message: str, expected: int, received: int, known: int | None = None) -> None:
        super().__init__(message)
        self.expected = expected
        self.received = received
        self.known = known


class Fenced(StoreError):
    """The lease is no longer yours: it ran out and was claimed again, or the item is finished."""


class Conflict(StoreError):
    """The key has another version (`entry` is what is there, or None), or the topic another end (`last`)."""

    def __init__(self, message: str, entry: Entry | None = None, last: Offset | None = None) -> None:
        super().__init__(message)
        self.entry = entry
        self.last = last


class TooMuch(StoreError):
    """Asked for something that this engine does not promise, such as a stronger `ack`."""


# ---- what an engine promises ----------------------------------------------------------------------------------------


class Ack(enum.StrEnum):
    """What has happened when an append returns, from weak to strong."""

    MEMORY = "memory"
    NODE = "node"
    NODE_FSYNC = "node+fsync"
    QUORUM = "quorum"
    QUORUM_FSYNC = "quorum+fsync"


@dataclass(slots=True, frozen=True)
class Declaration:
    """What one engine, as it is set up now, promises. Read from it when it is opened, and shown at start and in `status`."""

    engine: str  # "sqlite 3.45.1", "redis 7.0.15"
    ack: Ack  # the strongest
    dedupe: float | None  # window in seconds; None: as long as the topic lives
    outbox: bool = False  # append and put inside the application's own transaction
    shared: bool = False  # several machines may use it at once
    topics: str = "millions"
    notes: tuple[str, ...] = ()  # what an operator ought to know, such as `appendfsync everysec`


# ---- the three ------------------------------------------------------------------------------------------------------

# (topic, its newest offset as far as is known or None, events): called on the loop, must not raise. `events` are those up to
# that offset that the engine had at hand, in order and without a hole inside; often none. Who has read up to just before the
# first of them may take them as read; everybody else reads.
Hint = Callable[[str, Offset | None, Sequence[Event]], None]


@runtime_checkable
class Log(Protocol):
    """Topics."""

    async def create(
        self, topic: str, config: TopicConfig, events: Sequence[NewEvent] = (), close: bool = False
    ) -> tuple[Head, bool]:
        """Makes it, with its first events; (head, True) when made now, (head, False) when it was there with this configuration.

        What was there stays as it is: `events` and `close` count only when it is made. TopicExists.
        """

    async def append(
        self,
        topic: str,
        events: Sequence[NewEvent],
        *,
        producer: Producer | None = None,
        dedupe: str = "",
        close: bool = False,
        create: TopicConfig | None = None,
        after: Offset | None = None,
    ) -> Appended:
        """All of `events` or none, in one piece.

        `create`: makes the topic so when there is none (else NoTopic); an existing one keeps its configuration. `after`: only if
        the topic's end is still there (else Conflict).
        `close`: nothing may follow. Closed, StaleProducer, ProducerGap, StoreError.
        """

    async def read(self, topic: str, after: Offset | None, max_events: int = 1000, max_bytes: int = 1 << 20) -> Batch:
        """At most so many events after `after` (None: all that is kept), always at least one if there is one. NoTopic, Gap.

        It sees every append that was acknowledged, to anybody, before it was called.
        """

    async def head(self, topic: str) -> Head:
        """Its ends. NoTopic."""

    async def trim(self, topic: str, before: Offset) -> Head:
        """Forgets the events up to and including `before`. NoTopic; Gap for another epoch or the future."""

    async def delete(self, topic: str) -> bool:
        """Forgets it whole; a topic of the same name made later has a higher epoch."""

    async def topics(self, prefix: str = "", after: str = "", limit: int = 1000) -> list[Head]:
        """Topics by name, a page at a time."""

    def watch(self, hint: Hint) -> None:
        """From now on `hint` hears of appends to topics of interest, from anywhere. One per engine object."""

    def interest(self, topic: str, wanted: bool) -> None:
        """Whether hints about this topic matter here; counted by the caller. Engines may hint about others too."""


class Item(NamedTuple):
    """One item of a queue. `id` is unique in the queue: putting it again while it is there changes nothing."""

    id: str
    body: bytes
    due: float = 0.0  # not before
    priority: int = 0  # higher first


class Lease(NamedTuple):
    """An item in somebody's hands until `until`, under a `fence` that grows with every claim of the item."""

    queue: str
    id: str
    fence: int
    attempt: int  # 1 for the first
    body: bytes
    until: float
    event: Event | None = None  # of a queue that is fed by a topic
    offset: Offset | None = None


@dataclass(slots=True, frozen=True)
class Depth:
    """A queue in numbers. `oldest` is since when the longest-waiting item could have been claimed."""

    queue: str
    ready: int = 0
    delayed: int = 0
    leased: int = 0
    dead: int = 0
    oldest: float | None = None
    lag: int = 0  # of a fed queue: events of the topic that are not acknowledged yet


class Dead(NamedTuple):
    """An item that was given up, why and when."""

    id: str
    body: bytes
    attempts: int
    reason: str
    at: float
    offset: Offset | None = None


@runtime_checkable
class Leases(Protocol):
    """Queues."""

    async def feed(self, queue: str, topic: str, after: Offset | None = None) -> None:
        """Makes the queue a consumer group of a topic: each event after `after` (None: from now on) is an item. Idempotent.

        The topic's events are kept in the log, not copied; a queue that falls behind what the topic keeps, or whose topic was
        made anew, goes on at its first event, and the next claim raises `Gap` once. An item's id is its offset as text, its body
        the event's data. NoTopic; Conflict when the queue is fed by another topic.
        """

    async def seek(self, queue: str, after: Offset) -> None:
        """A fed queue begins again after `after`: its items, leased or not, are forgotten (dead letters stay). NoTopic, Gap."""

    async def put(self, queue: str, items: Iterable[Item]) -> list[bool]:
        """Adds items; False for those whose id is there already (waiting, leased or dead). Makes the queue when there is none."""

    async def claim(self, queue: str, n: int, ttl: float, owner: str = "") -> list[Lease]:
        """At most `n` items that are due, by priority, then in the order they were put, each leased for `ttl` seconds."""

    async def extend(self, leases: Sequence[Lease], ttl: float) -> list[bool]:
        """Holds on to them; False for each that is fenced."""

    async def ack(self, leases: Sequence[Lease]) -> list[bool]:
        """Done, gone. False for each that is fenced."""

    async def nack(self, lease: Lease, delay: float = 0.0, reason: str = "", body: bytes | None = None) -> None:
        """Gives it back, to be claimed after `delay`, with `body` in place of its own if given. Fenced."""

    async def term(self, lease: Lease, reason: str) -> None:
        """Gives it up: to the dead letters. Fenced."""

    async def dead(self, queue: str, after: str = "", limit: int = 100) -> list[Dead]:
        """The dead letters, oldest first."""

    async def redrive(self, queue: str, ids: Sequence[str] | None = None) -> int:
        """Back to the living, all or these, with attempts counted from none; how many."""

    async def remove(self, queue: str, ids: Sequence[str]) -> list[bool]:
        """Forgets items, whether waiting, leased (whose holder is fenced) or dead."""

    async def drop(self, queue: str) -> bool:
        """Forgets the queue with all that is in it; False when there was none."""

    async def depth(self, queue: str) -> Depth:
        """The queue in numbers."""

    async def queues(self, prefix: str = "") -> list[str]:
        """Their names."""

    async def next_due(self, queue: str) -> float | None:
        """When the next item that is not yet due or whose lease may run out can be claimed; None when there is none."""

    def watch(self, hint: Callable[[str], None]) -> None:
        """From now on `hint(queue)` hears that something may be claimable. As lossy as any hint."""

    def interest(self, queue: str, wanted: bool) -> None:
        """Whether hints about this queue matter here."""


class Entry(NamedTuple):
    """What a key holds."""

    value: bytes
    version: int  # grows with every change, also over a deletion: no version of a key comes twice
    expires: float | None = None
    due: float | None = None


@runtime_checkable
class State(Protocol):
    """Keys. A key is text; keys of one purpose share a prefix that ends in `/`."""

    async def get(self, key: str) -> Entry | None:
        """What it holds; None when there is none or it has expired."""

    async def put_if(
        self, key: str, value: bytes, version: int | None, *, ttl: float | None = None, due: float | None = None
    ) -> Entry:
        """Sets it if its version is `version` (0: only if there is none; None: whatever it is). Conflict otherwise.

        `ttl` seconds from now it is gone (None: it stays); from `due`, a time, `scan_due` shows it (None: never).
        """

    async def delete_if(self, key: str, version: int | None = None) -> bool:
        """Forgets it if its version is that. Conflict; False when it was not there."""

    async def scan(self, prefix: str, after: str = "", limit: int = 1000) -> list[tuple[str, Entry]]:
        """Keys by name, a page at a time."""

    async def scan_due(self, prefix: str, limit: int = 100) -> list[tuple[str, Entry]]:
        """Keys whose due time has come, earliest first. They stay due until somebody changes them."""


@runtime_checkable
class Engine(Protocol):
    """One engine, open or not. `log`, `leases` and `state` are itself or parts of it; an engine without one has None."""

    @property
    def log(self) -> Log | None:
        """Its topics."""

    @property
    def leases(self) -> Leases | None:
        """Its queues."""

    @property
    def state(self) -> State | None:
        """Its keys."""

    async def open(self) -> Declaration:
        """Connects, makes or checks its tables, and says what it promises. StoreError when it cannot."""

    async def close(self) -> None:
        """Finishes what was begun and lets go."""

    async def now(self) -> float:
        """The engine's clock."""


@dataclass(slots=True)
class Store:
    """The three, wherever they live, and what each promises."""

    log: Log
    leases: Leases
    state: State
    declarations: Mapping[str, Declaration] = field(default_factory=dict)  # by engine URL without secrets
    engines: tuple[Engine, ...] = ()  # each once

    async def close(self) -> None:
        """Closes every engine, the first opened last."""
        for engine in reversed(self.engines):
            await engine.close()

    async def now(self) -> float:
        """The clock by which `due` times of `state` and `leases` are meant."""
        return await self.engines[-1].now()
