cimport cython
from fairlead.core.connection cimport Connection
from fairlead.core.exchange cimport Answer, Exchange
from fairlead.core.handler cimport Handler
from fairlead.core.message cimport Request, Response
from fairlead.serve.blocking cimport Job, Lane

cdef class Wsgi(Handler):
    cdef public object target, pool, holding
    cdef public Lane lane
    cdef public str name, strip
    cdef public dict names, statuses, fields, base
    cdef public set calls
    cdef object last_local
    cdef str server_name, server_port

    @cython.locals(call=Call)
    cpdef open(self, Exchange exchange)
    @cython.locals(request=Request, env=dict, raw=bytes, path=str, name=str, text=str, key=bytes, value=bytes)
    cpdef dict environ(self, Exchange exchange)
    @cython.locals(conn=Connection)
    cdef ends(self, Exchange exchange, dict env)
    cdef str name_of(self, bytes key)
    cdef tuple status_of(self, object status)
    cdef bytes field_of(self, object name)

cdef class Call(Answer):
    cdef public Wsgi app
    cdef public Exchange exchange
    cdef public dict environ
    cdef public Response response
    cdef public object chunks, waiter
    cdef public long long held, started, pushed, taken, behind, left
    cdef public bint body_over, gone, complete, gathering, sent, out, bodiless
    cdef bytes held_by
    cdef public Work work

    cdef begin(self, Wsgi app, Exchange exchange)
    cdef submit(self)
    cpdef bint data(self, bytes chunk, bint end) except -1
    cpdef end(self, list trailers)
    cpdef reset(self, object why, str side)
    cpdef room(self)
    cpdef farewell(self)
    cdef wake(self)
    @cython.locals(exchange=Exchange)
    cdef hear(self, int word, object value)
    cdef hold(self)
    @cython.locals(exchange=Exchange, count=cython.longlong)
    cdef chunk(self, bytes value)
    cdef finished(self)
    @cython.locals(exchange=Exchange, conn=Connection)
    cdef broken(self, object error)
    cdef over(self)
    @cython.locals(response=Response, fields=list, field=bytes, code=int)
    cpdef start_response(self, object status, object headers, object exc_info=*)
    @cython.locals(count=cython.longlong)
    cdef push(self, bytes data)
    cpdef credit(self, long long count)
    cpdef expect(self)
    cdef run(self)
    @cython.locals(data=bytes)
    cdef answer(self, object result)
    cdef bint complete_already(self) except -1
    @cython.locals(count=cython.longlong, conn=Connection)
    cdef whole(self, bytes data)
    cdef last(self)

cdef class Work(Job):
    cdef public Call call
    @cython.locals(call=Call)
    cpdef run(self)
    @cython.locals(call=Call)
    cpdef hear(self, int word, object value)

cdef bytes block_of(object data)
cdef long long length_of(str value) except -2
