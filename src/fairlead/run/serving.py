"""`fairlead run`: from the command's words to a configuration, and from that to a master. Also `fairlead.serve`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from fairlead.core.errors import ConfigError
from fairlead.run import config as c
from fairlead.run import spellings

EXAMPLES = """examples:
  fairlead run app:app --bind 127.0.0.1:8000 --workers 2
  fairlead run shop.main:make_app --factory --tls dev --reload
  fairlead run fairlead.toml
"""


def register(subparsers: Any) -> None:
    """Add `run` to the command line."""
    run = subparsers.add_parser(
        "run",
        help="serve an application or a configuration file",
        usage="fairlead run [OPTION ...] target",  # there are too many to list twice
        epilog=EXAMPLES,
    )
    run.add_argument("target", help="module:attribute of an application, or a configuration file")
    run.add_argument(
        "--bind",
        "-b",
        action="append",
        metavar="ADDRESS",
        help="host:port, [::]:port or unix:/path; may be repeated (default: 127.0.0.1:8000)",
    )
    run.add_argument("--workers", "-w", type=int, metavar="N", help="processes that run the app (default: one per core)")
    run.add_argument(
        "--pattern",
        choices=("single", "handoff", "dispatch", "shared", "reuseport"),
        help="how connections reach the workers (default: auto, by the number of workers)",
    )
    run.add_argument("--unit", choices=("process", "thread"), help="what a worker is (default: process)")
    run.add_argument("--next-port", action="store_true", help="when the port is taken, the next one that is free")
    run.add_argument("--tls", metavar="dev", choices=("dev", "off"), help="HTTPS with a local development CA")
    run.add_argument("--reload", action="store_true", help="new workers when a source file changes")
    run.add_argument("--factory", action="store_true", help="the attribute is a function that makes the application")
    run.add_argument(
        "--interface",
        choices=("auto", "asgi", "wsgi"),
        default="",
        help="how the application is called (default: by its signature)",
    )
    run.add_argument(
        "--dir", default="", metavar="DIR", help="directory to import the application from (default: this one)"
    )
    run.add_argument(
        "--access-log", default="", metavar="FILE", help="a file, - for standard output, or off (default: -)"
    )
    run.add_argument(
        "--server-timing",
        choices=("auto", "on", "off"),
        default="",
        help="send Server-Timing (default: on loopback and with --tls dev)",
    )
    run.add_argument(
        "--page",
        default="",
        metavar="ADDRESS",
        help="the journey page (default: 127.0.0.1:9900 when on loopback), or off",
    )
    run.add_argument(
        "--log-format", choices=("text", "json"), default="", help="how the server's own log is written (default: text)"
    )
    spellings.register(run)
    run.set_defaults(run=run_command)


def run_command(args: argparse.Namespace) -> int:
    """`fairlead run`."""
    from fairlead.run.master import Master
    from fairlead.run.upgrade import inheritance

    given = inheritance()
    args.bind = spellings.binds(args)
    if not args.bind and given.passed and given.channel is None and is_app(args.target):
        args.bind = list(dict.fromkeys(str(one.address) for one in given.passed))
    if args.next_port:
        args.bind = free_ports(args.bind or ["127.0.0.1:8000"])
    load = loader(args)
    config = load()
    warn(config)
    return Master(config, load, announce, given).run()


def free_ports(binds: list[str]) -> list[str]:
    """`--next-port`: the addresses, each with its port or the next free one."""
    from fairlead.run import sockets
    from fairlead.run.units import BadValue, read_address

    try:
        return [str(sockets.next_free(read_address(bind))) for bind in binds]
    except BadValue as bad:
        raise ConfigError(f"--bind: {bad.message}", hint=bad.hint) from None


def loader(args: argparse.Namespace) -> Callable[[], c.Config]:
    """What reads the configuration: now, and again on each reload."""
    if is_app(args.target):
        return lambda: from_flags(args)
    return lambda: from_file(args)


def is_app(target: str) -> bool:
    """A file is a configuration; `module:attribute` is an application."""
    if target.endswith(".py"):
        module = os.path.normpath(target).removesuffix(".py").replace(os.sep, ".")
        raise ConfigError(f"{target} is Python, not a configuration", hint=f'write "{module}:app" for an application in it')
    if os.path.exists(target) or target.endswith(".toml"):
        return False
    if re.fullmatch(r"[\w.]+:[\w.]+", target):
        return True
    hint = (
        f'write "{target}:app" for an application'
        if re.fullmatch(r"[\w.]+", target)
        else 'write "module:attribute" or a file that exists'
    )
    raise ConfigError(f'"{target}" is neither a file nor module:attribute', hint=hint)


def from_flags(args: argparse.Namespace) -> c.Config:
    """The configuration that an application and the flags mean."""
    from fairlead.run.load import config_from_args

    config = config_from_args(
        args.target,
        args.bind or "127.0.0.1:8000",
        workers=args.workers,
        pattern=args.pattern or "",
        unit=args.unit or "",
        tls=args.tls or "",
        interface=args.interface,
        factory=args.factory,
        reload=args.reload,
        access_log=args.access_log,
        server_timing=args.server_timing,
        dir=args.dir,
        page=args.page,
        settings=spellings.settings(args),
    )
    return with_log_format(config, args.log_format)


def from_file(args: argparse.Namespace) -> c.Config:
    """A file's configuration, with the flags over it."""
    from fairlead.run.load import load

    if args.bind or args.tls or args.factory or args.interface or args.dir:
        raise ConfigError(
            "--bind, --tls, --factory, --interface and --dir belong to an application", hint="write them into the file"
        )
    flags: dict[str, Any] = {
        "server.workers": args.workers,
        "server.pattern": args.pattern,
        "server.unit": args.unit,
        "server.reload": args.reload or None,
        "log.access": args.access_log or None,
        "journey.server_timing": args.server_timing or None,
        "admin.page": args.page or None,
    }
    given = spellings.settings(args)
    misplaced = next((path for path in given if path.startswith(("app.", "listener.", "websocket."))), None)
    if misplaced is not None:
        raise ConfigError(f"a flag for {misplaced} belongs to an application", hint="write it into the file")
    flags |= given
    config = load(args.target, flags={key: value for key, value in flags.items() if value is not None})
    return with_log_format(config, args.log_format)


def with_log_format(config: c.Config, form: str) -> c.Config:
    """`--log-format`."""
    from dataclasses import replace

    return replace(config, log=replace(config.log, file_format=form)) if form else config


def warn(config: c.Config) -> None:
    """Warnings of a configuration, before it starts."""
    from fairlead.run.validate import validate

    for problem in validate(config):
        if problem.severity == "warning":
            print(f"fairlead: warning: {problem}", file=sys.stderr)


def announce(master: Any) -> None:
    """What a server that has just started says."""
    from fairlead.run import version

    status, config = master.status(), master.config
    if config.log.file_format == "json":
        from fairlead.run.logs import log

        shown = {
            "listeners": [one["bind"] for one in status["listeners"]],
            "public": [str(address) for _, address in master.holder.bound() if not address.is_loopback],
            "workers": len(status["workers"]),
            "version": status["version"],
            "store": {one["url"]: one["ack"] for one in status["store"]},
        }
        log.info("serving", extra={"fields": shown})
        return
    speed = "compiled" if version.compiled() else "interpreted"
    workers = f"{master.plan.workers} worker{'' if master.plan.workers == 1 else 's'}"
    built = f"{speed}, {status['loop']}"
    lines = [
        f"Fairlead {version.__version__} ({built}), {workers}, pattern {master.plan.pattern.name}, pid {status['pid']}"
    ]
    for name, url in urls(master):
        lines.append(f"  {name:<8} {url}")
    if master.admin.page_url:
        lines.append(f"  {'page':<8} {master.admin.page_url}   (token {master.admin.token})")
    for one in status["store"]:
        lines.append(f"  {'store':<8} {one['url']}   ({one['engine']}, ack {one['ack']}{'; '.join(['', *one['notes']])})")
    for name, address in master.holder.bound():
        if not address.is_loopback:
            lines.append(f"  {name} on {address} is public: every machine that reaches this one can connect")
    lines.append("  Ctrl-C finishes what is open and stops")
    print("\n".join(lines), file=sys.stderr, flush=True)


def urls(master: Any) -> list[tuple[str, str]]:
    """(listener, URL) of everything that is served."""
    secure = {listener.name for listener in master.config.listeners if listener.tls is not None}
    found = []
    for name, address in master.holder.bound():
        scheme = "https" if name in secure else "http"
        found.append((name, str(address) if address.is_unix else f"{scheme}://{address}"))
    return found


def serve(target: str, bind: str | list[str] = "127.0.0.1:8000", **options: Any) -> int:
    """Serve an application from Python and block until it ends; the exit code.

    ``fairlead.serve("app:app", bind="127.0.0.1:8000", workers=2)``: `target` names the application, because each worker
    imports it anew. Options are those of `fairlead run`: workers, pattern, tls ("dev"), interface, factory, reload,
    access_log, server_timing, dir, page. Raises FairleadError when it cannot start. Call it from the main thread.
    """
    from fairlead.run.load import config_from_args
    from fairlead.run.master import Master
    from fairlead.run.upgrade import inheritance

    def load() -> c.Config:
        return config_from_args(target, bind, **options)

    return Master(load(), load, announce, inheritance()).run()
