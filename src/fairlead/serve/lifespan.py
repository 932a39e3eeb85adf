"""ASGI lifespan: an application's start and end around its server (ASGI lifespan spec 2.0).

Rules
1. One task runs the application with a `lifespan` scope for as long as the server lives. `start()` waits until it said
   `lifespan.startup.complete`, `stop()` until it said `lifespan.shutdown.complete`.
2. "auto": an application that raises before it said anything about startup does not know lifespan, and is served
   without it. "on" makes that an error, "off" never asks. One that answers every scope as if it were a request (as many a
   first example does) is raised at for that, and so does not know it either.
3. `lifespan.startup.failed`, an exception after the first word and a time-out are an AppError: we must not start.
4. `state` is one dict that the application fills at startup; every request gets a shallow copy of it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fairlead.core.errors import AppError

TIMEOUT = 60.0  # seconds; uvicorn has none, gunicorn's worker timeout is 30, Hypercorn's startup_timeout 60


class Lifespan:
    """One application's lifespan. `mode` is "auto", "on" or "off"; time-outs are seconds."""

    def __init__(self, target: Any, mode: str = "auto", startup: float = TIMEOUT, shutdown: float = TIMEOUT) -> None:
        self.target = target
        self.mode = mode
        self.startup = startup
        self.shutdown = shutdown
        self.state: dict[str, Any] = {}
        self.supported = False
        self.task: asyncio.Task[None] | None = None
        self.spoke = False
        self.failure = ""
        self.error: BaseException | None = None

    async def start(self) -> dict[str, Any]:
        """Run startup and give `state`. Raises AppError when the application must not be served."""
        if self.mode == "off":
            return self.state
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.started, self.stopped = asyncio.Event(), asyncio.Event()
        self.events.put_nowait({"type": "lifespan.startup"})
        self.task = asyncio.get_running_loop().create_task(self.run(), name="lifespan")
        if not await self.wait(self.started, self.startup):
            self.task.cancel()
            raise AppError(
                f"the app's startup took longer than {self.startup:g} s",
                hint="it has to answer lifespan.startup with lifespan.startup.complete",
            )
        if self.failure:
            raise AppError(f"the app's startup failed: {self.failure}") from self.error
        if self.error is not None and (self.spoke or self.mode == "on"):
            what = f"{type(self.error).__name__}: {self.error}"
            raise AppError(f"the app raised during startup: {what}") from self.error
        if not self.supported and self.mode == "on":
            raise AppError('lifespan is "on" and the app does not know it', hint='set lifespan to "auto" or "off"')
        return self.state

    async def stop(self) -> None:
        """Run shutdown. Raises AppError when it failed or took too long; the task is over in any case."""
        if self.task is None or not self.supported or self.task.done():
            return
        self.events.put_nowait({"type": "lifespan.shutdown"})
        in_time = await self.wait(self.stopped, self.shutdown)
        if not in_time:
            self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        if not in_time:
            raise AppError(f"the app's shutdown took longer than {self.shutdown:g} s")
        if self.failure:
            raise AppError(f"the app's shutdown failed: {self.failure}")
        if self.error is not None:
            raise AppError(f"the app raised during shutdown: {type(self.error).__name__}: {self.error}") from self.error

    async def run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self.target(scope, self.receive, self.send)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.error = error
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
        finally:
            self.started.set()
            self.stopped.set()

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait for an event that the task sets when it ends, too."""
        try:
            await asyncio.wait_for(event.wait(), seconds or None)
        except TimeoutError:
            return False
        return True

    async def receive(self) -> dict[str, Any]:
        return await self.events.get()

    async def send(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        self.spoke = self.spoke or str(kind).startswith("lifespan.")
        if kind == "lifespan.startup.complete":
            self.supported = True
            self.started.set()
        elif kind == "lifespan.startup.failed":
            self.failure = message.get("message") or "it gave no message"
            self.started.set()
        elif kind == "lifespan.shutdown.complete":
            self.stopped.set()
        elif kind == "lifespan.shutdown.failed":
            self.failure = message.get("message") or "it gave no message"
            self.stopped.set()
        else:
            raise AppError(
                f"the app sent {kind!r} in its lifespan",
                hint="lifespan.startup.complete, lifespan.startup.failed and the same for shutdown are known",
            )
