"""Protobuf's JSON for the messages of `wire.protobuf`, as generated code would read and write it.

Rules (protobuf.dev/programming-guides/json)
1. Names are in lowerCamelCase; those of the .proto file are understood too, unknown ones refused.
2. A default is not written, and null is as good as nothing.
3. uint64 is a text of digits, because JavaScript's numbers end at 2**53; numbers are understood too. Bytes are base64, understood
   with the URL's alphabet and without its padding. A double that is no number is "NaN", "Infinity" or "-Infinity". An enum is the
   name of its value, or the number.

Only shapes that are written down hold each other, so no text can make this recurse deeper than they do.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from functools import cache
from math import isfinite, isinf
from typing import Any

from fairlead.wire.protobuf import BOOL, BYTES, DEFAULTS, DOUBLE, MOST, PAIR, TEXT, UINT, Many, Shape

DIGITS = re.compile(r"[0-9]{1,20}")
NUMBER = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,3})?")
UNUSUAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def written(shape: Shape, value: dict[str, Any]) -> dict[str, Any]:
    """What json.dumps should write of a message."""
    found: dict[str, Any] = {}
    for name, (_, kind) in shape.fields.items():
        given = value.get(name)
        if isinstance(kind, Many):
            if given:
                found[camel(name)] = dict(given) if kind.kind is PAIR else [said(kind.kind, one) for one in given]
        elif given is not None and given != DEFAULTS.get(kind):
            found[camel(name)] = choice(shape.names[name], given) if name in shape.names else said(kind, given)
    return found


def said(kind: Any, value: Any) -> Any:
    """One value."""
    if isinstance(kind, Shape):
        return written(kind, value)
    if kind is BYTES:
        return b64encode(value).decode()
    if kind is UINT:
        return str(value)
    if kind is DOUBLE and not isfinite(value):
        return ("-Infinity" if value < 0 else "Infinity") if isinf(value) else "NaN"
    return value


def choice(names: tuple[str, ...], value: int) -> str | int:
    """A value of an enum; one that has no name is its number."""
    return names[value] if value < len(names) else value


def taken(shape: Shape, given: Any) -> dict[str, Any]:
    """The message that what json.loads has read is, every field of it. ValueError."""
    if not isinstance(given, dict):
        raise ValueError("it is no object")
    known, found = names_of(shape), shape.empty()
    for word, one in given.items():
        name = known.get(word)
        if name is None:
            raise ValueError(f"there is no field {word[:64]!r}")
        if one is None:
            continue
        kind = shape.fields[name][1]
        try:
            if not isinstance(kind, Many):
                found[name] = heard(kind, one, shape.names.get(name, ()))
            elif kind.kind is PAIR:
                found[name] = entries(one)
            elif isinstance(one, list):
                found[name] = [heard(kind.kind, part) for part in one]
            else:
                raise ValueError("it is no array")
        except ValueError as error:
            raise ValueError(f"{word}: {error}") from None
    return found


def entries(given: Any) -> dict[str, str]:
    """A map of texts. ValueError."""
    if not isinstance(given, dict):
        raise ValueError("it is no object")
    return {heard(TEXT, key): heard(TEXT, value) for key, value in given.items()}


def heard(kind: Any, given: Any, names: tuple[str, ...] = ()) -> Any:
    """One value. ValueError."""
    if isinstance(kind, Shape):
        return taken(kind, given)
    if kind is BOOL:
        if not isinstance(given, bool):
            raise ValueError("it is not true or false")
        return given
    if kind is UINT:
        return names.index(given) if given in names else whole(given)
    if kind is DOUBLE:
        return number(given)
    if not isinstance(given, str):
        raise ValueError("it is no text")
    if kind is BYTES:
        text = given.replace("-", "+").replace("_", "/").rstrip("=")
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    given.encode()  # half a surrogate pair is no character
    return given


def whole(given: Any) -> int:
    """A number without a sign or fraction, of at most 64 bits. ValueError."""
    if (isinstance(given, str) and DIGITS.fullmatch(given)) or (isinstance(given, float) and given.is_integer()):
        given = int(given)
    if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given <= MOST:
        raise ValueError("it is no whole number from 0 to 2**64 - 1")
    return given


def number(given: Any) -> float:
    """A number. ValueError."""
    if isinstance(given, str) and given in UNUSUAL:
        return UNUSUAL[given]
    if isinstance(given, str) and NUMBER.fullmatch(given):
        given = float(given)
    if not isinstance(given, (int, float)) or isinstance(given, bool) or abs(given) > 1.7976931348623157e308 or given != given:
        raise ValueError("it is no number")
    return float(given)


@cache
def camel(name: str) -> str:
    """A field's name in JSON."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


@cache
def names_of(shape: Shape) -> dict[str, str]:
    """The fields of a shape by all their names."""
    return {camel(name): name for name in shape.fields} | {name: name for name in shape.fields}
