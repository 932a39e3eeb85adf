cimport cython
from fairlead.core.exchange cimport Exchange
from fairlead.core.journey cimport Clock, Journey
from fairlead.serve.runner cimport Work

cdef class Context(Work):
    cdef public Exchange exchange
    cdef public Journey journey
    cdef public Clock clock
    cdef public tuple metadata
    cdef public dict auth
    cdef public long long deadline
    cdef public int status
    cdef public object given_code, given_trailing
    cdef public str text, wanted
    cdef public list trailing, initial, callbacks
    cdef public bint gone, complete, said, aborted, as_is
    cpdef send_head(self)
    cpdef overdue(self)
