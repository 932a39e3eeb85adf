cimport cython
from fairlead.core.connection cimport Connection
from fairlead.core.exchange cimport Exchange
from fairlead.core.handler cimport Handler
from fairlead.core.journey cimport Clock, Journey
from fairlead.core.message cimport Request, Response
from fairlead.net.poll cimport Watcher
from fairlead.net.timers cimport Wheel
from fairlead.serve.app cimport App, tls_of, wake
from fairlead.serve.done cimport is_disconnect
from fairlead.serve.waiter cimport Waiter
from fairlead.wire.ws cimport Ear, WebSocket

cdef class WebSockets(Handler):
    cdef public App app
    cdef public object limits, deflate, shared, origins
    cdef dict base
    cpdef bint wants(self, Exchange exchange) except -1
    @cython.locals(socket=Socket, app=App)
    cpdef open(self, Exchange exchange)
    @cython.locals(app=App, request=Request, conn=Connection, scope=dict)
    cdef dict scope(self, Exchange exchange)

cdef class Timer(Watcher):
    cdef Socket socket
    cdef Wheel wheel
    cpdef stop(self)

cdef class Socket(Ear):
    cdef public WebSockets home
    cdef public App app
    cdef public Exchange exchange
    cdef public object task
    cdef public WebSocket ws
    cdef Clock clock
    cdef Timer timer
    cdef Response denial
    cdef list early, waiters, senders
    cdef dict event, disconnect
    cdef object events
    cdef public int state
    cdef long long queued, most
    cdef bint connected, full, choked, ended, begun, gone

    cdef begin(self, WebSockets home, Exchange exchange)
    @cython.locals(ws=WebSocket)
    cpdef bint data(self, bytes chunk, bint end) except -1
    cpdef end(self, list trailers)
    cpdef reset(self, object why, str side)
    cpdef room(self)
    cpdef farewell(self)
    cpdef tick(self, long long now)
    cpdef bint text(self, str message) except -1
    cpdef bint binary(self, bytes message) except -1
    @cython.locals(waiter=Waiter)
    cdef bint received(self, dict event, Py_ssize_t size) except -1
    @cython.locals(waiter=Waiter, waiters=list)
    cpdef closed(self, int code, str reason)
    @cython.locals(ws=WebSocket, chunks=list, exchange=Exchange)
    cdef say(self)
    @cython.locals(ws=WebSocket, journey=Journey)
    cdef over(self)
    cdef let_go(self)
    @cython.locals(waiter=Waiter)
    cdef Waiter waiter(self)
    @cython.locals(event=dict, ws=WebSocket)
    cdef dict next_event(self)
    cdef go_on(self)
    @cython.locals(said=dict)
    cpdef send(self, object message)
    @cython.locals(ws=WebSocket, room=cython.bint, chunk=bytes)
    cdef object message(self, dict said)
    @cython.locals(exchange=Exchange, request=Request)
    cdef accept(self, dict said)
    cdef close(self, dict said)
    cdef finish(self, int code, str reason)
    cdef hold(self, dict said)
    cdef deny(self, dict said)
    cdef object denial_body(self, dict said)
    cdef object misplaced(self, object kind)
    @cython.locals(timer=Timer, due=cython.longlong)
    cdef arm(self)
    cdef stop_timer(self)
    cdef failed(self, object error)
    cdef returned(self)
    cdef broken(self, object error, str words)

@cython.locals(body=object)
cdef Py_ssize_t size_of(dict event) except -1
