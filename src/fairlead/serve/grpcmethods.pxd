cimport cython

cdef class Method:
    cdef public bytes path
    cdef public str name
    cdef public bint client_stream, server_stream, generator
    cdef public object decode, encode, handler, behaviour
    cdef public int kind
    cdef public long long started, succeeded, failed, messages_in, messages_out, last
