cimport cython

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

cpdef priority_of(Stream stream, bytes value)
@cython.locals(best=Stream, stream=Stream)
cpdef Stream next_of(list ready)
cdef bint before(Stream one, Stream other)
