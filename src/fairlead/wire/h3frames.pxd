cimport cython
from fairlead.core.codec cimport Codec
from fairlead.wire.h2limits cimport Guard
from fairlead.wire.h3stream cimport Stream
from fairlead.wire.qpack cimport Decoder, Encoder
from fairlead.wire.quicint cimport varint

cdef tuple _FLOODS
cdef long long _FOUR

cdef class Frames(Codec):
    cdef public object opener
    cdef list chunks, heads, ordered
    cdef readonly object outbox
    cdef dict credits
    cdef long long out_size, outbox_size
    cdef bytearray control
    cdef readonly long long control_stream, decoder_stream
    cdef readonly dict streams
    cdef Guard guard
    cdef readonly bint dead
    cdef readonly long long goaway_sent, goaway_heard, heard_last
    cdef long long goaway_at
    cdef readonly Encoder encoder
    cdef readonly Decoder decoder

    @cython.locals(out=bytearray, start=Py_ssize_t, encoder=Encoder, field=tuple, size=Py_ssize_t)
    cdef put_head(self, Stream st, list fields, bint end)
    @cython.locals(heads=list, st=Stream)
    cdef flush_heads(self)
    cdef flush_head(self, Stream st)
    cdef put_control(self, long long kind, bytes payload)
    @cython.locals(decoder=Decoder)
    cdef own_streams(self)
    cdef long long open_own(self) except -2
    cdef spend(self, long long stream, long long count)
    cdef order(self, str what, long long stream, long long code)
    cdef leave(self, long long code, str reason)
    cdef finish(self)
    cdef fail(self, str rule)
    cdef count(self, int kind)
    cpdef list orders(self)
    cpdef list credit(self)
