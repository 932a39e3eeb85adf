cimport cython
from fairlead.core.codec cimport Codec
from fairlead.core.exchange cimport Channel, Exchange
from fairlead.core.journey cimport Clock, Journey

cdef class Reads(Channel):
    cdef public Clock clock
    cdef public Codec codec
    cdef public Exchange current, recent
    cdef public dict exchanges
    cdef public long long requests
    cdef public long long connected, accepted, secured
    cdef public long long woken, arrived, loop_ns, read_ns, read_done, decrypt_ns, decrypted, mark
    cdef public int arrived_quality

    cdef keep(self, Exchange ex)
    @cython.locals(ex=Exchange)
    cpdef Exchange find(self, long long stream)
    cpdef list open_exchanges(self)
    cpdef bint idle(self)
    @cython.locals(j=Journey)
    cpdef reading(self, long long woken, long long arrived, int quality, long long start, long long done, Py_ssize_t count)
    cpdef decrypting(self, long long start, long long done)
    cpdef handshaken(self, long long read, long long done)
    cdef forget_reads(self)
    cdef stamp(self, Journey j, long long now)
