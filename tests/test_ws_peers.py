"""wire.ws against the sans-IO cores of `websockets` and `wsproto`, in memory, both roles, messages of Hypothesis."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.core.message import Request, Response
from fairlead.wire import wsdeflate, wshand
from fairlead.wire.wsdeflate import Settings
from wskit import Talk

websockets = pytest.importorskip("websockets")
wsproto = pytest.importorskip("wsproto")
from websockets.client import ClientProtocol  # noqa: E402
from websockets.extensions.permessage_deflate import (  # noqa: E402
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Opcode  # noqa: E402
from websockets.http11 import Request as TheirRequest  # noqa: E402
from websockets.server import ServerProtocol  # noqa: E402
from websockets.uri import parse_uri  # noqa: E402
from wsproto import ConnectionType, WSConnection, events  # noqa: E402
from wsproto.extensions import PerMessageDeflate  # noqa: E402

NO_CHECKS = settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))


class ByWebsockets:
    """`websockets` as the peer."""

    def __init__(self, client: bool, deflate: bool) -> None:
        self.client, self.words, self.parts = client, [], []
        if client:
            extensions = [ClientPerMessageDeflateFactory(client_max_window_bits=True)] if deflate else None
            self.core = ClientProtocol(parse_uri("ws://a.example/"), extensions=extensions)
            self.core.send_request(self.core.connect())
        else:
            self.core = ServerProtocol(extensions=[ServerPerMessageDeflateFactory()] if deflate else None)

    def receive(self, data: bytes) -> None:
        self.core.receive_data(data)
        for event in self.core.events_received():
            if isinstance(event, TheirRequest):
                self.core.send_response(self.core.accept(event))
            elif isinstance(event, websockets.frames.Frame):
                self.frame(event)

    def frame(self, frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            close = websockets.frames.Close.parse(frame.data)
            self.words.append(("closed", close.code, close.reason))
        elif frame.opcode in (Opcode.PING, Opcode.PONG):
            self.words.append((frame.opcode.name.lower(), bytes(frame.data)))
        else:
            if frame.opcode is not Opcode.CONT:
                self.kind, self.parts = frame.opcode, []
            self.parts.append(bytes(frame.data))
            if frame.fin:
                body = b"".join(self.parts)
                self.words.append(("text", body.decode()) if self.kind is Opcode.TEXT else ("binary", body))

    def say(self, word) -> None:
        kind, body = word[0], word[1]
        if kind == "text":
            self.core.send_text(body.encode())
        elif kind == "binary":
            self.core.send_binary(body)
        elif kind == "parts":
            self.core.send_text(body[0].encode(), fin=False)
            for part in body[1:-1]:
                self.core.send_continuation(part.encode(), fin=False)
            self.core.send_continuation(body[-1].encode(), fin=True)
        elif kind == "ping":
            self.core.send_ping(body)
        else:
            self.core.send_close(body, word[2])

    def sent(self) -> bytes:
        return b"".join(self.core.data_to_send())


class ByWsproto:
    """`wsproto` as the peer."""

    def __init__(self, client: bool, deflate: bool) -> None:
        self.client, self.words, self.part, self.deflate = client, [], None, deflate
        self.core = WSConnection(ConnectionType.CLIENT if client else ConnectionType.SERVER)
        self.out = b""
        if client:
            extensions = [PerMessageDeflate()] if deflate else []
            self.out = self.core.send(events.Request(host="a.example", target="/", extensions=extensions))

    def receive(self, data: bytes) -> None:
        self.core.receive_data(data)
        for event in self.core.events():
            if isinstance(event, events.Request):
                extensions = [PerMessageDeflate()] if self.deflate else []
                self.out += self.core.send(events.AcceptConnection(extensions=extensions))
            elif isinstance(event, events.Message):
                self.part = event.data if self.part is None else self.part + event.data
                if event.message_finished:
                    kind = "text" if isinstance(event, events.TextMessage) else "binary"
                    self.words.append((kind, self.part if kind == "text" else bytes(self.part)))
                    self.part = None
            elif isinstance(event, events.Ping):
                self.words.append(("ping", bytes(event.payload)))
                self.out += self.core.send(event.response())
            elif isinstance(event, events.Pong):
                self.words.append(("pong", bytes(event.payload)))
            elif isinstance(event, events.CloseConnection):
                self.words.append(("closed", int(event.code), event.reason or ""))
                if self.core.state is not wsproto.connection.ConnectionState.CLOSED:
                    self.out += self.core.send(event.response())

    def say(self, word) -> None:
        kind, body = word[0], word[1]
        if kind == "text":
            self.out += self.core.send(events.TextMessage(data=body))
        elif kind == "binary":
            self.out += self.core.send(events.BytesMessage(data=body))
        elif kind == "parts":
            for i, part in enumerate(body):
                self.out += self.core.send(events.TextMessage(data=part, message_finished=i == len(body) - 1))
        elif kind == "ping":
            self.out += self.core.send(events.Ping(payload=body))
        else:
            self.out += self.core.send(events.CloseConnection(code=body, reason=word[2]))

    def sent(self) -> bytes:
        out, self.out = self.out, b""
        return out


def head_of(data: bytes):
    """(first line, fields in lower case, what follows) of an HTTP/1.1 head."""
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    pairs = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    return first, pairs, rest


def opened(peer_class, ours_is_client: bool, deflate: bool, split: str) -> tuple:
    """A peer and our Talk after a whole handshake between them."""
    peer = peer_class(not ours_is_client, deflate)
    wanted = Settings(takeover=True, least=0)
    if ours_is_client:
        request = wshand.ask(b"a.example", b"/", b"n" * 16, extension=wsdeflate.offer(wanted) if deflate else b"")
        lines = [b"GET / HTTP/1.1", b"host: a.example", *(b"%b: %b" % pair for pair in request.headers)]
        peer.receive(b"\r\n".join(lines) + b"\r\n\r\n")
        first, fields, rest = head_of(peer.sent())
        response = Response(int(first.split()[1]), fields)
        assert wshand.verify(request, response) == ""
        agreed = wsdeflate.agreed(wshand.field(response, b"sec-websocket-extensions"), wanted)
    else:
        _, fields, rest = head_of(peer.sent())
        request = Request("GET", "http", b"a.example", b"/", fields)
        request.upgrade = b"websocket"
        wshand.check(request)
        agreed, value = wsdeflate.accept(wshand.field(request, b"sec-websocket-extensions"), wanted)
        response = wshand.answer(request, [], None, value)
        lines = [b"HTTP/1.1 101 Switching Protocols", *(b"%b: %b" % pair for pair in response.headers)]
        peer.receive(b"\r\n".join(lines) + b"\r\n\r\n")
    assert rest == b""
    assert (agreed is not None) == deflate
    return peer, Talk(split, client=ours_is_client, deflate=agreed)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | st.sampled_from(["", "x" * 126, "€" * 30000])
WORDS = st.one_of(
    st.tuples(st.just("text"), TEXTS),
    st.tuples(st.just("binary"), st.binary(max_size=300) | st.just(bytes(range(256)) * 300)),
    st.tuples(st.just("parts"), st.lists(TEXTS, min_size=2, max_size=4)),
    st.tuples(st.just("ping"), st.binary(max_size=125)),
)
CLOSES = st.tuples(st.just("close"), st.sampled_from([1000, 1001, 1011, 3000, 4999]), st.sampled_from(["", "bye", "häm"]))


def meant(words) -> list[tuple]:
    return [("text", "".join(word[1])) if word[0] == "parts" else tuple(word) for word in words]


def say(ws, word) -> None:
    kind = word[0]
    if kind == "parts":
        for i, part in enumerate(word[1]):
            ws.fragment(1 if i == 0 else 0, part.encode(), i == len(word[1]) - 1)
    elif kind == "close":
        ws.close(word[1], word[2])
    else:
        getattr(ws, kind)(word[1])


@pytest.mark.parametrize("peer_class", [ByWebsockets, ByWsproto])
@pytest.mark.parametrize("ours_is_client", [False, True], ids=["server", "client"])
@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
@given(theirs=st.lists(WORDS, max_size=5), ours=st.lists(WORDS, max_size=5), end=CLOSES, we_end=st.booleans(),
       split=st.sampled_from(["whole", "uneven"]))  # fmt: skip
@NO_CHECKS
def test_both_sides_hear_what_the_other_meant(peer_class, ours_is_client, deflate, theirs, ours, end, we_end, split):
    peer, t = opened(peer_class, ours_is_client, deflate, split)
    for word in theirs:
        peer.say(word)
    t.peer(peer.sent())
    assert t.heard() == meant(theirs)
    peer.receive(t.sent())  # our pongs
    peer.words.clear()
    for word in ours:
        say(t.ws, word)
    peer.receive(t.sent())
    assert peer.words == meant(ours)
    t.peer(peer.sent())  # their pongs
    t.heard()
    peer.words.clear()
    if we_end:
        say(t.ws, end)
        peer.receive(t.sent())
        assert peer.words == [("closed", end[1], end[2])]
        t.peer(peer.sent())
        assert t.heard()[-1][:2] == ("closed", end[1])
    else:
        peer.say(end)
        t.peer(peer.sent())
        assert t.heard() == [("closed", end[1], end[2])]
        peer.receive(t.sent())
        assert peer.words[-1][:2] == ("closed", end[1])
    assert t.ws.failed == ""
