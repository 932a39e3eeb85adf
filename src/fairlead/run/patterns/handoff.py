"""`handoff`: one listener accepts every connection and hands it to the least busy worker, who reads, decrypts, parses and
runs the application. The model of Memcached.

The socket travels by SCM_RIGHTS (unix(7)) over a socket pair per worker and address; between threads of one process its
number does. The master holds both ends of each pair: what is on its way when a worker dies is taken by a sibling.

Busy is read from the slab: connections handed over that the worker has not taken yet (its loop is busy, or stuck), then
requests in flight and connections open. The listener looks once per turn of its loop and counts on from there.

When the listener is gone a worker accepts in its place until there is a new one. A pair that is full is no loss: the
connection goes to the next worker, and when all are full the listener stops accepting, so that the kernel's queue, and
its overflow counter, say so.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Sequence
from time import monotonic_ns, time_ns
from typing import Any

from fairlead.core.slab import Slab
from fairlead.net.inbox import hand
from fairlead.net.listen import BURST, PAUSE
from fairlead.net.poll import IN, Poller, Watcher
from fairlead.run import logs
from fairlead.run.patterns import Pattern, T

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

FULL = 0.005  # seconds until the next try when no worker takes a connection
STALE = 20_000_000  # ns that a connection may wait for its worker before that worker counts as stuck
log = logging.getLogger("fairlead")
Names = list[tuple[str, str]]


class Handoff(Pattern):
    """One listener, many workers."""

    name = "handoff"
    links = True
    title = "listener"

    def fronts(self, server: Any) -> int:
        return 1

    def front(self, channel: Any, values: dict[str, Any], fds: list[int]) -> Any:
        return Handing(channel, values, fds)

    def sockets(self, workers: int) -> int:
        return 1

    def share(self, sockets: Sequence[T], index: int, workers: int) -> list[T]:
        return list(sockets) if index < 0 else []

    def heir(self, roles: Sequence[Any], gone: int) -> Any:
        return next((role for role in roles if role.index >= 0 and role.index != gone), None)


class Busy:
    """How busy one worker is, as the listener sees it."""

    def __init__(self, region: Any) -> None:
        self.region = region
        self.sent = 0
        self.base = self.seen = region.get("opened")
        self.since = 0

    def handed(self, now: int) -> None:
        """A connection is on its way to it."""
        if self.base + self.sent == self.seen:
            self.since = now
        self.sent += 1

    def score(self, now: int) -> tuple[bool, int]:
        """(stuck, connections and requests): the smallest is the least busy."""
        opened = self.region.get("opened")
        if opened != self.seen:
            self.seen, self.since = opened, now
        waiting = max(0, self.base + self.sent - opened)
        stuck = waiting > 0 and now - self.since > STALE
        return stuck, waiting + self.region.get("open") + self.region.get("in_flight")


class Handing:
    """The listener's role: accepts, and hands on. Speaks the same words with the master as a worker."""

    def __init__(self, channel: Any, values: dict[str, Any], fds: list[int]) -> None:
        self.channel = channel
        self.values = values
        self.here = values["config"].server.unit == "thread"
        self.slab = Slab.attach(fds[0])
        self.region = self.slab.region(values["slot"])
        self.fds = fds[1:]
        self.doors: dict[int, Door] = {}
        self.busy: dict[int, Busy] = {}
        self.pending: tuple[Names, list[int]] | None = None

    async def main(self) -> int:
        """Accept until told to drain; the exit code."""
        self.loop = asyncio.get_running_loop()
        self.leave: asyncio.Future[None] = self.loop.create_future()
        if not self.values["in_thread"]:
            self.loop.add_signal_handler(signal.SIGTERM, self.depart)
        self.channel.watch(self.loop, self.heard, self.depart)
        self.poller = Poller(self.loop)
        self.region.claim(os.getpid(), time_ns(), monotonic_ns())
        self.beat()
        self.know(self.values["places"])
        self.open(self.values["listeners"], self.fds)
        self.channel.say("ready", thread=threading.get_native_id())
        await self.leave
        for door in self.doors.values():
            await door.empty()
        self.open([], [])
        self.poller.close()
        return 0

    def beat(self) -> None:
        """Once a second: this role lives."""
        self.region.set("heartbeat", monotonic_ns())
        self.loop.call_later(1.0, self.beat)

    def heard(self, word: str, values: dict[str, Any], fds: list[int]) -> None:
        """The master's words."""
        if word == "places":
            self.know(values["places"])
        elif word == "drain":
            self.depart()
        elif word == "prepare":
            self.pending = values["listeners"], fds
            self.channel.say("prepare", error="")
        elif word in ("commit", "abort") and self.pending is not None:
            names, fds = self.pending
            self.pending = None
            if word == "commit":
                self.open(names, fds)
            else:
                close_all(fds)
        elif word == "reopen":
            logs.reopen()

    def depart(self) -> None:
        """Let `main` go on to the end."""
        if not self.leave.done():
            self.leave.set_result(None)

    told_to_leave = depart

    def know(self, places: dict[int, int]) -> None:
        """Which workers serve: {place: region of the slab}."""
        old = {place: busy for place, busy in self.busy.items() if places.get(place) == busy.region.index}
        self.busy = {place: old.get(place) or Busy(self.slab.region(slot)) for place, slot in places.items()}

    def open(self, names: Names, fds: list[int]) -> None:
        """Accept on these sockets and hand to these links; a socket that is there already goes on."""
        doors: dict[int, Door] = {}
        links: dict[tuple[str, str], list[socket.socket]] = {}
        for name, fd in zip(names, fds):
            sock = socket.socket(fileno=fd)
            if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                links.setdefault(name, []).append(sock)
                continue
            inode = os.fstat(fd).st_ino
            door = self.doors.pop(inode, None)
            if door is None:
                door = Door(self, sock)
            else:
                sock.close()
            door.name = name
            doors[inode] = door
        for door in self.doors.values():
            door.shut()
        self.doors = doors
        for door in doors.values():
            door.renew(links[door.name])

    def choose(self, count: int) -> list[int]:
        """The places in the order in which they should get a connection: the least busy first."""
        now = monotonic_ns()
        scores = [(busy.score(now), busy.sent, place) for place, busy in self.busy.items() if place < count]
        return [place for *_, place in sorted(scores)] or list(range(count))


class Door(Watcher):
    """One listening socket, and the links to the workers."""

    def __init__(self, owner: Handing, sock: socket.socket) -> None:
        super().__init__()
        self.owner = owner
        self.sock = sock
        self.name = ("", "")
        self.links: list[socket.socket] = []
        self.held: int | None = None
        self.watched = False

    def renew(self, links: list[socket.socket]) -> None:
        """Hand to these from now on."""
        close_all(self.links)
        self.links = links
        self.watch(True)

    def watch(self, wanted: bool) -> None:
        """Have the poller tell us of connections, or not."""
        if wanted and not self.watched:
            self.owner.poller.watch(self.sock.fileno(), self, IN)
        elif self.watched and not wanted:
            self.owner.poller.unwatch(self.sock.fileno())
        self.watched = wanted

    def ready(self, events: int) -> None:
        for _ in range(BURST):
            try:
                fd = self.take()
            except OSError as error:
                log.error("cannot accept on %s: %s; waiting %.1f s", self.name[0], error.strerror, PAUSE)
                return self.rest(PAUSE)
            if fd is None:
                return
            if not self.hand(fd):
                self.held = fd
                return self.rest(FULL)

    def take(self) -> int | None:
        """A connection: the one that found no worker before, or the next that waits."""
        if self.held is not None:
            fd, self.held = self.held, None
            return fd
        got = _fast.accept(self.sock.fileno())
        return None if got is None else got[0]

    def hand(self, fd: int) -> bool:
        """Pass a connection to the least busy worker whose link takes it."""
        for place in self.owner.choose(len(self.links)):
            if hand(self.links[place], fd, self.owner.here):
                if place in self.owner.busy:
                    self.owner.busy[place].handed(monotonic_ns())
                return True
        return False

    def rest(self, seconds: float) -> None:
        """Stop accepting for a moment."""
        self.watch(False)
        self.owner.loop.call_later(seconds, self.rested)

    def rested(self) -> None:
        """Accept again, unless the end came meanwhile."""
        if self.sock.fileno() >= 0 and not self.owner.leave.done():
            self.watch(True)
            self.ready(IN)

    async def empty(self) -> None:
        """The end: hand over all that waits, for nobody else will."""
        self.watch(False)
        while True:
            fd = self.take()
            if fd is None:
                return
            while not self.hand(fd):
                await asyncio.sleep(FULL)

    def shut(self) -> None:
        """Accept no more here."""
        self.watch(False)
        close_all([self.sock, *self.links])

    def abort(self, why: Any) -> None:
        log.error("listener %s failed: %s", self.name[0], why)
        self.watch(False)


def close_all(things: list[Any]) -> None:
    """Close sockets or descriptors."""
    for one in things:
        one.close() if isinstance(one, socket.socket) else os.close(one)
