cimport cython
from fairlead.core.codec cimport Codec
from fairlead.core.connection cimport Connection, Owner
from fairlead.core.exchange cimport Exchange
from fairlead.core.handler cimport Service
from fairlead.core.journey cimport Journey
from fairlead.core.message cimport Request
from fairlead.net.poll cimport Poller, Watcher

cdef class Slot:
    cdef public Connection conn
    cdef public Exchange leg
    cdef public long long used, most, uses
    cdef public bint ready, stacked

cdef class Asker(Watcher):
    cdef public Pool pool
    cdef public object client
    cdef public long long until

cdef class TopUp(Watcher):
    cdef public Pool pool

cdef class Pool(Owner):
    cdef public Poller poller
    cdef public Service service
    cdef public object dialer, address, make_codec, tls, server_name, dial_timeout, waiting, topping, make_opening
    cdef public long long most, keep_warm, queue, queue_wait, busy, dials, streams
    cdef public list stack
    cdef public set slots, openings, handshaking
    cdef public bint retired

    @cython.locals(stack=list, slot=Slot, leg=Exchange)
    cpdef Exchange open(self, Request request, Journey journey)
    cpdef ask(self, client)
    cpdef forget(self, Asker asker)
    cpdef long long dials_needed(self)
    cpdef serve(self)
    cpdef dial(self)
    cpdef top_up(self)
    @cython.locals(conn=Connection, slot=Slot)
    cpdef connected(self, opening, int fd, peer)
    @cython.locals(slot=Slot)
    cpdef opened(self, opening, Connection conn)
    cpdef secured(self, Connection conn, alpn)
    @cython.locals(codec=Codec)
    cpdef usable(self, Slot slot)
    cpdef undialed(self, opening, error)
    cpdef deny(self, error)
    cpdef put(self, Slot slot)
    @cython.locals(slot=Slot, leg=Exchange)
    cpdef released(self, Connection conn)
    @cython.locals(slot=Slot)
    cpdef gone(self, Connection conn, object why)
    cpdef discard(self, Slot slot)
    cpdef retire(self)
    cpdef over(self, Exchange leg)
    cpdef up(self)
    cpdef down(self, error)
