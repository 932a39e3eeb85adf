cdef class Hop:
    cdef public bint trusted
    cdef public bytes address, node, host
    cdef public str scheme
    cdef public list said
    cpdef list fields(self, str scheme, bytes host)

cdef class Trusted:
    cdef public bint unix_peers
    cdef public list networks
    cdef public dict hops
    cpdef Hop hop(self, object peer)
    cpdef includes(self, str text)

cpdef list added(Hop hop, str scheme, bytes host, list headers)
