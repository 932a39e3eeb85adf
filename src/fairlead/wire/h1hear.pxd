cimport cython
from fairlead.core.codec cimport Codec
from fairlead.core.message cimport Common, Request, Response
from fairlead.wire cimport _fast
from fairlead.wire.h1body cimport Chunks
from fairlead.wire.h1head cimport Head
from fairlead.wire.h1say cimport Given

cdef int _HEAD, _LENGTH, _CHUNKED, _TRAILER, _UNTIL_CLOSE, _HEARD, _TUNNEL
cdef int _IDLE, _WAIT, _SAID, _SAY_TUNNEL
cdef int _INTERIM, _FINAL, _KEEP, _SHORT
cdef long long _SECOND

cdef class Hearing(Codec):
    cdef public Common common
    cdef public str scheme, method
    cdef object _lenient
    cdef readonly Head parser
    cdef Chunks chunks
    cdef bytes buffer
    cdef Py_ssize_t at
    cdef list out
    cdef long long out_size
    cdef readonly long long stream
    cdef readonly int hearing, saying
    cdef long long left, said_left, pending, received, dropped
    cdef int minor
    cdef bint keep, closing, dropping, expecting, waiting, ended, ending, spoiled, upgrading, resumed, bare
    cdef Given given
    cdef int informs, told
    cdef long long first_byte, body_began, body_last, paused_at, idle_since
    cdef long long window, lookahead, outgoing, max_body, max_drain, max_requests, head_time, idle_time

    @cython.locals(at=Py_ssize_t)
    cpdef feed(self, bytes data, long long now, long long stream=*, bint fin=*)
    @cython.locals(end=Py_ssize_t, heads=cython.bint, phase=cython.int)
    cdef hear(self, bytes data, Py_ssize_t at)
    cdef store(self, bytes data, Py_ssize_t at, Py_ssize_t end)
    @cython.locals(phase=cython.int, wants=cython.bint)
    cdef look(self)
    cdef Py_ssize_t hear_head(self, bytes data, Py_ssize_t at, Py_ssize_t end) except -1
    @cython.locals(head=Head, message=Request, length=cython.longlong)
    cdef hear_request(self)
    @cython.locals(head=Head, message=Response, status=cython.int, stream=cython.longlong, length=cython.longlong, body=bytes)
    cdef Py_ssize_t hear_response(self, bytes data, Py_ssize_t at, Py_ssize_t end) except -1
    cdef hear_interim(self, int status, list headers)
    cdef body_starts(self)
    @cython.locals(take=cython.longlong, chunk=bytes, stream=cython.longlong, last=cython.bint)
    cdef Py_ssize_t hear_length(self, bytes data, Py_ssize_t at, Py_ssize_t end) except -1
    @cython.locals(chunks=Chunks, pieces=list, chunk=bytes)
    cdef Py_ssize_t hear_chunks(self, bytes data, Py_ssize_t at, Py_ssize_t end) except -1
    @cython.locals(parser=Head, stream=cython.longlong, dropping=cython.bint)
    cdef Py_ssize_t hear_trailer(self, bytes data, Py_ssize_t at, Py_ssize_t end) except -1
    @cython.locals(chunk=bytes)
    cdef Py_ssize_t hear_raw(self, bytes data, Py_ssize_t at, Py_ssize_t end) except -1
    cdef give(self, long long stream, bytes chunk, Py_ssize_t count, bint last)
    cdef drop(self, Py_ssize_t count)
    cdef Py_ssize_t heard(self, Py_ssize_t at, Py_ssize_t end) except -1
    cdef over(self)
    cdef spoil(self)
    @cython.locals(phase=cython.int)
    cpdef eof(self, long long now, long long stream=*)
    cdef eof_in_head(self)
    cdef cut_short(self)
    cdef cut(self, object error)
    cpdef bytes detach(self)

    @cython.locals(limit=cython.longlong)
    cpdef long long deadline(self)
    cdef long long body_deadline(self)
    @cython.locals(due=cython.longlong)
    cpdef tick(self, long long now)
    cdef resume(self, long long now)
