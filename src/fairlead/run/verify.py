"""`fairlead verify --store URL`: the contract, random walks, histories and faults on a user's own engine. See `store.suite`."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from dataclasses import asdict
from typing import Any

EXAMPLES = """examples:
  fairlead verify --store sqlite:////var/lib/fairlead/fairlead.db     this disk, on a file beside it
  fairlead verify --store postgresql://me@db.internal/fairlead
  fairlead verify --store redis://localhost --seconds 60 --json
"""
MARKS = {"passed": "ok", "failed": "FAILED", "skipped": "skipped", "error": "ERROR"}


def register(subparsers: Any) -> None:
    """Add `verify` to the command line."""
    verify = subparsers.add_parser("verify", help="put a store to its contract, and break it", epilog=EXAMPLES)
    verify.add_argument("--store", required=True, metavar="URL", help="memory:, sqlite:, postgresql:, redis: …")
    verify.add_argument("--ack", default="", metavar="ACK", help="what an acknowledgement must mean, as store.ack")
    verify.add_argument("--seconds", type=float, default=10.0, metavar="N", help="of work under faults (default: 10)")
    verify.add_argument("--seed", type=int, default=None, help="of the walks and faults (default: drawn, and printed)")
    verify.add_argument("--json", action="store_true", help="print one JSON object")
    verify.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Verify; 0 when everything holds."""
    from fairlead.core.errors import ConfigError
    from fairlead.run import config as c
    from fairlead.run.storing import read
    from fairlead.run.units import BadValue
    from fairlead.store.contract import Ack
    from fairlead.store.suite.verify import Subject

    try:
        url = read(c.STORE_URL.read(args.store), "url")
    except BadValue as bad:
        raise ConfigError(f"--store: {bad.message}", hint=bad.hint) from None
    if args.ack and args.ack not in list(Ack):
        raise ConfigError(f'--ack: "{args.ack}"', hint=f"write one of {', '.join(Ack)}")
    seed = args.seed if args.seed is not None else random.randrange(10**6)
    with Subject(url, Ack(args.ack) if args.ack else None) as subject:
        return asyncio.run(work(subject, args, seed))


async def work(subject: Any, args: argparse.Namespace, seed: int) -> int:
    """Do everything, printing as it goes."""
    from fairlead.store.open import enough, without_secrets
    from fairlead.store.suite.verify import title, verify

    declared = await subject.declared()
    enough(subject.url, declared, subject.ack)
    rows = []
    if not args.json:
        print("\n".join(title(subject, declared)))
        print(f"  seed {seed}", flush=True)
    section = ""
    async for kind, outcome in verify(subject, args.seconds, seed):
        rows.append({"section": kind, **asdict(outcome)})
        if args.json:
            continue
        if kind != section:
            section = kind
            print(section)
        why = f"   {outcome.why}" if outcome.why else ""
        name = outcome.name.replace("_", " ")
        print(f"  {MARKS[outcome.result]:<8} {name:<66} {outcome.seconds:6.2f} s{why}", flush=True)
    bad = sum(row["result"] in ("failed", "error") for row in rows)
    if args.json:
        value = {
            "store": without_secrets(subject.url),
            "declared": asdict(declared),
            "seed": seed,
            "failed": bad,
            "rows": rows,
        }
        print(json.dumps(value, indent=2))
    else:
        done = sum(row["result"] == "passed" for row in rows)
        print(f"{done} hold, {bad} do not, {len(rows) - done - bad} could not be tried", file=sys.stderr)
    return 1 if bad else 0
