"""The frames of a QUIC packet of application data, as far as somebody needs who is not the engine.

Rules
1. Only where each frame begins and ends (RFC 9000 section 19, RFC 9221 section 4). What is inside is the engine's.
2. A payload that is cut, or has a frame of no known type, raises ValueError: the engine says the right error code.
3. PADDING, PATH_CHALLENGE, PATH_RESPONSE and NEW_CONNECTION_ID probe a path; a packet with any other frame means that its sender
   has moved to where it came from (section 9.1).
"""

from __future__ import annotations

PADDING, PING, NEW_TOKEN, NEW_CONNECTION_ID, PATH_CHALLENGE, PATH_RESPONSE = 0x00, 0x01, 0x07, 0x18, 0x1A, 0x1B
PROBING = frozenset((PADDING, NEW_CONNECTION_ID, PATH_CHALLENGE, PATH_RESPONSE))
NUMBERS = {  # how many integers a frame has, for those that have nothing else
    PING: 0, 0x04: 3, 0x05: 2, 0x10: 1, 0x11: 2, 0x12: 1, 0x13: 1, 0x14: 1, 0x15: 2, 0x16: 1, 0x17: 1, 0x19: 1, 0x1E: 0,
}  # fmt: skip
BEFORE = {0x06: 1, NEW_TOKEN: 0, 0x1C: 2, 0x1D: 1, 0x31: 0}  # integers before a length and so many bytes


def integer(data: bytes, at: int) -> tuple[int, int]:
    """(number, where it ends) of a variable-length integer (section 16)."""
    if at >= len(data):
        raise ValueError("the payload is cut")
    size = 1 << (data[at] >> 6)
    if at + size > len(data):
        raise ValueError("the payload is cut")
    return int.from_bytes(data[at : at + size], "big") & (1 << 8 * size - 2) - 1, at + size


def frames(payload: bytes) -> list[tuple[int, int, int]]:
    """(type, where the frame begins, where it ends) of each; runs of PADDING are left out."""
    found, at, size = [], 0, len(payload)
    while at < size:
        if payload[at] == PADDING:
            at = size - len(payload[at:].lstrip(b"\0"))
            continue
        begin = at
        kind, at = integer(payload, at)
        at = past(payload, kind, at)
        if at > size:
            raise ValueError("the payload is cut")
        found.append((kind, begin, at))
    return found


def past(payload: bytes, kind: int, at: int) -> int:
    """Where a frame of this type, whose body begins at `at`, is over."""
    if kind in (PATH_CHALLENGE, PATH_RESPONSE):
        return at + 8
    if 0x08 <= kind <= 0x0F:  # STREAM: id, perhaps an offset, perhaps a length
        for _ in range(1 + (kind >> 2 & 1)):
            _, at = integer(payload, at)
        if not kind & 2:
            return len(payload)
        length, at = integer(payload, at)
        return at + length
    if kind in (0x02, 0x03):
        return past_ack(payload, kind, at)
    if kind == 0x30:
        return len(payload)
    if kind == NEW_CONNECTION_ID:
        for _ in range(2):
            _, at = integer(payload, at)
        length, at = integer(payload, at)  # one byte, of at most 20
        return at + length + 16
    if kind in BEFORE:
        for _ in range(BEFORE[kind]):
            _, at = integer(payload, at)
        length, at = integer(payload, at)
        return at + length
    if kind not in NUMBERS:
        raise ValueError(f"a frame of type {kind:#x}")
    for _ in range(NUMBERS[kind]):
        _, at = integer(payload, at)
    return at


def past_ack(payload: bytes, kind: int, at: int) -> int:
    """The largest, the delay, how many ranges, the first, then two for each, and three for ECN (section 19.3)."""
    count = 0
    for place in range(4):
        number, at = integer(payload, at)
        if place == 2:
            count = number
    for _ in range(2 * count + (3 if kind == 0x03 else 0)):
        _, at = integer(payload, at)
    return at


def acknowledged(payload: bytes) -> list[tuple[int, int]]:
    """The ranges (first, last) of a payload's ACK frame, the newest first; [] when it has none, or is cut."""
    out: list[tuple[int, int]] = []
    try:
        for kind, begin, _ in frames(payload):
            if kind not in (0x02, 0x03):
                continue
            last, at = integer(payload, begin + 1)
            _, at = integer(payload, at)
            count, at = integer(payload, at)
            length, at = integer(payload, at)
            out.append((last - length, last))
            for _ in range(count):
                gap, at = integer(payload, at)
                length, at = integer(payload, at)
                last = out[-1][0] - gap - 2
                out.append((last - length, last))
    except ValueError:
        return []
    return out
