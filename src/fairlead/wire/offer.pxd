cimport cython

cdef class Hello:
    cdef public str name
    cdef public long long age
    cdef public bint early
    cdef public bytes session, suites, compressions, signatures, versions, modes, identity, binder, parameters
    cdef public list protocols, shares
    cdef public Py_ssize_t binders

cpdef Hello read(bytes message)
@cython.locals(at=Py_ssize_t)
cpdef bint has(bytes numbers, long wanted) except -1
cdef long two(bytes message, Py_ssize_t at) except -1
@cython.locals(end=Py_ssize_t, at=Py_ssize_t, size=Py_ssize_t, after=Py_ssize_t, kind=long, seen=set)
cdef bint walk(Hello hello, bytes message) except -1
@cython.locals(size=Py_ssize_t)
cdef bint extension(Hello hello, long kind, bytes message, Py_ssize_t at, Py_ssize_t end) except -1
@cython.locals(after=Py_ssize_t)
cdef bint protocols(Hello hello, bytes message, Py_ssize_t at, Py_ssize_t end) except -1
@cython.locals(after=Py_ssize_t)
cdef bint shares(Hello hello, bytes message, Py_ssize_t at, Py_ssize_t end) except -1
@cython.locals(size=Py_ssize_t, length=Py_ssize_t, binders=Py_ssize_t)
cdef bint ticket(Hello hello, bytes message, Py_ssize_t at, Py_ssize_t end) except -1
