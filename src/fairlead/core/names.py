"""How routes, peers and early ends are called in the log, the metrics and on the page.

A cause has a short stable name: the wire rule that was broken, `client-left`, `<side>-<step>` of a network error,
`app-error`, or the kind of refusal with its status. Names are few, for they are counted one by one.
"""

from __future__ import annotations

from fairlead.core.errors import AppError, FairleadError, NetError, WireError


def name_of(route):
    """A route's name for people: its own, else its methods, host and path."""
    name = getattr(route, "name", "")
    if name:
        return str(name)
    methods = "|".join(getattr(route, "methods", None) or ())
    host = ",".join(getattr(route, "host", None) or ())
    path = str(getattr(route, "shown", "") or getattr(route, "path", "") or "/*")
    return (methods + " " if methods else "") + host + path


def peer_bytes(peer):
    """A peer's address for log and page: "127.0.0.1:80", "[::1]:80", a path, or "unix:"."""
    if isinstance(peer, tuple) and len(peer) >= 2:
        if not peer[1]:  # told by a proxy that knows the address only
            return str(peer[0]).encode("utf-8", "replace")
        return (f"[{peer[0]}]:{peer[1]}" if ":" in str(peer[0]) else f"{peer[0]}:{peer[1]}").encode()
    if isinstance(peer, bytes):
        return b"unix:" + peer
    return b"unix:" + str(peer or "").encode("utf-8", "replace")


def name_cause(error):
    """The short name of what ended an exchange."""
    if isinstance(error, str):
        return error
    if isinstance(error, FairleadError) and error.status == 499:
        return "client-left"
    if isinstance(error, WireError):
        return error.rule or f"wire-{error.side}"
    if isinstance(error, NetError):
        return f"{error.side}-{error.step or 'net'}"
    if isinstance(error, AppError):
        return "app-error"
    if isinstance(error, FairleadError):
        return f"{type(error).__name__.lower()}-{error.status}" if error.status else type(error).__name__.lower()
    return type(error).__name__ if error is not None else ""


def lost_status(error):
    """The status to log when no answer was given: the error's own, 499 when the client left, else 0."""
    return error.status if isinstance(error, FairleadError) else 0
