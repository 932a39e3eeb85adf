"""The plan: a configuration that this version can serve, and what a change of it asks for. Opens, imports and
resolves nothing.

Rules
1. What this version cannot serve is refused here, with the file and line that asks for it: a setting that is read and
   then ignored is worse than an error. `make` raises one `ConfigError` that names every place.
2. A plan is immutable. `difference` compares two: nothing, `swap` (the living workers take the new plan), or
   `workers` (new processes, because what changed was read when a worker started: the app, the pattern, the number,
   the loop, the logs).
3. What must outlive a plan (sockets, pools, targets' health, apps) is in `run/state`, keyed by what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import Any

from fairlead.core.errors import ConfigError, Problem
from fairlead.run import config as c
from fairlead.run import patterns

SERVED = ("app", "wsgi", "grpc", "proxy", "files", "topic", "job", "upload", "redirect", "respond")
NEXT = {
    "signal": "signalling is",
}
UNUSED: dict[str, str] = {}  # settings that are read and not served: what to do instead
JOBS = 10_000  # the first place of the processes that work on jobs
ALONE = ("topic", "job", "grpc", "upload", "signal")  # answers that `respond-async` cannot stand before
SWAP, WORKERS, SAME = "swap", "workers", "same"


@dataclass(frozen=True)
class Plan:
    """What to serve: the checked configuration, the pattern, and the number of workers."""

    config: c.Config
    pattern: patterns.Pattern
    workers: int

    @property
    def places(self) -> tuple[int, ...]:
        """Where something runs: the workers 0, 1, …, -1, -2, … for what stands before them, from `JOBS` on who works on jobs."""
        fronts = self.pattern.fronts(self.config.server) if self.workers else 0
        return (*range(self.workers), *range(-1, -1 - fronts, -1), *range(JOBS, JOBS + self.config.jobs.workers))

    @property
    def numbers(self) -> tuple[int, ...]:
        """Pattern `dispatch`: the numbers of the applications that a worker of this plan runs."""
        if not self.pattern.hops:
            return ()
        from fairlead.run.patterns.dispatch import numbers_of

        return tuple(numbers_of(self.config))

    @property
    def listeners(self) -> tuple[c.Listener, ...]:
        """The listeners, in file order."""
        return self.config.listeners

    def routes(self, listener: str) -> list[c.Route]:
        """The routes that a listener answers with."""
        return [route for route in self.config.routes if not route.listeners or listener in route.listeners]

    @property
    def apps(self) -> tuple[c.App | c.Grpc, ...]:
        """Every application and gRPC server, once."""
        found = [route.application or route.grpc for route in self.config.routes]
        return tuple(dict.fromkeys(one for one in found if one is not None))


def make(config: c.Config) -> Plan:
    """The plan of a configuration; raises `ConfigError` with every place that this version cannot serve."""
    problems = list(refusals(config))
    if problems:
        raise ConfigError(problems=problems)
    pattern = patterns.find(config.server.chosen_pattern, config.server.fronts)
    return Plan(config, pattern, config.server.worker_count if config.listeners else 0)


def refusals(config: c.Config) -> Iterator[Problem]:
    """Everything in a configuration that this version reads and cannot serve, in file order."""

    def problem(path: str, message: str, hint: str = "") -> Problem:
        return place(config, path, message, hint)

    if not config.listeners and not config.jobs.workers:
        yield problem("listener", "there is none", 'write [[listener]] with bind = "127.0.0.1:8000"')
    for section, what in (("cache", "the HTTP cache"),):
        written = next((path for path in config.sources if path.startswith(section + ".")), None)
        if written is not None:
            yield problem(
                written, f"{what} are not in this version" if what.endswith("s") else f"{what} is not in this version"
            )
    for path, hint in UNUSED.items():
        if path in config.sources:
            yield problem(path, "is not in this version", hint)
    for index, listener in enumerate(config.listeners):
        yield from listener_refusals(f"listener[{index}]", listener, problem)
    for index, route in enumerate(config.routes):
        yield from route_refusals(f"route[{index}]", route, problem)
    for index, upstream in enumerate(config.upstreams):
        yield from upstream_refusals(f"upstream[{index}]", upstream, problem)


Say = Callable[..., Problem]


def listener_refusals(path: str, listener: c.Listener, problem: Say) -> Iterator[Problem]:
    """What of one [[listener]] is not served."""
    if listener.kind != "http":
        yield problem(f"{path}.kind", f'"{listener.kind}" is not in this version', 'write "http"')
        return
    for protocol in listener.protocols:
        engine = listener.quic.engine
        if protocol == "h3" and find_spec(engine) is None:
            where = f"{path}.protocols" if engine == "qh3" else f"{path}.quic.engine"  # the other is there only when it is written
            yield problem(where, *lacking(engine))
        if protocol == "h3" and listener.tls is not None and listener.tls.client_ca:
            from fairlead.net.quicauth import unusable

            if why := unusable():
                text = f'"h3" cannot ask for client certificates here: {why}'
                yield problem(f"{path}.protocols", text, 'remove "h3" or tls.client_ca')
    if listener.tls is not None and listener.tls.mode == "acme":
        yield problem(f"{path}.tls.mode", '"acme" is not in this version', 'write mode = "dev", or certificate and key')
    if "h3" in listener.protocols and not {"h1", "h2"} & set(listener.protocols):
        yield problem(f"{path}.protocols", '"h3" alone is not served: clients come to it from TCP', 'write ["h1", "h2", "h3"]')
    if listener.early_data and "h3" not in listener.protocols:
        yield problem(f"{path}.early_data", "early data is served over HTTP/3 only", 'add "h3" to protocols, or leave it out')
    if listener.socket.cork:
        yield problem(
            f"{path}.socket.cork", "cork is not in this version", "leave it out: an answer leaves as one write anyway"
        )
    if listener.limits.tunnel_idle is not None:
        yield problem(f"{path}.limits.tunnel_idle", "is not in this version", "leave it out")
    if listener.limits.connections is not None:
        yield problem(
            f"{path}.limits.connections",
            "a limit of connections is not in this version",
            "limit requests: server.limits.requests",
        )


def lacking(engine: str) -> tuple[str, str]:
    """What is wrong without a QUIC engine, and what to do."""
    hint = "pip install 'fairlead[h3]'" if engine == "qh3" else "pip install aioquic"
    return f'"h3" needs the QUIC engine {engine}, which is not installed', hint


def route_refusals(path: str, route: c.Route, problem: Say) -> Iterator[Problem]:
    """What of one [[route]] is not served."""
    if route.answer in NEXT:
        yield problem(
            f"{path}.{route.answer}",
            f"{NEXT[route.answer]} not in this version",
            f"this version has {', '.join(SERVED)}",
        )
    for index, one in enumerate(route.filters):
        if one.name == "session" and route.answer not in ("app", "wsgi"):
            yield problem(f"{path}.filters[{index}]", f"a session cannot stand before {route.answer}", "it is an application's")
        if one.name == "respond-async" and route.answer in ALONE:
            hint = "it stands before app, wsgi, proxy, files, redirect and respond"
            yield problem(f"{path}.filters[{index}]", f"respond-async cannot stand before {route.answer}", hint)
    if route.proxy is not None:
        yield from proxy_refusals(f"{path}.proxy", route.proxy, problem)


def proxy_refusals(path: str, proxy: c.Proxy, problem: Say) -> Iterator[Problem]:
    """What of a proxy answer is not served."""
    if proxy.cache:
        yield problem(f"{path}.cache", "the cache is not in this version", "leave it out")
    if proxy.mirror:
        yield problem(f"{path}.mirror", "mirroring is not in this version", "leave it out")
    if proxy.retry.statuses:
        yield problem(f"{path}.retry.statuses", "retry by status is not in this version", "leave it out")


def upstream_refusals(path: str, upstream: c.Upstream, problem: Say) -> Iterator[Problem]:
    """What of one [[upstream]] is not served."""
    if upstream.discover:
        yield problem(f"{path}.discover", "discovery is not in this version", "write servers = [ ... ]")
    if upstream.protocol == "h3" and find_spec("qh3") is None and find_spec("aioquic") is None:  # net.quicdial takes either
        yield problem(f"{path}.protocol", *lacking("qh3"))
    if upstream.socket.cork:
        yield problem(f"{path}.socket.cork", "cork is not in this version", "leave it out")


def place(config: c.Config, path: str, message: str, hint: str = "") -> Problem:
    """A problem with the place where its setting, or what holds it, is written."""
    at, origin = path, config.origin(path)
    while not origin.name and ("." in at or at.endswith("]")):
        at = at[: at.rindex("[")] if at.endswith("]") else at.rpartition(".")[0]
        origin = config.origin(at)
    return Problem(origin.name or config.source or "the command line", origin.line, path, message, hint)


def difference(old: Plan, new: Plan) -> tuple[str, list[str]]:
    """(SAME, SWAP or WORKERS, why): what a reload from one plan to the other takes."""
    why = [key for key, before, after in shapes(old, new) if before != after]
    if why:
        return WORKERS, why
    changed = [
        f.name for f in fields(c.Config) if f.compare and getattr(old.config, f.name) != getattr(new.config, f.name)
    ]
    return (SWAP, changed) if changed else (SAME, [])


def shapes(old: Plan, new: Plan) -> Iterator[tuple[str, Any, Any]]:
    """(name, before, after) of everything that a worker reads once, when it starts."""
    for key in ("chosen_pattern", "unit", "worker_count", "fronts", "loop", "affinity", "user"):
        yield (
            f"server.{key.removeprefix('chosen_').replace('worker_count', 'workers')}",
            getattr(old.config.server, key),
            getattr(new.config.server, key),
        )
    yield "app", old.apps, new.apps
    yield "log", old.config.log, new.config.log
    yield "store", old.config.store, new.config.store
    yield "jobs", old.config.jobs, new.config.jobs


def fixed(old: Plan, new: Plan) -> Iterator[tuple[str, Any, Any]]:
    """(name, before, after) of what the master reads once: a change holds from the next start on."""
    yield "admin", old.config.admin, new.config.admin
    yield "metrics", old.config.metrics, new.config.metrics
    yield "server.pid_file", old.config.server.pid_file, new.config.server.pid_file
    yield "journey.keep", old.config.journey.keep, new.config.journey.keep
