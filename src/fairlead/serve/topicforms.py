"""How a topic's events are written, by each way of reading: bodies, Durable Streams' event streams, plain ones, JSON frames.

Everything here is pure. Content types come in three kinds: JSON (one event is one value; a body is an array of them), text, and
bytes (in event streams and frames as base64). Nothing raises for what an event holds: what is no JSON in a JSON topic (an
application's outbox may have put it there) is base64 in a frame.

A *frame* is the one form that every way of reading has (on a WebSocket always, elsewhere for `?form=frames`), and that tells all
that is known of an event; our own clients ask for it:

    {"topic", "next": o, "events": [{"o", "type", "key", "at", "data" | "base64"}], "up_to_date", "closed"}
"""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from fairlead.core.errors import Refused
from fairlead.serve.feed import Form, Piece
from fairlead.serve.jsontext import compact, good, parsed
from fairlead.store.contract import Event, Gap, NewEvent, Offset
from fairlead.wire import sse

JSON, TEXT, BYTES = "json", "text", "bytes"
CURSOR_EPOCH = 1728432000  # 2024-10-09, Durable Streams section 8.1
CURSOR_STEP = 20


def media_type(value: str) -> str:
    """A Content-Type without parameters, in lower case."""
    return value.partition(";")[0].strip().lower()


def kind_of(content_type: str) -> str:
    """JSON, TEXT or BYTES."""
    media = media_type(content_type)
    if media == "application/json" or media.endswith("+json"):
        return JSON
    return TEXT if media.startswith("text/") else BYTES


def split_json(body: bytes, empty: bool) -> list[bytes]:
    """A JSON body as events: an array is as many as it has elements. Refused 400."""
    try:
        value = parsed(body)
    except ValueError as error:
        raise Refused(f"the body is not JSON: {error}", status=400) from None
    if not isinstance(value, list):
        return [body.strip()]
    if not value and not empty:
        raise Refused("an empty array appends nothing", status=400)
    return [compact(one) for one in value]


def body_of(events: Sequence[Event], kind: str) -> bytes:
    """The events as the body of a read."""
    if kind == JSON:
        return b"[" + b",".join([event.data for event in events]) + b"]"
    return b"".join([event.data for event in events])


def cursor(given: str, now: float | None = None) -> str:
    """Stream-Cursor: the number of the present interval; ahead of what the client has, so that no cache answers it for ever."""
    present = int(((time.time() if now is None else now) - CURSOR_EPOCH) // CURSOR_STEP)
    if given.isascii() and given.isdigit() and int(given[:15]) >= present:
        return str(int(given[:15]) + random.randint(1, 180))
    return str(present)


class StreamForm(Form):
    """`live=sse`: after each batch of data a control event, as Durable Streams has it."""

    def __init__(self, kind: str, given: str = "") -> None:
        self.kind, self.given = kind, given
        self.key = ("stream", kind, given)

    def encode(self, piece: Piece) -> bytes:
        token = str(piece.next)
        data = b""
        if piece.events:
            body = body_of(piece.events, self.kind)
            data = sse.event(base64.b64encode(body) if self.kind == BYTES else body, "data", token)
        return data + self.control(piece.next, piece.up_to_date, piece.closed and piece.up_to_date)

    def control(self, next_: Offset, up_to_date: bool, closed: bool) -> bytes:
        """Where one is."""
        said: dict[str, Any] = {"streamNextOffset": str(next_)}
        if closed:
            said["streamClosed"] = True
        else:
            said["streamCursor"] = cursor(self.given)
        if up_to_date:
            said["upToDate"] = True
        return sse.event(compact(said), "control", str(next_))

    def ended(self, topic: str, why: str, after: Offset | None, told: bool) -> bytes:
        """That nothing more comes. `told`: a piece has said so."""
        return self.control(after, True, True) if why == "closed" and not told and after is not None else b""

    def gap(self, gap: Gap) -> bytes:
        said = {"gap": {"earliest": str(gap.earliest), "latest": str(gap.latest)}, "streamNextOffset": str(gap.earliest)}
        return sse.event(compact(said), "control", str(gap.earliest))

    def dropped(self, count: int, after: Offset) -> bytes:
        said = {"dropped": count, "streamNextOffset": str(after)}
        return sse.event(compact(said), "control", str(after))


class EventForm(Form):
    """Plain server-sent events, for EventSource: one event each, with its own id."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.key = ("plain", kind)

    def encode(self, piece: Piece) -> bytes:
        epoch = piece.next.epoch
        parts = []
        for event in piece.events:
            data = base64.b64encode(event.data) if self.kind == BYTES else event.data
            parts.append(sse.event(data, event.type, str(Offset(epoch, event.seq))))
        return b"".join(parts)

    def gap(self, gap: Gap) -> bytes:
        said = {"earliest": str(gap.earliest), "next": str(gap.latest)}
        return sse.event(json.dumps(said).encode(), "gap", str(gap.earliest))

    def dropped(self, count: int, after: Offset) -> bytes:
        return sse.event(json.dumps({"dropped": count, "next": str(after)}).encode(), "gap", str(after))

    def ended(self, topic: str, why: str, after: Offset | None, told: bool) -> bytes:
        """That nothing more comes."""
        return sse.event(json.dumps({"reason": why}).encode(), "end" if why != "slow" else "slow", str(after or ""))


def value_of(event: Event, kind: str) -> dict[str, Any]:
    """An event's data as a member of a JSON object."""
    if kind == JSON:
        with suppress(ValueError):
            return {"data": parsed(event.data)}
    if kind == TEXT:
        return {"data": event.data.decode("utf-8", "replace")}
    return {"base64": base64.b64encode(event.data).decode()}


def described(event: Event, kind: str, epoch: int) -> dict[str, Any]:
    """An event with all that is known of it."""
    return known(event, epoch) | value_of(event, kind)


def written(event: Event, kind: str, epoch: int) -> bytes:
    """The same as JSON, with the event's own in it as it was published."""
    if kind == JSON and good(event.data):
        return b'%b,"data":%b}' % (compact(known(event, epoch))[:-1], event.data)
    return compact(described(event, kind, epoch))


def known(event: Event, epoch: int) -> dict[str, Any]:
    """What is known of an event beside its data."""
    said: dict[str, Any] = {"o": str(Offset(epoch, event.seq))}
    if event.type:
        said["type"] = event.type
    if event.key:
        said["key"] = event.key
    if event.at:
        said["at"] = round(event.at, 3)
    return said


class FrameForm(Form):
    """JSON frames of a WebSocket, or events of many topics on one stream: each says its topic."""

    def __init__(self, topic: str, kind: str) -> None:
        self.topic, self.kind = topic, kind
        self.key = ("frame", kind, topic)

    def encode(self, piece: Piece) -> bytes:
        if not piece.events and not piece.closed:
            return b""  # nothing to tell
        return frame(self.topic, piece, self.kind, b',"closed":true' if piece.closed and piece.up_to_date else b"")

    def gap(self, gap: Gap) -> bytes:
        said = {"topic": self.topic, "gap": {"earliest": str(gap.earliest), "next": str(gap.latest)}}
        return json.dumps(said).encode()

    def dropped(self, count: int, after: Offset) -> bytes:
        return json.dumps({"topic": self.topic, "gap": {"dropped": count, "next": str(after)}}).encode()


class EventFrames(Form):
    """An event stream whose events are frames, unnamed: EventSource's `onmessage` hears events of every type."""

    def __init__(self, topic: str, kind: str) -> None:
        self.frames = FrameForm(topic, kind)
        self.key = ("frames", kind, topic)

    def encode(self, piece: Piece) -> bytes:
        data = self.frames.encode(piece)
        return sse.event(data, "", str(piece.next)) if data else b""

    def gap(self, gap: Gap) -> bytes:
        return sse.event(self.frames.gap(gap), "", str(gap.earliest))

    def dropped(self, count: int, after: Offset) -> bytes:
        return sse.event(self.frames.dropped(count, after), "", str(after))

    def ended(self, topic: str, why: str, after: Offset | None, told: bool) -> bytes:
        """That nothing more comes; who was slow may come again, and needs no word."""
        if why == "slow" or (told and why == "closed"):
            return b""
        said = {"topic": topic, "closed": True, **({"gone": True} if why == "gone" else {})}
        return sse.event(compact(said), "", str(after or ""))


def framed(topic: str, piece: Piece, kind: str) -> bytes:
    """A read as one frame."""
    more = b',"closed":true' if piece.closed else b""
    return frame(topic, piece, kind, b',"up_to_date":true' + more if piece.up_to_date else b"")


def frame(topic: str, piece: Piece, kind: str, more: bytes) -> bytes:
    """A frame with some events; `more`: further members."""
    events = b",".join([written(event, kind, piece.next.epoch) for event in piece.events])
    return b'%b,"events":[%b]%b}' % (compact({"topic": topic, "next": str(piece.next)})[:-1], events, more)


def new_events(body: bytes, content_type: str, kind: str, key: str, empty: bool = False) -> list[NewEvent]:
    """What a POST or PUT of `body` appends to a topic of `content_type`."""
    if kind_of(content_type) != JSON:
        return [NewEvent(body, kind, key)] if body else []
    if not body.strip():
        return []
    return [NewEvent(one, kind, key) for one in split_json(body, empty)]
