cimport cython
from fairlead.core.message cimport Common, Request
from fairlead.wire cimport _fast
from fairlead.wire.h2head cimport Asked, Given, response_of, trailers_of
from fairlead.wire.h2stream cimport first_priority
from fairlead.wire.h3control cimport Control
from fairlead.wire.h3stream cimport Stream
from fairlead.wire.qpack cimport Decoder

cdef int _DATA, _HEADERS, _PUSH_PROMISE, _RESETS, _EMPTIES, _USUAL

cdef class Hearing(Control):
    cdef public Common common
    cdef public str scheme
    cdef public object on_datagram
    cdef Given given
    cdef Asked asked
    cdef long long requests, max_requests, max_head, max_body, max_blocked, outgoing

    @cython.locals(kind=cython.int)
    cpdef feed(self, bytes data, long long now, long long stream=*, bint fin=*)
    cdef begin(self, long long now)
    @cython.locals(st=Stream)
    cdef hear_request_stream(self, bytes data, long long stream, bint fin)
    @cython.locals(st=Stream, full=cython.bint)
    cdef Stream new_stream(self, long long stream, bint fin)
    @cython.locals(fresh=Py_ssize_t)
    cdef read(self, Stream st, bytes data, bint fin)
    @cython.locals(at=Py_ssize_t, kept=Py_ssize_t, size=cython.longlong, kind=cython.longlong, last=cython.bint, whole=bytes)
    cdef Py_ssize_t frames(self, Stream st, bytes data, const unsigned char* v, Py_ssize_t end, bint fin) except -1
    cdef may_stand(self, Stream st, long long kind)
    @cython.locals(number=cython.longlong, tail=cython.bint, trailers=list)
    cdef ended(self, Stream st)
    cdef spoilt(self, Stream st, str rule)
    @cython.locals(decoder=Decoder, fields=list, rule=str)
    cdef whole_block(self, Stream st, bytes data, Py_ssize_t at, Py_ssize_t end, bint last)
    @cython.locals(st=Stream, block=bytes, later=bytes)
    cdef wake(self)
    cdef hear_request(self, Stream st, list fields, bint last)
    cdef open_request(self, Stream st, Request message, bint last)
    @cython.locals(number=cython.longlong)
    cdef hear_response(self, Stream st, list fields, bint last)
    cdef hear_trailers(self, Stream st, list fields, bint last)
    @cython.locals(number=cython.longlong)
    cdef give(self, Stream st, bytes chunk, long long count, bint last)
    @cython.locals(st=Stream)
    cpdef consumed(self, long long stream, long long count)
    cdef say_continue(self, Stream st)
    @cython.locals(st=Stream)
    cpdef stream_reset(self, long long stream, long long code, long long now)
    @cython.locals(st=Stream)
    cpdef stop_sending(self, long long stream, long long code, long long now)
    cdef unsay(self, Stream st)
    @cython.locals(quarter=cython.longlong)
    cpdef datagram(self, bytes data, long long now)
    cdef look(self)
    @cython.locals(st=Stream)
    cdef bint has_room(self) except -1
    @cython.locals(st=Stream)
    cdef tell_room(self)
    @cython.locals(st=Stream, number=cython.longlong)
    cpdef eof(self, long long now, long long stream=*)
