cimport cython
from fairlead.core.carrier cimport Carrier
from fairlead.core.connection cimport Connection
from fairlead.core.exchange cimport Exchange
from fairlead.core.handler cimport Handler, Observer
from fairlead.core.message cimport Request
from fairlead.net.poll cimport Poller
from fairlead.serve.app cimport App
from fairlead.wire.hop cimport Hop as Codec
from fairlead.wire.hopwords cimport Ends, Letter

cdef int CALM, MOST

cdef class Entry(Handler):
    cdef public dict apps
    @cython.locals(conn=Connection, codec=Codec, letter=Letter, handler=Handler, ends=Ends, request=Request)
    cpdef open(self, Exchange exchange)

cdef class Watch(Observer):
    cdef public object region, recorder
    cdef long long[::1] cells
    cdef Py_ssize_t slot
    cpdef done(self, Exchange exchange)
    cpdef broke(self, Exchange exchange, object error)

cdef class Pace:
    cdef Poller poller
    cdef Codec codec
    cdef Carrier carrier
    cdef bint turning
    cdef long long since, answered, calm
    cpdef started(self)
    @cython.locals(codec=Codec, done=cython.longlong)
    cpdef turned(self)
