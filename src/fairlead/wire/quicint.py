"""Integers of QUIC (RFC 9000 section 16), written; HTTP/3, capsules and transport parameters have them, too."""

from __future__ import annotations

_FOUR = 0x3FFF
_EIGHT = 0x3FFFFFFF


def varint(value):
    """A QUIC integer (RFC 9000 section 16) in the fewest bytes; with bit 62 set, in four at least."""
    wide = value >> 62
    value &= 0x3FFFFFFFFFFFFFFF
    if value <= 63 and not wide:
        return bytes((value,))
    if value <= _FOUR and not wide:
        return bytes((0x40 | value >> 8, value & 255))
    if value <= _EIGHT:
        return (value | 0x80000000).to_bytes(4, "big")
    return (value | 0xC000000000000000).to_bytes(8, "big")
