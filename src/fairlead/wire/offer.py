"""What a server asks of a ClientHello before its TLS reads it (RFC 8446 section 4.1.2): the name, and what is to be resumed.

    offered(message) -> (name, age, early) or None

Rules
1. A second reader of the same bytes must not understand them in another way than the first. So this one takes only the plain
   form: each length fills what is around it exactly, no extension comes twice, names are ASCII, nothing follows. For all else it
   answers None, and the caller asks the TLS engine, whose word counts.
2. `name` is the host_name of server_name (RFC 6066 section 3), "" without one. `age` is the obfuscated age of the one ticket that
   is offered (section 4.2.11), 0 when there is none or more than one. `early` says whether early data is announced (4.2.10).
"""

from __future__ import annotations

SERVER_NAME, PRE_SHARED_KEY, EARLY_DATA = 0, 41, 42
LISTS = {10: 2, 13: 2, 16: 2, 43: 1, 45: 1, 51: 2}  # extensions that are one list: bytes of its length
Offered = tuple[str, int, bool]


def offered(message: bytes) -> Offered | None:
    """See the module. `message` begins with the handshake header."""
    try:
        return walk(message)
    except (IndexError, ValueError, OverflowError):
        return None


def walk(message: bytes) -> Offered | None:
    """All of a ClientHello."""
    if message[0] != 1 or int.from_bytes(message[1:4], "big") != len(message) - 4 or message[4:6] != b"\3\3":
        return None
    at = 38
    at += 1 + message[at]
    at += 2 + int.from_bytes(message[at : at + 2], "big")
    at += 1 + message[at]
    end = len(message)
    if int.from_bytes(message[at : at + 2], "big") != end - at - 2:
        return None
    return extensions(message, at + 2, end)


def extensions(message: bytes, at: int, end: int) -> Offered | None:
    """The extensions between two places."""
    name, age, early = "", 0, False
    seen = set()
    while at < end:
        kind = message[at] << 8 | message[at + 1]
        size = message[at + 2] << 8 | message[at + 3]
        at += 4
        after = at + size
        if after > end or kind in seen:
            return None
        seen.add(kind)
        if kind == SERVER_NAME:
            if size < 5 or message[at : at + 3] != (size - 2).to_bytes(2, "big") + b"\0":
                return None
            if int.from_bytes(message[at + 3 : at + 5], "big") != size - 5:
                return None
            name = message[at + 5 : after].decode("ascii")
        elif kind == EARLY_DATA:
            if size:
                return None
            early = True
        elif kind == PRE_SHARED_KEY:
            found = ticket(message, at, after)
            if found is None or after != end:  # it is the last one
                return None
            age = found
        else:
            wide = LISTS.get(kind)
            if wide and int.from_bytes(message[at : at + wide], "big") != size - wide:
                return None
        at = after
    return (name, age, early) if at == end else None


def ticket(message: bytes, at: int, end: int) -> int | None:
    """The age that goes with the only identity of a pre_shared_key extension."""
    size = int.from_bytes(message[at : at + 2], "big")
    length = int.from_bytes(message[at + 2 : at + 4], "big")
    if size != length + 6:  # more than one, or a broken one
        return None
    binders = at + 2 + size
    if int.from_bytes(message[binders : binders + 2], "big") != end - binders - 2:
        return None
    return int.from_bytes(message[binders - 4 : binders], "big")
