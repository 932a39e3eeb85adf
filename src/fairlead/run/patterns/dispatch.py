"""`dispatch`: fronts own the connections and give whole requests to the workers. The model of RAMCloud and nginx Unit.

A front accepts, decrypts, parses, routes and filters; it answers by itself what is not an application (proxy, files, fixed
answers). A request for an application goes over a link to the worker with the least to do (`serve.hop`), and its answer
comes back. Workers listen on nothing: they run applications.

There is one link, a unix socket pair, between each front and each worker. The master makes it when both serve, gives each its
end and keeps none: when either dies, the other hears it at once. A worker's successor gets links of its own before the old
one is asked to leave, so that a restart drops no connection and no request.

With more fronts than one, each has a socket of its own on every address (SO_REUSEPORT); the master holds them, and a front that
dies has its socket lent to another until its successor serves. TLS and the parsing of bodies are then in processes of their own.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import fields, replace
from hashlib import blake2b
from typing import Any

from fairlead.core.handler import Handler
from fairlead.run import config as c
from fairlead.run import plan as plans
from fairlead.run.patterns import Pattern, T
from fairlead.run.storing import Works
from fairlead.run.worker import TICK, Worker
from fairlead.serve.hop import Dispatcher, Hop, Link
from fairlead.serve.hopend import Entry, Links, link_limits

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

HOPPING = ("app", "wsgi", "grpc")
CLAIMS = 64  # as in wire.hop
GENERATIONS = 1 << 20
log = logging.getLogger("fairlead")


class Dispatch(Pattern):
    """Fronts before workers."""

    name = "dispatch"
    title = "front"
    hops = True

    def __init__(self, fronts: int = 1) -> None:
        self.count = fronts

    def fronts(self, server: c.Server) -> int:
        return server.fronts

    def front(self, channel: Any, values: dict[str, Any], fds: list[int]) -> Any:
        return Front(channel, values, fds)

    def worker(self, channel: Any, values: dict[str, Any], fds: list[int]) -> Any:
        return Runner(channel, values, fds)

    def sockets(self, workers: int) -> int:
        return self.count

    def share(self, sockets: Sequence[T], index: int, workers: int) -> list[T]:
        if index >= 0:
            return []
        place = -1 - index
        if len(sockets) < self.count:
            return [sockets[place % len(sockets)]]
        return [sock for number, sock in enumerate(sockets) if number % self.count == place]


def hopping(route: c.Route) -> Any:
    """The settings of the application that a route asks, or None for what a front answers itself."""
    return getattr(route, route.answer) if route.answer in HOPPING else None


def sessions_of(route: c.Route) -> tuple[Any, ...]:
    """The session filter of a route: it stands around the application, in the workers."""
    return tuple(one for one in route.filters if one.name == "session")


def number_of(route: c.Route) -> int:
    """The number by which fronts and workers know an application: made of its settings, so equal in every process."""
    settings, sessions = hopping(route), [one.options for one in sessions_of(route)]
    shown = repr([(f.name, getattr(settings, f.name)) for f in fields(settings)] + sessions)
    return int.from_bytes(blake2b(shown.encode(), digest_size=7).digest(), "big")


def numbers_of(config: c.Config) -> list[int]:
    """The numbers of all applications that workers of this configuration run."""
    return sorted({number_of(route) for route in (*config.routes, *config.fed) if hopping(route) is not None})


class Patient(Handler):
    """A Hop for gRPC: its clients' streams may pause."""

    def __init__(self, inner: Handler) -> None:
        self.inner = inner

    def open(self, exchange: Any) -> None:
        exchange.conn.codec.patient(exchange.stream)
        self.inner.open(exchange)


class Front(Worker):
    """A front's role: a worker that runs no application."""

    def __init__(self, channel: Any, values: dict[str, Any], fds: list[int]) -> None:
        super().__init__(channel, values, fds)
        self.early_links: list[tuple[dict[str, Any], int]] = []
        self.dispatcher: Dispatcher | None = None

    def equip(self) -> None:
        """Have app routes hop."""
        limits = self.config.server.limits
        self.dispatcher = Dispatcher(self.builder.poller)
        self.builder.hop = self.route
        self.service = self.builder.link_service(link_limits())
        self.settle_limits(limits)
        self.builder.gauges.append(self.gauge)
        for values, fd in self.early_links:
            self.link(values, fd)
        self.early_links.clear()

    def works(self) -> Works:
        """Never a job's code; a request that became a job goes to a worker as any other does."""
        return Works(code=False, requests=not self.config.jobs.workers)

    def lifetime(self) -> c.Server:
        """A front runs no application, and a successor would cost its clients their connections: only memory wears it out."""
        return replace(self.config.server, max_requests=0, max_age=0.0)

    def settle_limits(self, limits: c.ServerLimits) -> None:
        """[server] limits of the queue: this front's share of them."""
        assert self.dispatcher is not None
        fronts = max(1, self.config.server.fronts)
        self.dispatcher.most = -(-limits.queue // fronts)
        self.dispatcher.per_worker = limits.requests_per_worker or 0
        self.dispatcher.wait = round(limits.queue_wait * 1e9)
        self.dispatcher.health = frozenset(path.encode() for path in limits.health)

    def route(self, settings: c.Route) -> Any:
        """The handler of a route whose application runs in the workers, or None."""
        given = hopping(settings)
        if given is None:
            return None
        hop = Hop(self.dispatcher, number_of(settings), self.config.server.sticky.encode(), settings.path)
        return Patient(hop) if settings.grpc is not None else hop

    def gauge(self, region: Any) -> None:
        """Once a second: the queue."""
        found = self.dispatcher
        assert found is not None
        admission = self.builder.admission
        region.set("queued", len(found.queue) + len(admission.waiting))
        region.set("queue_most", max(found.deepest, admission.deepest))
        region.set("queue_full", found.refused + admission.full)
        region.set("queue_late", found.late + admission.late)
        region.set("taken_back", found.taken)
        region.set("repeated", found.repeated)

    def heard(self, word: str, values: dict[str, Any], fds: list[int]) -> None:
        if word == "link":
            if self.dispatcher is None:
                self.early_links.append((values, fds[0]))
            else:
                self.link(values, fds[0])
        else:
            super().heard(word, values, fds)

    def commit(self) -> None:
        super().commit()
        self.settle_limits(self.config.server.limits)

    def open(self, socks: Any) -> None:
        """A plan is served: connections that the applications hand over are held by its topics."""
        if self.dispatcher is not None and self.builder.realtime is not None:
            self.dispatcher.holding = self.builder.realtime.holding
        super().open(socks)

    def link(self, values: dict[str, Any], fd: int) -> None:
        """A worker can be reached."""
        assert self.dispatcher is not None
        os.set_blocking(fd, False)
        claims = claims_of(self.slab, values)
        link = Link(self.dispatcher, fd, self.service, values["place"], values["apps"], claims)
        self.dispatcher.add(link)

    async def drain(self, grace: float, settle: float) -> None:
        await super().drain(grace, settle)
        if self.dispatcher is not None:
            self.dispatcher.close()


class Runner(Worker):
    """A worker's role: it runs applications for fronts."""

    def __init__(self, channel: Any, values: dict[str, Any], fds: list[int]) -> None:
        super().__init__(channel, values, fds)
        self.entry = Entry({})
        self.links: Links | None = None
        self.early_links: list[tuple[dict[str, Any], int]] = []

    def plan(self, config: c.Config) -> plans.Plan:
        """Applications only: the rest, and every key, is the fronts'."""
        plan = super().plan(config)
        jobs = () if config.jobs.workers else ("job",)
        all_ = (*config.routes, *config.fed)
        routes = tuple(
            replace(one, filters=sessions_of(one)) for one in all_ if hopping(one) is not None or one.answer in jobs
        )
        return replace(plan, config=replace(config, listeners=(), upstreams=(), routes=routes))

    def works(self) -> Works:
        """The code of jobs; requests that became some come from the fronts."""
        return Works(code=not self.config.jobs.workers, requests=False)

    def equip(self) -> None:
        """Ready for links."""
        builder = self.builder
        self.links = Links(builder.poller, self.entry, builder.region, builder.recorder, self.config.server.reload)
        for values, fd in self.early_links:
            self.link(values, fd)
        self.early_links.clear()

    def heard(self, word: str, values: dict[str, Any], fds: list[int]) -> None:
        if word == "link":
            if self.links is None:
                self.early_links.append((values, fds[0]))
            else:
                self.link(values, fds[0])
        else:
            super().heard(word, values, fds)

    def link(self, values: dict[str, Any], fd: int) -> None:
        """A front may send requests."""
        assert self.links is not None
        os.set_blocking(fd, False)
        self.links.open(fd, claims_of(self.slab, values))
        if self.draining:
            self.links.leave()

    def open(self, socks: Any) -> None:
        """A plan is served: its applications by number. There is nothing to accept on."""
        assert self.built is not None
        pairs = zip(self.built.plan.config.routes, self.built.routes)
        self.entry.apps = {number_of(s): route.handler for s, route in pairs if hopping(s) is not None}
        super().open([])

    async def drain(self, grace: float, settle: float) -> None:
        """Finish what the fronts have sent; they send no more once they have heard it."""
        self.draining = True
        self.builder.region.set("draining", 1)
        end = self.loop.time() + grace
        if self.links is not None:
            self.links.leave()
            while self.links.tcps and self.loop.time() < end:
                await asyncio.sleep(TICK)
            self.links.abort()
        await self.builder.close(max(1.0, end - self.loop.time()))


def claims_of(slab: Any, values: dict[str, Any]) -> Any:
    """The claim words of a link: in the worker's region, by the front's."""
    region = slab.region(values["worker_slot"])
    if region.layout["claims"] < (values["front_slot"] + 1) * CLAIMS:
        return None
    return _fast.Words(region.claims(), slab.fd), values["front_slot"] * CLAIMS, values["generation"] % GENERATIONS
