"""Events as bytes, for keeping and for sending: a chunk is any number of records, one after the other, oldest first.

    seq u64 · at f64 · data length u32 · type length u16 · key length u16 · headers length u32   (little-endian, 28 bytes)
    data · type · key · headers (UTF-8; headers as a JSON object, or nothing)

A chunk is written once, at the append, and the same bytes are kept in the file, pushed to every process with a subscriber and cut
into events there. Damage is noticed: lengths that do not fit raise StoreError.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator

from .contract import Event, NewEvent, StoreError

_RECORD = struct.Struct("<QdIHHI")
SIZE = _RECORD.size
_pack = _RECORD.pack
_unpack = _RECORD.unpack_from


def record(seq: int, at: float, event: NewEvent) -> bytes:
    """One event. StoreError when its type, key or headers are too long to be kept."""
    data, type_, key, headers = event
    if not (type_ or key or headers):
        return _pack(seq, at, len(data), 0, 0, 0) + data
    words, name = type_.encode(), key.encode()
    if len(words) > 0xFFFF or len(name) > 0xFFFF:
        raise StoreError("an event's type and key are at most 65,535 bytes long", side="peer", status=413)
    extra = json.dumps(dict(headers), ensure_ascii=False, separators=(",", ":")).encode() if headers else b""
    return b"".join((_pack(seq, at, len(data), len(words), len(name), len(extra)), data, words, name, extra))


def events(chunk: bytes, after: int = 0) -> list[Event]:
    """Its events beyond `after`."""
    found = []
    place, end = 0, len(chunk)
    try:
        while place < end:
            seq, at, size, words, name, extra = _unpack(chunk, place)
            start = place + SIZE
            place = start + size + words + name + extra
            if seq > after:
                found.append(_event(chunk, start, seq, at, size, words, name, extra))
    except (struct.error, ValueError) as error:
        raise StoreError(f"a chunk of events is damaged: {error}") from error
    if place != end:
        raise StoreError("a chunk of events is damaged: it ends inside a record")
    return found


def _event(chunk: bytes, start: int, seq: int, at: float, size: int, words: int, name: int, extra: int) -> Event:
    """One event of a chunk."""
    data = chunk[start : start + size]
    if not (words or name or extra):
        return Event(seq, data, "", "", at)
    start += size
    kind = chunk[start : start + words].decode()
    start += words
    key = chunk[start : start + name].decode()
    start += name
    return Event(seq, data, kind, key, at, json.loads(chunk[start : start + extra]) if extra else {})


def sizes(chunk: bytes) -> Iterator[tuple[int, float, int]]:
    """(seq, at, data length) of each event, without making it."""
    place = 0
    while place < len(chunk):
        seq, at, size, words, name, extra = _unpack(chunk, place)
        yield seq, at, size
        place += SIZE + size + words + name + extra


def whole(found: Iterable[Event]) -> bytes:
    """A chunk of events that were read: the inverse of `events`."""
    return b"".join(
        record(event.seq, event.at, NewEvent(event.data, event.type, event.key, event.headers)) for event in found
    )
