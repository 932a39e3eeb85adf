cimport cython
from fairlead.core.exchange cimport Answer, Exchange
from fairlead.core.handler cimport Admission
from fairlead.core.journey cimport Clock

cdef class Queueing(Admission):
    cdef public Clock clock
    cdef public object soon, later, health, shared, waiting
    cdef public list cells
    cdef public Py_ssize_t own_cell, queue_most
    cdef public long long own_most, wait, full, late, shed, deepest
    cdef public bint shedding, scheduled, ticking
    cpdef int enter(self, Exchange exchange) except -1
    cdef int weigh(self, Exchange exchange) except -1
    cpdef bint take(self) except -1
    cdef count(self, int change)
    @cython.locals(total=cython.longlong)
    cpdef long long total(self)
    cpdef leave(self, Exchange exchange)

cdef class Waiting(Answer):
    cdef public Queueing admission
    cdef public Exchange exchange
    cdef public long long until
    cdef public list held, trailers
    cdef public bint over
