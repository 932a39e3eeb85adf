cimport cython
from fairlead.core.codec cimport Codec
from fairlead.wire.h2limits cimport Guard

cdef tuple _FLOODS
cdef long long _SECOND

cdef class Frames(Codec):
    cdef bytearray out
    cdef list chunks
    cdef long long out_size, control, max_control
    cdef readonly dict streams
    cdef Guard guard
    cdef readonly bint dead
    cdef readonly long long goaway_sent, goaway_heard, heard_last
    cdef long long goaway_at

    cdef frame(self, long long size, int kind, int flags, long long stream)
    cdef word(self, long long value)
    @cython.locals(value=cython.longlong)
    cdef long long word_at(self, const unsigned char* v, Py_ssize_t at) noexcept
    cdef settle_chunk(self)
    cdef put_control(self, bytes frame)
    cdef say_reset(self, long long stream, long long code)
    cdef say_update(self, long long stream, long long count)
    cdef say_goaway(self, long long last, long long code)
    cdef leave(self, long long code)
    cdef last_goaway(self)
    cdef fail(self, str rule)
    cdef count(self, int kind)
