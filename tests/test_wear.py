"""What the supervisor decides by itself: wear, who waited for a stall, which passed socket is whose, what systemd is told."""

import os
import socket

import pytest

from fairlead.core.slab import RECORD_WORDS, Slab
from fairlead.run import config as c
from fairlead.run import systemd
from fairlead.run.units import Address
from fairlead.run.watchdog import machinery, stack, waiters
from fairlead.run.wear import Wear

MIB = 2**20


@pytest.mark.parametrize(
    "settings, now, answered, memory, why",
    [
        ({}, 1e9, 10**9, 10**12, ""),
        ({"max_requests": 100}, 0, 100, 0, ""),
        ({"max_requests": 100}, 0, 101, 0, "it has answered 101 requests"),
        ({"max_age": 60.0}, 60.0, 0, 0, ""),
        ({"max_age": 60.0}, 61.0, 0, 0, "it is 61 s old"),
        ({"max_memory": 200 * MIB}, 0, 0, 200 * MIB, ""),
        ({"max_memory": 200 * MIB}, 0, 0, 201 * MIB, "it takes 201 MiB"),
    ],
)
def test_a_worker_is_worn_out_beyond_its_limits(settings, now, answered, memory, why):
    wear = Wear(0.0, 1.0)
    wear.fresh = 50 * MIB
    assert wear.why(c.Server(**settings), now, answered, memory) == why


def test_each_worker_draws_its_own_share_of_a_limit():
    assert {Wear(0.0).jitter for _ in range(50)} != {1.0}
    assert all(0.9 <= Wear(0.0).jitter <= 1.1 for _ in range(50))


def test_a_memory_limit_below_a_fresh_worker_is_said_once_and_ignored(caplog):
    wear = Wear(0.0, 1.0)
    wear.fresh = 80 * MIB
    for _ in range(3):
        assert wear.why(c.Server(max_memory=64 * MIB), 0, 0, 100 * MIB) == ""
    assert caplog.text.count("server.max_memory = 64MiB is ignored: a fresh worker takes 80MiB already") == 1


def remember(region, place, ident, arrived, done):
    """One record in a region's ring, with its check word."""
    at = region.offsets["ring"] + place * RECORD_WORDS
    words = {0: place + 1, 8 + 3: arrived, 8 + 23: done, 6: len(ident)}
    for word, value in words.items():
        region.words[at + word] = value
    region.write_text(at + 43, 48, ident)
    check = place + 1
    for word in range(2, 43 + (len(ident) + 7) // 8):
        check ^= region.words[at + word]
    region.words[at + 1] = check


def test_those_that_waited_for_a_stall_are_found_with_how_long_longest_first():
    second = 10**9
    slab = Slab.create(1)
    region = slab.region(0)
    remember(region, 0, b"before", 1 * second, 2 * second)
    remember(region, 1, b"across", 4 * second, 9 * second)
    remember(region, 2, b"inside", 6 * second, 9 * second)
    remember(region, 3, b"after", 9 * second, 10 * second)
    found = waiters(region, 5 * second, 8 * second)
    assert [(round(seconds, 3), one["id"]) for seconds, one in found] == [(3.0, "across"), (2.0, "inside")]
    slab.close()


def test_a_stack_begins_where_the_application_does():
    import sys

    lines = stack(sys._getframe())
    assert "test_a_stack_begins_where_the_application_does" in lines[-1]
    assert machinery("/x/asyncio/base_events.py") and machinery("<frozen runpy>") and not machinery("/srv/shop.py")
    assert stack(None) == []


@pytest.fixture
def passed():
    """Three sockets as systemd would pass them."""
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    found = [systemd.Passed(sock, systemd.bound_to(sock), name) for sock, name in zip(socks, ("web", "", "other"))]
    yield found
    for sock in socks:
        sock.close()


def test_a_passed_socket_belongs_to_its_address_then_to_its_name(passed):
    web, plain, other = passed
    assert systemd.take(passed, "admin", plain.address) == [plain]
    assert systemd.take(passed, "web", Address("0.0.0.0", 1)) == [web]
    assert systemd.take(passed, "web", Address("0.0.0.0", 1)) == []
    assert systemd.take(passed, "other", Address("", 0, "/run/other.sock")) == [], "a path is not served by a port"
    assert passed == [other]


def test_sockets_for_another_process_are_not_taken_and_the_variables_are_gone(monkeypatch):
    for pid in ("1", ""):
        for name, value in (("LISTEN_FDS", "1"), ("LISTEN_PID", pid), ("LISTEN_FDNAMES", "web")):
            monkeypatch.setenv(name, value)
        assert systemd.passed_sockets() == []
        assert not [name for name in os.environ if name.startswith("LISTEN_")]


@pytest.mark.parametrize("abstract", [False, True])
def test_words_reach_a_path_and_an_abstract_name(monkeypatch, tmp_path, abstract):
    name = f"@fairlead-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:] if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        systemd.ready("serving")
        assert sock.recv(1000).decode().splitlines() == ["READY=1", f"MAINPID={os.getpid()}", "STATUS=serving"]
    assert not systemd.notify(READY=1), "nobody there is no error"


def test_the_watchdog_is_fed_only_when_it_is_ours(monkeypatch):
    assert systemd.watchdog_pause() == 0.0
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    assert systemd.watchdog_pause() == 1.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert systemd.watchdog_pause() == 0.0
