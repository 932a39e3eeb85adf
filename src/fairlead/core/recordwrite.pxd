cimport cython
from fairlead.core.exchange cimport Exchange
from fairlead.core.handler cimport Observer
from fairlead.core.journey cimport Journey
from fairlead.core.lines cimport copy_octets
from fairlead.core.message cimport Request
from fairlead.core.slab cimport Region

cdef extern from *:
    """
    /* the memory under a memoryview; whoever holds the pointer holds the view */
    static CYTHON_INLINE void* fl_memory(PyObject* view) { return PyMemoryView_GET_BUFFER(view)->buf; }
    """
    long long* words_of "fl_memory" (object view) noexcept
    unsigned char* octets_of "fl_memory" (object view) noexcept

cdef bint COMPILED

cdef class Writer(Observer):
    cdef public Region region
    cdef long long* cells
    cdef unsigned char* raw
    cdef public long long offset
    cdef public list route_numbers
    cdef public dict methods
    cdef str last_text, other_text
    cdef bytes last_bytes, other_bytes

    @cython.locals(request=Request, route=cython.longlong, flags=cython.longlong, quality=cython.longlong, attempts=cython.longlong, method=bytes, version=bytes, start=Py_ssize_t, text=Py_ssize_t, n_id=cython.longlong, n_method=cython.longlong, n_target=cython.longlong, n_host=cython.longlong, n_peer=cython.longlong, n_end=cython.longlong, n_version=cython.longlong, lengths=cython.longlong, custom=Py_ssize_t, check=cython.longlong, i=Py_ssize_t, cells="long long*", raw="unsigned char*")
    cdef write(self, Py_ssize_t at, Exchange exchange, Journey j, long long status, Py_ssize_t found, bytes peer, bytes end, long long number)
    @cython.locals(cells="long long*")
    cdef write_points(self, Py_ssize_t at, Journey j)
    cpdef Py_ssize_t write_custom(self, Py_ssize_t at, list custom) except -1
    @cython.locals(i=Py_ssize_t)
    cdef write_net(self, Py_ssize_t at, tuple net)
    cdef bytes known_bytes(self, str text)

@cython.locals(count=Py_ssize_t, i=Py_ssize_t)
cdef Py_ssize_t put(unsigned char* raw, Py_ssize_t at, bytes data, const unsigned char* d, Py_ssize_t most) except -1
