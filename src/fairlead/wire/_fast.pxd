cdef extern from *:
    """
    #include <string.h>
    #ifdef __SSE2__
    #include <emmintrin.h>
    #endif
    /* where the first byte stands that may not be in a field value (a control byte but HTAB): many bytes at a time */
    static inline Py_ssize_t fl_value_end(const unsigned char* v, Py_ssize_t at, Py_ssize_t end) {
    #ifdef __SSE2__
        while (end - at >= 16) {
            __m128i some = _mm_loadu_si128((const __m128i*)(v + at));
            __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(some, _mm_set1_epi8(31)), some);
            unsigned int bad = _mm_movemask_epi8(_mm_or_si128(control, _mm_cmpeq_epi8(some, _mm_set1_epi8(127))));
            while (bad) {
                int first = __builtin_ctz(bad);
                if (v[at + first] != 9) return at + first;
                bad &= bad - 1;
            }
            at += 16;
        }
    #endif
        while (end - at >= 8) {
            unsigned long long word, del, found;
            memcpy(&word, v + at, 8);
            del = word ^ 0x7f7f7f7f7f7f7f7fULL;
            found = ((word - 0x2020202020202020ULL) & ~word) | ((del - 0x0101010101010101ULL) & ~del);
            found &= 0x8080808080808080ULL;
            if (!found) { at += 8; continue; }
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
            at += __builtin_ctzll(found) >> 3;
    #else
            while (v[at] == 9 || (v[at] >= 32 && v[at] != 127)) at++;
    #endif
            if (v[at] != 9) return at;
            at++;
        }
        while (at < end && (v[at] == 9 || (v[at] >= 32 && v[at] != 127))) at++;
        return at;
    }
    /* whether v[at : at + size], a token, is in any case the name in its 32 bytes of `names`, which has letters, digits and "-" only */
    static inline int fl_named(const unsigned char* v, Py_ssize_t at, Py_ssize_t size, const unsigned char* names, int slot) {
        const unsigned char* name = names + 32 * slot;
        unsigned long long one, other;
        v += at;
        while (size >= 8) {
            memcpy(&one, v, 8);
            memcpy(&other, name, 8);
            if ((one | 0x2020202020202020ULL) != other) return 0;
            v += 8; name += 8; size -= 8;
        }
        while (size > 0) {
            if ((*v | 0x20) != *name) return 0;
            v++; name++; size--;
        }
        return 1;
    }
    """
    bint named "fl_named"(const unsigned char*, Py_ssize_t, Py_ssize_t, const unsigned char*, int) noexcept nogil
    Py_ssize_t value_end "fl_value_end"(const unsigned char*, Py_ssize_t, Py_ssize_t) noexcept nogil

cpdef long long monotonic_ns() noexcept
cpdef long long realtime_ns() noexcept
cpdef object recv(int fd, Py_ssize_t size)
cpdef object recv_stamped(int fd, Py_ssize_t size)
cpdef Py_ssize_t send(int fd, bytes data, Py_ssize_t start) except -2
cpdef Py_ssize_t send_more(int fd, bytes data, Py_ssize_t start) except -2
cpdef Py_ssize_t sendfile(int fd, int source, long long at, Py_ssize_t count) except -2
cpdef bint resident(int fd, long long at, Py_ssize_t count) except -1
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
cpdef bint stands(bytes data, Py_ssize_t start, Py_ssize_t end, bytes what)
cpdef bint alike(bytes data, Py_ssize_t at, Py_ssize_t end, bytes other, Py_ssize_t start, Py_ssize_t size)
cpdef bytes lower(bytes data, Py_ssize_t start, Py_ssize_t end)
cpdef bytes joined(list parts)
cpdef bytes decimal(long long number)
cpdef bytes hexadecimal(long long number)
cpdef bytes fields_joined(list fields, bytes names, bytes values)
cpdef bint only(bytes data, bytes allowed)
cdef bytes head_joined(bytes data, const unsigned short* marks, int count, bytes numbers, long long drop, bytes a, bytes b, bytes c, bytes before, bytes after, bytes tail, long long length, bytes more, bytes body)
cpdef bytes head_of(bytes data, list marks, bytes numbers, long long drop, list pieces, long long length)
cpdef bint name_is(bytes data, Py_ssize_t start, Py_ssize_t size, bytes names, int slot)
cpdef Py_ssize_t value_stop(bytes data, Py_ssize_t at, Py_ssize_t end)
cpdef bytes hop_frame(int kind, int flags, int aux, unsigned int extra, long long stream, list parts, list fields, bytes body)
cpdef bytes numbers(long long a, long long b, long long c, long long d, long long e, long long f, long long g, long long h, Py_ssize_t size)
cpdef tuple hop_block(bytes data, Py_ssize_t start, Py_ssize_t end)

cdef class Words:
    cdef object held
    cdef long long* at
    cdef readonly Py_ssize_t count
    cpdef long long load(self, Py_ssize_t word) except? -1
    cpdef store(self, Py_ssize_t word, long long value)
    cpdef bint swap(self, Py_ssize_t word, long long old, long long new) except -1

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
cpdef bytes prefixed(int flag, bytes payload)
cpdef bytes frame_text(int first, str text, long long key)
