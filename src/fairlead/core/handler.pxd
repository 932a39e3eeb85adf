from fairlead.core.exchange cimport Exchange
from fairlead.core.journey cimport Clock
from fairlead.core.message cimport Common

cdef class Handler:
    cpdef open(self, Exchange exchange)

cdef class Admission:
    cdef public long long most, retry_after, busy, refused
    cdef public str why
    cpdef int enter(self, Exchange exchange) except -1
    cpdef leave(self, Exchange exchange)

cdef class Observer:
    cpdef done(self, Exchange exchange)
    cpdef opened(self, object conn)
    cpdef closed(self, object conn, object why)
    cpdef broke(self, Exchange exchange, object error)

cdef class Service:
    cdef public Handler handler
    cdef public str name, scheme
    cdef public Clock clock
    cdef public object limits, forwarded, announcing, alt_svc
    cdef public Admission admission
    cdef public Observer observer
    cdef public Common common
    cdef public bint server_timing, debug, draining, retired
    cdef public long long sample_every, sample_left

    cdef bint sampled(self)

cpdef error_response(object error, bint debug=*)
