cimport cython
from fairlead.core.message cimport Request


cdef class Match:
    cdef public object route
    cdef public Py_ssize_t index
    cdef public dict params
    cdef public object allow

cdef class Entry:
    cdef public object route
    cdef public Py_ssize_t index
    cdef public int kind
    cdef public bint open
    cdef public str text, slash
    cdef public tuple names, segments, hosts
    cdef public frozenset methods
    cdef public list headers
    cdef public Match match
    cpdef int kind_of(self)
    cpdef bint fits_path(self, str path) except -1
    @cython.locals(i=Py_ssize_t, count=Py_ssize_t)
    cpdef bint fits_pattern(self, list parts) except -1
    @cython.locals(want=str)
    cpdef bint fits_host(self, str host) except -1
    cpdef bint fits_headers(self, list headers) except -1
    @cython.locals(i=Py_ssize_t, parts=list, params=dict, part=str)
    cpdef Match found(self, str path)
    @cython.locals(i=Py_ssize_t, count=Py_ssize_t)
    cpdef bint covers(self, Entry other) except -1
    cpdef bint shadows(self, Entry other) except -1
    cpdef bint covers_hosts(self, Entry other) except -1
    cpdef bint covers_headers(self, Entry other) except -1

cdef class Side:
    cdef public list entries, rest
    cdef public Match only
    cdef public dict buckets
    cdef public bint hosted, choosy
    @cython.locals(i=Py_ssize_t, end=Py_ssize_t, entries=list, entry=Entry, passed=list, bare=str)
    cpdef Match find(self, str host, str path, str method, list headers)

cdef class Table:
    cdef public list entries
    cdef public dict sides
    cdef public Side common
    @cython.locals(side=Side)
    cpdef Match find(self, str listener, str host, str path, str method, list headers)
    @cython.locals(side=Side, target=bytes, raw=bytes, path=str, decoded=str, end=Py_ssize_t)
    cpdef Match resolve(self, str listener, Request request)

cpdef str plain_host(str host)
@cython.locals(n=Py_ssize_t, i=Py_ssize_t, c=cython.uchar, previous=cython.uchar)
cdef Py_ssize_t plain_until(bytes data, const unsigned char* v) except -2
cpdef tuple normalise_path(bytes raw)
