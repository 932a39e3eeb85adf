"""Session tickets of QUIC: single-use, shared by all workers, bound to a name and a protocol. What makes 0-RTT safe to offer.

Rules
1. What a ticket stands for is kept in the workers' shared memory (`net.quicshare`), and taken out by whoever it is shown to first.
   So a copy of a whole flight, byte by byte, opens nothing the second time, whichever worker gets it (RFC 8446 section 8.1).
2. It holds for the name and the ALPN it was given for. Early data counts only while the age that the client claims is what we
   see, give or take `SKEW` (section 8.3). When anything does not fit there is no resumption: a full handshake, and what was sent
   early is not read.
3. Without the shared memory (a lone process) a dictionary does the same.
"""

from __future__ import annotations

import struct
from datetime import timedelta
from time import time
from typing import Any, NamedTuple

HEAD = struct.Struct("!HIdIHHB")  # suite, age_add, issued, early, length of the secret, of the name, of the ALPN
SKEW = 10_000  # ms
DAY = 86_400  # seconds a ticket holds
MOST = 10_000  # tickets of a lone process


class Kept(NamedTuple):
    """A ticket that was shown: its cipher suite, what was added to its age, its age in seconds, early data, secret, and name."""

    suite: int
    add: int
    age: float
    early: int
    secret: bytes
    name: str


class Lone:
    """Tickets of one process."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}

    def keep(self, name: bytes, body: bytes) -> bool:
        while len(self.kept) >= MOST:
            self.kept.pop(next(iter(self.kept)))
        self.kept[name] = body
        return True

    def take(self, name: bytes) -> bytes | None:
        return self.kept.pop(name, None)


class Tickets:
    """`place` has `keep(name, body)` and `take(name)`: a `net.quicshare.Share`, or `Lone()`. `clock` gives wall-clock seconds."""

    def __init__(self, place: Any, alpn: str = "h3", clock: Any = time) -> None:
        self.place = place
        self.alpn = alpn.encode()
        self.clock = clock
        self.taken = self.refused = 0

    def keep(self, ticket: Any, name: str, module: Any) -> None:
        """A ticket was issued to a client that asked for `name`."""
        early = ticket.max_early_data_size or 0
        self.store(bytes(ticket.ticket), int(ticket.cipher_suite), ticket.age_add, early, bytes(ticket.resumption_secret), name)

    def store(self, identity: bytes, suite: int, add: int, early: int, secret: bytes, name: str) -> None:
        """As `keep`, with the number of the cipher suite, and how much early data may come with it."""
        asked = name.encode()
        sizes = (len(secret), len(asked), len(self.alpn))
        body = HEAD.pack(suite, add, self.clock(), early, *sizes)
        self.place.keep(identity, body + secret + asked + self.alpn)

    def judge(self, module: Any, name: str, age: int, early: bool, early_allowed: bool) -> Any:
        """The callback that finds a ticket for one ClientHello: it asks for `name`, claims the (obfuscated) `age`, and sends
        early data or not.
        """

        def find(identity: bytes) -> Any:
            kept = self.open(bytes(identity), name, age, early, early_allowed)
            if kept is None:
                return None
            begun = module.utcnow() - timedelta(seconds=kept.age)
            made = module.SessionTicket(
                age_add=kept.add,
                cipher_suite=module.CipherSuite(kept.suite),
                not_valid_before=begun,
                not_valid_after=begun + timedelta(seconds=DAY),
                resumption_secret=kept.secret,
                server_name=kept.name,
                ticket=identity,
            )
            made.max_early_data_size = kept.early or None
            return made

        return find

    def open(self, identity: bytes, name: str, age: int, early: bool, early_allowed: bool) -> Kept | None:
        """What this ticket stands for, for the ClientHello of `judge`; nobody gets it again. None when it does not hold."""
        body = self.place.take(identity)
        kept = self.read(body) if body is not None else None
        if kept is None or kept.name != name or kept.age > DAY:
            self.refused += 1
            return None
        if early and not (early_allowed and kept.early and self.fits(kept, age)):
            self.refused += 1
            return None
        self.taken += 1
        return kept

    def read(self, body: bytes) -> Kept | None:
        """What a body says; None when it is for another protocol."""
        suite, add, issued, early, secret, name, alpn = HEAD.unpack_from(body)
        at = HEAD.size
        end = at + secret + name
        if body[end : end + alpn] != self.alpn:
            return None
        age = max(0.0, self.clock() - issued)
        return Kept(suite, add, age, early, body[at : at + secret], body[at + secret : end].decode())

    def fits(self, kept: Kept, age: int) -> bool:
        """Is the age that the client claims what we see?"""
        claimed = (age - kept.add) & 0xFFFFFFFF
        return bool(abs(claimed - int(kept.age * 1000)) <= SKEW)
