"""What the boxes and edges of the diagram say: short words for settings, and only for what somebody would look for in a picture."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from fairlead.run import config as c
from fairlead.run import units as u
from fairlead.run.answers import Files, Filter, Job, Topic, Upload

ENGINES = {
    "memory": "memory", "sqlite": "SQLite", "postgresql": "PostgreSQL", "redis": "Redis", "rediss": "Redis",
    "nats": "NATS JetStream", "amqp": "RabbitMQ", "amqps": "RabbitMQ", "kafka": "Kafka",
}  # fmt: skip
WHO = {"app": "target", "wsgi": "target", "grpc": "target", "proxy": "upstream", "topic": "name", "job": "run"}
LONG = 18  # characters of a name at the end of a line
DETAILS = {"ratelimit": "rate", "body": "max", "concurrency": "requests", "session": "where"}  # of a filter: what is said of it


def count(number: int, one: str, many: str = "") -> str:
    """`1 worker`, `2 workers`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """As it is written in the file."""
    return u.DURATION.show(seconds).strip('"')


def folded(texts: Sequence[str], most: int) -> list[str]:
    """A list, or its beginning and how many more there are."""
    return list(texts) if len(texts) <= most else [*texts[: most - 1], f"… and {len(texts) - most + 1} more"]


def file(config: c.Config) -> str:
    """The name of the configuration's file."""
    return os.path.basename(config.source) or "Fairlead"


def path(config: c.Config, name: str) -> str:
    """A path as seen from the configuration's folder, where it is beneath."""
    if "://" in name or not config.source:
        return name
    base = os.path.dirname(os.path.abspath(config.source))
    inside = os.path.relpath(name, base)
    return name if inside.startswith("..") else inside


def folder(config: c.Config, name: str) -> str:
    """The same for a folder."""
    return name if "://" in name else os.path.join(path(config, name), "")


def address(config: c.Config, one: u.Address) -> str:
    """An address, a unix path as `path` has it."""
    return f"unix:{path(config, one.path)}" if one.is_unix else str(one)


def server(config: c.Config) -> str:
    """Who runs it: workers, pattern, page. What depends on the machine is not said."""
    given = config.server
    unit = "worker" if given.unit == "process" else "worker thread"
    if given.workers is None:
        parts = [f"one {unit}" if given.pattern == "single" else f"a {unit} per core"]
    else:
        parts = [count(given.workers, unit)]
    if not config.listeners:
        parts = ["no listener"]
    elif given.pattern != "auto":
        parts.append(f"pattern {given.pattern}")
    if config.admin.page is not None:
        parts.append(f"page on {config.admin.page}")
    return " · ".join(parts)


# ---- listeners ------------------------------------------------------------------------------------------------------


def arrival(one: c.Listener) -> str:
    """What is spoken on the way to a listener."""
    if one.kind != "http":
        layer4 = "TLS by name" if one.sni else one.kind.upper()
        return {"turn": "UDP, TCP", "forward": "HTTP proxy", "socks5": "SOCKS5"}.get(one.kind, layer4)
    secure = one.tls is not None
    spoken = " ".join("h2c" if name == "h2" and not secure else name for name in one.protocols)
    below = "TLS" if secure else "unix" if all(bind.is_unix for bind in one.bind) else "plain"
    return f"{spoken} · {below}"


def listener(one: c.Listener) -> Iterator[str]:
    """Lines about a listener."""
    if one.tls is not None:
        files = [one.tls.certificate, *(more.certificate for more in one.tls.certificates)]
        names = [os.path.basename(name) for name in files if name]
        yield {"dev": "development CA", "acme": "ACME"}.get(one.tls.mode) or ", ".join(folded(names, 2))
        if one.tls.client_ca:
            yield "asks for client certificates"
    if one.proxy_protocol:
        yield "PROXY protocol"
    if one.early_data:
        yield "0-RTT"


def leave(given: c.Forward | c.Socks5) -> Iterator[str]:
    """Lines about what a forward proxy lets out."""
    if isinstance(given, c.Forward):
        yield f"ports {', '.join(map(str, given.ports))}"
    if given.deny:
        yield f"never {', '.join(folded(given.deny, 3))}"
    if given.users:
        yield "asks for a password"


# ---- routes ---------------------------------------------------------------------------------------------------------


def match(route: c.Route) -> str:
    """Host and path."""
    more = f" or {len(route.host) - 1} more " if len(route.host) > 1 else ""
    return f"{route.host[0] if route.host else ''}{more}{route.path or '/*'}"


def conditions(route: c.Route) -> Iterator[str]:
    """Lines about what else must fit, and what a request goes through."""
    only = [", ".join(route.methods), *(f"{name}: {value}" for name, value in route.headers.items())]
    if any(only):
        yield "only " + " · ".join(one for one in only if one)
    if route.filters:
        yield "through " + " · ".join(filtered(one) for one in route.filters)
    if route.proxy is not None:
        extra = ("cached" * route.proxy.cache, f"mirrored to {route.proxy.mirror}" if route.proxy.mirror else "")
        if any(extra):
            yield " · ".join(one for one in extra if one)


def filtered(one: Filter) -> str:
    """A filter and the one thing to know of it."""
    value = getattr(one.options, DETAILS.get(one.name, ""), None)
    if value is None or one.name not in DETAILS:
        return one.name
    if one.name == "body":
        value = u.SIZE.show(value).strip('"')
    return f"{one.name} {value}"


def fixed(route: c.Route) -> Iterator[str]:
    """The answer of a route that has nobody behind it."""
    if route.redirect is not None:
        yield f"{route.redirect.status} to {route.redirect.to}"
    if route.respond is not None:
        first = route.respond.body.strip().partition("\n")[0]
        yield f"{route.respond.status} {first}".strip()


def who(route: c.Route) -> str:
    """Who answers, in a word or none."""
    value = getattr(route, route.answer) if route.answer else None
    name = str(getattr(value, WHO.get(route.answer, ""), ""))
    return name if len(name) <= LONG else f"…{name[1 - LONG :]}"


def likeness(route: c.Route) -> object:
    """What is equal for routes that differ only in what they match."""
    value = getattr(route, route.answer) if route.answer else None
    if isinstance(value, Topic) and not value.name:
        value = route.path
    return route.answer, repr(value), tuple(filtered(one) for one in route.filters)


# ---- answers --------------------------------------------------------------------------------------------------------


def files(one: Files) -> Iterator[str]:
    """What is special about a directory."""
    if one.listing:
        yield "listed"
    if one.fallback:
        yield f"else {os.path.basename(one.fallback)}"


def topic(one: Topic) -> Iterator[str]:
    """Lines about a topic."""
    kept = "kept for ever" if one.keep is None else f"kept {duration(one.keep)}"
    yield f"topic · {kept}" + (f", {one.max:,} events" if one.max is not None else "")
    yield "poll · long poll · SSE · WebSocket"
    more = ("webhooks" * one.webhooks, "patterns" * one.wildcards, "presence" * one.presence)
    if any(more):
        yield " · ".join(word for word in more if word)


def job(one: Job) -> str:
    """A line about a job."""
    most = f" · at most {duration(one.timeout)}" if one.timeout is not None else ""
    return f"job · {count(one.retries, 'retry', 'retries')}{most}"


def upload(one: Upload) -> str:
    """A line about uploads."""
    parts = [f"at most {u.SIZE.show(one.max)}" if one.max is not None else "", f"at {place(one.endpoint)}" if one.endpoint else ""]
    return " · ".join(("uploads", *(part.replace('"', "") for part in parts if part)))


# ---- behind ---------------------------------------------------------------------------------------------------------


def upstream(one: c.Upstream) -> Iterator[str]:
    """Lines about an upstream: who is picked, who is asked how it is, who stays."""
    yield f"upstream · {one.balance}" if len(one.servers) > 1 or one.discover else "upstream"
    if one.health is not None:
        how = "gRPC health" if one.health.grpc else f"GET {one.health.path}" if one.health.path else "connects"
        yield f"{how} every {duration(one.health.every)}"
    if one.sticky is not None:
        yield f"sticky by cookie {one.sticky.cookie}"


def spoken(one: c.Upstream) -> str:
    """What is spoken to the servers."""
    if one.protocol == "h3":
        return "h3 · TLS"
    if one.tls is not None:
        return f"{'h2 or h1' if one.protocol == 'auto' else one.protocol} · {'mutual TLS' if one.tls.certificate else 'TLS'}"
    unix = [server.address.is_unix for server in one.servers]
    below = "unix" if unix and all(unix) else "plain, unix" if any(unix) else "plain"
    return f"{'h2c' if one.protocol == 'h2' else 'h1' if one.protocol == 'auto' else one.protocol} · {below}"


def share(server: c.Target) -> str:
    """A server's weight, if it has one."""
    return "backup" if server.backup else f"\u00d7{server.weight}" if server.weight != 1 else ""


def engine(config: c.Config, url: str) -> tuple[str, str]:
    """(engine, place) of a store's URL."""
    scheme, _, rest = url.partition(":")
    if not url:
        return "SQLite", "in the default place"
    if scheme in ("env", "file"):
        return "store", url
    if scheme == "sqlite":
        return "SQLite", path(config, rest.removeprefix("///").partition("?")[0])
    return ENGINES.get(scheme, scheme), place(url)


def place(url: str) -> str:
    """Host, port and path of a URL, without anything secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return parts.netloc.rpartition("@")[2] + parts.path
