cimport cython
from fairlead.core.connection cimport Connection
from fairlead.core.exchange cimport Answer, Exchange
from fairlead.core.handler cimport Handler, Service
from fairlead.core.message cimport Fields, Request, Response
from fairlead.serve.forwarded cimport Hop, Trusted
from fairlead.serve.table cimport Match, Table

cdef list DIGITS
cdef long long _TOLD

cdef class Route:
    cdef public Handler handler
    cdef public tuple listeners, host, methods, filters
    cdef public str path, name, shown
    cdef public object headers

cdef class Router(Handler):
    cdef public Table table
    cdef bytes prefix, stem
    cdef long long count
    @cython.locals(request=Request, conn=Connection, service=Service, match=Match, route=Route, method=str, low=cython.longlong)
    cpdef open(self, Exchange exchange)
    @cython.locals(hop=Hop, request=Request, block=Fields)
    cdef believe(self, Exchange exchange, Connection conn, Trusted forwarded)
    cdef special(self, Exchange exchange)
    @cython.locals(filters=tuple)
    cpdef bint filtered(self, Exchange exchange, Route route, int place) except -1

cdef class Waiting(Answer):
    cdef public Router router
    cdef public Exchange exchange
    cdef public Route route
    cdef public int place
    cdef public object task
    cdef public list held, trailers
    cdef public bint held_end
    @cython.locals(exchange=Exchange, answer=Answer)
    cpdef go_on(self)

@cython.locals(c=cython.uchar)
cdef int header_kind(bytes name, const unsigned char* v) except -1
