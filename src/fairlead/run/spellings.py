"""Flags as uvicorn, gunicorn and Granian spell them, where they mean the same thing here: one line each.

Every flag ends as a setting of the configuration, so `explain` and errors know them by the name they were given. One that asks for
what is so anyway is taken without a word (run/unequal.ALREADY). What has no equal is refused by name with what to write in its
place, never ignored: a limit that silently does not hold is worse than an error.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fairlead.core.errors import ConfigError
from fairlead.run.unequal import ALREADY, OTHERWISE


def seconds(text: str) -> str:
    """A bare number of seconds, as those servers write them."""
    return text if not text.replace(".", "", 1).isdigit() else f"{text}s"


def milliseconds(text: str) -> str:
    """A bare number of milliseconds, as Granian writes them."""
    return f"{int(text)}ms"


def octets(text: str) -> str:
    """A bare number of bytes."""
    return f"{int(text)}B"


def mode(text: str) -> str:
    """A unix socket's mode: `0o660`, `0660` or `660`."""
    return text.lower().removeprefix("0o")


def client_auth(text: str) -> str:
    """Python's number of `ssl.CERT_OPTIONAL` or `CERT_REQUIRED`."""
    found = {"1": "optional", "2": "require"}.get(text)
    if found is None:
        raise ConfigError(f"a client certificate that is not looked at ({text})", hint="leave out --ssl-ca-certs")
    return found


def deflate(text: str) -> str:
    """A truth value, as uvicorn writes it."""
    return "off" if text.lower() in ("false", "0", "no", "off", "f", "n") else "shared"


def networks(text: str) -> list[str]:
    """`--forwarded-allow-ips`: addresses with commas between them, or * for everybody."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return ["0.0.0.0/0", "::/0", "unix"] if "*" in parts else parts


def worker_class(text: str) -> str:
    """gunicorn's worker class, as the interface it stands for."""
    if "uvicorn" in text or "asgi" in text.lower():
        return "asgi"
    if text in ("sync", "gthread"):
        return "wsgi"
    raise ConfigError(
        f"--worker-class {text} has no equal here", hint="leave it out: the application says how it is called"
    )


@dataclass(frozen=True)
class Spelling:
    """One flag: its names, the setting it sets (of a section, or `listener.`, `app.`, `websocket.`), how its text is turned."""

    names: tuple[str, ...]
    path: str
    turn: Callable[[str], Any] = str
    fixed: Any = None  # a flag without a value sets this
    many: bool = False  # may be given several times


SAME = (
    Spelling(("--backlog",), "server.backlog", int),
    Spelling(("--loop",), "server.loop"),
    Spelling(
        ("--log-level",),
        "log.level",
        lambda text: {"critical": "error", "trace": "debug", "warn": "warning"}.get(text, text),
    ),
    Spelling(("--access-logfile",), "log.access"),
    Spelling(("--no-access-log",), "log.access", fixed="off"),
    Spelling(("--limit-concurrency", "--backpressure"), "server.limits.requests", int),
    Spelling(("--limit-max-requests", "--max-requests"), "server.max_requests", int),
    Spelling(("--workers-lifetime",), "server.max_age", seconds),
    Spelling(("--timeout-graceful-shutdown", "--graceful-timeout", "--workers-kill-timeout"), "server.grace", seconds),
    Spelling(("--timeout-keep-alive", "--keep-alive"), "listener.limits.idle", seconds),
    Spelling(("--forwarded-allow-ips",), "listener.forwarded", networks),
    Spelling(("--no-proxy-headers",), "listener.forwarded", fixed=[]),
    Spelling(("--ssl-certfile", "--certfile", "--ssl-certificate"), "listener.tls.certificate"),
    Spelling(("--ssl-keyfile", "--keyfile"), "listener.tls.key"),
    Spelling(("--ssl-keyfile-password",), "listener.tls.password"),
    Spelling(("--ssl-ca-certs", "--ca-certs", "--ssl-ca"), "listener.tls.client_ca"),
    Spelling(("--app-dir", "--chdir", "--working-dir"), "app.dir"),
    Spelling(("--env-file", "--env-files"), "app.env"),
    Spelling(("--lifespan",), "app.lifespan"),
    Spelling(("--threads", "--blocking-threads"), "app.threads", int),
    Spelling(("-k", "--worker-class"), "app.interface", worker_class),
    Spelling(("--user", "-u"), "server.user"),
    Spelling(("--pid", "--pid-file"), "server.pid_file"),
    Spelling(("--workers-max-rss",), "server.max_memory", lambda text: f"{int(text)}MiB"),
    Spelling(("--reuse-port",), "server.pattern", fixed="reuseport"),
    Spelling(("--reload-dir", "--reload-paths"), "server.reload_dirs", many=True),
    Spelling(("--error-logfile", "--log-file"), "log.file"),
    Spelling(("--statsd-host",), "metrics.statsd"),
    Spelling(("--uds-permissions",), "listener.socket.permissions", mode),
    Spelling(("--proxy-allow-from",), "listener.proxy_protocol", networks),
    Spelling(("--limit-request-line",), "listener.limits.line", octets),
    Spelling(("--limit-request-fields",), "listener.limits.headers", int),
    Spelling(("--h11-max-incomplete-event-size",), "listener.limits.head", octets),
    Spelling(("--http1-header-read-timeout",), "listener.limits.header", milliseconds),
    Spelling(("--http2-max-concurrent-streams",), "listener.limits.streams", int),
    Spelling(("--http2-keep-alive-interval",), "listener.limits.ping", milliseconds),
    Spelling(("--ssl-cert-reqs", "--cert-reqs"), "listener.tls.client_auth", client_auth),
    Spelling(("--ssl-client-verify",), "listener.tls.client_auth", fixed="require"),
    Spelling(("--ssl-protocol-min",), "listener.tls.min", lambda text: text.lower().removeprefix("tls")),
    Spelling(("--ssl-ciphers", "--ciphers"), "listener.tls.ciphers"),
    Spelling(("--asgi-lifespan",), "app.lifespan"),
    Spelling(("--asgi-loop",), "server.loop"),
    Spelling(("--ws-max-size", "--websocket-max-message-size"), "websocket.message", octets),
    Spelling(("--ws-ping-interval",), "websocket.ping", seconds),
    Spelling(("--ws-ping-timeout",), "websocket.pong", seconds),
    Spelling(("--ws-per-message-deflate",), "websocket.compression", deflate),
)


def register(run: argparse.ArgumentParser) -> None:
    """Add the flags to `fairlead run`."""
    group = run.add_argument_group(
        "as uvicorn, gunicorn and Granian spell them",
        "They mean the same here; the guide has a table (docs/guide/migrating.md).",
    )
    group.add_argument("--host", help="address to bind; goes with --port")
    group.add_argument("--port", "-p", type=int, help="port to bind; goes with --host")
    group.add_argument("--uds", metavar="PATH", help="unix socket to bind")
    for one in SAME:
        options: dict[str, Any] = {"dest": f"set:{one.names[0]}", "help": f"sets {one.path}", "default": None}
        if one.fixed is not None:
            group.add_argument(*one.names, action="store_const", const=one.fixed, **options)
        elif one.many:
            group.add_argument(*one.names, metavar="VALUE", action="append", **options)
        else:
            group.add_argument(*one.names, metavar="VALUE", **options)
    for name in OTHERWISE:
        run.add_argument(name, nargs="?", const="", dest=f"not:{name}", help=argparse.SUPPRESS)
    for name, values in ALREADY.items():
        if values:
            run.add_argument(name, nargs="?", const="", dest=f"so:{name}", help=argparse.SUPPRESS)
        else:
            run.add_argument(name, action="store_true", dest=f"so:{name}", help=argparse.SUPPRESS)


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """{setting: value} of the flags that were given; raises `ConfigError` for one that has no equal."""
    given = vars(args)
    for name, hint in OTHERWISE.items():
        if given.get(f"not:{name}") is not None:
            raise ConfigError(f"{name} has no equal here", hint=hint)
    for name, values in ALREADY.items():
        value = given.get(f"so:{name}")
        if values and value is not None and value not in values:
            raise ConfigError(f"{name} {value} has no equal here", hint="leave it out")
    found: dict[str, Any] = {}
    for one in SAME:
        text = given.get(f"set:{one.names[0]}")
        if text is None:
            continue
        try:
            found[one.path] = text if one.fixed is not None or one.many else one.turn(text)
        except ValueError:
            raise ConfigError(f"{one.names[0]} {text} is not a number", hint=f"it sets {one.path}") from None
    return found


def binds(args: argparse.Namespace) -> list[str]:
    """What to bind: `--bind` as it is, `--host` and `--port` together, `--uds`."""
    found = list(args.bind or ())
    host, port = getattr(args, "host", None), getattr(args, "port", None)
    if host is not None or port is not None:
        host = host if host is not None else "127.0.0.1"
        name, colon, number = host.rpartition(":")
        if colon and number.isdigit() and (name.count(":") == 0 or name.endswith("]")):
            raise ConfigError(f"--host {host} has a port", hint=f"write --bind {host}, or --host {name} --port {number}")
        found.append(f"{f'[{host}]' if ':' in host and host[:1] != '[' else host}:{8000 if port is None else port}")
    if getattr(args, "uds", None):
        found.append(f"unix:{args.uds}")
    return found
