cimport cython
from fairlead.wire.h2stream cimport Stream as Shared

cdef class Stream(Shared):
    cdef public long long kind, left_in, wants, useless, turn
    cdef public bytes buffer
    cdef public bytearray block, later, saying
    cdef public list tail
    cdef public bint fin, has_tail, stuck, stopped, opened
    cdef start(self, long long id)

cdef class Uni:
    cdef public long long type, left
    cdef public bytes buffer
