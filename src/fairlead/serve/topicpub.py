"""Publishing by a JSON object: a frame of a socket, or what a consumer publishes in turn with its acknowledgement.

    {"topic": "b", "data": …  (or "base64": "…"), "type": "t", "key": "k", "dedupe": "d", "content_type": "application/json"}

Rules
1. It is what a POST to that topic would be: asked of the route's `access`, bounded by its `message`, counted in its quotas, and
   makes the topic where the route lets a publish do that.
2. What a consumer publishes with `:ack` goes out before the acknowledgement, each under a dedupe key made of group, item and place.
   So a consumer that dies in between and is given the item again publishes nothing twice, within the engine's dedupe window.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from fairlead.core.errors import Refused
from fairlead.serve import topicforms as forms
from fairlead.serve.jsontext import compact, word
from fairlead.serve.topicaccess import PUBLISH
from fairlead.serve.topicwords import canonical
from fairlead.store.contract import NewEvent

DEFAULT_TYPE = "application/json"
MOST = 100  # events published with one item's acknowledgement


async def publish(route: Any, exchange: Any, topic: str, given: dict[str, Any], dedupe: str = "") -> dict[str, Any]:
    """Append one event to a topic of `route`: {"topic", "o"} and maybe "duplicate". `dedupe` where the object names none. Refused,
    StoreError.
    """
    await route.must(exchange, PUBLISH, topic)
    content_type = canonical(word(given.get("content_type", DEFAULT_TYPE), "content_type"))
    create = route.config(content_type) if route.options.create != "put" else None
    head = await route.found(topic, create)
    kind = forms.kind_of(head.config.content_type if head is not None else content_type)
    event = NewEvent(payload(given, kind), word(given.get("type", ""), "type"), word(given.get("key", ""), "key"))
    if len(event.data) > route.options.message:
        raise Refused(f"an event has at most {route.options.message} bytes", status=413)
    route.access.publishing(exchange, 1)
    if head is None:
        route.access.making(exchange)
    done = await route.store.log.append(topic, [event], dedupe=word(given.get("dedupe") or dedupe, "dedupe"), create=create)
    if head is None:
        route.names.made(topic)
    return {"topic": topic, "o": str(done.last), **({"duplicate": True} if done.duplicate else {})}


async def in_turn(route: Any, exchange: Any, queue: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the acknowledged items publish; see rule 2. Refused."""
    wanted = [(one["id"], place, given) for one in items for place, given in enumerate(events_of(one))]
    named = [(name, place, route.named(given.get("topic")), given) for name, place, given in wanted]
    return [await publish(route, exchange, topic, given, f"{queue}/{name}/{place}") for name, place, topic, given in named]


def events_of(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The events that an item of an `:ack` publishes. Refused 400."""
    given = item.get("publish", [])
    events = [given] if isinstance(given, dict) else given
    if not isinstance(events, list) or len(events) > MOST or not all(isinstance(one, dict) for one in events):
        raise Refused(f'"publish" is an object as {{"topic", "data"}}, or a list of at most {MOST}', status=400)
    return events


def payload(given: dict[str, Any], kind: str) -> bytes:
    """The bytes of an object's event. Refused 400."""
    if "base64" in given:
        try:
            return base64.b64decode(given["base64"], validate=True)
        except (binascii.Error, ValueError, TypeError):
            raise Refused('"base64" is no base64', status=400) from None
    if "data" not in given:
        raise Refused('"data" or "base64" is missing', status=400)
    if kind == forms.JSON:
        return compact(given["data"])
    if not isinstance(given["data"], str):
        raise Refused('"data" of this topic is a text', status=400)
    return given["data"].encode("utf-8", "replace")
