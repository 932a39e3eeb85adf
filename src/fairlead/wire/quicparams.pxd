cimport cython

cdef class Heard:
    cdef public long long idle, data, local, remote, uni, streams, streams_uni, exponent, delay, ids, payload, datagram
    cdef public bint still, named

cpdef Heard heard(bytes data, bytes source)
@cython.locals(first=int, value="long long", step=Py_ssize_t)
cdef long long number(bytes data, Py_ssize_t at) except -1
@cython.locals(at=Py_ssize_t, end=Py_ssize_t, size="long long", kind="long long", seen=set)
cdef bint walk(Heard found, bytes data, bytes source) except -1
cdef bint keep(Heard found, long long kind, long long value) except -1
@cython.locals(spoken=bint, place=Py_ssize_t, one=bytes)
cdef bint speaks(bytes data, Py_ssize_t at, Py_ssize_t size) except -1
