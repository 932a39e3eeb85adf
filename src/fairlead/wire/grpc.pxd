cimport cython
from fairlead.wire cimport _fast

cdef class Reader:
    cdef public long long most, held, count, waiting, heard
    cdef object ready
    cdef list parts
    cdef bytes head
    cdef long long left
    cdef int flag
    cpdef begin(self, long long most)
    cpdef feed(self, bytes data)
    @cython.locals(end=Py_ssize_t, flag=cython.int, size=cython.longlong)
    cdef split(self, bytes data, const unsigned char* v, Py_ssize_t at)
    @cython.locals(size=Py_ssize_t, stop=Py_ssize_t, parts=list)
    cdef go_on(self, bytes data)
    cdef whole(self, int flag, bytes message)
    cpdef next(self)
    cpdef end(self)

cpdef bytes message(bytes payload, bint packed)
cpdef long long timeout_of(bytes value) except? -1
