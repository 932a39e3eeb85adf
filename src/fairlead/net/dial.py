"""Dialing: a name or an address becomes a connected socket, or an error that says what failed. Callbacks, no tasks.

Rules
1. Happy eyeballs (RFC 8305): the addresses of a name are tried IPv6 and IPv4 in turn, the next one `STAGGER` after the
   last or at once when one fails; the first to connect wins and the others are closed.
2. One deadline covers the look-up and all attempts. The look-up runs in the loop's thread pool and is kept for `FRESH`
   seconds (a failure for `FAILED`), shared by everybody who asks meanwhile.
3. Refused, unreachable, timed out and unresolved are told apart: `NetError.step` and `status` (502, but 504 for time).
4. The asker hears exactly one of `dialed(fd, peer)` and `undialed(error)`, never on the stack of `dial`, and neither
   after `cancel()`. It owns the descriptor then: non-blocking, TCP_NODELAY, keep-alive.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from fairlead.core.errors import NetError
from fairlead.net.poll import OUT, Watcher

STAGGER = 0.25  # seconds between attempts, RFC 8305 section 5
FRESH = 5.0  # seconds a name's addresses are kept; the resolver below has the real TTL
FAILED = 1.0
SECOND = 1_000_000_000
UNREACHABLE = frozenset(
    (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.EACCES, errno.EPERM)
)

Address = Any  # (host, port), or a path for a unix socket


class Options:
    """How sockets to an upstream are set up. Seconds or None for off; bytes or None for the kernel's choice."""

    def __init__(
        self,
        nodelay: bool = True,
        keepalive: float | None = 60.0,
        congestion: str = "",
        rcvbuf: int | None = None,
        sndbuf: int | None = None,
        fastopen: int = 0,
    ) -> None:
        self.nodelay = nodelay
        self.keepalive = keepalive
        self.congestion = congestion
        self.rcvbuf = rcvbuf
        self.sndbuf = sndbuf
        self.fastopen = fastopen

    def apply(self, sock: socket.socket) -> None:
        """Set them before connecting; what this system does not have is left out."""
        for size, name in ((self.rcvbuf, socket.SO_RCVBUF), (self.sndbuf, socket.SO_SNDBUF)):
            if size:
                sock.setsockopt(socket.SOL_SOCKET, name, size)
        if sock.family == socket.AF_UNIX:
            return
        if self.nodelay:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.keepalive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(int(self.keepalive), 1))
        if self.congestion and hasattr(socket, "TCP_CONGESTION"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, self.congestion.encode())
        if self.fastopen and hasattr(socket, "TCP_FASTOPEN_CONNECT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN_CONNECT, 1)


class Attempt(Watcher):
    """One connect in progress."""

    def __init__(self, dial: Dial, sock: socket.socket, peer: Address) -> None:
        super().__init__()
        self.dial = dial
        self.sock: socket.socket | None = sock
        self.peer = peer

    def start(self) -> None:
        """Connect without waiting; an error at once is told like a later one."""
        assert self.sock is not None
        code = self.sock.connect_ex(self.peer)
        if code in (0, errno.EINPROGRESS, errno.EINTR):
            self.dial.dialer.poller.watch(self.sock.fileno(), self, OUT)
        else:
            self.close()
            self.dial.failed(self, code)

    def ready(self, events: int) -> None:
        sock = self.sock
        if sock is None:
            return
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self.dial.dialer.poller.unwatch(sock.fileno())
        self.sock = None
        if code == 0:
            self.dial.connected(self, sock)
        else:
            sock.close()
            self.dial.failed(self, code)

    def abort(self, why: object) -> None:
        """The poller could not watch the socket."""
        if self.sock is not None:
            self.close()
            self.dial.failed(self, errno.EIO)

    def close(self, why: object = None) -> None:
        """Give up."""
        if self.sock is not None:
            self.dial.dialer.poller.unwatch(self.sock.fileno())
            self.sock.close()
            self.sock = None


class Dial:
    """One dial in progress; made by `Dialer.dial`."""

    def __init__(self, dialer: Dialer, address: Address, asker: Any, timeout: float | None) -> None:
        self.dialer = dialer
        self.address = address
        self.asker = asker
        self.open: set[Attempt] = set()
        self.left: list[tuple[int, Address]] = []
        self.last: NetError | None = None
        self.over = False
        self.staggered: Any = None
        loop = dialer.poller.loop
        self.timer = loop.call_later(timeout, self.timed_out) if timeout else None
        self.first = loop.call_soon(self.start)

    def start(self) -> None:
        """Numbers are tried at once, names are looked up first."""
        if self.over:
            return
        if isinstance(self.address, str):
            self.resolved([(socket.AF_UNIX, self.address)], None)
        else:
            self.dialer.resolve(self.address, self.resolved)

    def resolved(self, found: list[tuple[int, Address]], error: NetError | None) -> None:
        """The addresses of the name are known, or not."""
        if self.over:
            return
        if error is not None:
            self.finish(error)
            return
        self.left = found
        self.next()

    def next(self) -> None:
        """Start the next attempt, and the clock for the one after."""
        self.stop_stagger()
        if self.over:
            return
        if not self.left:
            if not self.open:
                self.finish(self.last or NetError(f"{self.name} has no address", step="resolve", side="upstream"))
            return
        family, peer = self.left.pop(0)
        if self.left:
            self.staggered = self.dialer.poller.loop.call_later(STAGGER, self.next)
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as problem:
            self.failed(None, problem.errno or errno.EIO)
            return
        sock.setblocking(False)
        try:
            self.dialer.options.apply(sock)
        except OSError:
            pass  # an option this kernel refuses must not cost the connection
        attempt = Attempt(self, sock, peer)
        self.open.add(attempt)
        attempt.start()

    def connected(self, attempt: Attempt, sock: socket.socket) -> None:
        """The first one wins."""
        self.open.discard(attempt)
        if self.over:
            sock.close()
            return
        asker = self.asker
        self.finish(None)
        asker.dialed(sock.detach(), attempt.peer)

    def failed(self, attempt: Attempt | None, code: int) -> None:
        """One attempt failed: the next address, now."""
        self.open.discard(attempt)  # type: ignore[arg-type]
        self.last = self.error(code)
        self.next()

    def error(self, code: int) -> NetError:
        """What an errno of connect means for the request."""
        if code in (errno.ECONNREFUSED, errno.ENOENT):
            return NetError(
                f"{self.name} refused the connection",
                step="dial",
                side="upstream",
                retry="always",
                hint="is the server running?",
            )
        if code == errno.ETIMEDOUT:
            return NetError(f"{self.name} did not answer", step="dial", status=504, side="upstream", retry="always")
        if code in (errno.EMFILE, errno.ENFILE):
            return NetError(
                "no descriptor is left for a connection to an upstream",
                step="dial",
                status=503,
                side="us",
                hint="raise the descriptor limit",
            )
        what = (
            "cannot be reached" if code in UNREACHABLE else f"could not be dialed ({errno.errorcode.get(code, code)})"
        )
        return NetError(f"{self.name} {what}", step="dial", side="upstream", retry="always")

    @property
    def name(self) -> str:
        """The address as text."""
        return name_of(self.address)

    def timed_out(self) -> None:
        """The deadline."""
        self.finish(
            NetError(
                f"{self.name} did not accept a connection in time",
                step="dial",
                status=504,
                side="upstream",
                retry="always",
            )
        )

    def cancel(self) -> None:
        """Nobody wants it any more."""
        self.asker = None
        self.finish(None)

    def finish(self, error: NetError | None) -> None:
        """Stop everything; tell the asker of an error."""
        if self.over:
            return
        self.over = True
        self.stop_stagger()
        self.first.cancel()
        if self.timer is not None:
            self.timer.cancel()
        for attempt in self.open:
            attempt.close()
        self.open.clear()
        asker, self.asker = self.asker, None
        if error is not None and asker is not None:
            asker.undialed(error)

    def stop_stagger(self) -> None:
        if self.staggered is not None:
            self.staggered.cancel()
            self.staggered = None


class Dialer:
    """Dials for one event loop, with one set of socket options; keeps looked-up names for a moment."""

    def __init__(self, poller: Any, options: Options | None = None) -> None:
        self.poller = poller
        self.options = options if options is not None else Options()
        self.names: dict[Address, tuple[float, list[tuple[int, Address]], NetError | None]] = {}
        self.asking: dict[Address, list[Any]] = {}

    def dial(self, address: Address, asker: Any, timeout: float | None = 5.0) -> Dial:
        """Connect to (host, port) or a unix path within `timeout` seconds; `asker` hears `dialed` or `undialed`."""
        return Dial(self, address, asker, timeout)

    def resolve(self, address: Address, tell: Any) -> None:
        """Call `tell(addresses, error)`: at once for numbers and fresh names, else when the look-up is done."""
        host, port = address[0], address[1]
        number = numeric(host, port)
        if number is not None:
            tell([number], None)
            return
        known = self.names.get(address)
        if known is not None and known[0] > self.poller.loop.time():
            tell(list(known[1]), known[2])
            return
        waiting = self.asking.get(address)
        if waiting is not None:
            waiting.append(tell)
            return
        self.asking[address] = [tell]
        look_up = self.poller.loop.run_in_executor(None, look_up_name, host, port)
        look_up.add_done_callback(lambda done: self.looked_up(address, done))

    def looked_up(self, address: Address, done: Any) -> None:
        """The thread pool answered."""
        tellers = self.asking.pop(address, [])
        if done.cancelled():
            return
        found: list[tuple[int, Address]] = []
        error = None
        problem = done.exception()
        if problem is not None:
            error = NetError(
                f"{name_of(address)} has no address ({problem})", step="resolve", side="upstream", retry="always"
            )
        else:
            found = interleave(done.result())
        keep = FAILED if error is not None else FRESH
        self.names[address] = (self.poller.loop.time() + keep, found, error)
        for tell in tellers:
            tell(list(found), error)


def name_of(address: Address) -> str:
    """An address for people: "host:port", "[v6]:port" or "unix:/path"."""
    if isinstance(address, str):
        return f"unix:{address}"
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def numeric(host: str, port: int) -> tuple[int, Address] | None:
    """(family, socket address) of a host that is a number already."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return family, (host, port)
    return None


def look_up_name(host: str, port: int) -> list[Any]:
    """In a thread: all stream addresses of a name."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def interleave(found: list[Any]) -> list[tuple[int, Address]]:
    """The resolver's order, families in turn (RFC 8305 section 4)."""
    first: list[tuple[int, Address]] = []
    second: list[tuple[int, Address]] = []
    for family, _, _, _, address in found:
        (first if not first or first[0][0] == family else second).append((family, address))
    mixed = []
    while first or second:
        for side in (first, second):
            if side:
                one = side.pop(0)
                if one not in mixed:
                    mixed.append(one)
    return mixed
