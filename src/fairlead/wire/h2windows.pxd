cimport cython
from fairlead.wire.h2frames cimport Frames
from fairlead.wire.h2stream cimport Stream

cdef long long _MAX_WINDOW, _PROBE_FROM
cdef bytes _PROBE

cdef class Windows(Frames):
    cdef list ready, waiters
    cdef readonly long long stream_window, window, target, stream_most, most, first_window, send_window
    cdef readonly long long rtt
    cdef long long unacked, probe_at, probed, unprobed, body_idle

    cdef greet(self)
    cdef credit(self, long long count)
    @cython.locals(st=Stream)
    cpdef consumed(self, long long stream, long long count)
    cdef resume(self, Stream st)
    cdef measure(self, long long count)
    @cython.locals(came=cython.longlong, st=Stream)
    cdef measured(self, bytes payload)
    @cython.locals(more=cython.longlong, target=cython.longlong, st=Stream)
    cdef grow(self, long long window)
    @cython.locals(more=cython.longlong, st=Stream)
    cdef resize_streams(self, long long window)
    cdef bint open_window(self, Stream st, long long count) except -1
    @cython.locals(stood=cython.bint, st=Stream)
    cdef bint open_connection(self, long long count) except -1
    cdef enlist(self, Stream st)
    cdef stands(self, Stream st)
    cdef went_on(self, Stream st)
    cdef note_wait(self, Stream st)
    cdef check_by(self, long long at)
    cdef say_continue(self, Stream st)
