"""Listening sockets: opened by the master, held for its whole life, lent to workers. The only place that binds.

Rules
1. A port that somebody else listens on is an error that names who (where /proc tells), also when both would allow
   SO_REUSEPORT: two servers that silently share a port are worse than one that does not start. A plain bind tries it
   first.
2. IPv6 sockets are IPv6 only, so "0.0.0.0:80" and "[::]:80" can stand beside each other.
3. A unix socket left behind by a dead process is replaced; one that answers is an error. It is unlinked by who made it.
4. TCP options are set here, on the listening socket: Linux gives them to every accepted one (tcp(7)).
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fairlead.core.errors import NetError
from fairlead.net import steer
from fairlead.run import config as c
from fairlead.run.units import Address

LINK_BUFFER = 1 << 20  # bytes; the kernel caps it at net.core.wmem_max

def open_all(
    address: Address, count: int, backlog: int, options: c.Socket, mode: int | None = None
) -> list[socket.socket]:
    """`count` listening sockets on one address (one for a unix path); raises `NetError` in one line."""
    if address.is_unix:
        return [open_unix(address, backlog, mode)]
    family, where = resolve(address)
    taken(family, where, address)
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            sock = open_tcp(family, where, count > 1, options)
            opened.append(sock)
            where = (where[0], sock.getsockname()[1], *where[2:])
            listen(sock, backlog, options)
    except OSError as error:
        for sock in opened:
            sock.close()
        raise refused(address, error) from None
    return opened


def open_datagrams(
    address: Address, count: int, options: c.Socket, beside: socket.socket | None = None
) -> list[socket.socket]:
    """`count` UDP sockets on one address, one per worker, steered by QUIC connection id (`net.steer`); `beside` one that
    is there already, as more of them. Raises `NetError` in one line.
    """
    family, where = (beside.family, beside.getsockname()) if beside else resolve(address, socket.SOCK_DGRAM)
    opened: list[socket.socket] = []
    try:
        if beside is None:
            plain_bind(family, where, socket.SOCK_DGRAM)
        for _ in range(count):
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            opened.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            for option, size in ((socket.SO_RCVBUF, options.rcvbuf), (socket.SO_SNDBUF, options.sndbuf)):
                if size:
                    sock.setsockopt(socket.SOL_SOCKET, option, size)
            sock.bind(where)
            where = sock.getsockname()
        steer.attach(opened[-1])
    except OSError as error:
        for sock in opened:
            sock.close()
        raise refused(address, error, "udp") from None
    return opened


def more(first: socket.socket, count: int, address: Address, backlog: int, options: c.Socket) -> list[socket.socket]:
    """`count` more sockets beside one that listens already."""
    opened: list[socket.socket] = []
    try:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for _ in range(count):
            opened.append(open_tcp(first.family, first.getsockname(), True, options))
            listen(opened[-1], backlog, options)
    except OSError as error:
        for sock in opened:
            sock.close()
        raise refused(address, error) from None
    return opened


def resolve(address: Address, kind: int = socket.SOCK_STREAM) -> tuple[int, tuple]:
    """(family, socket address) of a host and port; IPv4 first where a name has both."""
    try:
        found = socket.getaddrinfo(
            address.host or "0.0.0.0", address.port, type=kind, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise NetError(
            f"cannot bind {address}: {error.strerror or error}",
            step="resolve",
            side="us",
            hint="write an address of this machine",
        ) from None
    found.sort(key=lambda one: one[0] != socket.AF_INET)
    return found[0][0], found[0][4]


def open_tcp(family: int, where: tuple, shared: bool, options: c.Socket) -> socket.socket:
    """A bound socket with its options set."""
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        configure(sock, options)
        sock.bind(where)
    except OSError:
        sock.close()
        raise
    return sock


def configure(sock: socket.socket, options: c.Socket) -> None:
    """The options of `listener.socket`; on a socket that listens already they hold for connections from now on."""
    if sock.family == socket.AF_UNIX:
        return
    tcp = socket.IPPROTO_TCP
    sock.setsockopt(tcp, socket.TCP_NODELAY, options.nodelay)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, options.keepalive is not None)
    if options.keepalive is not None and hasattr(socket, "TCP_KEEPIDLE"):
        sock.setsockopt(tcp, socket.TCP_KEEPIDLE, max(1, round(options.keepalive)))
        sock.setsockopt(tcp, socket.TCP_KEEPINTVL, max(1, round(options.keepalive / 4)))
        sock.setsockopt(tcp, socket.TCP_KEEPCNT, 4)
    if options.congestion:
        try:
            sock.setsockopt(tcp, socket.TCP_CONGESTION, options.congestion.encode())
        except OSError as error:
            raise OSError(error.errno, f"congestion control {options.congestion} is not available") from None
    if options.rcvbuf:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options.rcvbuf)
    if options.sndbuf:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, options.sndbuf)


def listen(sock: socket.socket, backlog: int, options: c.Socket) -> None:
    """Start to listen. Called again on a listening socket, it changes the length of the accept queue."""
    if options.fastopen and sock.family != socket.AF_UNIX and hasattr(socket, "TCP_FASTOPEN"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, options.fastopen)
    sock.listen(backlog)


def taken(family: int, where: tuple, address: Address) -> None:
    """Raise `NetError` when the address cannot be bound by a plain socket (rule 1)."""
    try:
        plain_bind(family, where, socket.SOCK_STREAM)
    except OSError as error:
        raise refused(address, error) from None


def next_free(address: Address, most: int = 100) -> Address:
    """The first of `most` ports from the address's own on that nobody has; raises `NetError` when there is none."""
    if address.is_unix or not address.port:
        return address
    for port in range(address.port, min(address.port + most, 65536)):
        family, where = resolve(Address(address.host, port))
        try:
            plain_bind(family, where, socket.SOCK_STREAM)
            return Address(address.host, port)
        except OSError as error:
            last = error
    raise refused(address, last) from None


def plain_bind(family: int, where: tuple, kind: int) -> None:
    """Bind and let go; raises OSError when somebody has the address."""
    with socket.socket(family, kind | socket.SOCK_CLOEXEC) as sock:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)


def refused(address: Address, error: OSError, kind: str = "tcp") -> NetError:
    """The one-line error for a bind that failed."""
    reason, hint = error.strerror or str(error), ""
    if error.errno == errno.EADDRINUSE:
        holder = who_listens(address.port, kind)
        reason = f"the port is taken by {holder}" if holder else "the port is taken"
        hint = "stop that process or choose another port with --bind"
    elif error.errno == errno.EACCES:
        reason = f"ports below {lowest_port()} need privileges"
        hint = "choose a higher port, or grant CAP_NET_BIND_SERVICE"
    elif error.errno == errno.EADDRNOTAVAIL:
        reason, hint = "this machine does not have the address", "bind 127.0.0.1, 0.0.0.0 or one of `ip addr`"
    return NetError(f"cannot listen on {address}: {reason}", step="bind", side="us", hint=hint)


def lowest_port() -> int:
    """The first port that needs no privileges."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024


def who_listens(port: int, kind: str = "tcp") -> str:
    """ "name (pid 123)" of the process that listens on a port; "" when /proc does not tell."""
    return who_holds(listening_inodes(port, kind))


def who_holds(numbers: Iterable[str | int]) -> str:
    """ "name (pid 123)" of the first process found with one of these socket inodes open, "" when /proc does not tell."""
    inodes = {f"socket:[{inode}]" for inode in numbers}
    if not inodes:
        return ""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for fd in (entry / "fd").iterdir():
                with suppress(OSError):
                    if os.readlink(fd) in inodes:
                        return f"{command_of(entry)} (pid {entry.name})"
    return ""


def listening_inodes(port: int, kind: str = "tcp") -> list[str]:
    """Inodes of the sockets in LISTEN (0A) on a port, or bound to it (07) for "udp", from /proc/net."""
    found = []
    for table in (kind, f"{kind}6"):
        with suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                part = line.split()
                if part[3] == ("0A" if kind == "tcp" else "07") and int(part[1].rpartition(":")[2], 16) == port:
                    found.append(part[9])
    return found


def command_of(entry: Path) -> str:
    """A short name of a process: what it runs, without its directories."""
    words = (entry / "cmdline").read_bytes().split(b"\0")
    names = [
        os.path.basename(word).decode(errors="replace") for word in words[:2] if word and not word.startswith(b"-")
    ]
    return " ".join(names) or (entry / "comm").read_text().strip()


def open_unix(address: Address, backlog: int, mode: int | None = None) -> socket.socket:
    """A listening unix socket; `mode` in place of what the umask leaves."""
    path = address.path
    clear_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    before = os.umask(0o177) if mode is not None else None
    try:
        sock.bind(path)
        if mode is not None:
            os.chmod(path, mode)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        reason = error.strerror or str(error)
        raise NetError(
            f"cannot listen on unix:{path}: {reason}",
            step="bind",
            side="us",
            hint="the directory must exist and be writable",
        ) from None
    finally:
        if before is not None:
            os.umask(before)
    return sock


def clear_stale(path: str) -> None:
    """Remove a unix socket that nobody answers on; raises `NetError` when somebody does, or when it is something
    else.
    """
    try:
        found = os.lstat(path)
    except OSError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise NetError(f"cannot listen on unix:{path}: a file is in the way", step="bind", side="us", hint="remove it")
    if answers(path):
        raise NetError(
            f"cannot listen on unix:{path}: another process listens there",
            step="bind",
            side="us",
            hint="choose another path",
        )
    with suppress(OSError):
        os.unlink(path)


def answers(path: str) -> bool:
    """Does somebody listen on this unix socket?"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(1)
        try:
            sock.connect(path)
        except TimeoutError:
            return True
        except OSError as error:
            return error.errno == errno.EAGAIN
    return True


def identity(sock: socket.socket) -> tuple[int, int] | None:
    """(device, inode) of a bound unix socket's path, to unlink later only what is still ours."""
    with suppress(OSError):
        found = os.lstat(sock.getsockname())
        return found.st_dev, found.st_ino
    return None


def unlink(path: str, made: tuple[int, int] | None) -> None:
    """Remove a unix socket's path when it is still the one we made."""
    with suppress(OSError):
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == made:
            os.unlink(path)


def raise_descriptor_limit() -> tuple[int, int]:
    """Raise the soft limit of open files to the hard one; (soft, hard) as they are now."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return soft, hard


def queue_depth(sock: socket.socket) -> tuple[int, int]:
    """(connections waiting to be accepted, most that may wait) of a listening TCP socket; (0, 0) where it is not told.

    In state LISTEN tcp_info carries the accept queue's length in tcpi_unacked and its limit in tcpi_sacked
    (tcp_get_info).
    """
    if sock.family == socket.AF_UNIX or not hasattr(socket, "TCP_INFO"):
        return 0, 0
    with suppress(OSError):
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        return int.from_bytes(info[24:28], "little"), int.from_bytes(info[28:32], "little")
    return 0, 0


def link() -> tuple[socket.socket, socket.socket]:
    """A socket pair between a front and a worker, with room for a turn's worth of answers."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for sock in pair:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LINK_BUFFER)
        sock.setblocking(False)
    return pair
