cimport cython

@cython.locals(rest=cython.longlong, octave=cython.int, found=Py_ssize_t)
cpdef Py_ssize_t bucket(long long ns) noexcept
