"""Address tokens and reset tokens: what a client proves with, and what proves us. Shared by all workers through one key.

Rules
1. A Retry token (RFC 9000 section 8.1.2) says which address asked, with which ids, and until when it holds, and is sealed with
   HMAC-SHA-256: any worker can check what another made, and keeps nothing. It names the ids because the transport parameters
   must repeat them (section 7.3). It is no secret: whoever sees it must still send from that address.
2. A token for later (NEW_TOKEN, section 8.1.3) proves the host, not the port, for `LATER` seconds, and once: who checks it writes
   its number into what the workers share. When it was made is covered, so that nobody can tell from it when a client was here
   before. One from the server that we took over from counts too.
3. A stateless reset token is a function of the key and the id (section 10.3.2), so a worker can answer for a connection that died
   with another.
4. Times are seconds of the wall clock, which workers share.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
from typing import Any

SEAL = 16
LIFE = 10  # seconds a Retry token holds: a round trip and some time to spare
LATER = 86_400  # seconds a token for later holds: an address may be somebody else's after that
NUMBER, TIME = 8, 5  # bytes
MOST = 10_000  # numbers that a lone process remembers


class Tokens:
    """Made and checked with one secret key. The names are secrets too: `name` of our workers, `older` of those of the server that
    we took over from ("" for none), `lasting` of what the two have in common.
    """

    def __init__(self, key: bytes, previous: bytes = b"", lasting: bytes = b"") -> None:
        self.retry_key = derive(key, b"retry")
        self.later_keys = [derive(one, b"later") for one in (key, previous) if any(one)]
        self.spent: dict[bytes, None] = {}
        self.reset_key = derive(key, b"reset")
        self.name = secret_name(key)
        self.older = secret_name(previous) if any(previous) else ""
        self.lasting = secret_name(lasting or key)

    def retry(self, peer: tuple[str, int], original: bytes, source: bytes, now: float) -> bytes:
        """A token for a client at `peer` that wrote to `original` and is to write to `source`."""
        body = (int(now) + LIFE).to_bytes(5, "big") + bytes((len(original),)) + original + bytes((len(source),)) + source
        return body + self.seal(body, peer)

    def check(self, token: bytes, peer: tuple[str, int], now: float) -> tuple[bytes, bytes] | None:
        """(original, source) of a token that we made for this peer and that still holds, else None."""
        body, seal = token[:-SEAL], token[-SEAL:]
        if not 7 <= len(body) <= 47 or not hmac.compare_digest(seal, self.seal(body, peer)):
            return None
        if int.from_bytes(body[:5], "big") < now:
            return None
        end = 6 + body[5]
        return body[6:end], body[end + 1 : end + 1 + body[end]]

    def seal(self, body: bytes, peer: tuple[str, int]) -> bytes:
        """What makes a token ours."""
        address = host(peer) + peer[1].to_bytes(2, "big")
        return hmac.digest(self.retry_key, body + address, hashlib.sha256)[:SEAL]

    def later(self, peer: tuple[str, int], now: float, number: bytes) -> bytes:
        """A token with which a client comes again from this host; `number`: random bytes. Rule 2."""
        key = self.later_keys[0]
        said = int(now) ^ self.cover(key, number)
        body = number + said.to_bytes(TIME, "big")
        return body + hmac.digest(key, body + host(peer), hashlib.sha256)[:SEAL]

    def known(self, token: bytes, peer: tuple[str, int], now: float, share: Any = None) -> bool:
        """Was this token for later made for this host, and is this its first use?"""
        if len(token) != NUMBER + TIME + SEAL:
            return False
        body, seal, number = token[:-SEAL], token[-SEAL:], token[:NUMBER]
        for key in self.later_keys:
            if hmac.compare_digest(seal, hmac.digest(key, body + host(peer), hashlib.sha256)[:SEAL]):
                made = int.from_bytes(body[NUMBER:], "big") ^ self.cover(key, number)
                return made - LIFE <= now <= made + LATER and self.first(number, share)
        return False

    def first(self, number: bytes, share: Any) -> bool:
        """The first use of a token."""
        if share is not None:
            return bool(share.spend(number))
        if number in self.spent:
            return False
        while len(self.spent) >= MOST:
            del self.spent[next(iter(self.spent))]
        self.spent[number] = None
        return True

    def cover(self, key: bytes, number: bytes) -> int:
        return int.from_bytes(hmac.digest(key, b"cover" + number, hashlib.sha256)[:TIME], "big")

    def reset(self, cid: bytes) -> bytes:
        """The stateless reset token of an id."""
        return hmac.digest(self.reset_key, cid, hashlib.sha256)[:16]


def host(peer: tuple[str, int]) -> bytes:
    """The bytes of an address."""
    return socket.inet_pton(socket.AF_INET6 if ":" in peer[0] else socket.AF_INET, peer[0].partition("%")[0])


def secret_name(key: bytes) -> str:
    """What nobody guesses."""
    return derive(key, b"name").hex()[:32]


def derive(key: bytes, purpose: bytes) -> bytes:
    """A key for one purpose."""
    return hmac.digest(key, b"fairlead quic " + purpose, hashlib.sha256)
