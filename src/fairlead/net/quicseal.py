"""Packets of application data, opened and sealed beside the engine (RFC 9001 section 5): how we say on a connection of qh3 what its
core has no word for, and read what it does not tell.

Rules
1. `Keys` are one direction's, made of what the engine's TLS was given. A key update (section 6) is a step of `advance`; who uses
   them knows how many there were. The key of the header protection stays.
2. A nonce is used once: who seals takes a packet number that the engine has not used and makes it skip that one.
3. A packet that does not open is None, for whatever reason; the engine is the judge of it.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

LABELS = {0x1301: ("sha256", 16), 0x1302: ("sha384", 32), 0x1303: ("sha256", 32)}  # of a suite: its hash, bytes of its key
SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")  # of version 1
TAG = 16
SAMPLE = 4  # bytes behind the start of the packet number


def expand(name: str, secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446 section 7.1) without a context, for at most one block."""
    full = b"tls13 " + label
    info = size.to_bytes(2, "big") + bytes((len(full),)) + full + b"\0\1"
    return hmac.digest(secret, info, name)[:size]


def initial_keys(cid: bytes, label: str) -> tuple[bytes, bytes, bytes, bytes]:
    """Secret, key, iv and header protection key of one side's Initial packets (RFC 9001 section 5.2)."""
    secret = expand("sha256", hmac.digest(SALT, cid, "sha256"), label.encode(), 32)
    return (
        secret,
        expand("sha256", secret, b"quic key", 16),
        expand("sha256", secret, b"quic iv", 12),
        expand("sha256", secret, b"quic hp", 16),
    )


class Keys:
    """`Keys(suite, secret)`: `suite` the number of a TLS 1.3 cipher suite, `secret` the traffic secret of one direction."""

    def __init__(self, suite: int, secret: bytes) -> None:
        self.suite = suite
        self.secret = secret
        self.hash, self.size = LABELS[suite]
        self.generation = 0
        self.cover = expand(self.hash, secret, b"quic hp", self.size)
        self.derive()

    def derive(self) -> None:
        from cryptography.hazmat.primitives.ciphers import aead

        key = expand(self.hash, self.secret, b"quic key", self.size)
        self.iv = int.from_bytes(expand(self.hash, self.secret, b"quic iv", 12), "big")
        self.aead: Any = aead.ChaCha20Poly1305(key) if self.suite == 0x1303 else aead.AESGCM(key)

    def advance(self, generation: int) -> None:
        """Rule 1: to the keys after so many updates."""
        if generation <= self.generation:
            return
        while self.generation < generation:
            size = hashlib.new(self.hash).digest_size
            self.secret = expand(self.hash, self.secret, b"quic ku", size)
            self.generation += 1
        self.derive()

    def mask(self, sample: bytes) -> bytes:
        """What covers the first byte and the packet number (section 5.4)."""
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        if self.suite == 0x1303:
            return Cipher(algorithms.ChaCha20(self.cover, sample), None).encryptor().update(bytes(5))
        return Cipher(algorithms.AES(self.cover), modes.ECB()).encryptor().update(sample)  # noqa: S305 - what the RFC says

    def nonce(self, number: int) -> bytes:
        return (self.iv ^ number).to_bytes(12, "big")

    def uncover(self, data: bytes, at: int) -> tuple[int, int, int]:
        """(first byte, bytes of the packet number, that number as it stands there); `at`: where it begins."""
        mask = self.mask(data[at + SAMPLE : at + SAMPLE + 16])
        first = data[0] ^ mask[0] & 0x1F
        size = (first & 3) + 1
        return first, size, int.from_bytes(data[at : at + size], "big") ^ int.from_bytes(mask[1 : 1 + size], "big")

    def number(self, data: bytes, at: int, near: int) -> int:
        """The packet number of a packet, of which the first 20 bytes behind `at` are enough."""
        _, size, short = self.uncover(data, at)
        return whole(short, 8 * size, near)

    def open(self, data: bytes, at: int, near: int, generation: int) -> tuple[int, int, bytes] | None:
        """(first byte, packet number, payload) of a short packet; its number is about `near`, and its key phase tells whether it
        is of `generation` or of the next.
        """
        from cryptography.exceptions import InvalidTag

        if len(data) < at + SAMPLE + 16 or data[0] & 0x80:
            return None
        first, size, short = self.uncover(data, at)
        if (first >> 2 & 1) != generation & 1:
            generation += 1
        keys = self.of(generation)
        head = bytes((first,)) + data[1:at] + short.to_bytes(size, "big")
        found = whole(short, 8 * size, near)
        for step in (0, 1, -1) if size > 1 else (0, 1, -1, 2, 3):
            number = found + (step << 8 * size)
            if number < 0:
                continue
            try:
                return first, number, keys.aead.decrypt(keys.nonce(number), data[at + size :], head)
            except InvalidTag:
                continue
        return None

    def of(self, generation: int) -> Keys:
        """The keys of a generation that may be the next: a packet that does not open must not move us on."""
        if generation == self.generation:
            return self
        made = Keys(self.suite, self.secret)
        made.generation, made.cover = self.generation, self.cover
        made.advance(generation)
        return made

    def seal(self, first: int, cid: bytes, number: int, payload: bytes, size: int = 4) -> bytes:
        """A short packet. `first`: its first byte, whose length bits are set here; `size`: bytes of its number."""
        first = first & ~3 | size - 1
        payload += bytes(max(0, SAMPLE - size - len(payload)))
        head = bytes((first,)) + cid + (number & (1 << 8 * size) - 1).to_bytes(size, "big")
        body = self.aead.encrypt(self.nonce(number), payload, head)
        start = SAMPLE - size
        mask = self.mask(body[start : start + 16])
        short = int.from_bytes(head[-size:], "big") ^ int.from_bytes(mask[1 : 1 + size], "big")
        return bytes((first ^ mask[0] & 0x1F,)) + cid + short.to_bytes(size, "big") + body


def whole(short: int, bits: int, near: int) -> int:
    """The packet number nearest to `near` that ends in these bits (RFC 9000 appendix A.3)."""
    found = near & ~((1 << bits) - 1) | short
    half = 1 << bits - 1
    if found < near - half:
        return found + (1 << bits)
    if found > near + half and found >= 1 << bits:
        return found - (1 << bits)
    return found
