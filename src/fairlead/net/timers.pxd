cimport cython

from fairlead.core.carrier cimport Carrier

cdef class Timed(Carrier):
    cdef public long long slot
    cpdef due(self, long long now)

cdef class Wheel:
    cdef public dict slots
    cdef public long long cursor
    @cython.locals(tick=cython.longlong, held=set)
    cpdef add(self, long long at, Timed item)
    @cython.locals(held=set)
    cpdef remove(self, Timed item)
    cpdef run(self, long long now)
