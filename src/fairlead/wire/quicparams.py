# cython: annotation_typing=False
"""Transport parameters of QUIC (RFC 9000 section 18): what a server says, and what a plain client told it.

    told(numbers, strings) -> bytes        heard(data, source) -> Heard or None

Rules
1. As for a ClientHello (`wire.offer`): what is not plain, or breaks a rule (sections 7.3, 7.4, 18.2; RFC 9368 section 4), is None
   here, and the engine says what is wrong with it.
2. A client says each once, none of those that are a server's, its own id as the `source` that its packets have, and, when it names
   versions, that it speaks version 1.
"""

from __future__ import annotations

from fairlead.wire.quicint import varint

IDLE, PAYLOAD, DATA, LOCAL, REMOTE, UNI = 1, 3, 4, 5, 6, 7
STREAMS, STREAMS_UNI, EXPONENT, DELAY, NO_MOVING, IDS, SOURCE = 8, 9, 10, 11, 12, 14, 15
VERSIONS, DATAGRAM, ROUND_TRIP = 17, 32, 0x3127
OF_SERVERS = (0, 2, 13, 16)
ALONE = b"\0\0\0\1"  # version 1


class Heard:
    """What a client told, with the defaults of section 18.2 for what it did not tell."""

    def __init__(self) -> None:
        self.idle = self.data = self.local = self.remote = self.uni = self.streams = self.streams_uni = 0
        self.exponent = 3
        self.delay = 25
        self.ids = 2
        self.payload = self.datagram = -1  # not told
        self.still = False  # it will not move
        self.named = False  # it told its own id


def told(numbers: tuple[tuple[int, int | None], ...], strings: tuple[tuple[int, bytes | None], ...]) -> bytes:
    """Parameters that are numbers and those that are bytes; None is not said."""
    out: list[bytes] = []
    for kind, number in numbers:
        if number is not None:
            body = varint(number)
            out += (varint(kind), varint(len(body)), body)
    for kind, text in strings:
        if text is not None:
            out += (varint(kind), varint(len(text)), text)
    return b"".join(out)


def heard(data: bytes, source: bytes) -> Heard | None:
    """See the module."""
    found = Heard()
    try:
        plain = walk(found, data, source)
    except (IndexError, ValueError, OverflowError):
        return None
    return found if plain else None


def number(data: bytes, at: int) -> int:
    """A varint (section 16); 62 bits at most."""
    first = data[at]
    value = first & 0x3F
    for step in range(1, 1 << (first >> 6)):
        value = value << 8 | data[at + step]
    return value


def walk(found: Heard, data: bytes, source: bytes) -> bool:
    """All of them."""
    at, end = 0, len(data)
    seen = set()
    while at < end:
        kind = number(data, at)
        at += 1 << (data[at] >> 6)
        size = number(data, at)
        at += 1 << (data[at] >> 6)
        if kind in seen or kind in OF_SERVERS or size > end - at:
            return False
        seen.add(kind)
        if kind == SOURCE:
            found.named = data[at : at + size] == source
        elif kind == NO_MOVING:
            found.still = True
            if size:
                return False
        elif kind == VERSIONS:
            if not speaks(data, at, size):
                return False
        elif kind < 15 or kind in (DATAGRAM, ROUND_TRIP):
            if not size or size != 1 << (data[at] >> 6) or not keep(found, kind, number(data, at)):
                return False
        at += size
    return found.named


def keep(found: Heard, kind: int, value: int) -> bool:
    """One that is a number; False when it may not be this one."""
    if kind == IDLE:
        found.idle = value
    elif kind == DATA:
        found.data = value
    elif kind == LOCAL:
        found.local = value
    elif kind == REMOTE:
        found.remote = value
    elif kind == UNI:
        found.uni = value
    elif kind == STREAMS:
        found.streams = value
        return value <= 1 << 60
    elif kind == STREAMS_UNI:
        found.streams_uni = value
        return value <= 1 << 60
    elif kind == EXPONENT:
        found.exponent = value
        return value <= 20
    elif kind == DELAY:
        found.delay = value
        return value < 1 << 14
    elif kind == IDS:
        found.ids = value
        return value >= 2
    elif kind == PAYLOAD:
        found.payload = value
        return value >= 1200
    elif kind == DATAGRAM:
        found.datagram = value
    return True


def speaks(data: bytes, at: int, size: int) -> bool:
    """Version Information (RFC 9368 section 3): version 1 was chosen, is among those that are spoken, and none is 0."""
    if size < 8 or size & 3 or data[at : at + 4] != ALONE:
        return False
    spoken = False
    for place in range(at + 4, at + size, 4):
        one = data[place : place + 4]
        if one == b"\0\0\0\0":
            return False
        spoken = spoken or one == ALONE
    return spoken
