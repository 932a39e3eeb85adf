"""CloudEvents 1.0 over HTTP, in: what a POST to a topic says in CloudEvents' words, as events of ours. Pure.

    binary       ce-specversion: 1.0, ce-id, ce-source, ce-type …; the body is the data, in its own content type
    structured   application/cloudevents+json: one JSON object with `data` or `data_base64`
    batch        application/cloudevents-batch+json: an array of such objects

Rules
1. `type` becomes the event's type, `partitionkey` its key; every attribute is kept with it (`ce-…` in its headers), so that
   webhooks with `envelope = "cloudevents"` and `Accept: application/cloudevents-batch+json` give them back as they came.
2. `source` and `id` together name an event (section 3.1 of the specification): sent again, it is the same, and appends nothing
   within the store's window. A batch is appended whole or not at all, and is known again as a whole.
3. Attribute names are lower-case letters and digits, values texts (numbers and booleans are written as such): at most 40 attributes
   of 1,024 characters.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from fairlead.core.errors import Refused
from fairlead.serve import jsontext
from fairlead.serve.topicforms import JSON, TEXT, kind_of, media_type
from fairlead.store.contract import Event, NewEvent, Offset

ONE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
PREFIX = "ce-"
REQUIRED = ("specversion", "id", "source", "type")
NAME = re.compile(r"[a-z0-9]{1,64}")
MOST, LONGEST = 40, 1024
DATA_TYPE = "application/json"


class Incoming(NamedTuple):
    """What a POST appends: events for a topic of `content_type`, known again by `dedupe`."""

    events: list[NewEvent]
    content_type: str
    dedupe: str


def incoming(given: Mapping[str, str], body: bytes, content_type: str) -> Incoming | None:
    """The events of a request with these fields; None when it does not speak CloudEvents. Refused 400, 415."""
    media = media_type(content_type)
    if media == ONE:
        return gathered([parsed(body)])
    if media == BATCH:
        values = parsed(body)
        if not isinstance(values, list) or not values:
            raise Refused("a batch is an array of events, and not an empty one", status=400)
        return gathered(values)
    if media.startswith("application/cloudevents"):
        raise Refused(f"CloudEvents as {media} are not read", status=415, hint=f"{ONE}, {BATCH}, or ce- header fields")
    if "ce-specversion" not in given:
        return None
    attributes = {name[3:]: unquote(value) for name, value in given.items() if name.startswith(PREFIX)}
    checked(attributes)
    return Incoming([event_of(attributes, body)], content_type, same(attributes))


def parsed(body: bytes) -> Any:
    """JSON. Refused 400."""
    try:
        return jsontext.parsed(body)
    except ValueError as error:
        raise Refused(f"the body is not JSON: {error}", status=400) from None


def gathered(values: list[Any]) -> Incoming:
    """Structured events. Refused 400."""
    events, names, kinds = [], [], set()
    for value in values:
        if not isinstance(value, dict):
            raise Refused("a CloudEvent is a JSON object", status=400)
        given = {str(name): one for name, one in value.items() if name not in ("data", "data_base64") and one is not None}
        attributes = {name: texted(one) for name, one in given.items()}
        checked(attributes)
        content_type = attributes.get("datacontenttype", DATA_TYPE)
        kinds.add(content_type)
        events.append(event_of(attributes, data_of(value, content_type)))
        names.append(same(attributes))
    if len(kinds) > 1:
        raise Refused("the events of a batch have one datacontenttype", status=400)
    dedupe = names[0] if len(names) == 1 else "ce:" + hashlib.sha256("".join(names).encode()).hexdigest()
    return Incoming(events, kinds.pop(), dedupe)


def texted(value: Any) -> str:
    """An attribute's value as CloudEvents writes it in a header. Refused 400."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return jsontext.word(value, "an attribute")
    raise Refused("a CloudEvents attribute is a text, a whole number, or true or false", status=400)


def checked(attributes: Mapping[str, str]) -> None:
    """Rules of the specification, and ours. Refused 400."""
    missing = [name for name in REQUIRED if not attributes.get(name)]
    if missing:
        raise Refused(f"a CloudEvent without {', '.join(missing)}", status=400)
    if attributes["specversion"] != "1.0":
        raise Refused(f"CloudEvents {attributes['specversion'][:20]} are not read", status=400, hint="specversion is 1.0")
    if len(attributes) > MOST or any(len(value) > LONGEST for value in attributes.values()):
        raise Refused(f"a CloudEvent has at most {MOST} attributes of {LONGEST} characters", status=400)
    bad = next((name for name in attributes if not NAME.fullmatch(name)), None)
    if bad is not None:
        raise Refused(f"{bad[:64]!r} is no attribute's name", status=400, hint="lower-case letters and digits")


def data_of(value: Mapping[str, Any], content_type: str) -> bytes:
    """The data of a structured event as bytes. Refused 400."""
    if "data_base64" in value:
        try:
            return base64.b64decode(value["data_base64"], validate=True)
        except (ValueError, TypeError):
            raise Refused("data_base64 is no base64", status=400) from None
    data = value.get("data")
    if kind_of(content_type) == JSON:
        return jsontext.compact(data)
    if not isinstance(data, str):
        raise Refused(f"data of {content_type} are a text, or data_base64", status=400)
    return data.encode("utf-8", "replace")


def event_of(attributes: Mapping[str, str], data: bytes) -> NewEvent:
    """An event of ours."""
    kept = {PREFIX + name: value for name, value in attributes.items() if name not in ("specversion", "type", "datacontenttype")}
    return NewEvent(data, attributes["type"], attributes.get("partitionkey", ""), kept)


def same(attributes: Mapping[str, str]) -> str:
    """What names this event: a dedupe key."""
    return "ce:" + hashlib.sha256(f"{attributes['source']}\n{attributes['id']}".encode("utf-8", "replace")).hexdigest()


# ---- out


def shown(event: Event, topic: str, content_type: str, offset: Offset, name: str = "") -> dict[str, Any]:
    """An event of ours as a structured CloudEvent; attributes that it came with are as they were."""
    said: dict[str, Any] = {
        "specversion": "1.0", "id": name or str(offset), "source": f"/topics/{topic}", "type": event.type or "event",
    }  # fmt: skip
    if event.at:
        said["time"] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(event.at)) + f".{int(event.at * 1000) % 1000:03d}Z"
    if event.key:
        said["partitionkey"] = event.key
    said |= {key[3:]: value for key, value in event.headers.items() if key.startswith(PREFIX)}
    kind = kind_of(content_type)
    said["datacontenttype"] = content_type or DATA_TYPE
    if kind == JSON:
        try:
            return said | {"data": jsontext.parsed(event.data)}
        except ValueError:
            pass
    if kind == TEXT:
        return said | {"data": event.data.decode("utf-8", "replace")}
    return said | {"data_base64": base64.b64encode(event.data).decode()}
