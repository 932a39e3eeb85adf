cimport cython

cdef class Candidate:
    cdef public str name
    cdef public long long weight, busy, ewma_at, current
    cdef public double ewma
    cdef public object seed
    cpdef learn(self, double latency, long long now)

cdef class Picker:
    cdef public object random
    cdef public long long turn
    cpdef Candidate pick(self, list candidates, bytes key, long long now)

cdef class RoundRobin(Picker):
    pass

cdef class Chance(Picker):
    pass

cdef class TwoChoices(Picker):
    pass

cdef class LeastRequests(Picker):
    pass

cdef class PeakEwma(Picker):
    pass

cdef class Hashed(Picker):
    pass

cdef class Maglev(Picker):
    cdef public tuple made_of
    cdef public list table

@cython.locals(best=Candidate, candidate=Candidate, total=cython.longlong)
cpdef Candidate smooth(list candidates)
@cython.locals(candidate=Candidate, total=cython.longlong, at=double)
cpdef Candidate weighted_draw(list candidates, double drawn)
cpdef double load(Candidate candidate) except -1
@cython.locals(a=Candidate, b=Candidate)
cpdef Candidate two_choices(list candidates, double one, double two)
@cython.locals(n=Py_ssize_t, start=Py_ssize_t, k=Py_ssize_t, best=Candidate, candidate=Candidate, least=double, has=double)
cpdef Candidate least_requests(list candidates, long long turn)
cpdef double expected(Candidate candidate, long long now) except -1
@cython.locals(a=Candidate, b=Candidate)
cpdef Candidate peak_ewma(list candidates, double one, double two, long long now)
@cython.locals(best=Candidate, candidate=Candidate, top=double, value=double)
cpdef Candidate rendezvous(list candidates, object hashed)
