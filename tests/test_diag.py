"""What the kernel tells of other sockets, and the master's eye on its own accept queues, with real sockets."""

import json
import logging
import os
import socket
import sys
from contextlib import ExitStack

import pytest

from fairlead.net import diag
from fairlead.run import accepting, cli, watchport
from fairlead.run.holder import Held
from fairlead.run.units import Address

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sock_diag is Linux")


@pytest.fixture
def stack():
    with ExitStack() as opened:
        yield opened


def listener(stack: ExitStack, backlog: int = 5, where=("127.0.0.1", 0), shared: bool = False) -> socket.socket:
    sock = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in where[0] else socket.AF_INET))
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(where)
    sock.listen(backlog)
    return sock


def connect(stack: ExitStack, sock: socket.socket) -> socket.socket:
    return stack.enter_context(socket.create_connection(sock.getsockname()[:2]))


def fill(stack: ExitStack, sock: socket.socket, count: int) -> None:
    """Connections that nobody accepts; those that find no room are left trying."""
    for _ in range(count):
        one = stack.enter_context(socket.socket())
        one.setblocking(False)
        one.connect_ex(sock.getsockname())


def test_a_listening_socket_is_listed_with_its_queue(stack):
    sock = listener(stack, backlog=7)
    for _ in range(3):
        connect(stack, sock)
    (row,) = diag.listening(sock.getsockname()[1])
    assert (row.state, row.local, row.peer) == ("listen", sock.getsockname(), ("", 0))
    assert (row.rqueue, row.wqueue) == (3, 7)
    assert (row.uid, row.inode) == (os.geteuid(), os.fstat(sock.fileno()).st_ino)


def test_ipv6_is_listed_too(stack):
    try:
        sock = listener(stack, where=("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    (row,) = diag.listening(sock.getsockname()[1])
    assert row.local[0] == "::1" and row.family == socket.AF_INET6


def test_a_connection_shows_what_its_server_has_not_read(stack):
    sock = listener(stack)
    client = connect(stack, sock)
    server = stack.enter_context(sock.accept()[0])
    client.sendall(b"x" * 100)
    (row,) = diag.connections(sock.getsockname()[1])
    assert (row.state, row.peer, row.rqueue) == ("established", client.getsockname(), 100)
    assert row.inode == os.fstat(server.fileno()).st_ino


def test_the_counters_rise_when_a_queue_overflows(stack):
    before = diag.counters()
    fill(stack, listener(stack, backlog=1), 6)
    after = diag.counters()
    assert after["overflows"] >= before["overflows"] + 4 and after["drops"] > before["drops"]


# ---- the master's eye


class Book:
    """Enough of a Holder."""

    def __init__(self, *socks: socket.socket) -> None:
        self.held = {}
        for sock in socks:
            self.held.setdefault(Address("127.0.0.1", sock.getsockname()[1]), []).append(sock)
        self.held = {address: Held(address, many) for address, many in self.held.items()}


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def said(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("fairlead"), "propagate", True)
    caplog.set_level(logging.WARNING, "fairlead")
    return lambda: [record.getMessage() for record in caplog.records]


def watching(*socks: socket.socket) -> tuple[accepting.AcceptPath, Time]:
    clock = Time()
    return accepting.AcceptPath(Book(*socks), clock), clock


def test_a_queue_that_fills_is_told_once_and_that_it_is_over_too(stack, said):
    sock = listener(stack, backlog=5)
    path, clock = watching(sock)
    path.look()
    assert not said()
    clients = [connect(stack, sock) for _ in range(4)]
    for _ in range(3):
        path.look()
    bind = f"127.0.0.1:{sock.getsockname()[1]}"
    assert said() == [f"the accept queue of {bind} is nearly full: 4 of 5 connections wait for a worker"]
    assert path.peak(bind) == (4, 5)
    for _ in clients:
        stack.enter_context(sock.accept()[0])
    clock.now += accepting.WINDOW + 1
    path.look()
    assert said()[1:] == [f"the accept queue of {bind} has room again"] and path.peak(bind) == (0, 5)


def test_an_overflow_is_told_with_what_the_clients_feel(stack, said):
    sock = listener(stack, backlog=1)
    path, _ = watching(sock)
    path.look()
    fill(stack, sock, 8)
    for _ in range(4):
        path.look()
    bind = f"127.0.0.1:{sock.getsockname()[1]}"
    assert path.overflowing() == bind and path.report()["since_start"]["overflows"] >= 5
    (line,) = [line for line in said() if "turned away" in line]
    assert bind in line and "1 s, 3 s, 7 s" in line


def test_overflows_of_somebody_else_are_not_called_ours(stack, said):
    path, _ = watching(listener(stack))
    path.look()
    fill(stack, listener(stack, backlog=1), 8)
    for _ in range(4):
        path.look()
    assert path.of_late()["overflows"] >= 5 and not path.overflowing()
    assert not said()


def test_a_foreign_socket_on_our_port_is_told_with_who_it_is(stack, said):
    ours = [listener(stack, shared=True)]
    ours.append(listener(stack, where=ours[0].getsockname(), shared=True))
    path, _ = watching(*ours)
    path.look()
    assert path.foreign == []
    with socket.socket() as theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        theirs.bind(ours[0].getsockname())
        theirs.listen()
        for _ in range(4):
            path.look()
        (found,) = path.foreign
        assert found["inode"] == os.fstat(theirs.fileno()).st_ino and f"pid {os.getpid()}" in found["who"]
        assert len(said()) == 1 and "another socket listens on 127.0.0.1" in said()[0]
    for _ in range(4):
        path.look()
    assert said()[1:] == ["nobody else listens on our port any more"]


# ---- `fairlead watch`


def test_watch_shows_any_server_as_text_and_as_json(stack, capsys):
    sock = listener(stack, backlog=1)
    fill(stack, sock, 3)
    port = sock.getsockname()[1]
    assert cli.main(["watch", str(port)]) == 0
    shown = capsys.readouterr().out
    assert f"127.0.0.1:{port}" in shown and f"pid {os.getpid()}" in shown and "accept queue 2/1  FULL" in shown
    assert cli.main(["watch", str(port), "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert seen["listeners"][0]["sockets"][0]["depth"] == 2 and seen["connections"]["established"] >= 2


def test_watch_says_so_when_nobody_listens(capsys):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # taken, and not listening
        assert cli.main(["watch", str(sock.getsockname()[1])]) == 1
    assert "nobody listens on port" in capsys.readouterr().err


def test_watch_shows_what_rose_between_two_looks(stack):
    sock = listener(stack, backlog=1)
    first = watchport.look(sock.getsockname()[1], {})
    assert not any(first["rose"].values())
    fill(stack, sock, 8)
    second = watchport.look(sock.getsockname()[1], first["counters"])
    assert second["rose"]["overflows"] >= 5
    assert any("overflows +" in line for line in watchport.lines(second))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_what_waits_in_a_udp_socket_and_what_was_dropped_there(stack, host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock, sender = (stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for _ in range(2))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    try:
        sock.bind((host, 0))
    except OSError:
        pytest.skip(f"no {host} here")
    port = sock.getsockname()[1]
    assert diag.datagrams(host, port) == (0, 0)
    for _ in range(100):
        sender.sendto(bytes(1000), (host, port))
    waiting, dropped = diag.datagrams(host, port)
    assert waiting >= 1000 and 0 < dropped < 100
    assert diag.datagrams(host, port + 1 if port < 65535 else 1) == (0, 0)
