"""One `Channel` is one TLS connection on the libssl that Python's own `ssl` module has loaded."""

cdef struct Wire:
    const char* feed            # the caller's ciphertext of the call that runs now
    Py_ssize_t left             # bytes of it that OpenSSL has not read yet
    char* place                 # where ciphertext of a write goes first: inside a bytes object, NULL outside `write`
    Py_ssize_t room
    Py_ssize_t used

cdef class Session

cdef class Channel:
    cdef void* ssl              # borrowed from `owner`, which frees it
    cdef void* bio              # belongs to `ssl` once it is set
    cdef Wire wire
    cdef public object owner    # the _ssl._SSLSocket; never used for reading or writing
    cdef bytes _out
    cdef list _more
    cdef public bint done, closed, broken, said_bye
    cdef int handshake(self) except -1
    cdef int fail(self, int code) except -1
    cdef int keep(self, bytes piece) except -1
    cdef int spill(self) except -1
    cpdef bytes feed(self, bytes data)
    cpdef int write(self, bytes data) except -1
    cpdef bytes take(self)
    cpdef bye(self)
    cpdef free(self)
    cpdef long verify_result(self)
    cpdef Session session(self)

cdef class Session:
    cdef void* session
