cimport cython
from fairlead.core.connection cimport Connection, Owner
from fairlead.core.exchange cimport Answer, Exchange
from fairlead.core.handler cimport Handler
from fairlead.core.journey cimport Journey
from fairlead.core.message cimport Request, Response
from fairlead.net.poll cimport Poller
from fairlead.net.tcp cimport Tcp
from fairlead.wire.hop cimport Hop as Codec
from fairlead.wire.hopwords cimport Letter

cdef long long PATIENCE, SECOND
cdef Py_ssize_t KEEP
cdef int CROWD, TRIES, CLIENTS

cdef class Link(Owner):
    cdef public Dispatcher dispatcher
    cdef public Connection conn
    cdef public Codec codec
    cdef public object apps, unsure
    cdef public int place
    cdef public Py_ssize_t outstanding, busy
    cdef public bint stuck
    @cython.locals(codec=Codec)
    cpdef bint takes(self, Py_ssize_t limit) except -1
    @cython.locals(crossing=Crossing, begun=cython.longlong)
    cpdef granted(self)
    cpdef heard(self)
    cpdef released(self, Connection conn)
    cpdef gone(self, Connection conn, object why)

cdef class Dispatcher:
    cdef public Poller poller
    cdef public Py_ssize_t most, per_worker
    cdef public long long wait
    cdef public object health, queue, holding
    cdef public list links
    cdef public Py_ssize_t turn
    cdef public bint watching, timing
    cdef public long long refused, late, taken, repeated, deaths, sent, deepest
    cpdef add(self, Link link)
    cpdef lost(self, Link link)
    @cython.locals(link=Link, best=Link, want=cython.int, links=list, least=Py_ssize_t, count=Py_ssize_t, i=Py_ssize_t)
    cpdef Link choose(self, Crossing crossing)
    @cython.locals(link=Link, best=Link)
    cpdef Link bypass(self, Crossing crossing)
    @cython.locals(link=Link)
    cpdef place(self, Crossing crossing, long long now)
    cpdef again(self, Crossing crossing)
    @cython.locals(crossing=Crossing, link=Link, passed=list, now=cython.longlong)
    cpdef refill(self)
    @cython.locals(link=Link)
    cpdef bint free(self) except -1
    cpdef forget(self, Crossing crossing)
    cpdef time(self)
    @cython.locals(crossing=Crossing)
    cpdef timed(self)
    cpdef watch(self)
    @cython.locals(link=Link)
    cpdef look(self)
    @cython.locals(crossing=Crossing)
    cpdef take_back(self, Link link, long long now)

cdef class Hop(Handler):
    cdef public Dispatcher dispatcher
    cdef public long long number
    cdef public bytes cookie
    cdef public str name
    @cython.locals(crossing=Crossing, upward=Upward, now=cython.longlong)
    cpdef open(self, Exchange exchange)

@cython.freelist(64)
cdef class Crossing(Answer):
    cdef public Hop hop
    cdef public Dispatcher dispatcher
    cdef public Exchange left, leg
    cdef public Link link
    cdef Letter letter
    cdef public long long app, stream, sent_at, until
    cdef public int attempts, want
    cdef public bint unsure, queued, answered, half, body_over
    cdef public list trailers, kept
    cdef public Py_ssize_t kept_size
    cpdef begin(self, Hop hop, Exchange left)
    @cython.locals(left=Exchange, leg=Exchange, codec=Codec, whole=cython.bint, conn=Connection)
    cpdef go(self, Link link, long long now)
    @cython.locals(left=Exchange, conn=Connection, ends=bytes)
    cdef Letter address(self, Codec codec)
    @cython.locals(room=cython.bint, chunk=bytes)
    cdef pour(self, Exchange leg)
    cpdef settled(self)
    @cython.locals(link=Link, leg=Exchange)
    cpdef bint taken_back(self) except -1
    cpdef inform(self, int status, list headers)
    @cython.locals(journey=Journey)
    cdef answering(self)
    @cython.locals(left=Exchange, leg=Exchange, response=Response)
    cpdef head(self, object message, bint end)
    @cython.locals(left=Exchange, response=Response)
    cpdef bint at_once(self, object message, bytes body) except -1
    @cython.locals(left=Exchange)
    cdef hold(self, object message)
    @cython.locals(room=cython.bint)
    cpdef bint data(self, bytes chunk, bint end) except -1
    cpdef end(self, list trailers)
    cpdef room(self)
    @cython.locals(leg=Exchange)
    cpdef finished(self)
    @cython.locals(left=Exchange, link=Link)
    cpdef reset(self, object why, str side)
    @cython.locals(fresh=cython.bint, safe=cython.bint)
    cpdef died(self)
    @cython.locals(leg=Exchange)
    cpdef abandoned(self, object why)

@cython.freelist(64)
cdef class Upward(Answer):
    cdef public Crossing crossing
    @cython.locals(crossing=Crossing, leg=Exchange, kept=list)
    cpdef bint data(self, bytes chunk, bint end) except -1
    @cython.locals(crossing=Crossing, leg=Exchange)
    cpdef end(self, list trailers)
    @cython.locals(crossing=Crossing, leg=Exchange)
    cpdef reset(self, object why, str side)
    @cython.locals(leg=Exchange)
    cpdef room(self)

cdef object refusal(str text)
cdef bytes path_of(bytes target)
cdef int place_in(Request request, bytes cookie) except -2
