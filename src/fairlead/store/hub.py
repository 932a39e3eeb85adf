"""Hints for many: an engine tells one listener, the hub tells whoever asked, by topic or queue, and counts the interest.

    hub = Hub(store)
    stop = hub.topic("orders", heard)       heard(last, events), as lossy as any hint
    stop = hub.queue("jobs/build", heard)   heard()
    stop()                                  no more, from now on

Everything on the loop. A listener that raises is logged and goes on hearing; one may stop from inside its own call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from .contract import Event, Offset, Store

TopicHeard = Callable[[Offset | None, Sequence[Event]], None]
QueueHeard = Callable[[], None]
log = logging.getLogger("fairlead")


class Hub:
    """The one listener of a store's log and leases."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.topics: dict[str, list[TopicHeard]] = {}
        self.queues: dict[str, list[QueueHeard]] = {}
        store.log.watch(self.topic_hint)
        store.leases.watch(self.queue_hint)

    def topic(self, name: str, heard: TopicHeard) -> Callable[[], None]:
        """`heard` of appends to a topic, until what this returns is called."""
        return self.add(self.topics, self.store.log, name, heard)

    def queue(self, name: str, heard: QueueHeard) -> Callable[[], None]:
        """`heard` when something may be claimable."""
        return self.add(self.queues, self.store.leases, name, heard)

    def add(self, table: dict[str, Any], part: Any, name: str, heard: Any) -> Callable[[], None]:
        """One more listener; the first makes the engine care, the last makes it forget."""
        there = table.get(name)
        if there is None:
            there = table[name] = []
            part.interest(name, True)
        there.append(heard)
        over = False

        def stop() -> None:
            nonlocal over
            if over:
                return
            over = True
            left = [one for one in table[name] if one is not heard]
            left += [heard] * (table[name].count(heard) - 1)
            if left:
                table[name] = left
            else:
                del table[name]
                part.interest(name, False)

        return stop

    def topic_hint(self, name: str, last: Offset | None, events: Sequence[Event]) -> None:
        """The log says."""
        for heard in tuple(self.topics.get(name, ())):
            self.tell(heard, last, events)

    def queue_hint(self, name: str) -> None:
        """The leases say."""
        for heard in tuple(self.queues.get(name, ())):
            self.tell(heard)

    def tell(self, heard: Callable[..., None], *what: Any) -> None:
        """One listener."""
        try:
            heard(*what)
        except Exception:
            log.exception("a listener of the store's hints failed")
