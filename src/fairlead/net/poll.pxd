cimport cython

from fairlead.core.journey cimport Clock
from fairlead.core.message cimport Common
from fairlead.net.timers cimport Timed, Wheel
from fairlead.wire cimport _fast

cdef long long _HOLD, _SECOND

cdef class Watcher(Timed):
    cpdef ready(self, unsigned int events)
    cpdef release(self)

cdef class Poller(Clock):
    cdef public object loop, timer
    cdef public Common common
    cdef public dict watchers
    cdef public list later, held
    cdef list by_fd
    cdef public bint in_turn, holding, several, scheduled, closed
    cdef public long long turns, longest, woken, last_woken, dated, step, stepped, first_held
    cdef public Wheel wheel
    cdef _fast.Epoll epoll

    cpdef watch(self, int fd, Watcher watcher, unsigned int events)
    cpdef change(self, int fd, unsigned int events)
    cpdef unwatch(self, int fd)
    cpdef soon(self, callback)
    @cython.locals(now=cython.longlong, count=int, i=int, watcher=Watcher, by_fd=list, several=cython.bint)
    cpdef turn(self)
    @cython.locals(now=cython.longlong)
    cdef long long hold(self, Watcher watcher) except -1
    @cython.locals(now=cython.longlong, holding=cython.bint)
    cdef after_step(self)
    @cython.locals(watcher=Watcher, held=list)
    cdef release(self)
    @cython.locals(todo=list)
    cpdef run_later(self)
