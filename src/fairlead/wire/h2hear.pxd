cimport cython
from fairlead.core.message cimport Common, Request
from fairlead.wire cimport _fast
from fairlead.wire.h2control cimport Control
from fairlead.wire.h2head cimport Asked, Given, response_of, trailers_of
from fairlead.wire.h2stream cimport Stream, first_priority
from fairlead.wire.hpack cimport Decoder

cdef bytes _PREFACE
cdef int _DATA, _HEADERS, _PRIORITY, _RST, _SETTINGS, _PUSH, _PING, _GOAWAY, _UPDATE, _CONTINUATION, _PRIORITY_UPDATE
cdef int _END_STREAM, _ACK, _END_HEADERS, _PADDED, _HAS_PRIORITY
cdef int _RESETS, _EMPTIES

cdef class Hearing(Control):
    cdef public Common common
    cdef public str scheme
    cdef bytes buffer
    cdef readonly Decoder decoder
    cdef Given given
    cdef Asked asked
    cdef long long block_stream, block_frames
    cdef int block_flags
    cdef long long max_head, max_body, outgoing, requests, max_requests

    @cython.locals(at=Py_ssize_t, end=Py_ssize_t)
    cpdef feed(self, bytes data, long long now, long long stream=*, bint fin=*)
    @cython.locals(size=Py_ssize_t)
    cdef Py_ssize_t greeting(self, bytes data, Py_ssize_t end) except -1
    @cython.locals(size=Py_ssize_t, kind=cython.int, flags=cython.int, stream=cython.longlong)
    cdef Py_ssize_t frames(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t end) except -1
    cdef hear_other(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t size, int kind, int flags, long long stream)
    @cython.locals(end=Py_ssize_t, own=cython.bint)
    cdef hear_headers(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t size, int flags, long long stream)
    @cython.locals(block=bytearray, whole=bytes)
    cdef hear_continuation(self, bytes data, Py_ssize_t at, Py_ssize_t size, int flags)
    @cython.locals(decoder=Decoder, fields=list, st=Stream, last=cython.bint, rule=str)
    cdef whole_block(self, bytes data, Py_ssize_t at, Py_ssize_t end, int flags, long long stream)
    @cython.locals(decoder=Decoder)
    cdef hear_request(self, list fields, long long stream, bint last, int flags)
    @cython.locals(st=Stream, window=cython.longlong)
    cdef open_request(self, Request message, long long stream, bint last)
    cdef refuse_stream(self, long long stream, str rule)
    @cython.locals(stream=cython.longlong)
    cdef hear_response(self, Stream st, list fields, bint last)
    @cython.locals(stream=cython.longlong)
    cdef hear_trailers(self, Stream st, list fields, bint last)
    @cython.locals(count=Py_ssize_t, last=cython.bint, st=Stream)
    cdef hear_data(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t size, int flags, long long stream)
    @cython.locals(stream=cython.longlong)
    cdef give(self, Stream st, bytes chunk, Py_ssize_t count, bint last)
    cdef look(self)
    @cython.locals(st=Stream)
    cpdef eof(self, long long now, long long stream=*)
    @cython.locals(st=Stream)
    cdef bint has_room(self) except -1
    @cython.locals(st=Stream)
    cdef tell_room(self)
