"""Async: an `async def answer(call)` as a Handler. For our own small services (admin, probes), not for the hot path.

Rules
1. One asyncio Task per exchange; it holds a Call, which is the exchange's answer and has `read`, `write`, `respond`.
2. `read()` credits what it gives; `write()` waits until there is room. Both raise NetError when the client is gone.
3. A function that raises ends like a handler that raises: a FairleadError is answered with its status, anything else
   is a 500 and goes to the observer. One that returns without an answer is a 500, one that left a body open is cut.
4. It may make something else the exchange's answer and return: then that has the word.
5. Who waits for something that may take long looks at `left`, and has `on_left` tell when it changes: the client has closed its
   side or is gone, or the server says farewell. Then what there is is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fairlead.core.errors import AppError, FairleadError, NetError
from fairlead.core.exchange import Answer, Exchange
from fairlead.core.handler import Handler
from fairlead.core.message import Response


class Async(Handler):
    """Adapts `fn(call)`, a coroutine function, to a Handler on `loop`. `running` counts the calls that are open."""

    def __init__(self, fn: Callable[[Call], Awaitable[Any]], loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.fn = fn
        self.loop = loop
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """How many calls are open."""
        return len(self.tasks)

    def open(self, exchange: Exchange) -> None:
        call = Call(exchange)
        exchange.answer = call
        loop = self.loop or asyncio.get_running_loop()
        task = loop.create_task(self.run(call), name=getattr(self.fn, "__name__", "async"))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def run(self, call: Call) -> None:
        exchange = call.exchange
        journey = exchange.journey
        if not journey.started:  # type: ignore
            journey.started = exchange.conn.clock.now()  # type: ignore
        try:
            await self.fn(call)
        except FairleadError as error:
            if call.gone is None:
                exchange.fail(plain(error))
        except Exception as error:
            exchange.conn.service.observer.broke(exchange, error)  # type: ignore[attr-defined]
            exchange.fail(AppError(f"{type(error).__name__} was raised while answering"))
        else:
            if not exchange.said_end and not exchange.over and exchange.answer is call:
                exchange.fail(AppError("the handler returned before its answer was complete"))


class Call(Answer):
    """One exchange, for a coroutine. `request`, `journey` and `params` are the exchange's."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.request = exchange.request
        self.journey = exchange.journey
        self.params = exchange.params or {}
        self.chunks: list[bytes] = []
        self.held = 0
        self.full = False
        self.gone: Any = None
        self.on_left: Callable[[], None] | None = None
        self.waiters: list[asyncio.Future[None]] = []

    async def read(self) -> bytes:
        """The next part of the request's body, b"" at its end."""
        first = True
        while not self.chunks:
            if self.exchange.heard_end:
                return b""
            self.check()
            if first:
                self.exchange.credit(0)
                first = False
                continue
            await self.wait()
        chunk = b"".join(self.chunks)
        count, self.held = self.held, 0
        self.chunks.clear()
        self.exchange.credit(count)
        return chunk

    async def body(self, most: int) -> bytes:
        """The whole body; 413 when it is longer than `most` bytes."""
        parts = []
        while part := await self.read():
            parts.append(part)
            most -= len(part)
            if most < 0:
                raise FairleadError("the body is too long", side="peer", status=413)
        return b"".join(parts)

    def start(self, status: int, headers: list[tuple[bytes, bytes]], length: int = -1) -> None:
        """Begin an answer whose body comes by `write`."""
        self.exchange.head(Response(status, headers, length), False)

    async def write(self, chunk: bytes, end: bool = False) -> None:
        """A part of the answer's body; returns when there is room for more."""
        self.check()
        if chunk and not end:
            self.full = not self.exchange.data(chunk, False)
        elif end:
            self.exchange.data(chunk, True)
        else:
            self.exchange.conn.flush()
        while self.full:
            await self.wait()
            self.check()

    async def respond(self, status: int, body: bytes = b"", headers: list[tuple[bytes, bytes]] | None = None) -> None:
        """The whole answer at once; `content-length` is added."""
        self.check()
        fields = list(headers or ())
        if status != 204 and status != 304:
            fields.append((b"content-length", b"%d" % len(body)))
        self.exchange.whole(Response(status, fields, len(body)), b"" if self.request.method == "HEAD" else body)

    def check(self) -> None:
        """Raise if the client is gone."""
        if self.gone is not None:
            raise NetError("the client closed the connection", step="send", status=499)

    async def wait(self) -> None:
        """Until the exchange says something."""
        future = asyncio.get_running_loop().create_future()
        self.waiters.append(future)
        try:
            await future
        finally:
            if future in self.waiters:
                self.waiters.remove(future)

    def wake(self) -> None:
        waiters, self.waiters = self.waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(None)

    # ---- the exchange speaks

    def data(self, chunk: bytes, end: bool) -> bool:
        if chunk:
            self.chunks.append(chunk)
            self.held += len(chunk)
        self.wake()
        return not chunk

    def end(self, trailers: Any) -> None:
        self.wake()

    def reset(self, why: Any, side: str) -> None:
        if side != "read" or not self.exchange.heard_end:
            self.gone = why
        self.farewell()
        self.wake()

    def farewell(self) -> None:
        if self.on_left is not None:
            self.on_left()

    @property
    def left(self) -> bool:
        """Rule 5."""
        return self.gone is not None or self.exchange.left

    def room(self) -> None:
        self.full = False
        self.wake()


def plain(error: FairleadError) -> FairleadError:
    """The error without its traceback, which would keep the exchange in a circle."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error
