cimport cython

cdef extern from *:
    """
    static CYTHON_INLINE int fl_width(long long n) { return 64 - __builtin_clzll((unsigned long long)n | 1); }  /* bits of a number above 0 */
    """
    int width "fl_width" (long long n) noexcept

cdef bint COMPILED

@cython.locals(rest=cython.longlong, octave=cython.int, found=Py_ssize_t)
cpdef Py_ssize_t bucket(long long ns) noexcept
