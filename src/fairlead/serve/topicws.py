"""Topics over a WebSocket: subprotocol `fairlead.v1.json`. Many topics on one socket, publishing and consumer groups beside them.

    client                                                     server
    {"id": 1, "sub": {"topic": "a", "after": "now"}}           {"id": 1, "ok": true, "next": o}
                                                               {"topic": "a", "next": o, "events": [{"o", "type", "data", …}]}
                                                               {"topic": "a", "gap": {"earliest", "next"}}
                                                               {"topic": "a", "closed": true}
    {"id": 1, "sub": {"match": "orders.*"}}                    {"id": 1, "ok": true, "topics": […]}, and those that are made later
    {"id": 1, "sub": {"presence": "a"}}                        {"id": 1, "ok": true, "members": […]}, {"presence": "a", "events"}
    {"id": 2, "unsub": "a"}                                    {"id": 2, "ok": true}; also {"match": …} and {"presence": …}
    {"id": 3, "pub": {"topic": "a", "data": …, "type": "t"}}   {"id": 3, "ok": true, "o": o}
    {"id": 4, "claim": {"topic": "a", "group": "g", "n": 1}}   {"id": 4, "ok": true, "items": […]}
                                                               ack, nack, extend and term likewise; an ack may publish
    {"ping": 1}                                                {"pong": 1}
                                                               {"id": n, "error": {"status": 404, "message": "…"}}

Rules
1. The topic in the URL is followed from the start, from `?offset=` (now), unless `?sub=0`. `after` is an offset, "-1" or "now".
2. A socket has no task: what waits for the store has one while it waits. At most `waiting` requests of a socket wait at once, more
   are read when some are done (back-pressure, no queue).
3. Items that a socket has claimed are extended while it is open, and given back when it closes: its heartbeat is the socket's own.
4. Closed with 3001: come again at once (the server restarts, or the socket was slow); 3500: do not, it was wrong.
5. Each topic is asked of the route's `access`, once for each subscription. A socket ends (3001) with the token that opened it.
6. A page of another origin may not open one, unless the route allows it: browsers send cookies from anywhere.
7. permessage-deflate is agreed on without memory between messages: a frame that many hear is deflated once for all of them (once
   for each window size), by one deflater of the process, and a socket holds no zlib state. Frames below `LEAST` go as they are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fairlead.core.errors import FairleadError, Refused
from fairlead.core.exchange import Exchange
from fairlead.core.limits import WebSocketLimits
from fairlead.net.poll import Poller, Watcher
from fairlead.serve import topicforms as forms
from fairlead.serve.feed import Form, Leg, Out, Piece
from fairlead.serve.jsontext import compact, parsed
from fairlead.serve.presence import EVENTS, good_info
from fairlead.serve.topicaccess import MANAGE, READ, until
from fairlead.serve.topicmany import asked
from fairlead.serve.topicmatch import pattern
from fairlead.serve.topicpub import publish
from fairlead.serve.topics import TopicRoute
from fairlead.serve.topicwords import query_of
from fairlead.store.contract import Closed, Gap, NoTopic, Offset
from fairlead.wire import wsdeflate
from fairlead.wire.ws import WebSocket
from fairlead.wire.wshand import answer, check, field, good_origin, subprotocols

PROTOCOL = "fairlead.v1.json"
AGAIN, NEVER = 3001, 3500
TOPICS = 1000  # followed by one socket
WAITING = 32
LEAST = 256  # bytes of a frame worth deflating
FRAME = 4096  # bytes of a frame beside its event, of which each byte may take three (two as UTF-8 are six as \u00e4)
log = logging.getLogger("fairlead")


class Sockets:
    """The WebSockets of one topic route. `origins`: pages that may open one; `groups` answers claims, if the route has them.
    `only`: a socket follows the topic that it was opened for, from its start, and does nothing else (a job's events).
    `compress`: permessage-deflate is agreed on with who offers it.
    """

    def __init__(
        self, route: TopicRoute, limits: WebSocketLimits | None = None, origins: tuple[str, ...] = ("self",), groups: Any = None,
        only: bool = False, compress: bool = True,
    ) -> None:  # fmt: skip
        self.route, self.feed, self.origins, self.groups, self.only = route, route.feed, origins, groups, only
        self.limits = limits or WebSocketLimits(message=3 * route.options.message + FRAME)
        self.deflate = wsdeflate.Settings(least=LEAST) if compress else None
        self.first: list[dict[str, Any]] | None = None  # what is followed from the start; None: what the URL says
        self.lasts: float | None = None  # seconds until the client must come again

    def open(self, exchange: Exchange, topic: str) -> None:
        """The handshake."""
        request: Any = exchange.request
        check(request)
        if not good_origin(request, self.origins):
            raise Refused("this page may not open a WebSocket here", status=403, hint="its Origin is not on the list")
        wanted = self.first
        if wanted is None:
            several = asked(request, topic) if not self.only else None
            names = several.topics if several is not None else (topic,)
            wanted = [{"topic": name} for name in names]
            wanted += [{"match": one.text} for one in several.patterns] if several is not None else []
        leave = self.route.access.enter(exchange)
        deflate, extension = None, b""
        if self.deflate is not None:
            offered = field(request, b"sec-websocket-extensions")
            deflate, extension = wsdeflate.accept(offered, self.deflate, self.feed.deflaters)
        response = answer(request, [], PROTOCOL if PROTOCOL in subprotocols(request) else None, extension)
        TopicSocket(self, exchange, response, wanted, leave, deflate)


class Timer(Watcher):
    """One socket's place on the wheel."""

    def __init__(self, socket: TopicSocket, wheel: Any) -> None:
        super().__init__()
        self.socket: TopicSocket | None = socket
        self.wheel = wheel

    def due(self, now: int) -> None:
        if self.socket is not None:
            self.socket.tick(now)

    def stop(self) -> None:
        """Forget the socket."""
        self.wheel.remove(self)
        self.socket = None


class TopicSocket(Out):
    """One socket."""

    transport = "websocket"

    def __init__(
        self, home: Sockets, exchange: Any, response: Any, wanted: list[dict[str, Any]], leave: Callable[[], None], deflate: Any
    ) -> None:
        Out.__init__(self, home.feed, Form(), home.route.options.slow)
        self.home, self.exchange = home, exchange
        self.own = wanted[0].get("topic") if wanted else None  # the one that `only` means
        self.clock = exchange.conn.clock
        self.waiting = 0
        self.leave_quota = leave
        self.members: dict[str, Callable[[], None]] = {}  # by topic: says that we left
        self.matches: dict[str, tuple[Callable[[], None], set[str]]] = {}  # by pattern: stop, what it found
        self.ending: asyncio.TimerHandle | None = None
        self.named_legs: dict[str, Leg] = {}
        self.leases: dict[tuple[str, str], Any] = {}
        self.beating: asyncio.TimerHandle | None = None
        self.timer: Any = None
        exchange.deadline = 0
        exchange.heard_end = False
        exchange.journey.started = exchange.journey.started or self.clock.now()
        self.ws = self.socket = WebSocket(self, home.limits, False, deflate, None, self.clock.now())
        self.body = exchange
        exchange.answer = self
        exchange.head(response, False)
        exchange.tunnel = True
        exchange.conn.flush()
        if exchange.over or exchange.left:
            self.shut()
            leave()
            if not exchange.over:
                exchange.end(None)
            return
        if isinstance(self.clock, Poller):
            self.timer = Timer(self, self.clock.wheel)
        self.arm()
        ends = [one for one in (home.lasts, until(exchange)) if one is not None]
        if ends:
            why = "this socket has been open for long enough"
            self.ending = asyncio.get_running_loop().call_later(min(ends), self.bye, AGAIN, why)
        query = query_of(exchange.request)
        if query.get("sub") != "0":
            after = query.get("offset", "-1" if home.only else "now" if home.first is None else home.route.options.start)
            for one in wanted:
                self.later(None, self.subscribe({**one, "after": after, "member": query.get("member", "")}))

    # ---- the exchange speaks

    def data(self, chunk: bytes, end: bool) -> bool:
        self.ws.feed(chunk, self.clock.now())
        self.flush()
        if end:
            self.end(None)
        return not (self.ws.more or self.blocked)

    def end(self, trailers: Any) -> None:
        self.ws.eof(self.clock.now())
        self.flush()

    def reset(self, why: Any, side: str) -> None:
        self.over_and_out()

    def room(self) -> None:
        self.ready()
        self.go_on()

    def farewell(self) -> None:
        self.bye(AGAIN, "the server restarts")

    def tick(self, now: int) -> None:
        """The codec's deadline may have come."""
        self.ws.tick(now)
        self.flush()
        self.arm()

    def arm(self) -> None:
        """See that the wheel looks at us in time."""
        if self.timer is not None and (due := self.ws.deadline()):
            self.timer.wheel.add(due, self.timer)

    # ---- the codec speaks

    def text(self, message: str) -> bool:
        try:
            said = parsed(message)
            if not isinstance(said, dict):
                raise ValueError("not an object")
        except ValueError as error:
            self.answer(None, error={"status": 400, "message": f"a frame is one JSON object: {error}"})
            return True
        self.frame(said)
        return self.waiting < WAITING and not self.blocked

    def binary(self, message: bytes) -> bool:
        self.bye(NEVER, "frames are text")
        return False

    def closed(self, code: int, reason: str) -> None:
        self.over_and_out()

    # ---- frames

    def frame(self, said: dict[str, Any]) -> None:
        """One frame of the client's."""
        number = said.get("id")
        words: dict[str, Callable[[Any], Any]] = {"sub": self.subscribe, "pub": self.publish, "unsub": self.unsubscribe}
        if self.home.only:
            del words["pub"]
        if self.home.groups is not None:
            words |= dict.fromkeys(("claim", "ack", "nack", "extend", "term"))  # type: ignore[arg-type]
        if "ping" in said:
            self.send({"pong": said["ping"]})
            return
        known = [word for word in words if word in said]
        if len(known) != 1:
            text = f"a frame has exactly one of {', '.join([*words, 'ping'])}"
            self.answer(number, error={"status": 400, "message": text})
            return
        word, given = known[0], said[known[0]]
        if word != "unsub" and not isinstance(given, dict):
            self.answer(number, error={"status": 400, "message": f'"{word}" is an object'})
            return
        self.later(number, words[word](given) if words[word] is not None else self.group(word, given))

    def later(self, number: Any, work: Any) -> None:
        """Answer when the store has."""
        self.waiting += 1
        self.feed.spawn(self.answered(number, work))

    async def answered(self, number: Any, work: Any) -> None:
        """The result of a frame, or what went wrong."""
        try:
            result = await work
            if number is not None:
                self.answer(number, **result)
        except NoTopic:
            self.answer(number, error={"status": 404, "message": "there is no such topic"})
        except Gap as gap:
            self.answer(number, error={"status": 410, "message": f"{gap}", "earliest": str(gap.earliest)})
        except Closed as closed:
            self.answer(number, error={"status": 409, "message": "the topic has ended", "next": str(closed.last)})
        except FairleadError as error:
            self.answer(number, error={"status": error.status or 500, "message": f"{error}"})
        except Exception:
            log.exception("a frame of a topic's socket could not be answered")
            self.answer(number, error={"status": 500, "message": "Internal Server Error"})
        finally:
            self.waiting -= 1
            self.go_on()

    def go_on(self) -> None:
        """Read on, if that was held back."""
        if self.over or self.blocked or self.waiting >= WAITING or self.feed.closed:
            return
        if self.ws.more:
            self.ws.feed(b"", self.clock.now())
            self.flush()
        if not self.ws.more and not self.blocked and not self.over and not self.exchange.over:
            self.exchange.room()

    def answer(self, number: Any, **said: Any) -> None:
        """To one frame."""
        self.send({"id": number, **({} if "error" in said else {"ok": True}), **said})

    def send(self, said: dict[str, Any]) -> None:
        """A frame of ours."""
        if not self.over:
            self.say(compact(said))

    def topic_named(self, given: dict[str, Any]) -> str:
        """The topic of a frame. Refused."""
        name = given.get("topic")
        if self.home.only:
            if name != self.own:
                raise Refused("this socket has the topic that it was opened for only", status=403)
            return str(name)
        return self.home.route.named(name)

    async def subscribe(self, given: dict[str, Any]) -> dict[str, Any]:
        """Follow a topic; a second time from somewhere else. Or what a pattern matches, or who is there."""
        if "match" in given:
            return await self.subscribe_match(given)
        if "presence" in given:
            return await self.subscribe_presence(given)
        topic = self.topic_named(given)
        route = self.home.route
        await route.must(self.exchange, READ, topic)
        await route.exists(topic)
        after = given.get("after", "now")
        ring, head, place = await route.place(topic, str(after))
        if not self.over:
            self.follow(topic, ring, place, forms.FrameForm(topic, forms.kind_of(head.config.content_type)))
            self.attend(topic, given)
        return {"topic": topic, "next": str(place if place is not None else head.first)}

    def follow(self, name: str, ring: Any, place: Any, form: Form) -> None:
        """One more leg. Refused 429."""
        if name not in self.named_legs and len(self.named_legs) >= TOPICS:
            raise Refused(f"a socket follows at most {TOPICS} topics", status=429)
        if (old := self.named_legs.pop(name, None)) is not None:
            self.drop(old)
        self.named_legs[name] = Leg(self, ring, place, form)

    def attend(self, topic: str, given: dict[str, Any]) -> None:
        """Be a member of it, where the route has presence and we have a name."""
        route = self.home.route
        member = route.member or route.member_of(self.exchange, str(given.get("member") or ""))
        if member and topic not in self.members and route.options.presence and route.presence is not None:
            info = route.info if route.member else good_info(given.get("info"))
            self.members[topic] = route.presence.enter(topic, member, info)

    async def subscribe_match(self, given: dict[str, Any]) -> dict[str, Any]:
        """Follow what a pattern matches, now and later. `after`: an offset for all of them, or {topic: offset}."""
        route, wanted = self.home.route, pattern(str(given["match"]))
        if route.options.name or not route.options.wildcards:
            raise Refused("patterns are not for this route", status=403, hint="topic.wildcards is off")
        if wanted.text in self.matches:
            raise Refused(f"{wanted.text} is followed already", status=409)
        room = TOPICS - len(self.named_legs)
        names = await route.names.matching(wanted, room)
        if len(names) > room:
            raise Refused(f"a socket follows at most {TOPICS} topics", status=429, hint="say the pattern more narrowly")
        found: set[str] = set()
        self.matches[wanted.text] = (route.names.watch(wanted, lambda name: self.matched(wanted.text, name)), found)
        after = given.get("after", "now")
        for name in names:
            token = after.get(name, "-1") if isinstance(after, dict) else after
            await self.join(wanted.text, name, str(token))
        if self.over:
            self.unmatch(wanted.text)
        return {"match": wanted.text, "topics": sorted(found)}

    def matched(self, text: str, name: str) -> None:
        """A topic that was made later: from its start."""
        if not self.over and name not in self.named_legs and text in self.matches and name not in self.matches[text][1]:
            self.matches[text][1].add(name)  # asked for once
            self.feed.spawn(self.join(text, name, "-1"))

    async def join(self, text: str, name: str, token: str) -> None:
        """Follow one that a pattern found, if that is allowed, and there is still room."""
        route = self.home.route
        try:
            if name in self.named_legs or not await route.allows(self.exchange, READ, name):
                return
            ring, head, place = await route.place(name, token)
            if not self.over and text in self.matches and name not in self.named_legs:
                self.follow(name, ring, place, forms.FrameForm(name, forms.kind_of(head.config.content_type)))
                self.matches[text][1].add(name)
        except FairleadError as error:
            self.send({"match": text, "missed": name, "why": f"{error}"})

    def unmatch(self, text: str) -> set[str]:
        """Follow a pattern no more; what it had found."""
        stop, found = self.matches.pop(text)
        stop()
        return found

    async def subscribe_presence(self, given: dict[str, Any]) -> dict[str, Any]:
        """Who is there, then who joins and leaves."""
        route, topic = self.home.route, self.topic_named({"topic": given["presence"]})
        if not route.options.presence or route.presence is None:
            raise Refused("this route has no presence", status=403, hint="topic.presence is off")
        await route.must(self.exchange, READ, topic)
        shown = await route.presence.shown(topic)
        ring, _, place = await route.place(EVENTS + topic, str(given.get("after") or shown["next"]))
        if not self.over:
            self.follow(EVENTS + topic, ring, place, PresenceForm(topic))
        return {**shown, "presence": topic}

    async def unsubscribe(self, given: Any) -> dict[str, Any]:
        """Follow it no more."""
        if isinstance(given, dict) and given.get("match") in self.matches:
            for name in self.unmatch(given["match"]):
                self.forget(name)
            return {"match": given["match"]}
        name = EVENTS + str(given["presence"]) if isinstance(given, dict) and "presence" in given else given
        if not isinstance(name, str) or name not in self.named_legs:
            raise Refused(f"{given!r} is not followed"[:200], status=404)
        self.forget(name)
        return {"topic": given} if isinstance(given, str) else given

    def forget(self, name: str) -> None:
        """One leg, and being there."""
        if (leg := self.named_legs.pop(name, None)) is not None:
            self.drop(leg)
        if (leave := self.members.pop(name, None)) is not None:
            leave()

    def drop(self, leg: Leg) -> None:
        """This leg is done."""
        leg.leave()
        with suppress(ValueError):
            self.legs.remove(leg)

    async def publish(self, given: dict[str, Any]) -> dict[str, Any]:
        """Append one event."""
        return await publish(self.home.route, self.exchange, self.topic_named(given), given)

    async def group(self, word: str, given: dict[str, Any]) -> dict[str, Any]:
        """claim, ack, nack, extend, term."""
        topic = self.topic_named(given)
        await self.home.route.must(self.exchange, MANAGE, topic)
        groups = self.home.groups
        result: dict[str, Any] = await groups.act(
            topic, str(given.get("group", "")), word, given, route=self.home.route, exchange=self.exchange
        )
        for item in result.get("items", ()):
            self.leases[topic, item["id"]] = (str(given.get("group", "")), item["id"], item["fence"])
        if word in ("ack", "nack", "term"):
            for item in given.get("items", ()):
                if isinstance(item, dict):
                    self.leases.pop((topic, str(item.get("id"))), None)
        if self.leases and self.beating is None:
            self.beating = asyncio.get_running_loop().call_later(groups.ttl / 3, self.hold)
        if self.over:
            self.let_go()
        return result

    def hold(self) -> None:
        """What this socket has claimed stays claimed."""
        self.beating = None
        if self.leases and not self.over:
            self.feed.spawn(self.each("extend"))
            self.beating = asyncio.get_running_loop().call_later(self.home.groups.ttl / 3, self.hold)

    def let_go(self) -> None:
        """And is given back at the end."""
        if self.leases:
            self.feed.spawn(self.each("nack"))

    async def each(self, word: str) -> None:
        """The same with everything that is claimed."""
        leases = list(self.leases.items())
        if word == "nack":
            self.leases.clear()
        for (topic, _), (group, name, fence) in leases:
            with suppress(FairleadError):
                await self.home.groups.act(topic, group, word, {"items": [{"id": name, "fence": fence}]})

    # ---- an Out

    def write(self, data: bytes) -> bool:
        self.ws.now = self.clock.now()
        self.ws.text(data.decode())
        return self.flush()

    def flush(self) -> bool:
        """Give the exchange what the codec has to say."""
        exchange, room = self.exchange, True
        for chunk in self.ws.take() or ():
            if not exchange.over and not exchange.data(chunk, False):
                room = False
        if self.ws.finished:
            self.over_and_out()
            if not exchange.over:
                exchange.end(None)
        elif not room:
            self.blocked = True
        return room

    def title(self) -> str:
        peer = self.exchange.client or self.exchange.conn.peer
        return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a client"

    def beat(self) -> None:
        """The codec's own pings are enough."""

    def finish(self, leg: Leg, why: str) -> None:
        """A topic has ended, or we were slow."""
        topic = leg.ring.topic
        self.named_legs.pop(topic, None)
        for _, found in self.matches.values():
            found.discard(topic)
        if (leave := self.members.pop(topic, None)) is not None:
            leave()
        if why == "slow":
            self.bye(AGAIN, f"too slow for {topic}")
        elif why == "gone" or not leg.told:
            self.send({"topic": topic, "closed": True, **({"gone": True} if why == "gone" else {})})

    def bye(self, code: int, reason: str) -> None:
        """Begin the closing handshake."""
        if not self.over:
            self.ws.now = self.clock.now()
            self.ws.close(code, reason)
            self.flush()
            self.arm()

    def over_and_out(self) -> None:
        """The tunnel is over: nothing may keep us."""
        if self.over:
            return
        self.shut()
        self.let_go()
        if self.timer is not None:
            self.timer.stop()
            self.timer = None
        for timer in (self.beating, self.ending):
            if timer is not None:
                timer.cancel()
        for text in tuple(self.matches):
            self.unmatch(text)
        for leave in (*self.members.values(), self.leave_quota):
            leave()
        self.members.clear()
        journey = self.exchange.journey
        journey.messages_in, journey.messages_out = self.ws.messages_in, self.ws.messages_out
        self.named_legs.clear()


class PresenceForm(forms.FrameForm):
    """Frames of joins and leaves: they say whose."""

    def __init__(self, topic: str) -> None:
        forms.FrameForm.__init__(self, topic, forms.JSON)
        self.key = ("presence", forms.JSON, topic)

    def encode(self, piece: Piece) -> bytes:
        return named(forms.FrameForm.encode(self, piece))

    def gap(self, gap: Gap) -> bytes:
        return named(forms.FrameForm.gap(self, gap))

    def dropped(self, count: int, after: Offset) -> bytes:
        return named(forms.FrameForm.dropped(self, count, after))


def named(frame: bytes) -> bytes:
    """A frame of a topic as one of its presence."""
    return b'{"presence"' + frame[len(b'{"topic"') :] if frame else b""
