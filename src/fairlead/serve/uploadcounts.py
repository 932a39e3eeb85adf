"""What the uploads of one route have come to in this process. Only numbers: `run.uploadstats` adds them up over all processes.

    started     uploads begun            completed, rejected   ended whole, or whole and refused (by `done`, by a digest)
    resumed     requests that went on with an upload behind its first byte
    aborted     requests that ended before their body did: the client left, a newer request took over, the server stopped
    cancelled   by DELETE                expired               their time was over
    bytes       written to the storage   active                requests that bring bytes now
"""

from __future__ import annotations

COUNTS = ("started", "completed", "rejected", "resumed", "aborted", "cancelled", "expired", "bytes")


class Counts:
    """See the module. `active` is the only one that falls."""

    __slots__ = (*COUNTS, "active")

    def __init__(self) -> None:
        self.started = self.completed = self.rejected = self.resumed = self.aborted = self.cancelled = self.expired = 0
        self.bytes = self.active = 0

    def told(self) -> dict[str, int]:
        """All of them by name."""
        return {name: getattr(self, name) for name in (*COUNTS, "active")}
