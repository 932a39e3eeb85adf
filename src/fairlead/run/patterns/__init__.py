"""Execution patterns: how connections reach the workers. One file per pattern; each says which worker accepts on
which socket.

A pattern decides two things and opens nothing:
- `sockets(workers)`: how many listening sockets one address has. More than one share it by SO_REUSEPORT.
- `share(sockets, index, workers)`: which of them worker `index` accepts on.

The master holds all of them for its whole life, so no socket closes while connections wait in it: when there are fewer
workers than sockets, the ones left take over the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

from fairlead.core.errors import ConfigError

T = TypeVar("T")

LATER = {
    "handoff": "a listener that passes connections to the least busy worker",
    "dispatch": "a front that passes whole requests to the workers",
    "shared": "every worker accepting on one socket",
}


class Pattern(ABC):
    """One way to spread connections over workers."""

    name = ""

    @abstractmethod
    def sockets(self, workers: int) -> int:
        """Listening sockets per address."""

    @abstractmethod
    def share(self, sockets: Sequence[T], index: int, workers: int) -> list[T]:
        """The sockets that worker `index` accepts on."""


def find(name: str) -> Pattern:
    """The pattern of this name; raises `ConfigError` for one that this version does not have."""
    if name == "single":
        from fairlead.run.patterns.single import Single

        return Single()
    if name == "reuseport":
        from fairlead.run.patterns.reuseport import ReusePort

        return ReusePort()
    what = f" ({LATER[name]})" if name in LATER else ""
    raise ConfigError(f'pattern "{name}"{what} is not in this version', hint='write "single" or "reuseport"')
