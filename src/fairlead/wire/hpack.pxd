cimport cython
from fairlead.wire cimport _fast
from fairlead.wire.huffman cimport decoded, encode, size_of

cdef list _STATIC
cdef dict _FIELDS, _NAMES, _HOW
cdef bytes _NAME, _VALUE

cdef class Decoder:
    cdef public long long most, fields, allowed, capacity, size, total
    cdef public list table
    cdef public bint over
    cdef public str bad
    cdef Py_ssize_t at
    cdef bytearray scratch

    cpdef list decode(self, bytes data, Py_ssize_t at, Py_ssize_t end)
    @cython.locals(found=list, total=cython.longlong, first=cython.bint, byte=cython.int, index=cython.longlong,
                   field=tuple)
    cdef list read(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t end)
    @cython.locals(mask=cython.int, index=cython.longlong, name=bytes, field=tuple)
    cdef tuple literal(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t end, int byte)
    @cython.locals(table=list, at=Py_ssize_t)
    cdef tuple entry(self, long long index)
    @cython.locals(shift=cython.int, byte=cython.longlong)
    cdef long long integer(self, const unsigned char* v, Py_ssize_t at, Py_ssize_t end, long long value) except -1
    @cython.locals(at=Py_ssize_t, size=cython.longlong, byte=cython.int)
    cdef bytes string(self, bytes data, const unsigned char* v, Py_ssize_t end)
    cdef insert(self, tuple field)
    @cython.locals(table=list, gone=Py_ssize_t, field=tuple)
    cdef evict(self)
    cdef fail(self, str what)

cpdef tuple checked(bytes name, bytes value)
@cython.locals(good=cython.p_const_uchar, allowed=cython.p_const_uchar, i=Py_ssize_t)
cdef str fault(const unsigned char* n, Py_ssize_t size, const unsigned char* v, Py_ssize_t count)

cdef class Encoder:
    cdef public dict known, names
    cdef public list order
    cdef public long long inserted, size, capacity, least

    cpdef resize(self, long long allowed)
    cpdef begin(self, bytearray out)
    @cython.locals(name=bytes, value=bytes, size=cython.longlong, how=cython.int, index=cython.longlong)
    cpdef add(self, bytearray out, tuple field)
    @cython.locals(order=list, first=cython.longlong, gone=Py_ssize_t, field=tuple)
    cdef evict(self)

cpdef integer(bytearray out, int flags, long long most, long long value)
@cython.locals(size=Py_ssize_t, short=Py_ssize_t)
cpdef string(bytearray out, bytes text)
