cimport cython
from fairlead.core.exchange cimport Answer

cdef extern from "Python.h":
    Py_ssize_t references_to "Py_REFCNT" (object thing) noexcept

cdef bint COMPILED
cdef int WAITS, ENDS
cdef dict CURRENT

cdef class Work(Answer):
    cdef public Runner runner
    cpdef call(self)
    cpdef returned(self)
    cpdef failed(self, object error)
    cpdef stopped(self)
    cpdef over(self)

cdef class Runners:
    cdef public object loop, factory
    cdef public str name
    cdef public list resting
    @cython.locals(runner=Runner)
    cpdef start(self, Work work, bint now)

cdef class Place:
    cdef public object loop, wakeup, context, enter, message
    cdef public bint yielded, cancelled, _asyncio_future_blocking

cdef class Runner:
    cdef public Runners runners
    cdef public Place place
    cdef public Work work
    cdef public object loop, task, clean, pending, cancelling, name_of, inner, step
    cdef public int left
    cdef public bint quiet
    cdef public Py_ssize_t references, weak
    cdef made(self, object task)
    @cython.locals(references=Py_ssize_t)
    cdef bint as_new(self) except -1
    @cython.locals(place=Place)
    cdef bint go(self, Work work) except -1
    cpdef wake(self, Work work)
    cdef rouse(self, object wakeup)
    @cython.locals(left=cython.int)
    cpdef send(self, object value)
    @cython.locals(left=cython.int)
    cpdef throw(self, object kind, object value=*, object trace=*)
    cpdef close(self)
    cdef forget(self)
