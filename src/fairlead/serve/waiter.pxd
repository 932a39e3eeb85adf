cimport cython

cdef dict _running

@cython.freelist(64)
cdef class Waiter:
    cdef object loop, callback, context
    cdef public bint _asyncio_future_blocking
    cdef bint over, cancelled, asked
    cpdef begin(self, object loop)
    cpdef wake(self)
    cdef run(self, bint later)
