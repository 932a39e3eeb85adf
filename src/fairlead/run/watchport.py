"""`fairlead watch PORT`: the accept queue, overflows and connections of any local server, without touching it.

Everything comes from the kernel (`net.diag`): it works for a server that is not ours, that does not answer, and without
privileges; only the name of another user's process needs them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from typing import Any

from fairlead.core.errors import FairleadError
from fairlead.net import diag
from fairlead.run import sockets, units

EXAMPLES = """examples:
  fairlead watch 8000              look every second until Ctrl-C
  fairlead watch 443 --json        one look, as JSON
  fairlead watch 443 --times 60 --json    a line of JSON each second for a minute
"""
NEARLY = 0.8  # of the queue's limit


def register(subparsers: Any) -> None:
    """Add `watch` to the command line."""
    watch = subparsers.add_parser("watch", help="accept queue and connections of any local server", epilog=EXAMPLES)
    watch.add_argument("port", type=int, help="the TCP port that the server listens on")
    watch.add_argument("--times", type=int, default=0, metavar="N", help="looks (default: 1 when not on a terminal)")
    watch.add_argument("--every", default="1s", metavar="TIME", help="time between two looks (default: 1s)")
    watch.add_argument("--json", action="store_true", help="one JSON object per look")
    watch.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`fairlead watch`; 1 when nobody listens there."""
    try:
        every = units.read_duration(args.every)
    except units.BadValue as bad:
        raise FairleadError(f"--every {bad.message}", hint=bad.hint) from None
    endless = sys.stdout.isatty() and not args.json
    left = args.times or (-1 if endless else 1)
    before: dict[str, int] = {}
    while left:
        seen = look(args.port, before)
        before = seen["counters"]
        print(json.dumps(seen) if args.json else "\n".join(lines(seen)), flush=True)
        left -= 1
        if left:
            time.sleep(every)
    return 0


def look(port: int, before: dict[str, int]) -> dict[str, Any]:
    """What there is on a port now; `before` are the counters of the last look. Raises when nobody listens."""
    try:
        rows, found = diag.listening(port), diag.connections(port)
    except OSError as error:
        raise FairleadError(f"the kernel does not tell about sockets: {error.strerror}", hint="Linux only") from None
    if not rows and not 0 < port < 65536:
        raise FairleadError(f"there is no port {port}", hint="ports are 1 to 65535")
    if not rows:
        raise FairleadError(f"nobody listens on port {port} here", hint="`ss -ltn` lists the ports that are open")
    groups: dict[str, list[diag.Row]] = {}
    for one in rows:
        groups.setdefault(f"[{one.local[0]}]" if ":" in one.local[0] else one.local[0], []).append(one)
    counters = diag.counters()
    return {
        "port": port,
        "listeners": [
            {
                "bind": f"{host}:{port}",
                "who": sockets.who_holds(row.inode for row in many),
                "uid": many[0].uid,
                "sockets": [{"depth": row.rqueue, "limit": row.wqueue, "inode": row.inode} for row in many],
                "depth": sum(row.rqueue for row in many),
                "fullest": max(row.rqueue / max(row.wqueue, 1) for row in many),
            }
            for host, many in groups.items()
        ],
        "connections": dict(Counter(row.state for row in found)),
        "unread": {"connections": sum(row.rqueue > 0 for row in found), "bytes": sum(row.rqueue for row in found)},
        "unacknowledged": {
            "connections": sum(row.wqueue > 0 for row in found),
            "bytes": sum(row.wqueue for row in found),
        },
        "counters": counters,
        "rose": {name: value - before.get(name, value) for name, value in counters.items()},
        "scope": "network namespace",
    }


def lines(seen: dict[str, Any]) -> list[str]:
    """A look, for people."""
    shown = []
    for one in seen["listeners"]:
        queue = ", ".join(f"{sock['depth']}/{sock['limit']}" for sock in one["sockets"][:8])
        more = f" and {len(one['sockets']) - 8} more" if len(one["sockets"]) > 8 else ""
        who = one["who"] or f"uid {one['uid']}"
        shown.append(f"{time.strftime('%H:%M:%S')} {one['bind']}  {who}  accept queue {queue}{more}{warning(one)}")
    states = ", ".join(f"{count} {state}" for state, count in sorted(seen["connections"].items())) or "none"
    shown.append(f"         connections: {states}")
    for key, words in (("unread", "not yet read by the server"), ("unacknowledged", "sent and not acknowledged")):
        if seen[key]["connections"]:
            shown.append(f"         {seen[key]['bytes']} bytes on {seen[key]['connections']} of them {words}")
    rose = ", ".join(f"{name} +{count}" for name, count in seen["rose"].items() if count)
    if rose:
        shown.append(f"         {rose} since the last look (whole {seen['scope']})")
    return shown


def warning(one: dict[str, Any]) -> str:
    """A word on a queue that is full."""
    if one["fullest"] >= 1:
        return "  FULL: new clients wait 1 s, 3 s, 7 s"
    return "  nearly full" if one["fullest"] >= NEARLY else ""
