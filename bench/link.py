"""An emulated link between two network namespaces: delay, loss and rate, by a relay between two TUN devices. Root only.

    with Link(delay=25, loss=1.0, rate=20) as link:      # ms each way, percent each way, Mbit/s each way
        subprocess.run(link.inside("a", ["ping", "-c1", link.b]))
    link.told                                            # packets, lost, dropped by the full queue, lateness of the relay

Each direction loses packets by a generator with a fixed seed, holds them in one queue of `QUEUE` packets before the bottleneck, and
keeps their order. The relay is a process of its own (`python bench/link.py`), because a load must not delay it.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import signal
import struct
import subprocess
import sys
import time
from types import TracebackType
from typing import Any

QUEUE = 1000  # packets
CLONE_NEWNET = 0x40000000
TUNSETIFF, TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
PR_SET_TIMERSLACK = 29
MS = 1_000_000


class Pipe:
    """One direction."""

    def __init__(self, source: int, sink: int, delay: int, loss: float, rate: float, seed: int) -> None:
        self.source, self.sink = source, sink
        self.delay, self.loss = delay, loss
        self.per_byte = 8000 / rate if rate else 0.0  # ns
        self.chance = random.Random(seed)
        self.queue: list[tuple[int, int, bytes]] = []
        self.free = self.count = self.lost = self.dropped = 0
        self.late: list[int] = []

    def pull(self, now: int) -> None:
        """What the kernel has for us."""
        for _ in range(64):
            try:
                packet = os.read(self.source, 65536)
            except BlockingIOError:
                return
            self.count += 1
            if self.loss and self.chance.random() < self.loss:
                self.lost += 1
            elif len(self.queue) >= QUEUE:
                self.dropped += 1
            else:
                self.free = max(self.free, now) + int(len(packet) * self.per_byte)
                heapq.heappush(self.queue, (self.free + self.delay, self.count, packet))

    def push(self, now: int) -> None:
        """What has arrived."""
        while self.queue and self.queue[0][0] <= now:
            at, _, packet = heapq.heappop(self.queue)
            try:
                os.write(self.sink, packet)
            except BlockingIOError:
                self.dropped += 1
            self.late.append(now - at)


def tun(namespace: str, ours: str, theirs: str) -> int:
    """A TUN device inside a namespace, read and written from here."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    away = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(away, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"tun0", TUN_WITHOUT_HEADER))
    finally:
        libc.setns(home, CLONE_NEWNET)
        os.close(home)
        os.close(away)
    for words in (f"addr add {ours} peer {theirs} dev tun0", "link set tun0 up mtu 1500 txqueuelen 2000", "link set lo up"):
        subprocess.run(["ip", "-n", namespace, *words.split()], check=True)
    return fd


def relay(a: str, b: str, delay: float, loss: float, rate: float, net: str) -> None:
    """Until SIGTERM."""
    left, right = tun(a, f"{net}.1", f"{net}.2"), tun(b, f"{net}.2", f"{net}.1")
    pipes = {
        left: Pipe(left, right, int(delay * MS), loss / 100, rate, 1),
        right: Pipe(right, left, int(delay * MS), loss / 100, rate, 2),
    }
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    except OSError:
        pass
    print("ready", flush=True)
    while not stopped:
        now = time.monotonic_ns()
        due = min((pipe.queue[0][0] for pipe in pipes.values() if pipe.queue), default=now + 50 * MS)
        try:
            for fd in select.select(list(pipes), (), (), max(due - now, 0) / 1e9)[0]:
                pipes[fd].pull(time.monotonic_ns())
        except InterruptedError:
            continue
        now = time.monotonic_ns()
        for pipe in pipes.values():
            pipe.push(now)
    late = sorted(late for pipe in pipes.values() for late in pipe.late) or [0]
    told = {name: sum(getattr(pipe, name) for pipe in pipes.values()) for name in ("count", "lost", "dropped")}
    print(json.dumps({**told, "late_p99_ms": round(late[int(0.99 * (len(late) - 1))] / MS, 2)}), flush=True)


class Link:
    """See the module. `number` keeps links that exist at the same time apart."""

    def __init__(self, delay: float, loss: float, rate: float, number: int = 0) -> None:
        self.names = [f"fl{os.getpid()}{number}{side}" for side in "ab"]
        self.net = f"10.9.{number}"
        self.a, self.b = f"{self.net}.1", f"{self.net}.2"
        self.shape = (delay, loss, rate)
        self.told: dict[str, Any] = {}

    def __enter__(self) -> Link:
        for name in self.names:
            subprocess.run(["ip", "netns", "add", name], check=True)
        argv = [sys.executable, __file__, *self.names, *map(str, self.shape), self.net]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "ready\n":
            self.__exit__(None, None, None)
            raise SystemExit("the link could not be made: it needs root and /dev/net/tun")
        return self

    def inside(self, side: str, argv: list[str]) -> list[str]:
        """A command on one of the ends, "a" or "b"."""
        return ["ip", "netns", "exec", self.names["ab".index(side)], *argv]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.terminate()
        said, _ = self.process.communicate(timeout=20)
        if said.strip().startswith("{"):
            self.told = json.loads(said)
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False)


if __name__ == "__main__":
    relay(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:6]), sys.argv[6])  # type: ignore[arg-type]
