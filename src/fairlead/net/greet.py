"""A connection before its own first byte: the PROXY header is read here, and only then the real connection begins.

Rules
1. The header's bytes and no other are taken out of the socket (they are looked at with MSG_PEEK first), so whoever comes after,
   TLS or a codec, reads a connection that begins where it begins. A connection without a header pays nothing.
2. A peer that must send a header and sends something else, too little in `limits.header`, or nothing, is closed without a word:
   nobody knows what it speaks.
3. What the header says takes the place of the peer's and our own address; a LOCAL or UNKNOWN one changes nothing.
"""

from __future__ import annotations

import logging
import socket
from typing import Any

from fairlead.core.errors import NetError, WireError
from fairlead.net.poll import IN, RDHUP, Watcher
from fairlead.wire.hello import LARGEST, peek

log = logging.getLogger("fairlead.error")


class Greeter(Watcher):
    """One accepted connection that owes us a header. `begin(fd, announced)` is called with what it said; else it is closed.

    `on_close(greeter)` is called once in either case.
    """

    def __init__(self, poller, fd, peer, limits, begin, on_close):
        super().__init__()
        self.poller = poller
        self.sock: Any = socket.socket(fileno=fd)
        self.peer = peer
        self.begin = begin
        self.on_close = on_close
        self.head = b""
        self.until = poller.now() + limits.header if limits.header else 0
        poller.watch(fd, self, IN | RDHUP)
        if self.until:
            poller.wheel.add(self.until, self)
        self.ready(IN)

    def ready(self, events):
        """Bytes are there, or the end."""
        if self.sock is None:
            return
        try:
            seen = self.sock.recv(LARGEST, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            found = peek(self.head + seen) if seen else None
            taken = len(seen) if found is None else found.size - len(self.head)
            self.head += self.sock.recv(taken, socket.MSG_DONTWAIT) if taken else b""
        except BlockingIOError:
            return
        except (OSError, WireError) as error:
            self.abort(error)
            return
        if not seen:
            self.abort(NetError("the peer left before its PROXY header", step="receive", status=0))
        elif found is not None:
            self.poller.unwatch(self.sock.fileno())
            fd = self.release().detach()
            self.begin(fd, found)

    def due(self, now):
        if self.sock is not None:
            if now >= self.until:
                self.abort(NetError("the PROXY header did not come in time", step="receive", status=0))
            else:
                self.poller.wheel.add(self.until, self)

    def abort(self, why):
        """Close; somebody who leaves without a byte is a health check and no news."""
        if self.sock is None:
            return
        if self.head or isinstance(why, WireError):
            log.warning("%s: %s", self.peer[0] if isinstance(self.peer, tuple) else "a unix peer", why)
        self.poller.unwatch(self.sock.fileno())
        self.release().close()

    def release(self):
        """Give the socket away."""
        sock, self.sock = self.sock, None
        if self.slot:
            self.poller.wheel.remove(self)
        self.on_close(self)
        return sock


def addresses(announced, peer, local):
    """(peer, local) of a connection after its header."""
    if announced.local or announced.source is None:
        return peer, local
    return announced.source, announced.target if announced.target is not None else local
