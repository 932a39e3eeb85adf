cimport cython
from fairlead.wire cimport _fast

cdef bytes _HEX
cdef bytes _LOW
cdef bytes _VALUE

cdef class Chunks:
    cdef public bint client, over
    cdef public int state, digits, before, quoted
    cdef public bint valued
    cdef public long long left, line, extra, max_line, max_extra
    cdef public list pieces

    cpdef start(self)
    cdef fail(self, str rule)
    @cython.locals(digit=cython.p_const_uchar, take=cython.longlong, byte=cython.uchar, value=cython.int)
    cdef Py_ssize_t read(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t end) except -1
    cdef size_over(self, unsigned char byte)
    cdef extend(self, unsigned char byte)
    cdef quote(self, unsigned char byte)
