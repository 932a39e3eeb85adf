cimport cython
from fairlead.core.handler cimport Handler
from fairlead.net.timers cimport Timed
from fairlead.serve.grpccontext cimport Context
from fairlead.serve.grpcmethods cimport Method
from fairlead.serve.runner cimport Runners

cdef class Form:
    cdef public bint unframed
    cdef public bytes path
    cdef dict __dict__
    cpdef bytes feed(self, bytes data)
    cpdef bytes over(self)
    cpdef decode(self, Method method, bytes payload)
    cpdef bytes encode(self, Method method, object value)
    cpdef head(self, Context call, list fields)
    cpdef bytes frame(self, bytes payload, bint packed)
    cpdef finish(self, Context call, int code, list trailers)

cdef class Home(Handler):
    cdef public object loop
    cdef public str name
    cdef public Runners runners
    cdef public long long most, most_sent, active
    cpdef in_thread(self, Context call)
    cpdef intercepted(self, Context call)

cdef class Timer(Timed):
    cdef Context call
    cdef object poller, handle
    @cython.locals(call=Context, left=cython.longlong)
    cpdef due(self, long long now)
    cpdef stop(self)
