cimport cython
from fairlead.core.connection cimport Connection
from fairlead.core.exchange cimport Exchange
from fairlead.core.handler cimport Handler
from fairlead.core.message cimport Request, Response
from fairlead.serve.forwarded cimport Hop, Trusted, added
from fairlead.serve.upstream cimport Target, Upstream

cdef class Heads(Handler):
    cdef public Upstream upstream
    cdef public object options
    cdef public bytes host, strip, via, id_name, id_stem, id_head
    cdef public tuple via_field
    cdef public bint host_of_target, rewrites_request, rewrites_response
    cdef public dict fields
    cdef public long long id_count

    @cython.locals(given=Request, request=Request, conn=Connection, trusted=Trusted, hop=Hop, headers=list, field=tuple, fields=dict, host=bytes, via=tuple)
    cpdef Request outgoing(self, Exchange exchange, Target target)
    @cython.locals(target=bytes, raw=bytes, strip=bytes, rest=bytes)
    cpdef bytes path(self, Request given)
    @cython.locals(low=int)
    cpdef bytes identify(self, Exchange exchange, given)
    @cython.locals(headers=list, field=tuple, fields=dict, via=tuple)
    cpdef returning(self, Response response)
