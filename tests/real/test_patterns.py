"""Each pattern and unit, proven by what the outside sees: which sockets listen (/proc/net/tcp), whose epoll watches them
(/proc/PID/fdinfo), which processes and threads there are, who holds a connection, and who answered.
"""

import os
import re
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from peers import Real
from processes import Process, eventually
from test_process import FILES, under_load, worker_pids

APP = """
import os, threading

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = b"%d %d" % (os.getpid(), threading.get_native_id())
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""
ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
WORKERS = 3
FRONT = {"handoff": "fl listener 0", "dispatch": "fl front 0"}  # who stands before the workers, by thread name
UNITS = ("process", "thread")
EVERY = [(pattern, unit) for pattern in ("single", "handoff", "dispatch", "shared", "reuseport") for unit in UNITS]


class Seen:
    """A server from outside: `port`, the pids under the master, and what /proc says of them."""

    def __init__(self, server: Process, pattern: str, unit: str) -> None:
        self.server, self.pattern, self.unit = server, pattern, unit
        self.workers = 1 if pattern == "single" else WORKERS

    @property
    def pids(self) -> list[int]:
        """The processes under the master."""
        return worker_pids(self.server.pid)

    def listening(self) -> set[int]:
        """Inodes of the sockets that listen on the port."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return {int(row[9]) for row in rows if row[3] == "0A" and row[1].endswith(f":{self.server.port:04X}")}

    def acceptors(self) -> list[tuple[int, int, int]]:
        """(pid, descriptor of an epoll, inode of a listening socket it watches)."""
        wanted, found = self.listening(), []
        for pid in self.pids:
            for info in Path(f"/proc/{pid}/fdinfo").iterdir():
                with suppress(OSError):
                    for watched in re.finditer(r"tfd:\s*(\d+).*?ino:([0-9a-f]+)", info.read_text()):
                        if int(watched[2], 16) in wanted:
                            found.append((pid, int(info.name), int(watched[2], 16)))
        return found

    def threads(self) -> Counter[str]:
        """The names of the threads that serve, in all processes."""
        names = Counter()
        for pid in self.pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                with suppress(OSError):
                    names[(task / "comm").read_text().strip()] += 1
        return Counter({name: count for name, count in names.items() if re.match("fl (worker|listener|front)", name)})

    def holders(self, client: socket.socket) -> set[int]:
        """The pids that have the server's end of a connection open."""
        port = f":{client.getsockname()[1]:04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        inode = next(row[9] for row in rows if row[2].endswith(port) and row[1].endswith(f":{self.server.port:04X}"))
        found = set()
        for pid in self.pids:
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    if os.readlink(entry) == f"socket:[{inode}]":
                        found.add(pid)
        return found

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=20)

    def ask(self, sock: socket.socket) -> tuple[int, int]:
        """(pid, thread) of who answers on a connection."""
        sock.sendall(ASK)
        answer = sock.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        pid, thread = answer.rpartition(b"\r\n\r\n")[2].split()
        return int(pid), int(thread)

    def ask_once(self) -> tuple[int, int]:
        """The same, on a connection that ends with it."""
        with self.connect() as sock:
            return self.ask(sock)


@pytest.fixture(scope="module", params=EVERY, ids="-".join)
def seen(request: pytest.FixtureRequest) -> Iterator[Seen]:
    """One server of each pattern and unit."""
    pattern, unit = request.param
    with Real() as peers:
        workers = str(1 if pattern == "single" else WORKERS)
        words = ("--pattern", pattern, "--unit", unit, "--workers", workers, "--page", "off", "--access-log", "off")
        server = peers.fairlead("who:app", *words, files={"who.py": APP})
        server.says("Ctrl-C")
        yield Seen(server, pattern, unit)


def test_as_many_sockets_listen_as_the_pattern_says(seen: Seen) -> None:
    assert len(seen.listening()) == (WORKERS if seen.pattern == "reuseport" else 1)


def test_exactly_those_accept_that_the_pattern_names(seen: Seen) -> None:
    acceptors = seen.acceptors()
    if seen.pattern in ("single", *FRONT):
        assert len(acceptors) == 1
    else:
        assert len({(pid, epoll) for pid, epoll, _ in acceptors}) == len(acceptors) == WORKERS
    if seen.pattern == "reuseport":
        assert len({inode for *_, inode in acceptors}) == WORKERS  # each its own
    if seen.pattern in FRONT and seen.unit == "process":
        assert Path(f"/proc/{acceptors[0][0]}/comm").read_text().strip() == FRONT[seen.pattern]


def test_workers_are_what_the_unit_says(seen: Seen) -> None:
    roles = [f"fl worker {index}" for index in range(seen.workers)]
    roles += [FRONT[seen.pattern]] if seen.pattern in FRONT else []
    assert seen.threads() == Counter(roles)
    assert len(seen.pids) == (1 if seen.unit == "thread" else len(roles))


def test_every_worker_answers_and_none_much_more_often_than_another(seen: Seen) -> None:
    even = seen.pattern in ("shared", *FRONT)
    count = 400 if even else 100
    answered = Counter(seen.ask_once() for _ in range(count))
    assert len(answered) == seen.workers
    assert len({pid for pid, _ in answered}) == (1 if seen.unit == "thread" else seen.workers)
    assert {pid for pid, _ in answered} <= set(seen.pids)
    if even:
        assert max(answered.values()) <= 1.5 * min(answered.values()), answered


def test_a_connection_belongs_to_one_process_and_only_dispatch_has_its_requests_answered_by_many(seen: Seen) -> None:
    with seen.connect() as sock:
        answered = {seen.ask(sock) for _ in range(40)}
        (holder,) = seen.holders(sock)
    if seen.pattern == "dispatch":
        assert len(answered) == WORKERS
        assert seen.unit == "thread" or holder not in {pid for pid, _ in answered}  # it is the front's
    else:
        assert {pid for pid, _ in answered} == {holder} and len(answered) == 1


# ---- what happens when one of them dies


def start(real: Real, pattern: str, unit: str, workers: int = 2, app: str = "shop:app") -> Seen:
    words = ("--pattern", pattern, "--unit", unit, "--workers", str(workers), "--page", "off", "--access-log", "off")
    server = real.fairlead(app, *words, files={**FILES, "who.py": APP})
    server.says("Ctrl-C")
    return Seen(server, pattern, unit)


def test_the_listener_spreads_open_connections_evenly(real: Real) -> None:
    seen = start(real, "handoff", "process", workers=3, app="who:app")
    held = [seen.connect() for _ in range(40)]
    answered = Counter(seen.ask(sock) for sock in held)
    for sock in held:
        sock.close()
    assert max(answered.values()) - min(answered.values()) <= 1, answered


@pytest.mark.parametrize("pattern", ["handoff", "shared"])
def test_a_killed_worker_loses_only_its_own_connections(real: Real, pattern: str) -> None:
    seen = start(real, pattern, "process")
    before = seen.pids
    worker = next(pid for pid in before if Path(f"/proc/{pid}/comm").read_text().startswith("fl worker"))
    with under_load(seen.server.port) as load:
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: len(set(seen.pids) - {worker}) == len(before), what="a replacement")
        load.answered(50)
    assert not [one for one in load.failures if one.startswith("connect:")], load.failures
    assert len(load.failures) <= 6, load.failures  # one for each client


def test_when_the_listener_dies_a_worker_accepts_until_there_is_a_new_one(real: Real) -> None:
    seen = start(real, "handoff", "process")
    ((listener, _, _),) = seen.acceptors()
    with under_load(seen.server.port) as load:
        os.kill(listener, signal.SIGKILL)
        load.answered(50)
        eventually(lambda: listener not in [pid for pid, *_ in seen.acceptors()], what="somebody else accepts")
        comm = "fl listener 0"
        eventually(
            lambda: [Path(f"/proc/{pid}/comm").read_text().strip() for pid, *_ in seen.acceptors()] == [comm],
            what="a new listener accepts, and nobody else",
        )
        load.answered(50)
    # what it had accepted and not yet handed on died with it: one connection at most, and none was refused
    assert len(load.failures) <= 1 and not [one for one in load.failures if one.startswith("connect:")], load.failures


def test_killing_the_process_of_the_threads_brings_all_of_them_back(real: Real) -> None:
    seen = start(real, "reuseport", "thread")
    (before,) = seen.pids
    os.kill(before, signal.SIGKILL)
    eventually(lambda: before not in seen.pids and sum(seen.threads().values()) == 2, what="two new threads")
    with seen.connect() as sock:
        sock.sendall(ASK)
        assert sock.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("pattern, unit", [("handoff", "process"), ("handoff", "thread"), ("shared", "thread")])
def test_new_workers_take_over_under_load_and_nothing_is_lost(real: Real, pattern: str, unit: str) -> None:
    seen = start(real, pattern, unit)
    before = set(seen.pids)
    with under_load(seen.server.port) as load:
        seen.server.signal(signal.SIGHUP)
        seen.server.says("new workers serve")
        eventually(lambda: not before & set(seen.pids), what="the old ones are gone")
        load.answered(50)
    assert not load.failures, load.failures


@pytest.mark.parametrize("pattern, unit", [("handoff", "process"), ("handoff", "thread"), ("reuseport", "thread")])
def test_sigterm_finishes_what_was_asked(real: Real, pattern: str, unit: str) -> None:
    seen = start(real, pattern, unit)
    with under_load(seen.server.port, path="/slow", kept=20, fresh=0) as load:
        seen.server.signal(signal.SIGTERM)
        assert seen.server.wait() == 0
    assert not [one for one in load.failures if not one.startswith("connect:")], load.failures


SLOW_START = """
import os, time
try:
    os.close(os.open("first", os.O_CREAT | os.O_EXCL))
except FileExistsError:
    while not os.path.exists("go"):
        time.sleep(0.01)
from who import app
"""


def test_the_socket_of_a_worker_that_starts_slowly_is_lent_to_a_sibling(real: Real) -> None:
    words = ("--workers", "3", "--page", "off", "--access-log", "off")
    server = real.fairlead("slow:app", *words, files={"slow.py": SLOW_START, "who.py": APP})
    seen = Seen(server, "reuseport", "process")
    answered = Counter(seen.ask_once() for _ in range(40))  # the hash spreads them over all three sockets
    assert len(answered) == 1
    (server.home / "go").touch()
    server.says("Ctrl-C")
    eventually(lambda: len({pid for pid, *_ in seen.acceptors()}) == 3 == len(seen.acceptors()), what="each its own")


@pytest.mark.parametrize("unit", UNITS)
def test_affinity_pins_each_worker_to_a_core(real: Real, unit: str) -> None:
    config = f"""
[server]
workers = 2
unit = "{unit}"
affinity = true
[[listener]]
bind = "127.0.0.1:@PORT@"
[[route]]
app = "who:app"
"""
    server = real.fairlead(config=config, files={"who.py": APP})
    server.says("Ctrl-C")
    cores = {}
    for pid in Seen(server, "shared", unit).pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            name = (task / "comm").read_text().strip()
            if name.startswith("fl worker"):
                cores[name] = os.sched_getaffinity(int(task.name))
    allowed = sorted(os.sched_getaffinity(0))
    assert cores == {f"fl worker {index}": {allowed[index % len(allowed)]} for index in range(2)}


def test_threads_that_are_worn_out_go_with_their_process_and_nothing_is_lost(real: Real) -> None:
    config = """
[server]
workers = 2
unit = "thread"
max_requests = 300
[log]
access = "off"
[[listener]]
bind = "127.0.0.1:@PORT@"
[[route]]
app = "shop:app"
"""
    server = real.fairlead(config=config, files=FILES)
    server.says("Ctrl-C")
    seen = Seen(server, "shared", "thread")
    before = set(seen.pids)
    with under_load(server.port) as load:
        eventually(lambda: not before & set(seen.pids), what="another process")
        load.answered(50)
    assert not load.failures, load.failures
    assert sum(seen.threads().values()) == 2


@pytest.mark.parametrize("pattern", ["single", "handoff", "shared"])
def test_a_unix_socket_is_served_and_arrivals_over_tcp_are_stamped(real: Real, pattern: str) -> None:
    config = f"""
[server]
pattern = "{pattern}"
workers = {1 if pattern == "single" else 2}
[admin]
page = "127.0.0.1:@PORT@"
[log]
access = "off"
[[listener]]
name = "web"
bind = ["unix:@FOLDER@/web.sock", "127.0.0.1:0"]
[[route]]
app = "who:app"
"""
    server = real.fairlead(config=config, files={"who.py": APP})
    server.says("Ctrl-C")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(server.home / "web.sock"))
        sock.sendall(ASK)
        assert sock.recv(4096).startswith(b"HTTP/1.1 200")
    port = int(server.says(r"web\s+http://127\.0\.0\.1:(\d+)")[1])
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            sock.sendall(ASK)
            assert sock.recv(4096).startswith(b"HTTP/1.1 200")

    def metric(name: str) -> float:
        text = real.curl(f"{server.url}/metrics").text
        return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1])

    eventually(lambda: metric("fairlead_connections_opened_total") == 21, what="21 connections counted")
    assert metric("fairlead_unstamped_total") <= 1  # over the unix socket there is no stamp
