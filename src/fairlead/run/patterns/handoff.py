"""`handoff`: one listener accepts every connection and hands it to the least busy worker, who reads, decrypts, parses and
runs the application. The model of Memcached.

The socket travels by SCM_RIGHTS (unix(7)) over a socket pair per worker and address, between threads too. The master
holds both ends of each pair: what is on its way when a worker dies is taken by a sibling.

Busy is connections open and requests in flight, from the slab, and connections that wait in the worker's pairs, from the
kernel (SIOCOUTQ). A worker that leaves them there for `STALE` is stuck, and the last choice. The listener looks once per
turn of its loop and counts on from there.

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
from fairlead.net.listen import BURST, PAUSE, stamp
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
    """How busy one worker is, as the listener sees it. `fds` are the near ends of its pairs."""

    def __init__(self, place: int, region: Any, fds: Sequence[int]) -> None:
        self.place = place
        self.region = region
        self.fds = fds
        self.unit = 0  # what one waiting connection counts for in SIOCOUTQ, with the kernel's overhead
        self.sent = 0
        self.queued = 0
        self.since = 0
        self.stuck = False
        self.load = 0

    def look(self, now: int) -> None:
        """Read how things stand."""
        queued = sum(max(0, _fast.unacked(fd)) for fd in self.fds)
        if not queued or queued < self.queued:
            self.since = now
        self.queued = queued
        self.stuck = queued > 0 and now - self.since > STALE
        waiting = queued // self.unit if self.unit else 0
        self.load = waiting + self.region.get("open") + self.region.get("in_flight")

    def handed(self, fd: int) -> None:
        """One more connection is on its way, over this pair."""
        self.load += 1
        self.sent += 1
        waiting = _fast.unacked(fd)
        if waiting > 0:
            self.unit = min(self.unit, waiting) if self.unit else waiting

    def rank(self) -> tuple[bool, int, int]:
        """The smallest is the least busy; among equals, whose turn it is."""
        return self.stuck, self.load, self.sent


class Handing:
    """The listener's role: accepts, and hands on. Speaks the same words with the master as a worker."""

    def __init__(self, channel: Any, values: dict[str, Any], fds: list[int]) -> None:
        self.channel = channel
        self.values = values
        self.slab = Slab.attach(fds[0])
        self.region = self.slab.region(values["slot"])
        self.fds = fds[1:]
        self.doors: dict[int, Door] = {}
        self.links: dict[tuple[str, str], list[socket.socket]] = {}
        self.places: dict[int, int] = {}
        self.busy: list[Busy] = []
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
        self.places = self.values["places"]
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
            self.channel.say("prepare", question=values["question"], error="")
        elif word in ("commit", "abort") and self.pending is not None:
            names, fds = self.pending
            self.pending = None
            if word == "commit":
                self.open(names, fds)
            else:
                close_all(fds)
        elif word == "reopen":
            logs.reopen()
        elif "question" in values:  # asked of all who serve; here is nothing of it
            self.channel.say(word, question=values["question"], none=True, servers={})

    def depart(self) -> None:
        """Let `main` go on to the end."""
        if not self.leave.done():
            self.leave.set_result(None)

    told_to_leave = depart

    def know(self, places: dict[int, int]) -> None:
        """Which workers serve: {place: region of the slab}. When none does, all are: their successors will."""
        self.places = places
        most = max((len(links) for links in self.links.values()), default=0)
        self.busy = [
            Busy(place, self.slab.region(slot), [links[place].fileno() for links in self.links.values()])
            for place, slot in (places or dict.fromkeys(range(most), self.region.index)).items()
            if place < most
        ]

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
        close_all([link for many in self.links.values() for link in many])
        self.doors, self.links = doors, links
        self.know(self.places)
        for door in doors.values():
            door.watch(True)

    def look(self) -> None:
        """How busy is everybody now?"""
        now = monotonic_ns()
        for one in self.busy:
            one.look(now)

    def hand(self, name: tuple[str, str], fd: int) -> bool:
        """Pass a connection to the least busy worker whose pair takes it."""
        for one in sorted(self.busy, key=Busy.rank):
            link = self.links[name][one.place]
            if hand(link, fd):
                one.handed(link.fileno())
                return True
        return False


class Door(Watcher):
    """One listening socket. `name` is its listener and address."""

    def __init__(self, owner: Handing, sock: socket.socket) -> None:
        super().__init__()
        self.owner = owner
        self.sock = sock
        stamp(sock)
        self.name = ("", "")
        self.held: int | None = None
        self.watched = False

    def watch(self, wanted: bool) -> None:
        """Have the poller tell us of connections, or not."""
        if wanted and not self.watched:
            self.owner.poller.watch(self.sock.fileno(), self, IN)
        elif self.watched and not wanted:
            self.owner.poller.unwatch(self.sock.fileno())
        self.watched = wanted

    def ready(self, events: int) -> None:
        self.owner.look()
        for _ in range(BURST):
            try:
                fd = self.take()
            except OSError as error:
                log.error("cannot accept on %s: %s; waiting %.1f s", self.name[0], error.strerror, PAUSE)
                return self.rest(PAUSE)
            if fd is None:
                return
            if not self.owner.hand(self.name, fd):
                self.held = fd
                return self.rest(FULL)

    def take(self) -> int | None:
        """A connection: the one that found no worker before, or the next that waits."""
        if self.held is not None:
            fd, self.held = self.held, None
            return fd
        got = _fast.accept(self.sock.fileno())
        return None if got is None else got[0]

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
            while not self.owner.hand(self.name, fd):
                await asyncio.sleep(FULL)

    def shut(self) -> None:
        """Accept no more here."""
        self.watch(False)
        self.sock.close()

    def abort(self, why: Any) -> None:
        log.error("listener %s failed: %s", self.name[0], why)
        self.watch(False)


def close_all(things: list[Any]) -> None:
    """Close sockets or descriptors."""
    for one in things:
        one.close() if isinstance(one, socket.socket) else os.close(one)
