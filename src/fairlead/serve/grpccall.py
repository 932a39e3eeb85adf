"""One gRPC call: the Answer of its exchange, the work of its Task, and the context of its servicer, in one object.

    HEADERS -> Grpc.open -> Call      DATA -> messages -> the servicer      its messages -> DATA      its end -> trailers

Rules
1. A method that takes one message is called when that message and the end of the request are there; others begin at once.
   While a Runner rests the servicer's first part runs inside the read that brought the message (`serve.runner`): a
   unary call that has to wait for nothing makes no Task, and its answer leaves in the write that ends that read.
2. The answer's head leaves with the first message. A call that fails before it is one HEADERS frame ("Trailers-Only"). The end is
   said once: by the servicer's return, its exception (UNKNOWN, without its text, which may hold a secret), `abort`,
   the deadline (DEADLINE_EXCEEDED), or a rule that the client broke; whoever comes later says nothing.
3. A client that resets the stream, or goes, cancels the Task, as grpc.aio does. So does the deadline.
4. A wrong number of messages is UNIMPLEMENTED (statuscodes.md). The messages themselves are `serve.grpcflow`'s.
5. Decoding is in the servicer's time (core.journey, rule 6); ANSWERED is before the
   encoding of a single answer.
6. `form`, if it is not None, is another way to put a call into HTTP (gRPC-Web, JSON): `serve.grpcforms`.
"""

# mypy: disable-error-code="union-attr,attr-defined,has-type,assignment,var-annotated"

from __future__ import annotations

from fairlead.core.errors import WireError
from fairlead.core.message import Response
from fairlead.serve.done import Disconnected
from fairlead.serve.grpcflow import CONTENT, QUEUE, Flow, wake
from fairlead.serve.grpcmethods import Aborted, Misused, aio
from fairlead.wire.grpc import STATUS_OF, Reader
from fairlead.wire.grpcwords import say_message, status_name

STATUS = [(b"grpc-status", b"%d" % code) for code in range(17)]
FINE = [STATUS[0]]
FOR_CODING = {"grpc-coding": 13, "grpc-metadata": 13, "grpc-web-text": 13, "grpc-json": 3}


class Call(Flow):
    """See the module. `complete`: the end is said; `gone`: the call was cancelled; `body_over`: no more will be heard.
    `threaded`: the servicer runs in a thread, which says when it is done."""

    def begin(self, home, exchange):
        """In place of a constructor."""
        self.home = home
        self.exchange = exchange
        self.journey = exchange.journey
        self.clock = exchange.conn.clock
        self.method = None
        self.runner = None
        self.reader = Reader.__new__(Reader)
        self.reader.begin(home.most)
        self.body_over = exchange.heard_end
        self.coding = self.wanted = self.packing = "identity"
        self.accepted = None
        self.text = ""
        self.form = None
        self.incoming = None
        self.waiter = self.writers = None
        self.timer = None
        self.metadata = None
        self.auth = None
        self.given_code = self.given_trailing = self.trailing = self.initial = self.callbacks = None
        self.deadline = 0
        self.status = -1
        self.gone = self.complete = self.said = self.aborted = self.as_is = False
        self.full = self.running = self.begun = self.ended = self.chained = self.threaded = False
        home.active += 1

    # ---- the exchange speaks

    def data(self, chunk, end):
        """Body bytes; False: credited when the servicer took them."""
        if end:
            self.body_over = True
        if self.complete or self.gone:
            return True
        try:
            if self.form is not None:
                chunk = self.form.feed(chunk)
                if end:
                    chunk += self.form.over()
            self.reader.feed(chunk)
            if end:
                self.reader.end()
        except WireError as error:
            self.refuse(error)
            return True
        self.news()
        return self.reader.waiting <= QUEUE

    def end(self, trailers):
        self.body_over = True
        if self.complete or self.gone:
            return
        try:
            if self.form is not None:
                self.reader.feed(self.form.over())
            self.reader.end()
        except WireError as error:
            self.refuse(error)
            return
        self.news()

    def news(self):
        """Messages came, or the end did."""
        if self.waiter is not None:
            waiter = self.waiter
            self.waiter = None
            waiter.wake()
        elif not self.running and not self.chained:
            if self.reader.heard > 1:
                self.many()
            elif self.body_over:
                self.ready()

    def many(self):
        """More than one message for a method that takes one."""
        self.finish(12, "the method takes one message, and more came")

    def ready(self):
        """The one message of a method that takes one is there."""
        if not self.reader.heard:
            self.finish(12, "the method takes one message, and none came")
            return
        self.start(True)

    def start(self, now):
        """Have the servicer called."""
        self.running = True
        if not self.chained and self.method.kind == 1:
            self.home.in_thread(self)
        else:
            self.home.runners.start(self, now)

    def reset(self, why, side):
        if side == "read" and self.body_over:
            return
        self.cancel(why)

    def cancel(self, why):
        """The client does not want it any more."""
        if self.gone:
            return
        self.gone = True
        self.stop_task()
        self.terminated()
        if not self.running:
            self.over()

    def stop_task(self):
        """Cancel whoever works on it. A Task that did not begin with it yet will find that it need not."""
        if self.begun and self.runner is not None:
            task = self.runner.task
            if task is not None:
                task.cancel()
        if self.writers is not None:
            wake(self.writers)
        if self.threaded and self.waiter is not None:
            self.waiter.wake()

    def room(self):
        self.full = False
        if self.writers is not None:
            wake(self.writers)

    def overdue(self):
        """The deadline has come."""
        self.cut(4, "the deadline of the call has passed")

    def farewell(self):
        """A drain's grace is over: its client may come again, to another."""
        self.cut(14, "the server is shutting down")

    def cut(self, code, text):
        """End the call, whatever its servicer does."""
        if not self.complete and not self.gone:
            self.finish(code, text)
            self.gone = True
            self.stop_task()
            if not self.running:
                self.over()

    # ---- the work

    def call(self):
        """What the Task is to do."""
        if self.gone or self.complete:
            return None
        self.begun = True
        self.journey.queued = self.journey.started = self.clock.now()
        if self.chained:
            return self.home.intercepted(self)
        method = self.method
        if method.client_stream:
            request = self.requests()
        else:
            request = self.single()
            if self.complete:
                return None
        if method.generator:
            return self.stream(method.behaviour(request, self))
        if method.server_stream:
            return self.written(method.behaviour(request, self))
        return self.one(method.behaviour(request, self))

    def single(self):
        """The one request message, decoded."""
        return self.decoded(self.reader.next(), self.clock.now())

    async def one(self, awaitable):
        """A method that answers with one message."""
        self.reply(await awaitable)

    async def stream(self, generator):
        """A method that answers with an async generator's messages."""
        async for value in generator:
            if self.aborted:
                break
            if not self.put(value):
                try:
                    await self.wait_room()
                except BaseException:
                    await generator.aclose()  # its own `finally` is due now, not when it is collected
                    raise
                if self.complete or self.gone:
                    await generator.aclose()
                    return
        self.finish(self.status if self.status > 0 else 0, self.text)

    async def written(self, awaitable):
        """A method that answers by `context.write`."""
        await awaitable
        self.finish(self.status if self.status > 0 else 0, self.text)

    def reply(self, value):
        """The one answer."""
        if self.complete or self.gone:
            return
        if self.status > 0:
            self.finish(self.status, self.text)
            return
        if not self.journey.answered and not self.said:
            self.journey.answered = self.clock.now()
        self.put(value)
        if not self.complete:
            self.finish(0, self.text)

    async def chosen(self, method):
        """The interceptors chose a method: call it."""
        self.method = method
        if method.client_stream:
            request = self.requests()
        else:
            if not await self.arrived():
                self.ready()
                return
            await self.ended_after_one()
            if self.complete or method.kind == 1:
                request = None
            else:
                request = self.single()
        if self.complete:
            return
        if method.kind == 1:
            self.home.in_thread(self)
        elif method.generator:
            await self.stream(method.behaviour(request, self))
        elif method.server_stream:
            await self.written(method.behaviour(request, self))
        else:
            self.reply(await method.behaviour(request, self))

    async def ended_after_one(self):
        """Wait for the end of a request of one message."""
        while not self.body_over and not self.complete:
            if self.reader.heard > 1:
                break
            self.waiter = waiter = self.new_waiter()
            try:
                await waiter
            finally:
                self.waiter = None
        if self.reader.heard > 1:
            self.many()

    # ---- how it ends

    def finish(self, code, text):
        """Say the end; the first who does counts."""
        if self.complete or self.gone:
            return
        self.complete = True
        method = self.method
        if method is not None:
            if code:
                method.failed += 1
            else:
                method.succeeded += 1
        exchange = self.exchange
        if code == 0 and self.said and self.form is None and self.trailing is None and not text:
            exchange.end(FINE)
        else:
            self.say_trailers(code, text)
        if not self.running:
            self.over()
        self.terminated()

    def say_trailers(self, code, text):
        """The end with more than the status OK."""
        exchange = self.exchange
        trailers = [STATUS[code]]
        if text:
            trailers.append((b"grpc-message", say_message(text)))
        if self.trailing is not None:
            trailers.extend(self.trailing)
        if code:
            exchange.journey.end = f"grpc-{status_name(code).lower().replace('_', '-')}"
        if self.form is not None:
            self.form.finish(self, code, trailers)
            return
        if not self.said and not self.initial:
            self.said = True
            exchange.head(Response(200, [CONTENT, *trailers]), True)
            return
        self.send_head()
        exchange.end(trailers)

    def refuse(self, error):
        """The client broke a rule of gRPC."""
        rule = error.rule
        self.finish(STATUS_OF.get(rule) or FOR_CODING.get(rule, 13), str(error))
        if self.running:
            self.stop_task()

    def failed(self, error):
        """The servicer raised."""
        if self.gone or self.complete:
            if not isinstance(error, (Aborted, Disconnected)) and not self.gone:
                self.exchange.conn.service.observer.broke(self.exchange, error)
            return
        if self.aborted and isinstance(error, Aborted):
            self.finish(self.status, self.text)
            return
        if isinstance(error, WireError):  # metadata that could not be read
            self.refuse(error)
            return
        if self.status > 0:  # set before it raised, as generated code does for what is not implemented
            if self.status != 12:
                self.exchange.conn.service.observer.broke(self.exchange, error)
            self.finish(self.status, self.text)
            return
        self.exchange.conn.service.observer.broke(self.exchange, error)
        if isinstance(error, Misused):
            self.finish(13, str(error))
        elif self.exchange.conn.service.debug:
            self.finish(2, f"{type(error).__name__}: {error}")
        else:
            self.finish(2, f"{type(error).__name__} was raised by the servicer")

    def returned(self):
        """The servicer returned."""
        if not self.threaded and not self.complete and not self.gone:
            self.finish(13, "the servicer returned without an answer")

    def stopped(self):
        """The Task was cancelled: by the client or the deadline, which is said already, or by somebody here."""
        self.finish(1, "the call was cancelled by the server")

    def terminated(self):
        """The call is over for its client: those who wanted to know are told."""
        if self.timer is not None:
            self.timer.stop()
            self.timer = None
        callbacks = self.callbacks
        self.callbacks = None
        if callbacks is not None:
            for callback in callbacks:
                try:
                    callback(self)
                except Exception as error:
                    self.exchange.conn.service.observer.broke(self.exchange, error)

    def over(self):
        """The work ends: nothing may keep it, or be kept by it."""
        if self.ended or self.threaded:
            return
        self.ended = True
        if not self.complete and not self.gone:
            self.finish(2, "the servicer ended without an answer")
        self.home.active -= 1
        exchange = self.exchange
        exchange.working = False
        if exchange.abandoned:
            exchange.worked()
        incoming = self.incoming
        if incoming is not None:
            incoming.call = None
            self.incoming = None


if aio is not None:
    aio.ServicerContext.register(Call)
