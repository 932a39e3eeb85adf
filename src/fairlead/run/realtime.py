"""What topics and jobs of one worker share: the hub of hints, the feed, the jobs and who works on them.

Made when a plan first needs it, and kept over reloads: followers stay, jobs go on.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fairlead.core.handler import Handler
from fairlead.run import config as c
from fairlead.serve.feed import Feed
from fairlead.serve.jobs import Jobs, attach
from fairlead.serve.topics import TopicOptions, TopicRoute
from fairlead.store.contract import Store
from fairlead.store.hub import Hub


class Realtime:
    """One worker's."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        self.store, self.loop = store, loop
        self.hub = Hub(store)
        self.feed = Feed(store, self.hub)
        self.jobs = Jobs(store, self.hub)
        attach(self.jobs)

    def topic(self, settings: c.Route) -> Handler:
        """The handler of a `topic` route."""
        given: Any = settings.topic
        options = TopicOptions(
            name=given.name,
            keep=given.keep,
            max_events=given.max,
            slow=given.slow,
            create=given.create,
            message=given.message,
            wait=given.wait,
        )
        return TopicRoute(self.feed, options, depth=depth_of(settings.path), loop=self.loop)

    async def close(self) -> None:
        """The worker ends."""
        await self.feed.close()
        attach(None)


def depth_of(path: str) -> int:
    """The segments of a route's own path."""
    return len([part for part in path.removesuffix("/*").split("/") if part])

