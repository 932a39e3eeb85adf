cimport cython
from fairlead.core.message cimport Request, Response
from fairlead.wire cimport _fast
from fairlead.wire.h1bytes cimport clean, good_host, number, special, token

cdef bytes _TARGET, _LOW, _VALUE

@cython.locals(method=bytes, path=bytes, authority=bytes, given=bytes, protocol=bytes, host=bytes, cookie=list, headers=list,
               length=cython.longlong, regular=cython.bint, expect=cython.bint, field=tuple, name=bytes, value=bytes,
               kind=cython.int, text=str, message=Request)
cpdef object request_of(list fields, str scheme, bint end, bint extended)
@cython.locals(status=bytes, headers=list, length=cython.longlong, regular=cython.bint, field=tuple, name=bytes, value=bytes,
               kind=cython.int, code=cython.longlong, message=Response)
cpdef object response_of(list fields, str method, bint end)
@cython.locals(kind=cython.int, name=bytes)
cpdef object trailers_of(list fields)

cdef class Given:
    cdef public long long length
    cdef public bint date, server
    cdef public bytes priority
    @cython.locals(field=tuple, name=bytes, value=bytes, kind=cython.int)
    cpdef put(self, list kept, list headers, bint request)
    @cython.locals(length=cython.longlong)
    cdef note_length(self, bytes value)

@cython.locals(low=cython.p_const_uchar, allowed=cython.p_const_uchar, i=Py_ssize_t)
cdef bint sound(const unsigned char* n, Py_ssize_t size, const unsigned char* v, Py_ssize_t count) noexcept
cpdef tuple mended(bytes name, bytes value)
