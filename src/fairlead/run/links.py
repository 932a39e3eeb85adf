"""Pattern `dispatch`: the master makes the links between fronts and workers, one socket pair for each two that serve.

Rules
1. Each end goes to its role and none stays here, so that when one of the two dies, the other hears it at once.
2. A link has a generation of its own: a claim word that an older one left behind says nothing to it (`wire.hop`, rule 5).
"""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.run import sockets
from fairlead.run.role import SERVING, Role


class Links:
    """Which fronts and workers are linked, by the numbers of their starts."""

    def __init__(self) -> None:
        self.made: set[tuple[int, int]] = set()
        self.generation = 0

    def connect(self, roles: Sequence[Role]) -> None:
        """Link every serving front with every serving worker that it is not linked with yet."""
        numbers = {role.number for role in roles}
        self.made = {pair for pair in self.made if numbers.issuperset(pair)}
        serving = [role for role in roles if role.state == SERVING and role.hops]
        for front in [role for role in serving if role.index < 0]:
            for worker in [role for role in serving if role.index >= 0]:
                if (front.number, worker.number) not in self.made:
                    self.made.add((front.number, worker.number))
                    self.link(front, worker)

    def link(self, front: Role, worker: Role) -> None:
        """Make a pair and give it away."""
        self.generation += 1
        near, far = sockets.link()
        values = {
            "place": worker.index,
            "apps": worker.apps,
            "front_slot": front.slot,
            "worker_slot": worker.slot,
            "generation": self.generation,
        }
        worker.say("link", [far.fileno()], **values)
        front.say("link", [near.fileno()], **values)
        near.close()
        far.close()
