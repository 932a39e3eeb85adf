cimport cython
from fairlead.core.message cimport Common, Request, Response
from fairlead.wire cimport _fast
from fairlead.wire.h1bytes cimport clean, clean_target, good_host, number, special, token

cdef bytes _TARGET, _LOW, _VALUE, _VISIBLE
cdef dict _METHOD_BYTES, _STATUS

cdef class Asked:
    cdef public str method, wrong
    cdef public bytes path, authority, scheme, protocol, host
    cdef public list cookies, headers
    cdef public long long length
    cdef public bint expect

    @cython.locals(at=Py_ssize_t, rule=str, headers=list, cookies=list, message=Request)
    cpdef object request(self, list fields, str scheme, bint end, bint extended)
    @cython.locals(count=Py_ssize_t, field=tuple, name=bytes, value=bytes, before=bytes)
    cdef Py_ssize_t pseudo(self, list fields) except -2
    @cython.locals(before=str)
    cdef bytes verb(self, bytes value)
    @cython.locals(headers=list, count=Py_ssize_t, field=tuple, kind=cython.int, rule=str)
    cdef str regular(self, list fields, Py_ssize_t at)
    cdef str note(self, int kind, bytes name, bytes value)
    @cython.locals(path=bytes)
    cdef str routing(self, bint extended)

@cython.locals(status=bytes, headers=list, length=cython.longlong, regular=cython.bint, field=tuple, name=bytes, value=bytes,
               kind=cython.int, code=cython.longlong, message=Response)
cpdef object response_of(list fields, str method, bint end)
@cython.locals(kind=cython.int, name=bytes)
cpdef object trailers_of(list fields)

cdef class Given:
    cdef public long long length
    cdef public bint date, server, bodiless, tunnel
    cdef public bytes priority
    @cython.locals(status=cython.int, fields=list, tunnel=cython.bint, bodiless=cython.bint, length=cython.longlong)
    cpdef list answer(self, Response message, str method, bint end, Common common)
    @cython.locals(method=bytes, connect=cython.bint, fields=list, length=cython.longlong)
    cpdef list ask(self, Request message, bint end, bint extended)
    @cython.locals(field=tuple, name=bytes, value=bytes, kind=cython.int)
    cpdef put(self, list kept, list headers, bint request)
    @cython.locals(length=cython.longlong)
    cdef note_length(self, bytes value)

@cython.locals(low=cython.p_const_uchar, allowed=cython.p_const_uchar, i=Py_ssize_t)
cdef bint sound(const unsigned char* n, Py_ssize_t size, const unsigned char* v, Py_ssize_t count) noexcept
cpdef tuple mended(bytes name, bytes value)

cpdef tuple status_field(int status)
@cython.locals(kind=cython.int, name=bytes, value=bytes)
cpdef list said_trailers(list trailers)
@cython.locals(name=bytes, value=bytes)
cdef bint token_fields(list fields) except -1
