cimport cython

cdef long long _FOUR, _EIGHT

@cython.locals(wide=cython.longlong)
cpdef bytes varint(long long value)
