"""A clock that no jump moves: the machine's time when it was started, and from then on what really passed.

Leases, expiry and retention are measured by it, so that an operator who sets the clock, or NTP that steps it, ends no lease and
trims no event. What passed is CLOCK_BOOTTIME where there is one (it goes on during suspend), else CLOCK_MONOTONIC. Both are the
same for every process of a machine, so `shift`, the difference to the time of day, is all that two processes need to share a clock.
`floor` is the latest time that an earlier life of the store is known to have seen: the clock starts above it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_BOOT = getattr(time, "CLOCK_BOOTTIME", None)


def passed() -> float:
    """Seconds that really passed since the machine's start."""
    return time.clock_gettime(_BOOT) if _BOOT is not None else time.monotonic()


class Clock:
    """Seconds since 1970 that never run backwards. `wall` and `passing` are for tests."""

    def __init__(
        self, floor: float = 0.0, wall: Callable[[], float] = time.time, passing: Callable[[], float] = passed
    ) -> None:
        self.passing = passing
        self.shift = max(wall(), floor) - passing()

    def now(self) -> float:
        """The time."""
        return self.passing() + self.shift

    def follow(self, shift: float) -> None:
        """Be the clock of another process from now on."""
        self.shift = shift
