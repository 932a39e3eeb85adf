"""`fairlead status | reload | drain | why`: commands that talk to a running server through its admin socket.

Rules
1. The server is found by `--admin`, then FAIRLEAD_ADMIN, then the default sockets. With several servers `status` shows
   all; a command that changes something asks which one is meant. A socket that nobody answers on is removed.
2. `reload` and `drain` return when it is done, with exit code 0 only if it was.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlsplit

from fairlead.core.errors import FairleadError, NetError

JOBS = 10_000  # as in run/plan
PATIENCE = 600.0  # seconds: a drain may take as long as its grace
Run = Callable[[argparse.Namespace], int]


def register(subparsers: Any) -> None:
    """Add the four commands to the command line."""
    command(subparsers, "status", "what a running server does", status, "fairlead status --json")
    reload = command(subparsers, "reload", "serve the configuration as it is now", reload_, "fairlead reload --workers")
    reload.add_argument("--workers", action="store_true", help="make new workers, whatever changed")
    reload.add_argument(
        "--binary", action="store_true", help="start the server anew from what is installed now; it takes the sockets"
    )
    command(subparsers, "drain", "finish what is open and stop the server", drain, "fairlead drain")
    why = command(subparsers, "why", "why one request took its time", why_, "fairlead why d2365dd1dc00000001")
    why.add_argument("request", help="the request's id, from the access log or the page")


def command(subparsers: Any, name: str, text: str, run: Run, example: str) -> Any:
    """One command with the options that all of them have."""
    parser = subparsers.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", epilog=f"example: {example}"
    )
    parser.add_argument(
        "--admin",
        metavar="URL",
        help="unix:/path or http://host:port (default: FAIRLEAD_ADMIN, else the server on this machine)",
    )
    parser.add_argument(
        "--token", default="", help="the token printed at start, where the admin is on TCP (default: FAIRLEAD_TOKEN)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)
    return parser


# ---- the commands


def status(args: argparse.Namespace) -> int:
    """`fairlead status`."""
    found = [(where, ask(where, "GET", "/api/status", args)) for where in servers(args)]
    if args.json:
        shown = [{**value, "admin": where} for where, value in found]
        print(json.dumps(shown[0] if len(shown) == 1 else shown, indent=2))
        return 0
    for place, (where, value) in enumerate(found):
        if place:
            print()
        print("\n".join([*describe(where, value), *topics(ask(where, "GET", "/api/topics", args, missing=True))]))
    return 0


def reload_(args: argparse.Namespace) -> int:
    """`fairlead reload`."""
    how = "?binary=1" if args.binary else "?workers=1" if args.workers else ""
    return change(args, "/api/reload" + how)


def drain(args: argparse.Namespace) -> int:
    """`fairlead drain`."""
    return change(args, "/api/drain")


def change(args: argparse.Namespace, path: str) -> int:
    """Ask for something and say what was done."""
    value = ask(one(args), "POST", path, args)
    if args.json:
        print(json.dumps(value, indent=2))
    elif value.get("error"):
        for problem in value.get("problems") or [value["error"]]:
            print(f"fairlead: {problem}", file=sys.stderr)
        print(f"fairlead: {value.get('message', 'it was not done')}", file=sys.stderr)
    else:
        print(value.get("message", "done"))
    return 1 if value.get("error") else 0


def why_(args: argparse.Namespace) -> int:
    """`fairlead why ID`."""
    for where in servers(args):
        value = ask(where, "GET", f"/api/requests/{quote(args.request, safe='')}", args, missing=True)
        if value is not None:
            print(json.dumps(value, indent=2) if args.json else "\n".join(explain(value)))
            return 0
    raise FairleadError(
        f"no server remembers the request {args.request}", hint="[journey] keep says how many are remembered"
    )


# ---- for people


def describe(where: str, value: dict[str, Any]) -> list[str]:
    """The lines of one server's status."""
    speed = "compiled" if value["compiled"] else "interpreted"
    reloads = f", {value['reloads']} reloads" if value["reloads"] else ""
    lines = [
        f"Fairlead {value['version']} ({speed}, {value['loop']}), pid {value['pid']}, {value['state']}, "
        f"up {span(value['uptime'])}{reloads}",
        f"  admin    {where}",
        f"  pattern  {value.get('pattern', '')}, {len(value['workers'])} x {value.get('unit', 'process')}",
    ]
    for one in value["listeners"]:
        queue = one["queue"]
        peak = f", {one['peak']} at most of late" if one.get("peak") else ""
        depth = f"   queue {queue['depth']}/{queue['limit']}{peak}" if queue["limit"] else ""
        udp = one.get("udp")
        dropped = f" ({udp['dropped']} datagrams dropped: the socket was full)" if udp and udp["dropped"] else ""
        lines.append(f"  {one['name']:<8} {one['bind']}{depth}{f', HTTP/3{dropped}' if udp else ''}")
    for one in value.get("store", ()):
        kept = f", keeper pid {one['keeper']}" if one["keeper"] else ""
        lines.append(f"  store    {one['url']}   {one['engine']}, ack {one['ack']}{'; '.join(['', *one['notes']])}{kept}")
    lines += accept_path(value.get("accept_path") or {})
    for one in value["workers"]:
        lines.append(f"  {titled(one)} pid {one['pid']}, {one['state']}, up {span(one['uptime'])}{threads(one)}")
    if value.get("skew"):
        skew = value["skew"]
        lines.append(
            f"  skew     {skew['ratio']:.2f}: worker {skew['busiest']['index']} has {skew['busiest']['rate']:g} requests/s, "
            f"worker {skew['idlest']['index']} {skew['idlest']['rate']:g}"
        )
    latency, verdict = value.get("latency", {}), value.get("verdict", {})
    if latency.get("count"):
        shown = ", ".join(f"{name} {micros(latency[f'{name}_us'])}" for name in ("p50", "p90", "p99"))
        lines.append(f"  latency  {shown}")
    if verdict.get("text"):
        lines.append(f"  {verdict['text']}" + (f" {verdict['advice']}" if verdict.get("advice") else ""))
    return lines


def topics(found: dict[str, Any] | None) -> list[str]:
    """Who follows topics, who is slow, which groups and webhooks wait; nothing where nobody does."""
    if not found or not (found["followers"] or found["groups"] or found["webhooks"]):
        return []
    followers, late, groups = found["followers"], sum(found["late"].values()), found["groups"]
    each = ", ".join(f"{kind} {count}" for kind, count in sorted(followers.items()))
    line = f"  topics   {sum(followers.values())} followers{f' ({each})' if each else ''}, {found['delivered']} deliveries"
    line += f", {late} slow now" if late else ""
    if groups:
        dead = sum(one["dead"] for one in groups)
        line += f"; {len(groups)} groups, lag {max(one['lag'] for one in groups)} at most{f', {dead} dead letters' if dead else ''}"
    if hooks := found["webhooks"]:
        dead, off = sum(one["dead"] for one in hooks), sum(one["state"] != "active" for one in hooks)
        line += f"; {len(hooks)} webhooks{f', {off} not active' if off else ''}{f', {dead} dead letters' if dead else ''}"
    return [line]


def accept_path(path: dict[str, Any]) -> list[str]:
    """What the kernel turned away, when it did, and who else listens on our port."""
    words = {"overflows": "overflows", "drops": "SYNs dropped", "cookies": "SYN cookies", "syn_drops": "SYNs without a place"}
    since = [f"{count} {words[name]}" for name, count in path.get("since_start", {}).items() if count]
    lines = [f"  accept   {', '.join(since)} since the start (whole {path['scope']})"] if since else []
    for one in path.get("foreign", ()):
        lines.append(f"  accept   another socket on {one['bind']}: {one['who'] or 'uid ' + str(one['uid'])}")
    return lines


def titled(one: dict[str, Any]) -> str:
    """What a role is called, and which thread it is where workers are threads."""
    index = one["index"] - (JOBS if one.get("kind") == "jobs" else 0)
    name = f"{one.get('kind', 'worker')} {index if index >= 0 else -1 - index}"
    return f"{name} thread {one['thread']}" if one.get("thread", one["pid"]) != one["pid"] else name


def threads(worker: dict[str, Any]) -> str:
    """What a worker's threads for blocking work do; "" when it has none."""
    found = worker.get("threads") or {}
    if not found.get("all"):
        return ""
    return f", threads {found['busy']} of {found['all']} busy" + (
        f", {found['waiting']} wait" if found["waiting"] else ""
    )


def explain(value: dict[str, Any]) -> list[str]:
    """The lines of one request's story, its steps as bars."""
    lines = [
        f"{value.get('method', '')} {value.get('target', '')} {value.get('status', '')}".strip(),
        value.get("sentence", ""),
    ]
    steps = value.get("steps", [])
    most = max((step["us"] for step in steps), default=0) or 1
    for step in steps:
        known = "" if step.get("quality", "exact") == "exact" else f"  ({step['quality']})"
        lines.append(
            f"  {step['name']:<10} {micros(step['us']):>9}  {'#' * max(1, round(40 * step['us'] / most))}{known}"
        )
    for step in value.get("custom", []):
        lines.append(f"    own step {step['name']}: {micros(step['us'])}")
    return [line for line in (*lines, value.get("advice", "")) if line]


def span(seconds: float) -> str:
    """A duration for people."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def micros(value: float) -> str:
    """Microseconds for people."""
    return f"{value / 1e6:.2f} s" if value >= 1e6 else f"{value / 1e3:.1f} ms" if value >= 1e3 else f"{value:.0f} us"


# ---- finding and asking


def servers(args: argparse.Namespace) -> list[str]:
    """Where the servers meant are; at least one."""
    named = args.admin or os.environ.get("FAIRLEAD_ADMIN", "")
    if named:
        return [named]
    from fairlead.run.admin import folders
    from fairlead.run.sockets import answers

    paths = sorted({str(path) for folder in folders() for path in folder.glob("fairlead-*.sock")})
    living = [path for path in paths if answers(path)]
    for path in set(paths) - set(living):
        with suppress(OSError):
            os.unlink(path)
    if not living:
        raise NetError(
            "no server is running here", step="dial", side="us", hint="name one: --admin unix:/path or http://host:port"
        )
    return [f"unix:{path}" for path in living]


def one(args: argparse.Namespace) -> str:
    """The one server meant."""
    found = servers(args)
    if len(found) > 1:
        raise FairleadError(f"{len(found)} servers are running", hint=f"say which: --admin {' | '.join(found)}")
    return found[0]


class Unix(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def connection(where: str) -> http.client.HTTPConnection:
    """A connection to an admin address: unix:/path, /path or http://host:port."""
    if where.startswith(("unix:", "/")):
        return Unix(where.removeprefix("unix:"))
    parts = urlsplit(where if "://" in where else f"http://{where}")
    if parts.scheme != "http" or not parts.hostname or ("://" not in where and ":" not in where):
        raise FairleadError(f'"{where}" is no admin address', hint="write unix:/path or http://host:port")
    return http.client.HTTPConnection(parts.hostname, parts.port or 9900, timeout=PATIENCE)


def ask(where: str, method: str, path: str, args: argparse.Namespace, missing: bool = False) -> Any:
    """One request to the admin. Its JSON; None for a 404 when it may be `missing`; raises FairleadError otherwise."""
    token = args.token or os.environ.get("FAIRLEAD_TOKEN", "")
    made = connection(where)
    try:
        made.request(method, path, headers={"authorization": f"Bearer {token}"} if token else {})
        answer = made.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise NetError(
            f"the server at {where} does not answer: {reason}", step="dial", side="us", hint="is it running?"
        ) from None
    finally:
        made.close()
    if answer.status == 404 and missing:
        return None
    if answer.status not in (200, 409):
        raise FairleadError(body.decode(errors="replace").strip() or f"the admin answered {answer.status}")
    return json.loads(body)
