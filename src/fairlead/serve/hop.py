"""Dispatch: a front gives whole requests to workers over links, and their answers come back. The front's side.

    client -> left -> Upward -> leg -> worker            worker -> leg -> Crossing -> left -> client

Rules
1. A request goes to the worker with the least to do among those that grant a place: a worker may hold `window` requests that
   it has not begun (`wire.hop`, rule 4). When none does, the request waits here, in order, in a bounded queue with a
   deadline; then the answer is 503 with Retry-After. What asks for a health path does not wait.
2. What a worker has not begun within `PATIENCE` is taken back (`wire.hop`, rule 5) and goes to the front of the queue; that
   worker gets nothing new until it is heard of again. So a worker that blocks delays what it runs, and nothing else.
3. A worker that dies loses what it was running: 502. What it had not begun is given to another, and so is, once, what may
   safely be asked twice (an idempotent method, RFC 9110 section 9.2.2) if nothing of an answer was heard. The client's
   connection lives on. For that the body is kept until the answer comes, up to `KEEP`; one larger is not asked again.
4. Nothing is piled up: `data` that finds no room withholds the credit of the other side.
5. The worker's marks are in the journey before the head is said; the leg leaves none.
6. A worker may answer with `hold` (`serve.hold`): then `holding` takes the client's connection, and the leg is over.
7. Sticky: with a cookie, a client's requests go to the place that its first went to, and wait for it; a place that is gone is
   chosen anew. The cookie holds the place's number and nothing else.
"""
# mypy: disable-error-code="union-attr,attr-defined"

from __future__ import annotations

from collections import deque
from typing import Any

from fairlead.core.connection import Owner
from fairlead.core.errors import NetError, Refused
from fairlead.core.exchange import Answer
from fairlead.core.handler import Handler
from fairlead.net.tcp import Tcp
from fairlead.serve.datagrams import bridge, capsuled
from fairlead.wire.hop import Hop as Codec
from fairlead.wire.hopwords import HOLD, Letter

PATIENCE = 20_000_000  # ns a request may be with a worker that has not begun it
SECOND = 1_000_000_000
KEEP = 65536  # body bytes kept so that a request can be given to another worker: one stream window
CROWD = 60  # requests not begun on one link, at the very most: below the claim words there are
TRIES = 3
CLIENTS = 64  # whose addresses are kept on one connection of a proxy before us
IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND", "QUERY"))
ENDED = NetError("the answer was complete before the request", step="send", status=499, side="us")
TAKEN = NetError("taken back: another worker has it", step="queue", status=499, side="us")


class Link(Owner):
    """One worker as a front sees it: `place` is its number, `apps` what it runs."""

    def __init__(self, dispatcher, fd, service, place, apps, claims=None):
        self.dispatcher = dispatcher
        self.place = place
        self.apps = frozenset(apps)
        self.unsure: Any = deque()  # not `deque[Any]()`: that costs a raised AttributeError
        self.outstanding = self.busy = 0
        self.stuck = False
        tcp = Tcp(dispatcher.poller, fd, service, "", "", True)
        self.conn = tcp.conn
        self.conn.owner = self
        self.codec = Codec(self.conn, service.limits, True, claims)
        self.codec.on_grant = self.granted
        tcp.start(self.codec)

    def takes(self, limit):
        """May it be given another request now?"""
        codec = self.codec
        return codec.reusable and not codec.finished and not self.conn.closed and self.outstanding < limit

    def granted(self):
        """The worker says how far it began, and how many more it may hold."""
        begun = self.codec.begun
        unsure = self.unsure
        while unsure:
            crossing = unsure[0]
            if crossing.unsure and crossing.link is self and crossing.stream > begun:
                break
            unsure.popleft()
            if crossing.link is self:
                crossing.settled()
        self.heard()

    def heard(self):
        """It lives: it may have more."""
        self.stuck = False
        if self.dispatcher.queue:
            self.dispatcher.refill()

    def released(self, conn):
        """A leg is over."""
        self.busy -= 1
        if self.dispatcher.per_worker and self.dispatcher.queue:
            self.dispatcher.poller.soon(self.dispatcher.refill)

    def gone(self, conn, why):
        """The link is closed."""
        self.dispatcher.lost(self)


class Dispatcher:
    """The queue of one front, and its links. `most` may wait, each for `wait` ns; `health`: paths that never wait;
    `per_worker`: requests that one worker may have from here, 0 for any number.
    """

    def __init__(self, poller, most=1000, wait=SECOND, health=()):
        self.poller = poller
        self.most = most
        self.wait = wait
        self.per_worker = 0
        self.health = frozenset(health)
        self.holding: Any = None
        self.links = []
        self.queue: Any = deque()
        self.turn = 0
        self.watching = self.timing = False
        self.refused = self.late = self.taken = self.repeated = self.deaths = self.sent = self.deepest = 0

    # ---- workers

    def add(self, link):
        """A worker serves."""
        self.links = [*self.links, link]
        self.refill()

    def lost(self, link):
        """A worker is gone."""
        self.links = [one for one in self.links if one is not link]
        self.deaths += 1
        self.refill()

    def choose(self, crossing):
        """The link for a request: its own place's, else the least busy that may take one; None when there is none."""
        want = crossing.want
        links = self.links
        if want >= 0:
            own = [link for link in links if link.place == want and crossing.app in link.apps and link.codec.reusable]
            if own:
                links = own
        best = None
        least = 0
        count = len(links)
        self.turn += 1
        for i in range(count):
            link = links[(self.turn + i) % count]
            if link.stuck or not link.takes(link.codec.window) or crossing.app not in link.apps:
                continue
            if self.per_worker and link.busy >= self.per_worker:
                continue
            if best is None or link.busy < least:
                best = link
                least = link.busy
        return best

    def bypass(self, crossing):
        """For a health path: any link that is not overcrowded, the least busy."""
        best = None
        for link in self.links:
            if link.takes(CROWD) and crossing.app in link.apps and (best is None or link.busy < best.busy):
                best = link
        return best

    # ---- requests

    def place(self, crossing, now):
        """Give a request to a worker, or let it wait."""
        if not self.queue:
            link = self.choose(crossing)
            if link is not None:
                crossing.go(link, now)
                return
        if self.health and path_of(crossing.left.request.target) in self.health:
            link = self.bypass(crossing)
            if link is not None:
                crossing.go(link, now)
                return
        if len(self.queue) >= self.most:
            self.refused += 1
            raise refusal("too many requests wait for a worker")
        crossing.until = now + self.wait
        crossing.queued = True
        self.queue.append(crossing)
        if len(self.queue) > self.deepest:
            self.deepest = len(self.queue)
        if len(self.queue) > 1:
            self.refill()
        self.time()

    def again(self, crossing):
        """A request that was taken back, or whose worker died, is the next."""
        crossing.queued = True
        if not crossing.until:
            crossing.until = self.poller.now() + self.wait
        self.queue.appendleft(crossing)
        self.time()

    def refill(self):
        """There may be room: give out what waits, in order."""
        if not self.queue or not self.free():
            return
        now = self.poller.now()
        queue = self.queue
        passed: Any = None
        while queue:
            crossing = queue.popleft()
            if not crossing.queued:
                continue
            link = self.choose(crossing)
            if link is not None:
                crossing.go(link, now)
                continue
            if passed is None:
                passed = []
            passed.append(crossing)
            if not self.free():
                break
        if passed is not None:
            queue.extendleft(reversed(passed))

    def free(self):
        """Does any worker take a request?"""
        for link in self.links:
            if link.stuck or (self.per_worker and link.busy >= self.per_worker):
                continue
            if link.takes(link.codec.window):
                return True
        return False

    def forget(self, crossing):
        """One who waited has left."""
        crossing.queued = False
        try:
            self.queue.remove(crossing)
        except ValueError:
            pass

    # ---- time; timers run only while somebody waits

    def time(self):
        """See that the first in the queue does not wait beyond its deadline."""
        if self.queue and not self.timing:
            self.timing = True
            ahead = max(self.queue[0].until - self.poller.now(), 0)
            self.poller.loop.call_later(ahead / SECOND + 0.001, self.timed)

    def timed(self):
        """Whose time is over is told so."""
        self.timing = False
        now = self.poller.now()
        late = [crossing for crossing in self.queue if crossing.until <= now]
        for crossing in late:
            self.forget(crossing)
            self.late += 1
            crossing.left.fail(refusal("no worker took the request in time"))
        self.time()

    def watch(self):
        """Look after the requests that no worker has begun."""
        if not self.watching:
            self.watching = True
            self.poller.loop.call_later(PATIENCE / SECOND, self.look)

    def look(self):
        """Take back what was not begun in time."""
        self.watching = False
        now = self.poller.now()
        oldest = 0
        for link in self.links:
            unsure = link.unsure
            while unsure and not (unsure[0].unsure and unsure[0].link is link):
                unsure.popleft()
            if unsure and now - unsure[0].sent_at >= PATIENCE and len(self.links) > 1:
                self.take_back(link, now)
            if unsure and (oldest == 0 or unsure[0].sent_at < oldest):
                oldest = unsure[0].sent_at
        if oldest:
            self.watching = True
            ahead = max(oldest + PATIENCE - now, PATIENCE // 4)
            self.poller.loop.call_later(ahead / SECOND, self.look)
        self.refill()

    def take_back(self, link, now):
        """A worker holds requests and does not begin them: all of them are ours again, in their order."""
        link.stuck = True
        held = [crossing for crossing in link.unsure if crossing.unsure and crossing.link is link]
        for crossing in reversed(held):
            if crossing.kept is not None and crossing.taken_back():
                self.taken += 1
                self.again(crossing)
        link.unsure = deque([one for one in link.unsure if one.unsure and one.link is link])

    def close(self):
        """The end: the links are closed."""
        for link in self.links:
            link.conn.carrier.close(None)


class Hop(Handler):
    """A route whose application runs in the workers. `number` is how they know it; `cookie`: sticky, or b""."""

    def __init__(self, dispatcher, number, cookie=b"", name=""):
        self.dispatcher = dispatcher
        self.number = number
        self.cookie = cookie
        self.name = name

    def open(self, exchange):
        crossing = Crossing.__new__(Crossing)
        crossing.begin(self, exchange)
        if exchange.request.protocol and capsuled(exchange.request):
            bridge(exchange)
        if self.cookie:
            crossing.want = place_in(exchange.request, self.cookie)
        upward = Upward.__new__(Upward)
        upward.crossing = crossing
        exchange.answer = upward
        now = exchange.journey.routed or self.dispatcher.poller.now()
        self.dispatcher.place(crossing, now)


class Crossing(Answer):
    """One request on its way through a worker. Hears the leg; `left` is the client's exchange."""

    def begin(self, hop, left):
        """What a constructor would do."""
        self.hop = hop
        self.dispatcher = hop.dispatcher
        self.app = hop.number
        self.left = left
        self.link = self.leg = None
        self.letter = None
        self.stream = self.sent_at = self.until = 0
        self.attempts = 0
        self.want = -1
        self.unsure = self.queued = self.answered = self.half = False
        self.body_over = left.heard_end
        self.trailers = None
        self.kept: Any = []
        self.kept_size = 0

    def go(self, link, now):
        """Say the request to a worker."""
        left = self.left
        self.queued = False
        if left.over:
            return
        leg = link.conn.open_leg(left.request, left.journey)
        if leg is None:
            self.dispatcher.again(self)
            return
        self.attempts += 1
        left.journey.attempts = self.attempts
        leg.answer = self
        self.link = link
        self.leg = leg
        self.stream = leg.stream
        self.sent_at = now
        self.unsure = True
        link.unsure.append(self)
        link.outstanding += 1
        link.busy += 1
        self.dispatcher.sent += 1
        codec = link.codec
        codec.send_claim(leg.stream)
        codec.letter = self.address(codec)
        if not self.dispatcher.watching:
            self.dispatcher.watch()
        whole = self.body_over and not self.kept_size and self.trailers is None
        leg.head(left.request, whole)
        if not whole:
            self.pour(leg)

    def address(self, codec):
        """What goes with the head."""
        if self.letter is None:
            left = self.left
            conn = left.conn
            if (
                conn.scene_of is not self.dispatcher  # nobody wrote its ends yet, for this client or another
                or conn.scene["peer"] is not conn.peer  # a QUIC connection may move
                or len(conn.scene) > CLIENTS
            ):
                conn.scene_of = self.dispatcher
                conn.scene = {"peer": conn.peer}
            ends = conn.scene.get(left.client)
            if ends is None:
                ends = conn.scene[left.client] = codec.memory.ends(conn.peer, conn.local, left.client)
            self.letter = Letter.__new__(Letter)
            self.letter.begin(self.app, left.tag, ends)
        return self.letter

    def pour(self, leg):
        """The part of the body that is here already."""
        room = True
        for chunk in self.kept or ():
            room = leg.data(chunk, False)
        if self.body_over:
            leg.end(self.trailers)
        elif self.left.request.expect or self.left.request.protocol:  # a tunnel's answer comes before its first bytes
            leg.conn.flush()
        if self.kept_size > KEEP:
            self.kept = None
        if room and not self.body_over:
            if self.left.withheld:
                self.left.room()

    def settled(self):
        """It is known what became of the request: begun, taken back, over."""
        if self.unsure:
            self.unsure = False
            self.link.outstanding -= 1

    def taken_back(self):
        """True when the worker had not begun it, and now never will."""
        link = self.link
        if not link.codec.take_back(self.stream):
            self.settled()
            return False
        self.settled()
        leg = self.leg
        self.leg = None
        if leg is not None and not leg.over:
            leg.answer = None
            leg.reset(TAKEN, "both")
        return True

    # ---- the worker speaks

    def inform(self, status, headers):
        left = self.left
        if status == 100:
            left.credit(0)
        elif status > 101 and left.request.version != "1.0":
            left.inform(status, headers)

    def answering(self):
        """The worker's answer begins: nothing is asked again, and the marks of the link are not the request's."""
        self.answered = True
        self.kept = None
        self.settled()
        journey = self.left.journey
        journey.leg_sent = journey.leg_head = 0
        if self.link.stuck:
            self.link.heard()

    def head(self, message, end):
        left = self.left
        leg = self.leg
        self.answering()
        response = message
        if response.upgrade and response.upgrade == HOLD:
            self.hold(message)
            return
        if self.hop.cookie and self.want != self.link.place:
            message.headers.append((b"set-cookie", b"%b=%d; Path=/; HttpOnly; SameSite=Lax" % (self.hop.cookie, self.link.place)))
        if leg.tunnel and message.status == 101:
            leg.said_end = left.heard_end = False
        left.head(message, end)
        if end:
            self.finished()
        elif leg.tunnel:
            left.deadline = 0
            left.conn.flush()

    def at_once(self, message, body):
        response = message
        if response.upgrade or (self.hop.cookie and self.want != self.link.place):
            return False
        left = self.left
        self.answering()
        left.whole(response, body)
        self.finished()
        return True

    def hold(self, message):
        """The worker's application handed the connection over: from here on it is this front's, and no worker's."""
        left = self.left
        holding = self.dispatcher.holding
        self.finished()
        if holding is None:
            left.fail(Refused("this server holds no connections", status=500))
            return
        holding.told(left, message)

    def data(self, chunk, end):
        room = self.left.data(chunk, end)
        if end:
            self.finished()
        elif not chunk:
            self.left.conn.flush()
        return room

    def end(self, trailers):
        self.left.end(trailers)
        self.finished()

    def room(self):
        self.left.room()

    def finished(self):
        """The answer is whole. If the request is not, the rest of it is of no use to anybody."""
        leg = self.leg
        if leg is not None and not leg.said_end and not leg.over:
            leg.answer = None
            leg.reset(ENDED, "both")

    def reset(self, why, side):
        left = self.left
        if side != "both":
            return
        if left.over:
            self.settled()
            return
        if self.answered:
            left.reset(why, "both")
            return
        link = self.link
        if link.codec.finished or link.conn.closed:
            self.died()
            return
        self.settled()
        left.fail(why)

    def died(self):
        """The worker is gone, and nothing of an answer was heard."""
        fresh = self.unsure and self.link.codec.take_back(self.stream)
        self.settled()
        self.leg = None
        safe = fresh or (self.left.request.method in IDEMPOTENT and self.attempts < TRIES)
        if safe and self.kept is not None and not self.half:
            self.dispatcher.repeated += 1
            self.dispatcher.again(self)
            return
        self.left.fail(
            NetError("the worker that ran this request ended before its answer", step="worker", status=502, side="us")
        )

    def abandoned(self, why):
        """The client left."""
        if self.queued:
            self.dispatcher.forget(self)
            return
        leg = self.leg
        self.settled()
        if leg is not None and not leg.over:
            leg.answer = None
            leg.reset(why, "both")


class Upward(Answer):
    """Hears the client."""

    def data(self, chunk, end):
        crossing = self.crossing
        if end:
            crossing.body_over = True
        kept = crossing.kept
        if kept is not None and chunk:
            kept.append(chunk)
            crossing.kept_size += len(chunk)
        leg = crossing.leg
        if leg is None:
            return not chunk
        if crossing.kept_size > KEEP and kept is not None:
            crossing.kept = None
        return leg.data(chunk, end)

    def end(self, trailers):
        crossing = self.crossing
        crossing.body_over = True
        crossing.trailers = trailers
        leg = crossing.leg
        if leg is not None:
            leg.end(trailers)

    def reset(self, why, side):
        crossing = self.crossing
        if side == "both":
            crossing.abandoned(why)
            return
        crossing.half = True
        leg = crossing.leg
        if leg is not None and not leg.over:
            leg.conn.codec.reset(leg.stream, why, "read")
            leg.conn.carrier.touch()

    def room(self):
        leg = self.crossing.leg
        if leg is not None:
            leg.room()


def refusal(text):
    """503, and when to come again."""
    return Refused(text, status=503, retry="always", after=1)


def path_of(target):
    """The path of a request target."""
    return target.partition(b"?")[0]


def place_in(request, cookie):
    """The place that a sticky cookie names, -1 when there is none."""
    for name, value in request.headers:
        if name == b"cookie":
            for pair in value.split(b";"):
                key, _, text = pair.strip().partition(b"=")
                if key == cookie and text.isdigit() and len(text) <= 4:
                    return int(text)
    return -1
