"""`Prefer` (RFC 7240): what a client would like, and saying what of it was done.

Rules
1. A list of preferences, each `name`, `name=value` or `name="value"`, with parameters after `;` that we know none of. The
   first of a name counts (section 2); what we do not know, or cannot read, is ignored, never an error.
2. `wait` is a number of seconds from when the request was received. `respond-async` has no value. Together: wait so long, then 202.
3. What was honoured is said in `Preference-Applied`, and an answer that depends on it has `Vary: prefer`.
"""

from __future__ import annotations

import re
from typing import Any

ONE = re.compile(r'([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)(?:[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s",;]*)))?')
LONGEST = 3600  # seconds of a wait that are believed; who serves it has a limit of its own


def preferences(request: Any) -> dict[str, str]:
    """{name: value} of a request, names in lower case."""
    found: dict[str, str] = {}
    for key, value in request.headers:
        if key != b"prefer":
            continue
        for part in members(value.decode("latin-1")):
            match = ONE.match(part.strip())
            if match is None:
                continue
            quoted = match[2]
            text = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else match[3] or ""
            found.setdefault(match[1].lower(), text)
    return found


def members(text: str) -> list[str]:
    """A list's members, commas inside quotes left alone."""
    return re.findall(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+', text)


def wait_of(found: dict[str, str]) -> float | None:
    """The seconds of `wait`, None when it is not there or no number."""
    value = found.get("wait", "")
    return float(min(int(value[:9]), LONGEST)) if value.isascii() and value.isdigit() else None
