"""StatsD: what the slab counts, sent over UDP every few seconds. Only the master sends, so workers pay nothing.

Counters go as their increase since the last packet (`c`), what is now as gauges (`g`), and for the whole request and each step the
median and the 99th percentile of the interval in milliseconds (`g`). Lines are packed into datagrams of at most MTU bytes. A
receiver that is not there is nobody's problem: the datagrams are lost, and that is all.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

from fairlead.core import histogram as h
from fairlead.core.journey import STEPS
from fairlead.run.topicstats import flat

MTU = 1432  # bytes of a datagram that every path carries, as StatsD's own documents advise
COUNTERS = {
    "requests": "requests", "status_2xx": "status.2xx", "status_3xx": "status.3xx", "status_4xx": "status.4xx",
    "status_5xx": "status.5xx", "bytes_in": "bytes.in", "bytes_out": "bytes.out", "opened": "connections.opened",
    "closed": "connections.closed", "refused": "refused", "bad_requests": "bad_requests", "client_left": "client_left",
    "broke": "app_errors", "retries": "retries",
}  # fmt: skip
GAUGES = {"open": "connections.open", "in_flight": "in_flight"}
log = logging.getLogger("fairlead")


class Statsd:
    """Sends what an `Observation` sees to `address` (host, port), each name behind `prefix`."""

    def __init__(
        self, seen: Any, address: tuple[str, int], prefix: str = "fairlead.", every: float = 10.0, topics: Any = None
    ) -> None:
        self.seen = seen
        self.topics = topics  # a run.topicstats.Topics, or None
        self.address = address
        self.prefix = prefix
        self.every = every
        self.totals: dict[str, int] = {}
        self.steps: dict[str, list[int]] = {}
        self.shown: set[str] = set()  # gauges of topics

    async def run(self) -> None:
        """Send for ever."""
        try:
            family, _, _, _, where = socket.getaddrinfo(*self.address, type=socket.SOCK_DGRAM)[0]
        except OSError as error:
            log.error("metrics.statsd: %s is not found: %s", self.address[0], error)
            return
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            self.lines()
            while True:
                await asyncio.sleep(self.every)
                for packet in packets(self.lines() + await self.topic_lines()):
                    try:
                        sock.sendto(packet, where)
                    except OSError:
                        continue  # nobody there, or no room: these numbers are lost

    def lines(self) -> list[str]:
        """The lines of what happened since the last call."""
        sample = self.seen.sample()
        out = []
        for key, name in COUNTERS.items():
            now = sample.totals.get(key, 0)
            more = now - self.totals.get(key, 0)
            self.totals[key] = now
            if more > 0:
                out.append(f"{self.prefix}{name}:{more}|c")
        for key, name in GAUGES.items():
            out.append(f"{self.prefix}{name}:{sample.totals.get(key, 0)}|g")
        for step in ("total", *STEPS):
            counts = sample.histograms[step]
            new = h.difference(counts, self.steps.get(step, [0] * len(counts)))
            self.steps[step] = counts
            if any(new):
                for share, name in ((0.5, "p50"), (0.99, "p99")):
                    out.append(f"{self.prefix}{step}.{name}:{h.percentile(new, share) / 1e6:.3f}|g")
        return out


    async def topic_lines(self) -> list[str]:
        """The same of topics, when there are any."""
        found = await self.topics.numbers() if self.topics is not None else {"served": False}
        if not found["served"]:
            return []
        counters, gauges = flat(found)
        out = []
        for name, now in counters.items():
            more = now - self.totals.get(name, 0)
            self.totals[name] = now
            if more > 0:
                out.append(f"{self.prefix}{name}:{more}|c")
        gone = {name: 0 for name in self.shown if name not in gauges}  # a gauge keeps its last value at the receiver
        self.shown = set(gauges)
        return out + [f"{self.prefix}{name}:{value}|g" for name, value in {**gauges, **gone}.items()]


async def serve(given: Any, slab: Any, topics: Any = None) -> None:
    """[metrics] statsd, if there is one, for as long as the server lives."""
    if given.statsd:
        from fairlead.run.observe import Observation

        host, _, port = given.statsd.rpartition(":")
        await Statsd(Observation(slab), (host.strip("[]"), int(port)), given.prefix, given.every, topics).run()


def packets(lines: list[str]) -> list[bytes]:
    """Lines packed into datagrams."""
    out: list[bytes] = []
    held = b""
    for line in lines:
        data = line.encode()
        if held and len(held) + 1 + len(data) > MTU:
            out.append(held)
            held = b""
        held = held + b"\n" + data if held else data
    return [*out, held] if held else out
