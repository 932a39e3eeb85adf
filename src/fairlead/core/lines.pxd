cimport cython

cdef extern from *:
    """
    #include <string.h>
    /* whether all bytes may stand in a line as they are: 0x20 to 0x7e, neither quote nor backslash; eight at a time */
    static CYTHON_INLINE int fl_plain(const unsigned char* d, Py_ssize_t count) {
        const unsigned long long ones = 0x0101010101010101ULL;
        while (count >= 8) {
            unsigned long long w, q, b, e;
            memcpy(&w, d, 8);
            q = w ^ (ones * 0x22); b = w ^ (ones * 0x5c); e = w ^ (ones * 0x7f);
            if ((((w - ones * 0x20) & ~w) | ((q - ones) & ~q) | ((b - ones) & ~b) | ((e - ones) & ~e) | w) & (ones * 0x80)) return 0;
            d += 8; count -= 8;
        }
        while (count-- > 0) {
            unsigned char c = *d++;
            if (c < 32 || c > 126 || c == 34 || c == 92) return 0;
        }
        return 1;
    }
    static CYTHON_INLINE void fl_copy(unsigned char* v, Py_ssize_t at, const unsigned char* d, Py_ssize_t count) {
        if (count > 0) memcpy(v + at, d, (size_t)count);
    }
    """
    bint plain_octets "fl_plain" (const unsigned char* d, Py_ssize_t count) noexcept
    void copy_octets "fl_copy" (unsigned char* v, Py_ssize_t at, const unsigned char* d, Py_ssize_t count) noexcept

cdef bint COMPILED
from fairlead.core.message cimport Request

cdef class Lines:
    cdef public object write
    cdef public bint json, query
    cdef public Py_ssize_t hold, used
    cdef public long long lines, second, wall, number, bytes_in, bytes_out, messages_in, messages_out
    cdef public int status, worker
    cdef public bytearray buffer
    cdef public bytes stamp, hex
    cdef public list names

    @cython.locals(second=cython.longlong, target=bytes, millis=cython.int)
    cdef add(self, Request request, bytes method, bytes version, bytes peer, bytes ident, bytes end, bytes route, const long long* took, const long long* timers)
    @cython.locals(v="unsigned char*", at=Py_ssize_t, i=Py_ssize_t, name=bytes)
    cdef add_text(self, int millis, Request request, bytes target, bytes method, bytes version, bytes peer, bytes ident, bytes end, bytes route, const long long* took, const long long* timers)
    @cython.locals(v="unsigned char*", at=Py_ssize_t, i=Py_ssize_t, some=cython.bint)
    cdef add_json(self, int millis, Request request, bytes target, bytes method, bytes version, bytes peer, bytes ident, bytes end, bytes route, const long long* took, const long long* timers)
    cdef Py_ssize_t put_stamp(self, unsigned char* v, Py_ssize_t at, int millis) except -1
    cdef Py_ssize_t put_ident(self, unsigned char* v, Py_ssize_t at, bytes ident) except -1
    cdef Py_ssize_t put_member(self, unsigned char* v, Py_ssize_t at, bytes key, bytes data, Py_ssize_t most) except -1
    cdef Py_ssize_t put_key(self, unsigned char* v, Py_ssize_t at, bytes name, bint more) except -1
    @cython.locals(count=Py_ssize_t, i=Py_ssize_t, c=cython.uchar)
    cdef Py_ssize_t put_safe(self, unsigned char* v, Py_ssize_t at, bytes data, const unsigned char* d, Py_ssize_t most) except -1
    cdef Py_ssize_t put_escape(self, unsigned char* v, Py_ssize_t at, int c) except -1
    cpdef flush(self)

@cython.locals(count=Py_ssize_t, i=Py_ssize_t)
cdef Py_ssize_t put(unsigned char* v, Py_ssize_t at, bytes data, const unsigned char* d) except -1
@cython.locals(size=Py_ssize_t, top=cython.longlong, i=Py_ssize_t)
cdef Py_ssize_t put_int(unsigned char* v, Py_ssize_t at, long long value) noexcept
@cython.locals(micros=cython.longlong, rest=cython.longlong)
cdef Py_ssize_t put_ms(unsigned char* v, Py_ssize_t at, long long ns) noexcept
@cython.locals(size=Py_ssize_t, i=Py_ssize_t, digit=cython.int)
cdef Py_ssize_t put_hex(unsigned char* v, Py_ssize_t at, long long value) noexcept
