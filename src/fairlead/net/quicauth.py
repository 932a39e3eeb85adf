"""Client certificates over QUIC (mutual TLS): neither engine asks for them; both have their TLS 1.3 in Python, so it is asked here.

Rules
1. CertificateRequest goes between EncryptedExtensions and Certificate (RFC 8446 section 4.3.2), with the signature algorithms
   that we take and the names of the CAs.
2. The client answers Certificate, CertificateVerify unless that was empty, and Finished (sections 4.4.2 to 4.4.4). They are read
   here; the engine sees Finished only, with the verify data that this transcript gives. An engine foretells the client's
   Finished as of a handshake without certificates; that one is kept out of the transcript.
3. Whom to believe is OpenSSL's judgement (`_libssl.verify_client`), with the rules of a TLS server over TCP: chain, dates,
   purpose, strength of keys. The signature over the transcript is checked against the key of the certificate, never with
   RSASSA-PKCS1-v1_5 (section 4.4.3).
4. No certificate where one is required is alert 116, certificate_required; one that is not believed gets OpenSSL's alert for
   the reason.
5. Nothing is resumed: a listener that asks for certificates gives out no tickets for QUIC, so each connection shows one, and a
   CA that is taken away is gone with the next connection. Early data, which needs a ticket, is not taken.
6. Before the client has proven who it is, nothing of its streams can be read: the keys for them come with Finished.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from fairlead.core.errors import ConfigError
from fairlead.net import tlschoice
from fairlead.net.tls import load_ca

CERTIFICATE, CERTIFICATE_VERIFY, FINISHED, ENCRYPTED_EXTENSIONS, CERTIFICATE_REQUEST = 11, 15, 20, 8, 13
SIGNATURE_ALGORITHMS, CERTIFICATE_AUTHORITIES = 13, 47
CONTEXT = b"TLS 1.3, client CertificateVerify"
MOST = 65_536  # bytes of a client's Certificate message; OpenSSL's default is 100 KB
NAMES = 4096  # bytes of CA names that we tell; with more none are told, which means any (section 4.2.4)
# what may sign the transcript, and, for the last three, certificates only
ALGORITHMS = (0x0403, 0x0503, 0x0603, 0x0807, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601)
ALERTS = {9: 45, 10: 45, 18: 48, 19: 48, 20: 48, 21: 48, 23: 44, 26: 43, 7: 51}  # of X.509 codes; else 42, bad_certificate
REQUIRED = 116


def unusable() -> str:
    """Why client certificates cannot be asked for over QUIC; "" when they can."""
    return tlschoice.unusable()


class Trust:
    """Which client certificates are believed: those of the CAs in a PEM file. Raises ConfigError."""

    def __init__(self, path: str, required: bool) -> None:
        why = unusable()
        if why:
            raise ConfigError(f"HTTP/3 cannot ask for client certificates here: {why}", hint='remove "h3", or `client_ca`')
        self.required = required
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        load_ca(self.context, path, "client_ca")
        self.request = certificate_request(names_in(Path(path).read_bytes()))

    def judge(self, chain: list[bytes]) -> tuple[int, str]:
        """(alert, why) of a chain in DER; (0, "") when it is believed."""
        code: int = tlschoice.leaf.verify_client(self.context, chain)
        if code == 0:
            return 0, ""
        return ALERTS.get(code, 42), tlschoice.leaf.verify_text(code) if code > 0 else "it is no certificate"


def names_in(pem: bytes) -> list[bytes]:
    """The subjects of the certificates in a PEM file, in DER."""
    from cryptography import x509

    return [one.subject.public_bytes() for one in x509.load_pem_x509_certificates(pem)]


def certificate_request(names: list[bytes]) -> bytes:
    """The message of rule 1."""
    schemes = b"".join([one.to_bytes(2, "big") for one in ALGORITHMS])
    extensions = extension(SIGNATURE_ALGORITHMS, sized(schemes))
    told = b"".join([sized(name) for name in dict.fromkeys(names)])
    if 0 < len(told) <= NAMES:
        extensions += extension(CERTIFICATE_AUTHORITIES, sized(told))
    body = b"\0" + sized(extensions)
    return bytes((CERTIFICATE_REQUEST,)) + len(body).to_bytes(3, "big") + body


def sized(data: bytes) -> bytes:
    """Behind its length in two bytes."""
    return len(data).to_bytes(2, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    """One extension."""
    return kind.to_bytes(2, "big") + sized(data)


class Cut(Exception):
    """A message ends before it should, or after."""


def chain_in(message: bytes) -> list[bytes]:
    """The certificates of a Certificate message, in DER. Raises Cut."""
    at = 5 + message[4] if len(message) > 4 else 5
    if message[4:5] != b"\0" or len(message) < at + 3:
        raise Cut
    end = at + 3 + int.from_bytes(message[at : at + 3], "big")
    at += 3
    if end != len(message):
        raise Cut
    found = []
    while at < end:
        size = int.from_bytes(message[at : at + 3], "big")
        data = message[at + 3 : at + 3 + size]
        at += 3 + size
        at += 2 + int.from_bytes(message[at : at + 2], "big")
        if at > end or not data:
            raise Cut
        found.append(data)
    return found


def signed(der: bytes, algorithm: int, data: bytes, signature: bytes) -> bool:
    """Has the holder of this certificate's key signed the data with an algorithm that we offered (rule 3)?"""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    digest: Any = {4: hashes.SHA256, 5: hashes.SHA384, 6: hashes.SHA512}
    curves = {0x0403: "secp256r1", 0x0503: "secp384r1", 0x0603: "secp521r1"}
    try:
        key = x509.load_der_x509_certificate(der).public_key()
        if algorithm in curves and isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == curves[algorithm]:
            key.verify(signature, data, ec.ECDSA(digest[algorithm >> 8]()))
        elif algorithm in (0x0804, 0x0805, 0x0806) and isinstance(key, rsa.RSAPublicKey):
            made = digest[algorithm & 0xF]()
            key.verify(signature, data, padding.PSS(padding.MGF1(made), made.digest_size), made)
        elif algorithm == 0x0807 and isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


class ClientAuth:
    """The handshake of one connection: `context` is the engine's TLS, `module` where its alerts are, `output` the buffer of
    messages that
    are being written while it handles the ClientHello. `over()` follows once it has.
    """

    def __init__(self, engine: Any, context: Any, module: Any, output: Any) -> None:
        self.engine, self.context, self.module, self.output = engine, context, module, output
        self.trust: Trust = engine.settings.trust
        self.held = b""
        self.chain: list[bytes] | None = None
        self.proven = self.finished = False
        self.watch()

    # ---- asking

    def watch(self) -> None:
        """The transcript that matters is there when the first keys are made: follow it from then on."""
        context, setup = self.context, self.context._setup_traffic_protection

        def first(*given: Any) -> Any:
            del context._setup_traffic_protection
            self.follow(context.key_schedule)
            return setup(*given)

        context._setup_traffic_protection = first

    def follow(self, schedule: Any) -> None:
        """Rule 1, and the last sentence of rule 2."""
        update = schedule.update_hash

        def hashed(data: Any) -> None:
            kind = data[0]
            if kind == FINISHED and self.finished:
                return
            update(data)
            if kind == ENCRYPTED_EXTENSIONS:
                self.output.push_bytes(self.trust.request)
                update(self.trust.request)
            elif kind == FINISHED:
                self.finished = True

        schedule.update_hash = hashed

    def over(self) -> None:
        """The ClientHello is dealt with: what comes next is heard here."""
        del self.context.key_schedule.update_hash
        self.output = None
        self.hand_on = self.context.handle_message
        self.context.handle_message = self.hear

    # ---- hearing

    def hear(self, data: bytes, output: Any, epoch: Any = -1) -> Any:
        """In place of the context's `handle_message` (rule 2)."""
        if epoch != -1 and epoch != self.module.Epoch.HANDSHAKE:
            raise self.module.AlertUnexpectedMessage("a message with the wrong keys")
        self.held += data
        while len(self.held) >= 4:
            size = 4 + int.from_bytes(self.held[1:4], "big")
            if size > MOST:
                raise self.module.AlertDecodeError("a message that is too long")
            if len(self.held) < size:
                break
            if self.held[0] == FINISHED:
                return self.hand_over(output, epoch)
            message, self.held = self.held[:size], self.held[size:]
            self.heard(message)
        return None

    def heard(self, message: bytes) -> None:
        """One message of the client that is not Finished."""
        kind = message[0]
        if kind == CERTIFICATE and self.chain is None:
            self.certificate(message)
        elif kind == CERTIFICATE_VERIFY and self.chain and not self.proven:
            self.verify(message)
        elif kind != ENCRYPTED_EXTENSIONS or not getattr(self.context, "_alps_negotiated", False) or self.chain is not None:
            raise self.module.AlertUnexpectedMessage("not what comes next in a handshake")
        self.context.key_schedule.update_hash(message)

    def certificate(self, message: bytes) -> None:
        """Whom it says it is."""
        try:
            self.chain = chain_in(message)
        except Cut:
            raise self.module.AlertDecodeError("a cut Certificate message") from None
        if self.chain:
            alert, why = self.trust.judge(self.chain)
            if alert:
                raise self.alert(alert, f"the client's certificate is not trusted: {why}")
        elif self.trust.required:
            raise self.alert(REQUIRED, "the client showed no certificate")

    def verify(self, message: bytes) -> None:
        """That it is."""
        assert self.chain
        if len(message) < 8 or len(message) != 8 + int.from_bytes(message[6:8], "big"):
            raise self.module.AlertDecodeError("a cut CertificateVerify message")
        data = self.context.key_schedule.certificate_verify_data(CONTEXT)
        if not signed(self.chain[0], int.from_bytes(message[4:6], "big"), data, message[8:]):
            raise self.module.AlertDecryptError("the client's signature is wrong")
        self.proven = True

    def hand_over(self, output: Any, epoch: Any) -> Any:
        """Finished came: the engine goes on by itself."""
        if self.chain is None or (self.chain and not self.proven):
            raise self.module.AlertUnexpectedMessage("Finished before the client has shown its certificate")
        context = self.context
        context._expected_verify_data = context.key_schedule.finished_verify_data(context._dec_key)
        self.engine.peer_cert = self.chain[0] if self.chain else None
        del context.handle_message
        held, self.held = self.held, b""
        return self.hand_on(held, output) if epoch == -1 else self.hand_on(held, output, epoch)

    def alert(self, number: int, why: str) -> Exception:
        """An alert, which closes the connection with 0x100 and its number (RFC 9001 section 4.8)."""
        made: Exception = type("Refused", (self.module.Alert,), {"description": number})(why)
        return made
