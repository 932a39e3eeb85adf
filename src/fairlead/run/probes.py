"""Active health checks: is each server of an upstream well? One prober per server, in the master, whatever the workers do.

Rules
1. The master asks, because it lives as long as the server and never stands still in an application: `rise` good answers in
   a row make a server healthy, `fall` bad ones unhealthy, and only a change is told to the workers. So a check costs the
   same with one worker and with sixty-four.
2. A server counts as healthy until it has failed `fall` times: a start must not wait for checks.
3. A check is a connection and, with a `path`, one HTTP/1.1 GET of its own on it: no pool, no keep-alive, so what is tested
   is what a new connection would meet. Good is one of `status` within `timeout`. Nothing of the answer but its first line
   matters, and no more than `MOST` bytes are read for it. With `grpc` it is a call of gRPC's health service (`grpcprobe`).
   An upstream of HTTP/3 is asked over HTTP/3 (`h3probe`), and without a path a QUIC handshake is what is tested.
4. Checks of the servers are spread over the period, so that they do not arrive in step.
5. What is known outlives a reload for every server that is still checked the same way.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fairlead.run import config as c

MOST = 4096
LINE = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r\n]")
log = logging.getLogger("fairlead")
Name = Any  # (host, port), or a path


class Count:
    """`rise` and `fall` of one server. `feed(good)` answers whether its health changed."""

    def __init__(self, rise: int, fall: int) -> None:
        self.rise, self.fall = rise, fall
        self.healthy = True
        self.row = 0  # results in a row that speak against the present state

    def feed(self, good: bool) -> bool:
        """One result."""
        if good == self.healthy:
            self.row = 0
            return False
        self.row += 1
        if self.row < (self.fall if self.healthy else self.rise):
            return False
        self.healthy = not self.healthy
        self.row = 0
        return True


class Probe:
    """One server that is checked: why its last check was bad ("" when it was good)."""

    def __init__(self, upstream: c.Upstream, address: Name, tls: Any) -> None:
        assert upstream.health is not None
        self.upstream = upstream.name
        self.health = upstream.health
        self.address = address
        self.tls = tls
        self.quic = upstream.protocol == "h3"
        self.server_name = (upstream.tls.name if upstream.tls else "") or (
            address[0] if tls and type(address) is tuple else ""
        )
        self.count = Count(self.health.rise, self.health.fall)
        self.why = ""
        self.checks = 0

    @property
    def title(self) -> str:
        """The server as a person writes it."""
        return self.address if isinstance(self.address, str) else f"{self.address[0]}:{self.address[1]}"

    async def check(self) -> str:
        """Ask once; what was wrong, "" when nothing."""
        try:
            async with asyncio.timeout(self.health.timeout):
                return await self.ask()
        except TimeoutError:
            return f"no answer within {self.health.timeout:g} s"
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            return str(getattr(error, "strerror", "") or error or type(error).__name__)

    async def ask(self) -> str:
        """The connection, and the request when there is a path."""
        if self.quic:
            return await self.ask_over_quic()
        more = {"ssl": self.tls, "server_hostname": self.server_name} if self.tls else {}
        if isinstance(self.address, str):
            reader, writer = await asyncio.open_unix_connection(self.address, limit=MOST, **more)
        else:
            reader, writer = await asyncio.open_connection(*self.address, limit=MOST, **more)
        try:
            if self.health.grpc:
                from fairlead.run.grpcprobe import ask

                return await ask(reader, writer, self.host(), self.health.service, self.tls is not None)
            return await self.get(reader, writer) if self.health.path else ""
        finally:
            writer.close()

    async def ask_over_quic(self) -> str:
        """As `ask`, of an upstream of HTTP/3."""
        from fairlead.run import h3probe

        health = self.health

        def asking() -> Any:
            if health.grpc:
                from fairlead.run.grpcprobe import call

                return call(self.host(), health.service, True, "3")
            return h3probe.get(health.path, self.host(), health.status) if health.path else None

        return await h3probe.ask(self.address, self.tls, self.server_name, asking)

    def host(self) -> str:
        """What the server is called in a request."""
        return self.health.host or ("localhost" if isinstance(self.address, str) else bracketed(self.address))

    async def get(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """One GET; what is wrong with its status."""
        head = f"GET {self.health.path} HTTP/1.1\r\nHost: {self.host()}\r\nUser-Agent: fairlead-health\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        found = LINE.match(await reader.readuntil(b"\n"))
        if found is None:
            return "no HTTP answer"
        status = int(found[1])
        return "" if status in self.health.status else f"status {status}"


class Probes:
    """All probes of a plan. `told(sick)` hears {upstream: [addresses]} whenever a server's health changes."""

    def __init__(self, told: Callable[[dict[str, list[Name]]], None]) -> None:
        self.told = told
        self.probes: dict[Any, Probe] = {}
        self.tasks: dict[Any, asyncio.Task[None]] = {}

    def serve(self, config: c.Config) -> None:
        """Check what this configuration says, from now on; who is checked as before goes on."""
        wanted: dict[Any, tuple[c.Upstream, Name]] = {}
        for upstream in config.upstreams:
            if upstream.health is None:
                continue
            for server in upstream.servers:
                at = server.address
                address = at.path if at.is_unix else (at.host, at.port)
                wanted[upstream.name, address, upstream.health, upstream.tls] = upstream, address
        for key in [key for key in self.probes if key not in wanted]:
            self.tasks.pop(key).cancel()
            del self.probes[key]
        for number, (key, (upstream, address)) in enumerate(wanted.items()):
            if key not in self.probes:
                tls = tls_of(upstream)
                self.probes[key] = probe = Probe(upstream, address, tls)
                wait = probe.health.every * (number % 8) / 8
                self.tasks[key] = asyncio.get_running_loop().create_task(self.watch(probe, wait))

    async def watch(self, probe: Probe, wait: float) -> None:
        """Check one server until it is not wanted any more."""
        await asyncio.sleep(wait)
        while True:
            probe.why = await probe.check()
            probe.checks += 1
            if probe.count.feed(not probe.why):
                self.changed(probe)
            await asyncio.sleep(probe.health.every)

    def changed(self, probe: Probe) -> None:
        """Say it, and tell it."""
        if probe.count.healthy:
            log.info("upstream %s: %s is healthy again", probe.upstream, probe.title)
        else:
            log.warning("upstream %s: %s is unhealthy: %s", probe.upstream, probe.title, probe.why)
        self.told(self.sick())

    def sick(self) -> dict[str, list[Name]]:
        """The unhealthy servers by upstream."""
        found: dict[str, list[Name]] = {}
        for probe in self.probes.values():
            if not probe.count.healthy:
                found.setdefault(probe.upstream, []).append(probe.address)
        return found

    def status(self) -> list[dict[str, Any]]:
        """What is known of each server."""
        return [
            {"upstream": p.upstream, "server": p.title, "healthy": p.count.healthy, "why": p.why, "checks": p.checks}
            for p in self.probes.values()
        ]

    async def close(self) -> None:
        """Check no more."""
        for task in self.tasks.values():
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        self.tasks.clear()
        self.probes.clear()


def bracketed(address: tuple[str, int]) -> str:
    """host:port for a `Host` field."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def tls_of(upstream: c.Upstream) -> Any:
    """The `ssl.SSLContext` of an upstream, the `QuicClient` of one of HTTP/3, or None."""
    if upstream.tls is None:
        return None
    from fairlead.run.proxying import client_tls

    if upstream.protocol == "h3":
        return client_tls(upstream.tls, ("h3",))
    return client_tls(upstream.tls, ("h2",) if upstream.health and upstream.health.grpc else ("http/1.1",)).context
