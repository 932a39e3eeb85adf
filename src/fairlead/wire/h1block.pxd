cimport cython
from fairlead.core.message cimport Fields
from fairlead.wire cimport _fast

cdef list _NAMES
cdef bytes _NUMBERS

cdef class Block(Fields):
    cpdef begin(self)
    @cython.locals(data=bytes, marks="unsigned short*", found=list, i=int, at=int, slot=int, numbers=cython.p_const_uchar, name=bytes)
    cpdef list listed(self, long long drop)
    @cython.locals(data=bytes, marks="unsigned short*", size=Py_ssize_t, i=int, at=int)
    cpdef bytes get(self, bytes name)
    @cython.locals(marks="unsigned short*", count=int)
    cdef bytes said(self, bytes a, bytes b, bytes c, bytes before, long long drop, bytes after, bytes tail, long long length, bytes more, bytes body)
    @cython.locals(made=bytes)
    cdef keep(self, bytes before, long long drop)

@cython.locals(found=list, line=bytes)
cpdef list lines(bytes text)
