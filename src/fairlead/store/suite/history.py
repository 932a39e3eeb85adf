"""Judges what clients saw while something broke. The idea, and the names of what can be wrong, are those of Jepsen's checker for
Kafka (jepsen/tests/kafka.clj): no model of the engine, only what was said to clients, which must be consistent whatever happened.

Of a topic
    lost-write            an acknowledged event is not there: the final read lacks it, though nobody was told of a gap over it
    told-loss             the same, but a gap was told (an epoch changed, or `first` moved): right for memory, wrong for a disk
    duplicate             an event that was appended once is at two offsets of one epoch
    inconsistent-offset   two events at one offset, or an event acknowledged at one and read at another
    poll-skip             a reader went over an event that it ought to have seen, without being told
    nonmonotonic-poll     a reader was given something again, or older than what it had, in the same epoch
    aborted-read          an event whose append was refused was read

Of a queue
    lost-item             an item that was put is neither acknowledged nor there at the end
    resurrected           an item was claimed after an acknowledgement of it was confirmed
    fence-broken          an acknowledgement under an old fence was confirmed after a newer claim, or fences do not grow

Writes may be retried by the client with a dedupe key, so that an unknown outcome ends as known or stays unknown. What stays unknown
may be there or not.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from ..contract import Offset


@dataclass(frozen=True)
class Write:
    """An append of one event. `outcome`: "ok" (at `offset`), "fail" (refused for good), "unknown"."""

    topic: str
    value: str
    outcome: str
    offset: Offset | None = None


@dataclass(frozen=True)
class Poll:
    """What one reader was given in one read, in order."""

    reader: str
    topic: str
    events: tuple[tuple[Offset, str], ...]


@dataclass(frozen=True)
class Told:
    """A reader was told of a gap, and goes on after `earliest`."""

    reader: str
    topic: str
    earliest: Offset


@dataclass(frozen=True)
class Final:
    """All that is in the topic when everything is well again."""

    topic: str
    first: Offset
    events: tuple[tuple[Offset, str], ...]


@dataclass(frozen=True)
class Claimed:
    """An item was claimed. `begun` and `ended` say when, on the client's clock."""

    queue: str
    item: str
    fence: int
    begun: float
    ended: float


@dataclass(frozen=True)
class Acked:
    """An acknowledgement was confirmed."""

    queue: str
    item: str
    fence: int
    begun: float
    ended: float


@dataclass(frozen=True)
class Put:
    """An item was put, and that was confirmed."""

    queue: str
    item: str


@dataclass(frozen=True)
class Left:
    """The items that are in the queue at the end, waiting, leased or dead; and those whose acknowledgement is unknown."""

    queue: str
    items: frozenset[str]
    unknown: frozenset[str] = frozenset()


Entry = Write | Poll | Told | Final | Claimed | Acked | Put | Left


@dataclass(frozen=True)
class Anomaly:
    """Something that must not be."""

    kind: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.what}"


def judge(history: Iterable[Entry]) -> list[Anomaly]:
    """All that is wrong with a history; the order of a reader's polls, and of nothing else, matters."""
    entries = list(history)
    topics = {entry.topic for entry in entries if isinstance(entry, (Write, Poll, Told, Final))}
    queues = {entry.queue for entry in entries if isinstance(entry, (Claimed, Acked, Put, Left))}
    found: list[Anomaly] = []
    for topic in sorted(topics):
        found += judge_topic(topic, [one for one in entries if getattr(one, "topic", None) == topic])
    for queue in sorted(queues):
        found += judge_queue(queue, [one for one in entries if getattr(one, "queue", None) == queue])
    return found


# ---- topics


def judge_topic(topic: str, entries: list[Entry]) -> list[Anomaly]:
    """What is wrong with one topic."""
    writes = [one for one in entries if isinstance(one, Write)]
    seen: dict[str, set[Offset]] = defaultdict(set)  # where each value was read or acknowledged
    at: dict[Offset, set[str]] = defaultdict(set)  # and what was at each offset
    read: set[str] = set()
    for one in entries:
        if isinstance(one, (Poll, Final)):
            for offset, value in one.events:
                seen[value].add(offset)
                at[offset].add(value)
                read.add(value)
        elif isinstance(one, Write) and one.outcome == "ok" and one.offset is not None:
            seen[one.value].add(one.offset)
            at[one.offset].add(one.value)
    found = [
        Anomaly("inconsistent-offset", topic, f"{o} held {sorted(v)}") for o, v in sorted(at.items()) if len(v) > 1
    ]
    found += places(topic, writes, seen, entries)
    refused = {one.value for one in writes if one.outcome == "fail"}
    found += [Anomaly("aborted-read", topic, value) for value in sorted(refused & read)]
    found += losses(topic, writes, entries)
    known = sorted(at)
    for reader in sorted({one.reader for one in entries if isinstance(one, (Poll, Told))}):
        mine = [one for one in entries if isinstance(one, (Poll, Told)) and one.reader == reader]
        found += judge_reader(topic, reader, mine, known)
    return found


def places(topic: str, writes: list[Write], seen: dict[str, set[Offset]], entries: list[Entry]) -> list[Anomaly]:
    """Values at more than one offset: twice in the log, or not where their writers were told."""
    found = []
    reads: dict[str, set[Offset]] = defaultdict(set)
    for one in entries:
        if isinstance(one, (Poll, Final)):
            for offset, value in one.events:
                reads[value].add(offset)
    for value, offsets in sorted(seen.items()):
        for epoch in sorted({offset.epoch for offset in offsets}):  # a new epoch gives what survived another offset
            mine = sorted(offset for offset in offsets if offset.epoch == epoch)
            if len(mine) > 1:
                kind = "duplicate" if sum(offset.epoch == epoch for offset in reads[value]) > 1 else "inconsistent-offset"
                found.append(Anomaly(kind, topic, f"{value!r} at {', '.join(map(str, mine))}"))
    return found


def losses(topic: str, writes: list[Write], entries: list[Entry]) -> list[Anomaly]:
    """Acknowledged events that the final read lacks."""
    final = next((one for one in entries if isinstance(one, Final)), None)
    if final is None:
        return []
    there = {value for _, value in final.events}
    found = []
    for one in writes:
        if one.outcome != "ok" or one.offset is None or one.value in there:
            continue
        told = one.offset <= final.first or one.offset.epoch != final.first.epoch
        found.append(
            Anomaly("told-loss" if told else "lost-write", topic, f"{one.value!r}, acknowledged at {one.offset}")
        )
    return found


def judge_reader(topic: str, reader: str, polls: list[Poll | Told], known: list[Offset]) -> list[Anomaly]:
    """What one reader was given, in order: nothing again, nothing left out that somebody else knows of."""
    found = []
    place: Offset | None = None
    for poll in polls:
        if isinstance(poll, Told):
            place = poll.earliest
            continue
        for offset, value in poll.events:
            if place is not None and offset <= place:
                found.append(Anomaly("nonmonotonic-poll", topic, f"{reader} got {value!r} at {offset} after {place}"))
            elif place is not None:
                between = known[bisect_right(known, place)]  # `offset` is known, so there is one
                if between < offset:
                    found.append(Anomaly("poll-skip", topic, f"{reader} went from {place} to {offset}, over {between}"))
            place = offset
    return found


# ---- queues


def judge_queue(queue: str, entries: list[Entry]) -> list[Anomaly]:
    """What is wrong with one queue."""
    found = []
    claims: dict[str, list[Claimed]] = defaultdict(list)
    acks: dict[str, list[Acked]] = defaultdict(list)
    for one in entries:
        if isinstance(one, Claimed):
            claims[one.item].append(one)
        elif isinstance(one, Acked):
            acks[one.item].append(one)
    for item, mine in sorted(claims.items()):
        found += fences(queue, item, mine, acks[item])
    left = next((one for one in entries if isinstance(one, Left)), None)
    if left is not None:
        put = {one.item for one in entries if isinstance(one, Put)}
        lost = put - acks.keys() - left.items - left.unknown
        lost |= {item for item in put if not acks.get(item) and item not in left.items | left.unknown}
        found += [Anomaly("lost-item", queue, item) for item in sorted(lost)]
    return found


def fences(queue: str, item: str, claims: list[Claimed], acks: list[Acked]) -> list[Anomaly]:
    """Fences grow in time, and only the newest acknowledges; after that there is nothing to claim."""
    found = []
    for one in claims:
        for other in claims:
            if one.ended <= other.begun and other.fence <= one.fence:
                found.append(Anomaly("fence-broken", queue, f"{item}: fence {other.fence} after {one.fence}"))
    for ack in acks:
        newer = [one for one in claims if one.fence > ack.fence and one.ended <= ack.begun]
        if newer:
            found.append(
                Anomaly("fence-broken", queue, f"{item}: acknowledged under {ack.fence} after {newer[0].fence}")
            )
        again = [one for one in claims if one.begun >= ack.ended]
        if again:
            found.append(Anomaly("resurrected", queue, f"{item}: claimed under {again[0].fence} after it was done"))
    return found
