"""The messages of a gRPC call: those that come wait as bytes, those that go are framed and compressed.

Rules
1. Messages wait as bytes and are decoded when the servicer asks for them. What waits beyond QUEUE bytes is not credited, so
   the client's own window stops it; one incomplete message is, up to the limit of a message.
2. A `write` is over at once while there is room, else when the client took enough.
3. A message that is there is given without waiting: no Task is suspended, no future made. One that is not wakes its reader inside
   the read that brings it (`serve.waiter`).
4. `decode` and `encode` of the journey are the time in protobuf and in compression, summed over the call. A message of a stream
   that took 10 us or more is a step of its own besides (`message-in`, `message-out`), for the first 64 of them.
5. A message that does not decode ends the call with INTERNAL, one that is too long with RESOURCE_EXHAUSTED, also when it is ours.
"""

# mypy: disable-error-code="union-attr,attr-defined,has-type,assignment,var-annotated"

from __future__ import annotations

import asyncio

from fairlead.core.errors import FairleadError, WireError
from fairlead.core.message import Response
from fairlead.serve.done import DONE
from fairlead.serve.grpccontext import Context
from fairlead.serve.grpcmethods import EOF, Aborted, Misused
from fairlead.serve.waiter import Waiter
from fairlead.wire.grpc import message
from fairlead.wire.grpccoding import choose, deflate, inflate

WORTH = 10_000  # ns: decoding or encoding one message of a stream that is a step of its own, as in Server-Timing
QUEUE = 65536  # bytes of whole messages that wait for the servicer before the client has to
CONTENT = (b"content-type", b"application/grpc")


class Flow(Context):
    """See the module. `reader`: what came; `waiter`: who waits for it; `writers`: who waits for room; `full`: there is none."""

    def finish(self, code, text):
        """Say the end; `serve.grpccall` does."""

    def refuse(self, error):
        """The client broke a rule of gRPC; `serve.grpccall` says so."""

    def new_waiter(self):
        """A Waiter of this loop."""
        waiter = Waiter.__new__(Waiter)
        waiter.begin(self.home.loop)
        return waiter

    # ---- messages in

    def requests(self):
        """The async iterator over the request's messages."""
        if self.incoming is None:
            self.incoming = Incoming(self)
        return self.incoming

    def decoded(self, payload, now):
        """A message of the wire as the method's own kind; `now` is the clock's. Ends the call when that fails."""
        method = self.method
        self.journey.messages_in += 1
        method.messages_in += 1
        try:
            if type(payload) is not bytes:
                payload = inflate(self.coding, payload[0], self.home.most)
            if self.form is not None:
                value = self.form.decode(method, payload)
            elif method.decode is not None:
                value = method.decode(payload)
            else:
                value = payload
        except WireError as error:
            self.refuse(error)
            return None
        except Exception as error:
            self.finish(13, f"the request message could not be decoded: {type(error).__name__}")
            return None
        took = self.clock.now() - now
        self.journey.spent_decode += took
        if took >= WORTH and method.client_stream:
            self.journey.add("message-in", now, took)
        return value

    def taken(self):
        """The next message, decoded; what waits falls below the mark, so the client may send more."""
        value = self.decoded(self.reader.next(), self.clock.now())
        if self.exchange.withheld and self.reader.waiting * 2 <= QUEUE:
            self.exchange.room()
        if self.complete and value is None:
            raise Aborted("the request broke off")
        return value

    async def coming(self):
        """The next message when there is one; `EOF` at the end."""
        if not await self.arrived():
            return EOF
        return self.taken()

    async def arrived(self):
        """Wait for a message: True, or False when there will be none."""
        while not self.reader.count:
            if self.body_over:
                return False
            if self.complete:
                raise Aborted("the request broke off")
            if self.waiter is not None:
                raise Misused("two tasks read the messages of one call")
            self.waiter = waiter = self.new_waiter()
            if self.exchange.request.expect:
                self.exchange.credit(0)
            try:
                await waiter
            finally:
                self.waiter = None
        return True

    def read(self):
        """The next message, or `grpc.aio.EOF`. An awaitable."""
        return self.coming()

    # ---- messages out

    def write(self, value):
        """Send a message; an awaitable that is over when there is room for more."""
        if self.complete or self.aborted:
            raise Misused("the call is over")
        if self.gone:
            raise asyncio.CancelledError
        if self.put(value):
            return DONE
        if self.complete:
            raise Aborted("the call is over")
        return self.wait_room()

    def put(self, value):
        """Say a message; False when the client should take some first, or the call has ended."""
        if self.complete or self.gone:
            return False
        now = self.clock.now()
        method = self.method
        try:
            if self.form is not None:
                payload = self.form.encode(method, value)
            elif method.encode is not None:
                payload = method.encode(value)
            else:
                payload = value
            return self.send(payload, now)
        except FairleadError:
            raise
        except Exception as error:
            self.exchange.conn.service.observer.broke(self.exchange, error)
            self.finish(13, f"the answer's message could not be encoded: {type(error).__name__}")
            return False

    def send(self, payload, now):
        """Say a message that is encoded; `now` is when that began."""
        most = self.home.most_sent
        if most and len(payload) > most:
            self.finish(8, f"the answer's message has {len(payload)} bytes, more than the limit of {most}")
            return False
        if not self.said:
            self.choose()
        packed = self.packing != "identity" and not self.as_is
        self.as_is = False
        if packed:
            payload = deflate(self.packing, payload)
        self.journey.messages_out += 1
        self.method.messages_out += 1
        chunk = message(payload, packed) if self.form is None else self.form.frame(payload, packed)
        took = self.clock.now() - now
        self.journey.spent_encode += took
        if took >= WORTH and self.method.server_stream:
            self.journey.add("message-out", now, took)
        if not self.said:
            self.send_head()
        room = self.exchange.data(chunk, False)
        if not room:
            self.full = True
        return room

    def choose(self):
        """How messages are compressed, as the servicer and the client want it."""
        if self.wanted != "identity" and (self.form is None or not self.form.unframed):
            self.packing = choose(self.wanted, self.accepted)

    def send_head(self):
        """Say the head."""
        if not self.said:
            self.said = True
            self.choose()
            fields = [CONTENT]
            if self.packing != "identity":
                fields.append((b"grpc-encoding", self.packing.encode()))
            if self.initial is not None:
                fields.extend(self.initial)
            if self.form is not None:
                self.exchange.head(self.form.head(self, fields[1:]), False)
                self.exchange.conn.flush()
                return
            response = Response.__new__(Response)
            response.begin(200, fields, -1, b"", "2")
            self.exchange.head(response, False)

    async def wait_room(self):
        """Until the client took enough."""
        while self.full and not self.gone and not self.complete:
            waiter = self.new_waiter()
            if self.writers is None:
                self.writers = []
            self.writers.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self.writers:
                    self.writers.remove(waiter)


class Incoming:
    """The request's messages as an async iterator: one that waits already is there without waiting."""

    def __init__(self, call):
        self.call = call
        self.value = None

    def __aiter__(self):
        return self

    def __anext__(self):
        call = self.call
        if call is None:
            raise StopAsyncIteration
        if call.reader.count:
            self.value = call.taken()
            return self
        if call.body_over:
            raise StopAsyncIteration
        return self.later(call)

    async def later(self, call):
        """The next message when it comes."""
        if not await call.arrived():
            raise StopAsyncIteration
        return call.taken()

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        value = self.value
        self.value = None
        raise StopIteration(value)


def wake(waiters):
    """Let everybody go on who waits."""
    found = list(waiters)
    waiters.clear()
    for waiter in found:
        waiter.wake()
