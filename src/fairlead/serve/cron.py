"""Jobs by the clock: each time of a cron expression submits one job, once, whoever of all workers looks first.

Rules
1. A schedule is a state key `cron/<name>`, due at its next time; every worker looks, `State.put_if` decides. The job's id is made
   of name and time, so two who look at once, or one that dies between submitting and moving on, submit one job: no leader is needed
   that could be two.
2. Times are those of the expression in its time zone, as Debian's cron has them: a time that the clock skips in spring runs just
   after the gap, one that it repeats in autumn runs once, unless it is an every-so-often one.
3. After a time without any worker one job is submitted for all the times missed, not one for each.
4. The clock is the engine's, so a machine whose clock jumps neither skips nor repeats.
5. A schedule that is no longer in anybody's code is left alone for `FORGET`, then it goes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fairlead.core.errors import ConfigError
from fairlead.serve.jobs import JobKind, Jobs
from fairlead.store.contract import Conflict, StoreError

ROOT = "cron/"
FORGET = 7 * 86400.0
MOST = 30.0  # seconds between looks, whatever is due
log = logging.getLogger("fairlead.jobs")


def following(expression: str, zone: str, after: float) -> float:
    """The first time of a cron expression after a moment, both in seconds since 1970. ConfigError."""
    try:
        from cronsim import CronSim, CronSimError
    except ImportError:
        raise ConfigError("cron needs cronsim", hint="pip install 'fairlead[jobs]'") from None
    try:
        began = datetime.fromtimestamp(after, UTC).astimezone(ZoneInfo(zone))
        return next(CronSim(expression, began)).timestamp()
    except (CronSimError, StopIteration):
        raise ConfigError(
            f"not a cron expression: {expression!r}", hint='write five fields: minute hour day month weekday, as "0 3 * * 1-5"'
        ) from None
    except (ZoneInfoNotFoundError, ValueError):
        raise ConfigError(f"no such time zone: {zone!r}", hint='write a name as "Europe/Oslo"') from None


class Cron:
    """The schedules of the kinds that this process knows. `start()` on a running loop."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs, self.state = jobs, jobs.store.state
        self.task: asyncio.Task[None] | None = None

    @property
    def kinds(self) -> dict[str, JobKind]:
        """Those with a schedule, by its key."""
        return {ROOT + name: kind for name, kind in self.jobs.kinds.items() if kind.options.cron}

    def start(self) -> None:
        """Look from now on, if there is a schedule."""
        if self.kinds:
            self.task = asyncio.get_running_loop().create_task(self.run())

    async def stop(self) -> None:
        """Look no more."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def run(self) -> None:
        """Look, wait, look."""
        while True:
            wait = MOST
            try:
                wait = await self.look()
            except StoreError as error:
                log.warning("cron: the store cannot be reached: %s", error)
            await asyncio.sleep(wait * random.uniform(0.99, 1.01) + 0.001)

    async def look(self) -> float:
        """Submit what is due; seconds until the next look."""
        now = await self.jobs.store.now()
        soonest = now + MOST
        for key, kind in self.kinds.items():
            with suppress(Conflict):
                soonest = min(soonest, await self.one(key, kind, now))
        for key, entry in await self.state.scan_due(ROOT):
            if key not in self.kinds:
                told = json.loads(entry.value)
                if told["at"] < now - FORGET:
                    with suppress(Conflict):
                        await self.state.delete_if(key, entry.version)
        return max(soonest - now, 0.0)

    async def one(self, key: str, kind: JobKind, now: float) -> float:
        """One schedule: make it, follow its expression, or submit; when it is due next."""
        options = kind.options
        entry = await self.state.get(key)
        told: dict[str, Any] = json.loads(entry.value) if entry is not None else {}
        as_now = (told.get("cron"), told.get("zone")) == (options.cron, options.timezone)
        at = told["at"] if as_now else following(options.cron, options.timezone, now)
        if as_now and at <= now:
            await self.jobs.submit(kind.name, options=options, name=f"cron-{round(at)}")
            at = following(options.cron, options.timezone, now)
        elif as_now:
            return at
        value = json.dumps({"cron": options.cron, "zone": options.timezone, "at": at}).encode()
        await self.state.put_if(key, value, entry.version if entry is not None else 0, due=at)
        return at
