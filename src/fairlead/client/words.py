"""What the client's parts speak of: events, pages, gaps, errors, and how long to wait before the next try. All pure.

The pause before try n is random between a quarter and the whole of `least` * 2^n, at most `most` (the spread keeps a thousand
clients of a restarted server from coming back at once); what the server asks for in Retry-After is the least.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fairlead.core.errors import FairleadError, NetError

PASSING = (408, 425, 429, 500, 502, 503, 504)
JSON = "application/json"


class Event(NamedTuple):
    """One event. `data` is the JSON value, the text or the bytes, by the topic's content type; `offset` goes on after it; `at` is
    when the server took it, in seconds since 1970."""

    data: Any
    offset: str
    type: str = ""
    key: str = ""
    at: float = 0.0
    topic: str = ""

    @property
    def bytes(self) -> bytes:
        """The data as it is on the wire."""
        return self.data if isinstance(self.data, bytes) else as_bytes(self.data)


class Page(NamedTuple):
    """What a read found. `next` goes on after it; `up_to_date`: that was all there is; `closed`: and all there will be."""

    events: list[Event]
    next: str
    up_to_date: bool
    closed: bool


class ServerError(FairleadError):
    """The server answered, and the answer is no. `status` is HTTP's; `headers` are those of the answer, in lower case."""

    def __init__(self, message: str, status: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message, side="us", retry="always" if status in PASSING else "never", status=status)
        self.headers = dict(headers or {})


class Gap(FairleadError):
    """Events are missing: the server keeps none before `earliest` any more, or left out `dropped` because we were too slow.
    What is there goes on after `next`."""

    def __init__(self, topic: str, earliest: str, next_: str, dropped: int = 0) -> None:
        lost = f"{dropped} events were left out" if dropped else f"events before {earliest} are no longer kept"
        super().__init__(f"{topic or 'the topic'}: {lost}", side="peer", status=410)
        self.topic, self.earliest, self.next, self.dropped = topic, earliest, next_, dropped


class Ended(Exception):
    """The topic is closed or gone: nothing more comes."""


def passing(error: FairleadError) -> bool:
    """Whether the same again may succeed."""
    return (isinstance(error, NetError) and error.retry != "never") or (isinstance(error, ServerError) and error.status in PASSING)


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> FairleadError:
    """An answer that is no, as what is raised for it."""
    if status == 410 and "stream-earliest-offset" in headers:
        return Gap("", headers["stream-earliest-offset"], headers.get("stream-next-offset", ""))
    text = body[:300].decode("utf-8", "replace").strip().removeprefix(f"{status} ") or "no more is said"
    error = ServerError(f"the server answered {status}: {text}", status, headers)
    after = headers.get("retry-after", "")
    error.after = min(int(after[:6]), 3600) if after.isascii() and after.isdigit() else 0
    return error


def as_bytes(value: Any) -> bytes:
    """A value as JSON; text as it is. TypeError and ValueError are the caller's."""
    if isinstance(value, str):
        return value.encode()
    return as_json(value)


def as_json(value: Any) -> bytes:
    """A value as JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def event_of(said: Mapping[str, Any], topic: str) -> Event:
    """An event out of a frame."""
    data = base64.b64decode(said["base64"]) if "base64" in said else said.get("data")
    return Event(data, str(said["o"]), str(said.get("type", "")), str(said.get("key", "")), float(said.get("at", 0.0)), topic)


def page_of(said: Mapping[str, Any]) -> Page:
    """A frame."""
    topic = str(said.get("topic", ""))
    events = [event_of(one, topic) for one in said.get("events", ())]
    return Page(events, str(said.get("next", "")), bool(said.get("up_to_date")), bool(said.get("closed")))


def gap_of(said: Mapping[str, Any]) -> Gap:
    """The gap that a frame tells of."""
    lost = said["gap"]
    return Gap(str(said.get("topic", "")), str(lost.get("earliest", "")), str(lost.get("next", "")), int(lost.get("dropped", 0)))


@dataclass
class Backoff:
    """Pauses between tries, in seconds."""

    least: float = 0.25
    most: float = 30.0
    random: Callable[[], float] = field(default=random.random, repr=False)
    tries: int = 0

    def pause(self, asked: float = 0.0) -> float:
        """Before the next try; `asked` is the server's Retry-After."""
        whole = min(self.most, self.least * 2 ** min(self.tries, 20))
        self.tries += 1
        return max(asked, 0.0) + whole * (0.25 + 0.75 * self.random())

    def reset(self) -> None:
        """It worked."""
        self.tries = 0
