cimport cython
from fairlead.core.exchange cimport Exchange
from fairlead.core.histogram cimport bucket
from fairlead.core.journey cimport Journey
from fairlead.core.lines cimport Lines
from fairlead.core.message cimport Request, Response
from fairlead.core.recordwrite cimport Writer

cdef bint COMPILED

cdef class Known:
    cdef public bytes peer
    cdef public long long last

cdef class Recorder(Writer):
    cdef long long[19] took
    cdef long long[8] timers
    cdef public Lines log
    cdef public object poller, timer, flush_timer, last_route
    cdef public double flush_after
    cdef public list admissions, routes, route_names, slow_list
    cdef public dict known, causes
    cdef public set open
    cdef public bint flushing, closed_down
    cdef public object on_slow
    cdef public long long slow_floor, slow_after, number, due, lag_now, lag_before, ticks
    cdef public Py_ssize_t last_found, fresh
    cdef Py_ssize_t ring_at, ring_size, histograms_at, route_cells_at, route_totals_at
    cdef Py_ssize_t slot_requests, slot_class, slot_in, slot_out, slot_unstamped, slot_clamped, slot_process, slot_total
    cdef Py_ssize_t slot_tls, slot_first, slot_retries, slot_looked, slot_window, slot_sndbuf, slot_again

    @cython.locals(j=Journey, known=Known, response=Response, status=cython.int, end=bytes, peer=bytes, found=Py_ssize_t, keep=Py_ssize_t)
    cpdef done(self, Exchange exchange)
    @cython.locals(start=cython.longlong, end=cython.longlong, own=cython.longlong)
    cdef measure(self, Journey j)
    @cython.locals(kind=cython.int, number=Py_ssize_t, at=Py_ssize_t, cells="long long*")
    cdef count(self, Journey j, int status, Py_ssize_t found, bint tunnel)
    @cython.locals(base=Py_ssize_t, i=Py_ssize_t, took=cython.longlong, place=Py_ssize_t, cells="long long*")
    cdef fold(self, Py_ssize_t at, Py_ssize_t number, bint tunnel)
    @cython.locals(found=Py_ssize_t, i=Py_ssize_t)
    cdef Py_ssize_t find_route(self, object route) except -2
    @cython.locals(cells="long long*")
    cpdef add_net(self, tuple net)
    @cython.locals(start=cython.longlong, before=cython.longlong, head=cython.longlong, route=bytes, found=Py_ssize_t, request=Request, method=bytes, version=bytes, log=Lines)
    cdef line(self, Exchange exchange, Journey j, int status, Known known, bytes peer, bytes end)
    cpdef arm(self)
    @cython.locals(at=Py_ssize_t)
    cpdef count_lag(self, long long late)
    cpdef flush(self)
    cpdef keep_slow(self, Exchange exchange, Journey j, long long status, Py_ssize_t found, bytes peer, bytes end)
    cpdef opened(self, object conn)
    cpdef closed(self, object conn, object why)
    cdef Known meet(self, object conn)
    cpdef broke(self, Exchange exchange, object error)
    cpdef bytes cause(self, Exchange exchange)
    cpdef add_total(self, str name, long long count)
