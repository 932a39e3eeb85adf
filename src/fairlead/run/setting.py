"""Settings: how a configuration field carries its own doc, default, kind and key, so that each is written once.

A field is made by ``setting`` (one value), ``table`` or ``tables``; ``settings`` lists them for whoever reads, shows
or documents a table. A class may carry ``short``: a function that turns a short form into the table's dict, or
answers ``None``.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

from fairlead.run import units as u

Many = tuple[str, ...]
REQUIRED = object()


@dataclass(frozen=True, slots=True)
class Setting:
    """What a field knows about itself: its doc, how it is read, its key in the file, and the table it holds, if any."""

    doc: str
    kind: u.Kind | None = None
    key: str = ""
    table: type | None = None
    many: bool = False
    aliases: Many = ()
    required: bool = False


def setting(default: Any, doc: str, kind: u.Kind = u.TEXT, key: str = "") -> Any:
    """A field that holds one value; ``default`` is written as in the file."""
    if default is REQUIRED:
        return field(default=None, metadata={"setting": Setting(doc, kind, key, required=True)})
    value = kind.read(default)
    metadata = {"setting": Setting(doc, kind, key)}
    return (
        field(default_factory=lambda: value, metadata=metadata)
        if isinstance(value, dict)
        else field(default=value, metadata=metadata)
    )


def table(cls: type, doc: str, key: str = "", absent: bool = False) -> Any:
    """A field that holds a table: all defaults when it is not written, or ``None`` when ``absent``."""
    metadata = {"setting": Setting(doc, None, key, cls)}
    return field(default=None, metadata=metadata) if absent else field(default_factory=cls, metadata=metadata)


def tables(cls: type, doc: str, key: str = "", aliases: Many = ()) -> Any:
    """A field that holds a tuple of tables."""
    return field(default=(), metadata={"setting": Setting(doc, None, key, cls, True, aliases)})


def settings(cls: type) -> list[tuple[Field[Any], Setting, str]]:
    """(field, setting, key in the file) of every setting of a table, in the order they are documented."""
    pairs = ((f, f.metadata.get("setting")) for f in fields(cls))
    return [(f, s, s.key or f.name) for f, s in pairs if s is not None]


def default_of(f: Field[Any]) -> Any:
    """The default of a field; ``None`` for one that must be written."""
    return f.default_factory() if f.default_factory is not MISSING else f.default


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from: "default", "file", "env" or "flag"; ``name`` is the file, variable or flag."""

    how: str = "default"
    name: str = ""
    line: int = 0

    def __str__(self) -> str:
        if self.how == "file":
            return f"{self.name}:{self.line}" if self.line else self.name
        return f"{self.how} {self.name}".strip()


def short_form(key: str, *kinds: type) -> Any:
    """A ``short`` that takes one bare value of these kinds as this key."""
    return staticmethod(lambda value: {key: value} if type(value) in kinds else None)
