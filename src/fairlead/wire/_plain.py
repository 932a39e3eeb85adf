"""Plain twins of `_fast`: the same names and promises, in Python, for machines without a C compiler.

Tests hold the two equal. See `_fast.pyx` for what each one promises.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import socket
import struct
import sys
import threading
from time import monotonic_ns as monotonic_ns
from time import time_ns

HAS_EPOLL = hasattr(select, "epoll")
COMPILED = False
SO_TIMESTAMPNS = 35
MUTEX = threading.Lock()
NOTHING = (errno.EAGAIN, errno.EINTR)
SIOCINQ, SIOCOUTQ = 0x541B, 0x5411
LINUX = sys.platform == "linux"
MORE = getattr(socket, "MSG_MORE", 0)
NOWAIT = getattr(os, "RWF_NOWAIT", 0)
NOSIGNAL = getattr(socket, "MSG_NOSIGNAL", 0) | socket.MSG_DONTWAIT


def realtime_ns():
    return time_ns()


def borrow(fd, family=socket.AF_INET):
    return socket.socket(family, socket.SOCK_STREAM, 0, fileno=fd)


def recv(fd, size):
    sock = borrow(fd)
    try:
        return sock.recv(size, socket.MSG_DONTWAIT)
    except OSError as error:
        if error.errno in NOTHING:
            return None
        raise
    finally:
        sock.detach()


def recv_stamped(fd, size):
    sock = borrow(fd)
    stamp = 0
    try:
        data, control, _, _ = sock.recvmsg(size, 128, socket.MSG_DONTWAIT)
    except OSError as error:
        if error.errno in NOTHING:
            return None, 0
        raise
    finally:
        sock.detach()
    for level, kind, body in control:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(body) >= 16:
            seconds, nanoseconds = struct.unpack("qq", body[:16])
            stamp = seconds * 1_000_000_000 + nanoseconds
    return data, stamp


def send(fd, data, start):
    sock = borrow(fd)
    try:
        return sock.send(memoryview(data)[start:], NOSIGNAL)
    except OSError as error:
        if error.errno in NOTHING:
            return -1
        raise
    finally:
        sock.detach()


def send_more(fd, data, start):
    sock = borrow(fd)
    try:
        return sock.send(memoryview(data)[start:], NOSIGNAL | MORE)
    except OSError as error:
        if error.errno in NOTHING:
            return -1
        raise
    finally:
        sock.detach()


def sendfile(fd, source, at, count):
    if not LINUX:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    try:
        return os.sendfile(fd, source, at, count)
    except OSError as error:
        if error.errno in NOTHING:
            return -1
        raise


def resident(fd, at, count):
    last = at + count - 1
    while count > 0 and NOWAIT:
        try:
            if not os.preadv(fd, (bytearray(1),), at, NOWAIT):
                return False
        except OSError as error:
            return error.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
        if at == last:
            return True
        at = min(at + 65536, last)
    return True


def send_many(fd, chunks, start):
    parts = [memoryview(chunk) for chunk in chunks[:64]]
    parts[0] = parts[0][start:]
    sock = borrow(fd)
    try:
        return sock.sendmsg(parts, [], NOSIGNAL)
    except OSError as error:
        if error.errno in NOTHING:
            return -1
        raise
    finally:
        sock.detach()


def write_fenced(lock, fence, fd, at, chunks):
    total = 0
    left = [memoryview(chunk) for chunk in chunks]
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        if os.pread(lock, 8, 0) != fence.to_bytes(8, "little"):
            return -1
        while left:
            done = os.pwritev(fd, left[:512], at + total)
            total += done
            while left and done >= len(left[0]):
                done -= len(left.pop(0))
            if left:
                left[0] = left[0][done:]
    except OSError:
        if not total:
            raise
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)
    return total


def address(name):
    if isinstance(name, tuple):
        host = name[0]
        return (host[7:] if host.startswith("::ffff:") and "." in host else host), name[1]
    return ""


def family_of(fd):
    probe = socket.socket(fileno=os.dup(fd))
    try:
        return probe.family
    finally:
        probe.close()


def accept(fd):
    sock = borrow(fd, family_of(fd))
    try:
        got, peer = sock._accept()  # type: ignore[attr-defined]
    except OSError as error:
        if error.errno in (*NOTHING, errno.ECONNABORTED, errno.EPROTO):
            return None
        raise
    finally:
        sock.detach()
    os.set_blocking(got, False)
    return got, address(peer)


def local_address(fd):
    try:
        sock = borrow(fd, family_of(fd))
    except OSError:
        return ""
    try:
        return address(sock.getsockname())
    except OSError:
        return ""
    finally:
        sock.detach()


def peer_address(fd):
    try:
        sock = borrow(fd, family_of(fd))
    except OSError:
        return ""
    try:
        return address(sock.getpeername())
    except OSError:
        return ""
    finally:
        sock.detach()


def close(fd):
    try:
        os.close(fd)
    except OSError:
        return -1
    return 0


def shutdown_write(fd):
    sock = borrow(fd)
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        return -1
    finally:
        sock.detach()
    return 0


def queued(fd, request):
    try:
        return struct.unpack("i", fcntl.ioctl(fd, request, b"\0\0\0\0"))[0]
    except OSError:
        return -1


def unread(fd):
    return queued(fd, SIOCINQ)


def unacked(fd):
    return queued(fd, SIOCOUTQ)


def raw_info(fd, size):
    if not hasattr(socket, "TCP_INFO"):
        return None
    try:
        sock = borrow(fd)
    except OSError:
        return None
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
    except OSError:
        return None
    finally:
        sock.detach()


def tcp_info(fd):
    got = raw_info(fd, 256)
    if got is None:
        return None
    got = got.ljust(256, b"\0")
    u = struct.unpack("64I", got)
    q = struct.unpack("32Q", got)
    return u[11], u[5], u[6], u[7], u[17], u[36], q[21], q[22], q[23], u[25]


def accept_wait(fd):
    got = raw_info(fd, 48)
    return struct.unpack_from("I", got, 44)[0] if got and len(got) >= 48 else -1


def find(data, what, start):
    return data.find(what, start)


def piece(data, start, end):
    return data[start:end]


def alike(data, at, end, other, start, size):
    if at < 0 or start < 0 or size < 0 or end > len(data) or size > end - at or start > len(other) - size:
        return False
    return data[at : at + size] == other[start : start + size]


def stands(data, start, end, what):
    return data[start:end] == what


def prefixed(flag, payload):
    if len(payload) > 0xFFFFFFFF:
        raise OverflowError("a message is longer than its prefix can say")
    return bytes((flag & 255,)) + len(payload).to_bytes(4, "big") + payload


def lower(data, start, end):
    return data[start:end].lower()


joined = b"".join


def decimal(number):
    if number < 0:
        raise ValueError("negative")
    return b"%d" % number


def hexadecimal(number):
    if number < 0:
        raise ValueError("negative")
    return b"%x" % number


def fields_joined(fields, names, values):
    made: list[bytes] = []
    for name, value in fields:
        if not name or not only(name, names) or not only(value, values):
            return None
        made += (name, b": ", value, b"\r\n")
    return b"".join(made)


NO_VALUE = re.compile(rb"[^\t\x20-\x7e\x80-\xff]")


def value_end(data, at, end):
    found = NO_VALUE.search(data, at, end)
    return end if found is None else found.start()


value_stop = value_end


def named(data, start, size, names, slot):
    return data[start : start + size].lower() == names[slot * 32 : slot * 32 + size]


name_is = named


def head_joined(data, marks, count, numbers, drop, a, b, c, before, after, tail, length, more, body):
    if value_end(tail, 0, len(tail)) != len(tail):
        return None
    made = [a, b, c, before]
    for i in range(0, count * 5, 5):
        name, colon, value, end, slot = marks[i : i + 5]
        if slot == 65535 or not drop >> numbers[slot] & 1:
            made += (data[name:colon].lower(), b": ", data[value:end], b"\r\n")
    made.append(after)
    if tail:
        made += (tail, b"\r\n")
    if length >= 0:
        made.append(b"content-length: %d\r\n" % length)
    made += (more, b"\r\n", body)
    return b"".join(made)


def head_of(data, marks, numbers, drop, pieces, length):
    a, b, c, before, after, tail, more, body = pieces
    return head_joined(data, marks, len(marks) // 5, numbers, drop, a, b, c, before, after, tail, length, more, body)


def only(data, allowed):
    return 0 not in data.translate(allowed[:256])


def masked(data, start, end, key, phase):
    if start < 0 or end < start or end > len(data):
        raise ValueError("outside of the data")
    size = end - start
    four = key.to_bytes(4, "big")
    four = four[phase:] + four[:phase]
    pad = (four * (size // 4 + 1))[:size]
    return (int.from_bytes(data[start:end], "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")


def masked_text(data, start, end, key):
    try:
        return masked(data, start, end, key, 0).decode()
    except UnicodeDecodeError:
        return None


def utf8(data, state):
    if not state and data.isascii():
        return 0
    wanted, least, most = state & 255, state >> 8 & 255, state >> 16 & 255
    for c in data:
        if wanted:
            if not least <= c <= most:
                return -1
            wanted -= 1
            least, most = 0x80, 0xBF
        elif c >= 0x80:
            if not 0xC2 <= c <= 0xF4:
                return -1
            wanted = 1 if c < 0xE0 else 2 if c < 0xF0 else 3
            least = {0xE0: 0xA0, 0xF0: 0x90}.get(c, 0x80)
            most = {0xED: 0x9F, 0xF4: 0x8F}.get(c, 0xBF)
    return most << 16 | least << 8 | wanted if wanted else 0


def frame(first, payload, key):
    size = len(payload)
    bit = 0 if key < 0 else 128
    if size < 126:
        head = bytes((first, bit | size))
    elif size < 65536:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if key < 0:
        return head + payload
    return head + key.to_bytes(4, "big") + masked(payload, 0, size, key, 0)


def frame_text(first, text, key):
    return frame(first, text.encode(), key)


FRAME = struct.Struct("<IBBHQII")


def hop_frame(kind, flags, aux, extra, stream, parts, fields, body):
    block = b""
    if body is None:
        raise TypeError("bytes, not None")
    if parts is not None and fields is not None:
        if len(parts) > 65535 or len(fields) > 65535:
            raise OverflowError("too many for one frame")
        pieces = [*parts, *(piece for field in fields for piece in field)]
        if None in pieces:
            raise TypeError("bytes, not None")
        lengths = struct.pack(f"<HH{len(pieces)}I", len(parts), len(fields), *map(len, pieces))
        block = lengths + b"".join(pieces)
    size = len(block) + len(body)
    if size > 0x7FFFFFFF:
        raise OverflowError("too large for one frame")
    return FRAME.pack(size, kind & 255, flags & 255, aux & 65535, stream, len(block), extra) + block + body


def numbers(a, b, c, d, e, f, g, h, size):
    if not 0 <= size <= 64:
        raise ValueError("eight numbers are 64 bytes")
    return struct.pack("<8q", a, b, c, d, e, f, g, h)[:size]


def hop_block(data, start, end):
    if start < 0 or end > len(data) or end - start < 4:
        return None
    count, pairs = struct.unpack_from("<HH", data, start)
    number = count + 2 * pairs
    at = start + 4 + 4 * number
    if at > end:
        return None
    pieces = []
    for size in struct.unpack_from(f"<{number}I", data, start + 4):
        if size > end - at:
            return None
        pieces.append(data[at : at + size])
        at += size
    if at != end:
        return None
    return pieces[:count], list(zip(pieces[count::2], pieces[count + 1 :: 2]))


class Words:
    """See `_fast.Words`. A record lock on `lock` keeps other processes out, a mutex the other threads of this one."""

    def __init__(self, memory, lock=-1):
        view = memoryview(memory).cast("B")
        if len(view) < 8 or view.readonly:
            raise ValueError("words are 8 bytes, writable")
        self.words = view[: len(view) // 8 * 8].cast("q")
        self.count = len(self.words)
        self.fd = lock

    def load(self, word):
        if not 0 <= word < self.count:
            raise IndexError(word)
        return self.words[word]

    def store(self, word, value):
        if not 0 <= word < self.count:
            raise IndexError(word)
        self.words[word] = value

    def swap(self, word, old, new):
        if not 0 <= word < self.count:
            raise IndexError(word)
        with MUTEX:
            if self.fd >= 0:
                fcntl.lockf(self.fd, fcntl.LOCK_EX)
            try:
                if self.words[word] != old:
                    return False
                self.words[word] = new
                return True
            finally:
                if self.fd >= 0:
                    fcntl.lockf(self.fd, fcntl.LOCK_UN)


class Epoll:
    def __init__(self):
        self.epoll = select.epoll()
        self.fds: list[int] = []
        self.events: list[int] = []

    def fileno(self):
        return self.epoll.fileno()

    def add(self, fd, events):
        self.epoll.register(fd, events)

    def modify(self, fd, events):
        self.epoll.modify(fd, events)

    def remove(self, fd):
        self.epoll.unregister(fd)

    def wait(self, milliseconds):
        got = self.epoll.poll(milliseconds / 1000, 256)
        self.fds = [fd for fd, _ in got]
        self.events = [events for _, events in got]
        return len(got)


SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
IP_TOS, IPV6_TCLASS, IP_PKTINFO, IPV6_PKTINFO = 1, 67, 8, 50


class Datagrams:
    def __init__(self, fd):
        self.fd = fd
        self.family = family_of(fd)

    def receive(self):
        out: list[tuple] = []
        sock = socket.socket(self.family, socket.SOCK_DGRAM, 0, fileno=self.fd)
        try:
            while len(out) < 16:
                try:
                    data, control, _, peer = sock.recvmsg(65536, 256, socket.MSG_DONTWAIT)
                except OSError as error:
                    if error.errno in NOTHING or out:
                        break
                    raise
                out.append((data, address(peer), *controls(control)))
        finally:
            sock.detach()
        return out

    def send(self, packets, peer, segment, local, ecn=0):
        control = [(SOL_UDP, UDP_SEGMENT, struct.pack("H", segment))] if segment else []
        if len(local) == 4:
            control.append((socket.IPPROTO_IP, IP_PKTINFO, struct.pack("i4s4s", 0, local, bytes(4))))
        elif len(local) == 16:
            control.append((socket.IPPROTO_IPV6, IPV6_PKTINFO, local + bytes(4)))
        if ecn:
            six = ":" in peer[0] and "." not in peer[0]
            level, kind = (socket.IPPROTO_IPV6, IPV6_TCLASS) if six else (socket.IPPROTO_IP, IP_TOS)
            control.append((level, kind, struct.pack("i", ecn & 3)))
        sock = socket.socket(self.family, socket.SOCK_DGRAM, 0, fileno=self.fd)
        try:
            socket.inet_pton(socket.AF_INET6 if ":" in peer[0] else socket.AF_INET, peer[0])
            sock.sendmsg(packets[:64], control, NOSIGNAL, peer)
        except OSError as error:
            if error.errno in NOTHING:
                return False
            if error.errno is None:
                raise ValueError(f"{peer[0]} is no address") from None
            raise
        finally:
            sock.detach()
        return True


def controls(control):
    """(local, stamp, segment, ecn) of a datagram's control messages."""
    local, stamp, segment, ecn = b"", 0, 0, 0
    for level, kind, body in control:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(body) >= 16:
            seconds, nanoseconds = struct.unpack("qq", body[:16])
            stamp = seconds * 1_000_000_000 + nanoseconds
        elif level == SOL_UDP and kind == UDP_GRO:
            (segment,) = struct.unpack("i", body[:4])
        elif level == socket.IPPROTO_IP and kind == IP_TOS:
            ecn = body[0] & 3
        elif level == socket.IPPROTO_IPV6 and kind == IPV6_TCLASS:
            ecn = struct.unpack("i", body[:4])[0] & 3
        elif level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            local = body[8:12]
        elif level == socket.IPPROTO_IPV6 and kind == IPV6_PKTINFO:
            local = body[:16]
    return local, stamp, segment, ecn
