"""What a request for a topic says, and how it is refused: fields, query, lifetimes, producers. All pure but `refuse`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from fairlead.core.aio import Call
from fairlead.core.errors import Refused
from fairlead.store.contract import Gap, Offset, Producer

NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")
SAFE = 2**53 - 1
SECURITY = [(b"x-content-type-options", b"nosniff"), (b"cross-origin-resource-policy", b"cross-origin")]
PREFLIGHT = [  # what a page of another origin may send, if the `cors` filter lets it: the filter says so itself
    (b"allow", b"GET, HEAD, PUT, POST, DELETE, OPTIONS"),
    (b"access-control-allow-methods", b"GET, HEAD, PUT, POST, DELETE"),
    (
        b"access-control-allow-headers",
        b"content-type, if-none-match, last-event-id, prefer, authorization, stream-seq, stream-ttl, stream-expires-at, "
        b"stream-closed, stream-forked-from, stream-fork-offset, stream-fork-sub-offset, producer-id, producer-epoch, "
        b"producer-seq, fairlead-type, fairlead-key, fairlead-dedupe",
    ),
]


def fields_of(request: Any) -> dict[str, str]:
    """{name: value}, the first of each."""
    found: dict[str, str] = {}
    for name, value in request.headers:
        found.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    return found


def query_of(request: Any) -> dict[str, str]:
    """The query. Refused 400 when `offset` is there twice or empty."""
    try:
        pairs = parse_qsl(request.query.decode("latin-1"), keep_blank_values=True, max_num_fields=2000)
    except ValueError:
        raise Refused("the query has too many fields", status=400) from None
    found = dict(reversed(pairs))
    offsets = [value for name, value in pairs if name == "offset"]
    if len(offsets) > 1 or "" in offsets:
        raise Refused("`offset` is there more than once, or empty", status=400)
    return found


def canonical(content_type: str) -> str:
    """A content type as it is compared and shown: the media type in lower case, parameters as they are."""
    media, semicolon, rest = content_type.partition(";")
    return media.strip().lower() + (semicolon + rest if rest.strip() else "")


def truth(given: dict[str, str], name: str) -> bool:
    """A field that is `true` or counts for nothing."""
    return given.get(name, "").strip().lower() == "true"


def lifetime(given: dict[str, str]) -> dict[str, float]:
    """Stream-TTL or Stream-Expires-At. Refused 400."""
    ttl, expires = given.get("stream-ttl"), given.get("stream-expires-at")
    if ttl is not None and expires is not None:
        raise Refused("Stream-TTL and Stream-Expires-At exclude each other", status=400)
    if ttl is not None:
        if not NUMBER.fullmatch(ttl):
            raise Refused("Stream-TTL is a number of seconds, without sign, point or leading zeros", status=400)
        return {"ttl": float(ttl)}
    if expires is not None:
        try:
            moment = datetime.fromisoformat(expires)
        except ValueError:
            moment = None  # type: ignore[assignment]
        if moment is None or "T" not in expires.upper() or moment.tzinfo is None:
            raise Refused("Stream-Expires-At is a time as RFC 3339 has it", status=400)
        return {"expires": moment.timestamp()}
    return {}


def rfc3339(moment: float) -> bytes:
    """A time as text."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


def producer_of(given: dict[str, str]) -> Producer | None:
    """Producer-Id, -Epoch and -Seq: all or none. Refused 400."""
    names = ("producer-id", "producer-epoch", "producer-seq")
    there = [given.get(name) for name in names]
    if there == [None, None, None]:
        return None
    if None in there or not there[0]:
        raise Refused("Producer-Id, Producer-Epoch and Producer-Seq are given together, and none is empty", status=400)
    numbers = [int(one) if NUMBER.fullmatch(one) else -1 for one in map(str, there[1:])]
    if min(numbers) < 0 or max(numbers) > SAFE:
        raise Refused("Producer-Epoch and Producer-Seq are whole numbers up to 2^53-1", status=400)
    return Producer(str(there[0]), *numbers)


def next_field(offset: Offset) -> tuple[bytes, bytes]:
    """Stream-Next-Offset."""
    return b"stream-next-offset", str(offset).encode()


def gap_fields(gap: Gap) -> list[tuple[bytes, bytes]]:
    """Where a reader who lost events may go on, and where the topic ends."""
    return [(b"stream-earliest-offset", str(gap.earliest).encode()), next_field(gap.latest)]


def absolute(request: Any) -> bytes:
    """The topic's URL."""
    path: bytes = request.target.partition(b"?")[0]
    return request.scheme.encode() + b"://" + bytes(request.authority) + path


def refusal(
    status: int, text: str, more: list[tuple[bytes, bytes]] | None = None, after: float = 0
) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """An error, in a line of text: (status, body, fields)."""
    fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"), *(more or ())]
    if after:
        fields.append((b"retry-after", b"%d" % after))
    return status, f"{status} {text}\n".encode(), fields + SECURITY


async def refuse(call: Call, status: int, text: str, more: list[tuple[bytes, bytes]] | None = None, after: float = 0) -> None:
    """The same, said."""
    await call.respond(*refusal(status, text, more, after))


def consent(request: Any) -> list[tuple[bytes, bytes]]:
    """CloudEvents' handshake: a sender of events asks whether it may (HTTP webhook specification, section 4)."""
    asks = request.get(b"webhook-request-origin")
    return [(b"webhook-allowed-origin", asks[:256]), (b"webhook-allowed-rate", b"*")] if asks else []
