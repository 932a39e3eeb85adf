cimport cython

cdef bytes _NEXT, _FLAGS, _SYMBOLS, _LENGTHS

@cython.locals(needed=Py_ssize_t, count=Py_ssize_t)
cpdef bytes decoded(bytes data, Py_ssize_t at, Py_ssize_t end, bytearray scratch)
@cython.locals(following=cython.p_const_uchar, flags=cython.p_const_uchar, symbols=cython.p_const_uchar,
               state=cython.int, flag=cython.int, step=cython.int, byte=cython.int, count=Py_ssize_t)
cdef Py_ssize_t _decode(const unsigned char* v, Py_ssize_t at, Py_ssize_t end, unsigned char* o) noexcept
cpdef Py_ssize_t size_of(bytes data)
@cython.locals(lengths=cython.p_const_uchar, bits=Py_ssize_t, i=Py_ssize_t)
cdef Py_ssize_t _size(const unsigned char* v, Py_ssize_t size) noexcept
cpdef encode(bytearray out, bytes data)
@cython.locals(lengths=cython.p_const_uchar, held="unsigned long long", bits=cython.int, symbol=cython.int,
               code="unsigned long long", i=Py_ssize_t)
cdef _encode(bytearray out, const unsigned char* v, Py_ssize_t size)
