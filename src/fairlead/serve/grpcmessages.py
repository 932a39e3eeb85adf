"""A method's messages as JSON: by protobuf's json_format where generated code has made them, by `wire.protojson` where they are
shapes of our own, which need no protobuf.
"""

from __future__ import annotations

import json
from typing import Any

from fairlead.core.errors import WireError
from fairlead.serve.grpcrules import filled
from fairlead.wire import protojson
from fairlead.wire.protobuf import BOOL, Shape


class Generated:
    """Messages of protobuf. `kind`: the class of the requests."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.name: str = kind.DESCRIPTOR.full_name

    def taken(self, made: Any, values: list[tuple[str, str]]) -> Any:
        """The request that is in a JSON value and in (name, text) pairs of a path and query. ValueError, TypeError."""
        from google.protobuf import json_format

        if not isinstance(made, dict) and not self.name.startswith("google.protobuf."):
            raise ValueError("it is no object")
        for name, text in values:
            filled(self.kind.DESCRIPTOR, made, name, text)
        try:
            return json_format.ParseDict(made, self.kind())
        except json_format.ParseError as error:
            raise ValueError(str(error)) from None

    def written(self, value: Any, field: str) -> bytes:
        """An answer, or one field of it."""
        from google.protobuf import json_format

        if not field:
            return json_format.MessageToJson(value, indent=None, ensure_ascii=False).encode()
        found = value.DESCRIPTOR.fields_by_name.get(field)
        made = json_format.MessageToDict(value).get(found.json_name if found is not None else field)
        return json.dumps(made, separators=(",", ":")).encode()


class Shaped:
    """Messages of our own: the shape of a method's requests, and that of its answers, which may be encoded already."""

    def __init__(self, name: str, asked: Shape, answer: Shape) -> None:
        self.name = f"the request of {name}"
        self.asked = asked
        self.answer = answer

    def taken(self, made: Any, values: list[tuple[str, str]]) -> dict[str, Any]:
        """The request that is in a JSON value and in (name, text) pairs of a query. ValueError."""
        if not isinstance(made, dict):
            raise ValueError("it is no object")
        names = protojson.names_of(self.asked)
        for name, text in values:
            kind = self.asked.fields[names[name]][1] if name in names else None
            made[name] = {"true": True, "false": False}.get(text, text) if kind is BOOL else text
        return protojson.taken(self.asked, made)

    def written(self, value: Any, field: str) -> bytes:
        """An answer."""
        message = self.answer.decode(value) if isinstance(value, bytes) else value
        return json.dumps(protojson.written(self.answer, message), ensure_ascii=False, separators=(",", ":")).encode()


def messages_of(method: Any) -> Generated | Shaped:
    """The messages of a method; WireError when they are bytes to us."""
    kind = getattr(method.decode, "__self__", None)
    if isinstance(kind, Shape):
        return Shaped(method.name, kind, method.handler.answer)
    if kind is None or not hasattr(kind, "DESCRIPTOR"):
        raise WireError("this method has no JSON: its messages are not protobuf", status=415)
    return Generated(kind)
