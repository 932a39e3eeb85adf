"""Execution patterns: how connections, or requests, reach the workers. One file per pattern, and each reads like its
paragraph in a textbook: who listens, who accepts, who runs the application.

A pattern decides, and opens nothing:
- `sockets(workers)`: how many listening sockets one address has. More than one share it by SO_REUSEPORT.
- `share(sockets, index, workers)`: which of them the role at a place accepts on. Workers have the places 0, 1, 2 …;
  what stands before them (a listener, a front) has -1, -2 ….
- `fronts(server)` and `front(…)`: how many such roles there are, and what runs in them.
- `worker(…)`: what runs in a worker.
- `hops`: whether each front is linked with each worker by a socket pair, over which requests go (the master makes them).
- `links`: whether each worker gets a socket pair per address, over which a front passes connections. The master holds
  both ends, as it holds the sockets, so that what is on its way outlives a worker.
- `gate(slab, slot)`: what a worker asks before it accepts.
- `heir(roles, gone)`: who accepts in place of a role that is gone, until its successor serves.

None of this depends on what a worker is: with `unit = "thread"` the same roles are threads of one process.
The master holds all sockets for its whole life, so no socket closes while connections wait in it: when there are fewer
workers than sockets, the ones left take over the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from fairlead.core.errors import ConfigError

if TYPE_CHECKING:
    from fairlead.run import config as c
    from fairlead.run.channel import Channel
    from fairlead.run.role import Role

T = TypeVar("T")


class Pattern(ABC):
    """One way to spread the work over workers."""

    name = ""
    links = False
    hops = False
    title = "front"  # what a role that stands before the workers is called

    def fronts(self, server: c.Server) -> int:
        """How many roles stand before the workers."""
        return 0

    def front(self, channel: Channel, values: dict[str, Any], fds: list[int]) -> Any:
        """What runs in such a role: an object with `async main() -> exit code`."""
        raise NotImplementedError

    def worker(self, channel: Channel, values: dict[str, Any], fds: list[int]) -> Any:
        """What runs in a worker."""
        from fairlead.run.worker import Worker

        return Worker(channel, values, fds)

    @abstractmethod
    def sockets(self, workers: int) -> int:
        """Listening sockets per address."""

    @abstractmethod
    def share(self, sockets: Sequence[T], index: int, workers: int) -> list[T]:
        """The sockets that the role at place `index` accepts on."""

    def gate(self, slab: Any, slot: int) -> Any:
        """What the worker with this region of the slab asks before it accepts (see `net.listen.Gate`), or None."""
        return None

    def heir(self, roles: Sequence[Role], gone: int) -> Role | None:
        """Of the serving roles, the one that accepts for a place that nobody holds."""
        return next((role for role in roles if role.index != gone and (role.index < 0) == (gone < 0)), None)


def find(name: str, fronts: int = 1) -> Pattern:
    """The pattern of this name; raises `ConfigError` for one that there is not. `fronts` is for `dispatch`."""
    if name == "single":
        from fairlead.run.patterns.single import Single

        return Single()
    if name == "handoff":
        from fairlead.run.patterns.handoff import Handoff

        return Handoff()
    if name == "shared":
        from fairlead.run.patterns.shared import Shared

        return Shared()
    if name == "reuseport":
        from fairlead.run.patterns.reuseport import ReusePort

        return ReusePort()
    if name == "dispatch":
        from fairlead.run.patterns.dispatch import Dispatch

        return Dispatch(fronts)
    raise ConfigError(f'there is no pattern "{name}"', hint='write "reuseport", "handoff" or "dispatch"')
