cimport cython
from fairlead.core.exchange cimport Exchange
from fairlead.core.message cimport Request
from fairlead.serve.grpccall cimport Call
from fairlead.serve.grpccontext cimport Context
from fairlead.serve.grpchome cimport Form, Home, Timer
from fairlead.serve.grpcmethods cimport Method

cdef class Grpc(Home):
    cdef public object server, lane, pool, others
    cdef public str usual
    cdef public dict methods, made
    cdef public tuple generic, interceptors, blocking
    cdef public bint chain
    cdef public long long limit, refused
    @cython.locals(request=Request, call=Call, form=Form, pair=tuple, name=bytes, value=bytes, kind=bytes, timeout=bytes,
                   coding=bytes, accepted=bytes, te=cython.bint, size=Py_ssize_t)
    cpdef open(self, Exchange exchange)
    @cython.locals(method=Method)
    cpdef route(self, Call call, bytes path)
    cdef Form other(self, Exchange exchange, bytes kind)
    @cython.locals(took=cython.longlong, now=cython.longlong)
    cdef bint timed(self, Call call, bytes value) except -1
    cdef long long clock_of(self, Call call) except? -1
    cdef bint coded(self, Call call, bytes coding) except -1
    cpdef intercepted(self, Context call)
    cpdef look_up(self, Call call, bytes path)
    cpdef method_of(self, bytes path, object handler)
    cpdef in_thread(self, Context call)

cdef class Next:
    cdef Grpc home
    cdef long long index
    cdef Call call

cdef class BlockingNext(Next):
    pass

@cython.locals(size=Py_ssize_t)
cdef bint is_grpc(bytes kind, const unsigned char* v) except -1
