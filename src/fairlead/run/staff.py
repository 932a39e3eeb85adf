"""Who may be started: a process or a thread for a place, under which user, with which region of the slab; and who stands
in for a place that nobody serves. Used by the master only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fairlead.core.errors import ConfigError, FairleadError
from fairlead.run.plan import JOBS, Plan
from fairlead.run.role import GONE, SERVING, Host, Role, ThreadRole

if TYPE_CHECKING:
    from fairlead.run.master import Master


def new_role(master: Master, index: int, plan: Plan) -> Role:
    """A process for a place, or a thread of the process that the workers share."""
    title = plan.pattern.title if index < 0 else "worker"
    slot = free_slot(master.roles, master.slab.slots)
    if index >= JOBS:
        return Role(index, slot, master.numbers, "jobs", index - JOBS)
    if plan.config.server.unit != "thread":
        return Role(index, slot, master.numbers, title)
    if master.host is None or not master.host.alive:
        master.host = Host(**identity(plan.config.server.user))
        master.hosts.append(master.host)
    return ThreadRole(index, slot, master.numbers, title, master.host, master.reap)


def places(roles: Sequence[Role]) -> dict[int, int]:
    """{place: region of the slab} of the workers that serve; the newest at each place."""
    return {role.index: role.slot for role in roles if role.state == SERVING and 0 <= role.index < JOBS}


def free_slot(roles: Sequence[Role], slots: int) -> int:
    """A slab region that no living worker writes to."""
    used = {role.slot for role in roles if role.state != GONE}
    free = next((slot for slot in range(slots) if slot not in used), None)
    if free is None:
        raise FairleadError("the shared memory has no room for so many more workers", hint="restart the server")
    return free


def identity(wanted: str) -> dict[str, Any]:
    """Popen arguments that drop a worker's privileges to [server] user."""
    user, _, group = wanted.partition(":")
    if not user or os.geteuid() != 0:
        return {}
    import pwd

    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(f'server.user: there is no user "{user}"', hint="create it or name another") from None
    return {"user": user, "group": group or entry.pw_gid, "extra_groups": os.getgrouplist(user, entry.pw_gid)}


def tell_places(master: Master) -> None:
    """Who stands before the workers learns which of them serve, and is connected with those that are new."""
    for role in master.roles:
        if role.index < 0:
            role.say("places", places=places(master.roles))
    master.links.connect(master.roles)


def cover(master: Master) -> None:
    """Lend the sockets of each place that nobody serves to a sibling, and take back those of one that is served
    again. Called whenever somebody came or went.
    """
    serving = [role for role in master.roles if role.state == SERVING and role.index < JOBS]
    filled = {role.index for role in serving}
    for place, heir in list(master.covered.items()):
        if place in filled or heir not in serving:
            del master.covered[place]
            heir.say("return", place=place)
    wanted = {place for place in master.plan.places if place < JOBS} if master.holder.held else set()
    empty = wanted - filled - master.covered.keys()
    for place in empty:
        sibling = master.plan.pattern.heir(serving, place)
        if sibling is not None:
            master.covered[place] = sibling
            names, fds = master.holder.share(master.plan, place)
            sibling.say("lend", fds, place=place, listeners=names)
    tell_places(master)
