cimport cython
from fairlead.wire.h2ends cimport Ends
from fairlead.wire.h2stream cimport Stream, keep_priority, priority_of
from fairlead.wire.hpack cimport Encoder

cdef int _ACK, _RESETS, _SETTINGS, _PINGS, _EMPTIES, _UPDATES, _PRIORITIES
cdef long long _MAX_WINDOW

cdef class Control(Ends):
    cdef readonly Encoder encoder
    cdef dict priorities
    cdef readonly bint connect_protocol
    cdef public list on_settled
    cdef long long asked_window

    @cython.locals(st=Stream)
    cdef hear_reset(self, long long stream, long long code)
    @cython.locals(st=Stream)
    cdef hear_update(self, long long stream, long long count)
    @cython.locals(end=Py_ssize_t, value=cython.longlong, first=cython.bint)
    cdef hear_settings(self, const unsigned char* v, Py_ssize_t at, Py_ssize_t size, int flags, long long stream)
    cdef hear_setting(self, long long name, long long value)
    cdef hear_ping(self, bytes data, Py_ssize_t at, Py_ssize_t size, int flags, long long stream)
    cdef hear_pong(self, bytes payload)
    @cython.locals(last=cython.longlong, st=Stream)
    cdef hear_goaway(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t size, long long stream)
    @cython.locals(st=Stream, rule=str)
    cdef hear_priority(self, const unsigned char* v, Py_ssize_t at, Py_ssize_t size, long long stream)
    @cython.locals(about=cython.longlong, value=bytes, st=Stream)
    cdef hear_priority_update(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t size, long long stream)
