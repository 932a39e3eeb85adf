cimport cython
from fairlead.core.codec cimport Cast, Codec
from fairlead.core.exchange cimport Answer, Channel, Exchange, Stage
from fairlead.core.handler cimport Admission, Handler, Service
from fairlead.core.journey cimport Clock, Journey
from fairlead.core.message cimport Request, Response
from fairlead.core.region cimport Region

cdef class Carrier:
    cdef public bint blocked, regions
    cpdef touch(self)
    cpdef close(self, object why)
    cpdef abort(self, object why)
    cpdef int post(self, bytes data) except -1
    cpdef rearm(self)
    cpdef ask_kernel(self, Journey journey)

cdef class Owner:
    cpdef released(self, Connection conn)
    cpdef gone(self, Connection conn, object why)

cdef class Connection(Channel):
    cdef public Service service
    cdef public Clock clock
    cdef public Carrier carrier
    cdef public Codec codec
    cdef public Owner owner
    cdef public object peer, local, tls, target
    cdef public str scheme
    cdef public bint client, in_feed, draining, closed, linger, waiting, told
    cdef public Exchange current, recent
    cdef public dict exchanges, scene
    cdef public object scene_of
    cdef public list held, ending
    cdef public object ruled
    cdef public long long requests
    cdef public long long opened, connected, accepted, secured, last_seen
    cdef public long long woken, arrived, loop_ns, read_ns, read_done, decrypt_ns, decrypted, mark
    cdef public long long said_now, blocked_since, unsent, outgoing, request_limit, telling
    cdef public int arrived_quality

    @cython.locals(j=Journey)
    cpdef reading(self, long long woken, long long arrived, int quality, long long start, long long done, Py_ssize_t count)
    cpdef decrypting(self, long long start, long long done)
    cpdef handshaken(self, long long read, long long done)
    cpdef receive(self, bytes data, long long now)
    cpdef receive_eof(self, long long now)
    @cython.locals(due=cython.longlong, ex=Exchange)
    cpdef long long deadline(self)
    @cython.locals(ex=Exchange)
    cpdef tick(self, long long now)
    @cython.locals(ex=Exchange, j=Journey)
    cpdef flushed(self, long long begin, long long encrypted, long long sent)
    cpdef waited(self, long long spent)
    @cython.locals(ex=Exchange, held=list)
    cpdef drained(self, long long now)
    @cython.locals(ex=Exchange)
    cdef unblocked(self, long long now)
    cpdef gone(self, object why)

    @cython.locals(ex=Exchange, j=Journey, now=cython.longlong, service=Service, entered=cython.int)
    cpdef head(self, long long stream, object message, bint end)
    @cython.locals(ex=Exchange, answer=Answer)
    cpdef at_once(self, long long stream, object message, bytes body)
    @cython.locals(ex=Exchange, answer=Answer, count=Py_ssize_t, j=Journey, took=cython.bint)
    cpdef data(self, long long stream, bytes chunk, bint end)
    @cython.locals(ex=Exchange, j=Journey, now=cython.longlong)
    cpdef refused(self, long long stream, object why)
    @cython.locals(ex=Exchange, answer=Answer)
    cpdef end(self, long long stream, list trailers)
    @cython.locals(ex=Exchange, answer=Answer)
    cpdef room(self, long long stream)

    @cython.locals(now=cython.longlong, codec=Codec, j=Journey)
    cpdef say_head(self, Exchange ex, object message, bint end)
    @cython.locals(now=cython.longlong, codec=Codec, j=Journey, whole=cython.bint)
    cpdef say_whole(self, Exchange ex, object message, bytes body)
    @cython.locals(room=cython.bint, codec=Codec)
    cpdef bint say_data(self, Exchange ex, bytes chunk, bint end) except -1
    @cython.locals(codec=Codec, count=cython.longlong)
    cpdef int say_region(self, Exchange ex, Region region, bint end) except -1
    @cython.locals(codec=Codec, framed=bytes, begin=cython.longlong, posted=cython.int, j=Journey)
    cpdef bint say_cast(self, Exchange ex, Cast cast) except -1
    @cython.locals(stage=Stage, room=cython.bint)
    cdef bint staged(self, Exchange ex, bytes chunk, bint end) except -1
    @cython.locals(new=Exchange)
    cpdef hand_over(self, Exchange ex, Handler handler)
    @cython.locals(stage=Stage)
    cpdef say_end(self, Exchange ex, list trailers)
    cpdef admitted(self, Exchange ex)
    cpdef bint begin(self, Exchange ex) except -1
    @cython.locals(stream=cython.longlong, ex=Exchange)
    cpdef Exchange open_leg(self, Request request, Journey journey)
    cpdef drain(self)
    @cython.locals(ex=Exchange)
    cpdef farewell(self)
    cpdef bint idle(self)
    @cython.locals(ex=Exchange)
    cpdef Exchange find(self, long long stream)
    cpdef list open_exchanges(self)

    cdef forget_reads(self)
    cdef stamp(self, Journey j, long long now)
    cdef ended(self, Exchange ex)
    @cython.locals(j=Journey, service=Service)
    cdef done(self, Exchange ex, long long now)
    @cython.locals(service=Service)
    cdef release(self, Exchange ex)
    cpdef drop(self, Exchange ex, object why)
    @cython.locals(ex=Exchange, answer=Answer)
    cdef leg_head(self, long long stream, object message, bint end, long long now)
    cdef leg_over(self, Exchange ex)
    @cython.locals(ex=Exchange, ending=list, codec=Codec, shared=cython.bint, j=Journey)
    cdef flushed_many(self, long long begin, long long encrypted, long long sent)
    @cython.locals(j=Journey, peer=cython.longlong, ours=cython.longlong)
    cdef note_waits(self, Exchange ex)
    @cython.locals(answer=Answer)
    cdef tell_reset(self, Exchange ex, object why, str side)
    cdef overloaded(self, Exchange ex)
    cdef overdue(self, Exchange ex)
    cpdef raised(self, Exchange ex, object error)
    @cython.locals(codec=Codec, ex=Exchange)
    cpdef broken(self, object error)
    cdef Exchange unparsed(self, object error)
