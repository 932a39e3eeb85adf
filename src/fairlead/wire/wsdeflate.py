"""permessage-deflate (RFC 7692): its negotiation, and the compression of one WebSocket's messages.

Rules
1. All four parameters are understood, once each, with the values the RFC allows (section 7.1); an offer that is not well
   formed is passed over, and so is a list longer than `LONGEST`; the first good one is taken. An answer that was not offered
   so breaks the connection.
2. Without context takeover (the default, for it costs nothing while idle) a direction keeps no state between messages:
   the inflater is dropped, and one deflater serves all sockets of an event loop: Z_FULL_FLUSH ends each message, so that
   nothing later refers back to it. With takeover both are made at the first compressed message.
3. zlib cannot write a window of 256 bytes, but at 512 its matches reach back 250 at most (512 less its 262 of
   look-ahead), so the 8 bits of a `server_max_window_bits=8` are kept by its 9.
4. Inflating stops behind the limit it is given: a bomb costs its limit and no more. A final DEFLATE block may stand
   inside a message (section 7.2.3.4), at most `ENDS` times, for each costs us a new inflater.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

NAME = "permessage-deflate"
TAIL = b"\x00\x00\xff\xff"
ENDS = 16
LONGEST = 2048  # bytes of all Sec-WebSocket-Extensions together: browsers send 45, and HPACK repeats long ones for a byte
ALONE = ("server_no_context_takeover", "client_no_context_takeover")
BITS = ("server_max_window_bits", "client_max_window_bits")


class BadDeflate(Exception):
    """Bytes that are no DEFLATE data."""


class TooLong(Exception):
    """The message is longer inflated than it may be."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What we want of permessage-deflate: `bits` of window (9 to 15), zlib's `level`, `least` bytes worth compressing."""

    takeover: bool = False
    bits: int = 12
    level: int = 1
    least: int = 128


class Shared:
    """Deflaters that keep nothing between messages, for all sockets of one event loop."""

    def __init__(self):
        self.made = {}

    def pack(self, data, bits, level):
        """`data` as one message that refers to no other."""
        deflater = self.made.get((bits, level))
        if deflater is None:
            deflater = self.made[bits, level] = zlib.compressobj(level, zlib.DEFLATED, -bits, 8)
        return deflater.compress(data) + deflater.flush(zlib.Z_FULL_FLUSH)


class Deflate:
    """The compression agreed for one WebSocket. `packs` and `unpacks`: (takeover, window bits) of each direction."""

    __slots__ = ("bits", "deflater", "ends", "inflater", "least", "level", "peer_bits", "shared", "takeover", "takes_over")

    def __init__(self, settings, packs, unpacks, shared=None):
        self.level = settings.level
        self.least = settings.least
        self.takeover, self.bits = packs
        self.takes_over, self.peer_bits = unpacks
        self.shared = shared if shared is not None else Shared()
        self.deflater = None
        self.inflater = None
        self.ends = 0

    def pack(self, data):
        """A message's payload, compressed (section 7.2.1)."""
        if not data:
            return b"\x00"
        bits = max(9, self.bits)
        if not self.takeover:
            return self.shared.pack(data, bits, self.level)[:-4]
        if self.deflater is None:
            self.deflater = zlib.compressobj(self.level, zlib.DEFLATED, -bits, max(1, bits - 7))
        return (self.deflater.compress(data) + self.deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]

    def unpack(self, data, most):
        """The next piece of a message inflated, at most `most` bytes (-1: any). Raises TooLong and BadDeflate."""
        pieces = []
        while True:
            if self.inflater is None:
                self.inflater = zlib.decompressobj(-max(9, self.peer_bits))
            try:
                piece = self.inflater.decompress(data, most + 1 if most >= 0 else 0)
            except zlib.error as error:
                raise BadDeflate(str(error)) from None
            if piece:
                pieces.append(piece)
                if most >= 0:
                    most -= len(piece)
                    if most < 0:
                        raise TooLong
            if not self.inflater.eof:
                break
            data = self.inflater.unused_data
            self.inflater = None
            self.ends += 1
            if self.ends > ENDS:
                raise BadDeflate("too many final blocks in one message")
            if not data:
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def finish(self, most):
        """The end of a message: what its last bytes inflate to."""
        rest = self.unpack(TAIL, most)
        self.ends = 0
        if not self.takes_over:
            self.inflater = None
        return rest


# ---- negotiation


def read_extensions(values):
    """[(name, [(parameter, value or None)])] of Sec-WebSocket-Extensions values (RFC 6455 9.1); None: not well formed."""
    found = []
    whole = b",".join(values)
    if len(whole) > LONGEST:
        return None
    for element in split(whole.decode("latin-1"), ","):
        parts = [part.strip(" \t") for part in split(element, ";")]
        if not parts[0]:
            if len(parts) > 1:
                return None
            continue
        parameters = []
        for part in parts[1:]:
            name, sign, value = part.partition("=")
            name, value = name.strip(" \t"), value.strip(" \t")
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1]
            if not name or (sign and not value):
                return None
            parameters.append((name.lower(), value if sign else None))
        found.append((parts[0].lower(), parameters))
    return found


def split(text, mark):
    """`text` cut at `mark`, but not inside quotes."""
    if '"' not in text:
        return text.split(mark)
    pieces = []
    begin = 0
    quoted = False
    for i, c in enumerate(text):
        if c == '"':
            quoted = not quoted
        elif c == mark and not quoted:
            pieces.append(text[begin:i])
            begin = i + 1
    pieces.append(text[begin:])
    return pieces


def parameters_of(pairs, answer):
    """{name: value} when every parameter is known, once, and has a value the RFC allows; else None. Window bits are ints."""
    found: dict[str, int] = {}
    for name, value in pairs:
        if name in found:
            return None
        if name in ALONE and value is None:
            found[name] = 1
        elif name in BITS and value is not None and value in ("8", "9", "10", "11", "12", "13", "14", "15"):
            found[name] = int(value)
        elif name == "client_max_window_bits" and value is None and not answer:
            found[name] = 15
        else:
            return None
    return found


def accept(values, settings, shared=None):
    """Server: (Deflate, the answer's field value) for the first offer we can take, or (None, b"")."""
    for name, pairs in read_extensions(values) or ():
        offer = parameters_of(pairs, False) if name == NAME else None
        if offer is None:
            continue
        parts = [NAME]
        takeover = settings.takeover and "server_no_context_takeover" not in offer
        takes_over = settings.takeover and "client_no_context_takeover" not in offer
        if not takeover:
            parts.append("server_no_context_takeover")
        if not takes_over:
            parts.append("client_no_context_takeover")
        bits = min(settings.bits, offer.get("server_max_window_bits", 15))
        if "server_max_window_bits" in offer:
            parts.append(f"server_max_window_bits={bits}")
        peer_bits = 15
        if "client_max_window_bits" in offer:
            peer_bits = min(settings.bits, offer["client_max_window_bits"])
            parts.append(f"client_max_window_bits={peer_bits}")
        made = Deflate(settings, (takeover, bits), (takes_over, peer_bits), shared)
        return made, "; ".join(parts).encode()
    return None, b""


def offer(settings):
    """Client: the value of Sec-WebSocket-Extensions."""
    value = f"{NAME}; server_max_window_bits={settings.bits}; client_max_window_bits"
    if not settings.takeover:
        value += "; server_no_context_takeover; client_no_context_takeover"
    return value.encode()


def agreed(values, settings, shared=None):
    """Client: the Deflate of an answer to `offer`, None without one. ValueError for an answer we did not ask for."""
    found = read_extensions(values)
    if found == []:
        return None
    if not found or len(found) > 1 or found[0][0] != NAME:
        raise ValueError("the server chose an extension that was not offered")
    answer = parameters_of(found[0][1], True)
    if answer is None or answer.get("server_max_window_bits", 15) > settings.bits:
        raise ValueError("the server's permessage-deflate does not fit the offer")
    if not settings.takeover and "server_no_context_takeover" not in answer:
        raise ValueError("the server did not give up its context as the offer asked")
    takeover = settings.takeover and "client_no_context_takeover" not in answer
    takes_over = "server_no_context_takeover" not in answer
    bits = min(settings.bits, answer.get("client_max_window_bits", 15))
    return Deflate(settings, (takeover, bits), (takes_over, answer.get("server_max_window_bits", 15)), shared)
