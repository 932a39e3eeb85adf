cimport cython
from fairlead.core.region cimport Region
from fairlead.wire cimport _fast

cdef Py_ssize_t RECORD, BATCH
cdef long long MOST

@cython.locals(size=Py_ssize_t, taken=Py_ssize_t, chunk=bytes, first=bytes)
cpdef bytes next_batch(list plain)
@cython.locals(sent=cython.longlong, data=bytes)
cpdef long long send_some(int fd, Region region) except? -1
@cython.locals(chunk=bytes, gone=Py_ssize_t)
cpdef Py_ssize_t drop(list out, Py_ssize_t sent) except -1
@cython.locals(info=tuple)
cpdef tuple said_by_kernel(int fd, tuple before)
cpdef bytes whole_answer(error)
