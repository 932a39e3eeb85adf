cimport cython

@cython.freelist(128)
cdef class Fields:  # its layout is wire.h1block.Block's, so that the free list serves that
    cdef public long long known, kept_drop
    cdef public bytes data, kept, kept_before
    cdef public int count
    cdef public bint again
    cdef unsigned short marks[220]
    cpdef list listed(self, long long drop)
    cpdef list edited(self, long long drop, bytes before, bytes after, bytes tail)
    cpdef bytes get(self, bytes name)

@cython.freelist(64)
cdef class Request:
    cdef public str method, scheme, version, decoded
    cdef public bytes authority, target, raw_path, query, upgrade, protocol, before, after, tail
    cdef public list kept, trailers
    cdef public Fields block
    cdef public long long length, drop
    cdef public bint expect
    cdef begin(self, str method, str scheme, bytes authority, bytes target, list headers, str version, long long length)
    @cython.locals(block=Fields)
    cpdef list listed(self)
    cpdef get(self, bytes name)

@cython.freelist(64)
cdef class Response:
    cdef public int status
    cdef public list kept, trailers
    cdef public Fields block
    cdef public long long length, drop
    cdef public bytes reason, upgrade, before, after, tail
    cdef public str version
    cdef begin(self, int status, list headers, long long length, bytes reason, str version)
    @cython.locals(block=Fields)
    cpdef list listed(self)
    cpdef get(self, bytes name)

cdef class Common:
    cdef public bytes server, date, lines, date_line, server_line
    cpdef refresh(self)
    cpdef set(self, bytes date)

cpdef find(list headers, bytes name)
cpdef bytes reason(int status)
