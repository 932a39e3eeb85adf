"""Saying: what an exchange says goes to the codec, and the carrier is touched. A part of Connection.

Rules
1. Words after the end, or after `over`, are ignored.
2. A head alone is not flushed: it waits for the first body bytes, the end, or `flush()`, so small answers leave as one.
3. A head that the codec refuses is not out, so its error answer still can be: `said_head` is set after the codec took it.
4. No room is answered when the codec has none, the carrier is blocked, or more than `limits.outgoing` waits: then `room` is heard
   later, from the codec or, for those in `held`, when all is with the kernel (`drained`).
"""

from __future__ import annotations

from fairlead.core.exchange import Exchange
from fairlead.core.faults import Faults
from fairlead.core.handler import error_response


class Saying(Faults):
    """See the module. `unsent`: body bytes said since the carrier last had room; `telling`: the stream that is saying just now,
    which is told of room by the answer of its own call.
    """

    def __init__(self, service, carrier, client):
        Faults.__init__(self, service, carrier, client)
        self.in_feed = self.waiting = self.told = False
        self.unsent = 0
        self.telling = -1
        self.held = []
        self.outgoing = service.limits.outgoing

    # ---- heads

    def say_head(self, ex, message, end):
        if ex.over or ex.said_head:
            return
        while ex.hooks is not None:
            hook = ex.hooks[0]
            ex.hooks = ex.hooks[1:] or None  # each once: the error answer to one that raised must get out
            hook.after(ex, message)
            if ex.over:  # it handed the stream over to another handler
                return
        now = self.clock.now()
        codec = self.codec
        codec.now = now
        j = ex.journey
        if ex.role == 0:
            ex.response = message
            if j.answered == 0:
                j.answered = now  # journey
            if self.service.server_timing:
                message.headers.append((b"server-timing", j.server_timing()))
            if self.service.alt_svc is not None:
                message.headers.append((b"alt-svc", self.service.alt_svc))
        else:
            j.leg_sent = now  # journey
        self.said_now = now
        codec.head(ex.stream, message, end)
        ex.said_head = True  # not before: a head the codec refuses is not out, and its error answer can still be
        if codec.tunnel or (codec.multiplexed and ex.role == 0 and ex.request.method == "CONNECT" and message.status < 300):
            ex.tunnel = True
        if end:
            self.ended(ex)

    def say_whole(self, ex, message, body):
        if ex.over or ex.said_head:
            return
        codec = self.codec
        if ex.hooks is not None or ex.stage is not None or ex.role or codec.multiplexed:
            self.say_head(ex, message, False)
            self.say_data(ex, body, True)
            return
        now = self.clock.now()
        codec.now = now
        j = ex.journey
        ex.response = message  # as in say_head: a call for both is a quarter of a per cent of a request
        if j.answered == 0:
            j.answered = now  # journey
        if self.service.server_timing:
            message.headers.append((b"server-timing", j.server_timing()))
        if self.service.alt_svc is not None:
            message.headers.append((b"alt-svc", self.service.alt_svc))
        self.said_now = now
        whole = codec.whole(ex.stream, message, body)
        ex.said_head = True  # as in say_head, not before
        if whole:
            self.unsent += len(body)
            j.bytes_out += len(body)
            self.ended(ex)
            return
        if codec.tunnel:
            ex.tunnel = True
        self.say_data(ex, body, True)

    def say_inform(self, ex, status, headers):
        if ex.over or ex.said_head:
            return
        self.codec.now = self.clock.now()
        self.codec.inform(ex.stream, status, headers)
        self.carrier.touch()

    # ---- bodies

    def say_data(self, ex, chunk, end):
        if ex.over or ex.said_end:
            return True
        if ex.stage is not None:
            return self.staged(ex, chunk, end)
        if not self.said_now:
            self.said_now = self.clock.now()
        codec = self.codec
        codec.now = self.said_now
        room = codec.data(ex.stream, chunk, end)
        self.unsent += len(chunk)
        if ex.role == 0:
            ex.journey.bytes_out += len(chunk)
        if end:
            self.ended(ex)
            return True
        self.telling = ex.stream
        self.carrier.touch()
        self.telling = -1
        if self.told:  # room came while we were still saying: it is the answer of this call
            self.told = False
            room = True
        if room and not self.carrier.blocked and self.unsent <= self.outgoing:
            return True
        self.waiting = True
        if room and ex.stream not in self.held:  # the codec had room, so it is we who tell when there is some again
            self.held.append(ex.stream)
        return False

    def say_region(self, ex, region, end):
        """Have bytes of a file sent; see `Exchange.region`."""
        if ex.over or ex.said_end:
            return 1
        codec = self.codec
        count = region.left
        if not self.carrier.regions or ex.stage is not None or codec.multiplexed:
            return 0
        if not self.said_now:
            self.said_now = self.clock.now()
        codec.now = self.said_now
        if not codec.put_region(ex.stream, region, end):
            return 0
        self.unsent += count
        ex.journey.bytes_out += count
        if end:
            self.ended(ex)
            return 1
        self.telling = ex.stream
        self.carrier.touch()
        self.telling = -1
        self.told = False
        if codec.region is None and not self.carrier.blocked:
            return 1
        self.waiting = True
        if ex.stream not in self.held:
            self.held.append(ex.stream)
        return 2

    def say_cast(self, ex, cast):
        if ex.over or ex.said_end:
            return True
        codec = self.codec
        if ex.stage is not None or ex.role or self.said_now or codec.multiplexed or self.in_feed:
            return self.say_data(ex, cast.data, False)
        framed = codec.cast(ex.stream, cast)
        if framed is None:
            return self.say_data(ex, cast.data, False)
        begin = self.clock.now()
        posted = self.carrier.post(framed)
        if posted == 0:
            return self.say_data(ex, cast.data, False)
        j = ex.journey
        j.bytes_out += len(cast.data)
        if posted == 1:
            j.spent_send += self.clock.now() - begin  # journey
            return True
        self.carrier.rearm()
        self.waiting = True
        if ex.stream not in self.held:
            self.held.append(ex.stream)
        return False

    def staged(self, ex, chunk, end):
        """What a body stage makes of `chunk` is said in its place."""
        stage = ex.stage
        ex.stage = None  # what it says goes on to the codec
        room = stage.data(ex, chunk, end)
        if not end:
            ex.stage = stage
        return room

    def say_end(self, ex, trailers):
        if ex.over or ex.said_end:
            return
        if ex.stage is not None:
            stage = ex.stage
            ex.stage = None
            stage.end(ex, trailers)
            return
        self.codec.now = self.clock.now()
        if not self.said_now:
            self.said_now = self.codec.now
        self.codec.end(ex.stream, trailers)
        self.ended(ex)

    # ---- the rest

    def say_reset(self, ex, why, side):
        if ex.over:
            return
        if ex.role and side == "read":  # a client that closed its side after a whole request may still want the answer
            answer = ex.answer
            if answer is not None:
                answer.reset(why, side)
            return
        self.codec.now = self.clock.now()
        if ex.error is None:
            ex.error = why
        if ex.role == 0 and not ex.said_head and side == "both":
            response, body = error_response(why, self.service.debug)
            ex.whole(response, body)
            return
        self.codec.reset(ex.stream, why, side)
        if side == "both":
            self.drop(ex, why)
        self.carrier.touch()

    def hand_over(self, ex, handler):
        """Let `handler` answer in the place of who has answered so far, before a head is out; its words are ignored then.

        The stream gets a new Exchange with the same request and journey. What was held of the body is credited; what is still to
        come goes to the new handler's answer.
        """
        if ex.over or ex.said_head:
            return
        new = Exchange.__new__(Exchange)
        new.begin(self, ex.stream, ex.role, ex.request, ex.journey)
        new.route, new.params, new.client, new.principal, new.tag = ex.route, ex.params, ex.client, ex.principal, ex.tag
        new.ends, new.deadline, new.heard_end, new.left = ex.ends, ex.deadline, ex.heard_end, ex.left
        new.hooks, new.body_limit = ex.hooks, ex.body_limit
        if ex.withheld:
            self.codec.consumed(ex.stream, ex.withheld)
        ex.over = True
        ex.answer = ex.intake = ex.stage = ex.ends = None
        if self.exchanges is not None:
            self.exchanges[ex.stream] = new
        else:
            self.current = new
        try:
            handler.open(new)
        except Exception as error:
            self.raised(new, error)

    def credit(self, ex, count):
        if ex.over:
            return
        self.codec.consumed(ex.stream, count)
        self.carrier.touch()

    def begin(self, ex):
        return not self.codec.multiplexed or self.codec.start(ex.stream)  # one stream cannot be somebody else's

    def flush(self):
        self.carrier.touch()
