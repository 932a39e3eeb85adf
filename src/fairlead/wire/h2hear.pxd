cimport cython
from fairlead.core.message cimport Common, Request, Response
from fairlead.wire cimport _fast
from fairlead.wire.h2head cimport Given, request_of, response_of, trailers_of
from fairlead.wire.h2limits cimport Guard
from fairlead.wire.h2stream cimport Stream, priority_of
from fairlead.wire.h2windows cimport Windows
from fairlead.wire.hpack cimport Decoder, Encoder

cdef bytes PREFACE
cdef int _DATA, _HEADERS, _PRIORITY, _RST, _SETTINGS, _PUSH, _PING, _GOAWAY, _UPDATE, _CONTINUATION, _PRIORITY_UPDATE
cdef int _END_STREAM, _ACK, _END_HEADERS, _PADDED, _HAS_PRIORITY, _GRAVES
cdef int _RESETS, _SETTINGS_BUCKET, _PINGS, _EMPTIES, _UPDATES, _PRIORITIES
cdef long long _MAX_WINDOW, _SECOND

cdef class Hearing(Windows):
    cdef public Common common
    cdef public str scheme
    cdef bytes buffer
    cdef readonly Decoder decoder
    cdef readonly Encoder encoder
    cdef Given given
    cdef dict graves, priorities
    cdef bytearray block
    cdef long long block_stream, block_frames, block_began
    cdef int block_flags
    cdef long long last, next_stream
    cdef readonly long long peer_streams, peer_frame
    cdef readonly bint connect_protocol, greeted, settled
    cdef long long max_head, max_streams, max_body, outgoing
    cdef long long begun, idle_since, check_at

    @cython.locals(at=Py_ssize_t, end=Py_ssize_t)
    cpdef feed(self, bytes data, long long now, long long stream=*, bint fin=*)
    @cython.locals(size=Py_ssize_t)
    cdef Py_ssize_t greeting(self, bytes data, Py_ssize_t end) except -1
    @cython.locals(size=Py_ssize_t, kind=cython.int, flags=cython.int, stream=cython.longlong)
    cdef Py_ssize_t frames(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t end) except -1
    cdef hear_other(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t size, int kind, int flags, long long stream)
    @cython.locals(end=Py_ssize_t, own=cython.bint)
    cdef hear_headers(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t size, int flags, long long stream)
    @cython.locals(block=bytearray, whole=bytes)
    cdef hear_continuation(self, bytes data, Py_ssize_t at, Py_ssize_t size, int flags)
    @cython.locals(decoder=Decoder, fields=list, st=Stream, last=cython.bint, rule=str)
    cdef whole_block(self, bytes data, Py_ssize_t at, Py_ssize_t end, int flags, long long stream)
    @cython.locals(decoder=Decoder)
    cdef hear_request(self, list fields, long long stream, bint last, int flags)
    @cython.locals(st=Stream, field=tuple)
    cdef open_request(self, Request message, long long stream, bint last)
    cdef refuse_stream(self, long long stream, str rule)
    @cython.locals(stream=cython.longlong)
    cdef hear_response(self, Stream st, list fields, bint last)
    @cython.locals(stream=cython.longlong)
    cdef hear_trailers(self, Stream st, list fields, bint last)
    @cython.locals(count=Py_ssize_t, last=cython.bint, st=Stream)
    cdef hear_data(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t size, int flags, long long stream)
    @cython.locals(stream=cython.longlong)
    cdef give(self, Stream st, bytes chunk, Py_ssize_t count, bint last)
    @cython.locals(st=Stream)
    cdef hear_reset(self, long long stream, long long code)
    @cython.locals(st=Stream)
    cdef hear_update(self, long long stream, long long count)
    @cython.locals(end=Py_ssize_t, value=cython.longlong, first=cython.bint)
    cdef hear_settings(self, const unsigned char* v, Py_ssize_t at, Py_ssize_t size, int flags, long long stream)
    cdef hear_setting(self, long long name, long long value)
    cdef hear_ping(self, bytes data, Py_ssize_t at, Py_ssize_t size, int flags, long long stream)
    cdef hear_pong(self, bytes payload)
    @cython.locals(last=cython.longlong, st=Stream)
    cdef hear_goaway(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t size, long long stream)
    @cython.locals(st=Stream, rule=str)
    cdef hear_priority(self, const unsigned char* v, Py_ssize_t at, Py_ssize_t size, long long stream)
    @cython.locals(about=cython.longlong, value=bytes, st=Stream)
    cdef hear_priority_update(self, bytes data, const unsigned char* v, Py_ssize_t at, Py_ssize_t size, long long stream)
    cdef hear_unknown(self, long long stream)
    cdef bint is_idle(self, long long stream)
    cdef half_over(self, Stream st)
    cdef remove(self, Stream st)
    cdef entomb(self, long long stream)
    @cython.locals(stream=cython.longlong)
    cdef bury(self, Stream st, str rule)
    cdef over(self)
    cdef look(self)
    @cython.locals(st=Stream)
    cpdef eof(self, long long now, long long stream=*)
    cdef check_by(self, long long at)
    @cython.locals(due=cython.longlong)
    cpdef long long deadline(self)
    cpdef tick(self, long long now)
    @cython.locals(st=Stream, due=cython.longlong)
    cdef check_streams(self, long long now)
    @cython.locals(due=cython.longlong, slow=cython.longlong)
    cdef long long due_of(self, Stream st) except -1
    cdef str slow_rule(self, Stream st, long long now)
    cdef bint may_open(self)
    cdef tell_room(self)
