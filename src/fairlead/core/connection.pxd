cimport cython
from fairlead.core.exchange cimport Answer, Exchange
from fairlead.core.handler cimport Service
from fairlead.core.journey cimport Journey
from fairlead.core.message cimport Request
from fairlead.core.saying cimport Saying

cdef class Owner:
    cpdef released(self, Connection conn)
    cpdef gone(self, Connection conn, object why)

cdef class Connection(Saying):
    cdef public Owner owner
    cdef public object peer, local, tls, target
    cdef public bint draining, closed
    cdef public dict scene
    cdef public object scene_of
    cdef public long long opened, last_seen, request_limit

    cpdef receive(self, bytes data, long long now)
    cpdef receive_eof(self, long long now)
    @cython.locals(due=cython.longlong, ex=Exchange)
    cpdef long long deadline(self)
    @cython.locals(ex=Exchange)
    cpdef tick(self, long long now)
    @cython.locals(held=list)
    cpdef drained(self, long long now)
    cpdef gone(self, object why)

    @cython.locals(ex=Exchange, j=Journey, now=cython.longlong, service=Service, entered=cython.int)
    cpdef head(self, long long stream, object message, bint end)
    @cython.locals(ex=Exchange, answer=Answer)
    cdef leg_head(self, long long stream, object message, bint end, long long now)
    @cython.locals(ex=Exchange, answer=Answer)
    cpdef at_once(self, long long stream, object message, bytes body)
    @cython.locals(ex=Exchange, answer=Answer, count=Py_ssize_t, j=Journey, took=cython.bint)
    cpdef data(self, long long stream, bytes chunk, bint end)
    @cython.locals(ex=Exchange, answer=Answer)
    cpdef end(self, long long stream, list trailers)
    @cython.locals(ex=Exchange, answer=Answer)
    cpdef room(self, long long stream)

    cpdef admitted(self, Exchange ex)
    @cython.locals(stream=cython.longlong, ex=Exchange)
    cpdef Exchange open_leg(self, Request request, Journey journey)
    cpdef drain(self)
    @cython.locals(ex=Exchange)
    cpdef farewell(self)
