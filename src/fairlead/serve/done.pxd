cdef class Done:
    cpdef send(self, object value)
    cpdef throw(self, object kind, object value=*, object trace=*)
    cpdef close(self)

cpdef bint is_disconnect(object error) except -1
