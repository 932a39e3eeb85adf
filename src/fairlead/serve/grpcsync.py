"""A blocking servicer's call in a thread of the route's lane: the context of grpc.ServicerContext, and iterators that wait.

    loop:    Call ── messages ──▶ inbox ──▶ thread: behaviour(request or iterator, SyncContext)
             Call ◀── words ── lane.say ◀── thread: its messages, then how it ended

Rules
1. The thread decodes and encodes, and blocks; everything that is said to the client is said on the loop, by the words below.
2. A thread gets a method's one message with the job. For the messages of a stream it asks (PULL) and waits; the loop gives
   it all that are there.
3. A thread that sends waits while more than WINDOW bytes have not found room.
4. A call that is cancelled wakes its thread: the iterator ends with an exception, a `write` raises, `is_active()` is False.
   Nobody can stop a thread that does not look.
A ThreadCall is used by the loop and by one thread. `inbox` is a deque; `pushed` is the thread's, `taken` the loop's.
"""

# mypy: disable-error-code="union-attr,attr-defined,has-type,assignment,var-annotated"

from __future__ import annotations

import threading
from collections import deque

from fairlead.core.errors import WireError
from fairlead.serve.blocking import PATIENCE, Job
from fairlead.serve.done import Disconnected
from fairlead.serve.grpcmethods import Misused, grpc
from fairlead.wire.grpccoding import inflate
from fairlead.wire.grpcwords import say_metadata

WINDOW = 262144  # bytes said by the thread that the client has not made room for
PULL, HEAD, MESSAGE, REPLY, FINISH, FAILED, CANCEL = range(7)


class ThreadCall(Job):
    """One call in a thread."""

    def __init__(self, call, lane):
        self.call = call
        self.lane = lane
        self.method = call.method
        self.inbox = deque()
        self.payload = None if self.method.client_stream else call.reader.next()
        self.lock = threading.Condition() if self.method.client_stream or self.method.server_stream else None
        self.pushed = self.taken = 0
        self.over = False
        self.blocked = False
        self.begun = 0

    # ---- the thread

    def run(self):
        call = self.call
        self.begun = call.journey.queued = call.journey.started = self.started
        if call.gone or call.complete:
            self.say(FINISH, None)
            return
        try:
            request = self.messages() if self.method.client_stream else self.decoded(self.payload)
            self.payload = None
            result = self.method.behaviour(request, SyncContext(self))
            if self.method.server_stream:
                self.stream(result)
                self.say(FINISH, (max(call.status, 0), call.text))
            elif call.status > 0:
                self.say(FINISH, (call.status, call.text))
            else:
                self.say(REPLY, self.encoded(result), self.lane_waits())
        except BaseException as error:
            self.say(FAILED, error)

    def cancel(self):
        """The lane closes before a thread came."""
        self.hear(FINISH, (14, "the server ends"))

    def say(self, word, value, now=True):
        """A word to the loop."""
        self.lane.say(self, word, value, now)

    def lane_waits(self):
        """Has this job taken so long that its answer should not wait for others?"""
        return self.call.clock.now() - self.begun > PATIENCE

    def decoded(self, payload):
        """A message of the wire, decoded."""
        call = self.call
        clock = call.clock
        start = clock.now()
        method = self.method
        call.journey.messages_in += 1
        try:
            if type(payload) is not bytes:
                payload = inflate(call.coding, payload[0], call.home.most)
            if call.form is not None:
                value = call.form.decode(method, payload)
            else:
                value = method.decode(payload) if method.decode is not None else payload
        except WireError:
            raise
        except Exception as error:
            raise WireError(
                f"the request message could not be decoded: {type(error).__name__}", rule="grpc-message"
            ) from None
        call.journey.spent_decode += clock.now() - start
        return value

    def encoded(self, value):
        """A message for the wire."""
        call = self.call
        start = call.clock.now()
        method = self.method
        try:
            if call.form is not None:
                data = call.form.encode(method, value)
            else:
                data = method.encode(value) if method.encode is not None else value
            if type(data) is not bytes:
                raise TypeError(f"a message is bytes, not {type(data).__name__}")
        except Exception as error:
            raise Unsayable(f"the answer's message could not be encoded: {type(error).__name__}") from error
        call.journey.spent_encode += call.clock.now() - start
        return data

    def messages(self):
        """The request's messages, for the servicer."""
        while True:
            payload = self.next()
            if payload is None:
                return
            yield self.decoded(payload)

    def next(self):
        """The next message, None at the end. Waits; raises when the call is cancelled."""
        while not self.inbox:
            with self.lock:
                if self.over:
                    return None
                self.alive()
                self.blocked = True
            self.say(PULL, None)
            with self.lock:
                while self.blocked and not self.inbox and not self.over and not self.call.gone:
                    self.lock.wait()
        return self.inbox.popleft()

    def alive(self):
        """Raise when the client is gone, or the call over."""
        if self.call.gone or self.call.complete:
            raise Disconnected("the call was cancelled")

    def stream(self, values):
        """The answer's messages."""
        close = getattr(values, "close", None)
        try:
            for value in values:
                if self.call.aborted:
                    return
                self.alive()
                self.push(self.encoded(value))
        finally:
            if close is not None:
                close()

    def push(self, data):
        """Send a message; wait while the client does not take enough."""
        self.pushed += len(data) + 64
        self.say(MESSAGE, data)  # at once, for who knows when the next comes; the loop is woken once for many all the same
        if self.pushed - self.taken > WINDOW:
            with self.lock:
                while self.pushed - self.taken > WINDOW and not self.call.gone and not self.call.complete:
                    self.lock.wait()

    # ---- the loop

    def hear(self, word, value):
        call = self.call
        if word == MESSAGE:
            self.sent(len(value) + 64, call.complete or call.gone or call.send(value, call.clock.now()))
        elif word == PULL:
            self.give()
        elif word == HEAD:
            if not call.said and not call.complete and not call.gone:
                call.initial = value
                call.send_head()
        elif word == CANCEL:
            call.finish(1, "the call was cancelled by the server")
        else:
            self.last(word, value)

    def last(self, word, value):
        """How it ended."""
        call = self.call
        if word == REPLY:
            now = call.clock.now()
            if not call.complete and not call.gone:
                if not call.journey.answered and not call.said:
                    call.journey.answered = now
                if call.send(value, now) or not call.complete:
                    call.finish(0, call.text)
        elif word == FINISH:
            if value is not None:
                call.finish(*value)
        elif isinstance(value, WireError):
            call.refuse(value)
        elif isinstance(value, Unsayable):
            call.exchange.conn.service.observer.broke(call.exchange, value)
            call.finish(13, str(value))
        else:
            call.failed(value)
        call.threaded = False
        call.over()

    def sent(self, count, room):
        """A message was said."""
        call = self.call
        if not room and not call.complete and not call.gone:
            if call.writers is None:
                call.writers = []
            call.writers.append(Owed(self, count))
        else:
            self.credit(count)

    def credit(self, count):
        """The client made room."""
        if self.lock is None:
            return
        with self.lock:
            self.taken += count
            self.lock.notify()

    def give(self):
        """Pass on every message that is there; wait for the next when there is none."""
        call = self.call
        reader = call.reader
        found = False
        while reader.count:
            self.inbox.append(reader.next())
            found = True
        if call.exchange.withheld:
            call.exchange.room()
        if found or call.body_over or call.gone or call.complete:
            self.inform(call.body_over and not reader.count)
        else:
            call.waiter = self
            if call.exchange.request.expect:
                call.exchange.credit(0)

    def inform(self, over=False):
        """Wake the thread, if it waits."""
        with self.lock:
            self.over = self.over or over
            self.blocked = False
            self.lock.notify()

    def wake(self):
        """Something happened to the call (as a Waiter is woken)."""
        if self.lock is not None:
            self.give()


class Owed:
    """A message that found no room: woken when there is some."""

    def __init__(self, job, count):
        self.job = job
        self.count = count

    def wake(self):
        """There is room, or nobody to send to."""
        self.job.credit(self.count)


class Unsayable(Exception):
    """A message that the servicer gave could not be encoded."""


class SyncContext:
    """`grpc.ServicerContext` for a servicer in a thread; see serve.grpccontext for what the methods do."""

    def __init__(self, job):
        self.job = job
        self.call = job.call
        for name in ("invocation_metadata", "peer", "auth_context", "peer_identity_key", "peer_identities", "time_remaining",
                     "set_code", "set_details", "set_trailing_metadata", "trailing_metadata", "details", "set_compression",
                     "disable_next_message_compression"):  # fmt: skip
            setattr(self, name, getattr(self.call, name))

    def is_active(self):
        """Is somebody still waiting for the answer?"""
        return not self.call.gone and not self.call.complete

    def cancel(self):
        """End the call as cancelled."""
        self.job.say(CANCEL, None)

    def cancelled(self):
        """Was the call cancelled?"""
        return self.call.gone

    def add_callback(self, callback):
        """Have `callback()` called when the call is over; False when it is."""
        if not self.is_active():
            return False
        self.call.add_done_callback(lambda call: callback())
        return True

    def code(self):
        """The status as it was set, or None."""
        return self.call.given_code

    def abort(self, code, details):
        """End the call with a status that is not OK. Raises."""
        self.call.aborts(code, details, ())

    def abort_with_status(self, status):
        """End the call with a `grpc.Status`. Raises."""
        self.call.aborts(status.code, status.details, status.trailing_metadata)

    def send_initial_metadata(self, initial_metadata):
        """Send the answer's head, with these pairs."""
        if self.call.said:
            raise Misused("the initial metadata was sent already")
        self.job.say(HEAD, say_metadata(initial_metadata))

    @property
    def principal(self):
        """Who the client proved to be to a filter of the route, or None."""
        return self.call.principal

    @property
    def journey(self):
        """The call's journey."""
        return self.call.journey


if grpc is not None:
    grpc.ServicerContext.register(SyncContext)
