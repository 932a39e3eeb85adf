"""Which of several UDP sockets on one port gets a datagram: decided in the kernel, by the QUIC connection id.

Rules
1. The first byte of every connection id that we issue says whose it is: the slot in its lower six bits, the generation of
   that slot's process in the upper two. A client may change its address (RFC 9000 section 9); its packets still find the
   process that has the connection.
2. A classic BPF program on the group (SO_ATTACH_REUSEPORT_CBPF, socket(7); no privileges) reads that byte where a packet
   has an id of ours: in short headers at offset 1, in Handshake packets at offset 6 (RFC 9000 17.2, 17.3; in version 2 the
   types are numbered otherwise, RFC 9369 3.2).
3. Initial and 0-RTT packets carry an id that the client made up. They go by the kernel's hash of the addresses, so all of
   one client's first flight comes to one socket. So does what names a slot that there is not.
4. The kernel numbers the sockets of a group in the order of their bind, and moves the last into the place of one that
   closes. So none is closed before the last: the master holds them.
"""

from __future__ import annotations

import socket
import struct
from array import array

SO_ATTACH_REUSEPORT_CBPF = 51
SLOTS = 64
GENERATIONS = 4
VERSION_2 = 0x6B3343CF
BY_HASH = 0xFFFFFFFF
LOAD_BYTE, LOAD_WORD, AND, IF_ANY, IF_EQUAL, RETURN, RETURN_IT = 0x30, 0x20, 0x54, 0x45, 0x15, 0x06, 0x16
# (what, jump if true, jump if false, number); jumps count from the next line
PROGRAM = (
    (LOAD_BYTE, 0, 0, 0),
    (IF_ANY, 3, 0, 0x80),  # a long header: go on below
    (LOAD_BYTE, 0, 0, 1),  # a short header: the id begins at 1
    (AND, 0, 0, SLOTS - 1),
    (RETURN_IT, 0, 0, 0),
    (LOAD_WORD, 0, 0, 1),  # the version
    (IF_EQUAL, 3, 0, VERSION_2),
    (LOAD_BYTE, 0, 0, 0),
    (AND, 0, 0, 0x30),
    (IF_EQUAL, 3, 6, 0x20),  # Handshake in version 1
    (LOAD_BYTE, 0, 0, 0),
    (AND, 0, 0, 0x30),
    (IF_EQUAL, 0, 3, 0x30),  # Handshake in version 2
    (LOAD_BYTE, 0, 0, 6),  # type, version and a length come before the id
    (AND, 0, 0, SLOTS - 1),
    (RETURN_IT, 0, 0, 0),
    (RETURN, 0, 0, BY_HASH),
)


def attach(sock: socket.socket) -> bool:
    """Steer the group of this bound SO_REUSEPORT socket; False where the system cannot (then all goes by the hash)."""
    code = array("B", b"".join(struct.pack("=HBBI", *line) for line in PROGRAM))
    try:
        sock.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, struct.pack("@HP", len(PROGRAM), code.buffer_info()[0])
        )
    except OSError:
        return False
    return True


def mark(slot: int, generation: int) -> int:
    """The first byte of a connection id of this slot and generation."""
    if not 0 <= slot < SLOTS:
        raise ValueError(f"slot {slot}: a connection id has room for {SLOTS}")
    return slot | (generation % GENERATIONS) << 6


def read(first: int) -> tuple[int, int]:
    """(slot, generation) of a connection id's first byte."""
    return first & SLOTS - 1, first >> 6
