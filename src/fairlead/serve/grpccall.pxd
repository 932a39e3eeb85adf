cimport cython
from fairlead.core.exchange cimport Exchange
from fairlead.core.message cimport Response
from fairlead.serve.grpcflow cimport Flow, Incoming, wake
from fairlead.serve.grpchome cimport Home, Timer
from fairlead.serve.grpcmethods cimport Method
from fairlead.wire.grpc cimport Reader

cdef list STATUS, FINE

cdef class Call(Flow):
    cdef public Timer timer
    cdef public bint running, begun, ended, chained, threaded

    cpdef begin(self, Home home, Exchange exchange)
    cpdef bint data(self, bytes chunk, bint end) except -1
    cpdef end(self, list trailers)
    cdef news(self)
    cdef many(self)
    cdef ready(self)
    cpdef start(self, bint now)
    cpdef reset(self, object why, str side)
    cdef cancel(self, object why)
    cdef stop_task(self)
    cpdef room(self)
    cpdef overdue(self)
    cpdef farewell(self)
    cdef cut(self, int code, str text)
    cpdef call(self)
    cdef object single(self)
    cdef reply(self, object value)
    @cython.locals(exchange=Exchange, method=Method)
    cpdef finish(self, int code, str text)
    @cython.locals(exchange=Exchange, trailers=list)
    cdef say_trailers(self, int code, str text)
    cpdef refuse(self, object error)
    cpdef failed(self, object error)
    cpdef returned(self)
    cpdef stopped(self)
    cdef terminated(self)
    @cython.locals(exchange=Exchange, incoming=Incoming)
    cpdef over(self)
