cimport cython
from fairlead.core.codec cimport Cast
from fairlead.core.exchange cimport Answer
from fairlead.wire cimport _fast

cdef class Ear(Answer):
    cpdef bint text(self, str message) except -1
    cpdef bint binary(self, bytes message) except -1
    cpdef ping(self, bytes payload)
    cpdef pong(self, bytes payload)
    cpdef closed(self, int code, str reason)

cdef class WebSocket:
    cdef public Ear ear
    cdef public object limits, deflate, keys
    cdef public bint client, more, finished, said_close, heard_close
    cdef public str failed
    cdef public long long messages_in, messages_out, now
    cdef bint over, ended, paused, in_frame, fin, packed
    cdef long long opened, heard_at, message_at, pinged_at, close_at, max_message, ping_after
    cdef long long left, size, frames
    cdef int kind, phase, checked, mask_bit
    cdef unsigned int key
    cdef list out, late
    cdef bytes buffer, first
    cdef bytearray rest

    cpdef feed(self, bytes data, long long now)
    @cython.locals(was=Py_ssize_t)
    cdef hear(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t end)
    @cython.locals(first=cython.int, size=cython.longlong, head=cython.int, start=Py_ssize_t, key=cython.uint, rule=str)
    cdef Py_ssize_t hear_frame(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t end) except -1
    @cython.locals(size=cython.longlong, i=cython.int)
    cdef long long long_size(self, const unsigned char* v, Py_ssize_t at, int head) except -2
    @cython.locals(opcode=cython.int)
    cdef str unfit(self, int first, int second)
    @cython.locals(ear=Ear, go_on=cython.bint, text=str)
    cdef hear_whole(self, int first, bytes data, Py_ssize_t start, Py_ssize_t end, unsigned int key)
    cdef count_in(self)
    cdef begin_frame(self, int first, long long size, unsigned int key)
    @cython.locals(take=Py_ssize_t, chunk=bytes)
    cdef Py_ssize_t hear_payload(self, bytes data, Py_ssize_t at, Py_ssize_t end) except -1
    @cython.locals(kind=cython.int, body=bytes, go_on=cython.bint)
    cdef frame_over(self)
    @cython.locals(size=Py_ssize_t)
    cdef bint keep(self, bytes chunk) except -1
    @cython.locals(most=cython.longlong)
    cdef bint inflated(self, bytes chunk, bint end) except -1
    cdef forget(self)
    cdef hear_control(self, int opcode, bytes payload)
    @cython.locals(code=cython.int, reason=str)
    cdef hear_close(self, bytes payload)
    cdef stop(self, int code, str reason)
    cdef fail(self, str rule)
    cpdef eof(self, long long now)
    cdef lose(self)
    @cython.locals(out=list)
    cpdef list take(self)
    cdef write(self, int opcode, bytes payload)
    cdef long long next_key(self) except -2
    cpdef text(self, str message)
    @cython.locals(made=Cast)
    cpdef Cast cast(self, Cast cast, long long now)
    cpdef binary(self, bytes message)
    cpdef fragment(self, int opcode, bytes payload, bint fin)
    cpdef ping(self, bytes payload)
    cpdef close(self, int code, str reason)
    cdef say_close(self, int code, str reason)
    @cython.locals(due=cython.longlong)
    cpdef long long deadline(self)
    cpdef tick(self, long long now)

cdef bint may_be_sent(int code) except -1
cdef bytes cut(str reason)
