cimport cython
from fairlead.core.journey cimport Journey
from fairlead.core.message cimport Request
from fairlead.wire cimport _fast

@cython.freelist(64)
cdef class Ends:
    cdef public object peer, local, client, scene_of
    cdef public dict scene

cdef class Memory:
    cdef dict lines_out, lines_in, ends_out, ends_in
    cdef str method, scheme, version
    cdef bytes last_line, last_raw
    cdef tuple last_words
    @cython.locals(key=tuple, found=bytes)
    cpdef bytes line(self, Request request)
    @cython.locals(found=tuple)
    cpdef tuple read_line(self, bytes raw)
    @cython.locals(key=tuple)
    cpdef bytes ends(self, peer, local, client)
    cpdef Ends read_ends(self, bytes raw)

cdef bytes write_end(end)
cdef object read_end(bytes raw)
cdef str text_of(bytes raw)

@cython.freelist(64)
cdef class Letter:
    cdef public long long app
    cdef public bytes tag, ends, marks
    cpdef begin(self, long long app, bytes tag, bytes ends)
    cpdef list parts(self, Request request, bytes marks, Memory memory)
    @cython.locals(marks=bytes, line=tuple)
    cpdef read(self, Request request, list parts, list fields, Memory memory)
    @cython.locals(marks=bytes)
    cpdef stamp(self, Journey journey)

@cython.locals(value=cython.uint, i=cython.int)
cpdef long long get32(bytes data, const unsigned char* v, Py_ssize_t at) except? -1
@cython.locals(value=cython.ulonglong, i=cython.int)
cpdef long long get64(bytes data, const unsigned char* v, Py_ssize_t at) except? -1
cpdef bytes request_marks(long long app, Request request, Journey journey)
@cython.locals(started=cython.longlong, answered=cython.longlong)
cpdef bytes answer_marks(Journey journey, long long length, bint headed, long long finished)
@cython.locals(marks=bytes, started=cython.longlong, answered=cython.longlong, finished=cython.longlong, i=cython.int)
cpdef marked(Journey journey, list parts, Py_ssize_t at)
