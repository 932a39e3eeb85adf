"""JSON that others wrote, and that we write (RFC 8259): what is taken as JSON can be given to every reader as JSON again.

Rules
1. What is taken is UTF-8, has no `NaN` or `Infinity`, and nests no deeper than `DEPTH`. Without the last, a value that could just
   be read could not be written a few calls deeper, and one event would be the end of everybody's stream.
2. What is written is UTF-8 whatever it holds: a lone surrogate stays an escape (`\\ud800`), a number too large for a double becomes
   `null`, as `JSON.stringify` has it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from fairlead.core.errors import Refused

DEPTH = 256
STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
NO_BRACKET = bytes(sorted(set(range(256)) - set(b"[]{}")))
WORD = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{0,1024}")


def parsed(text: bytes | str) -> Any:
    """The value. ValueError says what is wrong."""
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    try:
        value = json.loads(raw.decode() if isinstance(text, bytes) else text, parse_constant=unknown)
    except RecursionError:
        raise ValueError(f"it nests deeper than {DEPTH}") from None
    if raw.count(b"[") + raw.count(b"{") > DEPTH and deep(raw):
        raise ValueError(f"it nests deeper than {DEPTH}")
    return value


def unknown(name: str) -> Any:
    """`NaN` and its like."""
    raise ValueError(f"{name} is not JSON")


def deep(raw: bytes) -> bool:
    """Does good JSON nest deeper than it may?"""
    level = 0
    for mark in STRINGS.sub(b"", raw).translate(None, NO_BRACKET):
        level += 1 if mark in b"[{" else -1
        if level > DEPTH:
            return True
    return False


def good(data: bytes) -> bool:
    """Can these bytes stand inside JSON as they are?"""
    try:
        json.loads(data.decode(), parse_constant=unknown)
    except (ValueError, RecursionError):
        return False
    return True


def compact(value: Any) -> bytes:
    """JSON without spaces; see rule 2."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        return json.dumps(finite(value), separators=(",", ":")).encode()


def finite(value: Any) -> Any:
    """The same value, with null in the place of numbers that JSON has not."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, list | tuple) else value


def word(text: Any, what: str) -> str:
    """A text of one line. Refused 400."""
    if not WORD.fullmatch(text := str(text)):
        raise Refused(f"{what} has at most 1024 characters, none of them a control character", status=400)
    return text


def clean(text: Any, most: int) -> str:
    """At most so many characters of a text that is only kept, none of them half of one."""
    return str(text)[:most].encode("utf-8", "replace").decode()
