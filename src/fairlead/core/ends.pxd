cimport cython
from fairlead.core.carrier cimport Carrier
from fairlead.core.codec cimport Codec
from fairlead.core.exchange cimport Exchange
from fairlead.core.handler cimport Service
from fairlead.core.journey cimport Journey
from fairlead.core.reads cimport Reads

cdef class Ends(Reads):
    cdef public Service service
    cdef public Carrier carrier
    cdef public bint linger
    cdef public long long said_now, blocked_since
    cdef public list ending

    @cython.locals(ex=Exchange, j=Journey)
    cpdef flushed(self, long long begin, long long encrypted, long long sent)
    @cython.locals(ex=Exchange, ending=list, codec=Codec, shared=cython.bint, j=Journey)
    cdef flushed_many(self, long long begin, long long encrypted, long long sent)
    @cython.final
    cdef flush_marks(self, Journey j, long long begin, long long encrypted, long long sent)
    @cython.locals(j=Journey, peer=cython.longlong, ours=cython.longlong)
    cdef note_waits(self, Exchange ex)
    @cython.locals(ex=Exchange)
    cpdef waited(self, long long spent)
    @cython.locals(ex=Exchange)
    cdef unblocked(self, long long now)
    cdef ended(self, Exchange ex)
    @cython.locals(j=Journey, service=Service)
    cdef done(self, Exchange ex, long long now)
    @cython.locals(service=Service)
    cdef release(self, Exchange ex)
    cpdef drop(self, Exchange ex, object why)
    cdef leg_over(self, Exchange ex)
    cdef freed(self)
