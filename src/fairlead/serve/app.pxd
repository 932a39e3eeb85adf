cimport cython
from fairlead.core.connection cimport Connection
from fairlead.core.exchange cimport Exchange
from fairlead.core.handler cimport Handler
from fairlead.core.journey cimport Clock, Journey
from fairlead.core.message cimport Request, Response
from fairlead.serve.done cimport is_disconnect
from fairlead.serve.runner cimport Runners, Work

cdef frozenset METHODS
cdef str START, BODY, HOLD

cdef class App(Handler):
    cdef public object target, loop, debug, sockets, holding
    cdef public dict state
    cdef public str name, root_path, strip
    cdef str version, said_start, said_body
    cdef public set cycles
    cdef public Runners runners
    cdef dict base, extensions
    @cython.locals(conn=Connection, request=Request, cycle=Cycle, scope=dict, extensions=dict, method=str, path=str, usual=cython.bint)
    cpdef open(self, Exchange exchange)
    @cython.locals(scene=dict)
    cdef set_scene(self, Connection conn)
    @cython.locals(conn=Connection, request=Request)
    cdef unusual(self, Exchange exchange, dict scope)

cdef class Cycle(Work):
    cdef public App app
    cdef public Exchange exchange
    cdef dict scope
    cdef bint ended
    cdef Journey journey
    cdef Clock clock
    cdef Response response
    cdef list receivers, senders, chunks
    cdef bytes chunk
    cdef object held_by
    cdef long long held, left
    cdef public bint full
    cdef bint body_over, delivered, gone, half, bodiless, trailers, sent, complete

    @cython.locals(conn=Connection)
    cdef begin(self, App app, Exchange exchange)
    @cython.locals(scope=dict)
    cpdef call(self)
    cpdef bint data(self, bytes chunk, bint end) except -1
    cpdef end(self, list trailers)
    cpdef reset(self, object why, str side)
    cpdef room(self)
    cpdef farewell(self)

    @cython.locals(body=bytes, count=cython.longlong, message=dict)
    cdef dict message(self)

    @cython.locals(said=dict, app=App)
    cpdef send(self, object message)
    @cython.locals(status=cython.int, response=Response, fields=list, method=str)
    cdef start(self, dict message)
    cdef list fields(self, object headers)
    @cython.locals(body=bytes, more=cython.bint, response=Response, room=cython.bint, count=cython.longlong)
    cdef object body(self, dict message)
    @cython.locals(response=Response, count=cython.longlong)
    cdef all_at_once(self, bytes body)
    cdef last(self, dict message)
    cdef object other(self, object kind, dict message)
    cdef hold(self, object hold)
    cdef unsent(self, str rule)
    cdef finished(self)
    cpdef failed(self, object error)
    cpdef returned(self)
    cpdef stopped(self)
    cdef broken(self, object error, object why)
    cpdef over(self)

@cython.locals(i=Py_ssize_t, n=Py_ssize_t, c=cython.uchar)
cdef int name_kind(bytes name, const unsigned char* v) except -1
@cython.locals(i=Py_ssize_t, n=Py_ssize_t, number=cython.longlong)
cdef long long digits(bytes value, const unsigned char* v) except -2
cpdef wake(list waiters)
cpdef object tls_of(object engine)
