"""Who holds the listening sockets: the master's book of them, by listener and address, across reloads.

Rules
1. A socket closes only when no listener of the served plan has its address; until then it stays open, whoever dies.
2. What systemd or an older master passed is used for its address before anything is opened.
3. `prepare` opens what a new plan needs beside what is there; `forget` takes that back when the plan is not served
   after all; `settle` closes what the served plan no longer has. Nothing is closed and opened again.
4. Where a pattern passes connections on, the socket pairs between the one who accepts and the workers are held here
   too, both ends: one per address and worker. What is on its way when either dies is still there for its successor.
4. UDP sockets, for listeners that want them, are held one per worker and address, whatever the pattern, and given out by
   the worker's place: a datagram finds its worker by the connection id in it (`net.steer`). None closes before the last.
"""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fairlead.net import inbox
from fairlead.run import config as c
from fairlead.run import sockets, systemd
from fairlead.run.plan import JOBS, Plan
from fairlead.run.units import Address

log = logging.getLogger("fairlead")


@dataclass
class Held:
    """The sockets of one address: its name in the file, the address really bound, and who made its unix path."""

    address: Address
    socks: list[socket.socket]
    made: tuple[int, int] | None = None
    datagrams: list[socket.socket] = field(default_factory=list)
    links: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)
    fixed: bool = False  # opened by systemd: all workers share what was passed

    @property
    def bound(self) -> Address:
        """The address with the port that the kernel gave."""
        if self.address.is_unix:
            return self.address
        name = self.socks[0].getsockname()
        return Address(name[0], name[1])

    def close(self) -> None:
        for sock in (*self.socks, *self.datagrams, *(end for pair in self.links for end in pair)):
            sock.close()
        if self.address.is_unix:
            sockets.unlink(self.address.path, self.made)


class Holder:
    """All listening sockets of one server."""

    def __init__(
        self, passed: list[systemd.Passed] | None = None, datagrams: dict[Address, list[socket.socket]] | None = None
    ) -> None:
        self.passed = passed if passed is not None else []
        self.passed_datagrams = datagrams if datagrams is not None else {}
        self.held: dict[Address, Held] = {}
        self.names: dict[Address, str] = {}

    def open(self, plan: Plan) -> None:
        """Open everything; on an error nothing stays open."""
        try:
            self.prepare(plan)
        except BaseException:
            self.close()
            raise
        self.settle(plan)

    def prepare(self, plan: Plan) -> list[Address]:
        """Open what the plan has and we do not; the addresses that are new. Raises `NetError`, with nothing opened."""
        added: list[Address] = []
        try:
            for listener in plan.listeners:
                for address in listener.bind:
                    if address not in self.held:
                        self.held[address] = self.fresh(address, listener, plan)
                        added.append(address)
                    else:
                        self.grow(self.held[address], listener, plan)
        except BaseException:
            self.forget(added)
            raise
        return added

    def fresh(self, address: Address, listener: c.Listener, plan: Plan) -> Held:
        """The sockets of a new address: those that were passed to us, else opened."""
        mine = systemd.take(self.passed, listener.name, address)
        if mine:
            held = Held(address, [one.sock for one in mine], mine[0].made, fixed=mine[0].fixed)
            held.datagrams = self.passed_datagrams.pop(address, [])
            self.grow(held, listener, plan)
            return held
        count = plan.pattern.sockets(plan.workers)
        socks = sockets.open_all(address, count, plan.config.server.backlog, listener.socket, mode_of(listener))
        held = Held(address, socks, sockets.identity(socks[0]) if address.is_unix else None)
        self.link(held, plan)
        try:
            self.add_datagrams(held, listener, plan)
        except BaseException:
            held.close()
            raise
        return held

    def add_datagrams(self, held: Held, listener: c.Listener, plan: Plan) -> None:
        """A UDP socket for each worker, where the listener wants them."""
        missing = readers(plan) - len(held.datagrams)
        if wants_datagrams(listener) and missing > 0 and not held.address.is_unix:
            beside = held.datagrams[0] if held.datagrams else None
            held.datagrams += sockets.open_datagrams(held.bound, missing, listener.socket, beside)

    def link(self, held: Held, plan: Plan) -> None:
        """A pair for each worker, where the pattern passes connections on."""
        while plan.pattern.links and len(held.links) < plan.workers:
            held.links.append(inbox.pair())

    def grow(self, held: Held, listener: c.Listener, plan: Plan) -> None:
        """More sockets for more workers, and the options as they are now."""
        self.link(held, plan)
        self.add_datagrams(held, listener, plan)
        for sock in held.socks:
            sockets.configure(sock, listener.socket)
            sockets.listen(sock, plan.config.server.backlog, listener.socket)
        missing = plan.pattern.sockets(plan.workers) - len(held.socks)
        if missing > 0 and not held.address.is_unix and not held.fixed:
            held.socks += sockets.more(
                held.socks[0], missing, held.address, plan.config.server.backlog, listener.socket
            )

    def disown(self) -> None:
        """The paths of unix sockets are somebody else's from now on (a new master's)."""
        for held in self.held.values():
            held.made = None

    def unclaimed(self) -> None:
        """Close what was passed to us and no listener has."""
        for one in self.passed:
            log.warning(
                "the passed socket %s%s belongs to no listener and is closed",
                one.address,
                f' ("{one.name}")' if one.name else "",
            )
            one.sock.close()
        self.passed.clear()

    def forget(self, added: list[Address]) -> None:
        """Close what `prepare` opened."""
        for address in added:
            held = self.held.pop(address, None)
            if held is not None:
                held.close()

    def settle(self, plan: Plan) -> None:
        """The plan is served: close what it does not have."""
        self.names = {address: listener.name for listener in plan.listeners for address in listener.bind}
        for address in [address for address in self.held if address not in self.names]:
            self.held.pop(address).close()

    def share(self, plan: Plan, index: int) -> tuple[list[tuple[str, str]], list[int]]:
        """([(listener, address)], [descriptor]) of the role at a place: the sockets that it accepts on; then, of each
        link, the near end for who passes connections on (place below nought), the far end for its worker.
        """
        names: list[tuple[str, str]] = []
        fds: list[int] = []
        for listener in plan.listeners if index < JOBS else ():
            for address in listener.bind:
                socks = self.held[address].socks
                shared = plan.pattern.share(socks, index, plan.workers)
                for place, (near, far) in enumerate(self.held[address].links if plan.pattern.links else ()):
                    if index < 0 or place % plan.workers == index:
                        shared.append(near if index < 0 else far)
                names += [(listener.name, str(address))] * len(shared)
                fds += [sock.fileno() for sock in shared]
        more = self.datagrams(plan, index)
        return names + more[0], fds + more[1]

    def datagrams(self, plan: Plan, index: int) -> tuple[list[tuple[str, str]], list[int]]:
        """The same for UDP: the sockets of the place of who reads them (`readers`); what is beyond those is shared among them.
        Before each address stands "udp:" and the socket's number on its port.
        """
        place = -1 - index if plan.pattern.hops else index
        names: list[tuple[str, str]] = []
        fds: list[int] = []
        for listener in plan.listeners:
            for address in listener.bind:
                for number, sock in enumerate(self.held[address].datagrams):
                    if number % readers(plan) == place and wants_datagrams(listener):
                        names.append((listener.name, f"udp:{number}:{address}"))
                        fds.append(sock.fileno())
        return names, fds

    def bound(self) -> list[tuple[str, Address]]:
        """(listener, address really bound) of every address."""
        return [(self.names.get(address, ""), held.bound) for address, held in self.held.items()]

    def status(self) -> list[dict[str, Any]]:
        """Every address with its accept queues."""
        shown = []
        for address, held in self.held.items():
            queues = [sockets.queue_depth(sock) for sock in held.socks]
            shown.append(
                {
                    "name": self.names.get(address, ""),
                    "bind": str(held.bound),
                    "sockets": len(held.socks),
                    "waiting": sum(depth for depth, _ in queues),
                    "queue": {"depth": max(depth for depth, _ in queues), "limit": queues[0][1]},
                }
            )
        return shown

    def close(self) -> None:
        """Close everything."""
        for held in self.held.values():
            with suppress(OSError):
                held.close()
        self.held.clear()


def readers(plan: Plan) -> int:
    """How many roles read datagrams: those that own connections."""
    return plan.config.server.fronts if plan.pattern.hops else plan.workers


def wants_datagrams(listener: c.Listener) -> bool:
    """Does it speak something over UDP?"""
    return "h3" in listener.protocols or listener.kind in ("udp", "turn")


def mode_of(listener: c.Listener) -> int | None:
    """The mode of a listener's unix sockets, None for what the umask leaves."""
    return int(listener.socket.permissions, 8) if listener.socket.permissions else None
