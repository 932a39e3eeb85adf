cpdef object plain(object value)
cdef object _stranger(object value)
cpdef object rich(object value)
