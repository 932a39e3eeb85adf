"""What stands in the clear at the head of a QUIC datagram, and the two packets that a server sends without a connection.

Rules
1. Only what RFC 8999 promises of every version (the form bit, the version, the ids of a long header), and of version 1 the packet
   type and an Initial's token (RFC 9000 section 17.2). What is protected is the engine's.
2. Ids that we issue have `CID` bytes; a short header (section 17.3) holds no length, so that is how much of it is one.
3. A datagram that cannot be parsed is None: it is dropped in silence (section 5.2.2).
4. Version Negotiation (section 17.2.1) answers an unknown version in a datagram that is large enough to open a connection, and
   is smaller than it (section 6.1). A stateless reset (section 10.3) is smaller than what it answers, so that two ends that lost
   their state do not answer each other for ever, and looks like a short packet with `random` bytes before its token.
"""

from __future__ import annotations

CID = 8  # bytes of each id that we issue
LEAST = 1200  # bytes of a datagram that may open a connection (section 14.1)
VERSION_1 = 0x00000001
INITIAL, ZERO_RTT, HANDSHAKE, RETRY, SHORT, OTHER = "initial", "0rtt", "handshake", "retry", "short", "other"
KINDS = (INITIAL, ZERO_RTT, HANDSHAKE, RETRY)
RESET_LEAST = 21  # a shorter packet gets no reset, and none is shorter (section 10.3)
TOKEN = 16


class Head:
    """The head of a datagram's first packet. `kind` is one of the names above ("other": a version that we do not speak)."""

    __slots__ = ("destination", "kind", "source", "token", "version")

    def __init__(self, kind: str, version: int, destination: bytes, source: bytes, token: bytes) -> None:
        self.kind = kind
        self.version = version
        self.destination = destination
        self.source = source
        self.token = token


def head(data: bytes) -> Head | None:
    """The head of a datagram, or None."""
    if not data or len(data) < 1 + CID:
        return None
    if not data[0] & 0x80:
        return Head(SHORT, 0, data[1 : 1 + CID], b"", b"")
    at = 6 + data[5]
    if len(data) <= at:
        return None
    destination = data[6:at]
    end = at + 1 + data[at]
    if len(data) < end:
        return None
    source = data[at + 1 : end]
    version = int.from_bytes(data[1:5], "big")
    if version != VERSION_1:
        return Head(OTHER, version, destination, source, b"")
    if len(destination) > 20 or len(source) > 20 or not data[0] & 0x40:
        return None
    kind = KINDS[data[0] >> 4 & 3]
    if kind != INITIAL:
        return Head(kind, version, destination, source, b"")
    token = prefixed(data, end)
    return None if token is None else Head(kind, version, destination, source, token)


def prefixed(data: bytes, at: int) -> bytes | None:
    """Bytes behind a length (a variable-length integer, section 16); None when they are cut."""
    if at >= len(data):
        return None
    size = 1 << (data[at] >> 6)
    if at + size > len(data):
        return None
    length = int.from_bytes(data[at : at + size], "big") & (1 << 8 * size - 2) - 1
    start = at + size
    return data[start : start + length] if start + length <= len(data) else None


def version_negotiation(asked: Head, versions: tuple[int, ...], random: int) -> bytes:
    """The answer to a version that we do not speak. `random`: bits of the first byte."""
    parts = [bytes((0x80 | random & 0x7F,)), bytes(4), bytes((len(asked.source),)), asked.source]
    parts += [bytes((len(asked.destination),)), asked.destination, *(one.to_bytes(4, "big") for one in versions)]
    return b"".join(parts)


def stateless_reset(token: bytes, answered: int, random: bytes) -> bytes | None:
    """A reset for a packet of `answered` bytes; None when that one is too small. `random`: at least 40 bytes."""
    size = min(answered - 1, 41)
    if size < RESET_LEAST:
        return None
    body = random[: size - TOKEN]
    return bytes((0x40 | body[0] & 0x3F,)) + body[1:] + token
