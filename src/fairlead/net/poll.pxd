cimport cython

from fairlead.core.journey cimport Clock
from fairlead.core.message cimport Common
from fairlead.net.timers cimport Timed, Wheel
from fairlead.wire cimport _fast

cdef class Watcher(Timed):
    cpdef ready(self, unsigned int events)

cdef class Poller(Clock):
    cdef public object loop, timer
    cdef public Common common
    cdef public dict watchers
    cdef public list later
    cdef list by_fd
    cdef public bint in_turn, scheduled, closed
    cdef public long long turns, longest, woken, last_woken, dated
    cdef public Wheel wheel
    cdef _fast.Epoll epoll

    cpdef watch(self, int fd, Watcher watcher, unsigned int events)
    cpdef change(self, int fd, unsigned int events)
    cpdef unwatch(self, int fd)
    cpdef soon(self, callback)
    @cython.locals(now=cython.longlong, count=int, i=int, watcher=Watcher, by_fd=list)
    cpdef turn(self)
    @cython.locals(todo=list)
    cpdef run_later(self)
