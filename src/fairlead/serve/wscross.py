"""A proxied WebSocket, or tunnel of capsules (`serve.datagrams`), whose two sides speak different HTTP versions: the handshake is
translated, the frames pass as they are.

| client | upstream | what is sent on | what the client gets |
|---|---|---|---|
| HTTP/1.1 Upgrade | HTTP/2 | extended CONNECT (RFC 8441) without key | 101 with the key's answer, made here |
| extended CONNECT | HTTP/1.1 | GET, Upgrade, a key of ours | 200, once the key's answer was checked |
| extended CONNECT | HTTP/2 | extended CONNECT | 200 |

HTTP/1.1 on both sides needs no translation (`serve.proxy`).

Rules
1. Only an upstream that agrees opens a tunnel: a 200 to an Upgrade does not, and is a 502 where it would read as an
   agreement (a client's extended CONNECT). Any other answer passes as an answer.
2. An extended CONNECT may be said only after the peer's SETTINGS allowed it (RFC 8441 section 3). On a connection so new
   that they have not come, the stream is given back and asked for again when they are there: streams open in order.
3. A tunnel of capsules has no key, and its datagrams are QUIC's on each side that takes those (RFC 9297 section 3.5).
4. What the client sends before the answer is held, at most one window, and sent on when the tunnel is open.
"""

from __future__ import annotations

import os
from base64 import b64encode
from typing import Any

from fairlead.core.errors import FairleadError, NetError, Refused
from fairlead.core.message import Response
from fairlead.net.poll import Watcher
from fairlead.serve.datagrams import bridge, capsuled
from fairlead.wire.wshand import accept_key, is_websocket, only

SETTLING = 5_000_000_000  # ns to wait for a new connection's SETTINGS
SPENT = frozenset((b"upgrade", b"connection", b"sec-websocket-accept", b"content-length", b"transfer-encoding"))


def crosses(request: Any) -> bool:
    """Is an Upgrade that HTTP/1.1 asks for one that the other versions have as an extended CONNECT?"""
    return bool(is_websocket(request) or capsuled(request))


def ask(pair: Any, leg: Any, request: Any) -> None:
    """Say the handshake on a leg, in the leg's version."""
    given = pair.left.request
    protocol = capsuled(given) or b"websocket"
    if given.protocol and given.protocol != protocol:
        raise Refused(f"extended CONNECT for {given.protocol.decode('latin-1')} is not proxied", status=501)
    pair.tunnel = pair.translated = True
    if given.protocol:
        pair.link()
    else:
        pair.left.answer = leg
    if leg.conn.codec.multiplexed:
        connect(pair, leg, request, protocol)
        return
    request.method, request.length, request.upgrade = "GET", 0, protocol
    ours = [(b"connection", b"upgrade"), (b"upgrade", protocol)]
    if protocol == b"websocket":
        ours.append((b"sec-websocket-key", b64encode(os.urandom(16))))
    request.headers = [field for field in request.headers if field[0] != b"sec-websocket-key"] + ours
    limit(pair, leg)
    leg.head(request, True)


def connect(pair: Any, leg: Any, request: Any, protocol: bytes) -> None:
    """An extended CONNECT on a leg, as soon as it may be said."""
    codec = leg.conn.codec
    if not codec.connect_protocol:
        why = NetError("the upstream takes no extended CONNECT", step="send", status=502, side="upstream", retry="never")
        pair.leg = leg.answer = None
        leg.reset(why, "both")
        if codec.settled:
            pair.left.fail(why)
        else:
            again(pair, codec)
        return
    request.method, request.length, request.protocol = "CONNECT", -1, protocol
    request.headers = [field for field in request.headers if field[0] != b"sec-websocket-key"]
    limit(pair, leg)
    leg.head(request, False)
    leg.conn.flush()


def limit(pair: Any, leg: Any) -> None:
    """How long the upstream may take to answer."""
    if pair.limit:
        leg.deadline = pair.upstream.poller.now() + pair.limit


def again(pair: Any, codec: Any) -> None:
    """Ask once more when the connection's SETTINGS are there."""
    late = Late(pair)
    poller = pair.upstream.poller
    poller.wheel.add(poller.now() + SETTLING, late)

    def settled() -> None:
        late.pair = None
        poller.wheel.remove(late)
        if pair.left.over:
            return
        pair.attempts -= 1
        try:
            pair.go(poller.now())
        except FairleadError as error:
            pair.left.fail(error)

    codec.on_settled = [*(codec.on_settled or ()), settled]


class Late(Watcher):
    """SETTINGS that do not come."""

    def __init__(self, pair: Any) -> None:
        self.blocked = False
        self.slot = 0
        self.pair = pair

    def due(self, now: int) -> None:
        pair = self.pair
        if pair is not None and not pair.left.over:
            pair.left.fail(NetError("the upstream sent no SETTINGS", step="dial", status=504, side="upstream"))


def answered(pair: Any, message: Any) -> bool:
    """The leg's answer: open the tunnel, or False for an answer that passes as it is."""
    left, leg = pair.left, pair.leg
    asked, given = leg.request, left.request
    agreed = message.status == 101 if asked.upgrade else 200 <= message.status < 300
    socket = (given.protocol or asked.protocol or asked.upgrade) == b"websocket"
    if socket and asked.upgrade and agreed:
        agreed = only(message, b"sec-websocket-accept") == accept_key(only(asked, b"sec-websocket-key"))
    if not agreed:
        if message.status != 101 and not (given.protocol and 200 <= message.status < 300):
            return False
        why = NetError("the upstream did not open the tunnel", step="receive", status=502, side="upstream", retry="never")
        leg.answer = None
        leg.reset(why, "both")
        left.fail(why)
        return True
    pair.proxy.returning(message)
    headers = [field for field in message.headers if field[0] not in SPENT]
    if not given.protocol:
        headers += [(b"connection", b"upgrade"), (b"upgrade", asked.protocol)]
    if socket and not given.protocol:
        headers.append((b"sec-websocket-accept", accept_key(only(given, b"sec-websocket-key"))))
    if not socket:
        bridge(left)
        bridge(leg)
    uplink = pair.uplink
    pair.open_tunnel(Response(200 if given.protocol else 101, headers))
    left.tunnel = leg.tunnel = True
    if uplink is not None and uplink.held and not left.over:
        room = True
        for chunk in uplink.held:
            room = leg.data(chunk, False)
        uplink.held = None
        if room:
            left.room()
    return True
