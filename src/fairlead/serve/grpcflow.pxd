cimport cython
from fairlead.core.message cimport Response
from fairlead.serve.grpccontext cimport Context
from fairlead.serve.grpchome cimport Form, Home
from fairlead.serve.grpcmethods cimport Method
from fairlead.serve.waiter cimport Waiter
from fairlead.wire.grpc cimport Reader, message


cdef class Flow(Context):
    cdef public Home home
    cdef public Method method
    cdef public Reader reader
    cdef public Form form
    cdef public str coding, packing
    cdef public bytes accepted
    cdef public object waiter
    cdef Incoming incoming
    cdef public list writers
    cdef public bint body_over, full

    cpdef finish(self, int code, str text)
    cpdef refuse(self, object error)
    cdef Waiter new_waiter(self)
    cpdef requests(self)
    @cython.locals(method=Method, took=cython.longlong)
    cdef object decoded(self, object payload, long long now)
    cpdef taken(self)
    @cython.locals(now=cython.longlong, method=Method, payload=object)
    cdef bint put(self, object value) except -1
    @cython.locals(most=cython.longlong, took=cython.longlong, packed=cython.bint, chunk=bytes, room=cython.bint)
    cpdef bint send(self, bytes payload, long long now) except -1
    cdef choose(self)
    @cython.locals(fields=list, response=Response)
    cpdef send_head(self)

cdef class Incoming:
    cdef Flow call
    cdef object value

cpdef wake(list waiters)
