"""Client certificates over QUIC: both engines as servers, both as clients, certificates of every kind of key, good and bad."""

from __future__ import annotations

import datetime
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from test_quic import Pair

pytest.importorskip("qh3")
pytest.importorskip("aioquic")

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fairlead.core.errors import ConfigError
from fairlead.net import quicauth
from fairlead.net.quicsettings import QuicSettings

BEGIN = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
USE = {"client": ExtendedKeyUsageOID.CLIENT_AUTH, "server": ExtendedKeyUsageOID.SERVER_AUTH}
KINDS = {
    "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ec384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}
needs_openssl = pytest.mark.skipif(bool(quicauth.unusable()), reason=f"no client certificates: {quicauth.unusable()}")
engines = pytest.mark.parametrize("server", ["qh3", "aioquic"])
clients = pytest.mark.parametrize("client", ["qh3", "aioquic"])


class Authority:
    """A CA whose certificates have what a test asks for."""

    def __init__(self, home, name="us", signer=None):
        self.home, self.name = home, name
        self.key = KINDS["ec"]()
        self.cert = self.sign(name, self.key.public_key(), signer or self, ca=True)
        self.path = str(home / f"{name}.pem")
        (home / f"{name}.pem").write_bytes(self.cert.public_bytes(serialization.Encoding.PEM))

    def sign(self, name, public, signer, ca=False, use="client", until=2125):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = subject if signer is self and ca else signer.cert.subject
        made = x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number(), BEGIN, BEGIN.replace(year=until,
        month=3))
        made = made.add_extension(x509.BasicConstraints(ca, None), True)
        if not ca:
            made = made.add_extension(x509.ExtendedKeyUsage([USE[use]]), False)
        return made.sign(signer.key, hashes.SHA256())

    def issue(self, name, kind="ec", chain=(), **given):
        """Paths of a certificate, with what is to be shown behind it, and its key."""
        key = KINDS[kind]()
        made = [self.sign(name, key.public_key(), self, **given), *chain]
        cert, secret = self.home / f"{name}-cert.pem", self.home / f"{name}-key.pem"
        cert.write_bytes(b"".join(one.public_bytes(serialization.Encoding.PEM) for one in made))
        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        secret.write_bytes(key.private_bytes(*form))
        return str(cert), str(secret)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("auth")


@pytest.fixture(scope="module")
def us(home):
    return Authority(home)


@pytest.fixture(scope="module")
def site(us):
    return us.issue("localhost", use="server")


def pair(client, server, site, us, shown=None, required=True):
    theirs = QuicSettings(client, client=True)
    if shown is not None:
        theirs.show(SimpleNamespace(certificate=shown[0], key=shown[1], password=None))
    made = Pair(client, server, site, shown=theirs.pair, trust=quicauth.Trust(us.path, required))
    made.run()
    return made


def refused(made):
    """The code that the client was told; the server has read nothing."""
    made.run(40)
    assert not made.server.done and ("done",) not in made.heard[made.server]
    return next(event[1] for event in made.heard[made.client] if event[0] == "closed")


@needs_openssl
@engines
@clients
@pytest.mark.parametrize("kind", ["ec", "ec384", "rsa", "ed25519"])
def test_a_client_is_who_its_certificate_says(client, server, kind, us, site):
    if (client, kind) == ("qh3", "ed25519"):
        pytest.skip("this client does not load such keys")
    shown = us.issue(f"alice-{kind}", kind)
    made = pair(client, server, site, us, shown)
    assert made.server.done and made.client.done
    with open(shown[0], "rb") as file:
        expected = x509.load_pem_x509_certificate(file.read())
    assert made.server.peer_cert == expected.public_bytes(serialization.Encoding.DER)
    stream = made.client.opener(False)
    made.client.send(stream, b"hello", True)
    made.run(6)
    assert made.data(made.server, stream) == b"hello"


@needs_openssl
@engines
@clients
def test_a_chain_is_followed_to_the_authority(client, server, home, us, site):
    between = Authority(home, "between", us)
    made = pair(client, server, site, us, between.issue("bob", chain=[between.cert]))
    assert made.server.done and made.server.peer_cert
    assert refused(pair(client, server, site, us, between.issue("carol"))) == 0x100 + 48, "without what is between"


@needs_openssl
@engines
@clients
def test_a_client_without_a_certificate_is_refused_or_not_known(client, server, us, site):
    assert refused(pair(client, server, site, us)) == 0x100 + 116
    made = pair(client, server, site, us, required=False)
    assert made.server.done and made.client.done and made.server.peer_cert is None


@needs_openssl
@engines
@clients
@pytest.mark.parametrize("required", [True, False])
def test_a_certificate_that_is_not_believed_is_refused(client, server, required, home, us, site):
    stranger = Authority(home, "stranger")
    assert refused(pair(client, server, site, us, stranger.issue("mallory"), required)) == 0x100 + 48
    assert refused(pair(client, server, site, us, us.issue("late", until=2026), required)) in (0x100 + 45, 0x100 + 48)
    assert refused(pair(client, server, site, us, us.issue("site", use="server"), required)) == 0x100 + 43


@needs_openssl
@engines
def test_who_does_not_have_the_key_is_refused(server, us, site):
    cert, _ = us.issue("alice2")
    _, key = us.issue("mallory2")
    settings = QuicSettings("aioquic", client=True)
    settings.pair = settings.parse(Path(cert).read_bytes(), Path(key).read_bytes(), None)
    made = Pair("aioquic", server, site, shown=settings.pair, trust=quicauth.Trust(us.path, True))
    made.run()
    assert refused(made) == 0x100 + 51


@needs_openssl
def test_a_listener_says_when_its_authorities_are_none(tmp_path):
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ConfigError, match="not PEM"):
        quicauth.Trust(str(tmp_path / "ca.pem"), True)


# ---- messages


def message(*certificates: bytes) -> bytes:
    entries = b"".join(len(one).to_bytes(3, "big") + one + b"\0\0" for one in certificates)
    body = b"\0" + len(entries).to_bytes(3, "big") + entries
    return b"\x0b" + len(body).to_bytes(3, "big") + body


def test_a_message_of_certificates_is_read_or_cut():
    whole = message(b"one", b"another")
    assert quicauth.chain_in(whole) == [b"one", b"another"] and quicauth.chain_in(message()) == []
    for size in range(4, len(whole)):
        with pytest.raises(quicauth.Cut):
            quicauth.chain_in(whole[:size])
    with pytest.raises(quicauth.Cut):
        quicauth.chain_in(whole + b"\0")
    with pytest.raises(quicauth.Cut):
        quicauth.chain_in(message(b""))
    chance = random.Random(5)
    for _ in range(5000):
        junk = bytearray(whole)
        junk[chance.randrange(4, len(junk))] = chance.randrange(256)
        try:
            quicauth.chain_in(bytes(junk))
        except quicauth.Cut:
            pass


def test_the_request_is_what_the_clients_of_both_libraries_read(us):
    from aioquic import tls as aioquic_tls
    from qh3 import tls as qh3_tls

    names = quicauth.names_in(Path(us.path).read_bytes())
    request = quicauth.certificate_request(names)
    for module in (aioquic_tls, qh3_tls):
        read = module.pull_certificate_request(module.Buffer(data=request))
        assert tuple(read.signature_algorithms) == quicauth.ALGORITHMS
        assert read.other_extensions == [(47, quicauth.sized(quicauth.sized(names[0])))]
    assert len(quicauth.certificate_request([b"x" * 5000])) < 50, "too many names: none is told"


class Context:
    """The part of an engine's TLS that is called."""

    def __init__(self):
        self.key_schedule = SimpleNamespace(update_hash=lambda data: None)
        self._setup_traffic_protection = None


@needs_openssl
@pytest.mark.parametrize(
    ("data", "alert"),
    [
        (b"\x14\0\0\x20" + bytes(32), "AlertUnexpectedMessage"),  # Finished, and no certificate before
        (b"\x0f\0\0\x04" + bytes(4), "AlertUnexpectedMessage"),  # CertificateVerify first
        (b"\x08\0\0\x02\0\0", "AlertUnexpectedMessage"),
        (b"\x0b\xff\xff\xff", "AlertDecodeError"),
        (b"\x0b\0\0\x01\0", "AlertDecodeError"),
        (message() + message(), "AlertUnexpectedMessage"),
        (message() + b"\x0f\0\0\x04" + bytes(4), "AlertUnexpectedMessage"),  # nothing to verify
        (message(b"no certificate"), "Refused"),
    ],
)
@pytest.mark.parametrize("cut", [1, 3, 1000])
def test_what_does_not_come_next_in_a_handshake_is_refused(us, data, alert, cut):
    from aioquic import tls

    context = Context()
    engine = SimpleNamespace(settings=SimpleNamespace(trust=quicauth.Trust(us.path, False)))
    auth = quicauth.ClientAuth(engine, context, tls, None)
    with pytest.raises(tls.Alert) as raised:
        for at in range(0, len(data), cut):
            auth.hear(data[at : at + cut], {})
    assert type(raised.value).__name__ == alert
