# cython: language_level=3, freethreading_compatible=True
"""Leaves without policy that need C: clocks, system calls on bare descriptors, epoll, and wide-word byte work.

Every name here has a plain twin in `_plain.py` with the same promises; tests hold them equal. Nothing here keeps state
between calls, but for `Epoll`'s own arrays. System calls return what the kernel said, with "would block" as None or -1,
and raise OSError for the rest.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, ECONNABORTED, EINPROGRESS, EINTR, EMFILE, ENFILE, EPROTO, errno
from libc.string cimport memchr, memcmp, memcpy, memset
import os
import socket as _socket

HAS_EPOLL = True
COMPILED = True

cdef extern from "string.h" nogil:
    void* memmem(const void*, size_t, const void*, size_t)

cdef extern from "time.h" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int, timespec*)
    enum: CLOCK_MONOTONIC, CLOCK_REALTIME

cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len

cdef extern from "sys/socket.h" nogil:
    ctypedef unsigned int socklen_t
    struct sockaddr:
        unsigned short sa_family
    struct sockaddr_storage:
        unsigned short ss_family
    struct msghdr:
        void* msg_name
        socklen_t msg_namelen
        iovec* msg_iov
        size_t msg_iovlen
        void* msg_control
        size_t msg_controllen
        int msg_flags
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    ssize_t c_recv "recv"(int, void*, size_t, int)
    ssize_t c_recvmsg "recvmsg"(int, msghdr*, int)
    ssize_t c_send "send"(int, const void*, size_t, int)
    ssize_t c_sendmsg "sendmsg"(int, const msghdr*, int)
    int c_shutdown "shutdown"(int, int)
    int c_getsockopt "getsockopt"(int, int, int, void*, socklen_t*)
    cmsghdr* CMSG_FIRSTHDR(msghdr*)
    cmsghdr* CMSG_NXTHDR(msghdr*, cmsghdr*)
    unsigned char* CMSG_DATA(cmsghdr*)
    enum: MSG_NOSIGNAL, MSG_DONTWAIT, SOL_SOCKET, SHUT_WR, AF_INET, AF_INET6, AF_UNIX

cdef extern from *:
    """
    #include <errno.h>
    #include <sys/uio.h>
    #ifdef __linux__
    #include <sys/sendfile.h>
    #define MORE MSG_MORE
    static inline ssize_t fl_sendfile(int fd, int source, long long at, size_t count) {
        off_t offset = at;
        return sendfile(fd, source, &offset, count);
    }
    #else
    #define MORE 0
    static inline ssize_t fl_sendfile(int fd, int source, long long at, size_t count) { errno = ENOSYS; return -1; }
    #endif
    #if defined(__linux__) && defined(RWF_NOWAIT)
    static inline ssize_t fl_read_now(int fd, const struct iovec* part, long long at) { return preadv2(fd, part, 1, at, RWF_NOWAIT); }
    #else
    static inline ssize_t fl_read_now(int fd, const struct iovec* part, long long at) { errno = ENOSYS; return -1; }
    #endif
    """
    enum: MORE, EOPNOTSUPP, ENOSYS, EINVAL
    ssize_t fl_sendfile(int, int, long long, size_t) nogil
    ssize_t fl_read_now(int, const iovec*, long long) nogil

cdef extern from "unistd.h" nogil:
    int c_close "close"(int)

cdef extern from *:
    """
    #include <sys/file.h>
    #include <unistd.h>
    #include <stdint.h>
    #include <string.h>
    /* flock on `lock`; if its first eight bytes are `fence`: the parts to `fd` from `at` on, `most` at a time. How much of them, -1:
       another fence, -2: errno says. What the disk takes before it fails counts; the next call fails at once. */
    static ssize_t fl_write_fenced(int lock, long long fence, int fd, long long at, struct iovec* parts, int count) {
        unsigned char found[8];
        unsigned long long value = 0;
        ssize_t total = 0, done = 0;
        int error = 0, i;
        while (flock(lock, LOCK_EX) < 0)
            if (errno != EINTR) return -2;
        done = pread(lock, found, 8, 0);
        if (done < 0) error = errno;
        for (i = 7; i >= 0; i--) value = value << 8 | found[i];
        if (!error && (done != 8 || value != (unsigned long long)fence)) { flock(lock, LOCK_UN); return -1; }
        while (!error && count) {
            done = pwritev(fd, parts, count < 512 ? count : 512, (off_t)(at + total));
            if (done < 0) { if (errno != EINTR) error = errno; continue; }
            total += done;
            while (count && (size_t)done >= parts->iov_len) { done -= parts->iov_len; parts++; count--; }
            if (count) { parts->iov_base = (char*)parts->iov_base + done; parts->iov_len -= done; }
        }
        flock(lock, LOCK_UN);
        if (error && !total) { errno = error; return -2; }
        return total;
    }
    """
    ssize_t fl_write_fenced(int, long long, int, long long, iovec*, int) nogil

cdef extern from "sys/ioctl.h" nogil:
    int c_ioctl "ioctl"(int, unsigned long, void*)

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <sys/types.h>
    #include <sys/socket.h>
    #include <netinet/in.h>
    #include <arpa/inet.h>
    #include <fcntl.h>
    #include <string.h>
    #ifdef __linux__
    #include <sys/epoll.h>
    #include <linux/sockios.h>
    static int fl_accept(int fd, struct sockaddr* a, socklen_t* n) { return accept4(fd, a, n, SOCK_NONBLOCK | SOCK_CLOEXEC); }
    #define FL_SIOCOUTQ SIOCOUTQ
    #define FL_SIOCINQ SIOCINQ
    #else
    #include <sys/event.h>
    #include <sys/ioctl.h>
    #define EPOLL_CLOEXEC 0
    #define EPOLL_CTL_ADD 1
    #define EPOLL_CTL_MOD 3
    #define EPOLL_CTL_DEL 2
    #define FL_SIOCOUTQ 0
    #define FL_SIOCINQ FIONREAD
    #define MSG_NOSIGNAL 0
    typedef union { int fd; } epoll_data_t;
    struct epoll_event { unsigned int events; epoll_data_t data; };
    static int epoll_create1(int f) { errno = ENOSYS; return -1; }
    static int epoll_ctl(int a, int b, int c, struct epoll_event* e) { errno = ENOSYS; return -1; }
    static int epoll_wait(int a, struct epoll_event* e, int n, int t) { errno = ENOSYS; return -1; }
    static int fl_accept(int fd, struct sockaddr* a, socklen_t* n) {
        int s = accept(fd, a, n);
        if (s >= 0) { fcntl(s, F_SETFL, fcntl(s, F_GETFL) | O_NONBLOCK); fcntl(s, F_SETFD, FD_CLOEXEC); }
        return s;
    }
    #endif
    /* 1 and text/port for an IP address, 0 otherwise */
    static int fl_name(const struct sockaddr* a, char* text, int* port) {
        if (a->sa_family == AF_INET) {
            const struct sockaddr_in* v4 = (const struct sockaddr_in*)a;
            inet_ntop(AF_INET, &v4->sin_addr, text, 64); *port = ntohs(v4->sin_port); return 1;
        }
        if (a->sa_family == AF_INET6) {
            const struct sockaddr_in6* v6 = (const struct sockaddr_in6*)a;
            if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) inet_ntop(AF_INET, ((const char*)&v6->sin6_addr) + 12, text, 64);
            else inet_ntop(AF_INET6, &v6->sin6_addr, text, 64);
            *port = ntohs(v6->sin6_port); return 1;
        }
        return 0;
    }
    """
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        unsigned int events
        epoll_data_t data
    int epoll_create1(int) nogil
    int epoll_ctl(int, int, int, epoll_event*) nogil
    int epoll_wait(int, epoll_event*, int, int) nogil
    int fl_accept(int, sockaddr*, socklen_t*) nogil
    int fl_name(const sockaddr*, char*, int*) nogil
    int getsockname(int, sockaddr*, socklen_t*) nogil
    int getpeername(int, sockaddr*, socklen_t*) nogil
    enum: EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL, FL_SIOCOUTQ, FL_SIOCINQ


cdef object fail():
    raise OSError(errno, os.strerror(errno))


cpdef long long monotonic_ns() noexcept:
    """CLOCK_MONOTONIC in nanoseconds."""
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec * <long long>1000000000 + t.tv_nsec


cpdef long long realtime_ns() noexcept:
    """CLOCK_REALTIME in nanoseconds."""
    cdef timespec t
    clock_gettime(CLOCK_REALTIME, &t)
    return t.tv_sec * <long long>1000000000 + t.tv_nsec


cpdef object recv(int fd, Py_ssize_t size):
    """Up to `size` bytes: b"" at the end of the stream, None when nothing is there."""
    cdef char small[65536]
    cdef ssize_t n
    cdef bytes large
    if size <= 65536:
        n = c_recv(fd, small, size, MSG_DONTWAIT)
        if n >= 0:
            return PyBytes_FromStringAndSize(small, n)
    else:
        large = PyBytes_FromStringAndSize(NULL, size)
        n = c_recv(fd, PyBytes_AS_STRING(large), size, MSG_DONTWAIT)
        if n >= 0:
            return large if n == size else large[:n]
    if errno == EAGAIN or errno == EINTR:
        return None
    return fail()


cpdef object recv_stamped(int fd, Py_ssize_t size):
    """(bytes or None, kernel receive stamp in CLOCK_REALTIME ns or 0): the stamp of the newest segment read (SO_TIMESTAMPNS)."""
    cdef char small[65536]
    cdef char control[128]
    cdef iovec part
    cdef msghdr message
    cdef cmsghdr* c
    cdef timespec t
    cdef ssize_t n
    cdef long long stamp = 0
    part.iov_base = small
    part.iov_len = min(size, 65536)
    memset(&message, 0, sizeof(message))
    message.msg_iov = &part
    message.msg_iovlen = 1
    message.msg_control = control
    message.msg_controllen = sizeof(control)
    n = c_recvmsg(fd, &message, MSG_DONTWAIT)
    if n < 0:
        if errno == EAGAIN or errno == EINTR:
            return None, 0
        fail()
    c = CMSG_FIRSTHDR(&message)
    while c != NULL:
        if c.cmsg_level == SOL_SOCKET and c.cmsg_type == 35:
            memcpy(&t, CMSG_DATA(c), sizeof(t))
            stamp = t.tv_sec * <long long>1000000000 + t.tv_nsec
        c = CMSG_NXTHDR(&message, c)
    return PyBytes_FromStringAndSize(small, n), stamp


cpdef Py_ssize_t send(int fd, bytes data, Py_ssize_t start) except -2:
    """Bytes of data[start:] the kernel took; -1 when it takes none now."""
    cdef ssize_t n = c_send(fd, PyBytes_AS_STRING(data) + start, PyBytes_GET_SIZE(data) - start, MSG_NOSIGNAL | MSG_DONTWAIT)
    if n >= 0:
        return n
    if errno == EAGAIN or errno == EINTR:
        return -1
    fail()


cpdef Py_ssize_t send_more(int fd, bytes data, Py_ssize_t start) except -2:
    """Like send, and more follows at once: the kernel may wait for it to fill a segment (MSG_MORE)."""
    cdef ssize_t n = c_send(fd, PyBytes_AS_STRING(data) + start, PyBytes_GET_SIZE(data) - start, MSG_NOSIGNAL | MSG_DONTWAIT | MORE)
    if n >= 0:
        return n
    if errno == EAGAIN or errno == EINTR:
        return -1
    fail()


cpdef Py_ssize_t sendfile(int fd, int source, long long at, Py_ssize_t count) except -2:
    """Bytes of a file, from offset `at`, that the kernel sent to a non-blocking socket; 0 at the file's end, -1 when it takes none now."""
    cdef ssize_t n = fl_sendfile(fd, source, at, count)
    if n >= 0:
        return n
    if errno == EAGAIN or errno == EINTR:
        return -1
    fail()


cpdef bint resident(int fd, long long at, Py_ssize_t count) except -1:
    """Is this part of a file in memory, as far as a look at its first, its last and each 64 KiB between tells? Also True where
    the kernel does not tell; False when it can not be read to its end.
    """
    cdef char one
    cdef iovec part
    cdef long long last = at + count - 1
    cdef ssize_t n
    part.iov_base = &one
    part.iov_len = 1
    while count > 0:
        n = fl_read_now(fd, &part, at)
        if n < 0:
            return errno == EOPNOTSUPP or errno == ENOSYS or errno == EINVAL
        if n == 0 or at == last:
            return n > 0
        at = min(at + 65536, last)
    return True


cpdef Py_ssize_t send_many(int fd, list chunks, Py_ssize_t start) except -2:
    """Like send, for a list of bytes at once (the first 64); `start` is an offset into the first."""
    cdef iovec parts[64]
    cdef msghdr message
    cdef Py_ssize_t i, count = min(len(chunks), 64)
    cdef bytes chunk
    cdef ssize_t n
    for i in range(count):
        chunk = chunks[i]
        parts[i].iov_base = PyBytes_AS_STRING(chunk)
        parts[i].iov_len = PyBytes_GET_SIZE(chunk)
    parts[0].iov_base = <char*>parts[0].iov_base + start
    parts[0].iov_len -= start
    memset(&message, 0, sizeof(message))
    message.msg_iov = parts
    message.msg_iovlen = count
    n = c_sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT)
    if n >= 0:
        return n
    if errno == EAGAIN or errno == EINTR:
        return -1
    fail()


cpdef Py_ssize_t write_fenced(int lock, long long fence, int fd, long long at, list chunks) except -2:
    """Write chunks to the file `fd` from `at` on, under an exclusive flock on `lock`, if the first eight bytes of that (little-endian)
    are `fence`; -1 if they are not. May write less than all when the disk takes no more; with nothing written that is an OSError.
    For threads: the lock of the interpreter is let go once and taken again once, however long it takes.
    """
    cdef Py_ssize_t i, count = len(chunks), n
    cdef iovec* parts = <iovec*>c_malloc(sizeof(iovec) * (count + 1))
    cdef bytes chunk
    if parts == NULL:
        raise MemoryError
    try:
        for i in range(count):
            chunk = chunks[i]
            parts[i].iov_base = PyBytes_AS_STRING(chunk)
            parts[i].iov_len = PyBytes_GET_SIZE(chunk)
        with nogil:
            n = fl_write_fenced(lock, fence, fd, at, parts, <int>count)
        if n < -1:
            fail()
        return n
    finally:
        c_free(parts)


cdef object address(const sockaddr* a):
    cdef char text[64]
    cdef int port = 0
    if fl_name(a, text, &port):
        return (<bytes>text).decode(), port
    return ""


cpdef object accept(int fd):
    """(descriptor, peer) of a waiting connection, non-blocking and close-on-exec; None when none waits.

    `peer` is (host, port), IPv4-mapped addresses as IPv4, or "" for AF_UNIX.
    """
    cdef sockaddr_storage a
    cdef socklen_t size = sizeof(a)
    cdef int got = fl_accept(fd, <sockaddr*>&a, &size)
    if got >= 0:
        return got, address(<sockaddr*>&a)
    if errno == EAGAIN or errno == EINTR or errno == ECONNABORTED or errno == EPROTO:
        return None
    return fail()


cpdef object local_address(int fd):
    """Our own (host, port) of a connected descriptor, or "" for AF_UNIX."""
    cdef sockaddr_storage a
    cdef socklen_t size = sizeof(a)
    if getsockname(fd, <sockaddr*>&a, &size) != 0:
        return ""
    return address(<sockaddr*>&a)


cpdef object peer_address(int fd):
    """The peer's (host, port) of a connected descriptor, or "" for AF_UNIX and where it is gone already."""
    cdef sockaddr_storage a
    cdef socklen_t size = sizeof(a)
    if getpeername(fd, <sockaddr*>&a, &size) != 0:
        return ""
    return address(<sockaddr*>&a)


cpdef int close(int fd) noexcept:
    """Close a descriptor; errors are of no use to anybody by then."""
    return c_close(fd)


cpdef int shutdown_write(int fd) noexcept:
    """Send FIN; 0, or -1 when the connection is gone already."""
    return c_shutdown(fd, SHUT_WR)


cpdef int unread(int fd) noexcept:
    """Bytes in the kernel's receive buffer (SIOCINQ), -1 when it cannot be told."""
    cdef int n = 0
    return n if c_ioctl(fd, FL_SIOCINQ, &n) == 0 else -1


cpdef int unacked(int fd) noexcept:
    """Bytes sent but not acknowledged, and unsent (SIOCOUTQ), -1 when it cannot be told."""
    cdef int n = 0
    return n if c_ioctl(fd, FL_SIOCOUTQ, &n) == 0 else -1


cpdef tuple tcp_info(int fd):
    """Parts of TCP_INFO, or None where there is none:

    (last_data_sent ms, rcv_mss, unacked, sacked, rtt us, notsent bytes, busy us, rwnd_limited us, sndbuf_limited us, total retransmits).
    On a listening socket `unacked` is the accept queue's depth and `sacked` its limit.
    """
    cdef unsigned int u[64]
    cdef socklen_t size = sizeof(u)
    cdef unsigned long long* q
    memset(u, 0, sizeof(u))
    if c_getsockopt(fd, 6, 11, u, &size) != 0:
        return None
    q = <unsigned long long*>u
    return u[11], u[5], u[6], u[7], u[17], u[36], q[21], q[22], q[23], u[25]


cpdef long long accept_wait(int fd) noexcept:
    """Milliseconds since the kernel made this connection, if nothing was sent on it yet (tcpi_last_data_sent); -1 unknown."""
    cdef unsigned int u[64]
    cdef socklen_t size = 48
    if c_getsockopt(fd, 6, 11, u, &size) != 0:
        return -1
    return u[11]


cpdef Py_ssize_t find(bytes data, bytes what, Py_ssize_t start) noexcept:
    """Offset of `what` in data from `start`, -1 when it is not there."""
    cdef const char* base = PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef const char* hit
    if start >= size:
        return -1
    hit = <const char*>memmem(base + start, size - start, PyBytes_AS_STRING(what), PyBytes_GET_SIZE(what))
    return -1 if hit == NULL else hit - base


cpdef bytes piece(bytes data, Py_ssize_t start, Py_ssize_t end):
    """`data[start:end]` for positions that are not negative; no slice object is made."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    if end > size:
        end = size
    if start < 0 or start >= end:
        return b""
    if start == 0 and end == size:
        return data
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + start, end - start)


cpdef bint stands(bytes data, Py_ssize_t start, Py_ssize_t end, bytes what):
    """Whether `data[start:end]`, for positions inside of it, is `what`."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(what)
    if end - start != size or start < 0 or end > PyBytes_GET_SIZE(data):
        return False
    return memcmp(PyBytes_AS_STRING(data) + start, PyBytes_AS_STRING(what), size) == 0


cpdef bint alike(bytes data, Py_ssize_t at, Py_ssize_t end, bytes other, Py_ssize_t start, Py_ssize_t size):
    """Whether `data[at:end]` begins with the `size` bytes of `other` from `start` on; False when either has fewer."""
    if at < 0 or start < 0 or size < 0 or end > PyBytes_GET_SIZE(data) or size > end - at or start > PyBytes_GET_SIZE(other) - size:
        return False
    return memcmp(PyBytes_AS_STRING(data) + at, PyBytes_AS_STRING(other) + start, size) == 0


cpdef bytes lower(bytes data, Py_ssize_t start, Py_ssize_t end):
    """`data[start:end]` with ASCII capitals made small."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t i
    cdef const char* source
    cdef char* target
    cdef char c
    if end > size:
        end = size
    if start < 0 or start >= end:
        return b""
    cdef bytes made = PyBytes_FromStringAndSize(NULL, end - start)
    source = PyBytes_AS_STRING(data) + start
    target = PyBytes_AS_STRING(made)
    for i in range(end - start):
        c = source[i]
        target[i] = c + 32 if 65 <= c <= 90 else c
    return made


cpdef bytes joined(list parts):
    """The bytes objects of a list as one."""
    cdef Py_ssize_t size = 0
    cdef bytes part
    cdef char* target
    for part in parts:
        if part is None:
            raise TypeError("bytes, not None")
        size += PyBytes_GET_SIZE(part)
    cdef bytes made = PyBytes_FromStringAndSize(NULL, size)
    target = PyBytes_AS_STRING(made)
    for part in parts:
        memcpy(target, PyBytes_AS_STRING(part), PyBytes_GET_SIZE(part))
        target += PyBytes_GET_SIZE(part)
    return made


cpdef bytes decimal(long long number):
    """A number that is not negative, in decimal digits."""
    cdef char digits[24]
    cdef int at = 24
    if number < 0:
        raise ValueError("negative")
    while True:
        at -= 1
        digits[at] = 48 + number % 10
        number //= 10
        if number == 0:
            break
    return PyBytes_FromStringAndSize(digits + at, 24 - at)


cpdef bytes hexadecimal(long long number):
    """A number that is not negative, in hexadecimal digits."""
    cdef char digits[24]
    cdef int at = 24
    cdef int low
    if number < 0:
        raise ValueError("negative")
    while True:
        at -= 1
        low = number & 15
        digits[at] = 48 + low if low < 10 else 87 + low
        number >>= 4
        if number == 0:
            break
    return PyBytes_FromStringAndSize(digits + at, 24 - at)


cdef class Epoll:
    """One epoll instance. After `wait` the first n of `fds` and `events` are what is ready."""

    def __cinit__(self):
        self.fd = epoll_create1(EPOLL_CLOEXEC)
        if self.fd < 0:
            fail()

    def __dealloc__(self):
        if self.fd >= 0:
            c_close(self.fd)

    def fileno(self):
        """The descriptor, to be watched by the event loop."""
        return self.fd

    cpdef add(self, int fd, unsigned int events):
        """Watch fd for events (level-triggered unless 0x80000000, EPOLLET, is among them)."""
        self.control(EPOLL_CTL_ADD, fd, events)

    cpdef modify(self, int fd, unsigned int events):
        """Watch fd for other events."""
        self.control(EPOLL_CTL_MOD, fd, events)

    cpdef remove(self, int fd):
        """Watch fd no more."""
        self.control(EPOLL_CTL_DEL, fd, 0)

    cdef control(self, int what, int fd, unsigned int events):
        cdef epoll_event event
        event.events = events
        event.data.fd = fd
        if epoll_ctl(self.fd, what, fd, &event) != 0:
            fail()

    cpdef int wait(self, int milliseconds) except -1:
        """How many are ready, at most 256."""
        cdef epoll_event ready[256]
        cdef int i, n
        if milliseconds == 0:
            n = epoll_wait(self.fd, ready, 256, 0)
        else:
            with nogil:
                n = epoll_wait(self.fd, ready, 256, milliseconds)
        if n < 0:
            if errno == EINTR:
                return 0
            fail()
        for i in range(n):
            self.fds[i] = ready[i].data.fd
            self.events[i] = ready[i].events
        return n


cdef inline bint plain_value(const unsigned char* v, Py_ssize_t size, const unsigned char* allowed) noexcept nogil:
    """Whether every byte is allowed: eight at a time while all are 0x20 to 0x7e (which is always allowed), else by table."""
    cdef unsigned long long word, low, del_
    cdef Py_ssize_t i = 0
    while i + 8 <= size:
        memcpy(&word, v + i, 8)
        low = (word - <unsigned long long>0x2020202020202020) & ~word
        del_ = word ^ <unsigned long long>0x7f7f7f7f7f7f7f7f
        del_ = (del_ - <unsigned long long>0x0101010101010101) & ~del_
        if (low | del_ | word) & <unsigned long long>0x8080808080808080:
            break
        i += 8
    while i < size:
        if not allowed[v[i]]:
            return False
        i += 1
    return True


cpdef bytes fields_joined(list fields, bytes names, bytes values):
    """`name: value` and CRLF of each (bytes, bytes) pair as one bytes object, or None when a byte is not allowed where it stands.

    `names` and `values` are tables of 256 bytes, zero for what may not be in a name or a value; an empty name is not
    allowed either. The values' table must allow 0x20 to 0x7e.
    """
    cdef const unsigned char* good = <const unsigned char*>PyBytes_AS_STRING(names)
    cdef const unsigned char* allowed = <const unsigned char*>PyBytes_AS_STRING(values)
    cdef const unsigned char* v
    cdef Py_ssize_t size = 0, i, n
    cdef tuple field
    cdef bytes name, value, made
    cdef char* target
    if PyBytes_GET_SIZE(names) < 256 or PyBytes_GET_SIZE(values) < 256:
        raise ValueError("tables of 256 bytes")
    for field in fields:
        name, value = field
        if name is None or value is None:
            raise TypeError("bytes, not None")
        size += PyBytes_GET_SIZE(name) + PyBytes_GET_SIZE(value) + 4
    made = PyBytes_FromStringAndSize(NULL, size)
    target = PyBytes_AS_STRING(made)
    for field in fields:
        name = <bytes>field[0]
        n = PyBytes_GET_SIZE(name)
        v = <const unsigned char*>PyBytes_AS_STRING(name)
        if n == 0:
            return None
        for i in range(n):
            if not good[v[i]]:
                return None
            target[i] = v[i]
        target += n
        target[0] = 58
        target[1] = 32
        value = <bytes>field[1]
        n = PyBytes_GET_SIZE(value)
        v = <const unsigned char*>PyBytes_AS_STRING(value)
        if not plain_value(v, n, allowed):
            return None
        memcpy(target + 2, v, n)
        target += n + 2
        target[0] = 13
        target[1] = 10
        target += 2
    return made


cpdef bint only(bytes data, bytes allowed):
    """Whether every byte of data is non-zero in the table `allowed` of 256 bytes."""
    cdef const unsigned char* v = <const unsigned char*>PyBytes_AS_STRING(data)
    cdef const unsigned char* t = <const unsigned char*>PyBytes_AS_STRING(allowed)
    cdef Py_ssize_t i
    if PyBytes_GET_SIZE(allowed) < 256:
        raise ValueError("a table of 256 bytes")
    for i in range(PyBytes_GET_SIZE(data)):
        if not t[v[i]]:
            return False
    return True


cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object)
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL
    object PyUnicode_DecodeUTF8(const char*, Py_ssize_t, const char*)


cdef void mask_into(unsigned char* target, const unsigned char* source, Py_ssize_t size, unsigned int key, int phase) noexcept nogil:
    cdef unsigned char four[8]
    cdef unsigned long long wide, word
    cdef Py_ssize_t i = 0
    for i in range(8):
        four[i] = (key >> (24 - 8 * ((i + phase) & 3))) & 255
    memcpy(&wide, four, 8)
    i = 0
    while i + 8 <= size:
        memcpy(&word, source + i, 8)
        word ^= wide
        memcpy(target + i, &word, 8)
        i += 8
    while i < size:
        target[i] = source[i] ^ four[i & 7]
        i += 1


cdef Py_ssize_t within(bytes data, Py_ssize_t start, Py_ssize_t end) except -1:
    """The size of data[start:end], which must lie inside."""
    if start < 0 or end < start or end > PyBytes_GET_SIZE(data):
        raise ValueError("outside of the data")
    return end - start


cpdef bytes masked(bytes data, Py_ssize_t start, Py_ssize_t end, unsigned int key, int phase):
    """data[start:end] XOR the four bytes of `key` (highest first) over and over, the first with byte number `phase` (RFC 6455 5.3)."""
    cdef Py_ssize_t size = within(data, start, end)
    cdef bytes made = PyBytes_FromStringAndSize(NULL, size)
    if size:
        mask_into(<unsigned char*>PyBytes_AS_STRING(made), <const unsigned char*>PyBytes_AS_STRING(data) + start, size, key, phase)
    return made


cpdef object masked_text(bytes data, Py_ssize_t start, Py_ssize_t end, unsigned int key):
    """The same as text, phase 0; None when it is not UTF-8."""
    cdef unsigned char small[1024]
    cdef Py_ssize_t size = within(data, start, end)
    cdef bytes large
    cdef unsigned char* target = small
    if size > 1024:
        large = PyBytes_FromStringAndSize(NULL, size)
        target = <unsigned char*>PyBytes_AS_STRING(large)
    mask_into(target, <const unsigned char*>PyBytes_AS_STRING(data) + start, size, key, 0)
    try:
        return PyUnicode_DecodeUTF8(<char*>target, size, NULL)
    except UnicodeDecodeError:
        return None


cpdef int utf8(bytes data, int state) except -2:
    """Go on checking UTF-8 (RFC 3629): 0 is between characters; the new state, -1 when a byte cannot stand where it is.

    A state inside a character: continuation bytes still wanted, the least and the greatest next byte, as 0xGGLLWW.
    """
    cdef const unsigned char* v = <const unsigned char*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t i = 0, size = PyBytes_GET_SIZE(data)
    cdef int wanted = state & 255, least = state >> 8 & 255, most = state >> 16 & 255
    cdef unsigned long long word
    cdef unsigned char c
    while i < size:
        if wanted == 0:
            while i + 8 <= size:
                memcpy(&word, v + i, 8)
                if word & <unsigned long long>0x8080808080808080:
                    break
                i += 8
            if i == size:
                break
        c = v[i]
        i += 1
        if wanted:
            if c < least or c > most:
                return -1
            wanted -= 1
            least = 0x80
            most = 0xBF
        elif c >= 0x80:
            least = 0x80
            most = 0xBF
            if 0xC2 <= c <= 0xDF:
                wanted = 1
            elif 0xE0 <= c <= 0xEF:
                wanted = 2
                if c == 0xE0:
                    least = 0xA0
                elif c == 0xED:
                    most = 0x9F
            elif 0xF0 <= c <= 0xF4:
                wanted = 3
                if c == 0xF0:
                    least = 0x90
                elif c == 0xF4:
                    most = 0x8F
            else:
                return -1
    return most << 16 | least << 8 | wanted if wanted else 0


cdef bytes framed(int first, const char* payload, Py_ssize_t size, long long key):
    cdef Py_ssize_t head = 2 if size < 126 else 4 if size < 65536 else 10
    cdef Py_ssize_t i
    cdef int bit = 0 if key < 0 else 128
    cdef bytes made = PyBytes_FromStringAndSize(NULL, head + size + (4 if bit else 0))
    cdef unsigned char* target = <unsigned char*>PyBytes_AS_STRING(made)
    target[0] = first
    if head == 2:
        target[1] = bit | size
    elif head == 4:
        target[1] = bit | 126
        target[2] = size >> 8 & 255
        target[3] = size & 255
    else:
        target[1] = bit | 127
        for i in range(8):
            target[2 + i] = size >> (56 - 8 * i) & 255
    target += head
    if not bit:
        memcpy(target, payload, size)
        return made
    for i in range(4):
        target[i] = key >> (24 - 8 * i) & 255
    mask_into(target + 4, <const unsigned char*>payload, size, <unsigned int>key, 0)
    return made


cpdef bytes frame(int first, bytes payload, long long key):
    """A WebSocket frame: its first byte, its payload, masked with `key` (32 bits) unless that is negative (RFC 6455 5.2)."""
    return framed(first, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), key)


cpdef bytes frame_text(int first, str text, long long key):
    """The same for text, as UTF-8; UnicodeEncodeError for lone surrogates."""
    cdef Py_ssize_t size = 0
    cdef const char* direct
    if PyUnicode_IS_COMPACT_ASCII(text):
        direct = PyUnicode_AsUTF8AndSize(text, &size)
        return framed(first, direct, size, key)
    return frame(first, text.encode(), key)


cpdef bytes prefixed(int flag, bytes payload):
    """A gRPC message: a flag, the length in four bytes, the payload. OverflowError when that does not fit."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
    cdef bytes out
    cdef unsigned char* v
    if size > 0xFFFFFFFF:
        raise OverflowError("a message is longer than its prefix can say")
    out = PyBytes_FromStringAndSize(NULL, size + 5)
    v = <unsigned char*>PyBytes_AS_STRING(out)
    v[0] = flag & 255
    v[1] = size >> 24 & 255
    v[2] = size >> 16 & 255
    v[3] = size >> 8 & 255
    v[4] = size & 255
    memcpy(v + 5, PyBytes_AS_STRING(payload), size)
    return out


cpdef Py_ssize_t value_stop(bytes data, Py_ssize_t at, Py_ssize_t end):
    """From `at` on, where the first byte stands that may not be in a field value, `end` when none does (value_end, for tests)."""
    return value_end(<const unsigned char*>PyBytes_AS_STRING(data), at, end)


cpdef bint name_is(bytes data, Py_ssize_t start, Py_ssize_t size, bytes names, int slot):
    """Whether the token at `start` is, in any case, the name of a slot: `names` holds 32 bytes for each (named, for tests)."""
    if start < 0 or size < 0 or size > 32 or start + size > PyBytes_GET_SIZE(data) or slot < 0 or slot * 32 + 32 > PyBytes_GET_SIZE(names):
        return False
    return named(<const unsigned char*>PyBytes_AS_STRING(data), start, size, <const unsigned char*>PyBytes_AS_STRING(names), slot)


cdef inline char* put(char* target, bytes part) noexcept:
    memcpy(target, PyBytes_AS_STRING(part), PyBytes_GET_SIZE(part))
    return target + PyBytes_GET_SIZE(part)


cdef inline void lowered(char* target, Py_ssize_t size) noexcept nogil:
    """ASCII capitals made small, eight bytes at a time; all bytes are below 0x80."""
    cdef unsigned long long word, upper
    cdef Py_ssize_t i = 0
    while size - i >= 8:
        memcpy(&word, target + i, 8)
        upper = (word + <unsigned long long>0x3f3f3f3f3f3f3f3f) & ~(word + <unsigned long long>0x2525252525252525)
        word |= (upper & <unsigned long long>0x8080808080808080) >> 2
        memcpy(target + i, &word, 8)
        i += 8
    while i < size:
        if 65 <= target[i] <= 90:
            target[i] += 32
        i += 1


cdef bytes head_joined(bytes data, const unsigned short* marks, int count, bytes numbers, long long drop, bytes a, bytes b, bytes c,
                       bytes before, bytes after, bytes tail, long long length, bytes more, bytes body):
    """A head: a b c, `before`, fields by their marks, `after` (completed by `tail`), Content-Length, `more`, an empty line; `body`.

    `marks` holds five positions per field: name, colon, value, its end, and the slot of a known name or 65535; fields whose slot's
    number in `numbers` is a bit of `drop` are left out. Names are written in lower case. None when `tail` is no field value.
    """
    cdef const unsigned char* number = <const unsigned char*>PyBytes_AS_STRING(numbers)
    cdef const char* source = PyBytes_AS_STRING(data)
    cdef Py_ssize_t whole = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t size, name, value
    cdef char digits[24]
    cdef int i, figures = 24
    cdef const unsigned short* mark
    cdef bytes made
    cdef char* target
    if a is None or b is None or c is None or before is None or after is None or tail is None or more is None or body is None:
        raise TypeError("bytes, not None")
    size = PyBytes_GET_SIZE(a) + PyBytes_GET_SIZE(b) + PyBytes_GET_SIZE(c) + PyBytes_GET_SIZE(before)
    size += PyBytes_GET_SIZE(after) + PyBytes_GET_SIZE(more) + 2 + PyBytes_GET_SIZE(body)
    if PyBytes_GET_SIZE(tail):
        size += PyBytes_GET_SIZE(tail) + 2
        if value_end(<const unsigned char*>PyBytes_AS_STRING(tail), 0, PyBytes_GET_SIZE(tail)) != PyBytes_GET_SIZE(tail):
            return None
    for i in range(count):
        mark = marks + 5 * i
        if mark[4] != 65535 and drop >> number[mark[4] & 1023] & 1:
            continue
        if not 0 <= mark[0] <= mark[1] <= mark[2] <= mark[3] <= whole:
            raise ValueError("marks outside of their bytes")
        size += mark[1] - mark[0] + mark[3] - mark[2] + 4
    if length >= 0:
        while True:
            figures -= 1
            digits[figures] = 48 + length % 10
            length //= 10
            if length == 0:
                break
        size += 24 - figures + 18
    made = PyBytes_FromStringAndSize(NULL, size)
    target = put(put(put(put(PyBytes_AS_STRING(made), a), b), c), before)
    for i in range(count):
        mark = marks + 5 * i
        if mark[4] != 65535 and drop >> number[mark[4] & 1023] & 1:
            continue
        name = mark[1] - mark[0]
        value = mark[3] - mark[2]
        if mark[2] == mark[1] + 2 and source[mark[1] + 1] == 32:  # as we write it ourselves
            memcpy(target, source + mark[0], name + 2 + value)
        else:
            memcpy(target, source + mark[0], name)
            target[name] = 58
            target[name + 1] = 32
            memcpy(target + name + 2, source + mark[2], value)
        lowered(target, name)
        target += name + 2 + value
        target[0] = 13
        target[1] = 10
        target += 2
    target = put(target, after)
    if PyBytes_GET_SIZE(tail):
        target = put(target, tail)
        target[0] = 13
        target[1] = 10
        target += 2
    if figures < 24:
        memcpy(target, <const char*>b"content-length: ", 16)
        memcpy(target + 16, digits + figures, 24 - figures)
        target += 16 + 24 - figures
        target[0] = 13
        target[1] = 10
        target += 2
    target = put(target, more)
    target[0] = 13
    target[1] = 10
    put(target + 2, body)
    return made


cpdef bytes head_of(bytes data, list marks, bytes numbers, long long drop, list pieces, long long length):
    """`head_joined` for tests: `marks` in a list, `pieces` for a b c before after tail more body."""
    cdef unsigned short positions[220]
    cdef int i
    if len(marks) > 220 or PyBytes_GET_SIZE(numbers) < 1024:
        raise ValueError("too many marks, or no table")
    for i in range(len(marks)):
        positions[i] = marks[i]
    a, b, c, before, after, tail, more, body = pieces
    return head_joined(data, positions, len(marks) // 5, numbers, drop, a, b, c, before, after, tail, length, more, body)


cdef inline void put32(char* at, unsigned long long value) noexcept nogil:
    at[0] = value & 255
    at[1] = (value >> 8) & 255
    at[2] = (value >> 16) & 255
    at[3] = (value >> 24) & 255


cdef inline Py_ssize_t get32(const unsigned char* at) noexcept nogil:
    return at[0] | at[1] << 8 | at[2] << 16 | <Py_ssize_t>at[3] << 24


cpdef bytes hop_frame(int kind, int flags, int aux, unsigned int extra, long long stream, list parts, list fields, bytes body):
    """One frame of `wire.hop`: a header of 24 bytes, a block of `parts` (bytes) and `fields` (pairs of bytes), and `body`.

    Header, little-endian: u32 bytes behind it, u8 kind, u8 flags, u16 aux, u64 stream, u32 bytes of the block, u32 extra.
    Block: u16 parts, u16 fields, the u32 length of each part, name and value, then their bytes. Both lists None: no block.
    """
    cdef Py_ssize_t block = 0, count = 0, pairs = 0, size, i
    cdef bytes part, value, made
    cdef tuple field
    cdef char* lengths
    cdef char* target
    if body is None:
        raise TypeError("bytes, not None")
    if parts is not None and fields is not None:
        count = len(parts)
        pairs = len(fields)
        if count > 65535 or pairs > 65535:
            raise OverflowError("too many for one frame")
        block = 4 + 4 * count + 8 * pairs
        for part in parts:
            if part is None:
                raise TypeError("bytes, not None")
            block += PyBytes_GET_SIZE(part)
        for field in fields:
            part, value = field
            if part is None or value is None:
                raise TypeError("bytes, not None")
            block += PyBytes_GET_SIZE(part) + PyBytes_GET_SIZE(value)
    size = block + PyBytes_GET_SIZE(body)
    if size > 0x7fffffff:
        raise OverflowError("too large for one frame")
    made = PyBytes_FromStringAndSize(NULL, 24 + size)
    target = PyBytes_AS_STRING(made)
    put32(target, size)
    target[4] = kind & 255
    target[5] = flags & 255
    target[6] = aux & 255
    target[7] = (aux >> 8) & 255
    put32(target + 8, <unsigned int>stream)  # not `& 0xffffffff`, which is a Python integer's work
    put32(target + 12, <unsigned int>(stream >> 32))
    put32(target + 16, block)
    put32(target + 20, extra)
    target += 24
    if block:
        target[0] = count & 255
        target[1] = (count >> 8) & 255
        target[2] = pairs & 255
        target[3] = (pairs >> 8) & 255
        lengths = target + 4
        target += 4 + 4 * count + 8 * pairs
        for i in range(count):
            part = <bytes>parts[i]
            size = PyBytes_GET_SIZE(part)
            put32(lengths, size)
            memcpy(target, PyBytes_AS_STRING(part), size)
            lengths += 4
            target += size
        for i in range(pairs):
            field = <tuple>fields[i]
            part = <bytes>field[0]
            size = PyBytes_GET_SIZE(part)
            put32(lengths, size)
            memcpy(target, PyBytes_AS_STRING(part), size)
            target += size
            part = <bytes>field[1]
            size = PyBytes_GET_SIZE(part)
            put32(lengths + 4, size)
            memcpy(target, PyBytes_AS_STRING(part), size)
            lengths += 8
            target += size
    memcpy(target, PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body))
    return made


cdef inline void put64(char* at, unsigned long long value) noexcept nogil:
    put32(at, value)
    put32(at + 4, value >> 32)


cpdef bytes numbers(
    long long a, long long b, long long c, long long d, long long e, long long f, long long g, long long h, Py_ssize_t size
):
    """The first `size` bytes (0 to 64) of eight signed 64-bit numbers, little-endian."""
    cdef char made[64]
    if size < 0 or size > 64:
        raise ValueError("eight numbers are 64 bytes")
    put64(made, a)
    put64(made + 8, b)
    put64(made + 16, c)
    put64(made + 24, d)
    put64(made + 32, e)
    put64(made + 40, f)
    put64(made + 48, g)
    put64(made + 56, h)
    return PyBytes_FromStringAndSize(made, size)


cpdef tuple hop_block(bytes data, Py_ssize_t start, Py_ssize_t end):
    """(parts, fields) of the block at data[start:end], as `hop_frame` wrote them; None when it is not one, to the byte."""
    cdef const unsigned char* v = <const unsigned char*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t count, pairs, i, at, n, m
    cdef list parts, fields
    if start < 0 or end > PyBytes_GET_SIZE(data) or end - start < 4:
        return None
    v += start
    end -= start
    count = v[0] | v[1] << 8
    pairs = v[2] | v[3] << 8
    at = 4 + 4 * count + 8 * pairs
    if at > end:
        return None
    parts = []
    fields = []
    for i in range(count):
        n = get32(v + 4 + 4 * i)
        if n > end - at:
            return None
        parts.append(PyBytes_FromStringAndSize(<const char*>v + at, n))
        at += n
    for i in range(pairs):
        n = get32(v + 4 + 4 * count + 8 * i)
        m = get32(v + 8 + 4 * count + 8 * i)
        if n > end - at or m > end - at - n:
            return None
        fields.append((PyBytes_FromStringAndSize(<const char*>v + at, n), PyBytes_FromStringAndSize(<const char*>v + at + n, m)))
        at += n + m
    if at != end:
        return None
    return parts, fields


cdef extern from *:
    """
    static long long fl_load(long long* at) { return __atomic_load_n(at, __ATOMIC_SEQ_CST); }
    static void fl_store(long long* at, long long v) { __atomic_store_n(at, v, __ATOMIC_SEQ_CST); }
    static int fl_swap(long long* at, long long old, long long v) {
        return __atomic_compare_exchange_n(at, &old, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    """
    long long fl_load(long long*) nogil
    void fl_store(long long*, long long) nogil
    int fl_swap(long long*, long long, long long) nogil


cdef class Words:
    """64-bit words of memory that processes share, read and written atomically. `memory` is a writable buffer, aligned to 8
    bytes; `lock` is a descriptor that only the plain twin needs.
    """

    def __cinit__(self, memory, int lock=-1):
        cdef unsigned char[::1] view = memory
        cdef Py_ssize_t size = view.shape[0]
        if size < 8 or (<size_t>&view[0]) % 8:
            raise ValueError("words are 8 bytes, aligned")
        self.held = view
        self.at = <long long*>&view[0]
        self.count = size // 8

    cpdef long long load(self, Py_ssize_t word) except? -1:
        """The word's value."""
        if word < 0 or word >= self.count:
            raise IndexError(word)
        return fl_load(self.at + word)

    cpdef store(self, Py_ssize_t word, long long value):
        """Write the word."""
        if word < 0 or word >= self.count:
            raise IndexError(word)
        fl_store(self.at + word, value)

    cpdef bint swap(self, Py_ssize_t word, long long old, long long new) except -1:
        """Compare and swap: write `new` if the word is `old`; whether it was. Of two that try, one succeeds."""
        if word < 0 or word >= self.count:
            raise IndexError(word)
        return fl_swap(self.at + word, old, new) != 0


cdef extern from *:
    """
    #include <stdlib.h>
    #ifdef __linux__
    #include <netinet/udp.h>
    #ifndef UDP_SEGMENT
    #define UDP_SEGMENT 103
    #endif
    #ifndef UDP_GRO
    #define UDP_GRO 104
    #endif
    #endif
    #define FL_CONTROL 256
    typedef struct {
        struct sockaddr_storage from;
        char control[FL_CONTROL];
        struct iovec part;
        unsigned char local[16];
        int local_size, segment, ecn;
        unsigned int size;
        long long stamp;
    } fl_datagram;
    static void fl_controls(struct msghdr* m, fl_datagram* d) {
        struct cmsghdr* c;
        d->local_size = d->segment = d->ecn = 0; d->stamp = 0;
    #ifdef __linux__
        for (c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
            if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
                struct timespec t; memcpy(&t, CMSG_DATA(c), sizeof t); d->stamp = t.tv_sec * 1000000000LL + t.tv_nsec;
            } else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
                memcpy(&d->segment, CMSG_DATA(c), sizeof d->segment);
            } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
                d->ecn = *(unsigned char*)CMSG_DATA(c) & 3;
            } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
                int v; memcpy(&v, CMSG_DATA(c), sizeof v); d->ecn = v & 3;
            } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
                struct in_pktinfo i; memcpy(&i, CMSG_DATA(c), sizeof i); memcpy(d->local, &i.ipi_addr, 4); d->local_size = 4;
            } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
                struct in6_pktinfo i; memcpy(&i, CMSG_DATA(c), sizeof i); memcpy(d->local, &i.ipi6_addr, 16); d->local_size = 16;
            }
        }
    #endif
    }
    static int fl_receive(int fd, fl_datagram* d, int most) {
    #ifdef __linux__
        struct mmsghdr m[16];
        int i, n;
        if (most > 16) most = 16;
        for (i = 0; i < most; i++) {
            memset(&m[i], 0, sizeof m[i]);
            m[i].msg_hdr.msg_name = &d[i].from; m[i].msg_hdr.msg_namelen = sizeof d[i].from;
            m[i].msg_hdr.msg_iov = &d[i].part; m[i].msg_hdr.msg_iovlen = 1;
            m[i].msg_hdr.msg_control = d[i].control; m[i].msg_hdr.msg_controllen = FL_CONTROL;
        }
        n = recvmmsg(fd, m, most, MSG_DONTWAIT, NULL);
        for (i = 0; i < n; i++) { d[i].size = m[i].msg_len; fl_controls(&m[i].msg_hdr, &d[i]); }
        return n;
    #else
        ssize_t n; struct msghdr m;
        memset(&m, 0, sizeof m);
        m.msg_name = &d->from; m.msg_namelen = sizeof d->from; m.msg_iov = &d->part; m.msg_iovlen = 1;
        n = recvmsg(fd, &m, MSG_DONTWAIT);
        if (n < 0) return -1;
        d->size = n; fl_controls(&m, d);
        return 1;
    #endif
    }
    /* the bytes of the sockaddr for an address in text; 0 when it is none */
    static int fl_sockaddr(struct sockaddr_storage* a, const char* text, int port) {
        struct sockaddr_in* v4 = (struct sockaddr_in*)a; struct sockaddr_in6* v6 = (struct sockaddr_in6*)a;
        memset(a, 0, sizeof *a);
        if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) { v4->sin_family = AF_INET; v4->sin_port = htons(port); return sizeof *v4; }
        if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) { v6->sin6_family = AF_INET6; v6->sin6_port = htons(port); return sizeof *v6; }
        return 0;
    }
    static ssize_t fl_send_segments(int fd, struct iovec* parts, int count, const char* to, int size, int segment, const char* local, int local_size, int ecn) {
        char control[FL_CONTROL]; struct msghdr m; struct cmsghdr* c; size_t used = 0;
        memset(&m, 0, sizeof m); memset(control, 0, sizeof control);
        m.msg_name = (void*)to; m.msg_namelen = size; m.msg_iov = parts; m.msg_iovlen = count;
    #ifdef __linux__
        m.msg_control = control; m.msg_controllen = sizeof control;
        c = CMSG_FIRSTHDR(&m);
        if (segment) {
            unsigned short v = segment;
            c->cmsg_level = IPPROTO_UDP; c->cmsg_type = UDP_SEGMENT; c->cmsg_len = CMSG_LEN(sizeof v); memcpy(CMSG_DATA(c), &v, sizeof v);
            used += CMSG_SPACE(sizeof v); c = CMSG_NXTHDR(&m, c);
        }
        if (ecn) {
            const struct sockaddr_in6* six = (const struct sockaddr_in6*)to;
            int v4 = six->sin6_family == AF_INET || IN6_IS_ADDR_V4MAPPED(&six->sin6_addr);
            c->cmsg_level = v4 ? IPPROTO_IP : IPPROTO_IPV6; c->cmsg_type = v4 ? IP_TOS : IPV6_TCLASS;
            c->cmsg_len = CMSG_LEN(sizeof ecn); memcpy(CMSG_DATA(c), &ecn, sizeof ecn);
            used += CMSG_SPACE(sizeof ecn); c = CMSG_NXTHDR(&m, c);
        }
        if (local_size == 4) {
            struct in_pktinfo i; memset(&i, 0, sizeof i); memcpy(&i.ipi_spec_dst, local, 4);
            c->cmsg_level = IPPROTO_IP; c->cmsg_type = IP_PKTINFO; c->cmsg_len = CMSG_LEN(sizeof i); memcpy(CMSG_DATA(c), &i, sizeof i);
            used += CMSG_SPACE(sizeof i);
        } else if (local_size == 16) {
            struct in6_pktinfo i; memset(&i, 0, sizeof i); memcpy(&i.ipi6_addr, local, 16);
            c->cmsg_level = IPPROTO_IPV6; c->cmsg_type = IPV6_PKTINFO; c->cmsg_len = CMSG_LEN(sizeof i); memcpy(CMSG_DATA(c), &i, sizeof i);
            used += CMSG_SPACE(sizeof i);
        }
        m.msg_controllen = used;
        if (!used) m.msg_control = NULL;
    #endif
        return sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    """
    ctypedef struct fl_datagram:
        sockaddr_storage from_ "from"
        iovec part
        unsigned char local[16]
        int local_size, segment, ecn
        unsigned int size
        long long stamp
    int fl_receive(int, fl_datagram*, int) nogil
    int fl_sockaddr(sockaddr_storage*, const char*, int) nogil
    ssize_t fl_send_segments(int, iovec*, int, const char*, int, int, const char*, int, int) nogil
    void* c_calloc "calloc"(size_t, size_t) nogil
    void* c_malloc "malloc"(size_t) nogil
    void c_free "free"(void*) nogil

cdef enum: AT_ONCE = 16
cdef enum: EACH = 65536
cdef enum: PEERS = 4096


cdef class Datagrams:
    """A UDP socket's descriptor, read and written many datagrams at a time. It does not own the descriptor."""

    cdef int fd
    cdef dict peers
    cdef char* buffers
    cdef fl_datagram* got

    def __cinit__(self, int fd):
        cdef int i
        self.fd = fd
        self.peers = {}
        self.buffers = <char*>c_malloc(AT_ONCE * EACH)
        self.got = <fl_datagram*>c_calloc(AT_ONCE, sizeof(fl_datagram))
        if self.buffers == NULL or self.got == NULL:
            raise MemoryError()
        for i in range(AT_ONCE):
            self.got[i].part.iov_base = self.buffers + i * EACH
            self.got[i].part.iov_len = EACH

    def __dealloc__(self):
        c_free(self.buffers)
        c_free(self.got)

    cpdef list receive(self):
        """What waits, at most 16 at once: (bytes, (host, port), local, stamp, segment, ecn). `local` is the address it was sent
        to, packed, where the socket tells (IP_PKTINFO), else b""; `stamp` the kernel's, CLOCK_REALTIME ns or 0; `segment` is
        the size of each of the datagrams that the kernel joined (UDP_GRO), 0 for one; `ecn` the two bits. [] when there is none.
        """
        cdef int i, n
        cdef fl_datagram* one
        cdef list out = []
        cdef object peer
        n = fl_receive(self.fd, self.got, AT_ONCE)
        if n < 0:
            if errno == EAGAIN or errno == EINTR:
                return out
            fail()
        for i in range(n):
            one = self.got + i
            peer = self.name(<const sockaddr*>&one.from_)
            out.append((
                PyBytes_FromStringAndSize(<char*>one.part.iov_base, one.size), peer,
                PyBytes_FromStringAndSize(<char*>one.local, one.local_size) if one.local_size else b"",
                one.stamp, one.segment, one.ecn,
            ))
        return out

    cdef object name(self, const sockaddr* a):
        cdef Py_ssize_t size = 16 if a.sa_family == AF_INET else 28
        cdef bytes raw = PyBytes_FromStringAndSize(<const char*>a, size)
        cdef object found = self.peers.get(raw)
        if found is None:
            found = address(a)
            if len(self.peers) >= 2 * PEERS:
                self.peers.clear()
            self.peers[raw] = found
            self.peers[found] = raw
        return found

    cpdef bint send(self, list packets, tuple peer, int segment, bytes local, int ecn=0) except -1:
        """Send `packets` (at most 64, in all below 64 KiB) to (host, port), from `local` unless that is b"". With `segment` they
        are of that size each, but for the last, and leave by one system call (UDP_SEGMENT); without, there is one. `ecn`: the two
        bits (RFC 3168). False: the kernel has no room now.
        """
        cdef iovec parts[64]
        cdef sockaddr_storage made
        cdef bytes raw, packet
        cdef int i, size, count = min(len(packets), 64)
        cdef ssize_t n
        raw = self.peers.get(peer)
        if raw is None:
            size = fl_sockaddr(&made, peer[0].encode(), peer[1])
            if size == 0:
                raise ValueError(f"{peer[0]} is no address")
            raw = PyBytes_FromStringAndSize(<const char*>&made, size)
            if len(self.peers) < 2 * PEERS:
                self.peers[peer] = raw
        for i in range(count):
            packet = packets[i]
            parts[i].iov_base = PyBytes_AS_STRING(packet)
            parts[i].iov_len = PyBytes_GET_SIZE(packet)
        n = fl_send_segments(
            self.fd, parts, count, PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw), segment, PyBytes_AS_STRING(local), PyBytes_GET_SIZE(local),
            ecn & 3,
        )
        if n >= 0:
            return True
        if errno == EAGAIN or errno == EINTR:
            return False
        fail()
