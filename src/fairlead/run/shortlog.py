"""The access log on a terminal: one short line a request, in colour, for whoever is developing.

    21:40:07  GET   /orders/7           200     4.1 ms   process 3.6
    21:40:09  POST  /orders             500    12.0 ms   process 11.2   app-error

What it says beyond status and time is the step that took most, when it is worth naming, and why a request ended early. It is
made from the JSON lines, so the hot path has no third form to write; nobody measures a server by its terminal.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

PLAIN = {code: "" for code in ("dim", "green", "cyan", "yellow", "red", "off")}
COLOURS = {
    "dim": "\x1b[2m",
    "green": "\x1b[32m",
    "cyan": "\x1b[36m",
    "yellow": "\x1b[33m",
    "red": "\x1b[31m",
    "off": "\x1b[0m",
}
BY_CLASS = {2: "green", 3: "cyan", 4: "yellow", 5: "red"}
NAMED = 0.5  # milliseconds a step must have taken to be named


class Short:
    """Turns JSON lines of the access log into short ones and gives them to `write`; a line that is none goes on as it is."""

    def __init__(self, write: Callable[[bytes], Any], colour: bool = True) -> None:
        self.write = write
        self.paint = COLOURS if colour and "NO_COLOR" not in os.environ else PLAIN

    def __call__(self, data: Any) -> None:
        """Whole lines."""
        self.write(b"".join([self.line(line) for line in bytes(data).splitlines(keepends=True)]))

    def line(self, data: bytes) -> bytes:
        """One line."""
        try:
            said = json.loads(data)
            text = self.short(said)
        except (ValueError, KeyError, TypeError):
            return data
        return text.encode("utf-8", "backslashreplace")

    def short(self, said: dict[str, Any]) -> str:
        """The words of one request."""
        paint, status = self.paint, said["status"]
        colour = paint[BY_CLASS.get(status // 100, "red")]
        steps = {name: ms for name, ms in said["steps"].items() if ms >= NAMED}
        slowest = max(steps, key=lambda name: steps[name], default="")
        more = f"{paint['dim']}{slowest} {steps[slowest]:.1f}{paint['off']}" if slowest else ""
        end = f"   {paint['red']}{said['end']}{paint['off']}" if said["end"] not in ("", "-") else ""
        when = f"{paint['dim']}{said['time'][11:19]}{paint['off']}"
        shown = f"{colour}{status or '---'}{paint['off']}"
        return (
            f"{when}  {said['method']:<6} {said['target']:<32} {shown} {said['total_ms']:8.1f} ms   {more}{end}".rstrip()
            + "\n"
        )
