cimport cython
from fairlead.core.message cimport Request, Response
from fairlead.wire cimport _fast
from fairlead.wire.h2head cimport Given, said_trailers, status_field
from fairlead.wire.h2stream cimport next_of, priority_of
from fairlead.wire.quicint cimport varint
from fairlead.wire.h3hear cimport Hearing
from fairlead.wire.h3stream cimport Stream
from fairlead.wire.qpack cimport Decoder

cdef long long _FRAME, _COPIED, _PACKET, _LEAST, _NO_ERROR, _INTERNAL, _CANCELLED, _DATAGRAMS, _DATAGRAM_BYTES

cdef class H3(Hearing):
    @cython.locals(chunks=list, decoder=Decoder)
    cpdef list take(self)
    @cython.locals(left=cython.longlong, run=cython.longlong, size=cython.longlong, st=Stream, before=Stream, mixed=cython.bint)
    cdef turns(self)
    @cython.locals(queue=list, chunk=bytes, size=cython.longlong, skip=cython.longlong, last=cython.bint, mixed=cython.bint)
    cdef long long one_frame(self, Stream st, long long most) except -1
    @cython.locals(stream=cython.longlong, out=bytearray)
    cdef put_data(self, Stream st, bytes chunk, long long size, bint end)
    cdef sent(self, Stream st)
    cpdef drained(self, long long now)
    @cython.locals(st=Stream)
    cpdef long long unsent(self, long long stream) except -1
    @cython.locals(st=Stream)
    cpdef head(self, long long stream, object message, bint end)
    @cython.locals(fields=list, given=Given)
    cdef head_of_response(self, Stream st, Response message, bint end)
    @cython.locals(stream=cython.longlong, st=Stream)
    cpdef long long open_stream(self)
    cpdef opened(self)
    @cython.locals(fields=list, given=Given)
    cdef head_of_request(self, Stream st, Request message, bint end)
    cdef say_continue(self, Stream st)
    @cython.locals(st=Stream, fields=list)
    cpdef inform(self, long long stream, int status, list headers)
    @cython.locals(st=Stream, size=Py_ssize_t)
    cpdef bint data(self, long long stream, bytes chunk, bint end) except -1
    cdef bint hold(self, Stream st, bytes chunk, Py_ssize_t size) except -1
    @cython.locals(st=Stream)
    cpdef end(self, long long stream, list trailers)
    cdef put_trailers(self, Stream st)
    cdef lied(self, Stream st)
    @cython.locals(st=Stream, code=cython.longlong)
    cpdef reset(self, long long stream, object why, str side)
    cpdef bint say_datagram(self, long long stream, bytes payload) except -1
    @cython.locals(found=list, size=cython.longlong, made=bytes)
    cpdef list messages(self, long long room, long long packet, long long around)
