"""The contract's types as plain ones that `marshal` can write, for calls between processes and for answers that are kept.

A value of ours becomes a tuple of its type's number and its fields; a tuple of nobody's gets the number 0; lists, dictionaries,
texts, bytes, numbers and None are themselves. `marshal` is much the quickest in the standard library, and both ends are one
installation: the other end of a call is a process that the same master started, and kept answers are dropped when the version of
the format does not fit.
"""

from __future__ import annotations

import marshal
from dataclasses import fields
from typing import Any

from . import contract as c

_TUPLES: tuple[type, ...] = (
    c.Offset, c.Event, c.NewEvent, c.Producer, c.Appended, c.Batch, c.Item, c.Lease, c.Dead, c.Entry,
)  # fmt: skip
_CLASSES: tuple[type, ...] = (c.TopicConfig, c.Head, c.Depth, c.Declaration)
_KINDS: tuple[Any, ...] = (tuple, *_TUPLES, *_CLASSES)
_NUMBERS = {kind: number for number, kind in enumerate(_KINDS)}
_FIELDS = {kind: tuple(field.name for field in fields(kind)) for kind in _CLASSES}
_PLAIN = frozenset({bytes, str, int, float, bool, type(None)})
_ERRORS = {
    kind.__name__: kind
    for kind in (
        c.StoreError, c.NoTopic, c.TopicExists, c.Closed, c.Gap, c.StaleProducer, c.ProducerGap, c.Fenced, c.Conflict, c.TooMuch,
    )
}  # fmt: skip
_EXTRAS = {
    "Closed": ("last",),
    "Gap": ("earliest", "latest"),
    "StaleProducer": ("epoch",),
    "ProducerGap": ("expected", "received", "known"),
    "Conflict": ("entry", "last"),
}


def plain(value: Any) -> Any:
    """As marshal can write it."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list:
        return [plain(one) for one in value]
    if kind is dict:
        return value
    number = _NUMBERS.get(kind)
    if number is None:
        return _stranger(value)
    if kind in _FIELDS:
        return (number, *[plain(getattr(value, name)) for name in _FIELDS[kind]])
    return (number, *[plain(one) for one in value])


def _stranger(value: Any) -> Any:
    """What looks like one of the above: another mapping, sequence or buffer, an enumeration."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (int, float)):
        return value + 0
    if isinstance(value, tuple):
        return (0, *[plain(one) for one in value])
    if hasattr(value, "keys"):
        return dict(value)
    return [plain(one) for one in value]


def rich(value: Any) -> Any:
    """The inverse."""
    kind = type(value)
    if kind is tuple:
        number = value[0]
        if number == 0:
            return tuple([rich(one) for one in value[1:]])
        return _KINDS[number](*[rich(one) for one in value[1:]])
    if kind is list:
        return [rich(one) for one in value]
    return value


def dumps(value: Any) -> bytes:
    """A message."""
    return marshal.dumps(plain(value))


marshalled = marshal.dumps  # a message of which all is plain already


def loads(data: bytes) -> Any:
    """The inverse. ValueError, EOFError or TypeError for what is no message."""
    return rich(marshal.loads(data))


def pack_answer(value: Any, error: BaseException | None) -> Any:
    """An answer as plain values: (value,), or (class, message, side, retry, hint, status, extras)."""
    if error is None:
        return (plain(value),)
    name = type(error).__name__
    if name not in _ERRORS:
        name, error = "StoreError", c.StoreError(f"{name}: {error}")
    assert isinstance(error, c.StoreError)
    extras = [plain(getattr(error, extra)) for extra in _EXTRAS.get(name, ())]
    return (name, str(error), error.side, error.retry, error.hint, error.status, extras)


def unpack_answer(packed: Any) -> tuple[Any, BaseException | None]:
    """The value, and the error or None."""
    return answer_of([rich(one) for one in packed])


def answer_of(parts: Any) -> tuple[Any, BaseException | None]:
    """The same of what came in a message, and so is rich already."""
    if len(parts) == 1:
        return parts[0], None
    name, message, side, retry, hint, status, extras = parts
    kind: Any = _ERRORS[name]
    error: c.StoreError = kind(message, *extras)
    error.side, error.retry, error.hint, error.status = side, retry, hint, status
    return None, error
