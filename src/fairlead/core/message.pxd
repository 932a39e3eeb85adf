cimport cython

@cython.freelist(64)
cdef class Request:
    cdef public str method, scheme, version, path
    cdef public bytes authority, target, raw_path, query, upgrade, protocol
    cdef public list headers, trailers
    cdef public long long length
    cdef public bint expect
    cdef begin(self, str method, str scheme, bytes authority, bytes target, list headers, str version, long long length)
    cpdef get(self, bytes name)

@cython.freelist(64)
cdef class Response:
    cdef public int status
    cdef public list headers, trailers
    cdef public long long length
    cdef public bytes reason, upgrade
    cdef public str version
    cdef begin(self, int status, list headers, long long length, bytes reason, str version)
    cpdef get(self, bytes name)

cdef class Common:
    cdef public bytes server, date, lines
    cpdef refresh(self)
    cpdef set(self, bytes date)

cpdef find(list headers, bytes name)
cpdef bytes reason(int status)
