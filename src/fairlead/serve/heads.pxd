cimport cython
from fairlead.core.connection cimport Connection
from fairlead.core.exchange cimport Exchange
from fairlead.core.handler cimport Handler
from fairlead.core.message cimport Fields, Request, Response
from fairlead.serve.forwarded cimport Hop, Trusted, added
from fairlead.serve.upstream cimport Target, Upstream
from fairlead.wire cimport _fast

cdef long long _CHAINED, _LISTED, _ANSWER_LISTED, _ANSWER_DROPPED

cdef class Said:
    cdef public Heads heads
    cdef public object source
    cdef public str scheme, version
    cdef public bytes host, authority, before, after
    cdef public Target server
    cdef public bint trusted

cdef class Heads(Handler):
    cdef public Upstream upstream
    cdef public object options
    cdef public bytes host, strip, via, id_name, id_stem, id_head
    cdef public bint host_of_target, rewrites_request, rewrites_response, listing
    cdef public dict fields, vias, via_lines
    cdef public long long id_count, drop, id_bit

    @cython.locals(given=Request, request=Request, conn=Connection, said=Said, block=Fields)
    cpdef Request outgoing(self, Exchange exchange, Target target)
    cdef bint fits(self, Said said, Connection conn, Request given, Target target) except -1
    @cython.locals(hop=Hop, said=Said, before=bytes, after=bytes)
    cdef Said say(self, Connection conn, Request given, Target target)
    cpdef bytes host_for(self, bytes host, Target target)
    @cython.locals(given=Request, request=Request, conn=Connection, trusted=Trusted, hop=Hop, headers=list, field=tuple, fields=dict, host=bytes, via=tuple, mine=tuple)
    cpdef Request outgoing_list(self, Exchange exchange, Target target)
    @cython.locals(target=bytes, raw=bytes, strip=bytes, rest=bytes)
    cpdef bytes path(self, Request given)
    @cython.locals(low=int)
    cpdef bytes identify(self, Exchange exchange, given)
    @cython.locals(headers=list, field=tuple, fields=dict, via=tuple, block=Fields)
    cpdef returning(self, Response response)
