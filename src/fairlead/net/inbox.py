"""Connections that somebody else accepted: they come over a unix socket pair and are taken like accepted ones.

Rules
1. One message is one connection: a byte, and its descriptor beside it (SCM_RIGHTS, unix(7)). Between threads too, where its
   number would do: during a reload the threads of two processes read the same pair.
2. The pair keeps message boundaries (SOCK_SEQPACKET), so a reader that dies between two messages leaves the rest whole
   for the next one.
3. The accept wait of a connection ends when its worker has it: time in the pair counts as time in the accept queue.
4. Out of descriptors the kernel drops the one that travels; that connection is lost, and taking pauses, as for accept.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from fairlead.net.listen import Listener, _fast

MESSAGE = b"c"
NUMBER = struct.Struct("i")
ROOM = socket.CMSG_SPACE(NUMBER.size)
FLAGS = socket.MSG_DONTWAIT | getattr(socket, "MSG_CMSG_CLOEXEC", 0)
KIND = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM) if os.uname().sysname == "Linux" else socket.SOCK_DGRAM
NO_ROOM = (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS, errno.EPIPE, errno.ECONNRESET, errno.ECONNREFUSED)


class Inbox(Listener):
    """A Listener whose socket is the far end of a pair."""

    def __init__(self, poller, sock, service, make_codec, tls=None):
        super().__init__(poller, sock, service, make_codec, tls)
        self.is_tcp = True

    def take(self):
        """The next connection, as `_fast.accept` gives it."""
        while True:
            try:
                data, beside, flags, _ = self.sock.recvmsg(len(MESSAGE), ROOM, FLAGS)
            except (BlockingIOError, InterruptedError):
                return None
            if not data:
                self.stop()  # the other end is closed: no more will come
                return None
            if beside:
                (fd,) = NUMBER.unpack(beside[0][2][: NUMBER.size])
                return fd, _fast.peer_address(fd)
            if flags & socket.MSG_CTRUNC:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def pair():
    """(near, far): the end to hand connections to, and the end that takes them."""
    near, far = socket.socketpair(socket.AF_UNIX, KIND)
    for sock in (near, far):
        sock.setblocking(False)
    return near, far


def hand(near, fd):
    """Pass a connection on; False when the pair is full, or nobody is at its other end.

    When True comes back the descriptor is not ours any more.
    """
    try:
        near.sendmsg([MESSAGE], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, NUMBER.pack(fd))], socket.MSG_DONTWAIT)
    except OSError as error:
        if error.errno in NO_ROOM:
            return False
        raise
    os.close(fd)
    return True
