from fairlead.core.region cimport Region

cdef class Sink:
    cpdef head(self, long long stream, object message, bint end)
    cpdef inform(self, long long stream, int status, list headers)
    cpdef at_once(self, long long stream, object message, bytes body)
    cpdef data(self, long long stream, bytes chunk, bint end)
    cpdef end(self, long long stream, list trailers)
    cpdef reset(self, long long stream, object why, str side)
    cpdef room(self, long long stream)
    cpdef refused(self, long long stream, object why)
    cpdef goaway(self, long long last)
    cpdef lost(self, object why)

cdef class Cast:
    cdef public bytes data, chunk
    cdef public Cast frame
    cdef public dict packed

cdef class Codec:
    cdef public Sink sink
    cdef public object limits
    cdef public bint client, wants_read, more, finished, reusable, multiplexed, tunnel, fin, halves, silent
    cdef public long long now, abandoned
    cdef public dict waits
    cdef public Region region
    cpdef feed(self, bytes data, long long now, long long stream=*, bint fin=*)
    cpdef eof(self, long long now, long long stream=*)
    cpdef list take(self)
    cpdef long long deadline(self)
    cpdef tick(self, long long now)
    cpdef drained(self, long long now)
    cpdef long long unsent(self, long long stream) except -1
    cpdef bytes detach(self)
    cpdef head(self, long long stream, object message, bint end)
    cpdef bint whole(self, long long stream, object message, bytes body) except -1
    cpdef long long open_stream(self)
    cpdef bint start(self, long long stream) except -1
    cpdef inform(self, long long stream, int status, list headers)
    cpdef bint data(self, long long stream, bytes chunk, bint end) except -1
    cpdef bint put_region(self, long long stream, Region region, bint end) except -1
    cpdef region_sent(self)
    cpdef bytes cast(self, long long stream, Cast cast)
    cpdef end(self, long long stream, list trailers)
    cpdef consumed(self, long long stream, long long count)
    cpdef reset(self, long long stream, object why, str side)
    cpdef goaway(self, long long last)
    cpdef ping(self)
    cpdef refuse(self, int status, list headers, bytes body)
