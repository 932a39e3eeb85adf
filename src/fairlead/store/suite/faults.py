"""What can be broken, and what must hold then.

A *target* is a store and the means to break it. For the embedded engine the suite brings its own: a keeper in a process, which it
kills, stops and starts. For an engine at an address it can break the network between: a relay that cuts connections and stalls.
Whoever runs the engine (the project's tests run their own) adds means of their own.

Each fault is a coroutine that breaks and heals; `storm` draws them at random from a seed, one at a time, with pauses.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from ..contract import Ack
from .history import Anomaly, judge
from .kept import KeeperProcess
from .kit import Opener
from .load import Load

Fault = Callable[[], Awaitable[None]]


@dataclass
class Target:
    """A store that can be broken. `opener` gives a new connection each time; `survives` are the faults that lose nothing there."""

    opener: Opener
    faults: Mapping[str, Fault]
    forgets: bool = False  # what was acknowledged may be gone after a fault, if that is told
    counts: dict[str, int] = field(default_factory=dict)


async def storm(target: Target, seconds: float, seed: int, pause: float = 1.0) -> None:
    """Break and heal at random."""
    draw = random.Random(seed)
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    names = sorted(target.faults)
    await asyncio.sleep(min(pause, seconds / 4))
    for name in names + draw.choices(names, k=10_000):
        if loop.time() >= end:
            break
        target.counts[name] = target.counts.get(name, 0) + 1
        await target.faults[name]()
        await asyncio.sleep(draw.uniform(0.1, 1.0) * pause)


async def ordeal(
    target: Target, seconds: float, seed: int, name: str, pause: float = 1.0
) -> tuple[Load, list[Anomaly]]:
    """Work under a storm, then judge. A loss that was told is none for a store that may forget."""
    load = Load(target.opener, f"verify-{name}-{seed}", f"verify-{name}-{seed}")
    faults = asyncio.ensure_future(storm(target, seconds, seed, pause)) if target.faults else None
    await load.run(seconds, faults)
    found = judge(load.entries)
    if target.forgets:
        found = [one for one in found if one.kind not in ("told-loss", "lost-item")]
    return load, found


def keeper_target(kept: KeeperProcess) -> Target:
    """The keeper: killed, stopped for a while, ended in order."""

    async def kill() -> None:
        kept.kill()
        await asyncio.sleep(0.05)
        kept.start()

    async def restart() -> None:
        await asyncio.get_running_loop().run_in_executor(None, kept.kill, 15)
        kept.start()

    async def pause() -> None:
        kept.pause()
        await asyncio.sleep(0.7)
        kept.go_on()

    faults: dict[str, Fault] = {"kill -9": kill, "restart": restart, "pause": pause}
    return Target(kept.opener(), faults, forgets=kept.url.startswith("memory:"))


class Relay:
    """Bytes between clients and an engine's address, until they are cut or stalled."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.open = asyncio.Event()
        self.open.set()
        self.writers: set[asyncio.StreamWriter] = set()
        self.server: asyncio.AbstractServer | None = None

    async def start(self) -> int:
        """Listen; the port."""
        self.server = await asyncio.start_server(self.connected, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client."""
        try:
            there, back = await asyncio.open_connection(self.host, self.port)
        except OSError:
            writer.close()
            return
        self.writers |= {writer, back}
        await asyncio.gather(self.pump(reader, back), self.pump(there, writer))
        self.writers -= {writer, back}

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction."""
        with suppress(OSError):
            while data := await reader.read(65536):
                await self.open.wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    async def cut(self) -> None:
        """All connections at once, in the middle of whatever they carry."""
        for writer in list(self.writers):
            writer.transport.abort()

    async def stall(self) -> None:
        """Nothing passes for a while."""
        self.open.clear()
        await asyncio.sleep(1.0)
        self.open.set()

    async def stop(self) -> None:
        """The end."""
        if self.server is not None:
            self.server.close()
        await self.cut()


def through(url: str, port: int) -> str:
    """The URL with the relay's address in place of its own."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{user + '@' if user else ''}127.0.0.1:{port}"))


PORTS = {"postgresql": 5432, "redis": 6379}


async def network_target(
    url: str, connect: Callable[[str, Ack | None], Opener], ack: Ack | None
) -> tuple[Target, Relay] | None:
    """An engine at an address: its connections are cut and stalled. None where the relay cannot stand between."""
    parts = urlsplit(url)
    port = parts.port or PORTS.get(parts.scheme)
    if port is None or not parts.hostname:
        return None
    relay = Relay(parts.hostname, port)
    opener = connect(through(url, await relay.start()), ack)
    return Target(opener, {"cut": relay.cut, "stall": relay.stall}), relay
