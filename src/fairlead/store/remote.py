"""A worker's end of the keeper: the contract over one connection, which comes back by itself.

Calls wait while there is no keeper (it was killed, and the master starts another), and are sent again with their numbers when
there is one; the keeper does each once (`journal`). Only when it stays away for `AWAY` seconds do they fail. Looks go straight to
the file where there is one, so that a cold replay never troubles the keeper; else they travel too.

After a reconnect everything minded is hinted at with nothing known: what was pushed meanwhile is gone, and the log has it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from ..core.errors import WireError
from . import chunk, words
from .clock import Clock
from .contract import Ack, Declaration, Entry, Offset, StoreError
from .facade import Front
from .line import Line
from .sqlite import Readers

AWAY = 30.0  # seconds without a keeper after which calls fail
PAUSES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # seconds before the n-th try to connect
WAITING = 100_000  # calls that may wait: beyond, the worker is told that the store cannot follow


class Remote(Front):
    """The engine, at the address of a unix socket (abstract if it begins with a NUL)."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address
        self.caller = uuid.uuid4().hex
        self.clock = Clock()
        self.readers: Readers | None = None
        self.number = 0
        self.answered = 0
        self.waiting: dict[int, tuple[str, Any, asyncio.Future[Any]]] = {}
        self.unsent: list[int] = []
        self.looks: dict[int, tuple[str, Any, asyncio.Future[Any]]] = {}
        self.line: Line | None = None
        self.ready = False
        self.closing = False
        self.seeker: asyncio.Task[None] | None = None
        self.giving_up: asyncio.TimerHandle | None = None
        self.declared: asyncio.Future[Declaration] | None = None

    async def open(self) -> Declaration:
        """See `Engine`."""
        self.loop = asyncio.get_running_loop()
        self.declared = self.loop.create_future()
        self.lost(None)
        try:
            return await asyncio.wait_for(asyncio.shield(self.declared), AWAY)
        except TimeoutError:
            await self.close()
            raise self.away() from None

    async def close(self) -> None:
        """See `Engine`."""
        self.closing = True
        if self.giving_up is not None:
            self.giving_up.cancel()
        if self.seeker is not None:
            self.seeker.cancel()
        if self.line is not None and self.ready:
            with suppress(StoreError, TimeoutError):
                await asyncio.wait_for(
                    asyncio.gather(*(one[2] for one in self.waiting.values()), return_exceptions=True), 5.0
                )
            self.line.say("bye")
            self.line.flush()
            self.line.close()
        self.fail(StoreError("the store is closed"))
        if self.readers is not None:
            self.readers.close()

    async def now(self) -> float:
        """See `Engine`: the keeper's clock."""
        return self.clock.now()

    # ---- the connection

    async def seek(self) -> None:
        """Connect, for as long as it takes."""
        tries = 0
        while not self.closing:
            await asyncio.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
            tries += 1
            sock = socket.socket(socket.AF_UNIX)
            sock.setblocking(False)
            try:
                sock.connect(self.address)  # at once, or an error: EAGAIN when the backlog is full
            except OSError:
                sock.close()
                continue
            _, line = await self.loop.create_unix_connection(lambda: Line(self.heard, self.lost), sock=sock)
            self.line = line
            line.say("hello", self.caller, sorted(self.minded["topic"]), sorted(self.minded["queue"]))
            return

    def lost(self, line: Line | None) -> None:
        """There is no keeper: look for one."""
        self.line, self.ready = None, False
        if self.closing:
            return
        if self.giving_up is None:
            self.giving_up = self.loop.call_later(AWAY, self.give_up)
        self.seeker = self.loop.create_task(self.seek())

    def give_up(self) -> None:
        """It stays away: those who wait must know. Connecting goes on."""
        self.giving_up = None
        if not self.ready:
            self.fail(self.away())
            self.giving_up = self.loop.call_later(AWAY, self.give_up)

    def away(self) -> StoreError:
        """The error."""
        hint = "the server's log says why it does not start"
        return StoreError("the store's keeper is away", retry="always", status=503, hint=hint)

    def fail(self, error: StoreError) -> None:
        """Everybody who waits hears this."""
        waiting = [*self.waiting.values(), *self.looks.values()]
        self.waiting.clear()
        self.looks.clear()
        self.unsent.clear()
        for _, _, future in waiting:
            if not future.done():
                future.set_exception(error)

    def heard(self, line: Line, message: Any) -> None:
        """One message of the keeper."""
        word, *rest = message
        if word == "done":
            for number, *parts in rest[0]:
                self.answered = number
                settle(self.waiting.pop(number, None), parts)
        elif word == "news":
            news, queues = rest
            told = ((topic, Offset(epoch, last), partial(chunk.events, data)) for topic, epoch, last, data in news)
            self.tell(told, queues)
        elif word == "seen":
            settle(self.looks.pop(rest[0], None), rest[1])
        elif word == "minded":
            kind, name = rest
            self.tell([(name, None, tuple)] if kind == "topic" else (), [name] if kind == "queue" else ())
        elif word == "lost":
            self.hint_all()
        elif word == "welcome":
            self.welcome(*rest)

    def welcome(self, declared: Declaration, done: int, shift: float, path: str) -> None:
        """There is a keeper. What it has not answered is sent again."""
        self.clock.follow(shift)
        self.ready = True
        if self.giving_up is not None:
            self.giving_up.cancel()
            self.giving_up = None
        if path and self.readers is None and os.access(path, os.R_OK):
            self.readers = Readers(path, self.clock)
        if self.declared is not None and not self.declared.done():
            self.declared.set_result(replace(declared, ack=Ack(declared.ack)))
        self.unsent = list(self.waiting)
        self.flush()
        for number, (word, args, _) in self.looks.items():
            if self.line is not None:
                self.line.say("look", number, word, args)
        self.hint_all()

    def hint_all(self) -> None:
        """Something may have been missed: everybody looks."""
        self.tell([(topic, None, tuple) for topic in self.minded["topic"]], list(self.minded["queue"]))

    # ---- calls

    def call(self, word: str, *args: Any) -> Awaitable[Any]:
        """See `Caller`."""
        return self.put_if(*args) if word == "put_if" else self.ask(word, *args)

    async def put_if(self, key: str, value: bytes, version: int | None, ttl: float | None, due: float | None) -> Entry:
        """See `State.put_if`: the value does not come back."""
        made = await self.ask("put_key", key, value, version, ttl, due)
        return Entry(bytes(value), made[0], made[1], due)

    def ask(self, word: str, *args: Any) -> asyncio.Future[Any]:
        """A call of the keeper."""
        future: asyncio.Future[Any] = self.loop.create_future()
        if self.closing or len(self.waiting) >= WAITING:
            text = "the store is closed" if self.closing else f"{WAITING} calls wait for the store: it cannot follow"
            future.set_exception(StoreError(text, retry="always", status=503))
            return future
        self.number += 1
        self.waiting[self.number] = (word, words.plain(list(args)), future)
        if not self.unsent:
            self.loop.call_soon(self.flush)
        self.unsent.append(self.number)
        return future

    def flush(self) -> None:
        """Send this turn's calls, in order."""
        if not self.ready or self.line is None or not self.unsent:
            return
        unsent, self.unsent = self.unsent, []
        calls = [(0, number, *self.waiting[number][:2]) for number in unsent if number in self.waiting]
        try:
            self.line.send(words.marshalled((0, "calls", self.answered, calls)))
        except (WireError, ValueError) as error:
            for number in unsent:
                settle(self.waiting.pop(number, None), ("StoreError", str(error), "peer", "never", "", 413, []))

    def look(self, word: str, *args: Any) -> Awaitable[Any]:
        """See `Caller`."""
        if self.readers is not None:
            return self.read_file(word, args)
        future: asyncio.Future[Any] = self.loop.create_future()
        self.number += 1
        self.looks[self.number] = (word, list(args), future)
        if self.ready and self.line is not None:
            self.line.say("look", self.number, word, list(args))
        return future

    async def read_file(self, word: str, args: tuple[Any, ...]) -> Any:
        """Straight from the file."""
        assert self.readers is not None
        value, touched = await self.readers.look(word, args)
        for topic in touched:
            self.call("touch", topic).add_done_callback(forget)  # type: ignore[attr-defined]
        return value

    def mind(self, kind: str, name: str, wanted: bool) -> None:
        """See `Caller`."""
        super().mind(kind, name, wanted)
        if self.ready and self.line is not None:
            self.line.say("mind", kind, name, wanted)


def settle(waiting: tuple[str, Any, asyncio.Future[Any]] | None, parts: Any) -> None:
    """Pass an answer on, if somebody still waits."""
    if waiting is None or waiting[2].done():
        return
    value, error = words.answer_of(parts)
    if error is not None:
        waiting[2].set_exception(error)
    else:
        waiting[2].set_result(value)


def forget(future: asyncio.Future[Any]) -> None:
    """Nobody waits for it; an error is no matter."""
    if not future.cancelled():
        future.exception()
