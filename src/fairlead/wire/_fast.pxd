cpdef long long monotonic_ns() noexcept
cpdef long long realtime_ns() noexcept
cpdef object recv(int fd, Py_ssize_t size)
cpdef object recv_stamped(int fd, Py_ssize_t size)
cpdef Py_ssize_t send(int fd, bytes data, Py_ssize_t start) except -2
cpdef Py_ssize_t send_many(int fd, list chunks, Py_ssize_t start) except -2
cpdef object accept(int fd)
cpdef object local_address(int fd)
cpdef object peer_address(int fd)
cpdef int close(int fd) noexcept
cpdef int shutdown_write(int fd) noexcept
cpdef int unread(int fd) noexcept
cpdef int unacked(int fd) noexcept
cpdef tuple tcp_info(int fd)
cpdef long long accept_wait(int fd) noexcept
cpdef Py_ssize_t find(bytes data, bytes what, Py_ssize_t start) noexcept
cpdef bytes piece(bytes data, Py_ssize_t start, Py_ssize_t end)
cpdef bytes lower(bytes data, Py_ssize_t start, Py_ssize_t end)
cpdef bytes joined(list parts)
cpdef bytes decimal(long long number)
cpdef bytes hexadecimal(long long number)
cpdef bytes fields_joined(list fields, bytes names, bytes values)
cpdef bint only(bytes data, bytes allowed)

cdef class Epoll:
    cdef int fd
    cdef int fds[256]
    cdef unsigned int events[256]
    cpdef add(self, int fd, unsigned int events)
    cpdef modify(self, int fd, unsigned int events)
    cpdef remove(self, int fd)
    cdef control(self, int what, int fd, unsigned int events)
    cpdef int wait(self, int milliseconds) except -1

cdef void mask_into(unsigned char* target, const unsigned char* source, Py_ssize_t size, unsigned int key, int phase) noexcept nogil
cdef Py_ssize_t within(bytes data, Py_ssize_t start, Py_ssize_t end) except -1
cpdef bytes masked(bytes data, Py_ssize_t start, Py_ssize_t end, unsigned int key, int phase)
cpdef object masked_text(bytes data, Py_ssize_t start, Py_ssize_t end, unsigned int key)
cpdef int utf8(bytes data, int state) except -2
cdef bytes framed(int first, const char* payload, Py_ssize_t size, long long key)
cpdef bytes frame(int first, bytes payload, long long key)
cpdef bytes frame_text(int first, str text, long long key)
