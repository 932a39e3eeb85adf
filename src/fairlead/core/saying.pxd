cimport cython
from fairlead.core.codec cimport Cast, Codec
from fairlead.core.exchange cimport Exchange, Stage
from fairlead.core.faults cimport Faults
from fairlead.core.handler cimport Handler
from fairlead.core.journey cimport Journey
from fairlead.core.region cimport Region

cdef class Saying(Faults):
    cdef public bint in_feed, waiting, told
    cdef public long long unsent, telling, outgoing
    cdef public list held

    @cython.locals(now=cython.longlong, codec=Codec, j=Journey)
    cpdef say_head(self, Exchange ex, object message, bint end)
    @cython.locals(now=cython.longlong, codec=Codec, j=Journey, whole=cython.bint)
    cpdef say_whole(self, Exchange ex, object message, bytes body)
    @cython.locals(room=cython.bint, codec=Codec)
    cpdef bint say_data(self, Exchange ex, bytes chunk, bint end) except -1
    @cython.locals(codec=Codec, count=cython.longlong)
    cpdef int say_region(self, Exchange ex, Region region, bint end) except -1
    @cython.locals(codec=Codec, framed=bytes, begin=cython.longlong, posted=cython.int, j=Journey)
    cpdef bint say_cast(self, Exchange ex, Cast cast) except -1
    @cython.locals(stage=Stage, room=cython.bint)
    cdef bint staged(self, Exchange ex, bytes chunk, bint end) except -1
    @cython.locals(stage=Stage)
    cpdef say_end(self, Exchange ex, list trailers)
    @cython.locals(new=Exchange)
    cpdef hand_over(self, Exchange ex, Handler handler)
    cpdef bint begin(self, Exchange ex) except -1
