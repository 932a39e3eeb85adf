cimport cython
from fairlead.core.exchange cimport Exchange
from fairlead.core.handler cimport Handler
from fairlead.core.message cimport Response

cdef class Respond(Handler):
    cdef public int status
    cdef public bytes body
    cdef public list headers
    @cython.locals(response=Response)
    cpdef open(self, Exchange exchange)

cdef class Redirect(Handler):
    cdef public list parts
    cdef public int status
    cdef public bint add_query
    cpdef open(self, Exchange exchange)
