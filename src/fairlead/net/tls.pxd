from fairlead.net._libssl cimport Channel

cdef class Engine:
    cdef public bint done, closed_by_peer
    cdef public str alpn
    cdef public str server_name
    cdef public object failed, scope
    cdef object home
    cdef object ssl_object
    cdef object facts
    cdef list held
    cdef bint fed
    cpdef bytes feed(self, bytes data)
    cpdef write(self, bytes data)
    cpdef bytes take(self)
    cpdef close(self)
    cpdef free(self)
    cpdef finish(self)

cdef class OpensslEngine(Engine):
    cdef Channel channel
    cpdef remember(self)

cdef class PlainEngine(Engine):
    cdef object incoming
    cdef object outgoing
    cdef bint said_bye
    cpdef bytes read_all(self)
    cpdef say_bye(self)
