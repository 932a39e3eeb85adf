cimport cython
from fairlead.wire.h2limits cimport parting
from fairlead.wire.h3frames cimport Frames
from fairlead.wire.h3stream cimport Stream

cdef int _GRAVES, _RESETS, _NO_ERROR

cdef class Ends(Frames):
    cdef dict graves
    cdef list waiting, waiters
    cdef readonly list ready
    cdef readonly bint roomy
    cdef public long long allowance
    cdef long long begun, idle_since, check_at, age, body_idle
    cdef readonly long long max_streams

    cdef half_over(self, Stream st)
    cdef remove(self, Stream st)
    @cython.locals(stream=cython.longlong)
    cdef give_up(self, Stream st, long long code, object why)
    @cython.locals(graves=dict)
    cdef entomb(self, long long stream)
    cdef bury(self, Stream st, str rule)
    cdef over(self)
    cdef bint may_open(self) except -1
    cdef enlist(self, Stream st)
    @cython.locals(st=Stream)
    cpdef blocked(self, long long stream)
    @cython.locals(st=Stream)
    cpdef unblocked(self, long long stream)
    cdef went_on(self, Stream st)
    cdef note_wait(self, Stream st)
    cdef check_by(self, long long at)
    @cython.locals(due=cython.longlong, at=cython.longlong)
    cpdef long long deadline(self)
    @cython.locals(idle=cython.longlong)
    cpdef tick(self, long long now)
    cdef last_goaway(self)
    @cython.locals(st=Stream, due=cython.longlong)
    cdef check_streams(self, long long now)
    @cython.locals(rule=str)
    cdef slow(self, Stream st, long long now)
    cdef decline(self, Stream st, str rule)
    @cython.locals(due=cython.longlong, slow=cython.longlong)
    cdef long long due_of(self, Stream st) except -1
