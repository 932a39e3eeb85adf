cimport cython
from fairlead.core.connection cimport Connection
from fairlead.core.exchange cimport Answer, Exchange
from fairlead.core.handler cimport Handler
from fairlead.core.journey cimport Journey
from fairlead.core.message cimport Request, Response
from fairlead.net.poll cimport Watcher
from fairlead.net.pool cimport Asker, Pool
from fairlead.serve.heads cimport Heads
from fairlead.serve.upstream cimport Target, Upstream

cdef str _GET
cdef double _BUDGET_MOST

cdef class Proxy(Heads):
    cdef public int retries
    cdef public double budget, budget_gain
    cdef public long long half_close
    cdef public object calls

    @cython.locals(request=Request, pair=Pair)
    cpdef open(self, Exchange exchange)
    cpdef bint may_retry(self) except -1

@cython.freelist(64)
cdef class Pair(Answer):
    cdef public Proxy proxy
    cdef public Exchange left, leg
    cdef public Upstream upstream
    cdef public Target target
    cdef public Uplink uplink
    cdef public Asker asker
    cdef public list tried
    cdef public int attempts
    cdef public long long asked, limit, idle
    cdef public bint reused, heard, answered, tunnel, translated

    cpdef begin(self, Proxy proxy, Exchange left)
    @cython.locals(left=Exchange, conn=Connection, upstream=Upstream, now=cython.longlong, total=cython.longlong)
    cpdef start(self)
    @cython.locals(left=Exchange, target=Target, j=Journey, leg=Exchange)
    cpdef go(self, long long now)
    @cython.locals(left=Exchange, now=cython.longlong, j=Journey, leg=Exchange)
    cpdef granted(self, Pool pool)
    cpdef denied(self, error)
    cpdef bint another(self, long long now) except -1
    @cython.locals(left=Exchange, proxy=Proxy, request=Request, given=Request)
    cpdef send(self, Exchange leg)
    @cython.locals(uplink=Uplink)
    cpdef stream(self, bint expecting)
    cpdef Uplink link(self)
    @cython.locals(conn=Connection)
    cpdef sent(self)
    @cython.locals(left=Exchange, leg=Exchange, j=Journey, response=Response)
    cpdef head(self, object message, bint end)
    @cython.locals(left=Exchange, j=Journey)
    cpdef bint at_once(self, object message, bytes body) except -1
    @cython.locals(target=Target)
    cdef learn(self, Journey j)
    cdef returned(self, Response response)
    cpdef cross(self, Response message, upgrade)
    @cython.locals(left=Exchange, leg=Exchange)
    cpdef open_tunnel(self, Response message)
    @cython.locals(left=Exchange, leg=Exchange, room=cython.bint, now=cython.longlong)
    cpdef bint data(self, bytes chunk, bint end) except -1
    @cython.locals(leg=Exchange)
    cpdef finished(self)
    cpdef bint repeatable(self, object why) except -1
    cpdef half_closed(self, why)
    cpdef abandoned(self, why)

cdef class Uplink(Answer):
    cdef public Pair pair
    cdef public Exchange leg
    cdef public list held, trailers
    cdef public bint held_end, over
    cdef public int patience
    @cython.locals(held=list, chunk=bytes, room=cython.bint)
    cpdef begin(self, Exchange leg)
    cpdef hurry(self)
    @cython.locals(leg=Exchange, room=cython.bint)
    cpdef bint data(self, bytes chunk, bint end) except -1
    cpdef ended(self)

cdef class Tunnel(Answer):
    cdef public Exchange own, other

cdef class HalfClosed(Watcher):
    cdef public Pair pair
    cdef public object why
    cdef public long long until
    cdef public bint asked

cdef class Patience(Watcher):
    cdef public Uplink uplink

cdef class Split(Handler):
    cdef public list shares
    cdef public double total
    cdef public object random
