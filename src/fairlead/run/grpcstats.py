"""What the gRPC servers of all workers did, for `GET /api/grpc`: the counts that channelz has of a server, by method.

A worker answers from its own objects; the master asks all that serve and adds. A worker that is stuck is left out and counted.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

COUNTS = ("started", "succeeded", "failed", "messages_in", "messages_out")
PATIENCE = 1.0  # seconds


def of(built: Any) -> dict[str, Any]:
    """The servers of one worker's plan: {target: {calls, refused, methods: {path: counts}}}."""
    if "fairlead.serve.grpc" not in sys.modules:  # nobody needed it, so there is none
        return {}
    from fairlead.serve.grpc import Grpc

    found: dict[str, Any] = {}
    for route in built.routes if built is not None else ():
        one = route.handler
        if isinstance(one, Grpc) and one.name not in found:
            methods = [*one.methods.values(), *one.made.values()]
            found[one.name] = {
                "calls": one.active,
                "refused": one.refused,
                "methods": {method.name: {name: getattr(method, name) for name in COUNTS} for method in methods},
            }
    return found


async def all_of(roles: list[Any]) -> dict[str, Any]:
    """The sums of all workers: {servers: {...}, workers, silent}."""
    answers = await asyncio.gather(*(role.ask("grpc", timeout=PATIENCE) for role in roles), return_exceptions=True)
    heard = [one["servers"] for one in answers if isinstance(one, dict)]
    return {"servers": summed(heard), "workers": len(heard), "silent": len(answers) - len(heard)}


def summed(heard: list[dict[str, Any]]) -> dict[str, Any]:
    """Several workers' servers as one."""
    total: dict[str, Any] = {}
    for servers in heard:
        for target, one in servers.items():
            into = total.setdefault(target, {"calls": 0, "refused": 0, "methods": {}})
            into["calls"] += one["calls"]
            into["refused"] += one["refused"]
            for path, counts in one["methods"].items():
                sums = into["methods"].setdefault(path, dict.fromkeys(COUNTS, 0))
                for name in COUNTS:
                    sums[name] += counts[name]
    return total
