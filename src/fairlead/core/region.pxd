cdef class Region:
    cdef public object file
    cdef readonly int fd
    cdef public long long at, left
