"""Protobuf's wire format for the few messages that are ours, so that neither protobuf nor generated code is needed to serve them.

A `Shape` says what a message is made of; its values are dictionaries, in which a field that is absent is its default.

Rules (protobuf.dev/programming-guides/encoding)
1. A field is a varint of `number << 3 | wire type`: 0 varint, 1 eight bytes, 2 a length and so many bytes, 5 four bytes.
2. proto3: a default value of a single field is not written. Of several values of a single field the last counts; of messages
   all, merged.
3. A field that is unknown, or has another wire type than it should, is skipped. Groups (3, 4) are of proto2, and refused.
4. Strings are UTF-8, a varint has at most ten bytes, and what is longer than its message is an error: WireError.

A message holds only shapes that are written down before it, so no bytes can make decoding recurse deeper than that.
"""

from __future__ import annotations

import struct
from typing import Any

from fairlead.core.errors import WireError

UINT, BOOL, DOUBLE, TEXT, BYTES = "uint", "bool", "double", "text", "bytes"
VARINT, EIGHT, LENGTH, FOUR = 0, 1, 2, 5
DEFAULTS: dict[Any, Any] = {UINT: 0, BOOL: False, DOUBLE: 0.0, TEXT: "", BYTES: b""}
TYPES: dict[Any, int] = {UINT: VARINT, BOOL: VARINT, DOUBLE: EIGHT, TEXT: LENGTH, BYTES: LENGTH}
MOST = (1 << 64) - 1


class Many:
    """A field that is repeated: texts, bytes or messages."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind


class Shape:
    """A message: `Shape(name=(1, TEXT), items=(2, Many(ITEM)), labels=(3, MAP))`."""

    def __init__(self, **fields: tuple[int, Any]) -> None:
        self.fields = fields
        self.names: dict[str, tuple[str, ...]] = {}  # of the values of enums, by field: JSON says them
        self.numbers = {number: (name, kind) for name, (number, kind) in fields.items()}

    def encode(self, value: dict[str, Any]) -> bytes:
        """The bytes of a message."""
        parts: list[bytes] = []
        for name, given in value.items():
            number, kind = self.fields[name]
            if isinstance(kind, Many):
                for one in pairs(given) if kind.kind is PAIR else given:
                    parts.append(field(number, kind.kind, one))
            elif given is not None and given != DEFAULTS.get(kind):
                parts.append(field(number, kind, given))
        return b"".join(parts)

    def decode(self, data: bytes) -> dict[str, Any]:
        """The message that these bytes are, every field of it. WireError."""
        return self.merged(bytes(data), self.empty())

    def empty(self) -> dict[str, Any]:
        """A message without fields: single messages are None."""
        found: dict[str, Any] = {}
        for name, (_, kind) in self.fields.items():
            if isinstance(kind, Many):
                found[name] = {} if kind.kind is PAIR else []
            else:
                found[name] = DEFAULTS.get(kind)
        return found

    def merged(self, data: bytes, found: dict[str, Any]) -> dict[str, Any]:
        """`found` with what these bytes say."""
        at, end = 0, len(data)
        while at < end:
            tag, at = varint(data, at)
            number, wire = tag >> 3, tag & 7
            if not 0 < number < 1 << 29:
                raise WireError(f"no field has the number {number}", rule="protobuf")
            value, at = raw(data, at, wire)
            name, kind = self.numbers.get(number, ("", None))
            if kind is None:
                continue
            one = kind.kind if isinstance(kind, Many) else kind
            if wire != TYPES.get(one, LENGTH):
                continue
            if isinstance(one, Shape):
                before = found[name] if not isinstance(kind, Many) and found[name] is not None else one.empty()
                made: Any = one.merged(value, before)
            else:
                made = plain(one, value)
            if one is PAIR:
                found[name][made["key"]] = made["value"]
            elif isinstance(kind, Many):
                found[name].append(made)
            else:
                found[name] = made
        return found


PAIR = Shape(key=(1, TEXT), value=(2, TEXT))
MAP = Many(PAIR)  # map<string, string>: a dictionary


def pairs(given: dict[str, str]) -> list[dict[str, str]]:
    """The entries of a map."""
    return [{"key": key, "value": value} for key, value in given.items()]


def plain(kind: Any, value: Any) -> Any:
    """A single value as its kind has it."""
    if kind is TEXT:
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise WireError("a string is not UTF-8", rule="protobuf") from None
    if kind is DOUBLE:
        return struct.unpack("<d", value)[0]
    return bool(value) if kind is BOOL else value


def raw(data: bytes, at: int, wire: int) -> tuple[Any, int]:
    """A value by its wire type, and where what follows begins."""
    if wire == VARINT:
        return varint(data, at)
    if wire == LENGTH:
        size, at = varint(data, at)
    elif wire in (EIGHT, FOUR):
        size = 8 if wire == EIGHT else 4
    else:
        raise WireError(f"there is no wire type {wire}", rule="protobuf")
    if size > len(data) - at:
        raise WireError("a field is longer than its message", rule="protobuf")
    return data[at : at + size], at + size


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first; modulo 2**64."""
    value = shift = 0
    for count in range(at, min(at + 10, len(data))):
        byte = data[count]
        value |= (byte & 127) << shift
        if byte < 128:
            return value & MOST, count + 1
        shift += 7
    raise WireError("a varint does not end", rule="protobuf")


def number_bytes(value: int) -> bytes:
    """A varint."""
    value &= MOST
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def field(number: int, kind: Any, value: Any) -> bytes:
    """One field."""
    tag = number_bytes(number << 3 | TYPES.get(kind, LENGTH))
    if kind is UINT or kind is BOOL:
        return tag + number_bytes(int(value))
    if kind is DOUBLE:
        return tag + struct.pack("<d", value)
    if isinstance(kind, Shape):
        value = kind.encode(value)
    elif kind is TEXT:
        value = value.encode()
    return tag + number_bytes(len(value)) + value
