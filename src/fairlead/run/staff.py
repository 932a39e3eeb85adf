"""Who may be started: a process or a thread for a place, under which user, with which region of the slab. Used by the
master only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fairlead.core.errors import ConfigError, FairleadError
from fairlead.run.plan import Plan
from fairlead.run.role import GONE, SERVING, Host, Role, ThreadRole

if TYPE_CHECKING:
    from fairlead.run.master import Master


def new_role(master: Master, index: int, plan: Plan) -> Role:
    """A process for a place, or a thread of the process that the workers share."""
    title = plan.pattern.title if index < 0 else "worker"
    slot = free_slot(master.roles, master.slab.slots)
    if plan.config.server.unit != "thread":
        return Role(index, slot, master.numbers, title)
    if master.host is None or not master.host.alive:
        master.host = Host(**identity(plan.config.server.user))
        master.hosts.append(master.host)
    return ThreadRole(index, slot, master.numbers, title, master.host, master.reap)


def places(roles: Sequence[Role]) -> dict[int, int]:
    """{place: region of the slab} of the workers that serve; the newest at each place."""
    return {role.index: role.slot for role in roles if role.state == SERVING and role.index >= 0}


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
