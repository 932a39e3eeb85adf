"""What writers say of their order: a producer's numbers, and `Stream-Seq` (Durable Streams 1.0).

Rules
1. The numbers of a producer are the log's business (`store.contract`); here is only asked how far they are.
2. `Stream-Seq` are texts that grow byte by byte, of all writers of a topic together, remembered in the state beside the topic's
   epoch. A producer's retry, which appends nothing, need not follow.
"""

from __future__ import annotations

import json

from fairlead.core.errors import FairleadError, Refused
from fairlead.serve.topicwords import SAFE
from fairlead.store.contract import Conflict, Head, Log, Producer, ProducerGap, State

KEPT = 30 * 86400.0  # seconds that the last Stream-Seq of a topic is remembered


async def highest(log: Log, topic: str, producer: Producer) -> int | None:
    """The last seq that was taken of a producer in its epoch; None when that is not known."""
    try:
        await log.append(topic, [], producer=producer._replace(seq=SAFE))
    except ProducerGap as gap:
        return gap.expected - 1 if gap.known == producer.epoch else None
    except FairleadError:
        return None
    return None


async def repeated(log: Log, topic: str, head: Head | None, producer: Producer | None) -> bool:
    """Whether this is a producer's retry: what came after it does not count then."""
    if producer is None or head is None:
        return False
    known = await highest(log, topic, producer)
    return known is not None and producer.seq <= known


async def in_turn(state: State, topic: str, head: Head | None, seq: str) -> None:
    """This `Stream-Seq` is the newest. Refused 409."""
    key = f"topicseq/{topic}"
    epoch = head.last.epoch if head is not None else 0
    while True:
        entry = await state.get(key)
        known = json.loads(entry.value) if entry is not None else None
        if known is not None and known[0] == epoch and seq.encode() <= known[1].encode():
            raise Refused(f"Stream-Seq {seq!r} does not follow {known[1]!r}", status=409)
        try:
            await state.put_if(key, json.dumps([epoch, seq]).encode(), entry.version if entry else 0, ttl=KEPT)
            return
        except Conflict:
            continue
