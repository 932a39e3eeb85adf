"""Exchanges over a bad link: thousands of short ones, downloads, uploads, resets and stops of either side, many at a time, while
packets are lost, late, doubled and spoilt. Nothing may hang, be wrong, or be left behind.
"""

from __future__ import annotations

import random
from typing import Any

from quicnet import Net

CODE = 0x10C  # H3_REQUEST_CANCELLED


class Talk:
    """`Talk(net, count, at_once, largest)`: so many exchanges. The client begins each; either side may give it up."""

    def __init__(self, net: Net, count: int, at_once: int = 30, largest: int = 20_000) -> None:
        self.net, self.left, self.at_once, self.largest = net, count, at_once, largest
        self.chance = net.chance
        self.asked: dict[int, int] = {}  # what the server is to be sent on a stream
        self.answers: dict[int, int] = {}
        self.got: dict[tuple[Any, int], int] = {}
        self.over: dict[Any, set[int]] = {net.client: set(), net.server: set()}  # streams whose other side has ended
        self.said: dict[Any, set[int]] = {net.client: set(), net.server: set()}  # ... whose own side has
        self.open: set[int] = set()
        self.finished = self.reset = 0
        net.on = {net.client: self.to_client, net.server: self.to_server}

    def run(self) -> None:
        self.begin()
        self.net.run(self.done, seconds=3000.0)

    def done(self) -> bool:
        self.begin()
        return not self.left and not self.open

    def begin(self) -> None:
        net = self.net
        while self.left and len(self.open) < self.at_once:
            stream = net.client.opener(False)
            if stream < 0:
                return
            self.left -= 1
            self.open.add(stream)
            size = self.chance.choice((0, 1, 100, 1000, self.largest))
            self.asked[stream] = size
            self.answers[stream] = self.chance.choice((0, 1, 100, 1000, self.largest))
            kind = self.chance.random()
            net.say(net.client, stream, bytes(size + 1), kind >= 0.1)
            if kind < 0.05:
                self.give_up(net.client, stream)
            elif kind < 0.1:
                net.say(net.client, stream, b"end", True)
                self.asked[stream] += 3
            if 0.05 <= kind < 0.2:
                net.client.stop(stream, CODE)
            if kind >= 0.05:
                self.said[net.client].add(stream)

    def give_up(self, one: Any, stream: int) -> None:
        self.net.held[one].pop(stream, None)
        one.reset(stream, CODE)
        self.said[one].add(stream)

    def to_server(self, event: Any) -> None:
        net = self.net
        if self.heard(net.server, event) and event[1] not in self.said[net.server]:
            stream = event[1]
            if event[0] == "stop" or self.chance.random() < 0.1:
                self.give_up(net.server, stream)
            elif event[0] == "data" and event[3]:
                net.say(net.server, stream, bytes(self.answers[stream] + 1), True)
                self.said[net.server].add(stream)
            elif event[0] == "reset":
                self.give_up(net.server, stream)
            elif self.chance.random() < 0.05:
                net.server.stop(stream, CODE)
        self.close(event)

    def to_client(self, event: Any) -> None:
        if self.heard(self.net.client, event) and event[0] == "stop":
            self.give_up(self.net.client, event[1])
        self.close(event)

    def heard(self, one: Any, event: Any) -> bool:
        kind = event[0]
        if kind == "closed":
            raise AssertionError(f"the connection ended: {event}")
        if kind not in ("data", "reset", "stop"):
            return False
        stream = event[1]
        if kind == "data":
            assert stream not in self.over[one] or not event[2], f"bytes behind the end of {stream}"
            self.got[one, stream] = self.got.get((one, stream), 0) + len(event[2])
            if event[3]:
                expected = self.asked if one is self.net.server else self.answers
                assert self.got[one, stream] == expected[stream] + 1, f"{stream}: {self.got[one, stream]} bytes"
                self.over[one].add(stream)
        elif kind == "reset":
            self.reset += 1
            self.over[one].add(stream)
        return True

    def close(self, event: Any) -> None:
        """An exchange is over when both have heard the other's end."""
        if event[0] in ("data", "reset", "stop"):
            stream = event[1]
            if stream in self.open and all(stream in self.over[one] for one in self.over):
                self.open.discard(stream)
                self.finished += 1


def left_behind(engine: Any) -> str:
    """What an engine still keeps of streams, after all are over."""
    conn = engine.conn
    if hasattr(conn, "_core"):
        core = conn._core
        known = len(conn._created_local_stream_ids)
        kept = core.active_local_streams[0], core.get_send_buffer_size(), core.bytes_in_flight, known
        return "" if kept == (0, 0, 0, 0) else f"streams, bytes to send, in flight, known: {kept}"
    streams = [one for one in conn._streams if not conn._streams[one].is_finished]
    return "" if not streams and not conn._loss.bytes_in_flight else f"streams {streams}, {conn._loss.bytes_in_flight} in flight"


def talk(client: str, server: str, certificate: Any, seed: int, count: int = 200, worst: float = 0.2) -> Talk:
    """One connection, everything checked."""
    chance = random.Random(seed)
    bad = {kind: chance.uniform(0, worst) for kind in ("loss", "late", "twice", "spoilt")}
    net = Net(client, server, certificate, seed=seed, window=65536, stream_window=32768, **bad)
    net.run(lambda: net.client.done and net.server.done, seconds=300.0)
    said = Talk(net, count, chance.choice((1, 5, 30, 90)), chance.choice((2_000, 20_000)))
    said.run()
    net.loss = net.late = net.twice = net.spoilt = 0.0
    net.on = {}
    net.run(20.0)
    for one in (net.client, net.server):
        assert one.failed is None
        assert not (kept := left_behind(one)), kept
    return said
