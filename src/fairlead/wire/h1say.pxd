cimport cython
from fairlead.wire cimport _fast
from fairlead.wire.h1bytes cimport clean, kind_of, number, special

cdef list _LINES

cdef class Given:
    cdef public long long length
    cdef public bint close, upgrade, date, server, host, protocols, te

    @cython.locals(field=tuple, kind=cython.int, kept=list, at=Py_ssize_t, block=bytes)
    cpdef put(self, list parts, list headers)
    cdef bint ours(self, int kind, bytes value) except -1
    @cython.locals(length=cython.longlong)
    cdef note_length(self, bytes value)
    cdef note_connection(self, bytes value)

@cython.locals(line=bytes)
cpdef bytes status_line(int status, bytes phrase)
@cython.locals(parts=list, kind=cython.int)
cpdef bytes last_chunk(list trailers)
