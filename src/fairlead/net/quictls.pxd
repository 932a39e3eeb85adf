cimport cython
from fairlead.wire cimport offer
from fairlead.wire.offer cimport Hello
from fairlead.wire.quicparams cimport Heard

cdef object digest
cdef bytes PROOF

cdef bytes sized(bytes data)
cdef bytes message(long kind, bytes body)

cdef class Suite:
    cdef public long number
    cdef public str name, hash
    cdef public object start
    cdef public Py_ssize_t size, key
    cdef public tuple algorithms
    cdef public bytes zeros, empty, quic_key, quic_iv, quic_hp, finished, resumption, derived, early, salt
    cdef dict labels
    cdef bytes info(self, bytes label, bytes context, Py_ssize_t size)
    @cython.locals(found=bytes)
    cpdef bytes derive(self, bytes secret, bytes label, bytes seen)
    cpdef tuple packet_keys(self, bytes secret)
    cpdef bytes proof(self, bytes secret, bytes seen)

cdef class Shown:
    cdef public object key
    cdef public bytes message
    cdef public long scheme
    cdef tuple how
    cpdef bytes sign(self, bytes seen)

cdef class ServerTls:
    cdef object settings
    cdef bytes told
    cdef public bytes source
    cdef readonly bytes held
    cdef readonly int stage
    cdef readonly Heard heard
    cdef readonly Suite suite
    cdef readonly str name, protocol
    cdef readonly bint resumed, early
    cdef readonly list keys, said
    cdef bytes expected, later
    cdef tuple ticket
    @cython.locals(size=Py_ssize_t)
    cpdef bint receive(self, int epoch, bytes data) except -1
    @cython.locals(held=bytes, size=Py_ssize_t, hello=Hello)
    cdef bint started(self) except -1
    @cython.locals(suite=Suite, shown=Shown, share=tuple)
    cdef bint answered(self, Hello hello) except -1
    @cython.locals(salt=bytes, first=bytes, flight=bytes, seen=bytes, server_hello=bytes)
    cdef answer(self, Hello hello, Suite suite, Shown shown, tuple share)
    cdef resume(self, Hello hello, Suite suite, object tickets, object transcript)
    cdef bytes extensions(self)
    cdef give(self, Suite suite, bytes master)

cdef Suite first_suite(bytes theirs)
