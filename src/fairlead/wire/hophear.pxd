cimport cython
from fairlead.core.codec cimport Codec
from fairlead.core.connection cimport Connection
from fairlead.core.exchange cimport Exchange
from fairlead.core.message cimport Request, Response
from fairlead.wire cimport _fast
from fairlead.wire.hopwords cimport Letter, Memory, get32, get64, marked

cdef int HEADER, REQUEST, ANSWER, INFORM, DATA, END, RESET, CREDIT, GRANT, GOAWAY, FD
cdef int F_END, F_EXPECT, STREAMS, WINDOW
cdef long long DOWN, UP, LINK, BLOCK, SHORT
cdef tuple SIDES

@cython.freelist(64)
cdef class Stream:
    cdef long long number, room, charged, owed, finished
    cdef object message
    cdef list out, trailers
    cdef Letter letter
    cdef int asks
    cdef bint out_end, said_end, heard_end, heard_head, expect, waiting, begun
    cdef begin(self, long long number, long long window)

cdef class Hearing(Codec):
    cdef Connection conn
    cdef public dict streams
    cdef list frames
    cdef long long size
    cdef bytes buffer, entire
    cdef long long rest, rest_stream, room_left, charged, owed
    cdef bint rest_end
    cdef Stream heading, recent
    cdef public long long last, begun, told_begun, answers
    cdef public int window, told_window
    cdef bint due, turning
    cdef public bint said_goaway, heard_goaway
    cdef public Letter letter, arriving
    cdef public Memory memory
    cdef public object on_grant, on_start, on_fd
    cdef public list fds_in, fds_out
    cdef _fast.Words words
    cdef long long claim_at, generation, how_far

    cpdef feed(self, bytes data, long long now, long long stream=*, bint fin=*)
    @cython.locals(at=Py_ssize_t, size=Py_ssize_t, count=Py_ssize_t, length=cython.longlong, block=cython.longlong, kind=cython.int)
    cdef frames_of(self, bytes data, const unsigned char* v)
    @cython.locals(number=cython.longlong, parts=list, fields=list, found=tuple)
    cdef frame(self, int kind, int flags, int aux, long long extra, bytes data, long long block)
    @cython.locals(request=Request, letter=Letter, s=Stream)
    cdef hear_request(self, long long number, int flags, list parts, list fields)
    @cython.locals(message=Response, s=Stream)
    cdef hear_answer(self, long long number, int flags, int status, list parts, list fields)
    cdef tell_entire(self, Stream s, Response message, bytes body)
    @cython.locals(ex=Exchange)
    cdef hear_marks(self, long long number, list parts, Py_ssize_t at)
    @cython.locals(s=Stream)
    cdef hear_data(self, long long number, int flags, list parts)
    @cython.locals(s=Stream, count=cython.longlong, number=cython.longlong, end=cython.bint)
    cdef body(self, bytes chunk)
    cdef hear_grant(self, long long number, int window)
    @cython.locals(s=Stream)
    cdef hear_credit(self, long long number, long long count, int aux)
    @cython.locals(s=Stream)
    cdef hear_other(self, int kind, long long number, int flags, int aux, list parts, list fields)
    cdef hear_end(self, Stream s, list parts, list fields)
    @cython.locals(side=str)
    cdef hear_reset(self, Stream s, int flags, int status, list parts)
    cpdef eof(self, long long now, long long stream=*)
    cpdef bytes detach(self)
    @cython.locals(s=Stream)
    cdef Stream found(self, long long number)
    cdef put(self, bytes frame)
    cdef bint opens_tunnel(self, Stream s, int status) except -1
    cdef credit_link(self, long long count)
    cdef over(self, Stream s)
    cdef maybe_finish(self)
    cdef go_on(self, Stream s)

cdef object broke(str text, str rule)
cdef object error_of(int status, list parts)
