"""Settings: how a configuration field carries its own doc, default, kind and key, so that each is written once.

A field is made by ``setting`` (one value), ``table`` or ``tables``; ``settings`` lists them for whoever reads, shows
or documents a table. A class may carry ``short``: a function that turns a short form into the table's dict, or
answers ``None``.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from typing import Any, TypeVar

from fairlead.run import units as u

Many = tuple[str, ...]
Made = TypeVar("Made")
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


def frozen(cls: type[Made]) -> type[Made]:
    """What ``dataclass(frozen=True, kw_only=True)`` makes, without its compiler.

    That writes and compiles six functions for each class, 0.7 ms of every start for each of some sixty; these read the fields.
    """
    made = dataclass(init=False, repr=False, eq=False, kw_only=True)(cls)
    rows = [(f.name, f.default, f.default_factory) for f in fields(made)]  # type: ignore[arg-type]
    compared = tuple(f.name for f in fields(made) if f.compare)  # type: ignore[arg-type]
    told = tuple(f.name for f in fields(made) if f.repr)  # type: ignore[arg-type]

    def init(self: Any, **given: Any) -> None:
        own = self.__dict__
        for name, default, factory in rows:
            if name in given:
                own[name] = given.pop(name)
            elif default is not MISSING:
                own[name] = default
            elif factory is not MISSING:
                own[name] = factory()
            else:
                raise TypeError(f"{cls.__qualname__} needs {name}")
        if given:
            raise TypeError(f"{cls.__qualname__} has no {', '.join(given)}")

    def values(self: Any) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in compared])

    def equal(self: Any, other: object) -> bool:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    def refuse(self: Any, name: str, value: Any = None) -> None:
        raise FrozenInstanceError(f"cannot change {name!r}")

    def shown(self: Any) -> str:
        return f"{cls.__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in told)})"

    methods = {
        "__init__": init, "__eq__": equal, "__hash__": lambda self: hash(values(self)), "__repr__": shown,
        "__setattr__": refuse, "__delattr__": refuse,
    }  # fmt: skip
    for name, method in methods.items():
        if name not in cls.__dict__ or name == "__hash__":
            setattr(made, name, method)
    made.__dataclass_params__.frozen = True  # type: ignore[attr-defined]
    return made
