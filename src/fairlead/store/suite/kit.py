"""What a check gets, and the words it is written in.

A check is `async def name(it: Bench)`, marked with `@check(needs)`. It uses names that nobody else uses (`it.name()`), so
checks can run beside each other and on a store that is in use. It fails by raising `Failed`, with what was seen and what would
be right: `assert` would fall silent under `python -O`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from ..contract import (
    Batch,
    Declaration,
    Engine,
    Event,
    Leases,
    Log,
    NewEvent,
    Offset,
    State,
    StoreError,
    TopicConfig,
)

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)
Opener = Callable[[], Awaitable[tuple[Engine, Declaration]]]
Check = Callable[["Bench"], Awaitable[None]]

CHECKS: list[tuple[str, str, Check]] = []
SOON = 15.0  # seconds within which lazy things must have happened, on a slow and busy machine too
_numbers = itertools.count(1)


class Failed(AssertionError):
    """The engine does not do what the contract says."""


def check(needs: str) -> Callable[[Check], Check]:
    """Marks a check that needs these parts of the engine: "log", "leases", "state", or two with a blank between."""

    def mark(function: Check) -> Check:
        CHECKS.append((function.__name__, needs, function))
        return function

    return mark


@dataclass
class Bench:
    """One engine, opened, for one check; `more` opens another connection to the same store."""

    engine: Engine
    declared: Declaration
    opener: Opener
    stack: AsyncExitStack

    @property
    def log(self) -> Log:
        """Its topics."""
        assert self.engine.log is not None
        return self.engine.log

    @property
    def leases(self) -> Leases:
        """Its queues."""
        assert self.engine.leases is not None
        return self.engine.leases

    @property
    def state(self) -> State:
        """Its keys."""
        assert self.engine.state is not None
        return self.engine.state

    def name(self, kind: str = "t") -> str:
        """A name that nothing else has, and that nothing else begins with."""
        return f"verify-{kind}-{os.getpid()}-{next(_numbers):09d}"

    async def more(self) -> Engine:
        """Another connection to the same store, as another worker would have. Closed after the check."""
        engine, _ = await self.opener()
        if engine is not self.engine:
            self.stack.push_async_callback(engine.close)
        return engine

    async def topic(self, config: TopicConfig | None = None, n: int = 0) -> str:
        """A new topic with `n` events, whose data are b"1", b"2" …"""
        name = self.name()
        await self.log.create(name, config or TopicConfig())
        if n:
            await self.log.append(name, numbers(1, n))
        return name


async def perform(function: Check, opener: Opener, needs: str = "") -> str:
    """Opens, checks, closes. "" when it passed, else why it was not done; raises Failed."""
    async with AsyncExitStack() as stack:
        engine, declared = await opener()
        stack.push_async_callback(engine.close)
        missing = [part for part in needs.split() if getattr(engine, part) is None]
        if missing:
            return f"the engine has no {' and no '.join(missing)}"
        await function(Bench(engine, declared, opener, stack))
    return ""


def numbers(first: int, last: int) -> list[NewEvent]:
    """Events to append, with the numbers as text for data."""
    return [NewEvent(b"%d" % n) for n in range(first, last + 1)]


def data(found: Batch | list[Event]) -> list[bytes]:
    """The bytes of what was read."""
    return [event.data for event in (found.events if isinstance(found, Batch) else found)]


async def everything(log: Log, topic: str, after: Offset | None = None, step: int = 1000) -> list[Event]:
    """All events of the topic after `after`, read in steps until it is up to date."""
    events: list[Event] = []
    while True:
        batch = await log.read(topic, after, step)
        events += batch.events
        after = batch.next
        if batch.up_to_date:
            return events


def same(got: T, want: T, what: str = "") -> T:
    """Fails unless they are equal."""
    if got != want:
        raise Failed(f"{what + ': ' if what else ''}got {_short(got)}, right would be {_short(want)}")
    return got


def true(fact: Any, what: str) -> None:
    """Fails with `what`, which says what is wrong."""
    if not fact:
        raise Failed(what)


async def raises(kind: type[E], doing: Awaitable[Any], what: str = "") -> E:
    """Fails unless it raises that; the error."""
    try:
        got = await doing
    except kind as error:
        return error
    except StoreError as error:
        raise Failed(f"{what}: {type(error).__name__} ({error}), right would be {kind.__name__}") from error
    raise Failed(f"{what}: got {_short(got)}, right would be {kind.__name__}")


async def soon(look: Callable[[], Awaitable[T]], want: Callable[[T], bool], what: str, seconds: float = SOON) -> T:
    """Looks again and again until it is so; fails when it does not come."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not want(got := await look()):
        if loop.time() > deadline:
            raise Failed(f"{what}: still {_short(got)} after {seconds:.0f} s")
        await asyncio.sleep(0.02)
    return got


def _short(value: Any) -> str:
    """Its text, cut."""
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:297]}..."
