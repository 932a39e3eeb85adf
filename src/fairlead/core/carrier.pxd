from fairlead.core.journey cimport Journey

cdef class Carrier:
    cdef public bint blocked, regions
    cpdef touch(self)
    cpdef close(self, object why)
    cpdef abort(self, object why)
    cpdef int post(self, bytes data) except -1
    cpdef rearm(self)
    cpdef ask_kernel(self, Journey journey)
