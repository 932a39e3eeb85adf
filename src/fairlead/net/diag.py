"""What the kernel knows of TCP sockets that are not ours: sock_diag(7), the counters of /proc/net/netstat; and /proc/net/udp.

Rules
1. Nothing is opened, connected or traced: a server that is looked at does not notice. No privileges are needed.
2. A row of a listening socket has its accept queue: `rqueue` is how many connections wait, `wqueue` how many may (the
   backlog, capped by net.core.somaxconn; one more is let in). Of a connection they are bytes: not yet read, not yet
   acknowledged. A connection without inode is nobody's yet: it waits to be accepted, or is past its owner.
3. The counters belong to the whole network namespace, not to a socket. What was dropped of UDP is a socket's own count: its
   receive buffer was full, because its owner came too late.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

SOCK_DIAG, DIAG_BY_FAMILY, DUMP, ERROR, DONE = 4, 20, 0x301, 2, 3
HEADER = struct.Struct("=IHHII")
LISTEN = 10
STATES = {
    1: "established", 2: "syn-sent", 3: "syn-recv", 4: "fin-wait-1", 5: "fin-wait-2", 6: "time-wait", 7: "closed",
    8: "close-wait", 9: "last-ack", 10: "listen", 11: "closing", 12: "syn-recv",
}  # fmt: skip
COUNTERS = {
    "overflows": "ListenOverflows",  # the last ACK of a handshake, or a SYN, met a full accept queue
    "drops": "ListenDrops",  # SYNs dropped for any reason, the one above included
    "cookies": "SyncookiesSent",  # the SYN queue was full, and the client was answered without a place in it
    "syn_drops": "TCPReqQFullDrop",  # the SYN queue was full, and cookies are off
}


@dataclass(frozen=True)
class Row:
    """One socket. `peer` is ("", 0) of a listening one."""

    state: str
    local: tuple[str, int]
    peer: tuple[str, int]
    rqueue: int
    wqueue: int
    uid: int
    inode: int

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return socket.AF_INET6 if ":" in self.local[0] else socket.AF_INET


def listening(port: int = 0) -> list[Row]:
    """Every TCP socket that listens, or those on one port. Raises OSError where sock_diag cannot be had."""
    return [row for row in dump(1 << LISTEN) if not port or row.local[1] == port]


def connections(port: int) -> list[Row]:
    """The connections that came to a local port, in whatever state."""
    return [row for row in dump(0xFFF & ~(1 << LISTEN) | 1 << 12) if row.local[1] == port]


def dump(states: int) -> list[Row]:
    """All TCP sockets in these states (a bit for each)."""
    found: list[Row] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, SOCK_DIAG) as sock:
        sock.settimeout(5)
        for family in (socket.AF_INET, socket.AF_INET6):
            wanted = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, states) + bytes(48)
            sock.send(HEADER.pack(HEADER.size + len(wanted), DIAG_BY_FAMILY, DUMP, 1, 0) + wanted)
            while read(sock.recv(1 << 16), found):
                pass
    return found


def read(data: bytes, found: list[Row]) -> bool:
    """The rows of one answer; False after the last."""
    at = 0
    while at + HEADER.size <= len(data):
        size, kind, *_ = HEADER.unpack_from(data, at)
        if kind == DONE:
            return False
        if kind == ERROR:
            code = -struct.unpack_from("=i", data, at + HEADER.size)[0]
            raise OSError(code, os.strerror(code))
        found.append(row(data, at + HEADER.size))
        at += (size + 3) & ~3
    return True


def row(data: bytes, at: int) -> Row:
    """One inet_diag_msg."""
    family, state = struct.unpack_from("=BB", data, at)
    local_port, peer_port = struct.unpack_from(">HH", data, at + 4)
    size = 4 if family == socket.AF_INET else 16
    local, peer = (socket.inet_ntop(family, data[at + o : at + o + size]) for o in (8, 24))
    _, rqueue, wqueue, uid, inode = struct.unpack_from("=IIIII", data, at + 52)
    return Row(
        STATES.get(state, str(state)),
        (local, local_port),
        (peer, peer_port) if state != LISTEN else ("", 0),
        rqueue,
        wqueue,
        uid,
        inode,
    )


def counters() -> dict[str, int]:
    """{"overflows", "drops", "cookies", "syn_drops"} of this network namespace since it began; {} where not told."""
    try:
        lines = Path("/proc/self/net/netstat").read_text().splitlines()
    except OSError:
        return {}
    for names, values in zip(lines[::2], lines[1::2]):
        if names.startswith("TcpExt:"):
            known = dict(zip(names.split(), values.split()))
            return {name: int(known.get(field, 0)) for name, field in COUNTERS.items()}
    return {}


def datagrams(host: str, port: int) -> tuple[int, int]:
    """(bytes that wait to be read, datagrams dropped) of all UDP sockets bound to exactly this address; (0, 0) where not told."""
    family, words = (socket.AF_INET6, 4) if ":" in host else (socket.AF_INET, 1)
    packed = struct.unpack(f"={words}I", socket.inet_pton(family, host))
    wanted = "".join(f"{word:08X}" for word in packed) + f":{port:04X}"
    try:
        text = Path("/proc/self/net/udp6" if words == 4 else "/proc/self/net/udp").read_text()
    except OSError:
        return 0, 0
    rows = [line.split() for line in text.splitlines()[1:]]
    found = [row for row in rows if row[1] == wanted and row[2].endswith(":0000")]
    return sum(int(row[4].partition(":")[2], 16) for row in found), sum(int(row[-1]) for row in found)
