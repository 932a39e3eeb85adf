"""UDP sockets of one port, steered by connection id in the kernel: with real sockets and packets shaped like QUIC's."""

import dataclasses
import select
import socket
import sys

import pytest

from fairlead.core.errors import NetError
from fairlead.net import steer
from fairlead.run import config as c
from fairlead.run import plan as plans
from fairlead.run import sockets
from fairlead.run.holder import Holder
from fairlead.run.load import loads
from fairlead.run.units import Address

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SO_ATTACH_REUSEPORT_CBPF is Linux")
LOOPBACK = Address("127.0.0.1", 0)
V1, V2 = (1).to_bytes(4, "big"), steer.VERSION_2.to_bytes(4, "big")


def short(first: int) -> bytes:
    return bytes([0x40, first]) + b"\x07" * 30


def long(kind: int, version: bytes, first: int) -> bytes:
    return bytes([0xC0 | kind << 4]) + version + bytes([8, first]) + b"\x07" * 40


def who_gets(group: list[socket.socket], packet: bytes, client: socket.socket | None = None) -> int:
    """The place of the socket that a packet comes to, from a new address unless one is given."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fresh:
        (client or fresh).sendto(packet, group[0].getsockname())
        ready, _, _ = select.select(group, [], [], 20)
        assert len(ready) == 1 and ready[0].recv(100) == packet
        return group.index(ready[0])


@pytest.fixture
def group():
    opened = sockets.open_datagrams(LOOPBACK, 4, c.Socket())
    yield opened
    for sock in opened:
        sock.close()


def test_the_mark_of_a_connection_id_is_read_back():
    for slot in (0, 1, 63):
        for generation in range(4):
            assert steer.read(steer.mark(slot, generation)) == (slot, generation)
    with pytest.raises(ValueError, match="slot 64"):
        steer.mark(64, 0)


@pytest.mark.parametrize("slot", range(4))
def test_a_packet_finds_its_slot_from_whatever_address_and_in_every_generation(group, slot):
    for generation in range(4):
        first = steer.mark(slot, generation)
        assert who_gets(group, short(first)) == slot  # a client that moved: every packet has another address
        assert who_gets(group, long(2, V1, first)) == slot
        assert who_gets(group, long(3, V2, first)) == slot


def test_a_first_flight_stays_together_and_different_clients_are_spread(group):
    seen = set()
    for _ in range(40):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            ids = range(0, 256, 61)  # the client makes them up
            places = {who_gets(group, long(0, V1, first), client) for first in ids}
            places |= {who_gets(group, long(1, V2, first), client) for first in ids}
            assert len(places) == 1
            seen |= places
    assert len(seen) > 1


def test_a_slot_that_there_is_not_goes_by_the_hash(group):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        assert len({who_gets(group, short(steer.mark(slot, 0)), client) for slot in range(4, 64, 7)}) == 1


def test_packets_too_short_for_an_id_do_no_harm(group):
    for packet in (b"\x40", b"\xc0", b"\xe0\0\0\0\1", b"\xe0\0\0\0\1\x08"):
        assert 0 <= who_gets(group, packet) < 4


def test_what_waits_for_a_slot_outlives_its_worker(group):
    """The worker's own descriptor closes; the master's keeps the socket, its queue and its number."""
    theirs = group[2].dup()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(short(steer.mark(2, 0)), group[0].getsockname())
        theirs.close()
        assert group[2].recv(100) == short(steer.mark(2, 0))
    assert who_gets(group, short(steer.mark(2, 1))) == 2


# ---- the master's book


def plan(workers: int) -> plans.Plan:
    text = f'[server]\nworkers = {workers}\n[[listener]]\nname = "web"\nbind = "127.0.0.1:0"\n[[route]]\nrespond = 404\n'
    made = plans.make(loads(text, "fairlead.toml"))
    listener = dataclasses.replace(made.config.listeners[0], protocols=("h1", "h3"))
    return dataclasses.replace(made, config=dataclasses.replace(made.config, listeners=(listener,)))


@pytest.fixture
def holder():
    book = Holder()
    yield book
    book.close()


def test_each_worker_gets_the_socket_of_its_place_on_the_port_of_the_tcp_sockets(holder):
    holder.open(plan(3))
    (held,) = holder.held.values()
    assert {sock.getsockname() for sock in held.datagrams} == {held.socks[0].getsockname()}
    for index in range(3):
        names, fds = holder.datagrams(plan(3), index)
        assert names == [("web", f"udp:{index}:127.0.0.1:0")] and fds == [held.datagrams[index].fileno()]


def test_more_workers_get_more_slots_and_fewer_share_what_is_there(holder):
    holder.open(plan(2))
    (held,) = holder.held.values()
    holder.prepare(plan(4))
    for slot in range(4):
        assert who_gets(held.datagrams, short(steer.mark(slot, 0))) == slot
    holder.prepare(plan(2))
    assert [len(holder.datagrams(plan(2), index)[1]) for index in range(2)] == [2, 2]


def test_a_udp_port_that_is_taken_is_told(holder):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        with pytest.raises(NetError, match=r"the port is taken by .*pid"):
            sockets.open_datagrams(Address("127.0.0.1", other.getsockname()[1]), 2, c.Socket())
