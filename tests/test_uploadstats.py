"""Uploads in numbers: roles are added, what one had counted outlives it, a stuck one is left out, and /metrics has it by route."""

import asyncio
from types import SimpleNamespace

from fairlead.run.role import SERVING
from fairlead.run.uploadstats import UploadStats, answer
from fairlead.serve.uploadcounts import Counts


class Role:
    """A role that answers with `counts` by route, or is stuck."""

    state = SERVING

    def __init__(self, number, **routes):
        self.number, self.routes = number, routes or None

    async def ask(self, word, timeout):
        if self.routes is None:
            raise TimeoutError
        return answer(SimpleNamespace(uploads=self.routes))


def counted(**more):
    counts = Counts()
    for name, value in more.items():
        setattr(counts, name, value)
    return counts


def fresh(stats):
    stats.asked = -1e9
    return asyncio.run(stats.numbers())


def test_roles_are_added_and_what_one_had_counted_outlives_it():
    one, other = Role(1, a=counted(started=3, bytes=10, active=1)), Role(2, a=counted(started=2, active=2), b=counted(expired=1))
    stats = UploadStats(SimpleNamespace(roles=[one, other, Role(3)]))
    found = fresh(stats)
    assert found["silent"] == 1 and found["routes"]["b"]["expired"] == 1
    assert {name: found["routes"]["a"][name] for name in ("started", "bytes", "active")} == {"started": 5, "bytes": 10, "active": 3}
    stats.master.roles = [other]
    found = fresh(stats)["routes"]["a"]
    assert (found["started"], found["bytes"], found["active"]) == (5, 10, 2)


def test_metrics_have_a_line_for_each_route_and_none_without_uploads():
    stats = UploadStats(SimpleNamespace(roles=[Role(1, **{'/x"y': counted(completed=7)})]))
    text = asyncio.run(stats.exposition()).decode()
    assert 'fairlead_uploads_completed_total{route="/x\\"y"} 7\n' in text and "# TYPE fairlead_uploads_active gauge" in text
    assert asyncio.run(UploadStats(SimpleNamespace(roles=[])).exposition()) == b""
    assert answer(None) == {"routes": {}}
