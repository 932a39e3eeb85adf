# cython: annotation_typing=False
"""A UDP socket of an event loop: batches in, batches out.

Rules
1. The socket is somebody else's (the master's, handed to us): it is set up here, read and written, and never closed by `Udp`.
2. One system call reads up to 16 messages, and each may be many datagrams of one sender that the kernel joined (UDP_GRO); one
   system call sends up to 64 datagrams of one size to one peer (UDP_SEGMENT). Where the kernel or the device can do neither,
   datagrams go one by one: `segments` turns False at the first refusal that is not for their size.
3. The kernel stamps each message (SO_TIMESTAMPNS), so that the wait in the socket's buffer is exact, and tells the ECN bits (RFC
   3168) and, on a socket bound to every address, which one it came to, so that answers leave from there (RFC 1122 section 4.1.3.5).
4. Nothing is fragmented (RFC 9000 section 14): what is larger than the path takes is lost, and path MTU discovery (`net.quicmtu`)
   sees it; what is larger than our own way to the peer is not tried (`room`).
5. What waits to be read may be `BUFFER` bytes: with the usual 208 KiB, a sender whose window is larger loses packets at every
   pause of ours. Beyond net.core.rmem_max it takes CAP_NET_ADMIN; a server that has neither says so, once (`say_buffer`).
6. A send that cannot be done is lost, as any datagram may be: only "no room now" is told, so that the caller can wait.
"""

from __future__ import annotations

import errno
import logging
import socket

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

SO_TIMESTAMPNS = 35
SOL_UDP, UDP_GRO = 17, 104
IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVTOS, IP_MTU = 8, 10, 13, 14
IPV6_RECVPKTINFO, IPV6_MTU_DISCOVER, IPV6_RECVTCLASS, IPV6_MTU = 49, 23, 66, 24
SO_RCVBUFFORCE = 33
BUFFER = 2 << 20  # bytes that may wait for us to read; the kernel gives less where net.core.rmem_max is lower
PROBE = 3  # IP_PMTUDISC_PROBE: set DF, ignore what the kernel believes of the path
MOST = 64  # datagrams of one call
BYTES = 65000  # and bytes
LARGEST = 65507  # bytes of a datagram: an IPv4 packet's 65,535 without its headers
NO_OFFLOAD = (errno.EIO, errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP)
SAID: list[int] = []
log = logging.getLogger("fairlead.error")
WILD = ("0.0.0.0", "::")


class Udp:
    """`Udp(sock)`: `receive()` and `send(packets, peer, local)`. What was read and sent is counted."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.name = sock.getsockname()[:2]
        self.datagrams = _fast.Datagrams(sock.fileno())
        self.segments = True
        self.messages = self.sent = self.calls = self.lost = self.marked = 0
        set_up(sock)

    def receive(self) -> list[tuple[bytes, tuple[str, int], bytes, int, int, int]]:
        """Messages as of `_fast.Datagrams.receive`; [] when none waits."""
        try:
            found: list[tuple[bytes, tuple[str, int], bytes, int, int, int]] = self.datagrams.receive()
        except OSError:
            return []  # an ICMP error of a datagram that we sent
        self.messages += len(found)
        return found

    def send(self, packets: list[bytes], peer: tuple[str, int], local: bytes = b"", ecn: int = 0) -> int:
        """Send datagrams to one peer, in order, with these ECN bits; how many are gone (some may be lost). Fewer than all: no room
        now.
        """
        done, count = 0, len(packets)
        while done < count:
            size = len(packets[done])
            end = done + 1
            if self.segments:
                total = size
                while end < count and end - done < MOST and len(packets[end]) <= size and total + size <= BYTES:
                    total += len(packets[end])
                    end += 1
                    if len(packets[end - 1]) < size:
                        break
            if not self.send_one(packets[done:end], peer, size if end - done > 1 else 0, local, ecn):
                return done
            done = end
        return done

    def room(self, peer: tuple[str, int]) -> int:
        """Bytes of a datagram that the way to `peer` takes as far as the kernel knows it; 0 when it has none."""
        six = self.sock.family == socket.AF_INET6
        with socket.socket(self.sock.family, socket.SOCK_DGRAM) as asked:
            try:
                asked.connect(peer)
                mtu = asked.getsockopt(*((socket.IPPROTO_IPV6, IPV6_MTU) if six else (socket.IPPROTO_IP, IP_MTU)))
            except OSError:
                return 0
        return min(mtu - (48 if six else 28), LARGEST)

    def send_one(self, packets: list[bytes], peer: tuple[str, int], segment: int, local: bytes, ecn: int = 0) -> bool:
        """One system call. False when there is no room now."""
        self.calls += 1
        try:
            if not self.datagrams.send(packets, peer, segment, local, ecn):
                return False
        except OSError as error:
            if segment and error.errno in NO_OFFLOAD:
                before = self.lost
                done = all([self.send_one([one], peer, 0, local, ecn) for one in packets])
                self.segments = self.lost > before  # lost one by one, too: they are too large for the way, with or without it
                return done
            self.lost += len(packets)
            return True
        self.sent += len(packets)
        return True


def say_buffer(sock: socket.socket) -> None:
    """A warning when less may wait than we want, the first time in a process."""
    held = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # the kernel tells twice what was asked, for its own use
    if held < BUFFER and not SAID:
        SAID.append(held)
        log.warning(
            "UDP: %d KiB may wait to be read where we want %d, so fast uploads over HTTP/3 lose packets: "
            "raise net.core.rmem_max to %d, or give CAP_NET_ADMIN", held >> 10, BUFFER >> 10, BUFFER,
        )  # fmt: skip


def set_up(sock: socket.socket) -> None:
    """The options of rules 2 to 4, each where the system has it."""
    wild = sock.getsockname()[0] in WILD
    options = [(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1), (SOL_UDP, UDP_GRO, 1)]
    options += [(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER), (socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)]
    if sock.family == socket.AF_INET6:
        options += [(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PROBE), (socket.IPPROTO_IPV6, IPV6_RECVTCLASS, 1)]
        options += [(socket.IPPROTO_IP, IP_MTU_DISCOVER, PROBE), (socket.IPPROTO_IP, IP_RECVTOS, 1)]  # of IPv4 over it
        options += [(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)] if wild else []
    else:
        options += [(socket.IPPROTO_IP, IP_MTU_DISCOVER, PROBE), (socket.IPPROTO_IP, IP_RECVTOS, 1)]
        options += [(socket.IPPROTO_IP, IP_PKTINFO, 1)] if wild else []
    for level, option, value in options:
        try:
            sock.setsockopt(level, option, value)
        except OSError:
            pass
