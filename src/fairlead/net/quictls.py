# cython: annotation_typing=False
"""A server's side of TLS 1.3 in QUIC (RFC 8446, RFC 9001), for qh3's transport: what its own does, at a third of the cost. qh3
has its TLS in Python, which parses, builds and derives message by message, and was half of what a connection costs.

    ServerTls(settings, told)     receive(epoch, data) -> False: not for us; qh3's TLS is to be given `held`

Rules
1. Only a ClientHello that is plain (`wire.offer`, `wire.quicparams`) and that leads to a handshake is taken here: version 1.3,
   no session id, a cipher suite, protocol, group and signature algorithm of ours, QUIC's parameters in order. For every other,
   nothing was done yet, and qh3's TLS is given all of it: it says what is wrong, or knows better.
2. The order of preference is qh3's: ours among cipher suites and protocols, the client's among the keys it sent.
3. One ticket is taken, in the mode with a key exchange (section 4.2.9), when it is for the same cipher suite; its binder is
   compared in constant time. A wrong one ends the handshake, and the ticket is gone (`net.quictickets`).
4. The client's Finished is foretold, since nobody asks it for a certificate here: the ticket that goes out before it came depends
   on that (section 4.6.1). It is kept only once the Finished has come, so who never finishes takes nobody's place. Listeners that
   ask for certificates use qh3's TLS, with `net.quicauth`.
5. Messages do not span epochs, and nothing comes behind them (section 5.1): alert unexpected_message.
6. Private operations are qh3's compiled ones (aws-lc): key exchange and signature. HMAC and hashes are OpenSSL's.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Any

from fairlead.wire import offer, quicparams

try:
    from qh3 import _hazmat as hazmat
except ImportError:
    hazmat = None  # type: ignore[assignment]

INITIAL, ZERO_RTT, HANDSHAKE, ONE_RTT = 0, 1, 2, 3
START, ANSWERED, OVER = 0, 1, 2
MOST = 65_536  # bytes of a ClientHello
CRYPTO_ERROR, CRYPTO_BUFFER_EXCEEDED = 0x100, 0xD  # RFC 9000 section 20.1
UNEXPECTED, HANDSHAKE_FAILURE, ILLEGAL, DECODE, DECRYPT = 10, 40, 47, 50, 51
TLS_1_3 = 0x0304
PSK_WITH_KEYS = 1
TICKET_LIFE = 86_400
PROOF = b" " * 64 + b"TLS 1.3, server CertificateVerify\0"
digest = hmac.digest


class Refused(Exception):
    """The handshake ends: an error code of QUIC, and why."""

    def __init__(self, code: int, why: str = "") -> None:
        super().__init__(why)
        self.code = code


def alert(number: int, why: str = "") -> Refused:
    """An alert of TLS (RFC 9001 section 4.8)."""
    return Refused(CRYPTO_ERROR + number, why)


def sized(data: bytes) -> bytes:
    """Behind its length in two bytes."""
    return len(data).to_bytes(2, "big") + data


def message(kind: int, body: bytes) -> bytes:
    """A handshake message (section 4)."""
    return ((kind << 24) | len(body)).to_bytes(4, "big") + body


# ---- what does not change


class Suite:
    """A cipher suite, with its part of the key schedule that is the same for all (section 7.1)."""

    def __init__(self, number: int, name: str, bits: int, key: int, aead: str, protection: str) -> None:
        self.number = number
        self.name = name
        self.hash = f"sha{bits}"
        self.start = getattr(hashlib, self.hash)
        self.size = bits >> 3
        self.key = key
        self.algorithms = (aead, protection)
        self.zeros = bytes(self.size)
        self.empty = self.start(b"").digest()
        self.labels: dict[bytes, bytes] = {}
        self.quic_key, self.quic_iv, self.quic_hp = [
            self.info(label, b"", size) for label, size in ((b"quic key", key), (b"quic iv", 12), (b"quic hp", key))
        ]
        self.finished = self.info(b"finished", b"", self.size)
        self.resumption = self.info(b"resumption", b"", self.size)
        self.derived = self.info(b"derived", self.empty, self.size)
        self.early = digest(self.zeros, self.zeros, self.hash)  # without a ticket
        self.salt = digest(self.early, self.derived, self.hash)

    def info(self, label: bytes, context: bytes, size: int) -> bytes:
        """HkdfLabel, and the number of the one block that is made with it."""
        name = b"tls13 " + label
        return b"".join((size.to_bytes(2, "big"), bytes((len(name),)), name, bytes((len(context),)), context, b"\1"))

    def derive(self, secret: bytes, label: bytes, seen: bytes) -> bytes:
        """Derive-Secret, of a hash of messages."""
        found = self.labels.get(label)
        if found is None:
            found = self.labels[label] = self.info(label, bytes(self.size), self.size)[: -self.size - 1]
        return digest(secret, found + seen + b"\1", self.hash)

    def packet_keys(self, secret: bytes) -> tuple[bytes, bytes, bytes]:
        """Key, iv and header protection key of QUIC version 1 (RFC 9001 section 5.1)."""
        name = self.hash
        hp = digest(secret, self.quic_hp, name)[: self.key]
        return digest(secret, self.quic_key, name)[: self.key], digest(secret, self.quic_iv, name)[:12], hp

    def proof(self, secret: bytes, seen: bytes) -> bytes:
        """The verify data of Finished (section 4.4.4), which a binder is, too."""
        return digest(digest(secret, self.finished, self.hash), seen, self.hash)


SUITES = (
    Suite(0x1301, "TLS_AES_128_GCM_SHA256", 256, 16, "aes-128-gcm", "aes-128-ecb"),
    Suite(0x1302, "TLS_AES_256_GCM_SHA384", 384, 32, "aes-256-gcm", "aes-256-ecb"),
    Suite(0x1303, "TLS_CHACHA20_POLY1305_SHA256", 256, 32, "chacha20-poly1305", "chacha20"),
)
X25519, P256, P384, P521, ML768 = 0x001D, 0x0017, 0x0018, 0x0019, 0x11EC
LENGTHS = {X25519: 32, P256: 65, P384: 97, P521: 133, ML768: 1216}  # of a client's key


class Shown:
    """A certificate as it is shown: made once of (certificate, chain, key)."""

    def __init__(self, pair: tuple[Any, list[Any], Any]) -> None:
        certificate, chain, self.key = pair
        entries = []
        for one in (certificate, *chain):
            data = one.public_bytes()
            entries.append(len(data).to_bytes(3, "big") + data + b"\0\0")
        told = b"".join(entries)
        self.message = message(11, b"\0" + len(told).to_bytes(3, "big") + told)
        self.scheme, self.how = scheme_of(self.key)

    def sign(self, seen: bytes) -> bytes:
        """CertificateVerify (section 4.4.3)."""
        made = self.key.sign(PROOF + seen, *self.how)
        return message(15, self.scheme.to_bytes(2, "big") + sized(bytes(made)))


def scheme_of(key: Any) -> tuple[int, tuple[Any, ...]]:
    """The signature algorithm of a key, and what its `sign` is to be told; 0 for a key that we leave to qh3."""
    if isinstance(key, hazmat.RsaPrivateKey):
        return 0x0804, (True, 256)
    if isinstance(key, hazmat.EcPrivateKey):
        return {256: 0x0403, 384: 0x0503, 521: 0x0603}.get(key.curve_type, 0), ()
    return (0x0807, ()) if isinstance(key, hazmat.Ed25519PrivateKey) else (0, ())


def exchange(group: int, theirs: bytes) -> tuple[bytes, bytes]:
    """(our public key, what both know). Raises Refused for a key that is none."""
    try:
        if group == ML768:
            made = hazmat.X25519ML768KeyExchange()
            known = made.exchange(theirs)
            return made.shared_ciphertext(), known
        if group == X25519:
            pair: Any = hazmat.X25519KeyExchange()
        elif group == P256:
            pair = hazmat.ECDHP256KeyExchange()
        else:
            pair = hazmat.ECDHP384KeyExchange() if group == P384 else hazmat.ECDHP521KeyExchange()
        return pair.public_key(), pair.exchange(theirs)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # qh3's Rust code panics, which is no Exception
        raise alert(ILLEGAL, "a key share that is no key") from error


# ---- one handshake


class ServerTls:
    """See the module. `told` are our transport parameters, `source` is what the client calls itself. What there is to do after
    `receive`, and to forget then, is in `keys`: (are they for sending, epoch, secret), and in `said`: (epoch, bytes).
    """

    def __init__(self, settings: Any, told: bytes) -> None:
        self.settings = settings
        self.told = told
        self.source = b""
        self.held = b""
        self.stage = START
        self.heard: Any = None  # the client's parameters
        self.suite: Any = None
        self.name = ""
        self.protocol = ""
        self.resumed = self.early = False
        self.keys: list[tuple[bool, int, bytes]] = []
        self.said: list[tuple[int, bytes]] = []
        self.expected = self.later = b""
        self.ticket: Any = None  # to be kept once the client has finished

    def receive(self, epoch: int, data: bytes) -> bool:
        """CRYPTO bytes, in order. See the module. Raises Refused."""
        if self.stage == START and epoch == INITIAL:
            self.held += data
            return self.started()
        if self.stage != ANSWERED or epoch != HANDSHAKE:
            raise alert(UNEXPECTED)
        self.held += data
        size = 4 + self.suite.size
        if self.held[:1] != b"\x14" or len(self.held) > size:
            raise alert(UNEXPECTED)
        if len(self.held) >= 4 and self.held[1:4] != self.suite.size.to_bytes(3, "big"):
            raise alert(DECODE)
        if len(self.held) == size:
            if not hmac.compare_digest(self.held[4:], self.expected):
                raise alert(DECRYPT)
            self.stage = OVER
            self.keys.append((False, ONE_RTT, self.later))
            if self.ticket is not None:
                self.settings.tickets.store(*self.ticket)
        return True

    def started(self) -> bool:
        """All of a ClientHello, or not yet."""
        held = self.held
        if len(held) < 4:
            return True
        size = 4 + int.from_bytes(held[1:4], "big")
        if size > MOST:
            raise Refused(CRYPTO_BUFFER_EXCEEDED, "a ClientHello that is too long")
        if len(held) < size:
            return True
        hello = offer.read(held)
        return hello is not None and self.answered(hello)

    def answered(self, hello: Any) -> bool:
        """Rules 1 and 2."""
        settings = self.settings
        suite = first_suite(hello.suites)
        shown = settings.shown(hello.name)
        share = first_share(hello.shares)
        if suite is None or share is None or not shown.scheme or not offer.has(hello.signatures, shown.scheme):
            return False
        if hello.session or hello.compressions != b"\0" or not offer.has(hello.versions, TLS_1_3):
            return False
        if hello.parameters is None or (hello.identity is not None and hello.binder is None):
            return False
        protocol = first_protocol(settings.alpn, hello.protocols)
        self.heard = quicparams.heard(hello.parameters, self.source)
        if not protocol or self.heard is None:
            return False
        self.suite, self.protocol, self.name = suite, protocol, hello.name
        self.answer(hello, suite, shown, share)
        return True

    def answer(self, hello: Any, suite: Any, shown: Any, share: tuple[int, bytes]) -> None:
        """The whole flight, with the keys for it (section 2, figure 1)."""
        settings, chance = self.settings, os.urandom(32)
        group, theirs = share
        ours, known = exchange(group, theirs)
        tickets = settings.tickets if PSK_WITH_KEYS in hello.modes else None
        transcript = suite.start()
        salt = suite.salt
        if tickets is not None and hello.identity is not None:
            salt = self.resume(hello, suite, tickets, transcript) or salt
        if not self.resumed:
            transcript.update(self.held)
        first = b"\0\x2b\0\2\3\4\0\x33" + sized(group.to_bytes(2, "big") + sized(ours))
        if self.resumed:
            first += b"\0\x29\0\2\0\0"
        server_hello = message(2, b"\3\3" + chance + b"\0" + suite.number.to_bytes(2, "big") + b"\0" + sized(first))
        transcript.update(server_hello)
        handshake = digest(salt, known, suite.hash)
        seen = transcript.digest()
        ours_secret = suite.derive(handshake, b"s hs traffic", seen)
        theirs_secret = suite.derive(handshake, b"c hs traffic", seen)
        flight = self.extensions()
        transcript.update(flight)
        if not self.resumed:
            transcript.update(shown.message)
            signed = shown.sign(transcript.digest())
            transcript.update(signed)
            flight += shown.message + signed
        finished = message(20, suite.proof(ours_secret, transcript.digest()))
        transcript.update(finished)
        seen = transcript.digest()
        master = digest(digest(handshake, suite.derived, suite.hash), suite.zeros, suite.hash)
        self.later = suite.derive(master, b"c ap traffic", seen)
        self.expected = suite.proof(theirs_secret, seen)
        self.keys += ((True, HANDSHAKE, ours_secret), (False, HANDSHAKE, theirs_secret))
        self.keys.append((True, ONE_RTT, suite.derive(master, b"s ap traffic", seen)))
        self.said += ((INITIAL, server_hello), (HANDSHAKE, flight + finished))
        if tickets is not None:
            transcript.update(message(20, self.expected))
            self.give(suite, suite.derive(master, b"res master", transcript.digest()))
        self.held = b""
        self.stage = ANSWERED

    def resume(self, hello: Any, suite: Any, tickets: Any, transcript: Any) -> bytes | None:
        """Rule 3: the salt of the handshake's secret, and the ClientHello in the transcript; None without a ticket that holds."""
        kept = tickets.open(hello.identity, hello.name, hello.age, hello.early, self.settings.early_data)
        if kept is None or kept.suite != suite.number:
            return None
        held = self.held
        secret = digest(suite.zeros, kept.secret, suite.hash)
        transcript.update(held[: hello.binders])
        binder = suite.proof(suite.derive(secret, b"res binder", suite.empty), transcript.digest())
        if not hmac.compare_digest(binder, hello.binder):
            raise alert(HANDSHAKE_FAILURE, "PSK validation failed")
        transcript.update(held[hello.binders :])
        self.resumed = True
        if hello.early:
            self.early = True
            self.keys.append((False, ZERO_RTT, suite.derive(secret, b"c e traffic", transcript.digest())))
        return digest(secret, suite.derived, suite.hash)

    def extensions(self) -> bytes:
        """EncryptedExtensions (section 4.3.1)."""
        name = self.protocol.encode()
        body = b"\0\x10" + sized(sized(bytes((len(name),)) + name)) + (b"\0\x2a\0\0" if self.early else b"")
        return message(8, sized(body + b"\0\x39" + sized(self.told)))

    def give(self, suite: Any, master: bytes) -> None:
        """NewSessionTicket (section 4.6.1), with an empty nonce."""
        made = os.urandom(68)
        identity, add = made[:64], made[64:]
        most = 0xFFFFFFFF if self.settings.early_data else 0
        early = b"\0\x2a\0\4" + most.to_bytes(4, "big") if most else b""
        self.said.append((ONE_RTT, message(4, TICKET_LIFE.to_bytes(4, "big") + add + b"\0" + sized(identity) + sized(early))))
        secret = digest(master, suite.resumption, suite.hash)
        self.ticket = (identity, suite.number, int.from_bytes(add, "big"), most, secret, self.name)


def first_suite(theirs: bytes) -> Any:
    """The one of ours that they speak."""
    for one in SUITES:
        if offer.has(theirs, one.number):
            return one
    return None


def first_share(theirs: list[tuple[int, bytes]]) -> tuple[int, bytes] | None:
    """The key of theirs that we use."""
    for share in theirs:
        size = LENGTHS.get(share[0], 0)
        if size:
            return share if size == len(share[1]) else None
    return None


def first_protocol(ours: list[str], theirs: list[bytes]) -> str:
    """The one of ours that they speak, or ""."""
    for one in ours:
        if one.encode() in theirs:
            return one
    return ""
