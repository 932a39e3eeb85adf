# cython: annotation_typing=False
"""What a server asks of a ClientHello (RFC 8446 section 4.1.2): the name and what is to be resumed, before its TLS reads it; and
for our own side of a handshake (`net.quictls`) all that one needs.

    read(message) -> Hello or None        offered(message) -> (name, age, early) or None

Rules
1. A second reader of the same bytes must not understand them in another way than the first. So this one takes only the plain
   form: each length fills what is around it exactly, no extension comes twice, names are ASCII, nothing follows. For all else it
   answers None, and the caller asks the TLS engine, whose word counts.
2. `name` is the host_name of server_name (RFC 6066 section 3), "" without one. `age` is the obfuscated age of the one ticket that
   is offered (section 4.2.11), 0 when there is none or more than one. `early` says whether early data is announced (4.2.10).
3. Lists of numbers stay as they came, two bytes each (`has`), but for the shares of keys and the names of protocols.
"""

from __future__ import annotations

SERVER_NAME, GROUPS, SIGNATURES, ALPN, PRE_SHARED_KEY, EARLY_DATA = 0, 10, 13, 16, 41, 42
VERSIONS, MODES, SHARES, PARAMETERS = 43, 45, 51, 57
Offered = tuple[str, int, bool]


class Hello:
    """A plain ClientHello."""

    def __init__(self) -> None:
        self.name = ""
        self.age = 0
        self.early = False
        self.session = self.suites = self.compressions = b""
        self.signatures = self.versions = self.modes = b""
        self.protocols: list[bytes] = []
        self.shares: list[tuple[int, bytes]] = []  # (group, public key), as the client would have them
        self.identity: bytes | None = None  # of the one ticket that is offered
        self.binder: bytes | None = None  # None also when there are several
        self.binders = 0  # where the list of binders begins
        self.parameters: bytes | None = None  # of QUIC (RFC 9001 section 8.2)


def offered(message: bytes) -> Offered | None:
    """See the module. `message` begins with the handshake header."""
    found = read(message)
    return None if found is None else (found.name, found.age, found.early)


def read(message: bytes) -> Hello | None:
    """See the module."""
    hello = Hello()
    try:
        plain = walk(hello, message)
    except (IndexError, ValueError, OverflowError):
        return None
    return hello if plain else None


def has(numbers: bytes, wanted: int) -> bool:
    """Is this number in a list of numbers of two bytes?"""
    for at in range(0, len(numbers) - 1, 2):  # noqa: SIM110
        if numbers[at] << 8 | numbers[at + 1] == wanted:
            return True
    return False


def two(message: bytes, at: int) -> int:
    """The number of two bytes at a place."""
    return message[at] << 8 | message[at + 1]


def walk(hello: Hello, message: bytes) -> bool:
    """All of a ClientHello."""
    end = len(message)
    if message[0] != 1 or message[1] or two(message, 2) != end - 4 or two(message, 4) != 0x0303:
        return False
    at = 39 + message[38]
    hello.session = message[39:at]
    size = two(message, at)
    hello.suites = message[at + 2 : at + 2 + size]
    at += 2 + size
    size = message[at]
    hello.compressions = message[at + 1 : at + 1 + size]
    at += 1 + size
    if two(message, at) != end - at - 2 or len(hello.suites) & 1:
        return False
    at += 2
    seen = set()
    while at < end:
        kind = two(message, at)
        after = at + 4 + two(message, at + 2)
        if after > end or kind in seen:
            return False
        seen.add(kind)
        if not extension(hello, kind, message, at + 4, after):
            return False
        if kind == PRE_SHARED_KEY and after != end:  # it is the last one
            return False
        at = after
    return at == end


def extension(hello: Hello, kind: int, message: bytes, at: int, end: int) -> bool:
    """One extension, between two places."""
    size = end - at
    if kind == SERVER_NAME:
        if size < 5 or two(message, at) != size - 2 or message[at + 2] or two(message, at + 3) != size - 5:
            return False
        hello.name = message[at + 5 : end].decode("ascii")
    elif kind == EARLY_DATA:
        hello.early = True
        return size == 0
    elif kind == PRE_SHARED_KEY:
        return ticket(hello, message, at, end)
    elif kind == PARAMETERS:
        hello.parameters = message[at:end]
    elif kind in (VERSIONS, MODES):
        if message[at] != size - 1:
            return False
        if kind == MODES:
            hello.modes = message[at + 1 : end]
        else:
            hello.versions = message[at + 1 : end]
            return size & 1 == 1
    elif kind in (GROUPS, SIGNATURES, ALPN, SHARES):
        if two(message, at) != size - 2:
            return False
        if kind == ALPN:
            return protocols(hello, message, at + 2, end)
        if kind == SHARES:
            return shares(hello, message, at + 2, end)
        if kind == SIGNATURES:
            hello.signatures = message[at + 2 : end]
        return size & 1 == 0
    return True


def protocols(hello: Hello, message: bytes, at: int, end: int) -> bool:
    """The names of RFC 7301."""
    while at < end:
        after = at + 1 + message[at]
        hello.protocols.append(message[at + 1 : after])
        at = after
    return at == end


def shares(hello: Hello, message: bytes, at: int, end: int) -> bool:
    """The keys of section 4.2.8."""
    while at < end:
        after = at + 4 + two(message, at + 2)
        hello.shares.append((two(message, at), message[at + 4 : after]))
        at = after
    return at == end


def ticket(hello: Hello, message: bytes, at: int, end: int) -> bool:
    """The only identity of a pre_shared_key extension."""
    size, length = two(message, at), two(message, at + 2)
    if size != length + 6:  # more than one, or a broken one
        return False
    binders = at + 2 + size
    if two(message, binders) != end - binders - 2:
        return False
    hello.identity = message[at + 4 : at + 4 + length]
    hello.age = two(message, binders - 4) << 16 | two(message, binders - 2)
    hello.binders = binders
    if message[binders + 2] == end - binders - 3:
        hello.binder = message[binders + 3 : end]
    return True
