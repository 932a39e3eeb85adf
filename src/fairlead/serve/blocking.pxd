cimport cython
from fairlead.net.poll cimport Poller, Watcher

cdef class Job:
    cdef public long long queued, started
    cpdef run(self)
    cpdef hear(self, int word, object value)

cdef class Seat:
    cdef public object lock

cdef class Lane(Watcher):
    cdef public str name
    cdef public long long most, room, threads, busy, jobs, waited, longest, refused, first, pace
    cdef public Poller poller
    cdef public object lock, todo, done, ours, theirs
    cdef public list idle
    cdef public set all
    cdef public bint coming, called, looking, closed
    cdef public int ours_fd, theirs_fd

    @cython.locals(seat=Seat, fresh=cython.bint)
    cpdef bint put(self, Job job) except -1
    @cython.locals(seat=Seat)
    cpdef more(self)
    @cython.locals(seat=Seat, started=cython.longlong, ended=cython.longlong, came=cython.bint, job=Job)
    cpdef work(self)
    @cython.locals(other=Seat, fresh=cython.bint, full=cython.bint, job=Job, now=cython.longlong)
    cdef Job take(self, Seat seat, bint came)
    cdef finish(self, long long now, long long took)
    cdef bint retire(self, Seat seat) except -1
    cpdef say(self, Job job, int word, object value, bint now)
    cpdef call(self)
    @cython.locals(job=Job)
    cpdef tell(self)

cdef class Call(Job):
    cdef public object future, function, arguments, options
