cimport cython
from fairlead.core.message cimport Request, Response
from fairlead.wire cimport _fast
from fairlead.wire.h2head cimport Given, said_trailers, status_field
from fairlead.wire.h2hear cimport Hearing
from fairlead.wire.h2stream cimport Stream, next_of, priority_of
from fairlead.wire.hpack cimport Encoder

cdef long long _FRAME, _COPIED, _TURN, _FINAL_AFTER, _PATIENCE, _DRIBBLE
cdef int _UPDATES

cdef class H2(Hearing):
    @cython.locals(chunks=list, out=bytes)
    cpdef list take(self)
    @cython.locals(left=cython.longlong, st=Stream)
    cdef turns(self)
    @cython.locals(queue=list, chunk=bytes, size=cython.longlong, most=cython.longlong, skip=cython.longlong, last=cython.bint)
    cdef long long one_frame(self, Stream st) except -1
    cdef put_data(self, Stream st, bytes chunk, long long size, bint end)
    cdef sent(self, Stream st)
    cpdef drained(self, long long now)
    @cython.locals(st=Stream)
    cpdef long long unsent(self, long long stream) except -1
    @cython.locals(st=Stream)
    cpdef head(self, long long stream, object message, bint end)
    @cython.locals(fields=list, given=Given)
    cdef head_of_response(self, Stream st, Response message, bint end)
    @cython.locals(stream=cython.longlong, st=Stream)
    cpdef long long open_stream(self)
    @cython.locals(fields=list, given=Given)
    cdef head_of_request(self, Stream st, Request message, bint end)
    @cython.locals(out=bytearray, start=Py_ssize_t, size=Py_ssize_t, encoder=Encoder, field=tuple)
    cdef put_head(self, long long stream, list fields, bint end)
    @cython.locals(block=bytes, at=Py_ssize_t, part=bytes, last=cython.bint)
    cdef split_block(self, Py_ssize_t start, Py_ssize_t size, long long stream, int flags)
    cdef say_continue(self, Stream st)
    @cython.locals(st=Stream, fields=list)
    cpdef inform(self, long long stream, int status, list headers)
    @cython.locals(st=Stream, size=Py_ssize_t)
    cpdef bint data(self, long long stream, bytes chunk, bint end) except -1
    cdef bint hold(self, Stream st, bytes chunk, Py_ssize_t size) except -1
    cdef last_words(self, Stream st)
    @cython.locals(st=Stream)
    cpdef end(self, long long stream, list trailers)
    cdef put_trailers(self, Stream st)
    cdef lied(self, Stream st)
    @cython.locals(st=Stream, code=cython.longlong)
    cpdef reset(self, long long stream, object why, str side)
    cpdef goaway(self, long long last)
    cpdef ping(self)
