cimport cython
from fairlead.core.exchange cimport Exchange
from fairlead.core.journey cimport Journey
from fairlead.core.message cimport Request, Response
from fairlead.wire cimport _fast
from fairlead.wire.hophear cimport Hearing, Stream
from fairlead.wire.hopwords cimport Letter, answer_marks, request_marks

cdef int REQUEST, ANSWER, INFORM, DATA, END, RESET, CREDIT, GRANT, GOAWAY, FD
cdef int F_END, F_EXPECT, STREAMS, CLAIMS, SMALL, SENT, BEGUN, TAKEN
cdef long long DOWN, UP
cdef tuple SIDES

cdef class Hop(Hearing):
    @cython.locals(frames=list)
    cpdef list take(self)
    @cython.locals(s=Stream)
    cpdef long long open_stream(self)
    @cython.locals(s=Stream, request=Request, response=Response)
    cpdef head(self, long long stream, object message, bint end)
    @cython.locals(s=Stream, ex=Exchange, request=Request, response=Response, letter=Letter, parts=list, flags=cython.int, journey=Journey, cause=bytes)
    cdef release(self, bytes body, bint end)
    @cython.locals(s=Stream, count=cython.longlong, fits=cython.bint)
    cpdef bint data(self, long long stream, bytes chunk, bint end) except -1
    cdef bint has_room(self, Stream s) except -1
    @cython.locals(count=cython.longlong, parts=list)
    cdef send_data(self, Stream s, bytes chunk, bint end)
    @cython.locals(ex=Exchange, journey=Journey, parts=list)
    cdef list last_marks(self, Stream s)
    @cython.locals(chunk=bytes, room=cython.longlong)
    cdef go_on(self, Stream s)
    @cython.locals(s=Stream)
    cpdef end(self, long long stream, list trailers)
    cdef send_end(self, Stream s, list trailers)
    cdef said(self, Stream s)
    @cython.locals(s=Stream)
    cpdef inform(self, long long stream, int status, list headers)
    @cython.locals(s=Stream)
    cpdef consumed(self, long long stream, long long count)
    @cython.locals(s=Stream)
    cpdef reset(self, long long stream, object why, str side)
    cpdef goaway(self, long long last)
    cpdef pass_fd(self, long long stream, int fd)
    cdef long long word(self, long long stream, int state)
    cpdef send_claim(self, long long stream)
    cpdef bint take_back(self, long long stream) except -1
    @cython.locals(s=Stream)
    cpdef bint start(self, long long stream) except -1
    cpdef turn_over(self)

cdef own_steps(list parts, list custom)
cdef int status_of(object why) except -1
cdef list error_parts(object why)
