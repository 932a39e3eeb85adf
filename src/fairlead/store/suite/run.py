"""Runs the checks: many at a time, since most of a check's time is waiting.

Each check opens the engine for itself, so what one does to its connection (watching, cancelling) disturbs no other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..contract import StoreError
from .kit import CHECKS, Check, Failed, Opener, perform

AT_ONCE = 24  # connections that a user's engine has to spare
LONGEST = 120.0  # seconds; a check that hangs has failed


@dataclass
class Outcome:
    """How one check went: "passed", "failed", "skipped" or "error", why, and how long it took in seconds."""

    name: str
    result: str
    why: str = ""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Nothing is wrong."""
        return self.result in ("passed", "skipped")


async def run_one(name: str, needs: str, function: Check, opener: Opener) -> Outcome:
    """One check."""
    begun = time.monotonic()
    try:
        why = await asyncio.wait_for(perform(function, opener, needs), LONGEST)
        result = "skipped" if why else "passed"
    except Failed as error:
        result, why = "failed", str(error)
    except TimeoutError:
        result, why = "failed", f"hung for {LONGEST:.0f} s"
    except StoreError as error:
        result, why = "failed", f"{type(error).__name__}: {error}"
    except Exception as error:
        result, why = "error", f"{type(error).__name__}: {error}"
    return Outcome(name, result, why, time.monotonic() - begun)


async def run_checks(make: Callable[[], Opener], names: Iterable[str] | None = None) -> dict[str, Outcome]:
    """All checks, or these, beside each other. `make` gives each its own opener."""
    room = asyncio.Semaphore(AT_ONCE)
    wanted = None if names is None else set(names)

    async def one(name: str, needs: str, function: Check) -> Outcome:
        async with room:
            return await run_one(name, needs, function, make())

    chosen = [check for check in CHECKS if wanted is None or check[0] in wanted]
    return {outcome.name: outcome for outcome in await asyncio.gather(*(one(*check) for check in chosen))}
