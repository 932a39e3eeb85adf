"""`fairlead idempotency [list | settle]`: Idempotency-Keys whose outcome nobody knows, and an operator's word on them.

A server that dies while it does something cannot know whether it was done: such a key answers 409 until somebody settles it.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any
from urllib.parse import quote

from fairlead.run import client

EXAMPLES = """examples:
  fairlead idempotency list
  fairlead idempotency settle 5f0c9a… --not-done              the key may be used again
  fairlead idempotency settle 5f0c9a… --done 201 --body '{}'   it is answered so from now on
"""


def register(subparsers: Any) -> None:
    """Add `idempotency` to the command line."""
    top = subparsers.add_parser("idempotency", help="keys whose outcome is unknown, and settling them", epilog=EXAMPLES)
    words = top.add_subparsers(metavar="WORD", required=True)
    listed = words.add_parser("list", help="keys whose outcome is unknown", epilog=EXAMPLES)
    listed.set_defaults(run=list_)
    settle = words.add_parser("settle", help="say what came of a key", epilog=EXAMPLES)
    settle.add_argument("id", help="as `list` shows it")
    how = settle.add_mutually_exclusive_group(required=True)
    how.add_argument("--not-done", action="store_true", help="nothing was done: the key may be used again")
    how.add_argument("--done", type=int, metavar="STATUS", help="it was done, and is answered with this status")
    settle.add_argument("--body", default="", metavar="TEXT", help="the body of that answer")
    settle.set_defaults(run=settle_)
    for one in (listed, settle):
        one.formatter_class = argparse.RawDescriptionHelpFormatter
        one.add_argument("--admin", metavar="URL", help="unix:/path or http://host:port (default: as `fairlead status`)")
        one.add_argument("--token", default="", help="the token printed at start, where the admin is on TCP")
        one.add_argument("--json", action="store_true", help="print JSON")
        one.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def list_(args: argparse.Namespace) -> int:
    """`fairlead idempotency list`."""
    found = client.ask(client.one(args), "GET", "/api/idempotency", args)["keys"]
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    for one in found:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["at"] or 0))
        print(f"{one['id']}  {at}  {one['route'].strip()}  {one['who'] or '-'}  {one['key']}")
    return 0


def settle_(args: argparse.Namespace) -> int:
    """`fairlead idempotency settle`."""
    path = f"/api/idempotency/settle?id={quote(args.id, safe='')}&status={args.done or 0}&body={quote(args.body, safe='')}"
    found = client.ask(client.one(args), "POST", path, args)
    print(json.dumps(found) if args.json else found["message"])
    return 0
