"""The watchdog of a worker: a thread that sees when the event loop stands still, and says why and who waits for it.

Rules
1. The loop renews a stamp four times per `server.stuck`; the thread looks as often. A stamp that is older than the limit
   is a stall: the thread logs the Python stack of the loop's thread (`sys._current_frames`, so it is the same for uvloop
   and asyncio) and the request whose task is running. The loop's own objects are only read, under the interpreter lock.
2. When the loop goes on, the thread lists the requests that waited because of it, longest first: those in the worker's
   ring whose time between arrival in the kernel and their end overlaps with the stall (a read after a long turn asks the
   kernel when the bytes came, so this is exact also for what nobody had read yet).
3. Code that holds the interpreter lock itself (a long regular expression, an extension) stops this thread too. Then the
   master, which sees the heartbeat in the slab grow old, sends SIGUSR2, and `faulthandler` writes the stack from C.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fairlead.core.names import name_of
from fairlead.run import logs
from fairlead.run.itself import name_thread

log = logging.getLogger("fairlead")

SHOWN = 10  # requests that one report lists
FRAMES = 25  # of the stack, the innermost ones
SETTLING = 0.3  # seconds after a stall for those that waited to be answered
IDLE = 1.0  # seconds between looks while the watchdog is off
OURS = str(Path(__file__).resolve().parents[1])


class Watchdog:
    """Watches one loop. `limit()` is the longest stall in seconds that is not worth a word, None for off."""

    def __init__(self, loop: Any, recorder: Any, index: int, limit: Callable[[], float | None]) -> None:
        self.loop = loop
        self.recorder = recorder
        self.region = recorder.region
        self.index = index
        self.limit = limit
        self.alive = time.monotonic_ns()
        self.loop_thread = 0
        self.over = threading.Event()
        self.timer: Any = None
        self.thread = threading.Thread(target=self.watch, name="fairlead-watchdog", daemon=True)

    def start(self) -> None:
        """Begin, on the loop's thread."""
        self.loop_thread = threading.get_ident()
        self.beat()
        self.thread.start()

    def stop(self) -> None:
        """End, on the loop's thread."""
        self.over.set()
        if self.timer is not None:
            self.timer.cancel()
        self.thread.join(1.0)

    def pause(self) -> float:
        """Seconds between two stamps, and between two looks."""
        limit = self.limit()
        return IDLE if limit is None else max(limit / 4, 0.01)

    def beat(self) -> None:
        """The loop lives."""
        self.alive = time.monotonic_ns()
        self.timer = self.loop.call_later(self.pause(), self.beat)

    # ---- the thread

    def watch(self) -> None:
        """The thread's work."""
        name_thread("watchdog")
        while not self.over.wait(self.pause()):
            limit = self.limit()
            began = self.alive
            if limit is not None and time.monotonic_ns() - began > limit * 1e9 + self.pause() * 1e9:
                try:
                    self.stall(began)
                except Exception:  # a watchdog that dies silently is worse than none
                    log.exception("the watchdog failed")

    def stall(self, began: int) -> None:
        """The loop stands still since `began`: tell, and wait for its end."""
        region = self.region
        region.set("stalled", began)
        region.set("stalls", region.get("stalls") + 1)
        self.tell_stack(began)
        while self.alive == began:
            if self.over.wait(0.02):
                return
        ended = self.alive
        region.set("stalled", 0)
        region.set("stall_ns", region.get("stall_ns") + ended - began)
        self.over.wait(SETTLING)
        self.tell_waiters(began, ended)

    def tell_stack(self, began: int) -> None:
        """Where it stands, and for which request."""
        lines = stack(sys._current_frames().get(self.loop_thread))
        culprit = self.culprit()
        open_now = sum(len(conn.open_exchanges()) for conn in list(self.recorder.open))
        others = max(0, open_now - bool(culprit))
        age = (time.monotonic_ns() - began) / 1e9
        log.error(
            "worker %d has stood still for %.1f s%s; %d other open requests wait for it\n%s",
            self.index,
            age,
            f" in {culprit}" if culprit else "",
            others,
            "".join(lines).rstrip(),
            extra={"fields": {"stalled": round(age, 3), "stack": lines, "request": culprit}},
        )

    def culprit(self) -> str:
        """The request whose task is running now, in words; "" when no request is."""
        task = None
        with suppress(Exception):
            task = asyncio.current_task(self.loop)
        if task is None:
            return ""
        for conn in list(self.recorder.open):
            for exchange in conn.open_exchanges():
                if getattr(exchange.answer, "task", None) is task:
                    return described(exchange)
        return ""

    def tell_waiters(self, began: int, ended: int) -> None:
        """Who waited for the loop, now that most of them are answered."""
        waited = waiters(self.region, began, ended)
        shown = [
            {"id": one["id"], "request": f"{one['method']} {one['target']}", "waited": round(seconds, 3),
             "route": self.region.route_name(one["route"])}
            for seconds, one in waited[:SHOWN]
        ]  # fmt: skip
        lines = [f"\n  {one['waited']:.3f} s  {one['request']}  id={one['id']} route={one['route']}" for one in shown]
        more = f"\n  and {len(waited) - SHOWN} more" if len(waited) > SHOWN else ""
        log.error(
            "worker %d goes on after %.1f s; %d requests waited because of it%s%s",
            self.index,
            (ended - began) / 1e9,
            len(waited),
            "".join(lines),
            more,
            extra={"fields": {"stalled": round((ended - began) / 1e9, 3), "waited": shown}},
        )


def waiters(region: Any, began: int, ended: int) -> list[tuple[float, dict[str, Any]]]:
    """[(seconds, record)] of the requests in a region that waited between two moments, longest first.

    What ran in the application itself (started before the stall's end, answered after it) is the cause or was held up
    by it; both waited as their client sees it.
    """
    found = []
    for record in region.records("ring"):
        first = record["arrived"] or record["woken"] or record["read"] or record["parsed"]
        waited = min(record["done"], ended) - max(first, began)
        if waited > 1_000_000 and not record["tunnel"]:
            found.append((waited / 1e9, record))
    return sorted(found, key=lambda one: -one[0])


def described(exchange: Any) -> str:
    """One request in words."""
    request = exchange.request
    target = request.target.decode("ascii", "backslashreplace")
    parts = [f"id {exchange.tag.decode('utf-8', 'replace')}"] if exchange.tag else []
    if exchange.route is not None:
        parts.append(f"route {name_of(exchange.route)}")
    if exchange.journey.started:
        parts.append(f"running for {(time.monotonic_ns() - exchange.journey.started) / 1e9:.1f} s")
    return f"{request.method} {target} ({', '.join(parts)})" if parts else f"{request.method} {target}"


def stack(frame: Any) -> list[str]:
    """The lines of a stack, outermost first, from the first frame on that is not the server's or the loop's."""
    frames = traceback.extract_stack(frame) if frame is not None else []
    inner = list(frames)
    while inner and machinery(inner[0].filename):
        inner.pop(0)
    return traceback.format_list((inner or frames)[-FRAMES:])


def machinery(file: str) -> bool:
    """Is this file ours, the event loop's or the interpreter's start?"""
    return file.startswith((OURS, "<frozen")) or f"{os.sep}asyncio{os.sep}" in file or f"{os.sep}uvloop{os.sep}" in file


def dump_on_signal() -> None:
    """Rule 3: SIGUSR2 writes this process's stacks to where the server's log goes. Call it again after `logs.reopen`."""
    stream = next((handler.stream for handler in logs.log.handlers if hasattr(handler, "stream")), sys.stderr)
    with suppress(Exception):  # a stream without a descriptor
        faulthandler.register(signal.SIGUSR2, file=stream, all_threads=True)
