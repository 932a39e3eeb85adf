"""`fairlead job workers`: a master whose only roles work on jobs, against the same store as a server's.

An engine at an address is simply opened. An embedded one (`sqlite:`) has one owner: when a server on this machine keeps it, its
admin socket says where, and we go there; when that server is replaced, its keeper has another address, which is looked for; with
no server, we keep the store ourselves, and a server that starts meanwhile cannot have it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fairlead.core.errors import ConfigError
from fairlead.run import config as c
from fairlead.run import storing
from fairlead.run.keeping import alive


def run(args: argparse.Namespace) -> int:
    """Work until somebody says stop; the exit code."""
    from fairlead.run.master import Master

    load = loader(args)
    config = load()
    master = Master(config, load, announce)
    if places := storing.kept(storing.urls(config)):
        if any(url.startswith("memory:") for url in places):
            hint = "write [store] url = \"sqlite:////var/lib/…\", or a server's"
            raise ConfigError("memory: belongs to one server, so its jobs are worked on there", hint=hint)
        master.keepers.borrow = keeper_of
    return master.run()


def loader(args: argparse.Namespace) -> Callable[[], c.Config]:
    """What reads the configuration: now, and again on a reload."""
    from fairlead.run.load import load

    files = [one for one in args.target if one.endswith(".toml") or os.path.exists(one)]
    if files and len(args.target) > 1:
        raise ConfigError("name one configuration file, or modules", hint="modules of a file's jobs are its [jobs] modules")
    if not files and not args.store:
        raise ConfigError("--store is missing: modules do not say where jobs are", hint="--store sqlite:////var/lib/x.db")
    if args.dir and args.dir not in sys.path:
        sys.path.insert(0, args.dir)

    def made() -> c.Config:
        given = load(files[0]) if files else modules(args)
        store = replace(given.store, url=args.store) if args.store else given.store
        count = args.workers or given.jobs.workers or c.cores()
        return replace(given, listeners=(), store=store, jobs=replace(given.jobs, workers=count))

    return made


def modules(args: argparse.Namespace) -> c.Config:
    """A configuration of modules alone."""
    names = tuple(one.partition(":")[0] for one in args.target)
    return c.Config(jobs=c.Jobs(modules=names, dir=args.dir or ".", workers=1))


def announce(master: Any) -> None:
    """What was started."""
    store = ", ".join(one["url"] for one in master.keepers.status())
    count = master.config.jobs.workers
    many = "es" if count > 1 else ""
    print(f"fairlead: {count} process{many} for jobs, store {store}. Ctrl-C stops, and hands back what runs.", file=sys.stderr)


def keeper_of(url: str) -> str:
    """The address of the keeper of a store that a server on this machine has; "" when there is none."""
    from fairlead.core.errors import FairleadError
    from fairlead.run import client
    from fairlead.run.admin import folders
    from fairlead.run.sockets import answers

    args = argparse.Namespace(token="", admin=None)
    paths = sorted({str(path) for folder in folders() for path in folder.glob("fairlead-*.sock")})
    for path in paths:
        if f"fairlead-jobs-{os.getpid()}" in path or not answers(path):
            continue
        try:
            found = client.ask(f"unix:{path}", "GET", "/api/keepers", args, missing=True)
        except (FairleadError, ValueError):
            continue
        address = (found or {}).get(storing.named(url), "")
        if address and alive(address):
            return str(address)
    return ""
