cdef class Slab:
    cdef public int fd
    cdef public object memory, view, created
    cdef public Py_ssize_t slots
    cdef public dict layout

cdef class Region:
    cdef public Py_ssize_t index
    cdef public dict layout, offsets
    cdef public object words, bytes
    cdef long long[::1] cells
    cdef unsigned char[::1] raw
