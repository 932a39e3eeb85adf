cimport cython
from fairlead.core.codec cimport Cast, Sink
from fairlead.core.journey cimport Journey
from fairlead.core.message cimport Request, Response
from fairlead.core.region cimport Region

cdef bint COMPILED

cdef class Answer:
    cpdef head(self, object message, bint end)
    cpdef inform(self, int status, list headers)
    cpdef bint at_once(self, object message, bytes body) except -1
    cpdef bint data(self, bytes chunk, bint end) except -1
    cpdef end(self, list trailers)
    cpdef reset(self, object why, str side)
    cpdef room(self)
    cpdef farewell(self)

cdef class Intake(Answer):
    cpdef credit(self, long long count)
    cpdef credit_all(self)

cdef class Stage:
    cpdef bint data(self, Exchange exchange, bytes chunk, bint end) except -1
    cpdef end(self, Exchange exchange, list trailers)

cdef class Channel(Sink):
    cpdef say_head(self, Exchange exchange, object message, bint end)
    cpdef say_whole(self, Exchange exchange, object message, bytes body)
    cpdef say_inform(self, Exchange exchange, int status, list headers)
    cpdef bint say_data(self, Exchange exchange, bytes chunk, bint end) except -1
    cpdef int say_region(self, Exchange exchange, Region region, bint end) except -1
    cpdef bint say_cast(self, Exchange exchange, Cast cast) except -1
    cpdef say_end(self, Exchange exchange, list trailers)
    cpdef say_reset(self, Exchange exchange, object why, str side)
    cpdef credit(self, Exchange exchange, long long count)
    cpdef bint begin(self, Exchange exchange) except -1
    cpdef flush(self)

cdef class Exchange(Answer):
    cdef public Channel conn
    cdef public long long stream, deadline, withheld, body_limit
    cdef public int role
    cdef public Request request
    cdef public Response response
    cdef public Journey journey
    cdef public object route, params, error, handle, client, principal
    cdef public tuple hooks, ends
    cdef public bytes tag, entire
    cdef public Answer answer
    cdef public Intake intake
    cdef public Stage stage
    cdef public bint heard_end, said_head, said_end, over, tunnel, working, abandoned, left
    cdef begin(self, Channel conn, long long stream, int role, Request request, Journey journey)
    cpdef int region(self, Region region, bint end) except -1
    cpdef bint cast(self, Cast cast) except -1
    cpdef credit(self, long long count)
    cpdef settle(self, long long count)
    cpdef whole(self, Response response, bytes body)
    cpdef worked(self)
    cpdef fail(self, object why)
