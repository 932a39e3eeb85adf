cimport cython

from fairlead.core.exchange cimport Exchange
from fairlead.core.handler cimport Service
from fairlead.core.message cimport Response
from fairlead.net.poll cimport Poller
from fairlead.net.pool cimport Pool
from fairlead.serve.pick cimport Candidate, Picker

cdef class TargetPool(Pool):
    cdef public Target target

cdef class Target(Candidate):
    cdef public Upstream upstream
    cdef public object address
    cdef public bint backup, sick
    cdef public bytes ident
    cdef public long long fails, resting_until
    cdef public TargetPool pool
    cpdef enter(self)
    cpdef leave(self)
    cpdef failed(self, long long now)
    cpdef succeeded(self)

cdef class Upstream:
    cdef public Poller poller
    cdef public str name, scheme, by
    cdef public bytes by_name
    cdef public object settings, tls, random, dialer, make_codec
    cdef public bytes sticky
    cdef public long long sticky_keep, sick
    cdef public long long busy, resting, requests, head_limit, idle_limit, total_limit
    cdef public bint retired, learns
    cdef public Picker picker
    cdef public Service service
    cdef public list all, targets, backups
    cpdef Target choose(self, Exchange exchange, list tried, long long now)
    cpdef list usable(self, list tried, long long now)
    cpdef bint rests(self, Target target, long long now) except -1
    cpdef eject(self, Target target, long long now)
    cpdef bytes key(self, Exchange exchange)
    @cython.locals(target=Target)
    cpdef Target held(self, Exchange exchange, list tried, long long now)
    cpdef stick(self, Exchange exchange, Target target, Response response)
    cpdef mark_sick(self, addresses)
