cimport cython

cdef bint COMPILED

cdef class Clock:
    cpdef long long now(self)

cdef class Journey:
    # points, CLOCK_MONOTONIC ns
    cdef public long long connected, accepted, secured, arrived, woken, read, decrypted, parsed, body_end, queued, routed
    cdef public long long started, picked, dialed, leg_sent, leg_head, leg_end, answered, finished, encoded, encrypted
    cdef public long long sent, acked, done
    # spends, ns
    cdef public long long spent_loop, spent_read, spent_decrypt, spent_parse, spent_decode, spent_pool, spent_dial
    cdef public long long spent_encode, spent_encrypt, spent_send, spent_client
    cdef public long long bytes_in, bytes_out, messages_in, messages_out
    cdef public int arrived_quality, attempts
    cdef public bint shared
    cdef public list custom
    cdef public tuple net
    cdef public str end

    cpdef begin(self)
    cpdef add(self, name, long long start, long long duration)
    cpdef long long start_point(self)
    @cython.locals(start=cython.longlong, last=cython.longlong, took=cython.longlong)
    cpdef long long total(self)
    @cython.locals(end=cython.longlong, own=cython.longlong)
    cpdef long long process_time(self)
    @cython.locals(end=cython.longlong, took=cython.longlong)
    cpdef long long upstream_time(self)
    cpdef long long step_time(self, str name)
    cpdef int step_quality(self, str name)
    cpdef list steps(self)
    cpdef bytes server_timing(self)

cdef class Step:
    cdef public Journey journey
    cdef public object name
    cdef public long long start
