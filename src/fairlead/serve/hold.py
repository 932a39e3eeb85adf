"""Hold: a handler authorises, hands the open connection to a topic, and returns. No task, thread or worker is held after that.

    await send({"type": "fairlead.hold", "topic": "orders"})            ASGI, in an http or a websocket scope, in place of an answer
    Fairlead-Hold: orders                                                a field of the answer, from any framework, ASGI or WSGI
    Fairlead-Hold: {"topic": ["orders", "news"], "for": 3600}            the same with everything that can be said

The request is then answered as a topic's own URL would: a poll, a long poll, either event stream or a WebSocket, by what it asks
for, and from where its `Last-Event-ID` or `offset` says. So a client that comes back goes through the application's own check
and loses nothing, and the application keeps no list of who was told what.

Rules
1. What may be said: `topic` (a name, or several), `match` (patterns), `after` (where one begins who has no offset: "now", "-1", an
   offset), `how` ("auto", "poll", "long-poll", "stream", "sse"), `for` (seconds until the client must come again, through the
   handler), `headers` (fields of the answer), `member` and `info` (presence), `publish` (a socket may publish to these topics),
   `slow`, `heartbeat`, `wait` (see the topic's settings), `create` (whether a topic that is not there is made: yes).
2. Only what was handed over can be heard: a socket may follow those topics and no other.
3. It comes before the answer: after `http.response.start` or `websocket.accept` it is an AppError. The `Fairlead-Hold` field counts
   on an answer of 2xx; it never leaves, its body is not sent, its other fields are (but for those of the body).
4. In the pattern `dispatch` the worker's word travels up its link (`wire.hop`: an answer whose upgrade is `hold`), the front holds
   the connection, and the worker is free: it may be replaced and the client notices nothing.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, fields, replace
from typing import Any

from fairlead.core.aio import Async, Call
from fairlead.core.errors import AppError, Refused
from fairlead.core.handler import Handler
from fairlead.core.message import Response
from fairlead.serve.feed import Feed
from fairlead.serve.presence import Presence, good_info
from fairlead.serve.topicaccess import PUBLISH, READ, Access
from fairlead.serve.topicmany import MANY, Asked
from fairlead.serve.topicmatch import Names, Pattern, pattern
from fairlead.serve.topics import NAME, TopicOptions, TopicRoute
from fairlead.serve.topicws import Sockets
from fairlead.wire.hop import Hop
from fairlead.wire.hopwords import HOLD, HOLD_STATUS
from fairlead.wire.prefer import preferences, wait_of

FIELD = b"fairlead-hold"
MESSAGE = "fairlead.hold"
MOST = 1000  # topics of one hold
LARGEST = 65536  # bytes of one as text: it travels as a field
HOWS = ("auto", "poll", "long-poll", "stream", "sse")
SLOW = ("cursor", "latest", "drop", "close")
OURS = frozenset((b"content-type", b"content-length", b"content-encoding", b"transfer-encoding", b"cache-control", b"etag", FIELD))


@dataclass(slots=True, frozen=True)
class Handed:
    """What a handler handed over; see the module."""

    topics: tuple[str, ...]
    match: tuple[str, ...] = ()
    after: str = ""
    how: str = "auto"
    last: float | None = None  # `for`
    headers: tuple[tuple[str, str], ...] = ()
    member: str = ""
    info: Any = None
    publish: bool = False
    slow: str = "cursor"
    heartbeat: float = 15.0
    wait: float = 25.0
    create: bool = True

    def text(self) -> bytes:
        """As it travels."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps(said, separators=(",", ":")).encode()


def read(text: bytes) -> Handed:
    """What `text` wrote. It comes over a link of ours, and is yet not believed: AppError."""
    try:
        said = json.loads(text)
        headers = tuple((str(name), str(value)) for name, value in said.pop("headers"))
        return Handed(**{**said, "topics": tuple(said["topics"]), "match": tuple(said["match"]), "headers": headers})
    except (ValueError, TypeError, KeyError) as error:
        raise AppError(f"a hold that cannot be read: {error}") from None


def of_message(message: dict[str, Any]) -> Handed:
    """What an application said in an ASGI message. AppError names what is wrong with it."""
    said = {key: value for key, value in message.items() if key != "type"}
    headers = []
    for pair in said.pop("headers", ()) or ():
        name, value = pair
        if type(name) is not bytes or type(value) is not bytes:
            raise AppError("fairlead.hold: headers are pairs of bytes", hint='as (b"set-cookie", b"a=b")')
        headers.append((name.lower().decode("latin-1"), value.decode("latin-1")))
    return made(said, tuple(headers))


def of_field(value: bytes, given: list[tuple[bytes, bytes]]) -> Handed:
    """What an application said in a `Fairlead-Hold` field; its answer's other fields go along. AppError."""
    text = value.decode("utf-8", "replace").strip()
    if text.startswith("{"):
        try:
            said = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise AppError(f"Fairlead-Hold is no JSON: {error}", hint='as {"topic": "orders"}, or just: orders') from None
    else:
        said = {"topic": [one.strip() for one in text.split(",") if one.strip()]}
    return made(said, tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in given if name not in OURS))


def made(said: dict[str, Any], headers: tuple[tuple[str, str], ...]) -> Handed:
    """A checked hold. AppError."""

    def wrong(text: str) -> AppError:
        return AppError(f"fairlead.hold: {text}", hint='as {"type": "fairlead.hold", "topic": "orders", "for": 3600}')

    known = {"topic", "match", "after", "how", "for", "member", "info", "publish", "slow", "heartbeat", "wait", "create"}
    if unknown := set(map(str, said)) - known:
        raise wrong(f"unknown: {', '.join(sorted(unknown))}")
    topics, match = many(said.get("topic", ())), many(said.get("match", ()))
    if topics is None or match is None or not topics + match or len(topics) + len(match) > MOST:
        raise wrong(f'"topic" is a name or a list of them, "match" a pattern or a list; together 1 to {MOST}')
    for name in topics:
        if not NAME.fullmatch(name) or name.startswith("$"):
            raise wrong(f"{name[:80]!r} is no topic's name")
    try:
        for one in match:
            pattern(one)
    except Refused as error:
        raise wrong(f"{error}") from None
    how, slow = said.get("how", "auto"), said.get("slow", "cursor")
    if how not in HOWS or slow not in SLOW:
        raise wrong(f'"how" is one of {", ".join(HOWS)}; "slow" of {", ".join(SLOW)}')
    numbers = {}
    for name, usual in (("for", None), ("heartbeat", 15.0), ("wait", 25.0)):
        value = said.get(name, usual)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 86400 * 365):
            raise wrong(f'"{name}" is a number of seconds')
        numbers[name] = value
    for name in ("after", "member"):
        if not isinstance(said.get(name, ""), str):
            raise wrong(f'"{name}" is a text')
    info = said.get("info")
    if info is not None and good_info(info) is None:
        raise wrong('"info" is at most 512 bytes of JSON')
    hold = Handed(
        topics, match, said.get("after", ""), how, numbers["for"], headers, said.get("member", ""), info,
        said.get("publish", False) is True, slow, float(numbers["heartbeat"] or 15.0), float(numbers["wait"] or 25.0),
        said.get("create", True) is not False,
    )  # fmt: skip
    if len(hold.text()) > LARGEST:
        raise wrong(f"it is larger than {LARGEST} bytes")
    return hold


def many(value: Any) -> tuple[str, ...] | None:
    """One text or several; None when it is something else."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return tuple(dict.fromkeys(value))
    return None


class HoldAccess(Access):
    """Rule 2."""

    def __init__(self, hold: Handed, patterns: tuple[Pattern, ...]) -> None:
        Access.__init__(self)
        self.hold, self.patterns = hold, patterns

    async def allows(self, exchange: Any, action: str, topic: str) -> bool:
        if action == PUBLISH and not self.hold.publish:
            return False
        if action not in (READ, PUBLISH):
            return False
        return topic in self.hold.topics or any(one.matches(topic) for one in self.patterns)


class Holding:
    """Takes connections over, in one process. `hold` is called with an exchange that nothing was answered on yet."""

    def __init__(
        self, feed: Feed, names: Names, presence: Presence | None = None, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self.feed, self.names, self.presence, self.loop = feed, names, presence, loop
        self.options = TopicOptions(many=MOST, wildcards=True)
        self.held = 0  # connections that were taken over

    def offered(self, app: Any) -> Any:
        """An application (`serve.app.App`) that may hand its connections over."""
        if app.holding is None:
            app.holds(self)
        return app

    def message(self, message: dict[str, Any]) -> Handed:
        """What an application said in an ASGI message. AppError."""
        return of_message(message)

    def field(self, value: bytes, given: list[tuple[bytes, bytes]]) -> Handed:
        """What an application said in a field of its answer. AppError."""
        return of_field(value, given)

    def hold(self, exchange: Any, hold: Handed) -> None:
        """This connection is the topic's now; in a worker that serves fronts, the front is told to hold it."""
        if isinstance(exchange.conn.codec, Hop):
            response = Response(HOLD_STATUS, [(FIELD, hold.text())], 0)
            response.upgrade = HOLD
            exchange.whole(response, b"")
            return
        self.held += 1
        exchange.conn.hand_over(exchange, Held(self, hold))

    def told(self, exchange: Any, message: Any) -> None:
        """The front: a worker's word, on the client's exchange."""
        try:
            held = Held(self, read(message.get(FIELD) or b""))
        except AppError as error:
            exchange.fail(error)
            return
        self.held += 1
        exchange.conn.hand_over(exchange, held)


class Held(Handler):
    """Answers one request as its topics' own URL would."""

    def __init__(self, holding: Holding, hold: Handed) -> None:
        self.holding, self.hold = holding, hold
        patterns = tuple(pattern(one) for one in hold.match)
        options = replace(
            holding.options,
            slow=hold.slow,
            heartbeat=hold.heartbeat,
            wait=hold.wait,
            start=hold.after or "now",
            stream=min(hold.last or holding.options.stream, holding.options.stream),
            create="subscribe" if hold.create else "put",
            presence=bool(hold.member) and holding.presence is not None,
        )
        self.route = TopicRoute(
            holding.feed, options, names=holding.names, presence=holding.presence, access=HoldAccess(hold, patterns),
            loop=holding.loop,
        )  # fmt: skip
        self.route.member, self.route.info = hold.member, hold.info
        several = len(hold.topics) + len(patterns) > 1 or bool(patterns)
        self.asked = Asked(hold.topics, patterns) if several else None

    def open(self, exchange: Any) -> None:
        """Take it."""
        if self.hold.headers:
            added = Added([(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.hold.headers])
            exchange.hooks = (added,) if exchange.hooks is None else (added, *exchange.hooks)
        request = exchange.request
        if request.upgrade == b"websocket" or request.protocol == b"websocket":
            sockets = Sockets(self.route, origins=("*",))
            sockets.lasts = self.hold.last
            sockets.first = [{"topic": one} for one in self.hold.topics] + [{"match": one} for one in self.hold.match]
            sockets.open(exchange, self.hold.topics[0] if self.hold.topics else MANY)
            return
        Async(self.answer, self.holding.loop).open(exchange)

    async def answer(self, call: Call) -> None:
        """By what the request asks for; no task once it waits."""
        await self.route.guarded(call, self.hold.topics[0] if self.hold.topics else MANY, "", self.read)

    async def read(self, call: Call, topic: str) -> None:
        """A read, whatever the method was."""
        request: Any = call.request
        how = self.hold.how
        if how == "auto" and not asks(request):
            how = "stream"  # whoever asks for nothing in particular is held
        await self.route.get(call, topic, self.asked, how)


def asks(request: Any) -> bool:
    """Does a request say how it wants to read?"""
    query = request.query
    if b"offset=" in query or b"live=" in query or b"text/event-stream" in (request.get(b"accept") or b""):
        return True
    return wait_of(preferences(request)) is not None


class Added:
    """Fields that the handler wants on the answer."""

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self.headers = headers

    def after(self, exchange: Any, response: Any) -> None:
        """A filter's word (`serve.filters`)."""
        response.headers.extend(self.headers)


class Hold:
    """`return fairlead.Hold("orders")`: an ASGI application that hands its connection over, as an answer in Starlette."""

    def __init__(self, *topics: str, **more: Any) -> None:
        if "for_" in more:
            more["for"] = more.pop("for_")
        self.message: dict[str, Any] = {"type": MESSAGE, "topic": list(topics), **more}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if MESSAGE not in scope.get("extensions", {}):
            raise AppError("this server holds no connections", hint="it does with a [store] or a topic route in its configuration")
        await send(self.message)
