"""Address tokens and reset tokens: what a client proves with, and what proves us. Shared by all workers through one key.

Rules
1. A Retry token (RFC 9000 section 8.1.2) says which address asked, with which ids, and until when it holds, and is sealed with
   HMAC-SHA-256: any worker can check what another made, and keeps nothing. It names the ids because the transport parameters
   must repeat them (section 7.3). It is no secret: whoever sees it must still send from that address.
2. A stateless reset token is a function of the key and the id (section 10.3.2), so a worker can answer for a connection that died
   with another.
3. Times are seconds of the wall clock, which workers share.
"""

from __future__ import annotations

import hashlib
import hmac
import socket

SEAL = 16
LIFE = 10  # seconds a Retry token holds: a round trip and some time to spare


class Tokens:
    """Made and checked with one secret key. The names are secrets too: `name` of our workers, `older` of those of the server that
    we took over from ("" for none), `lasting` of what the two have in common.
    """

    def __init__(self, key: bytes, previous: bytes = b"", lasting: bytes = b"") -> None:
        self.retry_key = derive(key, b"retry")
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
        family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
        address = socket.inet_pton(family, peer[0].partition("%")[0]) + peer[1].to_bytes(2, "big")
        return hmac.digest(self.retry_key, body + address, hashlib.sha256)[:SEAL]

    def reset(self, cid: bytes) -> bytes:
        """The stateless reset token of an id."""
        return hmac.digest(self.reset_key, cid, hashlib.sha256)[:16]


def secret_name(key: bytes) -> str:
    """What nobody guesses."""
    return derive(key, b"name").hex()[:32]


def derive(key: bytes, purpose: bytes) -> bytes:
    """A key for one purpose."""
    return hmac.digest(key, b"fairlead quic " + purpose, hashlib.sha256)
