cimport cython

cdef long long _SECOND

cpdef long long parting(long long begun, long long age) except -1

cdef class Guard:
    cdef long long most[6]
    cdef long long level[6]
    cdef long long leaked

    @cython.locals(level=cython.longlong, most=cython.longlong)
    cdef bint over(self, int kind, long long now)
    @cython.locals(level=cython.longlong)
    cdef earn(self, int kind, long long count)
    @cython.locals(passed=cython.longlong, level=cython.longlong, kind=cython.int)
    cdef leak(self, long long now)
