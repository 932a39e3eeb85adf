"""`reuseport`: each worker has its own socket on the same address, and the kernel spreads connections by a hash of
the four-tuple.

The model of Envoy and HAProxy. A worker's accept queue belongs to the socket, which the master holds: it outlives the
worker, and the replacement gets the same socket by its index. Where the system spreads nothing (a unix socket), the
workers share one.
"""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.run.patterns import Pattern, T


class ReusePort(Pattern):
    """One socket per worker."""

    name = "reuseport"

    def sockets(self, workers: int) -> int:
        return workers

    def share(self, sockets: Sequence[T], index: int, workers: int) -> list[T]:
        if len(sockets) < workers:
            return [sockets[index % len(sockets)]]
        return [sock for place, sock in enumerate(sockets) if place % workers == index]
