"""Two QUIC engines with a network between them, in memory and on a clock of its own: packets are lost, delayed, doubled and spoilt
by a seed, a client has any number of addresses, and anybody may write to the server from anywhere.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from test_quic import Pair

HOME = ("127.0.0.1", 1000)
SERVER = ("127.0.0.1", 443)


class Net:
    """`Net("aioquic", "qh3", certificate, seed=1, loss=0.1)`. The client is at `at`; what is sent to one of `alive` reaches it."""

    def __init__(self, client: str, server: str, certificate: Any, *, seed: int = 0, loss: float = 0.0, late: float = 0.0,
                 twice: float = 0.0, spoilt: float = 0.0, delay: float = 0.01, **options: Any) -> None:  # fmt: skip
        pair = Pair(client, server, certificate, **options)
        self.client, self.server, self.now = pair.client, pair.server, pair.now
        self.chance = random.Random(seed)
        self.loss, self.late, self.twice, self.spoilt, self.delay = loss, late, twice, spoilt, delay
        self.at = HOME
        self.alive = {HOME}
        self.wire: list[Any] = []
        self.count = 0
        self.sent_to: Counter[Any] = Counter()
        self.came_from: Counter[Any] = Counter()
        self.packets: list[tuple[float, Any, bytes]] = []  # what the server sent
        self.heard: dict[Any, list[Any]] = {self.client: [], self.server: []}
        self.on: dict[Any, Callable[[Any], None]] = {}
        self.copy: Callable[[bytes], None] | None = None
        self.held: dict[Any, dict[int, tuple[bytes, bool]]] = {self.client: {}, self.server: {}}
        self.drop: Callable[[Any, bytes], bool] = lambda to, data: False

    # ---- the wire

    def put(self, to: Any, data: bytes, peer: Any) -> None:
        """Bytes on their way to an engine, from `peer` as it will see it."""
        if self.chance.random() < self.loss or self.drop(to, data):
            return
        if self.chance.random() < self.spoilt:
            place = self.chance.randrange(len(data))
            data = data[:place] + bytes((data[place] ^ 1 << self.chance.randrange(8),)) + data[place + 1 :]
        for _ in range(2 if self.chance.random() < self.twice else 1):
            after = self.delay * (1 + self.chance.random() * 5 if self.chance.random() < self.late else 1)
            self.count += 1
            heapq.heappush(self.wire, (self.now + after, self.count, to, data, peer))

    def say(self, one: Any, stream: int, data: bytes, fin: bool) -> None:
        """Bytes of a stream, handed to its engine as `net.quicconn` does: in turn, and only what its window has room for."""
        before, _ = self.held[one].get(stream, (b"", False))
        self.held[one][stream] = before + data, fin

    def hand(self, one: Any) -> None:
        held = self.held[one]
        while held and one.unsent() < 3000:
            facts = one.facts()
            if not one.done or facts["window"] - facts["in_flight"] < 1200:
                return
            stream = next(iter(held))
            data, fin = held.pop(stream)
            one.send(stream, data[:1200], fin and len(data) <= 1200)
            if len(data) > 1200:
                held[stream] = data[1200:], fin

    def flush(self) -> None:
        """What both have to say."""
        for one in self.held:
            if self.held[one]:
                self.hand(one)
        for data, _ in self.client.take(self.now):
            if self.copy is not None:
                self.copy(data)
            self.write(data, self.at)
        for data, peer in self.server.take(self.now):
            self.sent_to[peer] += len(data)
            self.packets.append((self.now, peer, data))
            if peer in self.alive:
                self.put(self.client, data, SERVER)

    def write(self, data: bytes, peer: Any) -> None:
        """A datagram to the server from anywhere."""
        self.came_from[peer] += len(data)
        self.put(self.server, data, peer)

    # ---- time

    def step(self, end: float) -> bool:
        """To the next thing that happens, at most to `end`; False when nothing will."""
        self.flush()
        times = [at for at in (self.client.timer(), self.server.timer()) if at is not None]
        if self.wire:
            times.append(self.wire[0][0])
        if not times:
            return False
        self.now = min(max(self.now, min(times)) + 1e-6, end)
        while self.wire and self.wire[0][0] <= self.now:
            _, _, to, data, peer = heapq.heappop(self.wire)
            to.receive([data], peer, self.now)
            self.hear(to)
        for one in (self.client, self.server):
            at = one.timer()
            if at is not None and at <= self.now:
                one.tick(self.now)
            self.hear(one)
        return True

    def hear(self, one: Any) -> None:
        while one.events():
            event = one.events().popleft()
            self.heard[one].append(event)
            if one in self.on:
                self.on[one](event)

    def run(self, until: Callable[[], Any] | float, seconds: float = 120.0, steps: int = 400_000) -> None:
        """Until it is so, or for so long. Raises AssertionError when it takes more than `seconds` of the net's own clock."""
        end = self.now + (until if isinstance(until, float) else seconds)
        while self.now < end:
            if not isinstance(until, float) and until():
                return
            steps -= 1
            assert steps, "it goes on for ever"
            if not self.step(end):
                break
        self.flush()
        assert isinstance(until, float) or until(), f"nothing more happens: {self.said()}"

    def said(self) -> str:
        return str([(one.failed, self.heard[one][-3:]) for one in (self.client, self.server)])

    # ---- for tests

    def shake(self) -> Net:
        """Hands."""
        self.run(lambda: self.client.done and self.server.done)
        self.run(0.5)
        return self

    def data(self, who: Any, stream: int) -> bytes:
        return b"".join(event[2] for event in self.heard[who] if event[0] == "data" and event[1] == stream)

    def ended(self, who: Any, stream: int) -> bool:
        return any(event[0] == "data" and event[1] == stream and event[3] for event in self.heard[who])

    def ask(self, size: int = 100, answer: int = 100) -> int:
        """A request and its answer, whole."""
        stream = self.client.opener(False)
        self.client.send(stream, bytes(size), True)
        self.run(lambda: self.ended(self.server, stream))
        self.server.send(stream, bytes(answer), True)
        self.run(lambda: self.ended(self.client, stream))
        assert len(self.data(self.client, stream)) == answer
        return stream
