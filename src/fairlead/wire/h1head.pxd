cimport cython
from fairlead.core.message cimport Request, Response
from fairlead.wire cimport _fast
from fairlead.wire.h1block cimport Block
from fairlead.wire.h1bytes cimport good_host, number_at, same

cdef bytes _LOW
cdef bytes _VALUE
cdef bytes _TARGET
cdef bytes _KINDS
cdef list _NAMES
cdef long long _ODD, _one
cdef bytes _NUMBERS, _LENGTHS, _SPELLED
cdef Py_ssize_t _LARGEST, _REMEMBERED

cdef class Head:
    cdef public bint client, lenient_lf, lenient_fold
    cdef public long long max_line, max_head, max_fields, max_name, max_trailer
    cdef public list headers
    cdef public Block block, last
    cdef public bint begun, whole, trailing, chunked, close, keep, upgrading, expect, connecting, heading, last_close, last_keep, repeating
    cdef public long long size, length, last_length
    cdef public Py_ssize_t last_at, last_size
    cdef public int blank, minor, hosts, status, last_hosts
    cdef public bytes host, known_host, last_host, upgrade, target, reason
    cdef public str method

    cpdef start(self)
    cpdef trail(self)
    cdef fail(self, str rule)
    @cython.locals(block=Block)
    cdef unblock(self)
    cdef recall(self)
    cdef remember(self, bytes data, Py_ssize_t at, Py_ssize_t end)
    @cython.locals(first=Py_ssize_t, starts=Py_ssize_t, block=Block)
    cpdef Py_ssize_t read(self, bytes data, Py_ssize_t at, Py_ssize_t end) except -1
    cdef too_long(self, long long pending)
    cdef too_big(self, long long pending)
    cdef Py_ssize_t first_line(self, bytes data, Py_ssize_t at, Py_ssize_t end) except -1
    @cython.locals(low=cython.p_const_uchar, allowed=cython.p_const_uchar, start=Py_ssize_t, name_end=Py_ssize_t,
                   first=Py_ssize_t, last=Py_ssize_t)
    cdef Py_ssize_t request_line(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t end) except -1
    @cython.locals(part=bytes)
    cdef Py_ssize_t version(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t end, bint preface) except -2
    cdef Py_ssize_t line_end(self, const unsigned char* v, Py_ssize_t at, Py_ssize_t end) except -2
    @cython.locals(allowed=cython.p_const_uchar, start=Py_ssize_t, status=cython.int, i=Py_ssize_t, first=Py_ssize_t,
                   last=Py_ssize_t)
    cdef Py_ssize_t status_line(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t end) except -1
    @cython.locals(low=cython.p_const_uchar, kinds=cython.p_const_uchar, lengths=cython.p_const_uchar, spelled=cython.p_const_uchar, start=Py_ssize_t, size=Py_ssize_t,
                   first=Py_ssize_t, last=Py_ssize_t, slot=cython.int, block=Block, marks="unsigned short*", free=cython.int,
                   numbers=cython.p_const_uchar)
    cdef Py_ssize_t fields(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t end) except -1
    @cython.locals(headers=list, name=bytes)
    cdef keep_field(self, bytes data, Py_ssize_t start, Py_ssize_t colon, Py_ssize_t first, Py_ssize_t last, int slot)
    cdef Py_ssize_t odd_end(self, const unsigned char* v, Py_ssize_t at, Py_ssize_t end) except -2
    cdef Py_ssize_t odd_line(self, bytes data, Py_ssize_t at, Py_ssize_t end, Py_ssize_t size) except -2
    @cython.locals(first=Py_ssize_t, last=Py_ssize_t, name=bytes, value=bytes, more=bytes)
    cdef Py_ssize_t unfold(self, bytes data, Py_ssize_t at, Py_ssize_t end) except -2
    cdef note(self, int kind, bytes data, Py_ssize_t first, Py_ssize_t last)
    cdef note_rest(self, int kind, bytes value)
    cdef note_connection(self, bytes data, Py_ssize_t first, Py_ssize_t last)
    @cython.locals(target=bytes, host=bytes, message=Request)
    cpdef Request request(self, str scheme)
    cdef other_form(self, Request message)
    cpdef override(self, Request message, bytes authority)
    @cython.locals(status=cython.int, message=Response)
    cpdef Response response(self, bint to_head)

cdef str _method(bytes name)
