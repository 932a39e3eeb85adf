cimport cython

from fairlead.core.codec cimport Codec
from fairlead.core.connection cimport Connection
from fairlead.core.journey cimport Journey
from fairlead.core.region cimport Region
from fairlead.net.pieces cimport drop, next_batch, said_by_kernel, send_some, whole_answer
from fairlead.net.poll cimport Poller, Watcher
from fairlead.net.tls cimport Engine
from fairlead.wire cimport _fast

cdef unsigned int IN, OUT, ERR, HUP, RDHUP, EDGE
cdef int EXACT, AT_LEAST, AT_MOST, UNKNOWN
cdef long long SHORT_TURN
cdef Py_ssize_t SMALL_READ, LARGE_READ, HELD

cdef class Tcp(Watcher):
    cdef public Poller poller
    cdef public int fd
    cdef public Connection conn
    cdef public Codec codec
    cdef public object limits, make_codec, on_close, why
    cdef public Engine engine
    cdef public list out, plain
    cdef tuple looked
    cdef public Py_ssize_t start_at, read_size
    cdef public unsigned int mask
    cdef public bint unasked, shut, eof, closing, closed, lingering, settling, secured, owed, resuming
    cdef public long long drop_after, until, reads, held_at, owing

    cpdef start(self, Codec codec, engine=*, make_codec=*)
    cpdef use(self, Codec codec)
    cdef bint hold(self) except -1
    @cython.locals(poller=Poller, woken=cython.longlong, arrived=cython.longlong, stamp=cython.longlong, now=cython.longlong, quality=int, data=bytes, count=Py_ssize_t)
    cdef readable(self, long long start, unsigned int events)
    @cython.locals(codec=Codec)
    cdef bint quiet(self) except -1
    cdef noticed(self, unsigned int events)
    cdef ended(self, long long now)
    @cython.locals(now=cython.longlong)
    cdef writable(self)
    @cython.locals(done=cython.longlong, engine=Engine, plain=bytes)
    cdef bytes decrypt(self, bytes data, long long now)
    @cython.locals(done=cython.longlong, engine=Engine, plain=bytes)
    cdef bytes handshake(self, bytes data, long long now)
    cdef broke_tls(self, error)
    cdef refuse_plain(self, error)
    cdef send_records(self)
    @cython.locals(codec=Codec, wanted="unsigned int", rounds=int)
    cpdef settle(self)
    cdef resume_later(self)
    cpdef resume(self)
    cpdef int post(self, bytes data) except -1
    cpdef settle_later(self)
    @cython.locals(chunks=list, begin=cython.longlong, encrypted=cython.longlong)
    cdef flush(self)
    cdef long long encrypt_out(self) except -1
    @cython.locals(out=list, sent=Py_ssize_t, chunk=bytes)
    cdef bint send_out(self) except -1
    @cython.locals(region=Region)
    cdef bint send_region(self) except -1
    cdef advance(self, Py_ssize_t sent)
    cdef progress(self)
    cdef block(self)
    cdef watch_for(self, unsigned int wanted)
    @cython.locals(at=cython.longlong, due=cython.longlong, codec=Codec, conn=Connection)
    cdef arm(self)
    cdef overdue(self)
    cdef finish(self)
    cdef bye(self)
    cdef half_close(self)
    cdef linger(self)
    cpdef lost(self, why)
    @cython.locals(found=tuple)
    cpdef ask_kernel(self, Journey journey)
    cpdef detach(self)
