"""Delivery to many: who follows a topic on which stream or socket, and how an event gets to all of them. The hot part of `feed`.

    Ring -- tell --> Leg (one topic on one Out) --> Out (a stream or a socket) --> Exchange.cast, or `write`

Rules
1. A piece of events is encoded once per form, and framed once per protocol: what a leg is given is a Cast that all share.
2. `Out.body` is an exchange whose body is what is said, `Out.socket` a WebSocket that frames it on the way there. An Out
   without a body has a `write` of its own.
3. An Out without room is given nothing more. What becomes of its legs is the route's choice, see `give` and `resume`: the promise
   of each stands in `feed`, rule 4. `late` is since when it missed something, until it has room again.
"""

from __future__ import annotations

from contextlib import suppress
from time import monotonic

from fairlead.core.codec import Cast
from fairlead.wire.ws import Ear


class Piece:
    """Some events in a row, and their encodings. `next` is where one is after them; `now` the time when a socket first said them:
    one look at the clock is enough for all.
    """

    def __init__(self, events, next_, up_to_date, closed):
        self.events, self.next, self.up_to_date, self.closed = events, next_, up_to_date, closed
        self.encoded = {}
        self.last_form = self.last_cast = None
        self.now = 0

    def form(self, form):
        """As a form has it: a Cast; its data may be empty."""
        if form is self.last_form:
            return self.last_cast
        made = self.encoded.get(form.key)
        if made is None:
            made = self.encoded[form.key] = Cast(form.encode(self))
        self.last_form = form
        self.last_cast = made
        return made


class Form:
    """How events are written. Each has a `key`; forms with the same one write the same bytes."""

    def encode(self, piece):
        """The bytes of a piece."""
        raise NotImplementedError

    def gap(self, gap):
        """That events are missing."""
        return b""

    def dropped(self, count, after):
        """That events were left out because the follower was slow."""
        return b""


class Out(Ear):
    """A stream or socket that events leave by. Subclasses write, or set `body`. `transport` is its name in what is counted.

    It derives from Ear, and so from Answer, because a compiled class has one base, and an Out mostly hears its exchange too.
    """

    transport = "other"

    def __init__(self, feed, form, slow="cursor", heartbeat=None):
        self.feed, self.form, self.slow = feed, form, slow
        self.every = max(1, round(feed.heartbeat if heartbeat is None else heartbeat))
        self.legs = []
        self.blocked = self.over = self.said = self.named = False
        self.late = 0.0
        self.bucket = self.missed = 0
        self.body = self.socket = None
        feed.attend(self)

    def write(self, data):
        """Say it; False when there is no room for more."""
        raise NotImplementedError

    def beat(self):
        """Something that says "still here"."""

    def finish(self, leg, why):
        """A leg has come to an end: `closed`, `gone` or `slow`."""

    def title(self):
        """Who it is, for the log."""
        return "a follower"

    def say(self, data):
        """Write, and see whether there is room."""
        self.said = True
        if data and not self.write(data):
            self.blocked = True

    def shout(self, piece, form):
        """The same with what many are told alike: a piece, as a form has it."""
        cast = piece.form(form)
        self.said = True
        body = self.body
        if body is None:
            if cast.data and not self.write(cast.data):
                self.blocked = True
            return
        if self.socket is not None:
            if not cast.data:
                return
            if not piece.now:
                piece.now = body.conn.clock.now()
            framed = self.socket.cast(cast, piece.now)
            if framed is None:
                if not self.write(cast.data):
                    self.blocked = True
                return
            cast = framed
        if cast.data and not body.cast(cast):
            self.blocked = True

    def ready(self):
        """There is room again."""
        self.blocked = False
        if self.late:
            self.feed.on_time(self)
        for leg in tuple(self.legs):
            leg.resume()
            if self.blocked:
                break

    def is_slow(self, leg, count):
        """`count` events came and there is no room."""
        self.missed += count
        if not self.late:
            self.late = monotonic()
            self.feed.is_late(self, leg.ring)

    def shut(self):
        """The end: every leg leaves."""
        if self.over:
            return
        self.over = True
        if self.late:
            self.feed.on_time(self)
        self.feed.dismiss(self)
        for leg in self.legs:
            leg.leave()
        self.legs = []


class Leg:
    """One topic on one Out: where it is, and whether it is live. `told`: of the end of its topic, in a piece."""

    def __init__(self, out, ring, after, form=None):
        self.out, self.ring, self.after = out, ring, after
        self.form = form or out.form
        self.behind = self.told = False
        self.dropped = 0
        self.kept = self.task = None
        self.there = True
        out.feed.enter(ring, out.transport)
        out.legs.append(self)
        self.follow_soon()

    def follow_soon(self):
        """Go on from where it is, in a task, unless it is at the end already."""
        ring = self.ring
        if self.after == ring.last and not ring.closed and ring.gone is None:
            ring.live.add(self)
        elif self.task is None:
            self.task = self.out.feed.spawn(self.out.feed.follow(self))

    def retry(self):
        """The store was away: try again."""
        if self.there and self.task is None:
            self.task = self.out.feed.spawn(self.out.feed.follow(self))

    def pass_on(self, piece):
        """Write it."""
        self.after = piece.next
        self.out.shout(piece, self.form)
        if piece.closed and piece.up_to_date and self.there:
            self.told = True
            self.close("closed")

    def give(self, piece):
        """The ring, to one that is live."""
        out = self.out
        if not out.blocked:
            self.pass_on(piece)
            return
        count = len(piece.events)
        out.is_slow(self, count)
        if out.slow == "close":
            self.close("slow")
        elif out.slow == "drop":
            self.dropped += count
            out.feed.left_out += count
            self.after = piece.next
        elif out.slow == "latest" and self.keep(piece):
            self.after = piece.next
        else:
            self.ring.live.discard(self)
            self.behind = True

    def keep(self, piece):
        """`latest`: one event of each key. False when there are too many keys."""
        if self.kept is None:
            self.kept = {}
        kept = self.kept
        for event in piece.events:
            if kept.pop(event.key, None) is not None:
                self.out.feed.conflated += 1
            kept[event.key] = event
        if len(kept) <= self.out.feed.limits.keys and not piece.closed:
            return True
        self.kept = None
        return False

    def resume(self):
        """There is room again."""
        out = self.out
        if self.kept:
            kept, self.kept = list(self.kept.values()), None
            out.shout(Piece(kept, self.after or self.ring.last, True, False), self.form)
        if self.dropped:
            count, self.dropped = self.dropped, 0
            out.say(self.form.dropped(count, self.after or self.ring.last))
        if self.behind and not out.blocked:
            self.behind = False
            self.follow_soon()
        elif self.ring.closed and self.task is None and self.after == self.ring.last:
            self.close("closed")

    def ended(self, error):
        """The topic is gone."""
        self.close("gone")

    def close(self, why):
        """This leg has nothing more to say."""
        if self.there:
            self.leave()
            with suppress(ValueError):
                self.out.legs.remove(self)
            self.out.finish(self, why)

    def leave(self):
        """The follower is gone."""
        if self.there:
            self.there = False
            self.ring.live.discard(self)
            self.out.feed.leave(self.ring, self.out.transport)


def tell(legs, piece):
    """Give a piece to all of these legs; who has left meanwhile is passed over."""
    for leg in legs:
        if leg.there:
            leg.give(piece)
