"""Path MTU discovery in memory: the search alone, and both engines in both roles over a wire that drops what is too large."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from fairlead.net import quicmtu, quicsize
from fairlead.net.quicmtu import GRAIN, Search
from test_quic import Pair, certificate  # noqa: F401

qh3 = pytest.importorskip("qh3")
ENGINES = ["qh3", "aioquic"]


def walk(search, takes, now=0.0):
    """Probe until there is nothing to ask; the sizes that were tried."""
    tried = []
    while size := search.ask(now):
        tried.append(size)
        search.sent(size, now, 0.01)
        if size <= takes:
            search.acked(now)
        else:
            search.lost(now)
    return tried


def test_a_path_that_takes_the_bound_is_known_after_one_probe():
    search = Search(1280, 8952)
    assert walk(search, 9000) == [8952] and search.size == 8952 and search.complete


@pytest.mark.parametrize("takes", [1280, 1287, 1288, 1300, 1372, 1451, 1452, 1453, 1472, 4000, 8943, 8951])
def test_a_smaller_path_is_found_to_within_the_grain(takes):
    search = Search(1280, 8952)
    tried = walk(search, takes)
    assert takes - GRAIN < search.size <= takes and search.complete
    assert all(count <= quicmtu.TRIES for count in Counter(tried).values()) and len(tried) <= 45


def test_a_path_is_asked_again_after_ten_minutes_and_not_before():
    search = Search(1280, 8952)
    walk(search, 1400)
    assert not search.ask(quicmtu.AGAIN - 1)
    assert walk(search, 4000, quicmtu.AGAIN + 1) and 3992 < search.size <= 4000


def test_where_the_bound_is_no_larger_than_the_base_nothing_is_asked():
    assert not Search(1280, 1280).ask(0.0) and not Search(1280, 1200).ask(0.0) and not Search(1280, 1286).ask(1e9)


def test_a_size_in_doubt_that_is_lost_three_times_is_a_black_hole_and_is_searched_below():
    search = Search(1280, 8952)
    walk(search, 8952)
    search.doubt = True
    assert walk(search, 1400)[:4] == [8952, 8952, 8952, 1452] and 1392 < search.size <= 1400
    search.doubt = True
    assert walk(search, 1400) == [search.size] and not search.doubt


# ---- engines


class Narrow(Pair):
    """What the server sends and is larger than `takes` is lost."""

    def __init__(self, client, server, certificate, takes=65507, most=8952, upwards=False, **options):  # noqa: F811
        super().__init__(client, server, certificate, most=most, **options)
        self.takes, self.dropped, self.sizes, self.chance, self.loss = takes, 0, [], random.Random(7), 0.0
        sender, hearer = (self.client, self.server) if upwards else (self.server, self.client)
        if upwards:
            sender.mtu = quicmtu.Discovery(sender, 1280, most)
        self.sender = sender
        hear = hearer.receive

        def receive(datagrams, peer, now, mark=0):
            self.sizes += [len(one) for one in datagrams]
            passed = [one for one in datagrams if len(one) <= self.takes and self.chance.random() >= self.loss]
            self.dropped += len(datagrams) - len(passed)
            if passed:
                hear(passed, peer, now, mark)

        hearer.receive = receive

    def settle(self):
        """As much as it takes until the search is over."""
        for _ in range(40):
            self.bulk(100_000)
            if self.sender.mtu.search.complete:
                break
        return self.sender.mtu.search

    def bulk(self, size=400_000, rounds=400):
        """A body from whoever probes; it must come whole."""
        stream = self.client.opener(False)
        self.client.send(stream, b"x", False)
        self.run(3)
        hearer = self.server if self.sender is self.client else self.client
        self.sender.send(stream, bytes(size), True)
        came = 0
        for _ in range(rounds):
            self.run(2)
            came = len(self.data(hearer, stream))
            if came >= size:
                break
        assert came - (self.sender is self.client) == size, (came, self.sender.failed)
        assert self.server.failed is None and self.client.failed is None
        return self


@pytest.mark.parametrize("upwards", [False, True])
@pytest.mark.parametrize("server", ENGINES)
@pytest.mark.parametrize("client", ENGINES)
def test_a_wide_path_is_found_by_one_probe_and_used(client, server, upwards, certificate):  # noqa: F811
    pair = Narrow(client, server, certificate, upwards=upwards)
    pair.run()
    assert pair.sender.mtu.search is None  # nothing was said yet
    pair.bulk()
    assert pair.sender.mtu.search.size == 8952 == max(pair.sizes) and pair.dropped == 0
    assert sum(one > 8000 for one in pair.sizes) > 20


@pytest.mark.parametrize("ids", [4, 20])
def test_a_client_with_ids_of_another_length_is_probed_too(ids, certificate):  # noqa: F811
    pair = Narrow("aioquic", "qh3", certificate, ids=ids)
    pair.run()
    assert len(pair.bulk().client.conn.host_cid) == ids and pair.sender.mtu.search.size == 8952


@pytest.mark.parametrize("takes", [1372, 1472, 4000])
@pytest.mark.parametrize("server", ENGINES)
def test_a_narrow_path_is_found_right_below_what_it_takes(server, takes, certificate):  # noqa: F811
    pair = Narrow("aioquic", server, certificate, takes)
    pair.run()
    search = pair.settle()
    assert takes - GRAIN < search.size <= takes and search.complete
    assert pair.sender.facts()["lost"] == 0  # probes alone were lost: nobody took it for congestion


@pytest.mark.parametrize("server", ENGINES)
def test_the_peers_limit_and_our_own_way_bound_it(server, certificate):  # noqa: F811
    pair = Narrow("aioquic", server, certificate)
    pair.run()
    pair.sender.way = lambda peer: 1400
    pair.bulk()
    assert pair.sender.mtu.search.size == 1400 == max(pair.sizes)
    pair = Narrow("aioquic", server, certificate)
    pair.run()
    pair.sender.bound = lambda: 1350
    pair.bulk()
    assert pair.sender.mtu.search.size == 1350 == max(pair.sizes)


@pytest.mark.parametrize("server", ENGINES)
def test_a_path_that_grows_narrow_is_left_for_the_base_and_searched_anew(server, certificate):  # noqa: F811
    pair = Narrow("aioquic", server, certificate)
    pair.run()
    pair.bulk()
    assert pair.sender.mtu.search.size == 8952
    pair.takes = 1400
    pair.bulk(400_000, 2000)
    assert 1400 - GRAIN < pair.settle().size <= 1400 and pair.sender.mtu.holes >= 1


@pytest.mark.parametrize("server", ENGINES)
def test_losses_of_every_size_do_not_stop_a_connection_with_large_datagrams(server, certificate):  # noqa: F811
    pair = Narrow("aioquic", server, certificate)
    pair.run()
    pair.bulk()
    pair.loss = 0.2
    pair.bulk(200_000, 4000)


@pytest.mark.parametrize("server", ENGINES)
def test_another_address_is_another_path(server, certificate):  # noqa: F811
    pair = Narrow("aioquic", server, certificate)
    pair.run()
    pair.bulk()
    pair.home = ("127.0.0.2", 1001)
    pair.takes = 1400
    pair.sizes.clear()
    assert 1400 - GRAIN < pair.settle().size <= 1400 and pair.server.peer() == pair.home and pair.server.mtu.holes == 0


def test_the_place_of_qh3s_size_is_found_by_what_a_core_makes():
    from qh3._hazmat import QuicConnectionCore

    assert quicsize.place(QuicConnectionCore) > 0
    one = quicsize.core(QuicConnectionCore)
    assert not quicsize.resize(one, (2999,), 1500)  # it does not hold what it should: hands off
    assert quicsize.resize(one, (quicsize.MADE,), 2200) and 1800 < quicsize.makes(one) <= 2200
