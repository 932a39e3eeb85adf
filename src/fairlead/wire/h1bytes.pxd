cimport cython
from fairlead.wire cimport _fast

cdef bytes _LOW
cdef bytes _VALUE
cdef bytes _HOST
cdef bytes _KINDS
cdef list _NAMES

cpdef bint same(bytes name, bytes data, Py_ssize_t start, Py_ssize_t size)
@cython.locals(low=cython.p_const_uchar, i=Py_ssize_t)
cdef bint _equal(const unsigned char* n, const unsigned char* v, Py_ssize_t start, Py_ssize_t size) noexcept
cpdef int kind_of(bytes name) except -2
@cython.locals(low=cython.p_const_uchar, kinds=cython.p_const_uchar, i=Py_ssize_t, slot=cython.int, known=bytes)
cdef int _kind(bytes name, const unsigned char* v, Py_ssize_t size) except -2
cpdef int special(bytes name) except -2
@cython.locals(low=cython.p_const_uchar, kinds=cython.p_const_uchar, slot=cython.int)
cdef int _special(bytes name, const unsigned char* v, Py_ssize_t size) except -2
cpdef bint clean(bytes value)
@cython.locals(allowed=cython.p_const_uchar, i=Py_ssize_t)
cdef bint _clean(const unsigned char* v, Py_ssize_t size) noexcept
cpdef long long number(bytes value) except -2
cpdef long long number_at(bytes data, Py_ssize_t first, Py_ssize_t last) except -2
@cython.locals(total=cython.longlong)
cdef long long _number(const unsigned char* v, Py_ssize_t first, Py_ssize_t last) noexcept
cpdef bint clean_target(bytes value)
cpdef bint token(bytes value)
cpdef bint good_host(bytes host)
@cython.locals(allowed=cython.p_const_uchar, i=Py_ssize_t, port=bytes)
cdef bint _good_host(bytes host, const unsigned char* v, Py_ssize_t end)
cdef Py_ssize_t _literal(bytes host) except -2
