cimport cython
from fairlead.wire.h2limits cimport parting
from fairlead.wire.h2stream cimport Stream
from fairlead.wire.h2windows cimport Windows

cdef int _GRAVES, _GAPS, _RESETS

cdef class Ends(Windows):
    cdef dict graves
    cdef list gaps
    cdef bytearray block
    cdef long long block_began, begun, idle_since, check_at, heard_at, ping_after, age
    cdef readonly bint greeted, settled, acked
    cdef readonly long long peer_streams, peer_frame
    cdef long long next_stream, max_streams, silent_by

    cdef hear_unknown(self, long long stream)
    cdef bint is_idle(self, long long stream)
    cdef skip(self, long long before, long long stream)
    cdef bint skipped(self, long long stream) except -1
    cdef half_over(self, Stream st)
    cdef remove(self, Stream st)
    cdef entomb(self, long long stream)
    @cython.locals(stream=cython.longlong)
    cdef bury(self, Stream st, str rule)
    cdef over(self)
    cdef bint may_open(self) except -1
    cdef check_by(self, long long at)
    @cython.locals(due=cython.longlong)
    cpdef long long deadline(self)
    cdef long long of_habit(self) except -1
    cdef habits(self, long long now)
    cpdef tick(self, long long now)
    @cython.locals(st=Stream, due=cython.longlong)
    cdef check_streams(self, long long now)
    @cython.locals(due=cython.longlong, slow=cython.longlong)
    cdef long long due_of(self, Stream st) except -1
    cdef str slow_rule(self, Stream st, long long now)
