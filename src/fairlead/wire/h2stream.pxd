cimport cython
from fairlead.core.message cimport Request, Response

cdef long long _SECOND, _EARLY

@cython.freelist(64)
cdef class Stream:
    cdef public long long id, send_window, window, pending, unacked, received, left, said_left, queued, skip
    cdef public long long began, last, paused, stalled, peer_wait, our_wait
    cdef public list queue, trailers
    cdef public str method
    cdef public bint heard_head, heard_end, said_head, said_end, sent_end
    cdef public bint patient, gone, ready, waiting, expecting, bodiless, tunnel, incremental
    cdef public int urgency, informs
    cdef begin(self, long long id, long long send_window, long long window)
    cdef asked(self, Request message, bint last, long long now)
    cdef bint answered(self, Response message, bint last, long long now) except -1
    cdef str lie(self)
    @cython.locals(due=cython.longlong, slow=cython.longlong)
    cdef long long body_due(self, object limits, long long idle) except -1

cpdef priority_of(Stream stream, bytes value)
@cython.locals(field=tuple, most=cython.int)
cpdef first_priority(Stream stream, Request message, dict early)
cpdef dict keep_priority(dict early, long long about, bytes value)
@cython.locals(best=Stream, stream=Stream)
cpdef Stream next_of(list ready)
cdef bint before(Stream one, Stream other)
