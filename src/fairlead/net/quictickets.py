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
from typing import Any

HEAD = struct.Struct("!HIdIHHB")  # suite, age_add, issued, early, length of the secret, of the name, of the ALPN
SKEW = 10_000  # ms
MOST = 10_000  # tickets of a lone process


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
        secret, asked = bytes(ticket.resumption_secret), name.encode()
        early = ticket.max_early_data_size or 0
        sizes = (len(secret), len(asked), len(self.alpn))
        body = HEAD.pack(int(ticket.cipher_suite), ticket.age_add, self.clock(), early, *sizes)
        self.place.keep(bytes(ticket.ticket), body + secret + asked + self.alpn)

    def judge(self, module: Any, name: str, age: int, early: bool, early_allowed: bool) -> Any:
        """The callback that finds a ticket for one ClientHello: it asks for `name`, claims the (obfuscated) `age`, and sends
        early data or not.
        """

        def find(identity: bytes) -> Any:
            body = self.place.take(bytes(identity))
            found = self.read(module, bytes(identity), body) if body is not None else None
            if found is None or (found.server_name or "") != name:
                self.refused += 1
                return None
            if early and not (early_allowed and found.max_early_data_size and self.fits(found, age)):
                self.refused += 1
                return None
            self.taken += 1
            return found

        return find

    def read(self, module: Any, identity: bytes, body: bytes) -> Any:
        """The ticket that a body stands for, as the engine has it; None when it is for another protocol."""
        suite, add, issued, early, secret, name, alpn = HEAD.unpack_from(body)
        at = HEAD.size
        end = at + secret + name
        if body[end : end + alpn] != self.alpn:
            return None
        age = timedelta(seconds=max(0.0, self.clock() - issued))
        begun = module.utcnow() - age
        made = module.SessionTicket(
            age_add=add,
            cipher_suite=module.CipherSuite(suite),
            not_valid_before=begun,
            not_valid_after=begun + timedelta(days=1),
            resumption_secret=body[at : at + secret],
            server_name=body[at + secret : end].decode(),
            ticket=identity,
        )
        made.max_early_data_size = early or None
        return made

    def fits(self, ticket: Any, age: int) -> bool:
        """Is the age that the client claims what we see?"""
        claimed = (age - ticket.age_add) & 0xFFFFFFFF
        seen = ticket.obfuscated_age - ticket.age_add & 0xFFFFFFFF
        return bool(abs(claimed - seen) <= SKEW)
