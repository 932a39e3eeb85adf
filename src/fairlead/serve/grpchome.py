"""What stands around a gRPC call: the server that it belongs to, its deadline's timer, and the way that it is put into HTTP."""

# mypy: disable-error-code="union-attr,attr-defined,has-type,assignment,var-annotated"

from __future__ import annotations

from fairlead.core.handler import Handler
from fairlead.core.message import Response
from fairlead.net.timers import Timed
from fairlead.serve.runner import Runners

SOON = 2_000_000_000  # ns: deadlines nearer than this get a timer of their own, the others sit on the wheel


class Form:
    """Another way to put a call into HTTP. `unframed`: nothing is compressed; `path`: the method's, None for the request's."""

    def __init__(self):
        self.unframed = False
        self.path = None

    def feed(self, data):
        """Bytes of the request's body, as the Reader should see them."""
        return data

    def over(self):
        """The request's body is over: what the Reader should still see. Raises WireError."""
        return b""

    def decode(self, method, payload):
        """The request message of a payload."""
        return method.decode(payload) if method.decode is not None else payload

    def encode(self, method, value):
        """The payload of an answer message."""
        return method.encode(value) if method.encode is not None else value

    def head(self, call, fields):
        """The answer's head: a Response. `fields`: the initial metadata."""
        return Response(200, fields)

    def frame(self, payload, packed):
        """The body bytes of a message."""
        return payload

    def finish(self, call, code, trailers):
        """Say the end, and the head if it is not out."""


class Home(Handler):
    """What the calls of one server share: `most` and `most_sent`, bytes of one message in and out (0: no limit)."""

    def __init__(self, loop, name):
        self.loop = loop
        self.name = name
        self.runners = Runners(loop, name)
        self.most = self.most_sent = self.active = 0

    def in_thread(self, call):
        """Have a call's servicer run in a thread."""

    def intercepted(self, call):
        """A coroutine: the interceptors, then the servicer that they choose."""


class Timer(Timed):
    """A call's deadline: on the loop's wheel, which is coarse, until it is near."""

    def __init__(self, call, poller):
        self.blocked = False
        self.slot = 0
        self.call = call
        self.poller = poller
        self.handle = None
        self.due(poller.now())

    def due(self, now):
        call = self.call
        if call is None:
            return
        left = call.deadline - now
        if left > SOON:
            self.poller.wheel.add(call.deadline - SOON, self)
        else:
            self.handle = self.poller.loop.call_later(max(left, 0) / 1e9, self.fire)

    def fire(self):
        """It is time."""
        call = self.call
        self.handle = None
        if call is not None:
            call.overdue()

    def stop(self):
        """Forget the call."""
        self.poller.wheel.remove(self)
        self.call = None
        if self.handle is not None:
            self.handle.cancel()
            self.handle = None
