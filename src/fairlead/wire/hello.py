"""What stands before a connection's own bytes: the PROXY protocol's header, versions 1 and 2 (HAProxy's specification, 2.1).

`peek(data)` looks at the first bytes and answers None for "more must come first", or an `Announced` with the number of bytes the
header took. It raises WireError for what is no header.

Rules
1. A header is all there is before the payload, whole and at the very start. A receiver that expects one takes nothing else
   (section 2: "must not guess"), so whoever may send one is configured, and everybody else is refused.
2. Version 1 is one line of ASCII, at most 107 bytes with its CRLF: `PROXY TCP4 src dst sport dport`. Addresses are written
   canonically enough for the machine's own parser; ports are decimal without leading zeros. UNKNOWN keeps the real addresses.
3. Version 2 is binary: a 12-byte signature, version and command, family and protocol, a length, addresses, then TLVs. LOCAL is
   the balancer's own health check: the real addresses count. Lengths must add up to the byte; a header over LARGEST is refused.
4. A CRC32c TLV (0x03), if there is one, must be right. TLVs are kept as (type, bytes) for whoever wants them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from fairlead.core.errors import WireError

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LINE = 107  # bytes of a version 1 header with its CRLF (section 2.1)
LARGEST = 4096  # bytes of a version 2 header; the format allows 65,551, senders use a few hundred
MOST_TLVS = 64
CRC, AUTHORITY, ALPN, UNIQUE_ID, SSL, NETNS, NOOP = 0x03, 0x02, 0x01, 0x05, 0x20, 0x30, 0x04


@dataclass(slots=True)
class Announced:
    """What a header says. `source` and `target` are (host, port) or a unix path, None for "as the socket says"."""

    size: int
    version: int
    source: tuple[str, int] | str | None = None
    target: tuple[str, int] | str | None = None
    local: bool = False
    tlvs: list[tuple[int, bytes]] = field(default_factory=list)

    def tlv(self, kind: int) -> bytes | None:
        """The first TLV of this type."""
        return next((value for one, value in self.tlvs if one == kind), None)


def peek(data: bytes) -> Announced | None:
    """The header at the start of `data`; see the module."""
    if data[:12] == SIGNATURE[: len(data)]:
        return binary(data) if len(data) >= 16 else None
    if data[:6] == b"PROXY "[: len(data)]:
        return line(data)
    raise wrong("the connection does not begin with a PROXY header")


def wrong(message: str) -> WireError:
    """A header that is none."""
    return WireError(message, status=0, rule="proxy-protocol", hint="see `proxy_protocol` of the listener")


# ---- version 1


def line(data: bytes) -> Announced | None:
    """A header of version 1."""
    end = data.find(b"\r\n", 0, LINE)
    if end < 0:
        if len(data) >= LINE or b"\n" in data:
            raise wrong("the PROXY line has no end")
        return None
    parts = data[:end].split(b" ")
    if parts[:2] == [b"PROXY", b"UNKNOWN"]:
        return Announced(end + 2, 1)
    if len(parts) != 6 or parts[1] not in (b"TCP4", b"TCP6"):
        raise wrong("the PROXY line is not of the form PROXY TCP4 source target port port")
    kind = IPv4Address if parts[1] == b"TCP4" else IPv6Address
    source, target = address(kind, parts[2]), address(kind, parts[3])
    return Announced(end + 2, 1, (source, port(parts[4])), (target, port(parts[5])))


def address(kind: type[IPv4Address] | type[IPv6Address], text: bytes) -> str:
    """An address of one family as text, as we write it."""
    try:
        found = kind(text.decode("ascii"))
    except ValueError:
        raise wrong(f"the PROXY line has the address {text[:64]!r}") from None
    if getattr(found, "scope_id", None):
        raise wrong("the PROXY line has an address with a zone")
    return str(found)


def port(text: bytes) -> int:
    """A port: decimal, no leading zero, at most 65535."""
    if not text.isdigit() or len(text) > 5 or (text[:1] == b"0" and text != b"0") or int(text) > 65535:
        raise wrong(f"the PROXY line has the port {text[:16]!r}")
    return int(text)


# ---- version 2

SIZES = {0x1: 12, 0x2: 36, 0x3: 216}  # bytes of the addresses of each family: IPv4, IPv6, unix


def binary(data: bytes) -> Announced | None:
    """A header of version 2."""
    version, command = data[12] >> 4, data[12] & 15
    family, protocol = data[13] >> 4, data[13] & 15
    length = int.from_bytes(data[14:16], "big")
    if version != 2 or command > 1:
        raise wrong("the PROXY header has an unknown version or command")
    if family > 3 or protocol > 2:
        raise wrong("the PROXY header has an unknown address family or protocol")
    if 16 + length > LARGEST:
        raise wrong(f"the PROXY header is larger than {LARGEST} bytes")
    if len(data) < 16 + length:
        return None
    body = data[16 : 16 + length]
    found = Announced(16 + length, 2, local=command == 0)
    used = SIZES.get(family, 0)
    if command == 0:
        used = min(used, length)  # addresses of a LOCAL header count for nothing, and may be left out
    elif family == 0 or protocol == 0:
        return found
    elif length < used:
        raise wrong("the PROXY header is too short for its addresses")
    else:
        found.source, found.target = ends(family, body)
    found.tlvs = tlvs(body, used)
    checked(found, data[: found.size])
    return found


def ends(family: int, body: bytes) -> tuple[tuple[str, int] | str, tuple[str, int] | str]:
    """(source, target) of a PROXY command."""
    if family == 3:
        return unix(body[:108]), unix(body[108:216])
    size = 4 if family == 1 else 16
    kind = IPv4Address if family == 1 else IPv6Address
    ports = body[2 * size : 2 * size + 4]
    return (
        (str(kind(body[:size])), int.from_bytes(ports[:2], "big")),
        (str(kind(body[size : 2 * size])), int.from_bytes(ports[2:], "big")),
    )


def unix(text: bytes) -> str:
    """A path, up to its NUL."""
    return text.partition(b"\0")[0].decode("utf-8", "replace")


def tlvs(body: bytes, at: int) -> list[tuple[int, bytes]]:
    """The type-length-value fields behind the addresses."""
    found: list[tuple[int, bytes]] = []
    while at < len(body):
        if at + 3 > len(body) or len(found) >= MOST_TLVS:
            raise wrong("the PROXY header's fields do not add up")
        size = int.from_bytes(body[at + 1 : at + 3], "big")
        if at + 3 + size > len(body):
            raise wrong("the PROXY header's fields do not add up")
        if body[at] != NOOP:
            found.append((body[at], body[at + 3 : at + 3 + size]))
        at += 3 + size
    return found


def checked(found: Announced, header: bytes) -> None:
    """Rule 4."""
    given = found.tlv(CRC)
    if given is None:
        return
    if len(given) != 4:
        raise wrong("the PROXY header's checksum is not four bytes")
    place = header.rindex(bytes((CRC, 0, 4)) + given) + 3
    if crc32c(header[:place] + bytes(4) + header[place + 4 :]) != int.from_bytes(given, "big"):
        raise wrong("the PROXY header's checksum is wrong")


def crc32c(data: bytes) -> int:
    """CRC32c (Castagnoli, RFC 4960 appendix B), bit by bit: headers are short and rarely have one."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def told(source: tuple[str, int], target: tuple[str, int]) -> bytes:
    """A version 2 header for a connection we make for `source` to `target` (addresses of one family)."""
    six = ":" in source[0] or ":" in target[0]
    kind = IPv6Address if six else IPv4Address

    def packed(host: str) -> bytes:
        return kind(f"::ffff:{host}" if six and ":" not in host else host).packed

    body = packed(source[0]) + packed(target[0]) + source[1].to_bytes(2, "big") + target[1].to_bytes(2, "big")
    return SIGNATURE + bytes((0x21, 0x21 if six else 0x11)) + len(body).to_bytes(2, "big") + body
