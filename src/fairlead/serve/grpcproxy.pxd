cimport cython
from fairlead.core.exchange cimport Exchange
from fairlead.core.message cimport Request
from fairlead.serve.proxy cimport Pair, Proxy, Uplink

cdef class Calls:
    cdef public Proxy proxy
    cdef public object usual, methods
    @cython.locals(request=Request, pair=GrpcPair, kind=bytes, path=bytes)
    cpdef bint takes(self, Exchange exchange) except -1

cdef class GrpcUplink(Uplink):
    pass

cdef class GrpcPair(Pair):
    cdef public object policy
    cdef public list kept
    cdef public long long kept_size, due
    cdef public bint ended
    @cython.locals(took=cython.longlong, given=cython.longlong)
    cpdef start(self)
    cpdef keep(self, bytes chunk, bint end)
    cpdef bint again(self, status) except -1
    cpdef bint free(self) except -1
    @cython.locals(uplink=Uplink, leg=Exchange)
    cpdef restart(self, double pause)
    cpdef go_on(self)
