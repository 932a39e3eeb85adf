"""The patterns' own decisions: who accepts where, whose turn it is, who is the least busy; and connections that travel."""

import os
import socket

import pytest

from fairlead.core.slab import Slab
from fairlead.net import inbox
from fairlead.run.patterns import find
from fairlead.run.patterns.handoff import STALE, Busy
from fairlead.run.patterns.shared import EPOCH, SECOND, Turns

NOW = 1000 * EPOCH * SECOND


@pytest.fixture
def slab():
    made = Slab.create(6)
    for index in range(4):
        made.region(index).claim(os.getpid(), 0, NOW)
    yield made
    made.close()


# ---- who accepts on what


@pytest.mark.parametrize("name", ["single", "shared", "handoff"])
def test_one_socket_per_address(name):
    assert find(name).sockets(4) == 1


def test_shared_gives_every_worker_the_socket_and_handoff_gives_it_to_the_listener_only():
    assert [find("shared").share("s", index, 3) for index in range(3)] == [["s"]] * 3
    assert [find("handoff").share("s", index, 3) for index in (-1, 0, 1, 2)] == [["s"], [], [], []]


class At:
    def __init__(self, index):
        self.index = index


def test_a_worker_accepts_for_a_sibling_and_for_a_listener_that_is_gone():
    roles = [At(-1), At(0), At(1)]
    assert find("reuseport").heir(roles[1:], 0).index == 1
    assert find("handoff").heir(roles[1:], -1).index == 0
    assert find("handoff").heir(roles, 0).index == 1
    assert find("reuseport").heir([At(0)], 0) is None


# ---- shared: whose turn it is


def turns(slab, at=NOW):
    return [Turns(slab, index, lambda: at) for index in range(4)]


def test_who_has_clearly_more_than_the_mean_stands_back(slab):
    for index in range(4):
        slab.region(index).set("open", 32)
    assert all(one.may() for one in turns(slab))
    slab.region(0).set("open", 34)  # the mean is 32.5, and a sixteenth above it is allowed
    assert turns(slab)[0].may()
    slab.region(0).set("open", 35)
    assert [one.may() for one in turns(slab)] == [False, True, True, True]


def test_connections_that_ended_count_for_a_while(slab):
    workers = turns(slab)
    for _ in range(100):
        workers[0].took()
    assert [one.may() for one in workers] == [False, True, True, True]
    later = turns(slab, NOW + 30 * EPOCH * SECOND)
    for region in (slab.region(index) for index in range(4)):
        region.set("heartbeat", NOW + 30 * EPOCH * SECOND)
    assert all(one.may() for one in later)


def test_four_hundred_connections_in_any_order_of_waking_are_spread_fairly(slab):
    workers = turns(slab)
    counts = [0] * 4
    for _ in range(400):  # the kernel always wakes the first one first
        place = next(place for place, one in enumerate(workers) if one.may())
        workers[place].took()
        counts[place] += 1
    assert sum(counts) == 400 and max(counts) <= 1.5 * min(counts)


def test_a_worker_that_is_stuck_or_leaves_does_not_lower_the_mean(slab):
    slab.region(0).set("open", 10)
    slab.region(1).set("open", 10)
    slab.region(2).set("heartbeat", NOW - 10 * SECOND)
    slab.region(3).set("draining", 1)
    assert turns(slab)[0].may() and turns(slab)[1].may()


# ---- handoff: who is the least busy


@pytest.fixture
def pair():
    near, far = inbox.pair()
    yield near, far
    near.close()
    far.close()


def test_what_is_on_its_way_counts_until_the_worker_has_it(slab, pair):
    near, far = pair
    busy = Busy(0, slab.region(0), [near.fileno()])
    for count in (1, 2, 3):
        near.send(inbox.MESSAGE)
        busy.handed(near.fileno())
        busy.look(NOW)
        assert busy.load == count
    far.recv(100)
    busy.look(NOW)
    assert busy.load == 2
    slab.region(0).set("open", 1)
    slab.region(0).set("in_flight", 1)
    busy.look(NOW)
    assert busy.load == 4


def test_a_worker_that_does_not_take_its_connections_is_the_last_choice(slab, pair):
    near, far = pair
    stuck, other = Busy(0, slab.region(0), [near.fileno()]), Busy(1, slab.region(1), [])
    slab.region(1).set("open", 100)
    stuck.look(NOW)
    near.send(inbox.MESSAGE)
    for later, last in ((STALE, False), (STALE + 1, True)):
        stuck.look(NOW + later)
        other.look(NOW + later)
        assert (stuck.rank() > other.rank()) is last
    far.recv(100)
    stuck.look(NOW + STALE + 2)
    assert stuck.rank() < other.rank()


def test_among_equals_it_goes_round(slab):
    workers = [Busy(place, slab.region(place), []) for place in range(3)]
    chosen = []
    for _ in range(6):
        one = min(workers, key=Busy.rank)
        one.sent += 1
        chosen.append(one.place)
    assert chosen == [0, 1, 2, 0, 1, 2]


# ---- connections that travel


def connection():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        client = socket.create_connection(listening.getsockname())
        return client, listening.accept()[0]


class Deaf:
    """Enough of a poller, service and codec for an Inbox that is asked by hand."""

    name = "web"


def test_a_connection_arrives_with_its_peer():
    near, far = inbox.pair()
    client, server = connection()
    assert inbox.hand(near, server.detach())
    fd, peer = inbox.Inbox(None, far, Deaf(), None).take()
    assert peer == client.getsockname()
    with socket.socket(fileno=fd) as taken:
        taken.sendall(b"hello")
        assert client.recv(10) == b"hello" and not os.get_inheritable(fd)
    for sock in (near, far, client):
        sock.close()


def test_a_full_pair_refuses_and_loses_nothing():
    near, far = inbox.pair()
    client, server = connection()
    sent = 0
    while inbox.hand(near, os.dup(server.fileno())):
        sent += 1
    box = inbox.Inbox(None, far, Deaf(), None)
    got = [box.take() for _ in range(sent)]
    assert sent > 10 and all(got) and box.take() is None
    for fd, _ in got:
        os.close(fd)
    for sock in (near, far, client, server):
        sock.close()


def test_a_pair_whose_other_end_is_gone_refuses():
    near, far = inbox.pair()
    far.close()
    client, server = connection()
    assert not inbox.hand(near, server.fileno())
    for sock in (near, client, server):
        sock.close()
