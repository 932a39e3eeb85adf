"""google.api.http: which HTTP request is which gRPC call, and where the fields of its message stand (google/api/http.proto).

Rules
1. A rule is a method, a path template, `body` ("" none, "*" all, or one field) and `response_body`. Templates: literals, `*` (one
   segment), `**` (all that is left), `{name}`, `{name=pattern}`, and `:verb` behind them.
2. What the template captures are fields, by name or path (`book.name`); captured and query values are text, turned into what
   the field is. With body "*" nothing is taken from the query. Unknown names are refused.
3. Rules are found by trying them in the order of registration, longest literal beginning first.
The annotations need googleapis-common-protos (`fairlead[grpc]`); without it, or without protobuf, there are no rules.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from fairlead.core.errors import WireError

KINDS = ("get", "put", "post", "delete", "patch")
PART = re.compile(r"\{([A-Za-z0-9_.]+)(?:=([^{}]*))?\}|(\*\*)|(\*)|([^{}*]+)")
NO_SIDE_EFFECTS = 1  # google.protobuf.MethodOptions.IdempotencyLevel


class Rule(NamedTuple):
    """One binding. `path`: the gRPC method's; `names` are the fields that `pattern`'s groups are."""

    path: bytes
    verb: str
    pattern: re.Pattern[str]
    names: tuple[str, ...]
    body: str
    response: str
    literal: str


class Rules:
    """The rules of a server's methods, as their descriptors have them."""

    def __init__(self, methods: dict[bytes, Any]) -> None:
        self.rules: list[Rule] = []
        self.without_effects: set[bytes] = set()
        for path, method in methods.items():
            descriptor = descriptor_of(path, method)
            if descriptor is not None:
                self.read(path, descriptor)
        self.rules.sort(key=lambda rule: -len(rule.literal))

    def read(self, path: bytes, descriptor: Any) -> None:
        """The rules of one method."""
        options = descriptor.GetOptions()
        if options.idempotency_level == NO_SIDE_EFFECTS:
            self.without_effects.add(path)
        try:
            from google.api import annotations_pb2
        except ImportError:
            return
        # the descriptor may come from before the annotations were known: read its options again with them
        options = type(options).FromString(options.SerializeToString())
        if not options.HasExtension(annotations_pb2.http):
            return
        http = options.Extensions[annotations_pb2.http]
        for one in (http, *http.additional_bindings):
            kind = one.WhichOneof("pattern")
            verb = one.custom.kind if kind == "custom" else str(kind).upper()
            template = one.custom.path if kind == "custom" else getattr(one, kind or "get")
            pattern, names, literal = compiled(template)
            self.rules.append(Rule(path, verb, pattern, names, one.body, one.response_body, literal))

    def safe(self, path: bytes) -> bool:
        """May GET call this method by its own path?"""
        return path in self.without_effects

    def match(self, verb: str, path: bytes) -> tuple[Rule | None, list[tuple[str, str]]]:
        """The rule of a request, and the (field, text) pairs that its path holds."""
        text = path.decode("ascii", "replace")
        for rule in self.rules:
            if rule.verb == verb and text.startswith(rule.literal):
                found = rule.pattern.fullmatch(text)
                if found is not None:
                    return rule, [(name, unquote(value)) for name, value in zip(rule.names, found.groups())]
        return None, []


def descriptor_of(path: bytes, method: Any) -> Any:
    """The protobuf descriptor of a method, or None."""
    descriptor: Any = getattr(getattr(method.decode, "__self__", None), "DESCRIPTOR", None)
    _, service, name = path.decode("latin-1").split("/")
    try:
        return descriptor.file.pool.FindServiceByName(service).methods_by_name[name]
    except (KeyError, AttributeError):
        return None


def compiled(template: str) -> tuple[re.Pattern[str], tuple[str, ...], str]:
    """(pattern, names of its groups, the literal it begins with) of a path template. Raises ValueError."""
    out, names, at = "", [], 0
    for part in PART.finditer(template):
        if part.start() != at:
            break
        at = part.end()
        name, inner, _, _, literal = part.groups()
        if name is not None:
            names.append(name)
            out += "(" + segments(inner if inner is not None else "*") + ")"
        else:
            out += re.escape(literal) if literal is not None else segments(part.group())
    if at != len(template) or not template.startswith("/"):
        raise ValueError(f"{template!r} is no path template of google.api.http")
    return re.compile(out), tuple(names), re.split(r"[{*]", template)[0]


def segments(pattern: str) -> str:
    """A pattern inside of a template as a regular expression."""
    return "".join({"**": ".*", "*": "[^/]+"}.get(part, re.escape(part)) for part in re.split(r"(\*\*|\*)", pattern))


def from_query(query: bytes) -> list[tuple[str, str]]:
    """The pairs of a query string. Raises WireError when there are more than 256."""
    try:
        return parse_qsl(query.decode("ascii", "replace"), keep_blank_values=True, max_num_fields=256)
    except ValueError as error:
        raise WireError(f"the query: {error}", rule="grpc-json") from None


def filled(descriptor: Any, made: Any, path: str, text: str) -> None:
    """Put the text of a path or query into the dictionary of a message, at a field's path. Raises ValueError."""
    if not isinstance(made, dict):
        raise ValueError("the body is no object")
    *outer, last = path.split(".")
    for name in outer:
        field = field_of(descriptor, name)
        descriptor = field.message_type
        if descriptor is None:
            raise ValueError(f"{name} has no fields")
        made = made.setdefault(field.json_name, {})
    field = field_of(descriptor, last)
    value: Any = text
    if field.type == field.TYPE_BOOL:
        if text not in ("true", "false"):
            raise ValueError(f"{path} is true or false")
        value = text == "true"
    if repeated(field):
        made.setdefault(field.json_name, []).append(value)
    else:
        made[field.json_name] = value


def repeated(field: Any) -> bool:
    """Does a field have many values? (protobuf names it anew from version 6 on.)"""
    found = getattr(field, "is_repeated", None)
    return bool(found) if found is not None else field.label == field.LABEL_REPEATED


def field_of(descriptor: Any, name: str) -> Any:
    """A field by its name or its name in JSON. Raises ValueError."""
    found = descriptor.fields_by_name.get(name) or descriptor.fields_by_camelcase_name.get(name)
    if found is None:
        raise ValueError(f"{descriptor.full_name} has no field {name}")
    return found
