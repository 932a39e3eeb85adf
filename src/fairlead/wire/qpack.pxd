cimport cython
from fairlead.wire cimport _fast
from fairlead.wire.hpack cimport Decoder as Hpack, checked, integer, string
from fairlead.wire.huffman cimport decoded, encode, size_of

cdef list _STATIC
cdef dict _FIELDS, _NAMES, _HOW, _MADE
cdef int _KEPT, _LONG, _ENTRY

cdef class Decoder(Hpack):
    cdef public long long inserted, known, wanted, until
    cdef public bint halted
    cdef public int code
    cdef bytes rest
    cdef bytearray out

    cpdef list section(self, bytes data, Py_ssize_t at, Py_ssize_t end)
    @cython.locals(found=list, total=cython.longlong, base=cython.longlong, wanted=cython.longlong, byte=cython.int,
                   index=cython.longlong, field=tuple)
    cdef list lines(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t end)
    @cython.locals(count=cython.longlong, byte=cython.int, delta=cython.longlong)
    cdef long long prefix(self, const unsigned char* v, Py_ssize_t at, Py_ssize_t end) except -1
    @cython.locals(entries=cython.longlong, full=cython.longlong, most=cython.longlong, found=cython.longlong)
    cdef long long required(self, long long count) except -1
    @cython.locals(mask=cython.int, index=cython.longlong, name=bytes)
    cdef tuple line(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t end, int byte, long long base)
    @cython.locals(size=cython.longlong, text=bytes)
    cdef bytes named(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t end, int byte, int mask)
    cdef tuple static(self, long long index)
    @cython.locals(at=cython.longlong, table=list)
    cdef tuple dynamic(self, long long number, long long wanted)
    @cython.locals(at=Py_ssize_t)
    cpdef instructions(self, bytes data)
    @cython.locals(at=Py_ssize_t, behind=Py_ssize_t, byte=cython.int, index=cython.longlong, name=bytes)
    cdef Py_ssize_t obey(self, bytes data, const unsigned char* v, Py_ssize_t end) except -1
    @cython.locals(byte=cython.int)
    cdef Py_ssize_t whole(self, const unsigned char* v, Py_ssize_t at, Py_ssize_t end) except -2
    @cython.locals(first=Py_ssize_t)
    cdef Py_ssize_t past(self, const unsigned char* v, Py_ssize_t at, Py_ssize_t end, int mask) except -2
    @cython.locals(size=cython.longlong, after=Py_ssize_t)
    cdef Py_ssize_t behind(self, const unsigned char* v, Py_ssize_t at, Py_ssize_t end, int mask) except -2
    @cython.locals(at=cython.longlong)
    cdef tuple newest(self, long long index)
    @cython.locals(size=Py_ssize_t)
    cdef admit(self, tuple field)
    cpdef acknowledge(self, long long stream, long long wanted)
    cpdef cancel(self, long long stream)
    cpdef bytes said(self)

cdef class Encoder:
    cdef bytes rest
    @cython.locals(made=bytes)
    cpdef add(self, bytearray out, tuple field)
    @cython.locals(out=bytearray, number=cython.longlong, name=bytes, value=bytes, never=cython.bint, index=cython.longlong,
                   short=Py_ssize_t, made=bytes)
    cdef bytes made(self, tuple field)
    @cython.locals(at=Py_ssize_t)
    cpdef heard(self, bytes data)
    @cython.locals(byte=cython.int, first=Py_ssize_t)
    cdef Py_ssize_t obey(self, const unsigned char* v, Py_ssize_t end) except -1
    cdef fail(self, str what)
