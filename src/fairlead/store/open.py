"""From URLs to a store: which engine a URL means, what it needs, and whether it promises what was asked for.

An engine is a module here with `make(url, ack) -> Engine`, where `ack` is what the operator asked for (None: the engine's honest
default). The module imports its driver at its top; when that is missing, the error names the extra that brings it. The engine
says what it promises when it is opened; asking for more is `TooMuch`, at boot, with what would be right.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ..core.errors import ConfigError
from .contract import Ack, Declaration, Engine, Store, TooMuch
from .remote import Remote

# scheme -> (module, extra that brings its driver)
ENGINES: Mapping[str, tuple[str, str]] = {
    "memory": ("fairlead.store.memory", ""),
    "sqlite": ("fairlead.store.sqlite", ""),
    "postgresql": ("fairlead.store.postgres", "postgres"),
    "redis": ("fairlead.store.redis", "redis"),
    "rediss": ("fairlead.store.redis", "redis"),
}
COMING = {"nats": "nats", "amqp": "rabbitmq", "amqps": "rabbitmq", "kafka": "kafka"}
PARTS = ("log", "leases", "state")


def default_url(environ: Mapping[str, str] = os.environ) -> str:
    """Where the embedded store lives when nobody says: SQLite under XDG_STATE_HOME, for root under /var/lib."""
    home = environ.get("XDG_STATE_HOME")
    if not home:
        home = "/var/lib" if os.geteuid() == 0 else str(Path.home() / ".local" / "state")
    return f"sqlite:///{Path(home) / 'fairlead' / 'fairlead.db'}"


def without_secrets(url: str) -> str:
    """The URL as it may be shown: its password is gone, and so are its options (which may hold another)."""
    parts = urlsplit(url)
    if parts.scheme in ("memory", "sqlite"):
        return url.partition("?")[0]
    host = parts.netloc.rpartition("@")[2]
    user = parts.username
    return urlunsplit((parts.scheme, f"{user}@{host}" if user else host, parts.path, "", ""))


def make_engine(url: str, ack: Ack | None = None) -> Engine:
    """The engine that a URL means, not yet opened. ConfigError."""
    scheme = url.partition(":")[0]
    if scheme in COMING:
        raise ConfigError(
            f"store: there is no {scheme} engine in this version", hint="sqlite, postgresql and redis are"
        )
    if scheme not in ENGINES:
        raise ConfigError(f"store: {scheme!r} is no store that we know", hint=f"write one of {', '.join(ENGINES)}")
    module, extra = ENGINES[scheme]
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not extra:
            raise
        hint = f"pip install 'fairlead[{extra}]'"
        raise ConfigError(
            f"store: {scheme}: needs the package {error.name!r}, which is not installed", hint=hint
        ) from error
    return loaded.make(url, ack)


def enough(url: str, declared: Declaration, ack: Ack | None) -> None:
    """Whether the engine promises what was asked for. TooMuch."""
    order = list(Ack)
    if ack is None or order.index(declared.ack) >= order.index(ack):
        return
    hint = f'write store.ack = "{declared.ack}" or a weaker one'
    if declared.notes:
        hint += f"; {'; '.join(declared.notes)}"
    raise TooMuch(
        f'store.ack = "{ack}": {declared.engine} at {without_secrets(url)} promises "{declared.ack}" only', hint=hint
    )


async def open_engine(url: str, ack: Ack | None = None, keeper: str = "") -> tuple[Engine, Declaration]:
    """One engine, opened and checked; by its keeper at this address, if it has one."""
    engine: Engine = Remote(keeper) if keeper else make_engine(url, ack)
    declared = await engine.open()
    try:
        enough(url, declared, ack)
    except TooMuch:
        await engine.close()
        raise
    return engine, declared


async def open_store(
    url: str = "",
    *,
    log: str = "",
    leases: str = "",
    state: str = "",
    ack: Ack | str | None = None,
    keepers: Mapping[str, str] | None = None,
) -> Store:
    """The three, each in the engine that is named for it or else in that of `url`. ConfigError, TooMuch, StoreError.

    `keepers` are the addresses of those that keep an engine for this process: {URL: address}.
    """
    wanted = Ack(ack) if ack else None
    url = url or default_url()
    urls = dict(zip(PARTS, (log or url, leases or url, state or url)))
    opened: dict[str, Engine] = {}
    declarations: dict[str, Declaration] = {}
    try:
        for one in dict.fromkeys(urls.values()):
            opened[one], declarations[without_secrets(one)] = await open_engine(
                one, wanted, (keepers or {}).get(one, "")
            )
        parts = {part: part_of(opened[one], part, one) for part, one in urls.items()}
    except BaseException:
        for engine in opened.values():
            await engine.close()
        raise
    return Store(**parts, declarations=declarations, engines=tuple(opened.values()))


def part_of(engine: Engine, part: str, url: str) -> Any:
    """The engine's log, leases or state. ConfigError when it has none."""
    found = getattr(engine, part)
    if found is None:
        hint = f'write store.{part} = "postgresql://..." or another that has it'
        raise ConfigError(f"store.{part}: {url.partition(':')[0]} has no {part}", hint=hint)
    return found
