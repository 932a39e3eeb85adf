"""The contract's decisions as pure functions, and its errors' words: for every engine that decides in Python.

`fresh` follows the idempotent producers of Durable Streams (and of Kafka before it): within one epoch of a producer each append has
the next seq, from 0; a higher epoch fences the lower ones and begins at 0 again.
"""

from __future__ import annotations

from .contract import (
    Closed,
    Conflict,
    Entry,
    Fenced,
    Gap,
    NoTopic,
    Offset,
    Producer,
    ProducerGap,
    StaleProducer,
    TopicConfig,
    TopicExists,
)

DEDUPE_WINDOW = 24 * 3600.0  # as long as idempotency keys are usually kept (Stripe: 24 h)
MEMORY_WINDOW = 300.0  # what a process keeps in memory: more than any client's retries (JetStream: 2 min)


def again(known: tuple[int, int] | None, producer: Producer) -> bool:
    """Whether this append was done already; `known` is the producer's newest (epoch, seq), None when it never came."""
    return known is not None and known[0] == producer.epoch and producer.seq <= known[1]


def fresh(known: tuple[int, int] | None, producer: Producer) -> None:
    """Whether an append that is not `again` is the next one. StaleProducer, ProducerGap."""
    epoch, seq = known if known is not None else (None, -1)
    if epoch is not None and producer.epoch < epoch:
        raise StaleProducer(
            f"producer {producer.id!r} has a newer epoch, {epoch}; {producer.epoch} may append no more", epoch
        )
    expected = seq + 1 if producer.epoch == epoch else 0
    if producer.seq != expected:
        text = f"producer {producer.id!r} epoch {producer.epoch}: seq {expected} is next, not {producer.seq}"
        raise ProducerGap(text, expected, producer.seq, epoch)


def ends(config: TopicConfig, used: float) -> float | None:
    """When a topic that was last used at `used` goes; None: it stays."""
    times = [config.expires] if config.expires is not None else []
    if config.ttl is not None:
        times.append(used + config.ttl)
    return min(times, default=None)


def stale_use(config: TopicConfig, used: float, now: float) -> bool:
    """Whether a read has to be written down as a use: not more often than ten times in a ttl."""
    return config.ttl is not None and now - used >= config.ttl / 10


def no_topic(topic: str) -> NoTopic:
    """The error."""
    return NoTopic(f"there is no topic {topic!r}", status=404)


def other_config(topic: str) -> TopicExists:
    """The error."""
    return TopicExists(f"topic {topic!r} was made with another configuration", status=409)


def closed(topic: str, last: Offset) -> Closed:
    """The error."""
    return Closed(f"topic {topic!r} has ended", last)


def moved(topic: str, last: Offset) -> Conflict:
    """The error."""
    return Conflict(f"topic {topic!r} has another end by now: {last}", last=last)


def changed(key: str, entry: Entry | None) -> Conflict:
    """The error."""
    return Conflict(f"key {key!r} has {'no value' if entry is None else f'version {entry.version}'} now", entry)


def fenced(queue: str, name: str) -> Fenced:
    """The error."""
    return Fenced(f"item {name!r} of queue {queue!r} is somebody else's, or finished", status=409)


def start(topic: str, after: Offset | None, first: Offset, last: Offset) -> int:
    """The seq after which to read. Gap when `after` is from another epoch, before what is kept, or from the future."""
    if after is None:
        return first.seq
    if after.epoch == last.epoch and first.seq <= after.seq <= last.seq:
        return after.seq
    if after.epoch != last.epoch:
        why = (
            "belongs to an earlier topic of this name"
            if after.epoch < last.epoch
            else "is of an epoch that has not come"
        )
    else:
        why = "is no longer kept" if after.seq < first.seq else "is beyond the end"
    raise Gap(f"topic {topic!r}: {after} {why}; {first} to {last} is there", first, last)
