"""Our server's side of TLS in QUIC, against qh3's client and beside qh3's server: it answers what is plain as that one would,
leaves the rest to it, and refuses what is wrong.
"""

from __future__ import annotations

import datetime
import logging
import random
from pathlib import Path

import pytest

pytest.importorskip("qh3")
pytest.importorskip("cryptography")

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from qh3 import tls
from qh3.quic.configuration import QuicConfiguration
from qh3.quic.tls_bridge import QuicTlsBridge, QuicTlsBridgeError

from fairlead.net import quicengine, quicqh3tls, quictls
from fairlead.net.quicsettings import QuicSettings
from fairlead.net.quictickets import Lone, Tickets
from fairlead.net.quictls import Refused, ServerTls
from fairlead.wire import offer
from fairlead.wire import quic as wire

KEYS = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """(certificate, key) files for `localhost`, by the kind of key."""
    home, found = tmp_path_factory.mktemp("quictls"), {}
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    begin = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    for kind, make in KEYS.items():
        key = make()
        made = x509.CertificateBuilder(name, name, key.public_key(), 5, begin, begin.replace(year=2125))
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        signed = made.sign(key, None if kind == "Ed25519" else hashes.SHA256())
        files = home / f"{kind}.pem", home / f"{kind}.key"
        files[0].write_bytes(signed.public_bytes(s.Encoding.PEM))
        files[1].write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
        found[kind] = tuple(map(str, files))
    return found


def settings_of(*pairs, early=False):
    made = QuicSettings("qh3")
    made.tickets, made.early_data = Tickets(Lone()), early
    for pair in pairs:
        made.add(*pair, None)
    return made


class Client:
    """qh3's TLS as a client, without packets."""

    def __init__(self, name="localhost", ticket=None, **options):
        self.tickets, self.secrets = [], {}
        options = {"signature_algorithms": [0x0403, 0x0804, 0x0503, 0x0807], **options}
        configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name=name, verify_mode=0, **options)
        configuration.session_ticket = ticket
        given = {"local_initial_source_connection_id": b"client", "original_destination_connection_id": b"original"}
        given["remote_initial_source_connection_id"] = b"ours"
        self.tls = QuicTlsBridge(configuration, version=1, session_ticket_handler=self.tickets.append, **given)
        self.tls.start()

    def said(self):
        out = []
        while (one := self.tls.next_crypto_data()) is not None:
            out.append((int(one.epoch), one.data))
        return out

    def hello(self):
        ((_, data),) = self.said()
        return data

    def keys(self):
        while (one := self.tls.next_traffic_secret()) is not None:
            self.secrets[int(one.direction), int(one.epoch)] = (one.secret, one.key, one.iv, one.hp)
        return self.secrets


def server(settings):
    own = quicqh3tls.own_parameters(b"ours", b"original", bytes(16), None)
    made = ServerTls(settings, quicqh3tls.common_parameters(settings.qh3()) + own)
    made.source = b"client"
    return made


def shake(client, settings):
    """A whole handshake; both ends must have the same keys. Answers the server's side."""
    ours = server(settings)
    assert ours.receive(0, client.hello()), "it is not plain"
    for epoch, data in ours.said:
        client.tls.receive_crypto(tls.Epoch(epoch), data)
    for epoch, data in client.said():
        assert ours.receive(epoch, data)
    theirs = client.keys()
    for send, epoch, secret in ours.keys:
        assert theirs[int(not send), epoch] == (secret, *ours.suite.packet_keys(secret))
    assert {(send, epoch) for send, epoch, _ in ours.keys} >= {(True, 2), (False, 2), (True, 3), (False, 3)}
    assert client.tls.handshake_complete and ours.stage == quictls.OVER
    return ours


@pytest.mark.parametrize("kind", KEYS)
def test_a_handshake_with_each_kind_of_key_and_again_with_its_ticket(kind, pairs):
    settings = settings_of(pairs[kind])
    client = Client()
    first = shake(client, settings)
    assert (first.name, first.protocol, first.resumed, first.heard.data) == ("localhost", "h3", False, 15728640)
    assert client.tls.peer_certificate is not None
    (ticket,) = client.tickets
    again = Client(ticket=ticket)
    assert shake(again, settings).resumed and again.tls.tls.session_resumed
    assert not shake(Client(ticket=ticket), settings).resumed  # once


def test_who_never_finishes_has_no_ticket_kept(pairs):
    settings = settings_of(pairs["P-256"])
    assert server(settings).receive(0, Client().hello())
    assert not settings.tickets.place.kept
    shake(Client(), settings)
    assert len(settings.tickets.place.kept) == 1


@pytest.mark.parametrize("suite", quictls.SUITES, ids=lambda one: one.name)
def test_every_cipher_suite(suite, pairs):
    settings = settings_of(pairs["P-256"])
    client = Client(cipher_suites=[tls.CipherSuite(suite.number)])
    assert shake(client, settings).suite is suite
    assert shake(Client(ticket=client.tickets[0], cipher_suites=[tls.CipherSuite(suite.number)]), settings).resumed
    other = tls.CipherSuite(0x1302 if suite.number != 0x1302 else 0x1301)
    client = Client(cipher_suites=[tls.CipherSuite(suite.number)])
    shake(client, settings)
    assert not shake(Client(ticket=client.tickets[0], cipher_suites=[other]), settings).resumed  # it is for another


def test_early_data_has_its_keys_when_it_is_allowed(pairs):
    for early in (True, False):
        settings = settings_of(pairs["P-256"], early=True)
        client = Client()
        shake(client, settings)
        settings.early_data = early
        again = Client(ticket=client.tickets[0])
        ours = shake(again, settings)
        assert ours.early is ours.resumed is again.tls.tls.early_data_accepted is early
        assert ((False, 1) in [one[:2] for one in ours.keys]) is early


def test_the_certificate_is_chosen_by_the_name_and_shown_with_its_chain(pairs):
    settings = settings_of(pairs["P-256"], pairs["RSA"])
    certificate = settings.exact["localhost"][0]
    other = settings.parse(*[Path(one).read_bytes() for one in pairs["RSA"]], None)
    settings.exact["localhost"] = (other[0], [certificate], other[2])
    client = Client()
    shake(client, settings)
    shown = [client.tls.peer_certificate, *client.tls.peer_certificate_chain]
    assert [one.public_bytes() for one in shown] == [other[0].public_bytes(), certificate.public_bytes()]


def test_a_hello_may_come_in_pieces(pairs):
    settings, hello = settings_of(pairs["P-256"]), Client().hello()
    ours = server(settings)
    for at in range(0, len(hello), 100):
        assert not ours.said and ours.receive(0, hello[at : at + 100])
    assert ours.stage == quictls.ANSWERED


def error_of(ours, epoch, data):
    with pytest.raises(Refused) as caught:
        ours.receive(epoch, data)
    return caught.value.code


def test_what_is_wrong_ends_the_handshake_with_its_alert(pairs):
    settings = settings_of(pairs["P-256"])

    def answered():
        client, ours = Client(), server(settings)
        assert ours.receive(0, client.hello())
        for epoch, data in ours.said:
            client.tls.receive_crypto(tls.Epoch(epoch), data)
        ((_, finished),) = client.said()
        return ours, finished

    ours, finished = answered()
    assert error_of(ours, 2, finished[:-1] + bytes((finished[-1] ^ 1,))) == 0x100 + 51
    ours, finished = answered()
    assert ours.receive(2, finished[:3]) and ours.receive(2, finished[3:20]) and ours.stage == quictls.ANSWERED
    assert error_of(ours, 2, finished[20:] + b"x") == 0x100 + 10
    ours, finished = answered()
    assert error_of(ours, 0, finished) == 0x100 + 10  # at another epoch
    assert error_of(answered()[0], 2, b"\x14\0\0\x21" + bytes(32)) == 0x100 + 50
    assert error_of(answered()[0], 2, b"\x0b" + finished[1:]) == 0x100 + 10
    ours, finished = answered()
    assert ours.receive(2, finished) and error_of(ours, 2, finished) == 0x100 + 10
    assert error_of(server(settings), 2, Client().hello()) == 0x100 + 10
    assert error_of(server(settings), 0, b"\1\1\0\0") == 0xD


def test_a_wrong_binder_ends_the_handshake_and_the_ticket_is_gone(pairs):
    settings = settings_of(pairs["P-256"])
    client = Client()
    shake(client, settings)
    hello = Client(ticket=client.tickets[0]).hello()
    assert error_of(server(settings), 0, hello[:-1] + bytes((hello[-1] ^ 1,))) == 0x100 + 40
    ours = server(settings)
    assert ours.receive(0, hello) and not ours.resumed


def test_a_share_that_is_no_point_ends_the_handshake(pairs):
    client = Client()
    hello = client.hello()
    found = offer.read(hello)
    _, key = next(one for one in found.shares if one[0] == quictls.ML768)
    assert error_of(server(settings_of(pairs["P-256"])), 0, hello.replace(key, b"\xff" * len(key))) == 0x100 + 47


# ---- beside qh3's own


def by_engine(message, settings):
    """What qh3's server says to it: (suite, its extensions, those of EncryptedExtensions), or None when it refuses."""
    bridge = quicqh3tls.Bridge(
        settings.qh3(), version=1, local_initial_source_connection_id=b"ours", remote_initial_source_connection_id=b"client",
        original_destination_connection_id=b"original", stateless_reset_token=bytes(16),
    )  # fmt: skip
    try:
        bridge.receive_crypto(tls.Epoch.INITIAL, message, 0)
    except (tls.Alert, QuicTlsBridgeError, ValueError):
        return None
    out = {}
    while (one := bridge.next_crypto_data()) is not None:
        out[int(one.epoch)] = one.data
    return (*plain(out), bridge.remote_transport_parameters)


def plain(out):
    """Of what a server says, that which is no secret: suite, group, extensions with their lengths."""
    told = tls.pull_server_hello(tls.Buffer(data=out[0]))
    size = 4 + int.from_bytes(out[2][1:4], "big")
    extensions = tls.pull_encrypted_extensions(tls.Buffer(data=out[2][:size]))
    return told.cipher_suite, told.key_share[0], len(told.key_share[1]), extensions


def test_it_never_takes_what_qh3_refuses_and_answers_as_qh3_does(pairs):
    settings, chance = settings_of(pairs["P-256"]), random.Random(11)
    settings.tickets = None
    hello = Client().hello()
    key = next(one[1] for one in offer.read(hello).shares if one[0] == quictls.ML768)
    hot = [at for at in range(len(hello)) if not hello.index(key) <= at < hello.index(key) + len(key)]
    taken = 0
    for _ in range(600):
        broken = bytearray(hello)
        for _ in range(chance.randint(0, 2)):
            broken[chance.choice(hot)] = chance.choice((0, 1, 3, 4, 255, chance.randrange(256)))
        ours = server(settings)
        try:
            if not ours.receive(0, bytes(broken)) or not ours.said:
                continue
        except Refused:
            assert by_engine(bytes(broken), settings) is None
            continue
        theirs = by_engine(bytes(broken), settings)
        assert theirs is not None
        assert plain(dict(ours.said)) == theirs[:-1]
        told, heard = theirs[-1], ours.heard
        assert (told.initial_max_data or 0, told.initial_max_streams_bidi or 0, told.max_idle_timeout or 0) == (
            heard.data, heard.streams, heard.idle,
        )  # fmt: skip
        taken += 1
    assert taken > 100


@pytest.mark.parametrize("known", [True, False])
def test_a_qh3_that_we_do_not_know_does_its_own_tls_and_that_is_told_once(known, pairs, monkeypatch, caplog):
    if not known:
        monkeypatch.setattr(quicqh3tls, "WHY_NOT", "qh3 9.9 is not a version we know")
        monkeypatch.setattr(quicqh3tls, "TOLD", [])
    with caplog.at_level(logging.WARNING, "fairlead.error"):
        for _ in range(2):
            theirs = QuicSettings("qh3", client=True)
            theirs.name, theirs.verify = "localhost", False
            client = quicengine.client(theirs, ("127.0.0.1", 443), 1.0)
            flight = [data for data, _ in client.take(1.0)]
            original = wire.head(flight[0]).destination
            engine = quicengine.server(settings_of(pairs["P-256"]), b"01234567", bytes(16), original, None, None)
            engine.receive(flight, ("127.0.0.1", 1000), 1.0)
            assert (engine.conn.quick is not None) is known and engine.protocol() == "h3" and engine.asked_name == "localhost"
            client.receive([data for data, _ in engine.take(1.1)], ("127.0.0.1", 443), 1.1)
            engine.receive([data for data, _ in client.take(1.1)], ("127.0.0.1", 1000), 1.1)
            assert engine.done and client.done and engine.cipher == "TLS_AES_128_GCM_SHA256" and engine.conn._tls is None
    assert [one.message for one in caplog.records] == ([] if known else [quicqh3tls.SLOWER % "qh3 9.9 is not a version we know"])
