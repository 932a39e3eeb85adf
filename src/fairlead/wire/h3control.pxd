cimport cython
from fairlead.wire cimport _fast
from fairlead.wire.h2stream cimport keep_priority, priority_of
from fairlead.wire.h3ends cimport Ends
from fairlead.wire.quicint cimport varint
from fairlead.wire.h3stream cimport Stream, Uni
from fairlead.wire.qpack cimport Decoder

cdef int _SETTINGS_FRAME, _GOAWAY, _MAX_PUSH, _CANCEL_PUSH, _PRIORITY_UPDATE, _PRIORITY_PUSH
cdef int _CONTROL, _PUSH, _ENCODER, _DECODER, _UNREAD, _IGNORED, _USELESS, _PINGS, _EMPTIES, _UPDATES, _PRIORITIES, _UNIS, _CREATION
cdef long long _MOST, _FINAL_AFTER, _FAR

cdef class Control(Ends):
    cdef dict unis, priorities
    cdef list critical
    cdef readonly bint settled, connect_protocol, datagrams
    cdef readonly long long peer_section, max_push
    cdef public list on_settled
    cdef Py_ssize_t behind

    cdef greet(self)
    @cython.locals(value=cython.longlong, size=cython.int)
    cdef long long number(self, const unsigned char* v, Py_ssize_t at, Py_ssize_t end) except -2
    @cython.locals(uni=Uni, at=Py_ssize_t, kind=cython.longlong)
    cdef hear_uni(self, bytes data, long long stream, bint fin)
    cdef hear_type(self, Uni uni, long long kind, long long stream, bint fin)
    @cython.locals(uni=Uni)
    cdef uni_reset(self, long long stream)
    @cython.locals(decoder=Decoder)
    cdef hear_qpack(self, Uni uni, bytes data)
    @cython.locals(least=cython.longlong, st=Stream)
    cdef long long awaited(self) except -1
    cdef blame(self, object error)
    cdef wake(self)
    @cython.locals(at=Py_ssize_t, size=cython.longlong, kind=cython.longlong, known=cython.bint)
    cdef Py_ssize_t hear_control(self, Uni uni, bytes data, const unsigned char* v, Py_ssize_t end) except -1
    cdef bint may_come(self, long long kind) except -1
    @cython.locals(value=cython.longlong)
    cdef hear_frame(self, long long kind, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t end)
    @cython.locals(name=cython.longlong, value=cython.longlong)
    cdef hear_settings(self, const unsigned char* v, Py_ssize_t at, Py_ssize_t end)
    @cython.locals(st=Stream)
    cdef hear_goaway(self, long long value)
    @cython.locals(st=Stream)
    cdef hear_priority(self, long long about, bytes value)
    cpdef goaway(self, long long last)
    cdef last_goaway(self)
