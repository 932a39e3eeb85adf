"""What the scripts of the Redis engine answer, as values of the contract, and arguments as the scripts take them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .contract import Entry, Event, Head, Lease, Offset
from .rules import changed
from .sqlread import config_of


def text_of(data: bytes | str) -> str:
    """As text."""
    return data.decode() if isinstance(data, bytes) else data


def float_of(data: bytes | str) -> float | None:
    """A number, or nothing."""
    return float(data) if data else None


def maybe(value: Any) -> Any:
    """As it is sent: nothing is an empty text."""
    return "" if value is None else repr(value) if isinstance(value, float) else value


def flag(fact: bool) -> str:
    """As it is sent."""
    return "1" if fact else "0"


def flags(found: Sequence[bytes]) -> list[bool]:
    """As they came."""
    return [one == b"1" for one in found]


def event_of(row: Sequence[bytes]) -> Event:
    """An event as scripts give it."""
    seq, data, kind, key, at, headers = row
    return Event(int(seq), data, text_of(kind), text_of(key), float(at), json.loads(headers) if headers else {})


def head_of(row: Sequence[bytes]) -> Head:
    """A topic's ends as scripts give them."""
    name, epoch, first, last, is_closed, config, size, created = row
    ends = Offset(int(epoch), int(first)), Offset(int(epoch), int(last))
    return Head(text_of(name), *ends, is_closed == b"1", config_of(text_of(config)), int(size), float(created))


def offset_of(epoch: bytes, seq: bytes) -> Offset | None:
    """An item's offset, of a fed queue."""
    return Offset(int(epoch), int(seq)) if seq else None


def lease_of(queue: str, row: Sequence[Any]) -> Lease:
    """A lease as scripts give it."""
    item, fence, attempt, body, until, epoch, seq, event = row
    found = event_of(event) if event else None
    return Lease(queue, text_of(item), int(fence), int(attempt), body, float(until), found, offset_of(epoch, seq))


def changed_key(key: str, value: bytes, found: Sequence[bytes]) -> Entry:
    """A key's new entry. Conflict."""
    if found[0] != b"1":
        raise changed(key, entry_of(found[1:]))
    return Entry(bytes(value), int(found[1]), float_of(found[2]), float_of(found[3]))


def entry_of(row: Sequence[bytes]) -> Entry | None:
    """A key's entry as scripts give it."""
    return Entry(row[0], int(row[1]), float_of(row[2]), float_of(row[3])) if row else None


def entries_of(rows: Sequence[Sequence[bytes]]) -> list[tuple[str, Entry]]:
    """Keys with their entries."""
    return [(text_of(row[0]), Entry(row[1], int(row[2]), float_of(row[3]), float_of(row[4]))) for row in rows]


def nets_of(data: bytes) -> list[bytes]:
    """The texts of a message, each as LENGTH:TEXT."""
    texts, place = [], 0
    while place < len(data):
        colon = data.index(b":", place)
        end = colon + 1 + int(data[place:colon])
        texts.append(data[colon + 1 : end])
        place = end
    return texts
