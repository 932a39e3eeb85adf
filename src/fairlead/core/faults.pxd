cimport cython
from fairlead.core.codec cimport Codec
from fairlead.core.ends cimport Ends
from fairlead.core.exchange cimport Answer, Exchange
from fairlead.core.journey cimport Journey

cdef class Faults(Ends):
    cdef public bint client
    cdef public str scheme
    cdef public object ruled

    cpdef raised(self, Exchange ex, object error)
    @cython.locals(answer=Answer)
    cdef tell_reset(self, Exchange ex, object why, str side)
    cdef overloaded(self, Exchange ex)
    cdef overdue(self, Exchange ex)
    @cython.locals(codec=Codec, ex=Exchange)
    cpdef broken(self, object error)
    cdef Exchange unparsed(self, object error)
    @cython.locals(ex=Exchange, j=Journey, now=cython.longlong)
    cpdef refused(self, long long stream, object why)
