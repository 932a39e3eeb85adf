"""Where a client is, over both engines (RFC 9000 sections 8.2 and 9): it moves, comes back, shows itself at addresses that are
dead or not its own, only looks whether another one would do, and changes keys meanwhile.
"""

from __future__ import annotations

import pytest

from fairlead.net import quicpaths
from fairlead.net.quicseal import Keys, whole
from fairlead.wire.quicframes import frames
from quicnet import HOME, Net
from test_quic import certificate  # noqa: F401 - a fixture

engines = pytest.mark.parametrize("server", ["qh3", "aioquic"])
nameless = pytest.mark.parametrize("nameless", [False, True], ids=["named", "nameless"])  # Chromium's ids are empty
OTHER, FAR, DEAD = ("127.0.0.1", 2000), ("192.0.2.9", 3000), ("198.51.100.7", 9)


@engines
@nameless
@pytest.mark.parametrize("to", [OTHER, FAR])
def test_who_moves_is_followed_once_it_answers_there(server, nameless, to, certificate):  # noqa: F811
    net = Net("aioquic", server, certificate, nameless=nameless).shake()
    net.alive, net.at = {to}, to  # the old address is gone at once
    net.ask(answer=50_000)
    assert net.server.peer()[:2] == to and len(net.heard[net.server]) and net.server.failed is None


@engines
@nameless
def test_an_address_that_never_answers_gets_little_and_changes_nothing(server, nameless, certificate):  # noqa: F811
    net = Net("aioquic", server, certificate, nameless=nameless).shake()
    net.client.send(stream := net.client.opener(False), bytes(2000), True)
    net.at = DEAD
    net.flush()
    net.at = HOME
    net.run(lambda: net.ended(net.server, stream))
    net.server.send(stream, bytes(100_000), True)
    net.run(lambda: net.ended(net.client, stream))
    net.run(20.0)
    net.ask(answer=100_000)
    assert 0 < net.sent_to[DEAD] <= 3 * net.came_from[DEAD] and net.server.peer()[:2] == HOME


@engines
@nameless
def test_who_copies_every_packet_and_is_faster_gets_little_and_harms_nobody(server, nameless, certificate):  # noqa: F811
    net = Net("aioquic", server, certificate, nameless=nameless).shake()
    net.copy = lambda data: net.write(data, DEAD)
    for _ in range(3):
        net.ask(size=5_000, answer=100_000)
    net.copy = None
    net.run(10.0)
    net.ask(answer=1000)
    assert net.sent_to[DEAD] <= 3 * net.came_from[DEAD] and net.server.peer()[:2] == HOME


@engines
@nameless
def test_a_client_moves_any_number_of_times_and_comes_back(server, nameless, certificate):  # noqa: F811
    net = Net("aioquic", server, certificate, nameless=nameless).shake()
    for port in (*range(2000, 2020), *range(2010, 2020), 1000):
        net.at = ("127.0.0.1", port)
        net.alive = {net.at}
        if port % 3 == 0:
            net.client.conn.change_connection_id()
        net.ask(answer=5000)
        assert net.server.peer()[:2] == net.at


@engines
@nameless
def test_a_client_moves_in_the_middle_of_a_download_and_of_an_upload(server, nameless, certificate):  # noqa: F811
    net = Net("aioquic", server, certificate, nameless=nameless).shake()
    stream = net.client.opener(False)
    net.client.send(stream, bytes(400_000), True)
    net.run(lambda: len(net.data(net.server, stream)) > 100_000)
    net.at, net.alive = OTHER, {OTHER}
    net.run(lambda: net.ended(net.server, stream))
    net.server.send(stream, bytes(400_000), True)
    net.run(lambda: len(net.data(net.client, stream)) > 100_000)
    net.at, net.alive = FAR, {FAR}
    net.client.ping()
    net.run(lambda: net.ended(net.client, stream))
    assert len(net.data(net.client, stream)) == 400_000


@engines
def test_keys_change_before_between_and_while_a_client_moves(server, certificate):  # noqa: F811
    net = Net("aioquic", server, certificate).shake()
    for turn in range(5):
        for _ in range(turn % 3):
            net.client.key_update()
            net.ask()
            net.run(3.0)
        net.at = ("127.0.0.1", 2000 + turn)
        net.alive = {net.at}
        if turn == 4:
            net.client.key_update()  # its first packet with new keys comes from the new address
        net.ask(answer=20_000)
        assert net.server.peer()[:2] == net.at


@pytest.mark.parametrize("suite", [0x1301, 0x1302, 0x1303])
def test_a_client_moves_whatever_the_cipher(suite, certificate, monkeypatch):  # noqa: F811
    tls = pytest.importorskip("aioquic.tls")
    one = next(found for found in tls.CipherSuite if int(found) == suite)
    real = tls.Context.__init__

    def only(self, *args, **given):
        real(self, *args, **given)
        if self._is_client:
            self._cipher_suites = [one]

    monkeypatch.setattr(tls.Context, "__init__", only)
    net = Net("aioquic", "qh3", certificate).shake()
    assert {0x1301: "AES_128", 0x1302: "AES_256", 0x1303: "CHACHA20"}[suite] in net.server.cipher
    net.at, net.alive = FAR, {FAR}
    net.ask(answer=30_000)
    assert net.server.peer()[:2] == FAR


def probe(net: Net, at) -> bytes:
    """A packet of the client with a PATH_CHALLENGE and nothing else, from an address; what was in it."""
    conn, data = net.client.conn, bytes(range(8))
    from aioquic.quic import connection, packet_builder

    builder = packet_builder.QuicPacketBuilder(
        host_cid=conn.host_cid, packet_number=conn._packet_number, peer_cid=conn._peer_cid.cid, version=1, is_client=True,
        max_datagram_size=1200,
    )  # fmt: skip
    builder.start_packet(connection.QuicPacketType.ONE_RTT, conn._cryptos[connection.tls.Epoch.ONE_RTT])
    builder.start_frame(0x1A, capacity=9).push_bytes(data)
    datagrams, packets = builder.flush()
    conn._packet_number = builder.packet_number
    for packet in packets:
        packet.sent_time = net.now
        conn._loss.on_packet_sent(packet=packet, space=conn._spaces[connection.tls.Epoch.ONE_RTT])
    for one in datagrams:
        net.write(one, at)
    return data


@engines
@nameless
def test_who_only_looks_is_answered_there_and_not_followed(server, nameless, certificate):  # noqa: F811
    net = Net("aioquic", server, certificate, nameless=nameless).shake()
    net.alive.add(OTHER)
    heard = []

    def response(context, kind, buf):
        heard.append(buf.data_slice(buf.tell(), buf.tell() + 8))
        buf.seek(buf.tell() + 8)

    handlers = net.client.conn._QuicConnection__frame_handlers
    handlers[0x1B] = (response, handlers[0x1B][1])
    before = len(net.packets)
    data = probe(net, OTHER)
    net.run(1.0)
    assert heard == [data]
    assert {peer for _, peer, _ in net.packets[before:]} >= {OTHER} and net.server.peer()[:2] == HOME
    net.ask(answer=10_000)
    assert net.server.peer()[:2] == HOME
    net.at, net.alive = OTHER, {OTHER}  # and now it goes there
    net.ask(answer=10_000)
    net.run(1.0)
    assert net.server.peer()[:2] == OTHER and net.server.failed is None and net.client.failed is None


def test_a_packet_that_comes_late_from_an_address_that_was_left_moves_nobody(certificate):  # noqa: F811
    net = Net("aioquic", "qh3", certificate).shake()
    net.client.ping()
    ((late, _),) = net.client.take(net.now)
    net.at, net.alive = OTHER, {OTHER, HOME}
    net.ask()
    net.run(30.0)
    assert net.server.peer() == OTHER
    before = net.sent_to[HOME]
    net.write(late, HOME)
    net.ask(answer=10_000)
    net.run(5.0)
    assert net.server.peer() == OTHER and net.sent_to[HOME] - before < 200


def test_another_host_begins_with_a_small_window_and_another_port_keeps_it(certificate):  # noqa: F811
    net = Net("aioquic", "qh3", certificate).shake()
    stream = net.client.opener(False)
    net.client.send(stream, b"x", True)
    net.run(lambda: net.ended(net.server, stream))
    net.server.send(stream, bytes(1_000_000), True)
    net.run(lambda: len(net.data(net.client, stream)) > 300_000)
    window = net.server.facts()["window"]
    assert window > 60_000
    net.at, net.alive = OTHER, {OTHER}
    net.client.ping()
    net.run(lambda: net.server.peer() == OTHER)
    assert net.server.room == 0
    net.run(lambda: len(net.data(net.client, stream)) > 500_000)
    net.at, net.alive = FAR, {FAR}
    net.client.ping()
    net.run(lambda: net.server.peer() == FAR)
    assert 0 < net.server.room <= quicpaths.LEAST * 10
    mark = len(net.packets)
    net.run(0.011)
    assert sum(len(data) for _, peer, data in net.packets[mark:] if peer == FAR) < 20_000
    net.run(lambda: net.ended(net.client, stream))
    assert len(net.data(net.client, stream)) == 1_000_000


@engines
def test_challenges_fill_a_datagram_when_the_credit_is_there(server, certificate):  # noqa: F811
    net = Net("aioquic", server, certificate).shake()
    net.at = DEAD
    net.client.send(net.client.opener(False), bytes(900), True)
    net.flush()
    net.at = HOME
    net.run(0.1)
    assert any(peer == DEAD and len(data) >= 1200 for _, peer, data in net.packets)


# ---- the parts


def test_junk_with_the_id_of_a_connection_makes_no_address_known(certificate):  # noqa: F811
    net = Net("aioquic", "qh3", certificate).shake()
    caught = []
    net.copy = caught.append
    net.ask()
    junk = caught[-1][:-1] + bytes((caught[-1][-1] ^ 1,))
    for port in range(4000, 4020):
        net.write(junk, (FAR[0], port))
    net.ask()
    assert set(net.server.paths.known) == {HOME} and net.server.peer()[:2] == HOME


def test_packet_numbers_are_whole_again():
    for number in (0, 1, 127, 128, 255, 256, 1000, 65_535, 65_536, 1 << 30):
        for bits in (8, 16, 32):
            for off in (-100, -1, 0, 1, 100):
                assert whole(number & (1 << bits) - 1, bits, max(0, number + off)) == number


@pytest.mark.parametrize("suite", [0x1301, 0x1302, 0x1303])
def test_what_is_sealed_opens_with_the_same_keys_and_no_others(suite):
    size = 48 if suite == 0x1302 else 32
    ours, other = Keys(suite, b"s" * size), Keys(suite, b"t" * size)
    for number in (0, 5, 300, 70_000):
        packet = ours.seal(0x40, b"12345678", number, b"\1" + bytes(30))
        assert ours.open(packet, 9, number + 3, 0) == (0x43, number, b"\1" + bytes(30))
        assert other.open(packet, 9, number, 0) is None and ours.open(packet[:20], 9, number, 0) is None
        assert ours.number(packet[:40], 9, number) == number
    later = Keys(suite, b"s" * size)
    later.advance(1)
    packet = later.seal(0x44, b"12345678", 9, b"new keys")
    assert ours.open(packet, 9, 9, 0)[2] == b"new keys" and ours.generation == 0


def test_frames_are_told_apart():
    parts = [
        (0x02, b"\x02\x05\x00\x01\x00\x01\x01"), (0x03, b"\x03\x05\x00\x00\x00\x01\x02\x03"), (0x04, b"\x04\x01\x02\x03"),
        (0x05, b"\x05\x01\x02"), (0x06, b"\x06\x00\x02ab"), (0x07, b"\x07\x03tok"), (0x0E, b"\x0e\x04\x00\x01x"),
        (0x0A, b"\x0a\x04\x01x"), (0x10, b"\x10\x01"), (0x18, b"\x18\x01\x00\x0412341234567890123456"), (0x1A, b"\x1a12345678"),
        (0x1B, b"\x1b12345678"), (0x1C, b"\x1c\x01\x02\x01r"), (0x1D, b"\x1d\x01\x01r"), (0x1E, b"\x1e"), (0x31, b"\x31\x01d"),
        (0x01, b"\x01"), (0x0C, b"\x0c\x04\x00rest"),
    ]  # fmt: skip
    payload = b"\0\0".join(body for _, body in parts)
    found = frames(payload)
    assert [(kind, payload[begin:end]) for kind, begin, end in found] == parts
    for cut in range(len(payload)):
        try:
            for _, begin, end in frames(payload[:cut]):
                assert begin < end <= cut
        except ValueError:
            pass
    for wrong in (b"\x21", b"\x40", b"\x1a1234567", b"\x06\x00\x05ab", b"\xff"):
        with pytest.raises(ValueError, match=r"cut|type"):
            frames(wrong)
