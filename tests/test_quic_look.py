"""What is read of a ClientHello before the engine reads it, and what the engine is told in its own words, is what it would say."""

import importlib.util
import random

import pytest

from fairlead.wire.offer import offered

pytestmark = pytest.mark.skipif(importlib.util.find_spec("qh3") is None, reason="needs qh3")


def block(data, wide=2):
    return len(data).to_bytes(wide, "big") + data


def extension(kind, data):
    return kind.to_bytes(2, "big") + block(data)


NAME = extension(0, block(b"\0" + block(b"www.example.com")))
GROUPS = extension(10, block(b"\0\x1d"))
EARLY = extension(42, b"")
PSK = extension(41, block(block(b"ticket") + b"\1\2\3\4") + block(block(b"b" * 32, 1)))


def hello(*extensions):
    body = b"\3\3" + bytes(32) + block(b"", 1) + block(b"\x13\1") + block(b"\0", 1) + block(b"".join(extensions))
    return b"\1" + block(body, 3)


def by_engine(message):
    """What qh3 reads, or None when it refuses."""
    from qh3 import tls
    from qh3._hazmat import Buffer

    try:
        told = tls.pull_client_hello(Buffer(data=message))
    except Exception:
        return None
    ids = told.pre_shared_key.identities if told.pre_shared_key is not None else []
    return told.server_name or "", ids[0][1] if len(ids) == 1 else 0, bool(told.early_data)


def test_name_age_and_early_data_of_a_plain_hello():
    assert offered(hello(NAME, GROUPS, EARLY, PSK)) == ("www.example.com", 0x01020304, True)
    assert offered(hello(GROUPS)) == ("", 0, False)


@pytest.mark.parametrize(
    "message",
    [
        hello(NAME, NAME),
        hello(PSK, NAME),
        hello(extension(10, b"\0\4\0\x1d")),
        hello(extension(0, block(b"\0" + block("é".encode())))),
        hello(NAME)[:-1],
        hello(NAME) + b"x",
        hello(extension(42, b"x")),
        b"\1",
        b"",
    ],
)
def test_a_hello_that_is_not_plain_is_left_to_the_engine(message):
    assert offered(message) is None


def test_it_never_reads_what_the_engine_reads_otherwise():
    chance = random.Random(7)
    plain = hello(NAME, GROUPS, extension(43, block(b"\3\4", 1)), EARLY, PSK)
    said = 0
    for _ in range(4000):
        broken = bytearray(plain)
        for _ in range(chance.randint(1, 3)):
            broken[chance.randrange(len(broken))] = chance.choice((0, 1, 2, 41, 42, 255, chance.randrange(256)))
        found = offered(bytes(broken))
        if found is not None:
            told = by_engine(bytes(broken))
            assert told is None or told == found
            said += told is not None
    assert said > 100


def test_the_engine_is_told_of_transport_parameters_what_it_would_tell_itself():
    from qh3._hazmat import Buffer
    from qh3.quic.configuration import QuicConfiguration
    from qh3.quic.packet import pull_quic_transport_parameters
    from qh3.quic.tls_bridge import QuicTlsBridge

    from fairlead.net.quicqh3tls import parameters

    configuration = QuicConfiguration(is_client=False, idle_timeout=80.0, max_datagram_frame_size=65535)
    for retried in (None, b"12345678"):
        bridge = QuicTlsBridge.__new__(QuicTlsBridge)
        bridge.configuration, bridge.version, bridge._quic_logger = configuration, 1, None
        bridge.local_initial_source_connection_id = b"abcdefgh"
        bridge.original_destination_connection_id, bridge.retry_source_connection_id = b"original", retried
        bridge.stateless_reset_token = bytes(16)
        theirs = pull_quic_transport_parameters(Buffer(data=bridge.serialize_transport_parameters()))
        assert pull_quic_transport_parameters(Buffer(data=parameters(bridge, configuration))) == theirs


def test_keys_are_derived_as_the_standard_says():
    """RFC 9001 appendix A.1: the client's Initial key of the connection id 0x8394c8f03e515708."""
    from qh3 import tls

    secret = bytes.fromhex("c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea")
    assert tls.hkdf_expand_label(256, secret, b"quic key", b"", 16).hex() == "1f369613dd76d5467730efcbe3b1a22d"
    assert len(tls.hkdf_expand_label(256, secret, b"x", b"", 100)) == 100
