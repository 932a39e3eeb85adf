"""Packets that came to the wrong worker, passed on to the right one; and whose turn it is to read a socket.

Rules
1. Each worker has a datagram socket in the abstract name space (unix(7)), named by the server's secret, its region of the slab and
   the port. A name there ends with its socket, so a crash leaves nothing behind, and sending to nobody fails at once.
2. Who sends is checked by the kernel's word (SO_PASSCRED): only processes of our own user, or of root.
3. A message is the peer's address, the address it wrote to, and the datagram. What does not fit is dropped, as the network may.
4. A `Turn` is such a name too: of all processes that have a copy of one UDP socket, the one that holds it reads.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from fairlead.net.poll import IN, Watcher

HEAD = struct.Struct("!HBB")  # port, length of the host, length of the local address
CREDENTIALS = struct.Struct("iii")  # pid, uid, gid
SO_PASSCRED, SCM_CREDENTIALS = 16, 2
BURST = 64
ROOM = 1 << 20


def name(secret: str, region: int, port: int) -> str:
    """The address of a worker."""
    return f"\0fairlead-quic-{secret}-{port}-{region}"


class Forwarder(Watcher):
    """`heard(data, peer, local)` is called for each packet that was passed on to us."""

    def __init__(self, poller: Any, secret: str, region: int, port: int, heard: Callable[[bytes, Any, bytes], None]) -> None:
        super().__init__()
        self.poller = poller
        self.secret = secret
        self.port = port
        self.heard = heard
        self.users = (os.getuid(), 0)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_PASSCRED, 1)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        try:
            self.sock.bind(name(secret, region, port))
            poller.watch(self.sock.fileno(), self, IN)
        except OSError:  # no such name space here, or a second listener on the port: packets are then only heard directly
            self.sock.close()

    def send(self, region: int, data: bytes, peer: Any, local: bytes, secret: str = "") -> bool:
        """Pass a packet on, to a worker of ours or of the server with another `secret`; False when nobody is there."""
        if self.sock.fileno() < 0:
            return False
        host = peer[0].encode()
        head = HEAD.pack(peer[1], len(host), len(local)) + host + local
        try:
            self.sock.sendto(head + data, name(secret or self.secret, region, self.port))
        except BlockingIOError:
            return True  # it is there, and has no room: lost
        except OSError:
            return False
        return True

    def ready(self, events: int) -> None:
        for _ in range(BURST):
            try:
                data, beside, _, _ = self.sock.recvmsg(66_000, 64)
            except OSError:
                return
            if self.trusted(beside) and len(data) > HEAD.size:
                port, host, local = HEAD.unpack_from(data)
                at = HEAD.size + host
                peer = (data[HEAD.size : at].decode("ascii", "replace"), port)
                self.heard(data[at + local :], peer, data[at : at + local])

    def trusted(self, beside: list[Any]) -> bool:
        """Rule 2."""
        for level, kind, body in beside:
            if level == socket.SOL_SOCKET and kind == SCM_CREDENTIALS:
                return CREDENTIALS.unpack(body[: CREDENTIALS.size])[1] in self.users
        return False

    def abort(self, why: object) -> None:
        self.close()

    def close(self, why: object = None) -> None:
        """Be reachable no more."""
        if self.sock.fileno() >= 0:
            self.poller.unwatch(self.sock.fileno())
            self.sock.close()


class Hub:
    """What the QUIC sockets of one worker have in common: which connection has an id, and one Forwarder for each port."""

    def __init__(self) -> None:
        self.routes: dict[bytes, Any] = {}
        self.forwarders: dict[int, tuple[Forwarder, list[Any]]] = {}

    def join(self, listener: Any, secret: str) -> Forwarder:
        """A listener on a port begins."""
        port = listener.udp.name[1]
        if port not in self.forwarders:
            heard = Relay(self, port)
            self.forwarders[port] = Forwarder(listener.poller, secret, listener.region, port, heard), []
        forwarder, listeners = self.forwarders[port]
        listeners.append(listener)
        return forwarder

    def part(self, listener: Any) -> None:
        """It has ended."""
        port = listener.udp.name[1]
        forwarder, listeners = self.forwarders[port]
        listeners.remove(listener)
        if not listeners:
            del self.forwarders[port]
            forwarder.close()


class Relay:
    """Gives what was passed on for a port to a listener that is there."""

    def __init__(self, hub: Hub, port: int) -> None:
        self.hub = hub
        self.port = port

    def __call__(self, data: bytes, peer: Any, local: bytes) -> None:
        self.hub.forwarders[self.port][1][-1].passed_on(data, peer, local)


class Turn:
    """Rule 4."""

    def __init__(self, sock: socket.socket | None) -> None:
        self.sock = sock

    @classmethod
    def take(cls, secret: str, bound: Any, place: int) -> Turn | None:
        """Ours, or None while somebody else reads."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            sock.bind(f"\0fairlead-turn-{secret}-{bound[0]}-{bound[1]}-{place}")
        except OSError as error:
            sock.close()
            return None if error.errno == 98 else cls(None)
        return cls(sock)

    def close(self) -> None:
        """Let another read."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None
