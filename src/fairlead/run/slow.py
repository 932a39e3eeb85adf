"""Requests slower than `journey.slow`: one line in the server's log each, their waterfall in words.

Rules
1. A line says what took the time, in journey order, every step of 1 % or more: what a reader needs first is which step it
   was. The rest is one `fairlead why ID` away.
2. At most `MOST` lines a second per worker: when everything is slow the log must not make it slower. What was left out
   is said with the next line that is written.
3. An event stream lasts as long as its client likes, so it is never slow.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from fairlead.core.journey import STEPS
from fairlead.run.why import human

MOST = 10
SECOND = 1_000_000_000
BAR = 20
log = logging.getLogger("fairlead")


class Slow:
    """A Recorder's `on_slow`. `now` is a clock in ns."""

    def __init__(self, now: Callable[[], int]) -> None:
        self.now = now
        self.since = 0
        self.said = 0
        self.left_out = 0

    def __call__(self, exchange: Any, status: int, route: bytes, took: Sequence[int]) -> None:
        """One slow request is over. `took` is ns per step, in the order of STEPS, then the total."""
        if streams(exchange.response):
            return
        now = self.now()
        if now - self.since >= SECOND:
            self.since, self.said = now, 0
        if self.said >= MOST:
            self.left_out += 1
            return
        self.said += 1
        more, self.left_out = self.left_out, 0
        steps = [(name, ns) for name, ns in zip(STEPS, took) if ns > 0]
        words = line(exchange, status, route.decode("utf-8", "replace"), took[len(STEPS)], steps)
        log.warning("%s%s", words, f" (and {more} others)" if more else "")


def streams(response: Any) -> bool:
    """Is it an event stream?"""
    if response is None:
        return False
    return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in response.headers)


def line(exchange: Any, status: int, route: str, total: int, steps: Sequence[tuple[str, int]]) -> str:
    """`slow: GET /report 200 in 1.52 s, most of it process: queue 300 ms ####, process 1.2 s ################ …`"""
    request = exchange.request
    target = request.target[:200].decode("ascii", "backslashreplace")
    told = "".join(c if c.isprintable() else "?" for c in f"{request.method} {target}")
    shown = [(name, ns) for name, ns in steps if ns * 100 >= total] or list(steps)
    most = max(shown, key=lambda one: one[1], default=("unknown", 0))
    share = f", {most[1] / total:.0%} of it {most[0]}" if total and most[1] else ""
    fall = (
        ", ".join(f"{name} {human(ns)} {'#' * max(1, round(ns / total * BAR))}" for name, ns in shown) if total else ""
    )
    where = f' route="{route}"' if route else ""
    ident = exchange.tag.decode("utf-8", "replace") if exchange.tag else ""
    return f"slow: {told} {status} in {human(total)}{share}: {fall}{where}{f' id={ident}' if ident else ''}"
