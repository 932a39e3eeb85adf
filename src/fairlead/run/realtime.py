"""What topics and jobs of one worker share: the hub of hints, the feed, the jobs and who works on them, webhooks and cron.

Made when a plan first needs it, and kept over reloads: followers stay, jobs go on.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from fairlead.core.aio import Call
from fairlead.core.errors import AppError, ConfigError, Refused
from fairlead.core.handler import Handler, Service
from fairlead.core.tally import Tally
from fairlead.net.guard import Guard
from fairlead.run import answers as a
from fairlead.run import config as c
from fairlead.run.storing import Works
from fairlead.serve import topicapi, topichooks
from fairlead.serve.cron import Cron
from fairlead.serve.feed import Feed
from fairlead.serve.filters.limits import RateLimit
from fairlead.serve.hold import Holding
from fairlead.serve.hooks import Hooks
from fairlead.serve.idempotent import Idempotent
from fairlead.serve.jobhttp import JobRoute
from fairlead.serve.jobs import REGISTRY, REQUEST, JobKind, JobOptions, Jobs, Row, attach, topic_of
from fairlead.serve.jobwork import Work
from fairlead.serve.later import Later, RequestJobs, Rerun
from fairlead.serve.loader import found_at
from fairlead.serve.presence import Presence
from fairlead.serve.push import Deliveries
from fairlead.serve.topicaccess import Access
from fairlead.serve.topicgroups import Groups
from fairlead.serve.topicmatch import Names
from fairlead.serve.topics import TopicOptions, TopicRoute
from fairlead.serve.topicws import Sockets
from fairlead.store.contract import Store
from fairlead.store.hub import Hub
from fairlead.store.relay import Relay, source_of


class Realtime:
    """One worker's."""

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        works: Works | None = None,
        given: c.Jobs | None = None,
        rates: Any = None,
        tally: Tally | None = None,
    ) -> None:
        self.store, self.loop = store, loop
        self.rates = rates  # what the rates of all workers count in
        self.tally = tally or Tally()
        self.works, self.given = works or Works(), given or c.Jobs()
        self.hub = Hub(store)
        self.feed = Feed(store, self.hub)
        self.jobs = Jobs(store, self.hub)
        self.groups = Groups(store, self.hub)
        self.work = Work(self.jobs, {}, self.given.threads)
        self.requests: dict[str, int] = {}
        self.cron = Cron(self.jobs)
        self.networks: set[Any] = set()
        self.deliveries: Deliveries | None = None
        self.slots: dict[str, int] = {}
        self.names = Names(self.feed)
        self.feed.made = self.names.made
        self.presence = Presence(self.feed)
        self.holding = Holding(self.feed, self.names, self.presence, loop)
        self.inside = TopicRoute(self.feed, TopicOptions(start="-1", many=1), loop=loop)  # topics without a URL of their own
        self.sockets = Sockets(self.inside, only=True)  # and their WebSockets
        self.begun = False
        self.blame = ""  # why this process has to end, when that may be its jobs' doing
        self.relays: dict[str, Relay] = {}
        self.uploads: dict[str, Any] = {}  # by route: `serve.uploadcounts.Counts`, which outlive a change of its settings
        attach(self.jobs)
        topicapi.attach(self.feed)

    # ---- what routes are

    def topic(self, settings: c.Route) -> Handler:
        """The handler of a `topic` route."""
        given: Any = settings.topic
        options = TopicOptions(
            name=given.name,
            keep=given.keep,
            max_events=given.max,
            compact=given.compact,
            slow=given.slow,
            create=given.create,
            message=given.message,
            wait=given.wait,
            heartbeat=given.heartbeat,
            max_bytes=given.bytes,
            many=given.many,
            wildcards=given.wildcards,
            presence=given.presence,
        )
        self.names.announcing = self.names.announcing or given.wildcards
        if given.presence:
            self.presence.lease = min(self.presence.lease, given.presence_lease)
            self.presence.start()
        if given.webhooks:
            self.hook(given.webhook_networks)
        route = TopicRoute(
            self.feed, options, depth=depth_of(settings.path), names=self.names, presence=self.presence,
            access=self.access(given, settings), loop=self.loop,
        )  # fmt: skip
        route.forget = self.forgotten
        route.more = partial(self.behind, given, route)
        compress = given.compression != "off"
        sockets = Sockets(route, origins=tuple(given.origins), groups=self.groups if given.groups else None, compress=compress)
        route.socket = sockets.open
        return route

    def access(self, given: a.Topic, settings: c.Route) -> Access:
        """Who may do what with the topics of a route. Rates are counted over all workers."""
        hook: Any = found_at(given.authorize, given.dir) if given.authorize else None
        if hook is not None and not callable(hook):
            raise AppError(f'"{given.authorize}" is not callable: it is a {type(hook).__name__}')

        def rate(what: str, limit: Any) -> RateLimit | None:
            name = f"{what} {settings.path} {settings.host}"
            return RateLimit(limit.amount, limit.seconds, "", 0, self.rates, name) if limit is not None else None

        return Access(
            hook,
            given.claim,
            keep=given.authorize_keep,
            followers=given.followers,
            publishes=rate("publishes", given.publishes),
            makes=rate("makes", given.makes),
            tally=self.tally,
            name=f"{settings.path} {settings.host}",
        )

    async def behind(self, given: a.Topic, route: TopicRoute, call: Call, topic: str, rest: str) -> None:
        """What stands behind a topic's own URL."""
        kind = rest.partition("/")[0].partition(":")[0]
        if kind == "groups" and given.groups:
            await self.groups.answer(call, topic, rest, route)
        elif kind == "webhooks" and given.webhooks and self.deliveries is not None:
            await topichooks.answer(self.deliveries.hooks, call, topic, rest)
        else:
            raise Refused("nothing is here", status=404, hint="groups and webhooks are, where the route has them")

    async def forgotten(self, topic: str) -> None:
        """A topic was deleted: so are its webhooks."""
        if self.deliveries is not None:
            await self.deliveries.hooks.forget(topic)

    def hook(self, networks: Any) -> None:
        """Webhooks are delivered from here."""
        try:
            self.networks |= {ipaddress.ip_network(one) for one in networks}
        except ValueError as error:
            raise ConfigError(f"topic.webhook_networks: {error}", hint='write networks as "10.0.0.0/8"') from None
        if self.deliveries is None:
            self.deliveries = Deliveries(Hooks(self.store, hub=self.hub))
        self.deliveries.hooks.guard = Guard(self.networks)

    def job(self, settings: c.Route) -> Handler:
        """The handler of a `job` route. Its kind is called as the route says; the code is imported only where it runs."""
        given: Any = settings.job
        name = given.run
        if self.works.code:
            kind = kind_at(given)
            if kind.name != name:  # the decorator named it otherwise: both names have the same code
                kind = JobKind(kind.function, name, replace(kind.options, cron=""))
            self.jobs.add(kind)
            self.slots[name] = given.workers
        base = "/" + "/".join(part for part in settings.path.removesuffix("/*").split("/") if part)
        webhook = self.result_hook if self.deliveries is not None else None
        return JobRoute(self.jobs, name, base, follow=self.follow, webhook=webhook, loop=self.loop)

    def later(
        self, handler: Handler, given: a.RespondAsyncFilter, settings: c.Route, service: Service
    ) -> tuple[Handler, JobRoute, Rerun]:
        """A handler behind `Prefer: respond-async`, where the jobs that it makes are looked at, and who runs them."""
        where = f"{settings.path} {settings.host} {settings.methods} {sorted(settings.headers.items())}"
        tag = hashlib.sha256(where.encode()).hexdigest()[:8]
        options = JobOptions(retries=given.retries, timeout=given.timeout, keep=given.keep)
        rerun = Rerun(handler, service, given.answer)
        kind = JobKind(rerun, f"{REQUEST}{tag}", options, most=2 * given.answer + 65536)
        self.jobs.add(kind)
        if self.works.requests:
            self.requests[kind.name] = given.workers
        route = RequestJobs(self.jobs, kind.name, f"{given.at}/{tag}", follow=self.follow, loop=self.loop)
        made = Later(handler, route, retries=given.retries, safe=given.safe, body=given.body, loop=self.loop)
        return made, route, rerun

    def follow(self, exchange: Any, topic: str) -> None:
        """A job's events, by any way that a topic is read."""
        request = exchange.request
        if request.upgrade == b"websocket" or request.protocol == b"websocket":
            self.sockets.open(exchange, topic)
        else:
            self.inside.follow(exchange, topic)

    async def result_hook(self, row: Row, url: str) -> None:
        """Post a job's outcome to a URL."""
        assert self.deliveries is not None
        await self.jobs.followed(row.kind, row.id)
        wanted = {"url": url, "types": ["succeeded", "failed", "cancelled"], "after": "-1"}
        await self.deliveries.hooks.make(topic_of(row.kind, row.id), wanted, row.owner)

    def idempotent(self, handler: Handler, given: a.IdempotencyFilter, settings: c.Route) -> Handler:
        """A handler behind Idempotency-Keys."""
        scope = f"{settings.path} {settings.host}"
        return Idempotent(
            handler,
            self.store,
            required=given.required,
            keep=given.keep,
            safe=given.safe,
            most=given.most,
            scope=scope,
            check=given.check,
            stream=given.stream,
        )

    # ---- living

    def start(self) -> None:
        """A plan is served: work on what it has."""
        for kind in REGISTRY.values():
            self.jobs.kinds.setdefault(kind.name, kind)
        if not self.begun:
            self.begun = True
            self.work.start()
            if self.deliveries is not None:
                self.deliveries.start()
        for name in self.jobs.kinds:
            if name in self.requests:
                self.work.add(name, self.requests[name])
            elif self.works.code and not name.startswith(REQUEST):
                self.work.add(name, self.slots.get(name, self.given.slots))
        if self.works.code and self.cron.task is None:
            self.cron.start()

    def relay(self, urls: Sequence[str]) -> None:
        """Move what applications left in the outboxes of these databases."""
        for url in urls:
            if url not in self.relays:
                name = hashlib.sha256(url.encode()).hexdigest()[:16]
                self.relays[url] = Relay(source_of(url), self.store, name)
                self.relays[url].start()

    async def stop(self, grace: float) -> None:
        """The worker drains: hand back what does not end in time."""
        await self.cron.stop()
        for one in self.relays.values():
            await one.stop()
        if self.begun:
            await self.work.stop(grace, self.blame)
        if self.deliveries is not None and self.deliveries.task is not None:
            await self.deliveries.stop()

    async def close(self) -> None:
        """The worker ends."""
        await self.feed.close()
        attach(None)
        topicapi.attach(None)


def kind_at(given: a.Job) -> JobKind:
    """What `job.run` names: a function that was made a job, or any other. AppError."""
    found = found_at(given.run, given.dir)
    if isinstance(found, JobKind):
        return found
    if not callable(found):
        raise AppError(f'"{given.run}" is not callable: it is a {type(found).__name__}')
    options = JobOptions(
        retries=given.retries,
        timeout=given.timeout,
        backoff=given.backoff,
        max_backoff=given.max_backoff,
        keep=given.keep,
    )
    return JobKind(found, given.run, options)


def depth_of(path: str) -> int:
    """The segments of a route's own path."""
    return len([part for part in path.removesuffix("/*").split("/") if part])
