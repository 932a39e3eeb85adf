"""The capsule protocol (RFC 9297 section 3): typed messages in the bytes of a tunnel, the same over every version of HTTP.

    capsule = type, length (QUIC integers, RFC 9000 section 16), payload          DATAGRAM is type 0

Rules
1. `Split` takes the datagrams out and lets every other capsule pass as it comes, for who carries a tunnel and knows no more of it:
   a type that nobody knows is none of its business (section 3.2).
2. A datagram is told when it is whole. One whose length is beyond `most` is passed over as it comes, and nothing of it is kept.
3. What is kept is joined once, when it is enough: a capsule that comes byte by byte costs its bytes, not their square.
4. A tunnel that ends inside a capsule was cut: `whole` is False (section 3.3).
"""

from __future__ import annotations

from fairlead.wire.quicint import varint

DATAGRAM = 0
MOST = 65536  # bytes of a capsule's payload: no UDP datagram is longer


class Split:
    """Parts a tunnel's bytes: DATAGRAM capsules are told, all others pass. One of more than `most` bytes is dropped (`dropped`)."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.rest = bytearray()  # a capsule that is not whole
        self.need = 0  # bytes of it that something can be done with
        self.left = self.skip = self.dropped = 0

    @property
    def whole(self) -> bool:
        """No capsule is cut where the bytes end so far."""
        return not self.rest and not self.left and not self.skip

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """(datagrams, all that is none)."""
        if self.rest:
            self.rest += data
            if len(self.rest) < self.need:
                return [], b""
            data, self.rest = bytes(self.rest), bytearray()
        datagrams: list[bytes] = []
        passed: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            if self.left or self.skip:
                size = min(self.left or self.skip, end - at)
                if self.left:
                    passed.append(data[at : at + size])
                    self.left -= size
                else:
                    self.skip -= size
                at += size
                continue
            kind, inside = integer(data, at)
            size, inside = integer(data, inside) if kind >= 0 else (-1, inside)
            if size < 0 or (kind == DATAGRAM and end - inside < size <= self.most):
                self.rest = bytearray(data[at:])
                self.need = inside - at + size if size >= 0 else end - at + 1
                break
            if kind != DATAGRAM:
                passed.append(data[at:inside])
                self.left, at = size, inside
            elif size > self.most:
                self.dropped += 1
                self.skip, at = size, inside
            else:
                datagrams.append(data[inside : inside + size])
                at = inside + size
        return datagrams, b"".join(passed)


def capsule(kind: int, payload: bytes) -> bytes:
    """One capsule."""
    return varint(kind) + varint(len(payload)) + payload


def integer(data: bytes, at: int) -> tuple[int, int]:
    """A QUIC integer and where it ends; -1 when it is not whole."""
    if at >= len(data):
        return -1, at
    size = 1 << (data[at] >> 6)
    if len(data) - at < size:
        return -1, at
    return int.from_bytes(data[at : at + size], "big") & ((1 << (8 * size - 2)) - 1), at + size
