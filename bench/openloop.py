"""An open-loop load generator: requests leave by a schedule that was made before, whether or not the last ones are answered.

A closed-loop generator (wrk) waits for an answer before it asks again, so while a server stalls it asks nothing, and the
stall counts once instead of as often as people would have waited ("coordinated omission"). Here the time of a request runs
from the moment it was *meant* to leave, its wait for a free connection included, to the last byte of its answer.

The schedule is a Poisson process with a fixed seed: every server gets the same one.
"""

import random
import select
import socket
import time
from collections import deque
from dataclasses import dataclass

PATIENCE = 20.0  # seconds after the schedule's end for what is still open


@dataclass(slots=True)
class Request:
    """One request: when it was meant to leave (seconds from the start), what it asks, and how it went."""

    at: float
    path: str
    took: float = -1.0
    who: bytes = b""


@dataclass(slots=True)
class Wire:
    """A connection: its socket, the request on it, and what came of the answer."""

    sock: socket.socket
    request: Request | None = None
    data: bytes = b""
    started: bool = False


def schedule(rate: float, seconds: float, mix: dict[str, float], seed: int = 1) -> list[Request]:
    """Requests at `rate` a second for `seconds`; `mix` gives each path its share."""
    random_ = random.Random(seed)
    paths, shares = list(mix), list(mix.values())
    at, found = 0.0, []
    while (at := at + random_.expovariate(rate)) < seconds:
        found.append(Request(at, random_.choices(paths, shares)[0]))
    return found


class Generator:
    """Drives one port. `connections` are kept and shared by all requests; 0 makes a new one for each."""

    def __init__(self, port: int, connections: int) -> None:
        self.port, self.keep = port, connections > 0
        self.epoll = select.epoll()
        self.wires: dict[int, Wire] = {}
        self.free: list[Wire] = []
        self.waiting: deque[Request] = deque()
        self.random = random.Random(2)
        self.errors = 0
        self.open = 0
        for _ in range(connections):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.free.append(self.watch(sock, select.EPOLLIN))

    def watch(self, sock: socket.socket, events: int) -> Wire:
        """Have the epoll tell of a socket."""
        sock.setblocking(False)
        wire = self.wires[sock.fileno()] = Wire(sock)
        self.epoll.register(sock.fileno(), events)
        return wire

    def run(self, requests: list[Request]) -> list[Request]:
        """Send all by their times and wait for the answers; the requests, with `took` and `who`."""
        start = time.perf_counter()
        todo = deque(requests)
        end = (requests[-1].at if requests else 0) + PATIENCE
        while todo or self.open or self.waiting:
            now = time.perf_counter() - start
            if now > end:
                self.errors += self.open + len(self.waiting) + len(todo)
                break
            while todo and todo[0].at <= now:
                self.waiting.append(todo.popleft())
            while self.waiting and (self.free or not self.keep):
                self.send(self.waiting.popleft())
            wait = min(0.05, todo[0].at - now) if todo else 0.05
            for fd, events in self.epoll.poll(max(0.0, wait), 256):
                self.ready(self.wires[fd], events, start)
        for wire in self.wires.values():
            wire.sock.close()
        self.epoll.close()
        return requests

    def send(self, request: Request) -> None:
        """On any free connection, or a new one."""
        self.open += 1
        if self.keep:
            index = self.random.randrange(len(self.free))
            self.free[index], self.free[-1] = self.free[-1], self.free[index]
            wire = self.free.pop()
            wire.request = request
            self.ask(wire)
            return
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", self.port))
        self.watch(sock, select.EPOLLOUT).request = request

    def ask(self, wire: Wire) -> None:
        """Write the request."""
        close = "" if self.keep else "Connection: close\r\n"
        assert wire.request is not None
        wire.data, wire.started = b"", True
        wire.sock.send(f"GET {wire.request.path} HTTP/1.1\r\nHost: x\r\n{close}\r\n".encode())

    def ready(self, wire: Wire, events: int, start: float) -> None:
        """A new connection stands, or an answer comes."""
        try:
            if not wire.started and not self.keep:
                self.epoll.modify(wire.sock.fileno(), select.EPOLLIN)
                self.ask(wire)
                return
            piece = wire.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self.over(wire, wire.request is not None)
            return
        wire.data += piece
        head, found, body = wire.data.partition(b"\r\n\r\n")
        if found and wire.request is not None:
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            if len(body) >= length:
                self.answered(wire, head, body, time.perf_counter() - start)

    def answered(self, wire: Wire, head: bytes, body: bytes, now: float) -> None:
        """A whole answer."""
        request, wire.request = wire.request, None
        assert request is not None
        self.errors += not head.startswith(b"HTTP/1.1 200")
        request.took, request.who = now - request.at, body
        self.open -= 1
        if self.keep:
            self.free.append(wire)
        else:
            self.over(wire, False)

    def over(self, wire: Wire, failed: bool) -> None:
        """A connection is gone."""
        if failed:
            self.errors += 1
            self.open -= 1
        del self.wires[wire.sock.fileno()]
        wire.sock.close()


def percentile(values: list[float], share: float) -> float:
    """The smallest value that this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * share // 1).__int__() - 1))] if ordered else 0.0
