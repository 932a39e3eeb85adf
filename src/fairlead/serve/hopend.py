"""Dispatch, the worker's side: a link is one more listener, whose requests go to the applications by their number.

Rules
1. Routing, filters and the access log are the front's. Here a request's Letter says which application answers, for whom
   (`conn.peer` and `conn.local` are those of the request that is being opened), and where it has been until now.
2. `Pace` decides the link's window after each turn of the loop in which something was begun: twice what was answered since the
   last, at most `hop.WINDOW`. After a turn that took more than `SLOW` it is one, and stays so for `CALM` answers: a worker that
   blocks now and then should not hold what others could run.
3. Who has a request is claimed when it begins: an ASGI application's task does so at its first step, for everything else (WSGI,
   WebSockets) it is claimed here, when it is opened.
4. Counted here: requests run for fronts (`hopped`) and running now. The front counts them as requests; never both.
"""

from __future__ import annotations

from fairlead.core.errors import Refused
from fairlead.core.handler import Admission, Handler, Observer, Service
from fairlead.core.limits import Limits
from fairlead.net.tcp import Tcp
from fairlead.serve.app import App
from fairlead.wire.hop import Hop as Codec

SLOW = 2_000_000  # ns: a turn of the loop this long means that something blocked it
CALM = 64
MOST = 48  # as wire.hop.WINDOW


def link_limits():
    """The limits of a link: a worker that is stuck does not read for a while, and is no reason to cut it."""
    return Limits(write_idle=0, idle=0, request=0, outgoing=1 << 30, window=1 << 30, drain=0)


class Entry(Handler):
    """What answers on links: `apps` is {number: Handler}, replaced whole with a new plan."""

    def __init__(self, apps):
        self.apps = apps

    def open(self, exchange):
        conn = exchange.conn
        codec = conn.codec
        letter = codec.arriving
        handler = self.apps.get(letter.app)
        if handler is None:
            raise Refused("this worker does not run that application", status=503, retry="always", after=1)
        ends = codec.memory.read_ends(letter.ends)
        conn.peer = ends.peer
        conn.local = ends.local
        conn.scene = ends.scene
        conn.scene_of = ends.scene_of
        exchange.client = ends.client
        exchange.tag = letter.tag
        letter.stamp(exchange.journey)
        request = exchange.request
        if type(handler) is not App or request.upgrade or request.protocol:
            if not conn.begin(exchange):
                exchange.reset(Refused("taken back"), "both")
                return
        handler.open(exchange)
        ends.scene = conn.scene
        ends.scene_of = conn.scene_of


class Watch(Observer):
    """Counts what runs here for fronts; `region` is this worker's part of the slab, `recorder` logs what raises."""

    def __init__(self, region, recorder):
        self.region = region
        self.cells = region.words
        self.slot = region.slot("hopped")
        self.recorder = recorder

    def done(self, exchange):
        self.cells[self.slot] += 1

    def broke(self, exchange, error):
        self.recorder.broke(exchange, error)


class Pace:
    """The window of one link."""

    def __init__(self, poller, codec, carrier):
        self.poller = poller
        self.codec = codec
        self.carrier = carrier
        self.turning = False
        self.since = self.answered = 0
        self.calm = CALM

    def started(self):
        """The codec's `on_start`: the first request begun in a turn, or a grant that should go now."""
        if not self.turning:
            self.turning = True
            self.since = self.poller.now()
            self.poller.soon(self.turned)
        self.carrier.touch()

    def turned(self):
        """The turn is over: how long was it, and what came of it?"""
        self.turning = False
        codec = self.codec
        done = codec.answers - self.answered
        self.answered = codec.answers
        if self.poller.now() - self.since > SLOW:
            self.calm = 0
            codec.window = 1
        else:
            self.calm += done
            codec.window = 1 if self.calm < CALM else min(max(2 * done, 2), MOST)
        codec.turn_over()


class Links:
    """All links of one worker."""

    def __init__(self, poller, entry, region, recorder, debug=False):
        self.poller = poller
        self.service = Service(
            entry, name="hop", clock=poller, limits=link_limits(), admission=Admission(), observer=Watch(region, recorder)
        )
        self.service.debug = debug
        self.tcps = set()

    def open(self, fd, claims=None):
        """Serve a link."""
        tcp = Tcp(self.poller, fd, self.service, "", "")
        tcp.unasked = True
        codec = Codec(tcp.conn, self.service.limits, False, claims)
        codec.on_start = Pace(self.poller, codec, tcp).started
        self.tcps.add(tcp)
        tcp.on_close = self.tcps.discard
        tcp.start(codec)

    @property
    def running(self):
        """Requests that run here now."""
        return self.service.admission.busy

    def leave(self):
        """Take no new request; the fronts hear it. A link ends with its last answer."""
        for tcp in list(self.tcps):
            tcp.codec.goaway(-1)
            tcp.touch()

    def abort(self):
        """The end: cut what is left."""
        for tcp in list(self.tcps):
            tcp.abort(None)
