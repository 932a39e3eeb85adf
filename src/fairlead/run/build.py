"""What a worker builds from a plan: handlers, a table, one Service per listener. Apps are imported here, and nowhere
else.

Rules
1. Everything is built before anything is changed. What outlives a plan (apps with their lifespan, upstreams with their
   connections and health) is taken from `State` by its key and is the same object in the next plan.
2. Services are swapped, not connections: the old Service of each listener gets the new handler, so that connections
   that are open go on with the new plan at their next request; new connections get the new Service.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairlead.core.admission import Queueing
from fairlead.core.errors import AppError, FairleadError
from fairlead.core.handler import Handler, Service
from fairlead.core.message import Common
from fairlead.core.record import Recorder
from fairlead.core.tally import Tally
from fairlead.net.inbox import Inbox
from fairlead.net.listen import Listener
from fairlead.net.poll import Poller
from fairlead.run import config as c
from fairlead.run import filtering, quicing, storing
from fairlead.run.answers import Filter
from fairlead.run.fresh import code_times, time_of
from fairlead.run.limiting import Idle, gauge, limit
from fairlead.run.log import access_log
from fairlead.run.plan import Plan
from fairlead.run.protocols import ALPN, UPSTREAM_ALPN, client_codec, server_codec
from fairlead.run.proxying import client_tls, file_times, proxy_options, servers_of, upstream_settings
from fairlead.run.slow import Slow
from fairlead.run.state import State
from fairlead.serve.app import App
from fairlead.serve.blocking import Pool
from fairlead.serve.early import EarlyGate
from fairlead.serve.forwarded import Trusted
from fairlead.serve.lifespan import Lifespan
from fairlead.serve.loader import kind_of, load
from fairlead.serve.respond import Redirect, Respond
from fairlead.serve.route import Route, Router
from fairlead.serve.table import Table
from fairlead.serve.websocket import WebSockets
from fairlead.serve.wsgi import Wsgi
from fairlead.wire.wsdeflate import Settings

if TYPE_CHECKING:
    from fairlead.run.realtime import Realtime
    from fairlead.serve.upstream import Upstream
    from fairlead.store.contract import Store

log = logging.getLogger("fairlead")

WRAPPING = ("idempotency", "respond-async", "session")  # filters that stand around the handler itself
BELOW = ("topic", "job", "upload")  # answers whose routes also answer what stands behind their own path


class Leaving(Handler):
    """A handler whose answers are the last of their connections."""

    def __init__(self, inner: Handler) -> None:
        self.inner = inner

    def open(self, exchange: Any) -> None:
        """Say goodbye first, so that the answer's head carries it."""
        exchange.conn.codec.goaway(-1)
        self.inner.open(exchange)


def leave(service: Service) -> None:
    """From now on every answer of this service is its connection's last."""
    if not isinstance(service.handler, Leaving):
        service.handler = Leaving(service.handler)


class Loaded:
    """An application that was imported, and its lifespan. Several routes may share one."""

    def __init__(self, settings: c.App, given: Any = None) -> None:
        if settings.env:
            read_env(settings.env)
        self.settings = settings
        self.target = load(settings.target, settings.dir, settings.factory) if given is None else given
        self.interface = settings.interface if settings.interface != "auto" else kind_of(self.target)
        self.lifespan = Lifespan(self.target, "off" if self.interface in ("wsgi", "grpc") else settings.lifespan)
        self.begun = False

    async def start(self) -> dict[str, Any]:
        """Run the lifespan's startup, once; the state it left."""
        if not self.begun:
            self.begun = True
            return await self.lifespan.start()
        return self.lifespan.state

    async def close(self) -> None:
        """Run the lifespan's shutdown; a failure is logged, for nobody can do more about it."""
        try:
            await self.lifespan.stop()
        except FairleadError as error:
            log.error("%s: %s", self.settings.target, error)


class Built:
    """A plan in this process: the services and TLS contexts of its listeners, by name."""

    def __init__(self, builder: Builder, plan: Plan, router: Router, routes: list[Route]) -> None:
        self.builder = builder
        self.plan = plan
        self.router = router
        self.routes = routes
        self.upstreams = builder.upstreams
        self.services: dict[str, Service] = {}
        self.tls: dict[str, Any] = {}
        self.quic: dict[str, quicing.Side] = {}
        self.protocols = {listener.name: listener.protocols for listener in plan.listeners}
        for listener in plan.listeners:
            self.services[listener.name] = builder.service(listener, router)
            self.tls[listener.name] = builder.tls(listener)
            if quicing.speaks(listener):
                self.quic[listener.name] = quicing.Side(builder, listener, router)

    def listener(self, name: str, sock: socket.socket, address: str = "") -> Any:
        """A Listener on a socket, not started; an Inbox on a link, over which somebody hands us connections; on a UDP socket what
        speaks HTTP/3.
        """
        if sock.type == socket.SOCK_DGRAM:
            return self.quic[name].listen(sock, address, self.codec(name), self.services[name])
        accepts = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        kind = Listener if accepts else Inbox
        made = kind(self.builder.poller, sock, self.services[name], self.codec(name), self.tls[name])
        made.gate = self.builder.gate if accepts else None
        made.idle = self.builder.idle
        return made

    def renew(self, name: str, listener: Listener) -> None:
        """A Listener that goes on: new connections get this plan's service."""
        if listener.sock.type == socket.SOCK_DGRAM:
            self.quic[name].renew(listener, self.codec(name), self.services[name])
            return
        listener.service = self.services[name]
        listener.tls = self.tls[name]
        listener.make_codec = self.codec(name)

    def new_tickets(self, keys: list[bytes]) -> None:
        """Other keys for session tickets, newest first, for handshakes to come."""
        for listener in self.plan.listeners:
            if listener.tls is not None and listener.tls.tickets:
                self.tls[listener.name].set_ticket_keys(keys)

    def codec(self, name: str) -> Callable[[Any, Any], Any]:
        """What makes the codec of a new connection."""
        return server_codec(self.protocols[name], self.services[name].limits, self.builder.common)


class Builder:
    """One worker's workshop: its loop's poller, its region of the slab, and what outlives plans."""

    def __init__(self, loop: asyncio.AbstractEventLoop, region: Any, state: State, values: dict[str, Any]) -> None:
        self.config: c.Config = values["config"]
        self.loop = loop
        self.state = state
        self.common = Common()
        self.poller = Poller(loop, self.common)
        self.admission = Queueing(self.poller, self.poller.soon, loop.call_later)
        self.workers = values["workers"]
        self.ticket_keys = values["ticket_keys"]
        self.sick: dict[str, list[Any]] = values.get("sick", {})
        self.access = access_log(self.config.log)
        self.recorder = Recorder(region, (), self.access, self.poller, self.config.log.flush)
        self.region, self.before = region, int(region.get("requests")) + int(region.get("hopped"))
        self.recorder.watch(self.admission)
        self.recorder.start()
        self.threads = Pool(self.poller, region)
        self.recorder.on_slow = Slow(self.poller.now)
        self.code: dict[str, int] = {}
        self.upstreams: dict[str, Upstream] = {}
        self.leaving: list[Listener] = []
        self.gate: Any = None
        self.quic_hub: Any = None
        self.slab: Any = None  # where it is shared with other workers
        self.rates: Any = None  # what the rate limits of all workers count in
        self.tally: Tally | None = None  # and what counts who is there now in all of them
        self.building = self.config
        self.realtime: Realtime | None = None
        self.works = storing.Works()  # what of jobs runs here
        self.beside: list[Route] = []  # routes that others bring with them: where requests that became jobs are looked at
        self.store: Store | None = None  # topics, queues and keys, once a plan needs them
        self.given: Any = None  # an application object, for a server inside another program
        self.hop: Callable[[c.Route], Handler | None] | None = None  # dispatch: who answers in place of an app
        self.idle = Idle(self.admission)
        self.gauges = [gauge(self.admission), self.idle.gauge]  # called once a second with our region of the slab
        self.timer = loop.call_later(1.0, self.measure)
        self.tasks: set[asyncio.Task[Any]] = set()

    # ---- building

    async def build(self, plan: Plan, values: dict[str, Any]) -> Built:
        """The plan in this process. Raises FairleadError, and then nothing of it stays."""
        self.state.begin()
        self.upstreams = {}
        self.building = plan.config
        try:
            self.workers = values["workers"]
            if self.store is None and storing.wanted(values["config"]):
                self.store = await storing.open_places(plan.config, values.get("store"))
                from fairlead.run.realtime import Realtime

                self.realtime = Realtime(self.store, self.loop, self.works, values["config"].jobs, self.rates, self.tally)
            self.beside = []
            routes = [await self.route(one) for one in plan.config.routes]
            self.config = plan.config
            built = Built(self, plan, Router(Table([*self.beside, *routes])), [*routes, *self.beside])
        except BaseException:
            self.release(self.state.abort())
            raise
        return built

    def serve(self, built: Built, old: Built | None) -> None:
        """The built plan is the served one from now on."""
        config = built.plan.config
        limit(self.admission, config.server)
        self.recorder.set_routes(built.routes)
        self.recorder.slow_after = round(config.journey.slow * 1e9)
        if old is not None:
            for name, service in old.services.items():
                renewed = built.services.get(name)
                service.handler = built.router
                if name in old.quic:
                    gate = name in built.quic and built.quic[name].listener.early_data
                    old.quic[name].service.handler = EarlyGate(built.router) if gate else built.router
                if renewed is not None:
                    service.server_timing, service.forwarded = renewed.server_timing, renewed.forwarded
                    service.sample_every = renewed.sample_every
        for name, upstream in built.upstreams.items():
            before = old.upstreams.get(name) if old is not None else None
            if before is not None and before is not upstream:
                upstream.adopt(before)
                before.all = []
                upstream.mark_sick(self.sick.get(name, ()))
            upstream.start()
        self.release(self.state.commit())
        if self.realtime is not None:
            self.realtime.start()
            self.realtime.relay([storing.read(url, "outbox") for url in config.store.outbox])
        self.code = self.code or code_times()

    async def route(self, settings: c.Route) -> Route:
        """One route with its handler."""
        makers: dict[str, Callable[[Any], Any]] = {
            "app": self.app,
            "wsgi": self.app,
            "grpc": self.grpc,
            "topic": self.topic,
            "job": self.job,
            "upload": self.upload,
            "proxy": self.proxy,
            "files": self.files,
            "redirect": self.redirect,
            "respond": self.respond,
        }
        made = self.hop(settings) if self.hop is not None else None
        if made is None:
            made = makers[settings.answer](settings)
        handler: Handler = await made if asyncio.iscoroutine(made) else made
        options = {one.name: one.options for one in settings.filters if one.name in WRAPPING}
        plain = tuple([self.filter(one, settings) for one in settings.filters if one.name not in WRAPPING])
        rerun = None
        if (later := options.get("respond-async")) is not None:
            assert self.realtime is not None
            service = self.link_service(None)
            service.observer = self.recorder
            handler, status, rerun = self.realtime.later(handler, later, settings, service)
            self.beside.append(
                Route(status, path=f"{status.base}/*", host=settings.host, listeners=settings.listeners, filters=plain)
            )
        if (keyed := options.get("idempotency")) is not None:
            assert self.realtime is not None
            handler = self.realtime.idempotent(handler, keyed, settings)
        route = Route(
            handler,
            path=below(settings.path) if settings.answer in BELOW else settings.path,
            shown=settings.path,
            host=settings.host,
            methods=methods_of(settings),
            headers=settings.headers,
            listeners=settings.listeners,
            filters=plain,
        )
        if rerun is not None:
            rerun.route = route
        return route

    def filter(self, one: Filter, route: c.Route) -> Any:
        """One filter of a route. What counts or fetches outlives the plan; the others read their secrets and files anew."""
        if one.name in filtering.COUNTING:
            key = ("filter", one.name, one.options, route.path, route.host, route.methods, route.listener)
            if one.name == "ratelimit":
                where = () if one.options.rate.scope == "listener" else (route.path, route.host, route.methods, route.listener)
                name = f"{one.options.rate} {one.options.burst} {where}"
                return self.state.take(key, lambda: filtering.make_ratelimit(one.options, 1, self.rates, name))
            return self.state.take(key, lambda: filtering.make(one, self.workers))
        if one.name == "jwt" and one.options.jwks:
            from fairlead.serve.filters.jwt import KeySet

            keys = self.state.take(("jwks", one.options.jwks), lambda: KeySet(one.options.jwks))
            return filtering.make_jwt(one.options, self.workers, keys)
        return filtering.make(one, self.workers)

    async def app(self, settings: c.Route) -> Handler:
        """An application: imported; ASGI: its lifespan started; WSGI: with a lane of threads."""
        given = settings.application
        assert given is not None
        key = ("loaded", given.target, given.dir, given.factory, given.lifespan, given.interface)
        loaded: Loaded = self.state.take(key, lambda: Loaded(given, self.given))
        state = await loaded.start()

        if loaded.interface == "grpc":
            return await self.grpc(settings, c.Grpc(target=given.target, threads=given.threads), loaded.target)
        target, sessions = filtering.with_sessions(self, settings, loaded)
        if loaded.interface == "wsgi":
            return self.state.take(("wsgi", given, sessions), lambda: self.wsgi(target, given))

        def make() -> App:
            app = App(target, self.loop, name=given.target, state=state, strip=given.strip)
            app.sockets = web_sockets(app, settings.websocket)
            return app

        made: App = self.state.take(("app", given, settings.websocket, sessions), make)
        return self.realtime.holding.offered(made) if self.realtime is not None else made

    async def grpc(self, settings: c.Route, given: c.Grpc | None = None, server: Any = None) -> Handler:
        """A gRPC server: imported, its lifespan entered."""
        from fairlead.run.grpcroute import Services, handler

        given = given or settings.grpc
        assert given is not None
        services: Services = self.state.take(("grpc-server", given), lambda: Services(given, server))
        found = await services.start()
        return self.state.take(("grpc", given), lambda: handler(found, given, self.loop, self.threads))

    def wsgi(self, target: Any, given: c.App) -> Wsgi:
        """A WSGI application with its threads."""
        in_thread = self.config.server.unit == "thread"
        return Wsgi(
            target,
            self.threads.lane(given.target, given.threads, given.queue),
            name=given.target,
            strip=given.strip,
            multithread=given.threads > 1 or in_thread,
            multiprocess=self.workers > 1 and not in_thread,
            pool=self.threads,
            holding=self.realtime.holding if self.realtime is not None else None,
        )

    def topic(self, settings: c.Route) -> Handler:
        """The topics of a route."""
        assert self.realtime is not None
        return self.realtime.topic(settings)

    def job(self, settings: c.Route) -> Handler:
        """A kind of job."""
        assert self.realtime is not None
        return self.realtime.job(settings)

    async def upload(self, settings: c.Route) -> Handler:
        """The uploads of a route; what they feed is built anew, who appends outlives the plan."""
        from fairlead.run.uploading import make_uploads

        return await make_uploads(self, settings)

    def files(self, settings: c.Route) -> Handler:
        """Files of a directory; what it keeps of them outlives the plan."""
        given = settings.files
        assert given is not None
        strip = given.strip or fixed_part(settings.path)
        return self.state.take(("files", given, strip), lambda: filtering.make_files(given, strip, self.loop))

    def redirect(self, settings: c.Route) -> Handler:
        given = settings.redirect
        assert given is not None
        return Redirect(given.to, given.status, given.query)

    def respond(self, settings: c.Route) -> Handler:
        given = settings.respond
        assert given is not None
        headers = [(name.lower().encode(), value.encode()) for name, value in given.headers.items()]
        if given.body and not any(name == b"content-type" for name, _ in headers):
            headers.append((b"content-type", given.content_type.encode()))
        if not any(name == b"cache-control" for name, _ in headers):
            headers.append((b"cache-control", b"no-store"))  # else caches guess how long it holds; it has no validator
        return Respond(given.status, headers, given.body.encode())

    def proxy(self, settings: c.Route) -> Handler:
        """A reverse proxy over one upstream, or several by weight (canary)."""
        given = settings.proxy
        assert given is not None
        from fairlead.run.grpcproxying import calls
        from fairlead.serve.proxy import Proxy, Split

        options = proxy_options(given, self.config.log.request_id)

        def make(name: str) -> Proxy:
            proxy = Proxy(self.upstream(name), options)
            proxy.calls = calls(proxy, given.retry)
            return proxy

        if not given.split:
            return make(given.upstream)
        return Split([(make(name), weight) for name, weight in given.split.items()])

    def upstream(self, name: str) -> Upstream:
        """An upstream by name. One that changed takes over the targets that stayed, warm connections and all."""
        given = next(one for one in self.config.upstreams if one.name == name)
        tls = None
        if given.tls is not None:
            settings = given.tls
            alpn = UPSTREAM_ALPN.get(given.protocol, ())
            key = ("client-tls", settings, file_times(settings), alpn)
            tls = self.state.take(key, lambda: client_tls(settings, alpn))

        from fairlead.serve.upstream import Upstream

        def make() -> Upstream:
            settings = upstream_settings(given, self.workers)
            return Upstream(self.poller, name, servers_of(given), settings, client_codec(given.protocol), tls=tls)

        self.upstreams[name] = self.state.take(("upstream", given, self.workers, id(tls)), make)
        self.upstreams[name].mark_sick(self.sick.get(name, ()))
        return self.upstreams[name]

    def service(self, listener: c.Listener, handler: Handler) -> Service:
        """What the connections of one listener share."""
        service = Service(
            handler,
            name=listener.name,
            clock=self.poller,
            limits=listener.limits.core(),
            admission=self.admission,
            observer=self.recorder,
            common=self.common,
        )
        service.scheme = "http" if listener.tls is None else "https"
        service.server_timing = self.shows_timing(listener)
        service.forwarded = Trusted(listener.forwarded)
        service.announcing = Trusted(listener.proxy_protocol) if listener.proxy_protocol else None
        service.debug = self.config.server.reload
        service.sample_every = round(1 / self.config.journey.sample) if self.config.journey.sample else 0
        return service

    def shows_timing(self, listener: c.Listener) -> bool:
        """`journey.server_timing`, with "auto" decided: on loopback and with the development certificate."""
        if self.config.journey.server_timing != "auto":
            return self.config.journey.server_timing == "on"
        dev = listener.tls is not None and listener.tls.mode == "dev"
        return dev or all(address.is_loopback for address in listener.bind)

    def tls(self, listener: c.Listener) -> Any:
        """The listener's TLS contexts, or None. Built anew with each plan, so a reload reads the certificates again."""
        if listener.tls is None:
            return None
        from fairlead.net.tls import ServerTls

        alpn = [name for protocol, name in ALPN.items() if protocol in listener.protocols]
        made = ServerTls(listener.tls, alpn=alpn, ticket_keys=self.ticket_keys if listener.tls.tickets else ())
        for warning in made.warnings:
            log.warning("listener %s: %s", listener.name, warning)
        return made

    def mark_sick(self, sick: dict[str, list[Any]]) -> None:
        """The servers that the master's checks found unhealthy, by upstream."""
        self.sick = sick
        for name, upstream in self.upstreams.items():
            upstream.mark_sick(sick.get(name, ()))

    # ---- changing and ending

    def answered(self) -> int:
        """Requests that this worker answered."""
        return int(self.region.get("requests")) + int(self.region.get("hopped")) - self.before

    def measure(self) -> None:
        """Once a second: what others are to see of us, into the slab."""
        for write in self.gauges:
            write(self.region)
        self.timer = self.loop.call_later(1.0, self.measure)

    def link_service(self, limits: Any) -> Service:
        """What the links of a front share: no admission and no log, for the request they carry has had both."""
        return Service(Handler(), name="hop", clock=self.poller, limits=limits, common=self.common)

    def code_changed(self) -> bool:
        """Was a source file of the application written since it was imported?"""
        return any(time_of(path) != time for path, time in self.code.items())

    def last_words(self, listener: Listener) -> None:
        """The next answer of each connection says `Connection: close`; idle ones stay open for it."""
        leave(listener.service)
        for tcp in list(listener.tcps):
            leave(tcp.conn.service)
            if tcp.codec is not None and (tcp.codec.multiplexed or not tcp.conn.idle()):
                tcp.codec.now = self.poller.now()
                tcp.codec.goaway(-1)
                tcp.conn.flush()

    def retire(self, listener: Listener, drain: bool) -> None:
        """Accept no more on a listener. `drain`: its plan is gone, so its connections end; else they stay as they
        are.
        """
        listener.stop()
        listener.sock.close()
        self.leaving = [*(one for one in self.leaving if one.tcps), listener]
        if drain:
            self.spawn(self.finish(listener))

    async def finish(self, listener: Listener) -> None:
        """Let the connections of a listener that is not in the plan any more come to their end."""
        self.last_words(listener)
        await asyncio.sleep(1.0)
        await listener.drain(self.config.server.grace)

    def release(self, things: list[Any]) -> None:
        """Close what no plan needs any more."""
        for thing in things:
            close = getattr(thing, "close", None)
            result = close() if close is not None else None
            if asyncio.iscoroutine(result):
                self.spawn(result)

    def spawn(self, work: Any) -> None:
        """Run a coroutine and keep it alive until it is done."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def reopen(self) -> None:
        """SIGUSR1: open the access log again."""
        if self.access is not None:
            self.access.reopen()

    async def close(self, timeout: float) -> None:
        """The worker ends: lifespans, upstreams, the log."""
        if self.realtime is not None:
            await self.realtime.stop(timeout)
        self.state.begin()
        self.release(self.state.commit())
        if self.tasks:
            await asyncio.wait(set(self.tasks), timeout=timeout)
        self.timer.cancel()
        self.measure()
        self.timer.cancel()
        self.recorder.close()
        if self.access is not None:
            self.access.close()
        self.threads.close()
        self.poller.close()
        if self.realtime is not None:
            await self.realtime.close()
        if self.store is not None:
            await self.store.close()


def below(path: str) -> str:
    """The path of a route that also answers what stands behind its own."""
    return path if path.endswith("/*") else path.rstrip("/") + "/*"


def fixed_part(path: str) -> str:
    """What stands before the first variable segment of a route's path: "/static" of "/static/*"."""
    found = []
    for part in path.split("/"):
        if part == "*" or part.startswith("{"):
            break
        found.append(part)
    return "/".join(found) if path.endswith("*") else ""


def methods_of(route: c.Route) -> tuple[str, ...]:
    """The methods a route takes: where `cors` is, preflight requests as well."""
    if route.methods and any(one.name == "cors" for one in route.filters):
        return tuple(dict.fromkeys((*route.methods, "OPTIONS")))
    return route.methods


def web_sockets(app: App, given: c.WebSocket) -> WebSockets:
    """An application's WebSockets."""
    deflate = None if given.compression == "off" else Settings(takeover=given.compression == "takeover")
    return WebSockets(app, given.core(), deflate=deflate, origins=given.origins or None)


def read_env(setting: str) -> None:
    """`file:.env`: NAME=value lines into the environment; what is set already stays."""
    path = setting.removeprefix("file:")
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise AppError(f"cannot read {path}: {error.strerror}", hint="see the route's `env`") from None
    for line in lines:
        name, found, value = line.removeprefix("export ").partition("=")
        if found and not name.lstrip().startswith("#"):
            os.environ.setdefault(name.strip(), value.strip().strip("\"'"))
