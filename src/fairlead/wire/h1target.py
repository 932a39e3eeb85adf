"""Request targets that do not begin with "/": the asterisk, authority and absolute forms (RFC 9112 section 3.2).

Rules
1. The authority form belongs to CONNECT and nothing else does, the asterisk to OPTIONS.
2. An absolute form is http or https with a plain host. Its path is "/" when it has none ("*" for OPTIONS, section 3.2.4).
"""

from __future__ import annotations

from fairlead.wire.h1bytes import good_host
from fairlead.wire.h1rules import broken


def other_form(method: str, target: bytes) -> tuple[str | None, bytes | None, bytes | None]:
    """The scheme, the target in origin form and the authority that such a target says, None each where it says nothing of it.
    Raises WireError.
    """
    if method == "CONNECT":
        host, colon, port = target.rpartition(b":")
        if not colon or not host or not port or not good_host(target):
            raise broken("target-form", False)
        return None, None, target
    if target == b"*":
        if method != "OPTIONS":
            raise broken("target-form", False)
        return None, None, None
    scheme, colon, rest = target.partition(b"://")
    scheme = scheme.lower()
    if not colon or scheme not in (b"http", b"https"):
        raise broken("target-form", False)
    size = len(rest)
    for mark in (b"/", b"?"):
        found = rest.find(mark)
        if 0 <= found < size:
            size = found
    host, path = rest[:size], rest[size:]
    if not good_host(host):
        raise broken("bad-host", False)
    if path[:1] != b"/":
        path = b"*" if method == "OPTIONS" and not path else b"/" + path
    return scheme.decode(), path, host
