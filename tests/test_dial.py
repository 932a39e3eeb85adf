"""Dialing: names, addresses, unix sockets, and what each failure is called."""
# ruff: noqa: E501

import asyncio
import errno
import os
import socket

import pytest

from fairlead.net.dial import Dialer, Options, interleave, name_of, numeric
from fairlead.net.poll import Poller
from proxyrig import closed_port, until

V4, V6 = socket.AF_INET, socket.AF_INET6


class Asker:
    """Hears one outcome."""

    def __init__(self):
        self.fd = self.peer = self.error = None
        self.told = 0

    def dialed(self, fd, peer):
        self.fd, self.peer = fd, peer
        self.told += 1

    def undialed(self, error):
        self.error = error
        self.told += 1


def dial(address, timeout=5.0, names=None, options=None):
    """Dial once; the Asker when it was told."""
    asker = Asker()

    async def main():
        poller = Poller(asyncio.get_running_loop())
        dialer = Dialer(poller, options)
        if names is not None:
            dialer.names[address] = (poller.loop.time() + 60, names, None)
        dialer.dial(address, asker, timeout)
        await until(lambda: asker.told)
        assert not poller.watchers or asker.fd is None
        poller.close()

    asyncio.run(main())
    return asker


@pytest.fixture
def listening():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()


def test_an_address_is_connected_with_its_options_set(listening):
    asker = dial(listening)
    with socket.socket(fileno=asker.fd) as sock:
        assert sock.getpeername() == listening and asker.told == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) and sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not os.get_blocking(sock.fileno())


def test_options_may_be_off(listening):
    asker = dial(listening, options=Options(nodelay=False, keepalive=None))
    with socket.socket(fileno=asker.fd) as sock:
        assert not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_a_name_is_looked_up(listening):
    asker = dial(("localhost", listening[1]))
    with socket.socket(fileno=asker.fd) as sock:
        assert sock.getpeername()[1] == listening[1]


def test_a_unix_socket_is_a_path(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        asker = dial(path)
        os.close(asker.fd)
        assert asker.peer == path
    assert dial(str(tmp_path / "none")).error.step == "dial"


def test_refused_is_a_502_that_may_be_tried_elsewhere():
    error = dial(("127.0.0.1", closed_port())).error
    assert (error.step, error.status, error.side, error.retry) == ("dial", 502, "upstream", "always")
    assert "refused" in str(error)


def test_no_answer_in_time_is_a_504():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = []
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            if filler.connect_ex(full.getsockname()) not in (0, errno.EINPROGRESS):
                break
            fillers.append(filler)
        error = dial(full.getsockname(), timeout=0.3).error
        for filler in fillers:
            filler.close()
    assert error is not None and error.step == "dial" and error.status == 504


def test_an_unknown_name_is_a_failed_look_up():
    assert dial(("no-such-host.invalid", 80)).error.step == "resolve"


def test_the_next_address_is_tried_when_one_refuses(listening):
    asker = dial(("two.example", 1), names=[(V4, ("127.0.0.1", closed_port())), (V4, listening)])
    assert asker.peer == listening
    os.close(asker.fd)


def test_all_addresses_refusing_is_one_error():
    bad = closed_port()
    asker = dial(("two.example", 1), names=[(V4, ("127.0.0.1", bad)), (V4, ("127.0.0.2", bad))])
    assert asker.told == 1 and "two.example:1 refused" in str(asker.error)


def test_a_cancelled_dial_says_nothing(listening):
    asker = Asker()

    async def main():
        poller = Poller(asyncio.get_running_loop())
        Dialer(poller).dial(listening, asker).cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not poller.watchers
        poller.close()

    asyncio.run(main())
    assert asker.told == 0


def test_families_take_turns():
    found = [(V6, 1, 6, "", "a"), (V6, 1, 6, "", "b"), (V4, 1, 6, "", "c"), (V6, 1, 6, "", "a"), (V4, 1, 6, "", "d")]
    assert [address for _, address in interleave(found)] == ["a", "c", "b", "d"]


def test_addresses_as_text():
    assert name_of(("::1", 80)) == "[::1]:80" and name_of("/run/a") == "unix:/run/a" and name_of(("a", 1)) == "a:1"
    assert numeric("127.0.0.1", 1) and numeric("::1", 1) and numeric("localhost", 1) is None
