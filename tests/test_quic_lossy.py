"""What QUIC promises on a bad link, over both engines: what is lost is said again (RFC 9000 section 13.3), whatever it is.
`fuzz/quic.py` goes on for long.
"""

from __future__ import annotations

import pytest

import quiclossy
from quicnet import Net
from test_quic import certificate  # noqa: F401 - a fixture

engines = pytest.mark.parametrize("server", ["qh3", "aioquic"])


@engines
def test_exchanges_end_whole_on_a_link_that_loses_delays_doubles_and_spoils(server, certificate):  # noqa: F811
    for seed in (1, 2):
        said = quiclossy.talk("aioquic", server, certificate, seed, count=150, worst=0.04)
        assert said.finished == 150


def lose(net: Net, to, count: int) -> None:
    """The next so many datagrams to this engine are lost, and no more."""
    left = [count]

    def drop(where, data: bytes) -> bool:
        if where is to and left[0]:
            left[0] -= 1
            return True
        return False

    net.drop = drop


@engines
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_reset_and_a_stop_come_though_their_packets_are_lost(server, count, certificate):  # noqa: F811
    net = Net("aioquic", server, certificate).shake()
    stream = net.client.opener(False)
    net.client.send(stream, b"ask", False)
    net.run(lambda: net.data(net.server, stream))
    lose(net, net.client, count)
    net.server.reset(stream, 0x10C)
    net.server.stop(stream, 0x10D)
    net.run(lambda: {("reset", stream, 0x10C), ("stop", stream, 0x10D)} <= set(net.heard[net.client]))


@engines
def test_credit_for_bytes_and_streams_comes_though_its_packets_are_lost(server, certificate):  # noqa: F811
    net = Net("aioquic", server, certificate, window=30_000, stream_window=20_000).shake()
    stream = net.client.opener(False)
    net.client.send(stream, bytes(100_000), True)
    for _ in range(4):
        before = len(net.data(net.server, stream))
        net.run(lambda before=before: len(net.data(net.server, stream)) > before)
        lose(net, net.client, 2)
    net.run(lambda: net.ended(net.server, stream))
    for turn in range(130):  # more than 100, so each of the last needs MAX_STREAMS
        if turn > 95:
            lose(net, net.client, 1)
        net.ask()


@engines
def test_the_end_of_the_handshake_and_further_ids_come_though_their_packets_are_lost(server, certificate):  # noqa: F811
    net = Net("aioquic", server, certificate)
    net.run(lambda: net.server.done)
    lose(net, net.client, 4)
    net.run(lambda: net.client.conn._handshake_confirmed and len(net.client.conn._peer_cid_available) >= 3)
