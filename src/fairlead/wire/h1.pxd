cimport cython
from fairlead.core.codec cimport Cast
from fairlead.core.message cimport Request, Response
from fairlead.core.region cimport Region
from fairlead.wire cimport _fast
from fairlead.wire.h1block cimport Block
from fairlead.wire.h1bytes cimport clean, clean_target, token
from fairlead.wire.h1hear cimport Hearing
from fairlead.wire.h1say cimport Given, last_chunk, status_line

cdef dict _METHOD_BYTES
cdef int _IDLE, _WAIT, _SAY_LENGTH, _SAY_CHUNKED, _SAY_UNTIL_CLOSE, _SWALLOW, _SAID, _SAY_TUNNEL
cdef int _HEAD, _LENGTH, _HEARD, _TUNNEL
cdef int _SMALL
cdef tuple _WITH_BODY
cdef str _GET
cdef long long _CONTENT_LENGTH, _SERVER, _DATED, _FRAMING

cdef class H1(Hearing):
    @cython.locals(out=list)
    cpdef list take(self)
    cpdef drained(self, long long now)
    cdef write(self, bytes chunk)
    cpdef head(self, long long stream, object message, bint end)
    cpdef bint whole(self, long long stream, object message, bytes body) except -1
    @cython.locals(status=cython.int, parts=list, tunnel=cython.bint, bodyless=cython.bint, keep=cython.bint,
                   length=cython.longlong, saying=cython.int, given=Given, entire=cython.bint)
    cdef bint say_response(self, Response message, bint end, bytes body) except -1
    cdef only_upgrade(self, int status)
    @cython.locals(method=bytes)
    cdef bytes other_method(self, str name)
    cdef bint plain(self, int status) except -1
    @cython.locals(keep=cython.bint, length=cython.longlong, known=cython.longlong, more=bytes, saying=cython.int, made=bytes, entire=cython.bint)
    cdef bint answer_block(self, Response message, Block block, bint end, bytes body) except -1
    cdef put_own(self, list parts, Given given, bint keep, bint switching)
    cdef open_tunnel(self)
    cpdef long long open_stream(self)
    @cython.locals(method=bytes, parts=list, length=cython.longlong, wanted=cython.longlong, given=Given)
    cdef say_request(self, Request message, bint end)
    @cython.locals(wanted=cython.longlong, shown=cython.longlong, more=bytes, made=bytes)
    cdef ask_block(self, bytes method, Request message, Block block, bint end)
    @cython.locals(parts=list)
    cpdef inform(self, long long stream, int status, list headers)
    @cython.locals(saying=cython.int, size=Py_ssize_t)
    cpdef bint data(self, long long stream, bytes chunk, bint end) except -1
    cpdef bint put_region(self, long long stream, Region region, bint end) except -1
    cpdef region_sent(self)
    cpdef bytes cast(self, long long stream, Cast cast)
    @cython.locals(saying=cython.int)
    cpdef end(self, long long stream, list trailers)
    cdef lied(self, str what)
    cdef said(self)
    cdef drop_rest(self)
    cdef go_on(self)
    cpdef consumed(self, long long stream, long long count)
    cpdef reset(self, long long stream, object why, str side)
    cpdef goaway(self, long long last)
    @cython.locals(parts=list)
    cpdef refuse(self, int status, list headers, bytes body)
