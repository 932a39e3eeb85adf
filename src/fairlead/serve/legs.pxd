cimport cython
from fairlead.core.codec cimport Cast
from fairlead.core.exchange cimport Exchange
from fairlead.wire.ws cimport Ear, WebSocket

cdef class Form:
    cpdef bytes encode(self, Piece piece)
    cpdef bytes gap(self, object gap)
    cpdef bytes dropped(self, object count, object after)

cdef class Piece:
    cdef public object events, next
    cdef public long long now
    cdef public bint up_to_date, closed
    cdef dict encoded
    cdef Form last_form
    cdef Cast last_cast
    @cython.locals(made=Cast)
    cpdef Cast form(self, Form form)

cdef class Out(Ear):
    cdef public object feed
    cdef public Form form
    cdef public str slow
    cdef public list legs
    cdef public bint blocked, over, said, named
    cdef public double late
    cdef public int every, bucket
    cdef public long long missed
    cdef public Exchange body
    cdef public WebSocket socket
    cpdef bint write(self, bytes data) except -1
    cpdef beat(self)
    cpdef finish(self, Leg leg, str why)
    cpdef str title(self)
    cpdef say(self, bytes data)
    @cython.locals(body=Exchange, framed=Cast, cast=Cast)
    cdef shout(self, Piece piece, Form form)
    @cython.locals(leg=Leg)
    cpdef ready(self)
    cdef is_slow(self, Leg leg, long long count)
    @cython.locals(leg=Leg)
    cpdef shut(self)

cdef class Leg:
    cdef public Out out
    cdef public object ring, after, task
    cdef public Form form
    cdef public bint behind, told, there
    cdef public long long dropped
    cdef public dict kept
    cpdef follow_soon(self)
    cpdef retry(self)
    cpdef pass_on(self, Piece piece)
    @cython.locals(out=Out, count=cython.longlong)
    cpdef give(self, Piece piece)
    cpdef bint keep(self, Piece piece) except -1
    @cython.locals(out=Out)
    cpdef resume(self)
    cpdef ended(self, object error)
    cpdef close(self, str why)
    cpdef leave(self)

@cython.locals(leg=Leg)
cpdef tell(tuple legs, Piece piece)
