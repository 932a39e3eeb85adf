"""The store of a plan: whether one is needed, where it is, who keeps it, and its opening in a worker.

Rules
1. A store is opened when a route or filter needs one, or when [store] is written. An engine at an address is opened by each worker;
   `memory:` and `sqlite:` belong to a keeper (run/keeping), which the workers reach by a unix socket. A server inside another
   program is one worker and opens them itself; without a written store.url that is memory, for several may live in one program.
2. Nothing of `store` is imported before one is wanted: most servers have none.
3. Where it is, is decided once, by the master: the user of the workers may be another, with another home.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairlead.core.errors import ConfigError
from fairlead.run import config as c
from fairlead.run.units import BadValue, Secret

if TYPE_CHECKING:
    from fairlead.store.contract import Store

NEEDED_BY = ("topic", "job", "upload")  # answers that need a store
FILTERS = ("idempotency", "respond-async", "session")  # and filters
SERVICES = "fairlead.services:server"  # and the gRPC server that is ours
KEPT = ("memory:", "sqlite:")  # engines that one process must own


@dataclass(frozen=True)
class Places:
    """Where the store of a configuration is: the engine of each part, and the address of each one's keeper."""

    urls: Mapping[str, str]
    keepers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Works:
    """What of jobs runs in a process: their `code`, and `requests` that became jobs (which may only pass them on)."""

    code: bool = True
    requests: bool = True


def wanted(config: c.Config) -> bool:
    """Whether this configuration needs a store."""
    if config.jobs.workers or any(path.startswith("store.") for path in config.sources):
        return True
    filters = [one.name for route in config.routes for one in route.filters if one.name != "session" or stored(one.options)]
    if any(route.grpc is not None and route.grpc.target == SERVICES for route in config.routes):
        return True
    return any(route.answer in NEEDED_BY for route in config.routes) or any(name in FILTERS for name in filters)


def stored(session: Any) -> bool:
    """Whether sessions need a store."""
    return session.where == "store" or (session.where == "token" and session.revocable)


def urls(config: c.Config) -> dict[str, str]:
    """{"log", "leases", "state": engine}. ConfigError when a secret cannot be read."""
    from fairlead.store.open import PARTS, default_url

    given = config.store
    url = read(given.url, "url") or default_url()
    return {part: read(getattr(given, part), part) or url for part in PARTS}


def given(config: c.Config) -> dict[str, str]:
    """The parts that have an engine of their own."""
    own = {part: read(getattr(config.store, part), part) for part in ("log", "leases", "state")}
    return {part: url for part, url in own.items() if url}


def read(text: str, key: str) -> str:
    """A store's URL, which may be in a variable or a file."""
    source, _, name = text.partition(":")
    if source not in ("env", "file"):
        return text
    try:
        return Secret(source, name).value().strip()
    except BadValue as bad:
        raise ConfigError(f"store.{key}: {bad.message}", hint=bad.hint) from None


def kept(places: Mapping[str, str]) -> list[str]:
    """The engines among these that need a keeper."""
    return [url for url in dict.fromkeys(places.values()) if url.startswith(KEPT)]


def named(url: str) -> str:
    """A kept engine's name, the same for whoever means the same file."""
    if not url.startswith("sqlite:"):
        return url
    from fairlead.store.sqlfile import path_of

    return os.path.abspath(path_of(url))


async def open_places(config: c.Config, places: Places | None) -> Store:
    """Open it: what the master said, or, without a master, everything here."""
    from fairlead.store.open import PARTS, open_store

    places = places or Places(urls(config) if config.store.url else dict.fromkeys(PARTS, "memory:") | given(config))
    return await open_store(
        log=places.urls["log"],
        leases=places.urls["leases"],
        state=places.urls["state"],
        ack=config.store.ack or None,
        keepers=places.keepers,
    )


def make_folder(url: str, user: Mapping[str, Any]) -> None:
    """The folder of a file that does not exist yet, belonging to whom the keeper will run as."""
    if not url.startswith("sqlite:"):
        return
    from fairlead.store.sqlfile import path_of

    folder = Path(path_of(url)).absolute().parent
    if folder.exists():
        return
    try:
        folder.mkdir(mode=0o700, parents=True)
        if user:
            import shutil

            shutil.chown(folder, user["user"], user["group"])
    except OSError as error:
        text = f"the store's folder {folder} cannot be made: {os.strerror(error.errno or 0)}"
        raise ConfigError(text, hint="store.url names another place") from error
