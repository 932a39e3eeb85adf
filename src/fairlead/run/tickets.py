"""The keys that seal TLS session tickets, and their replacement. The master keeps them; every worker has a copy.

Rules
1. Two keys at a time: the newest seals, both open (RFC 5077 section 5.5 asks for keys that do not live long: whoever has
   one reads all that was sent over the TLS 1.2 sessions it sealed). A key is in use for twice the period.
2. They are random, live in memory only and end with the server. A reload keeps them, so it costs no client its session.
3. Every worker is told at once. A ticket that one has sealed with the new key a moment before another was told costs its
   client a full handshake, nothing more.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

SIZE = 80  # 16 name, 32 HMAC, 32 AES (net/_libssl)
KEPT = 2


class Tickets:
    """Keys, newest first. `turn(loop, period)` replaces them every `period` seconds from now on, and calls
    `told(keys)`; 0 is never.
    """

    def __init__(self, told: Callable[[list[bytes]], None]) -> None:
        self.keys = [secrets.token_bytes(SIZE)]
        self.told = told
        self.period = 0.0
        self.timer: asyncio.TimerHandle | None = None

    def turn(self, loop: asyncio.AbstractEventLoop, period: float) -> None:
        """Begin, or go on with another period. The same period leaves the clock running."""
        if period == self.period:
            return
        self.stop()
        self.period = period
        if period:
            self.timer = loop.call_later(period, self.due, loop)

    def due(self, loop: asyncio.AbstractEventLoop) -> None:
        """The period is over."""
        self.timer = loop.call_later(self.period, self.due, loop)
        self.replace()

    def replace(self) -> None:
        """A new key seals from now on; the one before still opens."""
        self.keys = [secrets.token_bytes(SIZE), *self.keys][:KEPT]
        self.told(self.keys)

    def stop(self) -> None:
        """Replace no more."""
        self.period = 0.0
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
